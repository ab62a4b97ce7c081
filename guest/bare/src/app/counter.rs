//! Instructions that training takes, where the machine's clock counts them.

use crate::arch::{counted_ns, interrupts, mark_begin, mark_end};
use crate::boot_cell::BootCell;

static TOLD_AT_BOOT: BootCell<Option<u8>> = BootCell::new(None);

/// Tells what QEMU was told by `-icount shift=<shift>`, which makes instructions countable.
#[cfg_attr(
    not(target_arch = "x86"),
    expect(dead_code, reason = "only a PC has a command line")
)]
pub fn set_instruction_shift(shift: Option<u8>) {
    // SAFETY: one thread, and no reference to the value is ever made.
    unsafe { TOLD_AT_BOOT.get().write(shift) }
}

/// Counter of instructions.
pub struct Counter {
    /// With `-icount shift=N`, an instruction takes 2^N ns.
    shift: Option<u8>,
    counted_ns: u64,
}

impl Counter {
    /// Nothing counted yet; `shift` goes before what was told at boot.
    pub fn new(shift: Option<u8>) -> Self {
        // SAFETY: one thread, and no reference to the value is ever made.
        let told_at_boot = unsafe { TOLD_AT_BOOT.get().read() };
        // Where the machine's clock is too coarse for that speed, nothing is counted.
        let is_countable = |shift: &u8| counted_ns(*shift).is_some();
        Self {
            shift: shift.or(told_at_boot).filter(is_countable),
            counted_ns: 0,
        }
    }

    /// Does a step of training, and counts its instructions where they can be counted. Marks around it let a plugin
    /// of QEMU count them by class.
    ///
    /// Interrupts wait meanwhile, some 2 ms, so that the count is of the step and of nothing else:
    /// the same in every run, whatever the network and the host do.
    pub fn counted<R>(&mut self, step: impl FnOnce() -> R) -> R {
        let marked = || {
            mark_begin();
            let result = step();
            mark_end();
            result
        };
        let Some(shift) = self.shift else {
            return marked();
        };
        interrupts::held_off(|| {
            let start = counted_ns(shift);
            let result = marked();
            let end = counted_ns(shift);
            self.counted_ns += end
                .zip(start)
                .map_or(0, |(end, start)| end.wrapping_sub(start));
            result
        })
    }

    /// Instructions so far; `None` where they cannot be counted.
    pub fn instructions(&self) -> Option<u64> {
        self.shift.map(|shift| self.counted_ns >> shift)
    }
}
