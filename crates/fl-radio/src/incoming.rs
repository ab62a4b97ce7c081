//! The receiving half: one message at a time, until its user has taken it.

use crate::assembly::{Assembly, Name};
use crate::packet::{Ack, Reason};

/// Times that a message may come as a whole with a wrong CRC-32.
const MAX_DAMAGED: u8 = 3;

/// Receiver of messages of at most `N` octets.
#[derive(Clone, Debug)]
pub(crate) struct Incoming<const N: usize> {
    assembly: Assembly<N>,
    tag: u8,
    label: u8,
    stage: Stage,
    damaged: u8,
    /// Message that was delivered last: it is acknowledged again, and not delivered again.
    last: Option<(u8, u8, Name)>,
    name: Option<Name>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Taking,
    /// The user has not taken it yet.
    Whole,
}

/// Answer to what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// A bitmap, without a grant.
    Ack(Ack),
    Abort(Reason),
    /// The last message still waits for its user.
    Full,
}

impl<const N: usize> Incoming<N> {
    pub const fn new() -> Self {
        Self {
            assembly: Assembly::new(),
            tag: 0,
            label: 0,
            stage: Stage::Idle,
            damaged: 0,
            last: None,
            name: None,
        }
    }

    /// Forgets which message was last, since the other side has begun anew. Tiles stay.
    pub fn renew(&mut self) {
        self.last = None;
        if self.stage == Stage::Taking {
            self.stage = Stage::Idle;
        }
    }

    pub fn offered(&mut self, tag: u8, name: Name, label: u8) -> Reply {
        if self.last == Some((tag, label, name)) {
            return Reply::Ack(COMPLETE);
        }
        if self.stage == Stage::Whole {
            return Reply::Full;
        }
        if !self.assembly.begin(name) {
            return Reply::Abort(Reason::TooLong);
        }
        if self.stage == Stage::Idle || self.tag != tag || self.name != Some(name) {
            self.damaged = 0;
        }
        (self.tag, self.label, self.name) = (tag, label, Some(name));
        self.stage = Stage::Taking;
        self.looked()
    }

    /// Takes in a tile; true if it was new.
    pub fn fragment(&mut self, tag: u8, tile: u16, octets: &[u8]) -> bool {
        self.is_taking(tag) && self.assembly.put(usize::from(tile), octets)
    }

    /// True if this message is being taken in.
    pub fn is_taking(&self, tag: u8) -> bool {
        self.stage == Stage::Taking && self.tag == tag
    }

    pub fn is_active(&self) -> bool {
        self.stage == Stage::Taking
    }

    pub fn is_whole(&self) -> bool {
        self.assembly.is_whole()
    }

    /// Looks at what has come; a whole message is checked.
    pub fn looked(&mut self) -> Reply {
        if !self.assembly.is_whole() {
            return Reply::Ack(self.bitmaps());
        }
        if self.assembly.message().is_some() {
            self.stage = Stage::Whole;
            self.last = self.name.map(|name| (self.tag, self.label, name));
            return Reply::Ack(COMPLETE);
        }
        self.assembly.clear();
        self.damaged += 1;
        if self.damaged < MAX_DAMAGED {
            return Reply::Ack(self.bitmaps());
        }
        self.drop_it();
        Reply::Abort(Reason::Damaged)
    }

    fn bitmaps(&self) -> Ack {
        let window = self.assembly.first_window().unwrap_or(0);
        Ack {
            window: window as u8,
            bitmaps: [0, 1].map(|next| self.assembly.bitmap(window + next)),
            ..Ack::default()
        }
    }

    pub fn tag(&self) -> u8 {
        self.tag
    }

    /// The whole message and its label.
    pub fn receive(&self) -> Option<(u8, &[u8])> {
        let message = self
            .assembly
            .message()
            .filter(|_| self.stage == Stage::Whole);
        message.map(|message| (self.label, message))
    }

    /// Makes room for the next message.
    pub fn release(&mut self) {
        if self.stage == Stage::Whole {
            self.drop_it();
        }
    }

    fn drop_it(&mut self) {
        (self.stage, self.name) = (Stage::Idle, None);
        self.assembly.reset();
    }

    /// Stops taking a message in; what has come of it stays.
    pub fn pause(&mut self) {
        if self.stage == Stage::Taking {
            self.stage = Stage::Idle;
        }
    }

    pub fn tiles(&self) -> u32 {
        self.assembly.tiles()
    }
}

const COMPLETE: Ack = Ack {
    credit: 0,
    complete: true,
    window: 0,
    bitmaps: [u64::MAX; 2],
};
