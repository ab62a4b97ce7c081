//! The machine under a device.

use crate::storage::Storage;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};
use fl_nn::Shelf;
use fl_proto::Word;

/// The machine under a [`Device`](crate::Device): connections, a clock, a log and measurements.
///
/// Nothing here blocks. A connection is a reliable, ordered stream of bytes; whether TCP carries it
/// or a link that is no socket is the port's own affair.
pub trait Port {
    /// One stream, incoming or outgoing.
    type Connection;

    /// The next stream that the aggregator opened to this device, if there is one.
    fn accept(&mut self) -> Option<Self::Connection>;

    /// Opens a stream to the aggregator. It need not be established yet: until then reads and
    /// writes answer [`PortError::WouldBlock`].
    fn connect(&mut self) -> Result<Self::Connection, PortError>;

    /// Opens a stream to somebody else than the aggregator, for a body that can.
    ///
    /// # Errors
    /// As of [`Port::connect`].
    fn connect_to(&mut self, to: SocketAddrV4) -> Result<Self::Connection, PortError> {
        let _ = to;
        Err(PortError::Refused)
    }

    /// Address that a stream comes from, for a body that knows it.
    fn peer(&mut self, connection: &Self::Connection) -> Option<Ipv4Addr> {
        let _ = connection;
        None
    }

    /// Reads what has arrived; `Ok(0)` means that the other side has finished sending.
    fn read(
        &mut self,
        connection: &mut Self::Connection,
        buffer: &mut [u8],
    ) -> Result<usize, PortError>;

    /// Writes a part of `bytes`, at least one unless `bytes` is empty.
    fn write(
        &mut self,
        connection: &mut Self::Connection,
        bytes: &[u8],
    ) -> Result<usize, PortError>;

    /// Ends a stream. What was written still goes out, in the background.
    fn close(&mut self, connection: Self::Connection);

    /// Microseconds since any fixed moment, never going back.
    fn now_us(&mut self) -> u64;

    /// Writes one line to the device's log.
    fn log(&mut self, line: fmt::Arguments<'_>);

    /// Random bytes, as hard to foresee as the machine can make them: the device's word is made of them.
    fn random(&mut self) -> [u8; Word::RANDOM_BYTES];

    /// Free memory that model, data and training may take, in bytes; `None` if it is not bounded.
    fn free_bytes(&mut self) -> Option<u64> {
        None
    }

    /// Storage that keeps what the device writes to it when it reboots; `None` if it has none.
    fn storage(&mut self) -> Option<&mut dyn Storage> {
        None
    }

    /// Bytes of the flash that holds lists of inputs, for a body that has such.
    fn flash_bytes(&mut self) -> Option<u64> {
        None
    }

    /// Flash for those lists, unless somebody holds it.
    fn flash(&mut self) -> Option<Box<dyn Flash>> {
        None
    }

    /// True if the body has examples in memory, so that none need be sent.
    fn has_examples(&mut self) -> bool {
        false
    }

    /// Examples of a client, if the body has them in memory; so many of them held out.
    fn examples(&mut self, client: u32, holdout: u32) -> Option<Arc<dyn Examples>> {
        let _ = (client, holdout);
        None
    }

    /// Cost of the body so far, as far as it can tell.
    fn usage(&mut self) -> Usage {
        Usage::default()
    }
}

/// Flash that holds the lists of a device's inputs: written once, one behind the other, and read where they lie.
pub trait Flash: fmt::Debug + Send + Sync {
    /// Words that it can hold.
    fn capacity(&self) -> usize;

    /// Forgets all words.
    fn clear(&mut self);

    /// Writes words behind those that are there; `false` if there is no room, or they do not stay.
    fn append(&mut self, words: &[i32]) -> bool;

    /// All words that are there.
    fn words(&self) -> &[i32];
}

/// Examples of a client among those of a set that its body has in memory, for others too.
pub trait Examples: fmt::Debug + Send + Sync {
    /// Inputs and labels of the set.
    fn set(&self) -> (&[u8], &[u8]);

    /// Places in the set of the examples to train on, and of those held out.
    fn places(&self) -> [&[u32]; 2];

    /// Shelf for lists of those to train on, and their number there.
    fn shelf(&self) -> Option<(&Shelf, usize)> {
        None
    }
}

/// A device's counters since boot; `None` where the body cannot count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Instructions retired in the steps of training, those of the body's loop left out: how often
    /// somebody asks `/ready` must not show here.
    pub instructions: Option<u64>,
    /// Most heap ever in use, in bytes.
    pub heap_peak_bytes: Option<u32>,
    /// Most stack ever in use, in bytes.
    pub stack_peak_bytes: Option<u32>,
    /// TCP segments sent.
    pub segments_sent: Option<u32>,
    /// TCP segments received.
    pub segments_received: Option<u32>,
    /// TCP segments sent again.
    pub retransmissions: Option<u32>,
}

/// Reason why a stream did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortError {
    /// Nothing to do now; ask again later.
    WouldBlock,
    /// The other side does not listen, or cannot be reached.
    Refused,
    /// The stream broke.
    Reset,
    /// The body has no room for another stream.
    Exhausted,
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WouldBlock => "nothing to do now",
            Self::Refused => "connection refused",
            Self::Reset => "connection lost",
            Self::Exhausted => "no room for another connection",
        })
    }
}

impl core::error::Error for PortError {}
