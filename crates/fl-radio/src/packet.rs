//! The packets of a transfer: 32 octets each, the payload of a packet of the mesh.
//!
//! Every packet ends in a CRC-16, since a mesh's own checksum can be as weak as one octet. Shorter ones are
//! filled with zeros: `embedded-nano-mesh` sends packets of one length and does not tell how much was filled.

use crc::{CRC_16_IBM_3740, Crc, NoTable};

/// Octets of a packet.
pub const PACKET_BYTES: usize = 32;

/// Octets of a tile: a packet less its head (2), the place of the tile (2) and the checksum (2).
pub const TILE_BYTES: usize = PACKET_BYTES - 6;

/// Tiles of a window.
pub const WINDOW_TILES: usize = 64;

/// Windows of a message at most.
pub(crate) const MAX_WINDOWS: usize = 32;

/// Octets of the longest message that can be named.
pub const MAX_MESSAGE_BYTES: usize = TILE_BYTES * WINDOW_TILES * MAX_WINDOWS;

/// Octets of the longest message of a leaf; it has memory for two.
pub const MESSAGE_BYTES: usize = 16 * 1024;

/// Bitmaps in an ACK at most, as in the compound ACK of RFC 9441.
pub(crate) const ACK_WINDOWS: usize = 2;

/// A packet as it is sent.
pub type PacketBytes = [u8; PACKET_BYTES];

static CRC: Crc<u16, NoTable> = Crc::<u16, NoTable>::new(&CRC_16_IBM_3740);

/// The number of the message that a packet belongs to, 5 bits.
const TAG_MASK: u8 = 0x1f;
/// The place of a tile: 6 bits of window (W) and 6 of tile (FCN).
const PLACE_MASK: u16 = 0x0fff;
/// All-1: the last tile that was granted.
const LAST: u16 = 0x8000;
/// The message has come as a whole.
const COMPLETE: u8 = 0x80;

/// Name of a message by its content.
pub use crate::assembly::Name;

/// Start of every packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Number that a leaf draws when it boots.
    pub epoch: u8,
    /// Number of the message in its direction, below 32.
    pub tag: u8,
}

impl Head {
    /// Tag of the message that follows.
    pub(crate) fn next_tag(tag: u8) -> u8 {
        tag.wrapping_add(1) & TAG_MASK
    }
}

/// Bitmaps of what has come, and a grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// Tiles that the sender may send now, below 128.
    pub credit: u8,
    /// The message has come as a whole and is right.
    pub complete: bool,
    /// The first window that lacks a tile.
    pub window: u8,
    /// Bitmaps of it and of the next; bit `n` is tile `n`. What lies behind the message counts as come.
    pub bitmaps: [u64; ACK_WINDOWS],
}

/// Reason why a message cannot be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is longer than the receiver's memory.
    TooLong,
    /// It came as a whole again and again, and was never right.
    Damaged,
    /// The leaf heard nothing for all its tries.
    Silent,
    /// The sender has no such message any more.
    Withdrawn,
}

/// Content of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A leaf asks for what there is for it.
    Poll,
    /// There is nothing now, or no time for it: ask again.
    Idle {
        /// In tenths of a second.
        wait_ds: u16,
    },
    /// A message that waits to be sent.
    Offer {
        /// Its length and CRC-32.
        name: Name,
        /// A mark for the user of the transport.
        label: u8,
    },
    /// One tile of a message.
    Fragment {
        /// Its number in the message.
        tile: u16,
        /// The last one that was granted.
        last: bool,
        /// 26 of them, the rest of a message with zeros behind it.
        octets: &'a [u8],
    },
    /// Tiles that have come.
    Ack(Ack),
    /// The message will not be delivered.
    Abort(Reason),
}

const POLL: u8 = 0;
const IDLE: u8 = 1;
const OFFER: u8 = 2;
const FRAGMENT: u8 = 3;
const ACK: u8 = 4;
const ABORT: u8 = 5;

