//! The federated-learning server: hands out data, runs rounds, adds updates up, tests the model and
//! keeps the run's files.
//!
//! [`Server::new`] takes a [`Config`], the data, its partition and a [`RunDir`]; [`Server::run`] serves
//! the wire's endpoints (`docs/wire-format.md`) and runs the rounds. A [`Handle`] subscribes to
//! [`Event`]s and tells the server what it cannot know: that a device is gone, that the run is to end.
//!
//! Invariants
//! - The aggregator does not know whether a device is emulated.
//! - A bad message is data, not a failure of the server: it is refused, logged and counted, and
//!   changes nothing else.
//! - An update counts only for the round, client and token that it was asked of, once.
//! - The global model depends on the seed, the data and which updates are in it; never on their order
//!   of arrival.

#![forbid(unsafe_code)]

mod algorithm;
mod broadcast;
mod capabilities;
mod changes;
mod clusters;
mod complete;
mod config;
mod device;
mod edge;
mod edge_memory;
mod edges;
mod entry;
mod evaluate;
mod evaluation;
mod examples;
mod gateways;
mod guard;
mod hooks;
mod http;
mod intake;
mod join;
mod kept;
mod local;
mod log;
mod memory;
mod next_model;
mod patience;
mod privacy;
mod probe;
mod rate;
mod refusals;
mod roster;
mod rounds;
mod schedule;
mod serve;
mod server;
mod shared;
mod spread;
mod token;
mod traffic;
mod upstream;

pub use clusters::Clusters;
pub use config::{Config, LocalOverrides, START_PART, STARTS_AT_ONCE, Weighting};
pub use edge::{Edge, EdgeSetup};
pub use edge_memory::{Keep, Kept, is_kept};
pub use entry::{Entry, Proof};
pub use evaluate::{classes, evaluate};
pub use evaluation::Evaluation;
pub use hooks::{Calculated, RoundFaults, RoundHooks};
pub use local::{LocalOptimizer, PartialWork};
pub use log::lock;
pub use privacy::{Adaptation, Mechanism, Privacy};
pub use probe::Progress;
pub use schedule::{Course, Schedule};
pub use serve::{Entrance, least_places, limits};
pub use server::{Data, Handle, Server, bind};
pub use upstream::{Above, Sockets};
// Names that this crate's own signatures have.
pub use fl_round::Stragglers;
pub use zfl_http_server::{Limits, Pace};
pub use zfl_run_dir::{
    ClientFailure, ClientRecord, Event, HostCost, Record, Resumed, RoundPhase, RoundRecord, RunDir,
    TrainingSummary,
};
