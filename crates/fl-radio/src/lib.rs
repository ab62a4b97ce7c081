//! Messages over a radio of small packets, and the time that they take in the air.
//!
//! A *leaf* has no IP. It reaches its *gateway* by packets of 32 octets, which other leaves may carry on.
//! Nobody can dial a leaf: it asks, and what the gateway has for it comes as the answer. Fragmentation
//! follows RFC 8724, mode ACK-on-Error, with these changes:
//!
//! | RFC 8724 | here | reason |
//! |---|---|---|
//! | the CRC-32 comes with the last fragment | length and CRC-32 come first, in an offer | a message too long is refused before it is sent; and they name it, so that a transfer goes on where a reboot broke it off |
//! | one bitmap an ACK | bitmaps of two windows, as in RFC 9441 | every answer costs air time |
//! | the sender asks for the ACK | the receiver grants tiles with the ACK | one pace fits the slowest hop, and the gateway serves one leaf at a time |
//! | timers on both sides | timers on the leaf; the gateway has one, for whose turn it is | the leaf may sleep; the gateway answers, and calls who waits |
//!
//! The packets stand in `docs/radio.md`.
//!
//! # Invariants
//! - What [`Leaf::receive`] and [`Station::receive`] give out has the length and the CRC-32 of what was sent.
//! - Nothing here reads a clock or draws a number, and only [`Gateway`] allocates.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod airtime;
mod assembly;
mod duty;
#[cfg(feature = "alloc")]
mod gateway;
mod incoming;
mod leaf;
pub mod line;
mod node;
mod outgoing;
mod packet;
mod router;
mod station;

pub use assembly::{Assembly, Name};
pub use duty::DutyCycle;
#[cfg(feature = "alloc")]
pub use gateway::{Gateway, GatewayNode};
pub use leaf::{Leaf, Pace};
pub use node::{Draw, LeafNode, Node, Times, address};
pub use outgoing::SendError;
pub use packet::{
    Ack, Head, MAX_MESSAGE_BYTES, MESSAGE_BYTES, PACKET_BYTES, Packet, PacketBytes, Reason,
    TILE_BYTES, WINDOW_TILES,
};
pub use router::{FRAME_BYTES, Frame, Router, ends};
pub use station::{Station, Taken};
