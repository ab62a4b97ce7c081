//! Interrupt lines: the NVIC, and what is pending.
//!
//! Interrupts stay off (PRIMASK): the processor only wakes by them. The main loop takes what is pending, which masks a
//! line until it is served and let in again with [`unmask`].

use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering};

use super::clock;
use crate::board;
use crate::driver::mmio::{read32, write32};

const ENABLE: usize = 0xe000_e100;
const DISABLE: usize = 0xe000_e180;
const PENDING: usize = 0xe000_e200;
const NO_LONGER_PENDING: usize = 0xe000_e280;

/// The timer that wakes: the second of the two.
pub const TIMER: u8 = board::TIMER_LINE as u8 + 1;
const WORDS: usize = 2;
const SOURCES: usize = WORDS * 32;

static COUNTS: [AtomicU32; SOURCES] = [const { AtomicU32::new(0) }; SOURCES];

/// Interrupt sources, a bit each: the lines 0 to 63.
#[derive(Clone, Copy, Debug)]
pub struct Sources(u64);

impl Sources {
    /// True if `source` is among them.
    pub fn contains(self, source: u8) -> bool {
        self.0 & (1 << source) != 0
    }
}

fn write(register: usize, value: u32) {
    // SAFETY: the controller touches no memory, and with PRIMASK set nothing is interrupted.
    unsafe { write32(register, value) }
}

/// Lets a line in, for the first time or after it has been served.
pub fn unmask(line: u8) {
    let (word, bit) = (usize::from(line / 32) * 4, 1 << (line % 32));
    // A line that is still up stays pending.
    write(NO_LONGER_PENDING + word, bit);
    write(ENABLE + word, bit);
}

/// Does something short with interrupts off; they stay pending meanwhile.
pub fn held_off<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// Takes the interrupts since the last call.
pub fn take_pending() -> Sources {
    let mut sources = Sources(0);
    for word in 0..WORDS {
        let pending = read32(PENDING + 4 * word) & read32(ENABLE + 4 * word);
        if pending != 0 {
            write(DISABLE + 4 * word, pending);
            sources.0 |= u64::from(pending) << (32 * word);
        }
    }
    let mut rest = sources.0;
    while rest != 0 {
        COUNTS[rest.trailing_zeros() as usize].fetch_add(1, Ordering::Relaxed);
        rest &= rest - 1;
    }
    if sources.contains(TIMER) {
        clock::stop();
        unmask(TIMER);
    }
    sources
}

/// Sleeps until something is pending. Returns at once if something is.
///
/// `arm` runs before the processor sleeps.
pub fn sleep(arm: impl FnOnce()) {
    arm();
    // SAFETY: interrupts are off: the next instruction follows.
    unsafe { asm!("dsb", "wfi", "isb", options(nostack)) }
}

/// Number of a source's interrupts since boot.
pub fn count(source: u8) -> u32 {
    COUNTS[usize::from(source)].load(Ordering::Relaxed)
}
