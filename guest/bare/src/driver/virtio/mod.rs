//! Virtio: how its devices are found, and what memory they share with the driver.

pub mod disk;
pub mod find;
mod memory;
pub mod nic;
mod queue;

pub use memory::IdentityMapped;
