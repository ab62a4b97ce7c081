//! A message in memory, whole.

use super::{HEAD_LEN, Head, Kind, MAX_SECTIONS, MessageError, SECTION_HEADER_LEN, SectionHeader};
use crate::codec::Decoder;

/// A message whose lengths and checksums are right.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// Direction.
    pub kind: Kind,
    /// The control message, JSON, as yet unread.
    pub control: &'a [u8],
    /// The sections, in the order of the body.
    pub sections: heapless::Vec<Section<'a>, MAX_SECTIONS>,
}

/// A section whose checksum is right.
#[derive(Clone, Debug)]
pub struct Section<'a> {
    /// The checked header.
    pub header: SectionHeader,
    payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads a body, all of it.
    ///
    /// # Errors
    /// Every [`MessageError`]; nothing comes out of a body that is damaged anywhere.
    pub fn parse(body: &'a [u8]) -> Result<Self, MessageError> {
        let (head, rest) = body
            .split_first_chunk::<HEAD_LEN>()
            .ok_or(MessageError::Truncated)?;
        let head = Head::parse(head)?;
        let (control, mut rest) = rest
            .split_at_checked(head.control_len.into())
            .ok_or(MessageError::Truncated)?;
        let mut checksum = head.checksum();
        checksum.update(control);
        checksum.check(head.crc)?;
        let mut sections = heapless::Vec::<Section<'a>, MAX_SECTIONS>::new();
        for _ in 0..head.sections {
            let (section, behind) = Section::parse(rest)?;
            rest = behind;
            let name = &section.header.name;
            if sections.iter().any(|other| other.header.name == *name) {
                return Err(MessageError::Twice(name.clone()));
            }
            let full = |_| MessageError::TooManySections(head.sections.into());
            sections.push(section).map_err(full)?;
        }
        if !rest.is_empty() {
            return Err(MessageError::TooLong);
        }
        let kind = head.kind;
        Ok(Self {
            kind,
            control,
            sections,
        })
    }

    /// The section of a name.
    pub fn section(&self, name: &str) -> Option<&Section<'a>> {
        let mut sections = self.sections.iter();
        sections.find(|section| section.header.name == name)
    }
}

impl<'a> Section<'a> {
    fn parse(octets: &'a [u8]) -> Result<(Self, &'a [u8]), MessageError> {
        let (header, rest) = octets
            .split_first_chunk::<SECTION_HEADER_LEN>()
            .ok_or(MessageError::Truncated)?;
        let header = SectionHeader::parse(header)?;
        let (payload, rest) = rest
            .split_at_checked(header.octets as usize)
            .ok_or(MessageError::Truncated)?;
        let mut checksum = header.checksum();
        checksum.update(payload);
        checksum.check(header.crc)?;
        Ok((Self { header, payload }, rest))
    }

    /// The section as it came, header and payload.
    #[cfg(feature = "alloc")]
    pub fn octets(&self) -> alloc::vec::Vec<u8> {
        [&self.header.emit()[..], self.payload].concat()
    }

    /// Decodes the numbers into a buffer of exactly their count; `false` if the codec cannot read them.
    #[must_use]
    pub fn decode_into(&self, numbers: &mut [f32]) -> bool {
        let mut decoder = Decoder::new(self.header.codec);
        numbers.len() == self.header.count as usize
            && decoder.push(self.payload, numbers)
            && decoder.is_complete(numbers.len())
    }

    /// The numbers.
    ///
    /// # Errors
    /// [`MessageError::Payload`] if the codec cannot read them.
    #[cfg(feature = "alloc")]
    pub fn numbers(&self) -> Result<alloc::vec::Vec<f32>, MessageError> {
        let mut numbers = alloc::vec![0.0; self.header.count as usize];
        match self.decode_into(&mut numbers) {
            true => Ok(numbers),
            false => Err(MessageError::Payload),
        }
    }
}

/// Writes head and control message: what differs from client to client.
///
/// # Errors
/// As [`Head::new`].
#[cfg(feature = "alloc")]
pub fn encode_head(
    kind: Kind,
    sections: usize,
    control: &[u8],
) -> Result<alloc::vec::Vec<u8>, MessageError> {
    let head = Head::new(kind, sections, control)?;
    Ok([&head.emit()[..], control].concat())
}

/// Writes one section, header and payload: what a cohort shares.
///
/// # Errors
/// As [`SectionHeader::new`].
#[cfg(feature = "alloc")]
pub fn encode_section(section: &super::Outgoing<'_>) -> Result<alloc::vec::Vec<u8>, MessageError> {
    let header = SectionHeader::new(section.name, section.codec, &section.plan, section.numbers)?;
    let mut octets = alloc::vec![0; SECTION_HEADER_LEN + header.octets as usize];
    let (head, mut payload) = octets.split_at_mut(SECTION_HEADER_LEN);
    head.copy_from_slice(&header.emit());
    let mut encoder = crate::codec::Encoder::new(section.codec);
    loop {
        match encoder.fill(&section.plan, section.numbers, payload) {
            0 => return Ok(octets),
            n => payload = &mut payload[n..],
        }
    }
}

/// Writes a whole message.
///
/// # Errors
/// As [`encode_head`] and [`encode_section`].
#[cfg(feature = "alloc")]
pub fn encode(
    kind: Kind,
    control: &[u8],
    sections: &[super::Outgoing<'_>],
) -> Result<alloc::vec::Vec<u8>, MessageError> {
    let mut body = encode_head(kind, sections.len(), control)?;
    for section in sections {
        body.extend(encode_section(section)?);
    }
    Ok(body)
}
