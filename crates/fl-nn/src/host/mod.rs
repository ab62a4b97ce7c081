//! Training and evaluation on a host, in vector instructions, with the bits of the plain form.
//!
//! Only with the feature `host`, which needs the standard library: a guest carries nothing of this. The
//! level is found out when the program runs. Work comes in the same bounded steps and the same buffers; a
//! training or an evaluation keeps a `Host` beside them, and what a step needs belongs to its thread.

mod keep;
mod level;
mod list;
mod pairs;
mod pass;
mod rounded;
mod shelf;
#[allow(
    unsafe_code,
    reason = "vector instructions; the module says why each use is sound"
)]
mod simd;
#[cfg(test)]
mod tests;

pub(crate) use keep::Host;
pub use level::Level;
pub(crate) use level::kernels;
pub use shelf::Shelf;
