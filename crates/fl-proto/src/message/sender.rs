//! A message made as it is sent, in bounded memory.

use super::{HEAD_LEN, Head, Kind, MAX_SECTIONS, MessageError, SECTION_HEADER_LEN, SectionHeader};
use crate::codec::{Codec, Encoder, Plan};
use crate::{MAX_CONTROL_BYTES, wire_len};

/// A vector to send.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Name of the section.
    pub name: &'a str,
    /// Encoding of the payload.
    pub codec: &'static dyn Codec,
    /// Facts that the codec goes by.
    pub plan: Plan<'a>,
    /// The vector.
    pub numbers: &'a [f32],
}

impl Outgoing<'_> {
    /// Octets of the payload.
    pub fn octets(&self) -> u64 {
        let count = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        self.codec.octets(&self.plan, count)
    }
}

/// A message on its way out.
///
/// It keeps no vector: each call is given the same ones.
#[derive(Debug)]
pub struct Sender {
    body_len: u64,
    /// Head, control message or header being sent.
    small: heapless::Vec<u8, { HEAD_LEN + MAX_CONTROL_BYTES }>,
    sent: usize,
    /// The section whose payload is being sent.
    payload: Option<Encoder>,
    /// Sections begun.
    begun: usize,
}

impl Sender {
    /// Prepares a message.
    ///
    /// # Errors
    /// Whatever of it is beyond the bounds.
    pub fn new(
        kind: Kind,
        control: &[u8],
        sections: &[Outgoing<'_>],
    ) -> Result<Self, MessageError> {
        if sections.len() > MAX_SECTIONS {
            return Err(MessageError::TooManySections(sections.len()));
        }
        let head = Head::new(kind, sections.len(), control)?;
        let lens = sections.iter().map(Outgoing::octets);
        let mut small = heapless::Vec::new();
        // Never fails: the head checked the control message's length.
        let _ = small.extend_from_slice(&head.emit());
        let _ = small.extend_from_slice(control);
        Ok(Self {
            body_len: wire_len::body(control.len(), lens),
            small,
            sent: 0,
            payload: None,
            begun: 0,
        })
    }

    /// Length of the whole body in octets.
    pub fn body_len(&self) -> u64 {
        self.body_len
    }

    /// Writes the next octets into `octets`, returns their number; 0 at the end.
    ///
    /// # Errors
    /// A section that is beyond the bounds.
    pub fn fill(
        &mut self,
        sections: &[Outgoing<'_>],
        octets: &mut [u8],
    ) -> Result<usize, MessageError> {
        loop {
            let rest = self.small.get(self.sent..).unwrap_or(&[]);
            if !rest.is_empty() {
                let n = rest.len().min(octets.len());
                octets[..n].copy_from_slice(&rest[..n]);
                self.sent += n;
                return Ok(n);
            }
            if let (Some(payload), Some(section)) =
                (&mut self.payload, sections.get(self.begun.wrapping_sub(1)))
            {
                let n = payload.fill(&section.plan, section.numbers, octets);
                if n > 0 {
                    return Ok(n);
                }
            }
            let Some(section) = sections.get(self.begun) else {
                return Ok(0);
            };
            let header =
                SectionHeader::new(section.name, section.codec, &section.plan, section.numbers)?;
            let emitted: [u8; SECTION_HEADER_LEN] = header.emit();
            self.small.clear();
            let _ = self.small.extend_from_slice(&emitted);
            self.sent = 0;
            self.payload = Some(Encoder::new(section.codec));
            self.begun += 1;
        }
    }
}
