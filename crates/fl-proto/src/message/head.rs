//! The head of a message.

use super::{Checksum, MAX_SECTIONS, MessageError, VERSION};
use crate::MAX_CONTROL_BYTES;

/// Length of the head in octets.
pub const HEAD_LEN: usize = 16;

const MAGIC: [u8; 4] = *b"zflw";

/// Octets of the head that its checksum is over.
const CHECKED: usize = 12;

/// Direction of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Down: train on this.
    Start,
    /// Up: trained.
    Results,
}

/// A checked head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Direction of the message.
    pub kind: Kind,
    /// Sections behind the control message.
    pub sections: u8,
    /// Octets of the control message.
    pub control_len: u16,
    /// Checksum of head and control message.
    pub(super) crc: u32,
}

impl Head {
    /// Makes the head of a message, its checksum included.
    ///
    /// # Errors
    /// Control message or number of sections beyond the bounds.
    pub fn new(kind: Kind, sections: usize, control: &[u8]) -> Result<Self, MessageError> {
        let mut head = Self {
            kind,
            sections: u8::try_from(sections)
                .map_err(|_| MessageError::TooManySections(sections))?,
            control_len: u16::try_from(control.len())
                .map_err(|_| MessageError::ControlTooLong(control.len()))?,
            crc: 0,
        }
        .within_bounds()?;
        let mut checksum = head.checksum();
        checksum.update(control);
        head.crc = checksum.finish();
        Ok(head)
    }

    fn within_bounds(self) -> Result<Self, MessageError> {
        match usize::from(self.control_len) {
            0 => return Err(MessageError::NoControl),
            n if n > MAX_CONTROL_BYTES => return Err(MessageError::ControlTooLong(n)),
            _ => {}
        }
        if usize::from(self.sections) > MAX_SECTIONS {
            return Err(MessageError::TooManySections(self.sections.into()));
        }
        Ok(self)
    }

    /// Reads a head; its checksum is over the control message too and is not checked here.
    ///
    /// # Errors
    /// A field that is wrong or beyond its bounds.
    pub fn parse(octets: &[u8; HEAD_LEN]) -> Result<Self, MessageError> {
        let [m0, m1, m2, m3, version, kind, sections, zero, rest @ ..] = *octets;
        let [c0, c1, z0, z1, k0, k1, k2, k3] = rest;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(MessageError::Magic);
        }
        if version != VERSION {
            return Err(MessageError::Version(version));
        }
        let kind = match kind {
            0 => Kind::Start,
            1 => Kind::Results,
            other => return Err(MessageError::UnknownKind(other)),
        };
        if [zero, z0, z1] != [0; 3] {
            return Err(MessageError::Reserved);
        }
        Self {
            kind,
            sections,
            control_len: u16::from_le_bytes([c0, c1]),
            crc: u32::from_le_bytes([k0, k1, k2, k3]),
        }
        .within_bounds()
    }

    /// The head's octets.
    pub fn emit(&self) -> [u8; HEAD_LEN] {
        let mut octets = [0; HEAD_LEN];
        octets[0..4].copy_from_slice(&MAGIC);
        octets[4] = VERSION;
        octets[5] = match self.kind {
            Kind::Start => 0,
            Kind::Results => 1,
        };
        octets[6] = self.sections;
        octets[8..10].copy_from_slice(&self.control_len.to_le_bytes());
        octets[CHECKED..].copy_from_slice(&self.crc.to_le_bytes());
        octets
    }

    /// A checksum that has seen the head and waits for the control message.
    pub(super) fn checksum(&self) -> Checksum {
        Checksum::of(&self.emit()[..CHECKED])
    }
}
