//! TCP retransmissions, counted from the Ethernet frames of one direction.
//!
//! A TCP stack need not tell what it sends again, but the wire does. [`Tracker`] looks at frame after
//! frame: a switch has one for each direction of a link, a device one for what its card sends. Only
//! headers are read, memory is fixed, and no frame can make it panic.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "testing"))]
extern crate alloc;

mod segment;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tracker;

pub use segment::{Flow, Segment};
pub use tracker::{FrameKind, MAX_FLOWS, Tracker};
