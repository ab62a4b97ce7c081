//! Machines: QEMU found, its command line built, its processes started and waited for.

mod arguments;
mod environment;
mod process;
mod qemu;
mod speed;
mod usage;

pub(crate) use arguments::{Tuning, arguments};
pub(crate) use process::{Launch, Machine, Machines};
pub use qemu::{Qemu, QemuError, Version};
pub use speed::{Speed, SpeedError};
pub use usage::Usage;
