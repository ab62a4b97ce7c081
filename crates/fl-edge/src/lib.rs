//! An edge aggregator for machines with little memory: the gateway of a cluster of devices.
//!
//! It speaks the wire of every edge (docs/wire-format.md, Edges). Towards the aggregator above it is a device: it
//! joins, answers `/ready`, `/start` and `/stop`, and posts sums. Towards its devices it is an aggregator. It has no
//! experiment and no data: what it has to know it asks for ([`Brief`](fl_proto::cluster::Brief)), and what devices
//! fetch passes through it, from where the host deals data out.
//!
//! An [`Edge`] is polled as a [`Device`](fl_client::Device) is, over the same [`Port`](fl_client::Port): it never
//! blocks, opens no socket and reads no clock. The machine of the rounds is `fl-round`'s.
//!
//! # Memory
//! What grows with the model is taken once, when the cluster is known ([`fl_proto::cluster::GatewayMemory`] says how much), or the
//! edge does not join; for the rest the root sees that there is room. One
//! update is in memory at a time: devices that come with theirs meanwhile wait. It is added to exact sums as soon as its
//! checksums are right.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![allow(
    clippy::result_large_err,
    clippy::large_enum_variant,
    reason = "refusals and stages stay off the heap, which may be full when they are made"
)]

extern crate alloc;

mod ask;
mod cluster;
mod devices;
mod edge;
mod inbound;
mod intake;
mod order;
mod requests;
mod route;
mod sums;
mod told;

pub use edge::{Config, Edge};
