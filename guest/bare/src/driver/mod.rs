//! Drivers, for whatever machine has the device.

pub mod card;
pub mod uart;
pub mod virtio;
