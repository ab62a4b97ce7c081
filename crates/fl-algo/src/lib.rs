//! Federated-learning algorithms, a file each: the half that runs on a device and the half that runs on
//! the server.
//!
//! An [`Algorithm`] is a value: its name, its paper, its parameters with defaults and bounds, its
//! [`ClientRule`] and, behind feature `server`, how to make its `ServerRule`. The registry is the list
//! in [`ALGORITHMS`]; a new algorithm is its file and one line there. An `Attack` of malicious clients is
//! likewise a file of `attacks/` and a line of its list.
//!
//! # Terms
//! - *rule*: the half of an algorithm that one side runs. Several algorithms may share a client rule:
//!   Multi-Krum's devices do what FedAvg's do.
//! - *vector*: a named buffer of f32 that a client rule needs beside the model ([`VectorSpec`]). One
//!   that travels is a section on the wire; one that is *kept* stays on the device from round to round.
//! - *pass*: one training of the local epochs. Most rules make one a round.
//!
//! # Invariants
//! - A rule without correction leaves training as it is, to the bit.
//! - The model that a server rule makes does not depend on the order in which updates come.
//! - Nothing from outside is trusted for a size, and nothing from outside can panic.
//!
//! # Left out on purpose
//! Sockets, clocks, files, messages: whoever calls has these.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod algorithms;
#[cfg(feature = "server")]
mod attack;
#[cfg(feature = "server")]
mod attacks;
#[cfg(feature = "server")]
mod choice;
mod client;
#[cfg(feature = "server")]
mod exact;
pub mod privacy;
mod registry;
#[cfg(feature = "server")]
mod server;
mod vector;

pub use algorithms::ALGORITHMS;
#[cfg(feature = "server")]
pub use attack::{Attack, AttackChoice, Attackers, Examples, Scene, attack};
#[cfg(feature = "server")]
pub use attacks::ATTACKS;
#[cfg(feature = "server")]
pub use choice::Choice;
pub use client::{
    ClientRule, LocalJob, LocalRule, Pass, PassPlan, RuleCorrection, RuleError, Trains,
};
#[cfg(feature = "server")]
pub use exact::{
    ExactError, ExactMean, ExactSum, LARGEST_NUMBER, SUM_BYTES, add_base, first_unsound,
};
pub use fl_param::{MAX_PARAMS, ParamError, ParamSpec, Params};
pub use registry::{Algorithm, DeviceHalf, find, find_rule, rule_names};
#[cfg(feature = "server")]
pub use server::{
    AggregateError, KeptVectors, LocalParams, Partial, Policy, Rejected, RoundMetrics, SavedState,
    Sections, ServerRule, Setup, Update,
};
pub use vector::{
    Demand, InputsIn, Length, MODEL, SectionSpec, Sizes, Stays, VectorSpec, Vectors, Way,
    device_bytes, list_bytes,
};
