//! The serial line, polled for output, interrupting for input.
//!
//! Invariant: output never holds the device up for long. QEMU takes a byte at once as long as
//! somebody reads the other end; where nobody does, a byte waits [`PATIENCE_TICKS`] and every
//! further one is dropped until there is room again.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use crate::arch::uart::UART;
use crate::arch::{PATIENCE_TICKS, timestamp};
use crate::driver::uart::Uart;

static STALLED: AtomicBool = AtomicBool::new(false);
static AT_LINE_START: AtomicBool = AtomicBool::new(true);

/// Readies the line.
pub fn init() {
    UART.init();
}

/// The next byte that was typed.
pub fn read() -> Option<u8> {
    UART.read()
}

fn send(byte: u8) {
    if has_room() {
        UART.send(byte);
    }
}

fn has_room() -> bool {
    if UART.has_room() {
        STALLED.store(false, Ordering::Relaxed);
        return true;
    }
    if STALLED.load(Ordering::Relaxed) {
        return false;
    }
    let start = timestamp();
    while timestamp().wrapping_sub(start) < PATIENCE_TICKS {
        if UART.has_room() {
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
