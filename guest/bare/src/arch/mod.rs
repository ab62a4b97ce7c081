//! Processors, and the machines around them: from reset to the loop of `main.rs`, interrupts, clock, traps.
//!
//! Each folder offers the same to the rest of the firmware: `clock`, `interrupts` and `random`; `uart`, the serial
//! line; `Nic`, the network card; `virtio_device`, where the machine has virtio; and the functions and constants
//! that the rest names by `arch::`.

#[cfg(target_arch = "arm")]
mod armv7m;
#[cfg(target_arch = "riscv32")]
mod riscv32;
#[cfg(target_arch = "x86")]
mod x86;

#[cfg(target_arch = "arm")]
pub use armv7m::*;
#[cfg(target_arch = "riscv32")]
pub use riscv32::*;
#[cfg(target_arch = "x86")]
pub use x86::*;

/// Marks where what a plugin of QEMU counts begins: an instruction without effect (crates/tcg-cost).
#[inline(always)]
pub fn mark_begin() {
    // SAFETY: changes no register and no memory.
    unsafe {
        #[cfg(target_arch = "arm")]
        core::arch::asm!("mov r11, r11", options(nostack, preserves_flags));
        #[cfg(target_arch = "riscv32")]
        core::arch::asm!("slti x0, x0, 1", options(nostack, preserves_flags));
        #[cfg(target_arch = "x86")]
        core::arch::asm!("xchg bx, bx", options(nostack, preserves_flags));
    }
}

/// Marks where it ends.
#[inline(always)]
pub fn mark_end() {
    // SAFETY: changes no register and no memory.
    unsafe {
        #[cfg(target_arch = "arm")]
        core::arch::asm!("mov r10, r10", options(nostack, preserves_flags));
        #[cfg(target_arch = "riscv32")]
        core::arch::asm!("slti x0, x0, 2", options(nostack, preserves_flags));
        #[cfg(target_arch = "x86")]
        core::arch::asm!("xchg cx, cx", options(nostack, preserves_flags));
    }
}
