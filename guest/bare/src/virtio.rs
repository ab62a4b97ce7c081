//! Virtio: how its devices are found, and what memory they share with the driver.

pub mod find;
mod memory;

pub use memory::IdentityMapped;
