//! Training and evaluation on a host, in vector instructions, with the bits of the plain form.
//!
//! Only with the feature `host`, which needs the standard library: a guest carries nothing of this. The
//! level is found out when the program runs. Work comes in the same bounded steps; what a step needs
//! beside the caller's buffers belongs to its thread and lasts no longer than the step.

mod level;
mod list;
mod pass;
#[allow(
    unsafe_code,
    reason = "vector instructions; the module says why each use is sound"
)]
mod simd;
#[cfg(test)]
mod tests;

pub use level::Level;
pub(crate) use level::kernels;
pub(crate) use pass::{Forward, run_examples, step_later, update_rows, visit_rows};
