//! The serial line: a 16550 at COM1, polled for output, interrupting for input.
//!
//! Invariant: output never holds the device up for long. QEMU takes a byte at once as long as
//! somebody reads the other end; where nobody does, a byte waits [`PATIENCE_TICKS`] and every
//! further one is dropped until there is room again.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use crate::cpu;

const COM1: u16 = 0x3f8;
const DATA: u16 = COM1;
const INTERRUPTS: u16 = COM1 + 1;
const FIFO: u16 = COM1 + 2;
const LINE_CONTROL: u16 = COM1 + 3;
const MODEM_CONTROL: u16 = COM1 + 4;
const LINE_STATUS: u16 = COM1 + 5;

const RECEIVED: u8 = 1 << 0;
const ROOM_TO_SEND: u8 = 1 << 5;

/// Longest wait of a byte for a reader: some 5-20 ms on hosts of 1-4 GHz.
const PATIENCE_TICKS: u64 = 20_000_000;

/// The interrupt line of COM1.
pub const INTERRUPT_LINE: u8 = 4;

static STALLED: AtomicBool = AtomicBool::new(false);
static AT_LINE_START: AtomicBool = AtomicBool::new(true);

/// Sets the port to 115200 8N1 with FIFOs and an interrupt on input.
pub fn init() {
    let settings = [
        (INTERRUPTS, 0),
        (LINE_CONTROL, 0x80), // the next two set the divisor
        (DATA, 1),
        (INTERRUPTS, 0),
        (LINE_CONTROL, 0x03),
        (FIFO, 0x07), // on, both cleared, an interrupt for every byte
        (MODEM_CONTROL, 0x0b),
        (INTERRUPTS, 0x01),
    ];
    for (port, value) in settings {
        // SAFETY: a 16550 does no DMA.
        unsafe { cpu::out8(port, value) };
    }
}

/// The next byte that was typed.
pub fn read() -> Option<u8> {
    (cpu::in8(LINE_STATUS) & RECEIVED != 0).then(|| cpu::in8(DATA))
}

fn send(byte: u8) {
    if !has_room() {
        return;
    }
    // SAFETY: a 16550 does no DMA.
    unsafe { cpu::out8(DATA, byte) };
}

fn has_room() -> bool {
    let is_ready = || cpu::in8(LINE_STATUS) & ROOM_TO_SEND != 0;
    if is_ready() {
        STALLED.store(false, Ordering::Relaxed);
        return true;
    }
    if STALLED.load(Ordering::Relaxed) {
        return false;
    }
    let start = cpu::timestamp();
    while cpu::timestamp().wrapping_sub(start) < PATIENCE_TICKS {
        if is_ready() {
            return true;
        }
    }
    STALLED.store(true, Ordering::Relaxed);
    false
}

/// The serial line as a [`Write`]; a newline goes out as CR LF.
pub struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                send(b'\r');
            }
            send(byte);
        }
        if let Some(last) = text.bytes().next_back() {
            AT_LINE_START.store(last == b'\n', Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Writes a line of its own: what stands on the current one, a prompt say, is left behind.
pub fn log(line: fmt::Arguments<'_>) {
    if !AT_LINE_START.load(Ordering::Relaxed) {
        print!("\n");
    }
    print!("{line}\n");
}

/// Writes to the serial line.
macro_rules! print {
    ($($argument:tt)*) => {{
        use core::fmt::Write as _;
        // The console never fails: what it cannot send it drops.
        let _ = write!($crate::console::Console, $($argument)*);
    }};
}
pub(crate) use print;
