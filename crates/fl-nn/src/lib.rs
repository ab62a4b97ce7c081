//! Dense neural networks that train on a microcontroller.
//!
//! No standard library, no allocation, no `unsafe`: the caller owns every buffer, and a [`MemoryPlan`]
//! says how large each must be before anything is taken. Inputs are octets (pixels) used as they are;
//! hidden layers are [`Activation::Relu`] or [`Activation::Sigmoid`], the output is softmax with
//! cross-entropy, and training is mini-batch SGD in bounded steps ([`Trainer::step`]), so that a
//! single-threaded device can answer its network between two steps.
//!
//! # Invariants
//! - Results are the same to the bit on every target, in debug and in release, and for every way of
//!   cutting the training into steps. So: `exp` and `ln` come from the `libm` crate, sums have one
//!   written order, no multiply-add is fused, and no number depends on the size of `usize`.
//! - No length, label, weight or hyper-parameter that comes from outside can panic or overflow.
//! - Parameters are one flat slice: layer by layer, weights row-major `[d_in, d_out]`, then bias
//!   `[d_out]`.
//!
//! # Left out on purpose
//! Convolutions, momentum, other losses, and any notion of files, clients or messages.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod activation;
mod batch;
mod dense;
mod error;
mod eval;
mod fixed;
mod float;
mod init;
mod loss;
mod model;
mod plan;
mod quantise;
pub mod selftest;
mod shape;
mod sparse;
mod train;

pub use activation::Activation;
pub use error::{Buffer, PlanError, ShapeError, SizeError, TrainError};
pub use eval::Evaluation;
pub use init::Init;
pub use model::Model;
pub use plan::{MAX_BATCH, MemoryPlan, Workspace};
pub use shape::{MAX_LAYERS, MAX_PARAMS, MAX_WIDTH, Shape};
pub use train::{Arithmetic, Progress, Step, TrainConfig, Trainer};
