//! `f32`: IEEE 754 binary32, little endian. Loses nothing.

use super::{Codec, Cursor, Plan};

/// Numbers as they are, four octets each.
#[derive(Clone, Copy, Debug)]
pub struct F32;

impl Codec for F32 {
    fn name(&self) -> &'static str {
        super::F32_NAME
    }

    fn code(&self) -> u8 {
        0
    }

    fn doc(&self) -> &'static str {
        "Single precision as it is: 4 bytes a number"
    }

    fn octets(&self, _: &Plan<'_>, count: u32) -> u64 {
        4 * u64::from(count)
    }

    fn encode(
        &self,
        _: &Plan<'_>,
        numbers: &[f32],
        cursor: &mut Cursor,
        octets: &mut [u8],
    ) -> usize {
        let rest = numbers.get(cursor.next..).unwrap_or(&[]);
        let (slots, _) = octets.as_chunks_mut::<4>();
        let n = rest.len().min(slots.len());
        for (slot, number) in slots.iter_mut().zip(rest) {
            *slot = number.to_le_bytes();
        }
        cursor.next += n;
        4 * n
    }

    fn decode(&self, octets: &[u8], cursor: &mut Cursor, numbers: &mut [f32]) -> Option<usize> {
        let (words, _) = octets.as_chunks::<4>();
        let slots = numbers.get_mut(cursor.next..)?.get_mut(..words.len())?;
        for (slot, word) in slots.iter_mut().zip(words) {
            *slot = f32::from_le_bytes(*word);
        }
        cursor.next += words.len();
        Some(4 * words.len())
    }
}
