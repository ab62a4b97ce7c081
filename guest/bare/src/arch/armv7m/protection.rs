//! Memory protection. On ARMv7-M by the MPU: the page of the vectors, where null pointers lead, and the guard below the
//! stack may not be touched; code and constants may not be written. ARMv8-M has a limit of the stack instead.

use crate::image;

/// Sets the regions.
#[cfg(not(armv8m))]
pub fn init() {
    use crate::board;
    use crate::driver::mmio::write32;

    const CONTROL: usize = 0xe000_ed94;
    const NUMBER: usize = 0xe000_ed98;
    const BASE: usize = 0xe000_ed9c;
    const ATTRIBUTES: usize = 0xe000_eda0;
    /// Regions on; the rest of memory as it is without them.
    const ON: u32 = 0b101;
    const NO_EXECUTION: u32 = 1 << 28;
    const READ_ONLY: u32 = 0b110 << 24;
    const NORMAL_MEMORY: u32 = 1 << 17;

    // Of 512 KB one has 384, and the rest is flash that is written: a region is a power of two and has eight parts.
    let code = board::CODE_BYTES.next_power_of_two();
    let parts = board::CODE_BYTES / (code / 8);
    let all_but = |parts: usize| 0xff00 & (0xff00 << parts);
    // Where two overlap, the later one holds.
    let regions = [
        (
            board::CODE_START,
            code,
            READ_ONLY | NORMAL_MEMORY | all_but(parts),
        ),
        (board::CODE_START, 1024, NO_EXECUTION),
        (image::guard_start(), 4096, NO_EXECUTION),
    ];
    for (number, (start, bytes, rights)) in (0..).zip(regions) {
        let size = (bytes.ilog2() - 1) << 1;
        // SAFETY: nothing in use loses what it needs: not the vectors, which the processor reads past the MPU.
        unsafe {
            write32(NUMBER, number);
            write32(BASE, start as u32);
            write32(ATTRIBUTES, rights | size | 1);
        }
    }
    // SAFETY: as above.
    unsafe {
        write32(CONTROL, ON);
        core::arch::asm!("dsb", "isb", options(nostack));
    }
}

/// Sets the limit.
#[cfg(armv8m)]
pub fn init() {
    let bottom = image::stack_bottom();
    // SAFETY: the stack is above it.
    unsafe { core::arch::asm!("msr psplim, {}", in(reg) bottom, options(nomem, nostack)) }
}
