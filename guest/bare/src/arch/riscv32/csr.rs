//! Control and status registers, and single instructions that Rust has no word for.

use core::arch::asm;

/// Reads a register by its name.
macro_rules! read {
    ($register:literal) => {{
        let value: u32;
        // SAFETY: reading this register in machine mode has no side effect.
        unsafe { core::arch::asm!(concat!("csrr {}, ", $register), out(reg) value, options(nomem, nostack)) }
        value
    }};
}
pub(super) use read;

/// Cycles, which under `-icount` are nanoseconds.
#[inline(always)]
pub fn timestamp() -> u64 {
    loop {
        let high = read!("mcycleh");
        let low = read!("mcycle");
        if high == read!("mcycleh") {
            return u64::from(high) << 32 | u64::from(low);
        }
    }
}

/// The frame pointer of the calling function.
#[inline(always)]
pub fn frame_pointer() -> u32 {
    let pointer;
    // SAFETY: copies a register.
    unsafe { asm!("mv {}, s0", out(reg) pointer, options(nomem, nostack)) }
    pointer
}

/// Keeps interrupts out; they never come in: the processor only wakes by them.
pub fn disable_interrupts() {}

/// Sleeps until an interrupt is pending that may wake.
pub fn wait() {
    // SAFETY: interrupts are off: the next instruction follows.
    unsafe { asm!("wfi", options(nostack)) }
}

/// Stops for good.
pub fn halt_forever() -> ! {
    loop {
        // SAFETY: no source is left that could wake it.
        unsafe { asm!("csrw mie, zero", "wfi", options(nomem, nostack)) }
    }
}
