//! The serial line between a node in firmware and its radio, which a host simulates.
//!
//! The radio has the time: a node gets a *step*, the time and the frames that were heard until then, and answers,
//! when it is done with all that follows, what it says and when it wants its next step. So nothing depends on how
//! fast a machine is, and no node is late. Between the two no octet is lost. Numbers are big endian.
//!
//! | from the node | octets |
//! |---|---|
//! | ready | 1: it has booted and asks for its place |
//! | news | 2: something came from elsewhere; it asks for a step |
//! | done | 128 + flags, number of frames, microseconds to the next step (4); by flags: microseconds to what its user waits for (4), requests that wait (1), a leaf whose message has come (1), counts; the frames |
//!
//! | to the node | octets, filled up to a multiple of 14, the part of a 16550 that interrupts as a whole |
//! |---|---|
//! | hello | 1, then its place and the times of the mesh |
//! | step | 2, flags, number of frames, 1 + a leaf that is gone or 0, time (8); the frames |

use crate::Pace;
use crate::node::Times;
use crate::router::{FRAME_BYTES, Frame};

/// Octets that come to a node together.
pub const BLOCK_BYTES: usize = 14;
/// Octets of a greeting.
pub const HELLO_BYTES: usize = 5 * BLOCK_BYTES;
/// Octets of a step before its frames.
pub const STEP_HEAD_BYTES: usize = 12;
/// Frames of a message at most.
pub const MAX_FRAMES: usize = 16;
/// A node has booted.
pub const READY: u8 = 1;
/// Something came from elsewhere.
pub const NEWS: u8 = 2;
const HELLO: u8 = 1;
const STEP: u8 = 2;
const DONE: u8 = 0x80;
/// No next step.
const NEVER: u32 = u32::MAX;

/// A node's place in its mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Its number; the gateway has 0.
    pub node: u8,
    /// Leaves of the mesh.
    pub leaves: u8,
    /// Number of its life.
    pub epoch: u8,
    /// Port at which the gateway serves leaf 0; the others follow.
    pub first_port: u16,
    /// Seed of its chances.
    pub seed: u64,
    /// Time now.
    pub now_us: u64,
    /// Times of the mesh.
    pub times: Times,
}

impl Hello {
    /// Writes it.
    pub fn emit(&self) -> [u8; HELLO_BYTES] {
        let mut bytes = [0; HELLO_BYTES];
        let pace = &self.times.pace;
        let small = [
            HELLO,
            self.node,
            self.leaves,
            self.epoch,
            self.times.hops,
            pace.credit,
            pace.tries,
        ];
        bytes[..7].copy_from_slice(&small);
        bytes[7..9].copy_from_slice(&self.first_port.to_be_bytes());
        bytes[9..13].copy_from_slice(&self.times.listen_ms.to_be_bytes());
        bytes[13..17].copy_from_slice(&self.times.spread_us.to_be_bytes());
        let long = [
            self.seed,
            self.now_us,
            pace.packet_us,
            pace.reply_us,
            pace.poll_us,
        ];
        for (place, number) in bytes[17..].chunks_exact_mut(8).zip(long) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    /// Reads it; `None` if it is none.
    pub fn parse(bytes: &[u8; HELLO_BYTES]) -> Option<Self> {
        let &[HELLO, node, leaves, epoch, hops, credit, tries, ..] = bytes else {
            return None;
        };
        let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        Some(Self {
            node,
            leaves,
            epoch,
            first_port: u16::from_be_bytes([bytes[7], bytes[8]]),
            seed: long(17)?,
            now_us: long(25)?,
            times: Times {
                listen_ms: word(9)?,
                spread_us: word(13)?,
                hops,
                pace: Pace {
                    packet_us: long(33)?,
                    reply_us: long(41)?,
                    poll_us: long(49)?,
                    credit,
                    tries,
                },
            },
        })
    }
}

/// Time for a node, and what it hears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The time.
    pub now_us: u64,
    /// Requests of the aggregator wait.
    pub holds: bool,
    /// The node is to tell its counts.
    pub counts: bool,
    /// Leaf that is gone: the gateway drops what was on its way for it.
    pub gone: Option<u8>,
    /// Frames that follow.
    pub frames: u8,
}

