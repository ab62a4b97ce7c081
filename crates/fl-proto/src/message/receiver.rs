//! A message taken in as it arrives, in bounded memory.

use super::{Checksum, HEAD_LEN, Head, Kind, MessageError, SECTION_HEADER_LEN, SectionHeader};
use crate::MAX_CONTROL_BYTES;
use crate::codec::Decoder;

/// Taker of the parts of a message.
pub trait Sink {
    /// Reason to refuse the message.
    type Refusal: From<MessageError>;

    /// Takes the control message, whose checksum is right; `sections` are to come.
    ///
    /// # Errors
    /// A refusal ends the message.
    fn control(&mut self, control: &[u8], sections: u8) -> Result<(), Self::Refusal>;

    /// The buffer of a section, [`SectionHeader::count`] long; asked for at the header and at each
    /// piece of the payload. Its contents count only after [`Sink::complete`].
    ///
    /// # Errors
    /// A refusal ends the message: a section that is not wanted, of another length or there twice.
    fn buffer(&mut self, header: &SectionHeader) -> Result<&mut [f32], Self::Refusal>;

    /// A section is whole, and its checksum is right.
    ///
    /// # Errors
    /// A refusal ends the message.
    fn complete(&mut self, header: &SectionHeader) -> Result<(), Self::Refusal>;
}

/// A message on its way in.
#[derive(Debug)]
pub struct Receiver {
    kind: Kind,
    /// Octets of the body to come.
    remaining: u64,
    /// Sections to come, the one at hand included.
    sections: u8,
    stage: Stage,
}

#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a control message stays off the heap, which may be full"
)]
enum Stage {
    Head(heapless::Vec<u8, HEAD_LEN>),
    Control {
        head: Head,
        control: heapless::Vec<u8, MAX_CONTROL_BYTES>,
    },
    Header(heapless::Vec<u8, SECTION_HEADER_LEN>),
    Payload(Payload),
}

#[derive(Debug)]
struct Payload {
    header: SectionHeader,
    checksum: Checksum,
    decoder: Decoder,
    /// Octets to come.
    remaining: u32,
}

impl core::fmt::Debug for Checksum {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Checksum")
    }
}

impl Receiver {
    /// A message of that kind and length, of which nothing has come.
    pub fn new(kind: Kind, body_len: u64) -> Self {
        Self {
            kind,
            remaining: body_len,
            sections: 0,
            stage: Stage::Head(heapless::Vec::new()),
        }
    }

    /// Octets of the body to come.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Takes in the next piece.
    ///
    /// # Errors
    /// A [`MessageError`], or what the sink refuses. The message is then over.
    pub fn push<S: Sink>(&mut self, mut octets: &[u8], sink: &mut S) -> Result<(), S::Refusal> {
        self.remaining = self
            .remaining
            .checked_sub(octets.len() as u64)
            .ok_or(MessageError::TooLong)?;
        while !octets.is_empty() {
            octets = self.push_some(octets, sink)?;
        }
        Ok(())
    }

    /// Takes in octets up to the end of the part at hand, returns the rest.
    fn push_some<'a, S: Sink>(
        &mut self,
        octets: &'a [u8],
        sink: &mut S,
    ) -> Result<&'a [u8], S::Refusal> {
        match &mut self.stage {
            Stage::Head(head) => {
                let rest = fill(head, HEAD_LEN, octets);
                if let Some(head) = head.first_chunk() {
                    let head = Head::parse(head)?;
                    if head.kind != self.kind {
                        return Err(MessageError::Kind(head.kind).into());
                    }
                    let control = heapless::Vec::new();
                    self.stage = Stage::Control { head, control };
                }
                Ok(rest)
            }
            Stage::Control { head, control } => {
                let wanted = usize::from(head.control_len);
                let rest = fill(control, wanted, octets);
                if control.len() == wanted {
                    let mut checksum = head.checksum();
                    checksum.update(control);
                    checksum.check(head.crc)?;
                    self.sections = head.sections;
                    sink.control(control, head.sections)?;
                    self.stage = Stage::Header(heapless::Vec::new());
                }
                Ok(rest)
            }
            Stage::Header(_) if self.sections == 0 => Err(MessageError::TooLong.into()),
            Stage::Header(header) => {
                let rest = fill(header, SECTION_HEADER_LEN, octets);
                if let Some(header) = header.first_chunk() {
                    let header = SectionHeader::parse(header)?;
                    let behind = rest.len() as u64 + self.remaining;
                    self.begin(header, behind, sink)?;
                }
                Ok(rest)
            }
            Stage::Payload(payload) => {
                let rest = payload.push(octets, sink)?;
                self.end_if_whole(sink)?;
                Ok(rest)
            }
        }
    }

    /// Begins on a payload; `behind` octets of the body are left.
    fn begin<S: Sink>(
        &mut self,
        header: SectionHeader,
        behind: u64,
        sink: &mut S,
    ) -> Result<(), S::Refusal> {
        if u64::from(header.octets) > behind {
            return Err(MessageError::Truncated.into());
        }
        sink.buffer(&header)?;
        self.stage = Stage::Payload(Payload {
            checksum: header.checksum(),
            decoder: Decoder::new(header.codec),
            remaining: header.octets,
            header,
        });
        self.end_if_whole(sink)
    }

    fn end_if_whole<S: Sink>(&mut self, sink: &mut S) -> Result<(), S::Refusal> {
        let Stage::Payload(payload) = &mut self.stage else {
            return Ok(());
        };
        if payload.remaining > 0 {
            return Ok(());
        }
        payload.check()?;
        sink.complete(&payload.header)?;
        self.sections -= 1;
        self.stage = Stage::Header(heapless::Vec::new());
        Ok(())
    }

    /// Checks that the message is whole.
    ///
    /// # Errors
    /// [`MessageError::Truncated`].
    pub fn finish(&self) -> Result<(), MessageError> {
        match &self.stage {
            Stage::Header(header)
                if self.sections == 0 && header.is_empty() && self.remaining == 0 =>
            {
                Ok(())
            }
            _ => Err(MessageError::Truncated),
        }
    }
}

impl Payload {
    fn push<'a, S: Sink>(
        &mut self,
        octets: &'a [u8],
        sink: &mut S,
    ) -> Result<&'a [u8], S::Refusal> {
        let (now, rest) = octets.split_at(octets.len().min(self.remaining as usize));
        self.remaining -= now.len() as u32;
        self.checksum.update(now);
        let numbers = sink.buffer(&self.header)?;
        if !self.decoder.push(now, numbers) {
            return Err(MessageError::Payload.into());
        }
        Ok(rest)
    }

    fn check(&self) -> Result<(), MessageError> {
        if !self.decoder.is_complete(self.header.count as usize) {
            return Err(MessageError::Payload);
        }
        self.checksum.clone().check(self.header.crc)
    }
}

/// Moves octets into `part` until it has `wanted` of them; returns the rest.
fn fill<'a, const N: usize>(
    part: &mut heapless::Vec<u8, N>,
    wanted: usize,
    octets: &'a [u8],
) -> &'a [u8] {
    let missing = wanted.saturating_sub(part.len());
    let (now, rest) = octets.split_at(octets.len().min(missing));
    // Never fails: `wanted` is at most N, as the head was checked.
    let _ = part.extend_from_slice(now);
    rest
}
