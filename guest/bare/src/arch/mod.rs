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
