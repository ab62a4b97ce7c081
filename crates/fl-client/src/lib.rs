//! The federated-learning device: join, fetch data, answer `/ready`, train on `/start`, post
//! `/results`.
//!
//! A [`Device`] is driven by its body: [`Device::poll`] moves the HTTP exchanges along and never
//! blocks or trains; [`Device::job`] (or [`Device::take_job`], for a body that trains on another
//! thread) hands out the training, which goes in steps. A single-threaded body is this loop:
//!
//! ```
//! # use fl_client::{Activity, Device, Port};
//! fn run<P: Port>(device: &mut Device<P>, port: &mut P, sleep: impl Fn(Option<u64>)) {
//!     loop {
//!         let activity = device.poll(port);
//!         if let Some(job) = device.job() {
//!             job.step(16);
//!             continue;
//!         }
//!         match activity {
//!             Activity::Busy => {}
//!             // Until the network moves, or the clock says so.
//!             Activity::Idle { wake_at_us } => sleep(wake_at_us),
//!             Activity::Stopped => break,
//!         }
//!     }
//! }
//! ```
//!
//! Invariant: this crate opens no socket and reads no clock of its own; a [`Port`] gives it both.

#![no_std]
#![forbid(unsafe_code)]
#![allow(
    clippy::result_large_err,
    clippy::large_enum_variant,
    reason = "refusals and phases stay off the heap, which may be full when they are made"
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod backoff;
mod buffers;
mod device;
mod encode;
mod evaluation;
mod examples;
pub mod guard;
pub mod http;
mod inbound;
mod job;
mod join;
mod kept;
mod meter;
mod outbound;
mod params;
mod placed;
mod port;
mod receive;
mod selftest;
mod state;
pub mod storage;
mod update;

pub use device::{Activity, Config, Device, Resting};
pub use fl_nn::Shelf;
pub use fl_proto::Word;
pub use job::TrainJob;
pub use port::{Examples, Flash, Port, PortError, Usage};
pub use selftest::selftest;
pub use state::Overrides;
