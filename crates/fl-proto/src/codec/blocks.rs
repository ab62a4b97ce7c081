//! Blocks of numbers with a scale of their own: the form of `int8`, `qsgd` and `sign`.
//!
//! ```text
//! 0  3  length   numbers of the block, 1 or more
//! 3  1  levels   levels of a magnitude
//! 4  4  scale    f32
//! 8     codes    one a number, packed from the lowest bit on, padded with zeros to a whole octet
//! ```
//!
//! A block ends with its tensor, so that no scale is that of two tensors.

use super::bits::{self, Symbol, Symbols};
use super::{Codec, Cursor, Encodes, Plan};
use fl_param::ParamSpec;
use fl_rng::Pcg32;

/// Octets in front of the codes of a block.
const HEAD_OCTETS: u64 = 8;

/// Most numbers of a block.
const LONGEST: u32 = (1 << 24) - 1;

/// A codec that works in blocks.
pub(super) trait Quantiser: Sync {
    /// As [`Codec::name`].
    const NAME: &'static str;
    /// As [`Codec::code`].
    const CODE: u8;
    /// As [`Codec::doc`].
    const DOC: &'static str;
    /// As [`Codec::params`].
    const PARAMS: &'static [ParamSpec] = &[];
    /// As [`Codec::encodes`].
    const ENCODES: Encodes;

    /// Levels of a magnitude, 1 to 127.
    fn levels(&self, plan: &Plan<'_>) -> u32;

    /// Most numbers of a block, if it may end before its tensor.
    fn bucket(&self, _: &Plan<'_>) -> u32 {
        LONGEST
    }

    /// Bits of a code; 0 if a block cannot have so many levels.
    fn width(&self, levels: u32) -> u32;

    /// Scale of a block; not finite if one of its numbers is not.
    fn scale(&self, numbers: &[f32]) -> f32;

    /// Code of a number that is `steps` steps from zero in magnitude.
    fn code_of(&self, steps: f32, is_negative: bool, levels: u32, draws: &mut Pcg32) -> u32;

    /// Steps that a code stands for; `None` if it is none.
    fn steps(&self, code: u32, levels: u32) -> Option<f32>;
}

impl<Q: Quantiser> Codec for Q {
    fn name(&self) -> &'static str {
        Q::NAME
    }

    fn code(&self) -> u8 {
        Q::CODE
    }

    fn doc(&self) -> &'static str {
        Q::DOC
    }

    fn params(&self) -> &'static [ParamSpec] {
        Q::PARAMS
    }

    fn encodes(&self) -> Encodes {
        Q::ENCODES
    }

    fn octets(&self, plan: &Plan<'_>, count: u32) -> u64 {
        let (bucket, width) = (self.bucket(plan).max(1), self.width(self.levels(plan)));
        let of = |numbers: u32| HEAD_OCTETS + (u64::from(numbers) * u64::from(width)).div_ceil(8);
        let (mut octets, mut next) = (0, 0);
        while next < count {
            let end = plan.end_of_tensor(next, count);
            let (whole, rest) = ((end - next) / bucket, (end - next) % bucket);
            octets += u64::from(whole) * of(bucket) + if rest > 0 { of(rest) } else { 0 };
            next = end;
        }
        octets
    }

    fn encode(
        &self,
        plan: &Plan<'_>,
        numbers: &[f32],
        cursor: &mut Cursor,
        octets: &mut [u8],
    ) -> usize {
        bits::write(&Blocks(self), plan, numbers, cursor, octets)
    }

    fn decode(&self, octets: &[u8], cursor: &mut Cursor, numbers: &mut [f32]) -> Option<usize> {
        bits::read(&Blocks(self), octets, cursor, numbers)
    }

    fn is_over(&self, cursor: &Cursor, _: usize) -> bool {
        cursor.block.part == Part::Length && cursor.bits.is_empty()
    }
}

/// A [`Quantiser`] as a stream of symbols.
struct Blocks<'a, Q>(&'a Q);

/// Place in a block.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Block {
    part: Part,
    /// Numbers that are left.
    left: u32,
    levels: u32,
    scale: f32,
}

/// Part of a block that comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Length,
    Scale,
    Codes,
    Padding,
}

