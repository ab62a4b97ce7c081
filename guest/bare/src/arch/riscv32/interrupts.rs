//! Interrupt lines: the PLIC, and what is pending.
//!
//! Interrupts stay off: the processor only wakes by them. The main loop claims what is pending, which masks a
//! line until it is served and let in again with [`unmask`].

use core::sync::atomic::{AtomicU32, Ordering};

use super::{clock, csr};
use crate::board;
use crate::driver::mmio::{read32, write32};

const PRIORITIES: usize = board::PLIC_AT;
const ENABLED: usize = board::PLIC_AT + 0x2000;
const THRESHOLD: usize = board::PLIC_AT + 0x20_0000;
const CLAIM: usize = board::PLIC_AT + 0x20_0004;

const TIMER_BIT: u32 = 1 << 7;
const EXTERNAL_BIT: u32 = 1 << 11;

/// The timer, numbered behind the lines.
pub const TIMER: u8 = 31;
const SOURCES: usize = 32;

static COUNTS: [AtomicU32; SOURCES] = [const { AtomicU32::new(0) }; SOURCES];

/// Interrupt sources, a bit each: the lines 1 to 30 and [`TIMER`].
#[derive(Clone, Copy, Debug)]
pub struct Sources(u32);

impl Sources {
    /// True if `source` is among them.
    pub fn contains(self, source: u8) -> bool {
        self.0 & (1 << source) != 0
    }
}

/// Lets timer and lines wake the processor; each line is masked at first.
pub fn init() {
    clock::stop();
    // SAFETY: the controller touches no memory, and without `mstatus.MIE` nothing is interrupted.
    unsafe {
        write32(THRESHOLD, 0);
        core::arch::asm!("csrw mie, {}", in(reg) TIMER_BIT | EXTERNAL_BIT, options(nomem, nostack));
    }
}

/// Lets a line in, for the first time or after it has been served.
pub fn unmask(line: u8) {
    let line = u32::from(line);
    // SAFETY: the controller touches no memory.
    unsafe {
        write32(PRIORITIES + 4 * line as usize, 1);
        write32(ENABLED, read32(ENABLED) | 1 << line);
        write32(CLAIM, line);
    }
}

/// Does something short with interrupts off; they stay pending meanwhile.
pub fn held_off<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// Takes the interrupts since the last call.
pub fn take_pending() -> Sources {
    let mut sources = 0;
    let mut take = |source: u8| {
        sources |= 1 << source;
        COUNTS[usize::from(source)].fetch_add(1, Ordering::Relaxed);
    };
    if csr::read!("mip") & TIMER_BIT != 0 {
        clock::stop();
        take(TIMER);
    }
    while let Ok(line @ 1..TIMER) = u8::try_from(read32(CLAIM)) {
        take(line);
    }
    Sources(sources)
}

/// Sleeps until something is pending. Returns at once if something is.
///
/// `arm` runs before the processor sleeps.
pub fn sleep(arm: impl FnOnce()) {
    arm();
    csr::wait();
}

/// Number of a source's interrupts since boot.
pub fn count(source: u8) -> u32 {
    COUNTS[usize::from(source)].load(Ordering::Relaxed)
}
