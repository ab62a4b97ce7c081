//! Exact sums as few octets: what travels between an edge and the aggregator above it.
//!
//! Numbers stand in blocks of [`BLOCK`]. A block begins with two octets: the octets that are zero at the lower
//! end of all its numbers (with [`WIDE`] set: in units of 2^-149, else of 2^-80), and the octets that each
//! number takes. The numbers follow, two's complement, little endian, without what was left out at either end.

use super::{ExactSum, LIMBS, UNIT_SHIFT, Wide, add_shifted};
use alloc::vec::Vec;

/// Numbers of a block.
const BLOCK: usize = 64;

/// Mark of a block in units of the least f32.
const WIDE: u8 = 0x80;

/// Octets of a narrow and of a wide number.
const OCTETS: [usize; 2] = [16, 8 * LIMBS];

/// A number of a block; a narrow one is in its lower octets.
type Octets = [u8; OCTETS[1]];

impl ExactSum {
    /// Writes the sum behind `octets`.
    pub fn pack(&self, octets: &mut Vec<u8>) {
        (0..self.blocks()).for_each(|block| self.pack_block(block, octets));
    }

    /// Blocks that [`ExactSum::pack`] writes.
    pub fn blocks(&self) -> usize {
        self.len().div_ceil(BLOCK)
    }

    /// Writes a block of them behind `octets`, for whoever has no room for all.
    pub fn pack_block(&self, block: usize, octets: &mut Vec<u8>) {
        let first = self.len().min(block.saturating_mul(BLOCK));
        let block = first..self.len().min(first + BLOCK);
        let wide = self.wide.get(block.clone());
        let is_wide = wide.is_some_and(|wide| wide.iter().flatten().any(|limb| *limb != 0));
        let numbers: Vec<Octets> = block.map(|at| self.octets(at, is_wide)).collect();
        pack_block(&numbers, is_wide, octets);
    }

    /// Reads a sum of `len` numbers that [`ExactSum::pack`] wrote; none if these octets are none. No more memory
    /// is taken than `octets` ask for.
    pub fn unpack(mut octets: &[u8], len: usize) -> Option<Self> {
        // Two octets a block at the least, so that a length without octets takes no memory.
        if len.div_ceil(BLOCK).checked_mul(2)? > octets.len() {
            return None;
        }
        let mut sum = Self::new(len);
        for first in (0..len).step_by(BLOCK) {
            octets = sum.unpack_block(first..len.min(first + BLOCK), octets)?;
        }
        octets.is_empty().then_some(sum)
    }

    fn unpack_block<'a>(
        &mut self,
        block: core::ops::Range<usize>,
        octets: &'a [u8],
    ) -> Option<&'a [u8]> {
        let (&[low, width], octets) = octets.split_first_chunk::<2>()?;
        let is_wide = low & WIDE != 0;
        let (low, width) = (usize::from(low & !WIDE), usize::from(width));
        if low + width > OCTETS[usize::from(is_wide)] {
            return None;
        }
        let (numbers, rest) = octets.split_at_checked(block.len() * width)?;
        if width == 0 {
            return Some(rest);
        }
        for (at, number) in block.zip(numbers.chunks_exact(width)) {
            let sign = if number[width - 1] & 0x80 != 0 {
                0xff
            } else {
                0
            };
            let mut whole = [sign; OCTETS[1]];
            whole[..low].fill(0);
            whole[low..low + width].copy_from_slice(number);
            self.set(at, is_wide, &whole);
        }
        Some(rest)
    }

    fn set(&mut self, at: usize, is_wide: bool, number: &Octets) {
        if !is_wide {
            let narrow = number.first_chunk().copied().unwrap_or_default();
            self.narrow[at] = i128::from_le_bytes(narrow);
            return;
        }
        if self.wide.is_empty() {
            self.wide.resize(self.narrow.len(), [0; LIMBS]);
        }
        for (limb, octets) in self.wide[at].iter_mut().zip(number.as_chunks::<8>().0) {
            *limb = u64::from_le_bytes(*octets);
        }
    }

    fn octets(&self, at: usize, is_wide: bool) -> Octets {
        let mut number = [0; OCTETS[1]];
        if is_wide {
            let mut sum: Wide = self.wide.get(at).copied().unwrap_or_default();
            let narrow = self.narrow[at];
            add_shifted(&mut sum, narrow < 0, narrow.unsigned_abs(), UNIT_SHIFT);
            for (octets, limb) in number.as_chunks_mut::<8>().0.iter_mut().zip(sum) {
                *octets = limb.to_le_bytes();
            }
        } else {
            number[..OCTETS[0]].copy_from_slice(&self.narrow[at].to_le_bytes());
        }
        number
    }
}

fn pack_block(numbers: &[Octets], is_wide: bool, octets: &mut Vec<u8>) {
    let whole = OCTETS[usize::from(is_wide)];
    let zeros = |number: &Octets| number[..whole].iter().take_while(|one| **one == 0).count();
    let low = numbers.iter().map(zeros).min().unwrap_or(whole);
    let top = numbers.iter().map(|number| needed(&number[..whole]));
    let width = top.max().unwrap_or(0).saturating_sub(low);
    // A block of zeros has nothing but its head.
    let low = if width == 0 { 0 } else { low };
    let mark = if is_wide { WIDE } else { 0 };
    octets.extend([low as u8 | mark, width as u8]);
    for number in numbers {
        octets.extend(&number[low..low + width]);
    }
}

/// Octets of a number without those at its upper end that only repeat its sign; none of 0.
fn needed(number: &[u8]) -> usize {
    let is_negative = number.last().is_some_and(|top| top & 0x80 != 0);
    let sign = if is_negative { 0xff } else { 0 };
    let Some(top) = number.iter().rposition(|octet| *octet != sign) else {
        return usize::from(is_negative);
    };
    // The sign stands in the highest bit that is left.
    let fits = (number[top] & 0x80 != 0) == is_negative;
    top + if fits { 1 } else { 2 }
}
