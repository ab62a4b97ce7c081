//! Training without a float: forward, softmax, backward and update in integers, for cores without an FPU.
//!
//! # Formats
//! A fixed-point number with `p` places counts units of 2^-p.
//!
//! | numbers | places | bound |
//! |---|---|---|
//! | parameters | `places` of the model: 20 to 28 | saturate; the largest that came may grow eightfold |
//! | sums before an activation, logits | [`SUMS`] | saturate at 2^11 |
//! | outputs of a hidden layer | as many as 15 bits allow (`outputs`) | by construction |
//! | derivatives | [`DELTAS`] | saturate at 2^4 |
//! | sums of a batch's derivatives | [`DELTAS`] less the bits of its length | by construction |
//!
//! # Invariant: nothing overflows
//! A product of a vector and the parameters has 15 and 31 bits, and at most 2^16 terms: below 2^62. What saturates is
//! said above; all other sums are bounded where they are taken.

pub(crate) mod dense;
pub(crate) mod first;
pub(crate) mod number;
pub(crate) mod softmax;

/// Places of sums before an activation and of logits.
pub(crate) const SUMS: u32 = 20;

/// Places of derivatives by sums.
pub(crate) const DELTAS: u32 = 26;

/// Largest magnitude of a derivative.
pub(crate) const MOST_DELTA: i32 = 1 << 30;
