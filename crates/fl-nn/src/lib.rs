//! Neural networks that train on a microcontroller.
//!
//! No standard library, no allocation, no `unsafe` but for the hot loops of Cortex-M and of an emulated PC: the caller owns
//! every buffer, and a [`MemoryPlan`] says how large each must be before anything is taken. (The feature `host`, for programs of a host, adds
//! all three: the same computations in vector instructions, to the same bits.) A [`Model`] is a chain of layers. Inputs are
//! octets (pixels) used as they are; hidden layers are [`Activation::Relu`] or [`Activation::Sigmoid`],
//! the output is softmax with cross-entropy. Training goes in bounded steps ([`Trainer::step`]), so that
//! a single-threaded device can answer its network between two of them, by an [`Optimizer`] and, where an
//! algorithm asks for it, with a [`Correction`] of every gradient.
//!
//! # Invariants
//! - Results are the same to the bit on every target, in debug and in release, and for every way of
//!   cutting the training into steps. So: `exp`, `ln` and `sqrt` come from the `libm` crate, sums have one
//!   written order, no multiply-add is fused, and no number depends on the size of `usize`.
//! - No length, label, weight or hyper-parameter that comes from outside can panic or overflow.
//! - Parameters are one flat slice: layer by layer, weights row-major `[d_in, d_out]`, then bias
//!   `[d_out]`.
//!
//! # Left out on purpose
//! Convolutions so far, other losses, and any notion of files, clients or messages.

#![cfg_attr(not(any(test, feature = "host")), no_std)]
#![cfg_attr(
    not(any(
        feature = "host",
        dsp,
        mainline,
        target_arch = "x86",
        all(test, target_arch = "x86_64")
    )),
    forbid(unsafe_code)
)]
#![deny(unsafe_code)]

mod activation;
mod arithmetic;
mod error;
mod evaluate;
mod examples;
#[cfg(feature = "host")]
pub mod host;
mod init;
mod inputs;
mod kernels;
mod layer;
mod loss;
mod memory;
mod model;
pub mod selftest;
mod shape;
mod train;

pub use activation::Activation;
pub use arithmetic::Arithmetic;
pub use error::{Buffer, PlanError, ShapeError, SizeError, TrainError};
pub use evaluate::{Evaluation, Evaluator};
pub use init::Init;
pub use inputs::{Inputs, Lists, Shelf, View};
pub use memory::{MAX_BATCH, MemoryPlan, Workspace};
pub use model::Model;
pub use shape::{MAX_LAYERS, MAX_PARAMS, MAX_WIDTH, Shape};
pub use train::{Correction, Optimizer, Progress, Step, TrainConfig, Trainer};
