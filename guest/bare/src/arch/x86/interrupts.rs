//! Interrupt lines: the two 8259 controllers, and what is pending.
//!
//! An interrupt only marks its line as pending and masks it (see `interrupts.s`). The main loop
//! takes what is pending, serves it, and lets the line in again with [`unmask`]. A line that is
//! level-triggered, as PCI's are, would otherwise interrupt for ever.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU32, Ordering};

use super::descriptors::FIRST_LINE_VECTOR;
use super::{cpu, exception};

const FIRST_COMMAND: u16 = 0x20;
const FIRST_DATA: u16 = 0x21;
const SECOND_COMMAND: u16 = 0xa0;
const SECOND_DATA: u16 = 0xa1;
/// The line of the first controller that the second one is wired to.
const CASCADE: u8 = 2;

/// The timer of the local APIC, numbered behind the 16 lines.
pub const TIMER: u8 = 16;
const SOURCES: usize = 17;

static PENDING: AtomicU32 = AtomicU32::new(0);
static COUNTS: [AtomicU32; SOURCES] = [const { AtomicU32::new(0) }; SOURCES];

global_asm!(
    include_str!("interrupts.s"),
    pending = sym PENDING,
    counts = sym COUNTS,
    exception = sym exception::exception,
    double_fault = sym exception::double_fault,
);

/// Interrupt sources, a bit each: the lines 0 to 15 and [`TIMER`].
#[derive(Clone, Copy, Debug)]
pub struct Sources(u32);

impl Sources {
    /// True if `source` is among them.
    pub fn contains(self, source: u8) -> bool {
        self.0 & (1 << source) != 0
    }
}

/// Sets both controllers up with every line masked, and lets interrupts in.
///
/// # Safety
/// The interrupt table must be loaded.
pub unsafe fn init() {
    const INITIALISE: u8 = 0x11;
    let settings = [
        (FIRST_COMMAND, INITIALISE),
        (SECOND_COMMAND, INITIALISE),
        (FIRST_DATA, FIRST_LINE_VECTOR),
        (SECOND_DATA, FIRST_LINE_VECTOR + 8),
        (FIRST_DATA, 1 << CASCADE),
        (SECOND_DATA, CASCADE),
        (FIRST_DATA, 1), // 8086 mode
        (SECOND_DATA, 1),
        (FIRST_DATA, !(1 << CASCADE)),
        (SECOND_DATA, 0xff),
    ];
    for (port, value) in settings {
        // SAFETY: the controllers touch no memory.
        unsafe { cpu::out8(port, value) };
    }
    // SAFETY: the caller has loaded the table.
    unsafe { cpu::enable_interrupts() };
}

/// Lets a line in, for the first time or after it has been served.
pub fn unmask(line: u8) {
    let (port, bit) = if line < 8 {
        (FIRST_DATA, line)
    } else {
        (SECOND_DATA, line - 8)
    };
    // The stubs write the mask too: none may come between the read and the write.
    cpu::disable_interrupts();
    // SAFETY: the controllers touch no memory; interrupts were on, with their table loaded.
    unsafe {
        cpu::out8(port, cpu::in8(port) & !(1 << bit));
        cpu::enable_interrupts();
    }
}

/// Makes a line level-triggered, as a PCI device's is.
pub fn set_level_triggered(line: u8) {
    let port = if line < 8 { 0x4d0 } else { 0x4d1 };
    // SAFETY: the edge/level register of the controllers touches no memory.
    unsafe { cpu::out8(port, cpu::in8(port) | 1 << (line % 8)) };
}

/// Does something short with interrupts off; they stay pending meanwhile.
pub fn held_off<R>(work: impl FnOnce() -> R) -> R {
    cpu::disable_interrupts();
    let result = work();
    // SAFETY: interrupts were on, with their table loaded: no caller holds them off already.
    unsafe { cpu::enable_interrupts() };
    result
}

/// Takes the interrupts since the last call.
pub fn take_pending() -> Sources {
    Sources(PENDING.swap(0, Ordering::Relaxed))
}

/// Sleeps until something is pending. Returns at once if something is.
///
/// `arm` runs when it is certain that the CPU will sleep, with interrupts off.
pub fn sleep(arm: impl FnOnce()) {
    cpu::disable_interrupts();
    if PENDING.load(Ordering::Relaxed) == 0 {
        arm();
        // SAFETY: interrupts were on before, with their table loaded.
        unsafe { cpu::enable_interrupts_and_halt() };
    } else {
        // SAFETY: as above.
        unsafe { cpu::enable_interrupts() };
    }
}

/// Number of a source's interrupts since boot.
pub fn count(source: u8) -> u32 {
    COUNTS[usize::from(source)].load(Ordering::Relaxed)
}
