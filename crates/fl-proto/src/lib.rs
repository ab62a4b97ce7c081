//! zfl's wire format: what a device and the aggregator say to each other over HTTP/1.1.
//!
//! Control messages are JSON, one set of types for both sides ([`Welcome`], [`Start`], [`Ready`],
//! [`Results`], [`ErrorReply`]). Model parameters travel in a [`frame`]: a fixed binary header, the
//! control message and the parameters, little endian; or, in the compatible form, as base64 inside
//! the JSON object (see [`compat`]). `docs/wire-format.md` shows both byte by byte.
//!
//! Invariants:
//! - Without the `alloc` feature nothing here allocates. Nothing panics on input, recurses as deep as
//!   input says, or trusts a length before checking it against a bound.
//! - This crate knows no layers: parameters are one flat `[f32]`, and [`Welcome::layers`] is a tag
//!   that the two ends interpret.

#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

mod checks;
pub mod compat;
pub mod frame;
pub mod json;
mod messages;
mod params;

pub use messages::{
    Activation, Arithmetic, Cost, DeviceState, ErrorReply, MAX_LAYER_SIZES, Query, Ready, Results,
    Start, Token, Welcome,
};
pub use params::{ParamDecoder, ParamEncoder};

/// Version of the messages and frames; a device of another version than [`Welcome::protocol`] does
/// not join.
pub const PROTOCOL_VERSION: u32 = 1;

/// Longest control message in JSON, in bytes; longer ones are refused unread.
pub const MAX_CONTROL_BYTES: usize = 1024;

/// Largest number of parameters that either side will take in (64 MiB as f32).
pub const MAX_PARAMS: u32 = 16 << 20;

/// Media type of a [`frame`].
pub const OCTET_STREAM: &str = "application/octet-stream";

/// Media type of control messages and of the [`compat`] form.
pub const JSON: &str = "application/json";

/// Paths of the endpoints.
pub mod path {
    /// Aggregator, GET: join, answered with a [`Welcome`](crate::Welcome).
    pub const ID: &str = "/id";
    /// Aggregator, GET: the client's inputs, `num_examples * layers[0]` octets.
    pub const TRAINING_DATA: &str = "/training-data";
    /// Aggregator, GET: the client's labels, `num_examples` octets.
    pub const TRAINING_LABELS: &str = "/training-labels";
    /// Aggregator, POST: an update, a frame or its compatible form with [`Results`](crate::Results).
    pub const RESULTS: &str = "/results";
    /// Device, POST: train a round, a frame or its compatible form with [`Start`](crate::Start).
    pub const START: &str = "/start";
    /// Device, GET: [`Ready`](crate::Ready).
    pub const READY: &str = "/ready";
    /// Device, POST with an empty body: the experiment is over.
    pub const STOP: &str = "/stop";
}
