//! Drivers, for whatever machine has the device.

pub mod card;
#[cfg(target_arch = "arm")]
pub mod cmsdk_timer;
#[cfg(not(feature = "radio"))]
pub mod flash;
#[cfg(target_arch = "arm")]
pub mod lan9118;
#[cfg(not(target_arch = "x86"))]
pub mod mmio;
pub mod uart;
#[cfg(not(target_arch = "arm"))]
pub mod virtio;
