//! An experiment: what was asked for, what that comes to, and what it will take.
//!
//! [`Settings`] are what flags and an experiment file say, with no default yet. [`Experiment`] is the same
//! with every value resolved and checked against the data and the boards; the `config.toml` of a run holds
//! it. [`estimate`] tells memory, bytes and time of it before anything starts.
//!
//! Invariants
//! - What cannot be meant is a [`Refusal`] that says what to change; it comes before a folder is made or a
//!   process is started.
//! - Laying flags over a file reads nothing from disk: what a board boots is asked of the caller.
//! - Only this crate knows the name of a key.

#![forbid(unsafe_code)]

mod aggregation;
pub mod boards;
pub mod choice;
mod derived;
mod edges;
mod encoding;
pub mod estimate;
mod examples;
mod experiment;
pub mod groups;
mod inputs;
pub mod keys;
mod native;
pub mod place;
mod privacy;
mod radio;
mod refusal;
pub mod root;
mod rule;
mod settings;
mod time;
pub mod twin;
pub mod values;
pub mod versions;

pub use choice::{Body, BodyChoice, Choice, Counting, Network, Places, Time};
pub use edges::{EdgeBody, EdgeNode, EdgeSums, EdgeTree, GatewayPlan};
pub use encoding::{Downward, Upward};
pub use examples::{DataPart, load_data};
pub use experiment::{Experiment, Out};
pub use groups::FleetGroup;
pub use native::NotNative;
pub use refusal::{Refusal, require};
pub use root::Root;
pub use rule::{Attacking, Chosen, Number, Optimizing, Partitioning, RuleSettings, Strategy};
pub use settings::{
    DeviceSettings, FaultFlags, GroupSettings, Settings, TrainingSettings, keys as all_keys, stand,
};
pub use twin::Twin;
