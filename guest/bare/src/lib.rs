//! The parts of the bare-metal guest that need no machine: the count of TCP segments, and what a card leaves to
//! the host. They are a library so that they are tested on the host.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod offload;
pub mod segments;
