//! `topk`: the largest changes and their places; the rest goes into later updates.
//!
//! Stich et al. 2018, *Sparsified SGD with Memory*: <https://arxiv.org/abs/1809.07599>.
//!
//! ```text
//! 0  4  kept     numbers that are kept, 1 or more and not all
//! 4     for each kept number, packed from the lowest bit on:
//!       quotient 0 bits and a 1 bit: how often 2^rest goes into the gap
//!       rest     the gap modulo 2^rest
//!       number   f16
//!       zeros up to the length
//! ```
//!
//! A gap is the count of numbers left out since the kept number before (Rice's code). The width of the rest is the one
//! with which the longest such code is shortest, and the length is that of the longest: it follows from `kept` and `count`
//! alone. With many numbers kept the width is 0, and the code is a bit map.

use super::bits::{self, Symbol, Symbols};
use super::half::{from_single, to_single};
use super::{Codec, Cursor, Encodes, Plan};
use fl_param::ParamSpec;

/// The numbers of the largest magnitude, in half precision.
#[derive(Clone, Copy, Debug)]
pub struct TopK;

static PARAMS: [ParamSpec; 1] = [ParamSpec {
    name: "k",
    default: 0.01,
    min: 1e-6,
    max: 1.0,
    whole: false,
    doc: "part of the numbers that is kept; 1 is f32",
}];

/// Bits of a number.
const NUMBER_BITS: u32 = 16;

/// Most zeros of a quotient that are one symbol.
const RUN: u32 = 24;

/// Place in the code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sparse {
    part: Part,
    /// Kept numbers that are left.
    left: u32,
    /// Width of a rest.
    rest_bits: u32,
    /// Magnitude from which numbers are kept, as bits, and how many of exactly that one are left.
    least: u32,
    ties: u32,
    /// The gap at hand, and the zeros of its quotient: those left to write, or read so far.
    gap: u32,
    quotient: u32,
    /// Bits that are left.
    bits: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Kept,
    Quotient,
    Rest,
    Number,
    Zeros,
}

/// Numbers kept of `count`.
fn kept(plan: &Plan<'_>, count: u32) -> u32 {
    let kept = f64::from(plan.args[0]) * f64::from(count) + 0.5;
    (kept as u32).clamp(1, count.max(1))
}

/// Width of a rest, and most bits of all codes.
fn layout(kept: u32, count: u32) -> (u32, u64) {
    let bits = |rest: u32| {
        let gaps = u64::from(count.saturating_sub(kept)) >> rest;
        u64::from(kept) * u64::from(1 + rest + NUMBER_BITS) + gaps
    };
    let best = (0..RUN).min_by_key(|rest| bits(*rest)).unwrap_or(0);
    (best, bits(best))
}

/// Magnitude of the `kept`-th largest number, as bits, and how many of that magnitude are among those kept.
fn threshold(numbers: &[f32], kept: u32) -> (u32, u32) {
    let (mut least, mut wanted) = (0, kept);
    // From the highest four bits on: how many have that digit, of those that agree so far.
    for shift in (0..32).step_by(4).rev() {
        let mut digits = [0_u32; 16];
        for number in numbers {
            let magnitude = number.abs().to_bits();
            if u64::from(magnitude) >> (shift + 4) == u64::from(least) >> (shift + 4) {
                digits[(magnitude >> shift & 15) as usize] += 1;
            }
        }
        let mut digit = 15;
        while digit > 0 && digits[digit] < wanted {
            wanted -= digits[digit];
            digit -= 1;
        }
        least |= (digit as u32) << shift;
    }
    (least, wanted)
}

impl Sparse {
    /// The beginning of a code.
    fn new(kept: u32, count: u32) -> Self {
        let (rest_bits, bits) = layout(kept, count);
        Self {
            part: Part::Quotient,
            left: kept,
            rest_bits,
            bits: bits.next_multiple_of(8),
            ..Self::default()
        }
    }

    /// Goes on behind a number, or to the first.
    fn advance(&mut self) {
        self.quotient = 0;
        self.part = match self.left {
            0 => Part::Zeros,
            _ => Part::Quotient,
        };
    }

    /// Looks for the next kept number ahead.
    fn seek(&mut self, ahead: &[f32]) -> Option<()> {
        if self.left == 0 {
            return Some(());
        }
        let gap = ahead.iter().position(|number| {
            let magnitude = number.abs().to_bits();
            let is_tie = magnitude == self.least && self.ties > 0;
            self.ties -= u32::from(is_tie);
            is_tie || magnitude > self.least
        })?;
        self.gap = gap as u32;
        self.quotient = self.gap >> self.rest_bits;
        Some(())
    }
}

