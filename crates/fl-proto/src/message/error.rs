//! Reasons to refuse a message.

use super::{HEAD_LEN, Kind, MAX_SECTIONS, SectionName, VERSION};
use crate::{MAX_CONTROL_BYTES, MAX_PARAMS};
use core::fmt;

/// Reason to refuse a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// The first four octets are not `zflw`.
    Magic,
    /// A version that this side does not speak.
    Version(u8),
    /// Neither start nor results.
    UnknownKind(u8),
    /// The other kind than is taken here.
    Kind(Kind),
    /// A reserved octet is not 0.
    Reserved,
    /// No control message.
    NoControl,
    /// A control message longer than [`MAX_CONTROL_BYTES`].
    ControlTooLong(usize),
    /// More sections than [`MAX_SECTIONS`].
    TooManySections(usize),
    /// A section's name that is no name.
    Name,
    /// Two sections of one name.
    Twice(SectionName),
    /// A codec that this side does not speak.
    Codec(u8),
    /// More numbers than [`MAX_PARAMS`].
    TooManyNumbers(u32),
    /// A payload that is not as long as its codec makes it.
    Octets {
        /// By the codec.
        expected: u64,
        /// By the header.
        actual: u32,
    },
    /// A payload that its codec cannot read.
    Payload,
    /// The body ends too early.
    Truncated,
    /// Octets behind the last section.
    TooLong,
    /// The checksum does not fit: the body was damaged on the way.
    Checksum {
        /// By the header.
        expected: u32,
        /// By the octets.
        actual: u32,
    },
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => write!(f, "not a zfl message: the magic bytes are missing"),
            Self::Version(v) => write!(f, "message version {v}, this side speaks {VERSION}"),
            Self::UnknownKind(kind) => write!(f, "unknown kind of message {kind}"),
            Self::Kind(kind) => write!(f, "a message of kind {kind:?} is not taken here"),
            Self::Reserved => write!(f, "a reserved byte is not 0"),
            Self::NoControl => write!(f, "the control message is missing"),
            Self::ControlTooLong(n) => write!(
                f,
                "control message of {n} bytes, at most {MAX_CONTROL_BYTES} are taken"
            ),
            Self::TooManySections(n) => {
                write!(f, "{n} sections, at most {MAX_SECTIONS} are taken")
            }
            Self::Name => write!(f, "a section's name is not 1 to 16 of a-z 0-9 _"),
            Self::Twice(name) => write!(f, "section {name} is there twice"),
            Self::Codec(code) => write!(f, "unknown codec {code}"),
            Self::TooManyNumbers(n) => write!(f, "{n} numbers, at most {MAX_PARAMS} are taken"),
            Self::Octets { expected, actual } => {
                write!(f, "a payload of {actual} bytes, its codec makes {expected}")
            }
            Self::Payload => write!(f, "a payload is malformed"),
            Self::Truncated => write!(f, "the body is cut off (a head has {HEAD_LEN} bytes)"),
            Self::TooLong => write!(f, "bytes behind the last section"),
            Self::Checksum { expected, actual } => write!(
                f,
                "damaged on the way: CRC-32 {actual:08x}, its header says {expected:08x}"
            ),
        }
    }
}

impl core::error::Error for MessageError {}