impl Step {
    /// Octets of it with its frames.
    pub fn total_bytes(&self) -> usize {
        let bytes = STEP_HEAD_BYTES + usize::from(self.frames) * FRAME_BYTES;
        bytes.next_multiple_of(BLOCK_BYTES)
    }

    /// Writes what stands before its frames.
    pub fn emit(&self) -> [u8; STEP_HEAD_BYTES] {
        let mut bytes = [0; STEP_HEAD_BYTES];
        let flags = u8::from(self.holds) | u8::from(self.counts) << 1;
        let gone = self.gone.map_or(0, |leaf| leaf.saturating_add(1));
        bytes[..4].copy_from_slice(&[STEP, flags, self.frames, gone]);
        bytes[4..].copy_from_slice(&self.now_us.to_be_bytes());
        bytes
    }

    /// Reads what stands before its frames; `None` if it is none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let &[STEP, flags, frames, gone, ref time @ ..] = bytes.get(..STEP_HEAD_BYTES)? else {
            return None;
        };
        (usize::from(frames) <= MAX_FRAMES).then_some(Self {
            now_us: u64::from_be_bytes(time.try_into().ok()?),
            holds: flags & 1 != 0,
            counts: flags & 2 != 0,
            gone: gone.checked_sub(1),
            frames,
        })
    }
}

/// Counts of a node since it booted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets of its own transfers.
    pub packets: u32,
    /// Tiles that it sent again; on a gateway, to the leaf whose message has come.
    pub again: u32,
    /// Packets lost since a queue was full.
    pub dropped: u32,
    /// On a gateway, of the leaf whose message has come: sum of the hops of its packets, and their number.
    pub hops: [u32; 2],
}

/// A node's answer to a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Time at which it wants its next step; `u64::MAX` if nothing but a frame concerns it.
    pub wake_us: u64,
    /// Messages of it are on their way.
    pub is_busy: bool,
    /// Time at which its user wants to go on by itself.
    pub due_us: Option<u64>,
    /// On a gateway, requests of the aggregator that wait.
    pub waiting: Option<u8>,
    /// On a gateway, a leaf whose message has come and goes on with the next step.
    pub came: Option<u8>,
    /// Its counts, if it was asked.
    pub counts: Option<Counts>,
    /// Frames that follow.
    pub frames: u8,
}

const BUSY: u8 = 1;
const DUE: u8 = 2;
const WAITING: u8 = 4;
const CAME: u8 = 8;
const COUNTS: u8 = 16;
/// Octets of the longest answer before its frames.
pub const DONE_BYTES: usize = 6 + 4 + 1 + 1 + 20;

/// Octets that are no [`Done`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotDone;

impl Done {
    /// Writes what stands before its frames; returns its length too.
    pub fn emit(&self, now_us: u64) -> ([u8; DONE_BYTES], usize) {
        let mut bytes = [0; DONE_BYTES];
        let mut at = 0;
        let mut put = |octets: &[u8]| {
            bytes[at..at + octets.len()].copy_from_slice(octets);
            at += octets.len();
        };
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let flags = flag(self.is_busy, BUSY)
            | flag(self.due_us.is_some(), DUE)
            | flag(self.waiting.is_some(), WAITING)
            | flag(self.came.is_some(), CAME)
            | flag(self.counts.is_some(), COUNTS);
        put(&[DONE | flags, self.frames]);
        // A step too early does no harm.
        let until = |at_us: u64| u32::try_from(at_us.saturating_sub(now_us)).unwrap_or(u32::MAX);
        let wake = match self.wake_us {
            u64::MAX => NEVER,
            wake_us => until(wake_us).min(NEVER - 1),
        };
        put(&wake.to_be_bytes());
        if let Some(due_us) = self.due_us {
            put(&until(due_us).to_be_bytes());
        }
        self.waiting.iter().for_each(|count| put(&[*count]));
        self.came.iter().for_each(|leaf| put(&[*leaf]));
        if let Some(counts) = self.counts {
            let [sum, count] = counts.hops;
            for number in [counts.packets, counts.again, counts.dropped, sum, count] {
                put(&number.to_be_bytes());
            }
        }
        (bytes, at)
    }

