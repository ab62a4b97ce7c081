//! One direction of a stream.

use std::collections::VecDeque;
use std::io::Read;
use std::task::Waker;

use crate::CAPACITY;

/// Octets on their way, and who waits for them or for room.
#[derive(Debug, Default)]
pub(crate) struct Half {
    octets: VecDeque<u8>,
    /// Nothing more is written.
    pub finished: bool,
    /// Nothing more is read.
    pub deaf: bool,
    /// A task that reads or writes this direction.
    pub waker: Option<Waker>,
}

/// Outcome of a read or a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    Octets(usize),
    Wait,
    Over,
}

impl Half {
    /// Takes octets out; [`Moved::Over`] at the end of them.
    pub fn read(&mut self, into: &mut [u8]) -> Moved {
        match self.octets.read(into) {
            Ok(count @ 1..) => Moved::Octets(count),
            _ if into.is_empty() => Moved::Octets(0),
            _ if self.finished => Moved::Over,
            _ => Moved::Wait,
        }
    }

    /// Puts octets in; [`Moved::Over`] if nobody reads them.
    pub fn write(&mut self, octets: &[u8]) -> Moved {
        if self.deaf || self.finished {
            return Moved::Over;
        }
        let count = octets.len().min(CAPACITY - self.octets.len());
        if count == 0 && !octets.is_empty() {
            return Moved::Wait;
        }
        self.octets.extend(&octets[..count]);
        Moved::Octets(count)
    }

    /// Ends the reading: what is under way is of no use.
    pub fn stop_reading(&mut self) {
        self.deaf = true;
        self.octets = VecDeque::new();
    }
}
