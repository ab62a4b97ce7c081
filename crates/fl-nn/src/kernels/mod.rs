//! Arithmetic kernels: plain functions over slices that know no layers.
//!
//! [`fixed`] and [`float`] are two forms of the layer that octets enter; [`matrix`] serves the layers
//! behind it. [`integer`] has all of a training without a float.

pub(crate) mod columns;
pub(crate) mod exp;
pub(crate) mod fixed;
pub(crate) mod float;
#[cfg(any(dsp, test, target_feature = "sse2", target_feature = "neon"))]
mod fours;
pub(crate) mod integer;
pub(crate) mod level;
pub(crate) mod matrix;
mod product;
pub(crate) mod quantise;
pub(crate) mod sparse;
