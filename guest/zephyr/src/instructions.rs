//! Counting the instructions that training takes.
//!
//! Under QEMU's `-icount shift=N` a machine's clocks advance by 2^N ns with every instruction and by
//! nothing else. So the counter of Zephyr's timing functions, where it is one of nanoseconds (the
//! time-stamp counter of qemu_x86 is, under `-icount`), counts instructions. It is read around each
//! short step of training, with interrupts locked: nothing else is in the number, which is the same
//! in every run, whatever the network and the host do.

use crate::glue;
use core::hint::black_box;
use zephyr::raw;

/// True where the counter is one of nanoseconds. On mps2/an385 it ticks every 40 ns, and nothing is counted.
pub const COUNTS_NANOSECONDS: bool = cfg!(target_arch = "x86");

/// Counts what a job takes, where that can be done.
pub struct Counter {
    shift: Option<u8>,
    ticks: u64,
}

impl Counter {
    /// A counter at zero. `shift` is QEMU's; without one nothing is counted.
    pub fn new(shift: Option<u8>) -> Self {
        Self { shift, ticks: 0 }
    }

    /// True if [`Counter::counted`] counts, and so holds interrupts off.
    pub fn counts(&self) -> bool {
        self.shift.is_some()
    }

    /// Does something short, and adds its instructions.
    pub fn counted<R>(&mut self, step: impl FnOnce() -> R) -> R {
        if !self.counts() {
            return step();
        }
        // SAFETY: this thread holds no lock, and gives the key back below.
        let key = unsafe { raw::zr_irq_lock() };
        touch_floating_point();
        let start = glue::timing_counter();
        let result = step();
        self.ticks += glue::timing_counter().wrapping_sub(start);
        // SAFETY: the key is that of the lock above.
        unsafe { raw::zr_irq_unlock(key) };
        result
    }

    /// Instructions so far.
    pub fn instructions(&self) -> Option<u64> {
        self.shift.map(|shift| self.ticks >> shift)
    }
}

/// Takes the floating-point registers. Where Zephyr switches their state lazily, a thread's first
/// use of them after another's is an exception, whose handler would be counted now and then.
fn touch_floating_point() {
    black_box(black_box(1.0_f32) + black_box(1.0_f32));
}