impl Block {
    /// Distance between two levels.
    fn step(self) -> f32 {
        self.scale / self.levels as f32
    }

    /// Goes on to the next number, whose code has been written or read.
    fn advance(&mut self, padding: u32) {
        self.left -= 1;
        if self.left == 0 {
            self.part = match padding {
                0 => Part::Length,
                _ => Part::Padding,
            };
        }
    }
}

impl<Q: Quantiser> Symbols for Blocks<'_, Q> {
    fn next(&self, plan: &Plan<'_>, numbers: &[f32], cursor: &mut Cursor) -> Option<Symbol> {
        let block = &mut cursor.block;
        match block.part {
            Part::Length => {
                let (next, count) = (cursor.next as u32, numbers.len() as u32);
                let left = plan.end_of_tensor(next, count).saturating_sub(next);
                let left = left.min(self.0.bucket(plan).max(1));
                let ahead = numbers.get(cursor.next..)?.get(..left as usize)?;
                ahead.first()?;
                *block = Block {
                    part: Part::Scale,
                    left,
                    levels: self.0.levels(plan),
                    scale: self.0.scale(ahead),
                };
                Some((left | block.levels << 24, 32))
            }
            Part::Scale => {
                block.part = Part::Codes;
                Some((block.scale.to_bits(), 32))
            }
            Part::Codes => {
                let number = *numbers.get(cursor.next)?;
                let step = block.step();
                let steps = if step > 0.0 { number.abs() / step } else { 0.0 };
                let draws = cursor.draws.get_or_insert_with(|| plan.draws());
                let (levels, width) = (block.levels, self.0.width(block.levels));
                let code = self.0.code_of(steps, number < 0.0, levels, draws);
                cursor.next += 1;
                // What this code will leave of an octet.
                let held = cursor.bits.rest() + width;
                block.advance(held.wrapping_neg() % 8);
                Some((code, width))
            }
            Part::Padding => {
                block.part = Part::Length;
                Some((0, cursor.bits.to_octet()))
            }
        }
    }

    fn width(&self, numbers: &[f32], cursor: &Cursor) -> u32 {
        let block = cursor.block;
        match block.part {
            Part::Length if cursor.next >= numbers.len() => 0,
            Part::Length | Part::Scale => 32,
            Part::Codes => self.0.width(block.levels),
            Part::Padding => cursor.bits.rest(),
        }
    }

    fn take(&self, (value, _): Symbol, cursor: &mut Cursor, numbers: &mut [f32]) -> Option<()> {
        let block = &mut cursor.block;
        match block.part {
            Part::Length => {
                let (left, levels) = (value & LONGEST, value >> 24);
                let room = numbers.len().checked_sub(cursor.next)?;
                if left == 0 || left as usize > room || self.0.width(levels) == 0 {
                    return None;
                }
                (block.left, block.levels, block.part) = (left, levels, Part::Scale);
            }
            Part::Scale => {
                (block.scale, block.part) = (f32::from_bits(value), Part::Codes);
            }
            Part::Codes => {
                let steps = self.0.steps(value, block.levels)?;
                *numbers.get_mut(cursor.next)? = steps * block.step();
                cursor.next += 1;
                block.advance(cursor.bits.rest());
            }
            Part::Padding if value != 0 => return None,
            Part::Padding => block.part = Part::Length,
        }
        Some(())
    }
}

/// The largest magnitude; not a number if one is not.
pub(super) fn largest(numbers: &[f32]) -> f32 {
    // Bits of magnitudes are in their order, and above infinity is what is no number.
    let bits = numbers.iter().map(|number| number.abs().to_bits());
    f32::from_bits(bits.max().unwrap_or(0))
}

/// One of the two levels around `steps`, so that the mean over draws is `steps`.
pub(super) fn stochastic(steps: f32, levels: u32, draws: &mut Pcg32) -> u32 {
    const UNIT: f32 = 1.0 / (1 << 24) as f32;
    let uniform = (draws.next_u32() >> 8) as f32 * UNIT;
    // Casts end at the bounds, and what is no number becomes 0.
    let below = steps as u32;
    let above = u32::from(uniform < steps - below as f32);
    below.saturating_add(above).min(levels)
}
