//! Memory protection by locked PMP entries, which hold in machine mode too: page 0, where null pointers lead, and the
//! guard below the stack may not be touched; code and constants may not be written.

use core::arch::asm;

use crate::{board, image};

const LOCKED: u32 = 1 << 7;
/// A naturally aligned power of two.
const NAPOT: u32 = 3 << 3;
const READ_EXECUTE: u32 = 0b101;
const PAGE_BYTES: usize = 4096;

const _: () = assert!(board::CODE_BYTES.is_power_of_two());

/// A region as PMP writes it.
const fn napot(start: usize, bytes: usize) -> u32 {
    (start >> 2 | (bytes / 8 - 1)) as u32
}

/// Sets the three entries.
pub fn init() {
    let config = LOCKED | NAPOT | (LOCKED | NAPOT) << 8 | (LOCKED | NAPOT | READ_EXECUTE) << 16;
    // SAFETY: nothing in use loses what it needs: not page 0, nor the guard, nor writing to code.
    unsafe {
        asm!(
            "csrw pmpaddr0, {guard}",
            "csrw pmpaddr1, {null}",
            "csrw pmpaddr2, {code}",
            "csrw pmpcfg0, {config}",
            guard = in(reg) napot(image::guard_start(), PAGE_BYTES),
            null = in(reg) napot(0, PAGE_BYTES),
            code = in(reg) napot(board::CODE_START, board::CODE_BYTES),
            config = in(reg) config,
            options(nostack),
        );
    }
}