impl Symbols for TopK {
    fn next(&self, plan: &Plan<'_>, numbers: &[f32], cursor: &mut Cursor) -> Option<Symbol> {
        let sparse = &mut cursor.sparse;
        let (value, width) = match sparse.part {
            Part::Kept => {
                numbers.first()?;
                let count = numbers.len() as u32;
                let kept = kept(plan, count);
                *sparse = Sparse::new(kept, count);
                (sparse.least, sparse.ties) = threshold(numbers, kept);
                sparse.seek(numbers)?;
                return Some((kept, 32));
            }
            Part::Quotient if sparse.quotient > 0 => {
                let run = sparse.quotient.min(RUN);
                sparse.quotient -= run;
                (0, run)
            }
            Part::Quotient | Part::Rest => {
                sparse.part = Part::Number;
                (1 | sparse.gap << 1, 1 + sparse.rest_bits)
            }
            Part::Number => {
                cursor.next += sparse.gap as usize;
                let number = *numbers.get(cursor.next)?;
                cursor.next += 1;
                sparse.left -= 1;
                sparse.advance();
                sparse.seek(numbers.get(cursor.next..)?)?;
                (u32::from(from_single(number)), NUMBER_BITS)
            }
            Part::Zeros if sparse.bits == 0 => return None,
            Part::Zeros => (0, sparse.bits.min(RUN.into()) as u32),
        };
        sparse.bits = sparse.bits.checked_sub(width.into())?;
        Some((value, width))
    }

    fn width(&self, numbers: &[f32], cursor: &Cursor) -> u32 {
        let sparse = &cursor.sparse;
        match sparse.part {
            Part::Kept if numbers.is_empty() => 0,
            Part::Kept => 32,
            Part::Quotient => 1,
            Part::Rest => sparse.rest_bits,
            Part::Number => NUMBER_BITS,
            Part::Zeros => match cursor.bits.rest() {
                0 => sparse.bits.min(8) as u32,
                rest => rest,
            },
        }
    }

    fn take(&self, (value, width): Symbol, cursor: &mut Cursor, numbers: &mut [f32]) -> Option<()> {
        let sparse = &mut cursor.sparse;
        if sparse.part == Part::Kept {
            let count = numbers.len() as u32;
            if !(1..=count).contains(&value) {
                return None;
            }
            *sparse = Sparse::new(value, count);
            return Some(());
        }
        sparse.bits = sparse.bits.checked_sub(width.into())?;
        match sparse.part {
            Part::Quotient if value == 0 => sparse.quotient += 1,
            Part::Quotient => {
                sparse.gap = sparse.quotient.checked_mul(1 << sparse.rest_bits)?;
                sparse.part = match sparse.rest_bits {
                    0 => Part::Number,
                    _ => Part::Rest,
                };
            }
            Part::Rest => {
                sparse.gap |= value;
                sparse.part = Part::Number;
            }
            Part::Number => {
                let ahead = numbers.get_mut(cursor.next..)?;
                let (left_out, ahead) = ahead.split_at_mut_checked(sparse.gap as usize)?;
                left_out.fill(0.0);
                *ahead.first_mut()? = to_single(value as u16);
                cursor.next += left_out.len() + 1;
                sparse.left -= 1;
                sparse.advance();
                if sparse.left == 0 {
                    numbers.get_mut(cursor.next..)?.fill(0.0);
                    cursor.next = numbers.len();
                }
            }
            Part::Zeros if value != 0 => return None,
            Part::Zeros | Part::Kept => {}
        }
        Some(())
    }
}

impl Codec for TopK {
    fn name(&self) -> &'static str {
        "topk"
    }

    fn code(&self) -> u8 {
        4
    }

    fn doc(&self) -> &'static str {
        "The part `k` of the numbers that is largest; the rest goes into later updates: 3 bytes of each that is kept"
    }

    fn params(&self) -> &'static [ParamSpec] {
        &PARAMS
    }

    fn encodes(&self) -> Encodes {
        Encodes::ChangesWithFeedback
    }

    fn keeps_all(&self, plan: &Plan<'_>, count: u32) -> bool {
        kept(plan, count) >= count
    }

    fn octets(&self, plan: &Plan<'_>, count: u32) -> u64 {
        match count {
            0 => 0,
            _ => 4 + layout(kept(plan, count), count).1.div_ceil(8),
        }
    }

    fn encode(
        &self,
        plan: &Plan<'_>,
        numbers: &[f32],
        cursor: &mut Cursor,
        octets: &mut [u8],
    ) -> usize {
        bits::write(self, plan, numbers, cursor, octets)
    }

    fn decode(&self, octets: &[u8], cursor: &mut Cursor, numbers: &mut [f32]) -> Option<usize> {
        bits::read(self, octets, cursor, numbers)
    }

    fn is_over(&self, cursor: &Cursor, count: usize) -> bool {
        let is_empty = count == 0 && cursor.sparse.part == Part::Kept;
        let is_read = cursor.sparse.part == Part::Zeros && cursor.sparse.bits == 0;
        (is_empty || is_read) && cursor.bits.is_empty()
    }
}
