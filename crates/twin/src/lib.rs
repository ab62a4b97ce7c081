//! The twin: cycles, time and energy that a real part would take for what an emulated device does.
//!
//! A plugin of QEMU counts instructions by class ([`Counts`]). A [`Core`] knows the cycles of each class, a
//! [`Profile`] the part around the core: clock, memory that waits, supply and power. Both are files with their
//! sources, in `profiles/`. How far predictions are off is measured against published figures: docs/calibration.md.

#![forbid(unsafe_code)]

pub mod calibration;
mod core;
mod counts;
mod file;
mod profile;

pub use core::Core;
pub use counts::{Counts, CountsError, PAGE_BYTES};
pub use file::TwinError;
pub use profile::{Known, Profile};
