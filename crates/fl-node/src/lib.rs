//! A node of a mesh on a machine of its own: a leaf, which has only a radio, or the gateway, which has a network card too.
//!
//! The radio is behind a serial line. It has the time of the mesh ([`fl_radio::line`]): a node gets a step, does all that
//! follows from it, and answers. So it is the same node on every machine; a [`Machine`] has the line, the card and what a
//! device has besides its streams.
//!
//! Nothing here blocks or reads a clock.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod gateway;
mod leaf;
mod line;
mod node;

pub use leaf::Own;
pub use node::MeshNode;

use fl_client::Config;
use fl_exchange::Net;
use fl_radio::line::Hello;

/// Machine that a node is on.
pub trait Machine {
    /// Connections of a gateway.
    type Net: Net;
    /// Part of a leaf's port that is the machine's.
    type Own: Own;

    /// Takes octets that came over the radio's line; the number of them, 0 if none are there.
    fn read(&mut self, octets: &mut [u8]) -> usize;

    /// Sends octets over the radio's line. Where nobody reads, the rest may be dropped.
    fn write(&mut self, octets: &[u8]);

    /// Settings of a leaf, but its port, and its part of the port.
    fn leaf(&mut self) -> (Config, Self::Own);

    /// Opens the connections of a gateway; `None` if it cannot, which the machine's log then says.
    fn gateway(&mut self, hello: &Hello) -> Option<Self::Net>;
}

/// Frames that a node says in one step.
type Said = heapless::Vec<fl_radio::Frame, { fl_radio::line::MAX_FRAMES }>;

/// State of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// There is more to do.
    Goes,
    /// The radio or the aggregator has to say something first.
    Waits,
    Done,
}
