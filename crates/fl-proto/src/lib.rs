//! zfl's wire format: the messages between a device and the aggregator over HTTP/1.1.
//!
//! Control messages are JSON, one set of types for both sides ([`Welcome`], [`Start`], [`Ready`],
//! [`Results`], [`ErrorReply`]). Vectors travel as sections of a [`message`], each written by a
//! [`codec`]; hosts may use the JSON form instead (`json_form`). `docs/wire-format.md` shows them byte by
//! byte. [`wire_len`] tells the length of anything.
//!
//! Invariants:
//! - Without the `alloc` feature nothing here allocates. Nothing panics on input, recurses as deep as
//!   input says, or trusts a length before checking it against a bound.
//! - This crate knows no layers and no algorithm: a vector is one flat `[f32]` with a name, and
//!   [`Welcome::layers`] is a tag that the two ends interpret.

#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

mod checks;
#[cfg(feature = "alloc")]
pub mod cluster;
pub mod codec;
mod control;
mod diverged;
pub mod json;
#[cfg(feature = "json-form")]
pub mod json_form;
mod local;
pub mod message;
mod params;
pub mod token;
pub mod wire_len;
mod word;

pub use control::{
    Activation, Arithmetic, CodecName, Cost, DEFAULT_RULE, DeviceState, ErrorReply, Evaluated,
    KeptState, MAX_LAYER_SIZES, Query, Ready, Results, RuleName, Start, Token, Welcome,
};
pub use diverged::Diverged;
pub use local::{CLIPPED, LATER_FIELDS, Optimizer, OptimizerName, Privacy};
pub use params::{MAX_NAMED, Metrics, ParamName, Params};
pub use word::{NoWord, Word};

/// Version of the messages; a device of another version than [`Welcome::protocol`] does not join.
pub const PROTOCOL_VERSION: u32 = 2;

/// Longest control message in JSON, in bytes; longer ones are refused unread.
pub const MAX_CONTROL_BYTES: usize = 1024;

/// Most numbers of a section that either side will take in (64 MiB as f32).
pub const MAX_PARAMS: u32 = 16 << 20;

/// Media type of a [`message`].
pub const OCTET_STREAM: &str = "application/octet-stream";

/// Media type of control messages and of the JSON form.
pub const JSON: &str = "application/json";

/// Paths of the endpoints.
pub mod path {
    /// Name by which devices and edges call whom they ask, in `Host`. The Internet has no such name.
    pub const HOST: &str = "aggregator";
    /// Aggregator, GET: join, answered with a [`Welcome`](crate::Welcome).
    pub const ID: &str = "/id";
    /// Aggregator, GET: the client's inputs, `num_examples * layers[0]` octets.
    pub const TRAINING_DATA: &str = "/training-data";
    /// Aggregator, GET: the client's labels, `num_examples` octets.
    pub const TRAINING_LABELS: &str = "/training-labels";
    /// Aggregator, GET: the client's kept vectors, a message with [`KeptState`](crate::KeptState).
    pub const STATE: &str = "/state";
    /// Aggregator, POST: an update, a message or its JSON form with [`Results`](crate::Results).
    pub const RESULTS: &str = "/results";
    /// Device, POST: train a round, a message with [`Start`](crate::Start).
    pub const START: &str = "/start";
    /// Device, GET: [`Ready`](crate::Ready).
    pub const READY: &str = "/ready";
    /// Device, POST with an empty body: the experiment is over.
    pub const STOP: &str = "/stop";
    /// Gateway, POST: the device of `?client=` is gone.
    pub const LOST: &str = "/lost";
    /// Gateway, POST: the device of `?client=` is gone and on its way back.
    pub const BACK: &str = "/back";
    /// Aggregator, GET: what a gateway has to know, a [`Brief`](crate::cluster::Brief); POST: who is there of an edge's
    /// cluster, a [`ClusterReport`](crate::cluster).
    pub const CLUSTER: &str = "/cluster";
}
