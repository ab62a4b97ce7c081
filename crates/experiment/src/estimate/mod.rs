//! Estimates of what an experiment takes, before anything starts: memory, bytes, time.

pub(crate) mod deadlines;
pub mod instructions;
pub mod memory;
pub mod plan;
pub mod wire;
