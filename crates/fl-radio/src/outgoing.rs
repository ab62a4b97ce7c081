//! The sending half: one message, and the tiles of it that were granted.

use crate::assembly::Name;
use crate::packet::{ACK_WINDOWS, Ack, Head, Packet, WINDOW_TILES};
use heapless::Vec;

/// Reason why a message cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The last one is still under way.
    Busy,
    /// It is empty, or longer than the buffer.
    Length,
}

impl core::fmt::Display for SendError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Busy => "another message is under way",
            Self::Length => "the message does not fit the buffer of the radio",
        })
    }
}

impl core::error::Error for SendError {}

/// A message of at most `N` octets under way.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing<const N: usize> {
    octets: Vec<u8, N>,
    name: Option<Name>,
    label: u8,
    tag: u8,
    /// First window of the bitmaps.
    window: usize,
    lacking: [u64; ACK_WINDOWS],
    credit: u8,
    /// First tile that was never sent.
    fresh: usize,
    /// Tiles sent more than once, of all messages.
    again: u32,
}

impl<const N: usize> Outgoing<N> {
    pub const fn new() -> Self {
        Self {
            octets: Vec::new(),
            name: None,
            label: 0,
            tag: 0,
            window: 0,
            lacking: [0; ACK_WINDOWS],
            credit: 0,
            fresh: 0,
            again: 0,
        }
    }

    pub fn send(&mut self, label: u8, message: &[u8]) -> Result<(), SendError> {
        if self.name.is_some() {
            return Err(SendError::Busy);
        }
        let name = Name::of(message).ok_or(SendError::Length)?;
        self.octets.clear();
        self.octets
            .extend_from_slice(message)
            .map_err(|_| SendError::Length)?;
        (self.name, self.label) = (Some(name), label);
        self.tag = Head::next_tag(self.tag);
        self.fresh = 0;
        self.revoke();
        Ok(())
    }

    pub fn is_active(&self) -> bool {
        self.name.is_some()
    }

    pub fn tag(&self) -> u8 {
        self.tag
    }

    /// Ends the message, delivered or not.
    pub fn end(&mut self) {
        self.name = None;
        self.revoke();
    }

    fn revoke(&mut self) {
        (self.credit, self.lacking) = (0, [0; ACK_WINDOWS]);
    }

    pub fn offer(&self) -> Option<Packet<'static>> {
        let label = self.label;
        self.name.map(|name| Packet::Offer { name, label })
    }

    /// Takes in what the receiver lacks and what it grants. A packet late on its way may name tiles that
    /// have come since; they are sent once too often, that is all.
    pub fn granted(&mut self, ack: &Ack) {
        self.window = usize::from(ack.window);
        self.lacking = ack.bitmaps.map(|bits| !bits);
        self.credit = ack.credit;
    }

    /// Tiles sent more than once so far.
    pub fn again(&self) -> u32 {
        self.again
    }

    /// True while tiles may be sent.
    pub fn is_sending(&self) -> bool {
        self.credit > 0 && self.next_tile().is_some()
    }

    /// The next tile that was granted.
    pub fn fragment(&mut self) -> Option<Packet<'_>> {
        if self.credit == 0 {
            return None;
        }
        let tile = self.next_tile()?;
        let at = tile / WINDOW_TILES - self.window;
        self.lacking[at] &= !(1 << (tile % WINDOW_TILES));
        self.credit -= 1;
        self.again = self.again.saturating_add(u32::from(tile < self.fresh));
        self.fresh = self.fresh.max(tile + 1);
        let last = self.credit == 0 || self.next_tile().is_none();
        let range = self.name?.tile(tile)?;
        Some(Packet::Fragment {
            tile: tile as u16,
            last,
            octets: &self.octets[range],
        })
    }

    fn next_tile(&self) -> Option<usize> {
        let tiles = self.name?.tiles();
        let windows = self.lacking.iter().enumerate();
        let mut lacking = windows.filter(|(_, bits)| **bits != 0);
        let (at, bits) = lacking.next()?;
        let tile = (self.window + at) * WINDOW_TILES + bits.trailing_zeros() as usize;
        (tile < tiles).then_some(tile)
    }
}
