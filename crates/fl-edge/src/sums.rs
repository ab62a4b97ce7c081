//! The body of the sums, made as it is sent: a block of numbers is in memory at a time.

use alloc::vec::Vec;

use fl_algo::{ExactSum, MODEL};
use fl_proto::cluster::{CRC_AT, SUMS_HEAD, SumCodec, sum_header, sums_head};
use fl_proto::message::{Checksum, SECTION_HEADER_LEN, section_name};

/// Sums on their way up.
#[derive(Debug)]
pub(crate) struct SumsBody {
    head: [u8; SUMS_HEAD],
    header: [u8; SECTION_HEADER_LEN],
    control: Vec<u8>,
    payload_len: u64,
    /// Part being sent: head, control message, header of the sum, and then its blocks.
    part: usize,
    piece: Vec<u8>,
    sent: usize,
}

/// Parts before the blocks.
const BEFORE: usize = 3;

impl SumsBody {
    /// Prepares to send a sum; `None` if something of it is too long.
    pub fn new(control: Vec<u8>, sum: &ExactSum) -> Option<Self> {
        let mut piece = Vec::new();
        let each = |block| {
            piece.clear();
            sum.pack_block(block, &mut piece);
            piece.len() as u64
        };
        let payload_len = (0..sum.blocks()).map(each).sum();
        let count = u32::try_from(sum.len()).ok()?;
        let octets = u32::try_from(payload_len).ok()?;
        let mut body = Self {
            head: sums_head(control.len(), 1).ok()?,
            header: sum_header(&section_name(MODEL)?, SumCodec::Exact, count, octets),
            control,
            payload_len,
            part: 0,
            piece,
            sent: 0,
        };
        let mut checksum = Checksum::default();
        checksum.update(&body.head[..CRC_AT]);
        for part in 1..BEFORE + sum.blocks() {
            body.make(part, sum);
            checksum.update(&body.piece);
        }
        body.head[CRC_AT..].copy_from_slice(&checksum.finish().to_le_bytes());
        body.rewind(sum);
        Some(body)
    }

    /// Begins anew.
    pub fn rewind(&mut self, sum: &ExactSum) {
        (self.part, self.sent) = (0, 0);
        self.make(0, sum);
    }

    /// Octets of all of it.
    pub fn len(&self) -> u64 {
        (SUMS_HEAD + self.control.len() + SECTION_HEADER_LEN) as u64 + self.payload_len
    }

    /// The next octets; none at the end.
    pub fn chunk(&mut self, sum: &ExactSum) -> &[u8] {
        while self.sent == self.piece.len() && self.part + 1 < BEFORE + sum.blocks() {
            self.part += 1;
            self.sent = 0;
            self.make(self.part, sum);
        }
        &self.piece[self.sent..]
    }

    /// Tells that so many octets of them went out.
    pub fn consume(&mut self, octets: usize) {
        self.sent += octets;
    }

    fn make(&mut self, part: usize, sum: &ExactSum) {
        self.piece.clear();
        match part {
            0 => self.piece.extend_from_slice(&self.head),
            1 => self.piece.extend_from_slice(&self.control),
            2 => self.piece.extend_from_slice(&self.header),
            _ => sum.pack_block(part - BEFORE, &mut self.piece),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fl_proto::cluster::{Sum, encode_sums};

    #[test]
    fn sums_made_as_they_are_sent_are_those_of_every_edge_to_the_octet() {
        for (len, scale) in [(0, 1.0), (1, 1.0), (64, 1e-9), (7850, 0.37), (129, 1e-45)] {
            let numbers: Vec<f32> = (0..len).map(|at| (at as f32 - 40.0) * scale).collect();
            let mut sum = ExactSum::reserved(len).unwrap();
            sum.add(600, &numbers).unwrap();
            let mut payload = Vec::new();
            sum.pack(&mut payload);
            let whole = [Sum {
                name: section_name(MODEL).unwrap(),
                codec: SumCodec::Exact,
                count: len as u32,
                payload: &payload,
            }];
            let whole = encode_sums(b"{\"round\":1}", &whole).unwrap();
            let mut body = SumsBody::new(b"{\"round\":1}".to_vec(), &sum).unwrap();
            assert_eq!(body.len(), whole.len() as u64);
            // Twice, as after a connection that was lost, in pieces of any size.
            for step in [7, 1000] {
                body.rewind(&sum);
                let mut sent = Vec::new();
                loop {
                    let chunk = body.chunk(&sum);
                    let some = chunk.len().min(step);
                    if some == 0 {
                        break;
                    }
                    sent.extend_from_slice(&chunk[..some]);
                    body.consume(some);
                }
                assert_eq!(sent, whole, "{len} numbers of {scale}");
            }
        }
    }
}