impl<'a> Packet<'a> {
    /// Reads a packet; `None` if it is damaged or none.
    pub fn parse(bytes: &'a [u8]) -> Option<(Head, Self)> {
        let bytes: &PacketBytes = bytes.try_into().ok()?;
        let (content, checksum) = bytes.split_last_chunk::<2>()?;
        if CRC.checksum(content) != u16::from_be_bytes(*checksum) {
            return None;
        }
        let (&[first, epoch], body) = content.split_first_chunk::<2>()?;
        let tag = first & TAG_MASK;
        Some((Head { epoch, tag }, Self::body(first >> 5, body)?))
    }

    fn body(kind: u8, body: &'a [u8]) -> Option<Self> {
        Some(match (kind, body) {
            (POLL, _) => Self::Poll,
            (IDLE, &[high, low, ..]) => Self::Idle {
                wait_ds: u16::from_be_bytes([high, low]),
            },
            (OFFER, &[a, b, c, d, e, f, g, label, ..]) => Self::Offer {
                name: Name {
                    length: u32::from_be_bytes([0, a, b, c]),
                    crc: u32::from_be_bytes([d, e, f, g]),
                },
                label,
            },
            (FRAGMENT, &[high, low, ref octets @ ..]) => {
                let place = u16::from_be_bytes([high, low]);
                Self::Fragment {
                    tile: place & PLACE_MASK,
                    last: place & LAST != 0,
                    octets,
                }
            }
            (ACK, &[credit, window, ref bitmaps @ ..]) => {
                let (&[first, second, ..], _) = bitmaps.as_chunks::<8>() else {
                    return None;
                };
                Self::Ack(Ack {
                    credit: credit & !COMPLETE,
                    complete: credit & COMPLETE != 0,
                    window,
                    bitmaps: [first, second].map(u64::from_be_bytes),
                })
            }
            (ABORT, &[reason, ..]) => Self::Abort(Reason::of(reason)?),
            _ => return None,
        })
    }

    /// Writes a packet. A fragment of more octets than a tile is cut.
    pub fn emit(&self, head: Head) -> PacketBytes {
        let mut bytes = [0; PACKET_BYTES];
        let (content, checksum) = bytes.split_at_mut(PACKET_BYTES - 2);
        let mut at = 0;
        // Nothing below is longer than a packet.
        let mut put = |octets: &[u8]| {
            content[at..at + octets.len()].copy_from_slice(octets);
            at += octets.len();
        };
        put(&[self.kind() << 5 | head.tag & TAG_MASK, head.epoch]);
        match self {
            Self::Poll => {}
            Self::Idle { wait_ds } => put(&wait_ds.to_be_bytes()),
            Self::Offer { name, label } => {
                put(&name.length.to_be_bytes()[1..]);
                put(&name.crc.to_be_bytes());
                put(&[*label]);
            }
            Self::Fragment { tile, last, octets } => {
                let last = if *last { LAST } else { 0 };
                put(&(tile & PLACE_MASK | last).to_be_bytes());
                put(&octets[..octets.len().min(TILE_BYTES)]);
            }
            Self::Ack(ack) => {
                let complete = if ack.complete { COMPLETE } else { 0 };
                put(&[ack.credit & !COMPLETE | complete, ack.window]);
                ack.bitmaps.iter().for_each(|bits| put(&bits.to_be_bytes()));
            }
            Self::Abort(reason) => put(&[*reason as u8]),
        }
        checksum.copy_from_slice(&CRC.checksum(content).to_be_bytes());
        bytes
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Poll => POLL,
            Self::Idle { .. } => IDLE,
            Self::Offer { .. } => OFFER,
            Self::Fragment { .. } => FRAGMENT,
            Self::Ack(_) => ACK,
            Self::Abort(_) => ABORT,
        }
    }
}

impl Reason {
    fn of(number: u8) -> Option<Self> {
        [Self::TooLong, Self::Damaged, Self::Silent, Self::Withdrawn]
            .into_iter()
            .find(|reason| *reason as u8 == number)
    }
}

impl core::fmt::Display for Reason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::TooLong => {
                "the message is longer than the other side's memory: send a smaller model"
            }
            Self::Damaged => "the message came damaged again and again",
            Self::Silent => "nothing was heard",
            Self::Withdrawn => "the message was withdrawn",
        })
    }
}
