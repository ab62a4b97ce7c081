//! Machines: QEMU found, its command line built, its processes started and waited for.

mod arguments;
mod process;
mod qemu;
mod usage;

pub(crate) use arguments::arguments;
pub(crate) use process::{Launch, Machine, Machines};
pub use qemu::{Qemu, QemuError, Version};
pub use usage::Usage;
