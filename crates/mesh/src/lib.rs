//! Devices that have only a radio: leaves and their gateway over a medium in simulated time.
//!
//! A leaf is the same `fl-client` as everywhere, on a port whose streams are messages of `fl-radio`. The gateway
//! has a radio and IP: it carries the requests of leaves to the aggregator, and takes those to leaves at a port
//! of its own for each. What it knows itself it answers itself: `/ready` never goes on the air.
//!
//! All of it runs on one thread. Simulated time passes only while messages are on their way, never while
//! the aggregator thinks; and the `/start` of a round are on their way together ([`MeshFleet::expect`]). So no
//! clock of the host has a say in what is on the air during a round.

#![forbid(unsafe_code)]

mod emulated;
mod fleet;
mod leaf;
mod net;
mod port;
mod run;
mod watch;

pub use fleet::{LeafEnd, LeafSpec, MeshFleet};
