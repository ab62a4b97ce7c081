//! Random bytes that nobody can foresee, for the word of the device.
//!
//! RDRAND has them; QEMU takes them from its host's own source. A processor without it leaves the jitter of
//! its time-stamp counter against an I/O port, which is weak, and nothing at all where QEMU counts
//! instructions (`-icount`): there the boards have RDRAND.

use super::cpu;

/// Port whose reading takes the emulator or the bus a little longer or shorter each time: the status of COM1.
const SLOW_PORT: u16 = 0x3fd;

/// Readings for 32 bits: far more than there are bits, since each has little that is not known.
const READINGS: u32 = 256;

/// Tries of RDRAND, as many as Intel advises.
const TRIES: u32 = 10;

/// Random bytes.
pub fn bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    for four in bytes.chunks_exact_mut(4) {
        // Both, since neither can take away what the other has.
        let word = from_processor().unwrap_or(0) ^ jitter();
        four.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn from_processor() -> Option<u32> {
    if !cpu::has_random() {
        return None;
    }
    (0..TRIES).find_map(|_| cpu::random())
}

fn jitter() -> u32 {
    (0..READINGS).fold(0, |mixed: u32, _| {
        cpu::in8(SLOW_PORT);
        let low = cpu::timestamp() as u32;
        // Odd and without a pattern: 2^32 over the golden ratio.
        (mixed.rotate_left(5) ^ low).wrapping_mul(0x9e37_79b1)
    })
}