    /// Reads what stands before its frames, and tells its length; `Ok(None)` until it is whole.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(bytes: &[u8], now_us: u64) -> Result<Option<(Self, usize)>, NotDone> {
        let Some(&flags) = bytes.first() else {
            return Ok(None);
        };
        if flags & !(BUSY | DUE | WAITING | CAME | COUNTS) != DONE {
            return Err(NotDone);
        }
        match Self::fields(flags, bytes, now_us) {
            Some((done, _)) if usize::from(done.frames) > MAX_FRAMES => Err(NotDone),
            read => Ok(read),
        }
    }

    fn fields(flags: u8, bytes: &[u8], now_us: u64) -> Option<(Self, usize)> {
        let mut reader = Reader { bytes, at: 1 };
        let frames = reader.octet()?;
        let time = |us: u32| now_us.saturating_add(us.into());
        let wake = reader.word()?;
        let due_us = if flags & DUE != 0 {
            Some(time(reader.word()?))
        } else {
            None
        };
        let waiting = if flags & WAITING != 0 {
            Some(reader.octet()?)
        } else {
            None
        };
        let came = if flags & CAME != 0 {
            Some(reader.octet()?)
        } else {
            None
        };
        let counts = if flags & COUNTS != 0 {
            Some(Counts {
                packets: reader.word()?,
                again: reader.word()?,
                dropped: reader.word()?,
                hops: [reader.word()?, reader.word()?],
            })
        } else {
            None
        };
        let done = Self {
            wake_us: if wake == NEVER { u64::MAX } else { time(wake) },
            is_busy: flags & BUSY != 0,
            due_us,
            waiting,
            came,
            counts,
            frames,
        };
        Some((done, reader.at))
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn octet(&mut self) -> Option<u8> {
        let octet = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(octet)
    }

    fn word(&mut self) -> Option<u32> {
        let octets = self.bytes.get(self.at..self.at + 4)?;
        self.at += 4;
        Some(u32::from_be_bytes(octets.try_into().ok()?))
    }
}

/// The frames in octets of a message; what is no whole frame is left out.
pub fn frames(bytes: &[u8]) -> impl Iterator<Item = Frame> + '_ {
    let whole = bytes.chunks_exact(FRAME_BYTES);
    whole.filter_map(|octets| Frame::from_slice(octets).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times {
        listen_ms: 31,
        spread_us: 117_336,
        hops: 5,
        pace: Pace {
            packet_us: 177_670,
            reply_us: 1_400_000,
            poll_us: 18_000_000_000,
            credit: 32,
            tries: 16,
        },
    };

    #[test]
    fn what_a_line_carries_is_read_as_it_was_written() {
        let hello = Hello {
            node: 3,
            leaves: 12,
            epoch: 7,
            first_port: 8000,
            seed: u64::MAX - 5,
            now_us: 1 << 40,
            times: TIMES,
        };
        assert_eq!(Hello::parse(&hello.emit()), Some(hello));
        let step = Step {
            now_us: 123_456_789_012,
            holds: true,
            counts: false,
            gone: Some(11),
            frames: 2,
        };
        assert_eq!(Step::parse(&step.emit()), Some(step));
        assert_eq!(step.total_bytes(), 98);
        let done = Done {
            wake_us: 5_000_000,
            is_busy: true,
            due_us: Some(9_000_000),
            waiting: Some(3),
            came: Some(11),
            counts: Some(Counts {
                packets: 1,
                again: 2,
                dropped: 3,
                hops: [4, 5],
            }),
            frames: 1,
        };
        for done in [
            done,
            Done {
                wake_us: u64::MAX,
                ..Done::default()
            },
        ] {
            let (bytes, length) = done.emit(1_000_000);
            for part in 0..length {
                assert_eq!(Done::parse(&bytes[..part], 1_000_000), Ok(None));
            }
            assert_eq!(Done::parse(&bytes, 1_000_000), Ok(Some((done, length))));
        }
    }

    #[test]
    fn what_no_node_says_is_refused() {
        assert_eq!(Done::parse(&[7], 0), Err(NotDone));
        assert_eq!(Done::parse(&[DONE | 0x40, 0, 0, 0, 0, 0], 0), Err(NotDone));
        assert_eq!(Done::parse(&[DONE, 17, 0, 0, 0, 0], 0), Err(NotDone));
        assert_eq!(Step::parse(&[STEP, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(Step::parse(&[HELLO; STEP_HEAD_BYTES]), None);
    }
}
