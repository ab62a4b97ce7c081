//! The header of a section.

use super::{Checksum, MessageError};
use crate::MAX_PARAMS;
use crate::codec::{self, Codec, Encoder, Plan};

/// Length of a section's header in octets.
pub const SECTION_HEADER_LEN: usize = 32;

/// Octets of the header that the checksum is over.
const CHECKED: usize = 28;

/// Octets that a name has room for.
const NAME_LEN: usize = 16;

/// Name of a section: 1 to 16 of `a-z 0-9 _`.
pub type SectionName = heapless::String<NAME_LEN>;

/// A checked header of a section.
#[derive(Clone, Debug, PartialEq)]
pub struct SectionHeader {
    /// Name of the vector.
    pub name: SectionName,
    /// Encoding of the payload.
    pub codec: &'static dyn Codec,
    /// Numbers in the payload.
    pub count: u32,
    /// Octets of the payload.
    pub octets: u32,
    /// Checksum of header and payload.
    pub(super) crc: u32,
}

/// A name, if it is one.
pub fn section_name(name: &str) -> Option<SectionName> {
    let valid = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_';
    if name.is_empty() || !name.as_bytes().iter().all(valid) {
        return None;
    }
    name.try_into().ok()
}

impl SectionHeader {
    /// Makes the header of a section, its checksum included: for that the numbers are encoded once, in
    /// pieces on the stack.
    ///
    /// # Errors
    /// A name that is none, or more numbers than [`MAX_PARAMS`].
    pub fn new(
        name: &str,
        codec: &'static dyn Codec,
        plan: &Plan<'_>,
        numbers: &[f32],
    ) -> Result<Self, MessageError> {
        let count = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        let octets = codec.octets(plan, count.min(MAX_PARAMS));
        let mut header = Self {
            name: section_name(name).ok_or(MessageError::Name)?,
            codec,
            count,
            octets: u32::try_from(octets).map_err(|_| MessageError::TooManyNumbers(count))?,
            crc: 0,
        }
        .within_bounds()?;
        let (mut checksum, mut encoder) = (header.checksum(), Encoder::new(codec));
        let mut piece = [0; 256];
        loop {
            match encoder.fill(plan, numbers, &mut piece) {
                0 => break,
                n => checksum.update(&piece[..n]),
            }
        }
        header.crc = checksum.finish();
        Ok(header)
    }

    fn within_bounds(self) -> Result<Self, MessageError> {
        if self.count > MAX_PARAMS {
            return Err(MessageError::TooManyNumbers(self.count));
        }
        let (expected, actual) = (self.codec.lengths(self.count), self.octets);
        if !expected.contains(&actual.into()) {
            let expected = *expected.end();
            return Err(MessageError::Octets { expected, actual });
        }
        Ok(self)
    }

    /// Reads a header; its checksum is over the payload too and is not checked here.
    ///
    /// # Errors
    /// A field that is wrong or beyond its bounds.
    pub fn parse(octets: &[u8; SECTION_HEADER_LEN]) -> Result<Self, MessageError> {
        let (name, rest) = octets.split_at(NAME_LEN);
        let end = name.iter().position(|octet| *octet == 0);
        let (name, padding) = name.split_at(end.unwrap_or(NAME_LEN));
        if padding.iter().any(|octet| *octet != 0) {
            return Err(MessageError::Name);
        }
        let name = core::str::from_utf8(name).map_err(|_| MessageError::Name)?;
        let Some([code, z0, z1, z2, numbers @ ..]) = rest.first_chunk::<NAME_LEN>().copied() else {
            return Err(MessageError::Truncated);
        };
        if [z0, z1, z2] != [0; 3] {
            return Err(MessageError::Reserved);
        }
        let [n0, n1, n2, n3, o0, o1, o2, o3, k0, k1, k2, k3] = numbers;
        Self {
            name: section_name(name).ok_or(MessageError::Name)?,
            codec: codec::by_code(code).ok_or(MessageError::Codec(code))?,
            count: u32::from_le_bytes([n0, n1, n2, n3]),
            octets: u32::from_le_bytes([o0, o1, o2, o3]),
            crc: u32::from_le_bytes([k0, k1, k2, k3]),
        }
        .within_bounds()
    }

    /// The header's octets.
    pub fn emit(&self) -> [u8; SECTION_HEADER_LEN] {
        let mut octets = [0; SECTION_HEADER_LEN];
        octets[..self.name.len()].copy_from_slice(self.name.as_bytes());
        octets[16] = self.codec.code();
        octets[20..24].copy_from_slice(&self.count.to_le_bytes());
        octets[24..28].copy_from_slice(&self.octets.to_le_bytes());
        octets[CHECKED..].copy_from_slice(&self.crc.to_le_bytes());
        octets
    }

    /// A checksum that has seen the header and waits for the payload.
    pub(super) fn checksum(&self) -> Checksum {
        Checksum::of(&self.emit()[..CHECKED])
    }
}
