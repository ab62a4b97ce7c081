//! HTTP exchanges over a radio: a message of the radio is a whole request or a whole answer.
//!
//! A leaf's [`Streams`] look to `fl-client` like connections. Its gateway's [`Relay`] carries the requests of the
//! leaf to the aggregator over [`Net`], and takes those to the leaf at a port of its own. What a relay knows itself
//! it answers itself: `/ready` never goes on the air.
//!
//! Nothing here blocks, opens a socket or reads a clock. A relay that waits for the aggregator
//! [asks](Relay::is_asking): whoever simulates the air lets time stand meanwhile.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod http;
mod port;
mod relay;
mod streams;

pub use relay::{Net, NetError, Relay};
pub use streams::{Streams, Unready};

/// Label of a message that answers or carries a request of the aggregator; below it those of the leaf's own.
const FROM_AGGREGATOR: u8 = 0x80;
