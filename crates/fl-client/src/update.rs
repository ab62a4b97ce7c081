//! The body of `POST /results`, made as it is sent.

use crate::buffers::Buffers;
use crate::job::resize;
use alloc::vec::Vec;
use fl_proto::message::{Kind, Sender};
use fl_proto::{MAX_CONTROL_BYTES, Results, json};

/// An update on its way out.
pub(crate) struct Upload {
    sender: Sender,
    /// The piece being sent.
    piece: Vec<u8>,
    len: usize,
    sent: usize,
}

impl Upload {
    /// Prepares to send an update in pieces of so many bytes; `None` if the device has no memory for one.
    pub fn new(results: &Results, buffers: &Buffers, piece_bytes: usize) -> Option<Self> {
        let mut control = [0; MAX_CONTROL_BYTES];
        let control_len = match &buffers.found {
            None => json::encode(results, &mut control)?,
            Some(found) => json::encode(&found.message(results), &mut control)?,
        };
        let sections = buffers.outgoing();
        let sender = Sender::new(Kind::Results, &control[..control_len], &sections).ok()?;
        let mut piece = Vec::new();
        resize(&mut piece, piece_bytes).then_some(Self {
            sender,
            piece,
            len: 0,
            sent: 0,
        })
    }

    /// Length of the whole body in bytes.
    pub fn content_length(&self) -> u64 {
        self.sender.body_len()
    }

    /// The next bytes to send; empty at the end.
    pub fn chunk(&mut self, buffers: &Buffers) -> &[u8] {
        if self.sent == self.len {
            let sections = buffers.outgoing();
            // Never fails: the sections are the same that the sender has checked.
            self.len = self.sender.fill(&sections, &mut self.piece).unwrap_or(0);
            self.sent = 0;
        }
        &self.piece[self.sent..self.len]
    }

    /// Tells that `n` bytes of the chunk went out.
    pub fn consume(&mut self, n: usize) {
        self.sent += n;
    }
}
