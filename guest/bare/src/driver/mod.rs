//! Drivers, for whatever machine has the device.

pub mod card;
#[cfg(not(target_arch = "x86"))]
pub mod mmio;
pub mod uart;
pub mod virtio;
