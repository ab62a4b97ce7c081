//! The federated-learning device: join, fetch data, answer `/ready`, train on `/start`, post
//! `/results`.
//!
//! A [`Device`] is driven by its body: [`Device::poll`] moves the HTTP exchanges along and never
//! blocks or trains; [`Device::job`] (or [`Device::take_job`], for a body that trains on another
//! thread) hands out the training, which goes in steps. A single-threaded body is this loop:
//!
//! ```ignore
//! loop {
//!     let activity = device.poll(&mut port);
//!     if let Some(job) = device.job() {
//!         job.step(STEP_EXAMPLES);
//!     } else if let Activity::Idle { wake_at_us } = activity {
//!         /* sleep until the network or the clock says so */
//!     } else if let Activity::Stopped = activity {
//!         break;
//!     }
//! }
//! ```
//!
//! Invariant: this crate opens no socket and reads no clock of its own; a [`Port`] gives it both.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod port;

pub use port::{Port, PortError, Usage};
