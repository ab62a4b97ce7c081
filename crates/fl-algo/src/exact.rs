//! Sums and means without rounding: the model does not depend on the order of updates, nor on how they
//! were summed in parts.
//!
//! Every finite f32 is a whole multiple of 2^-149, so a weighted sum is a whole number too. It is kept in
//! an integer of 128 bits in units of 2^-80, which holds what models are made of; what is too small or
//! too large for that goes to a second integer of 384 bits in units of 2^-149, which is there only once it
//! is needed. A mean is that number divided once and rounded once, to nearest, ties to even.

mod packed;

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// Limbs of a wide integer. 2^42 updates of the largest f32 and weight stay below 2^383.
const LIMBS: usize = 6;

/// Exponent of the wide integers' unit: that of the least f32.
const WIDE_UNIT: i32 = -149;

/// Exponent of the narrow integers' unit.
const NARROW_UNIT: i32 = -80;

/// Bits by which the units differ.
const UNIT_SHIFT: u32 = (NARROW_UNIT - WIDE_UNIT) as u32;

/// Largest sum of weights: 2^32 updates of the largest weight. A quotient by less has bits enough to be
/// rounded once.
const MAX_WEIGHT: u128 = 1 << 96;

/// Octets before the integers of a sum in bytes.
const HEAD_LEN: usize = 32;

/// Largest number that an update may bring. Training that works stays far below, and from there on it takes
/// a few steps until nothing is finite any more.
pub const LARGEST_NUMBER: f32 = 1e9;

/// Place of the first number that is beyond [`LARGEST_NUMBER`], or none at all.
#[must_use]
pub fn first_unsound(numbers: &[f32]) -> Option<usize> {
    // As many as vectors look at together: no number ends the search among them.
    const TOGETHER: usize = 64;
    let is_sound = |number: &f32| number.abs() <= LARGEST_NUMBER;
    let mut chunks = numbers.chunks(TOGETHER);
    let unsound = chunks.position(|chunk| !chunk.iter().fold(true, |all, x| all & is_sound(x)))?;
    let begin = unsound * TOGETHER;
    let within = numbers[begin..].iter().position(|number| !is_sound(number));
    within.map(|place| begin + place)
}

/// Adds to the changes of a model what they are changes of.
pub fn add_base(base: &[f32], changes: &mut [f32]) {
    for (number, base) in changes.iter_mut().zip(base) {
        *number += base;
    }
}

/// Bytes of memory that a number of a sum may take: a narrow integer and a wide one.
pub const SUM_BYTES: usize = 16 + 8 * LIMBS;

/// A whole number of [`WIDE_UNIT`], two's complement, least limb first.
type Wide = [u64; LIMBS];

/// Sums of one weighted vector after the other, without any rounding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExactSum {
    narrow: Vec<i128>,
    /// As long as `narrow`, or empty as long as nothing is in it.
    wide: Vec<Wide>,
}

impl ExactSum {
    /// Memory of the numbers, in octets.
    pub fn held(&self) -> usize {
        size_of_val(&*self.narrow) + size_of_val(&*self.wide)
    }

    /// Zeros.
    pub fn new(len: usize) -> Self {
        Self {
            narrow: vec![0; len],
            wide: Vec::new(),
        }
    }

    /// Zeros, with room for the wide numbers too, so that no later call asks for memory; `None` if there is none.
    pub fn reserved(len: usize) -> Option<Self> {
        let (mut narrow, mut wide) = (Vec::new(), Vec::new());
        narrow.try_reserve_exact(len).ok()?;
        wide.try_reserve_exact(len).ok()?;
        narrow.resize(len, 0);
        Some(Self { narrow, wide })
    }

    /// Makes zeros of it, and keeps its memory.
    pub fn clear(&mut self) {
        self.narrow.fill(0);
        self.wide.clear();
    }

    /// Numbers in it.
    pub fn len(&self) -> usize {
        self.narrow.len()
    }

    /// True if it has no numbers.
    pub fn is_empty(&self) -> bool {
        self.narrow.is_empty()
    }

    /// Adds `weight * values`.
    ///
    /// # Errors
    /// [`ExactError`] if the length is another or a value is not finite; nothing has changed then.
    pub fn add(&mut self, weight: u64, values: &[f32]) -> Result<(), ExactError> {
        self.accumulate(weight, false, values)
    }

    /// Takes `weight * values` away.
    ///
    /// # Errors
    /// As [`ExactSum::add`].
    pub fn subtract(&mut self, weight: u64, values: &[f32]) -> Result<(), ExactError> {
        self.accumulate(weight, true, values)
    }

    fn accumulate(&mut self, weight: u64, negate: bool, values: &[f32]) -> Result<(), ExactError> {
        check(self.len(), values)?;
        for (at, value) in values.iter().enumerate() {
            let bits = value.to_bits();
            let field = (bits >> 23) & 0xff;
            // Normal numbers have a leading one that is not written.
            let mantissa = (bits & 0x7f_ffff) | (u32::from(field > 0) << 23);
            let product = u128::from(mantissa) * u128::from(weight);
            let negative = (bits >> 31 == 1) != negate;
            let shift = field.max(1) - 1;
            match narrow_term(negative, product, shift)
                .and_then(|term| self.narrow[at].checked_add(term))
            {
                Some(sum) => self.narrow[at] = sum,
                None => self.add_wide_at(at, negative, product, shift),
            }
        }
        Ok(())
    }

    /// Adds `magnitude * 2^shift` units of [`WIDE_UNIT`] to the wide number `at`.
    #[cold]
    fn add_wide_at(&mut self, at: usize, negative: bool, magnitude: u128, shift: u32) {
        if magnitude == 0 {
            return;
        }
        if self.wide.is_empty() {
            self.wide.resize(self.narrow.len(), [0; LIMBS]);
        }
        add_shifted(&mut self.wide[at], negative, magnitude, shift);
    }

    /// Adds another sum.
    ///
    /// # Errors
    /// [`ExactError::Length`].
    pub fn merge(&mut self, other: &Self) -> Result<(), ExactError> {
        check_len(self.len(), other.len())?;
        for (at, &term) in other.narrow.iter().enumerate() {
            match self.narrow[at].checked_add(term) {
                Some(sum) => self.narrow[at] = sum,
                None => self.add_wide_at(at, term < 0, term.unsigned_abs(), UNIT_SHIFT),
            }
        }
        if self.wide.is_empty() {
            self.wide.clone_from(&other.wide);
        } else {
            for (sum, term) in self.wide.iter_mut().zip(&other.wide) {
                add_wide(sum, term);
            }
        }
        Ok(())
    }

    /// The sums, each divided by `divisor` and rounded once, to nearest, ties to even.
    ///
    /// # Errors
    /// [`ExactError::NoWeight`] if `divisor` is 0, [`ExactError::Weight`] if it is beyond 2^96,
    /// [`ExactError::Overflow`] if a quotient is larger than any f32.
    pub fn divided(&self, divisor: u128) -> Result<Vec<f32>, ExactError> {
        if divisor == 0 {
            return Err(ExactError::NoWeight);
        }
        if divisor > MAX_WEIGHT {
            return Err(ExactError::Weight);
        }
        let quotient = |at| {
            let value = quotient(self.number(at), divisor);
            if value.is_finite() {
                Ok(value)
            } else {
                Err(ExactError::Overflow { at })
            }
        };
        (0..self.len()).map(quotient).collect()
    }

    fn number(&self, at: usize) -> Number {
        let narrow = self.narrow[at];
        match self.wide.get(at) {
            None => Number {
                negative: narrow < 0,
                magnitude: narrow.unsigned_abs(),
                rest: false,
                exponent: NARROW_UNIT,
            },
            Some(wide) => {
                let mut sum = *wide;
                add_shifted(&mut sum, narrow < 0, narrow.unsigned_abs(), UNIT_SHIFT);
                Number::of_wide(sum)
            }
        }
    }

    /// Writes the sum as octets, for whoever adds it to others. [`ExactSum::read_from`] reads them.
    fn write_to(&self, bytes: &mut Vec<u8>) {
        let narrow = self.narrow.iter().flat_map(|number| number.to_le_bytes());
        bytes.extend(narrow);
        let limbs = self.wide.iter().flatten();
        bytes.extend(limbs.flat_map(|limb| limb.to_le_bytes()));
    }

    /// Reads a sum of `len` numbers that [`ExactSum::write_to`] wrote.
    fn read_from(bytes: &[u8], len: usize) -> Option<Self> {
        let (narrow, wide) = bytes.split_at_checked(len.checked_mul(16)?)?;
        let wide = match wide.len() {
            0 => Vec::new(),
            octets if octets == len.checked_mul(8 * LIMBS)? => wide
                .as_chunks::<{ 8 * LIMBS }>()
                .0
                .iter()
                .map(|octets| {
                    let limb = |at: usize| octets[8 * at..][..8].try_into().unwrap_or_default();
                    core::array::from_fn(|at| u64::from_le_bytes(limb(at)))
                })
                .collect(),
            _ => return None,
        };
        let narrow = narrow.as_chunks::<16>().0.iter();
        Some(Self {
            narrow: narrow.map(|octets| i128::from_le_bytes(*octets)).collect(),
            wide,
        })
    }
}

/// Checks that `values` are `len` finite numbers.
pub(crate) fn check(len: usize, values: &[f32]) -> Result<(), ExactError> {
    check_len(len, values.len())?;
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(ExactError::NotFinite { at }),
        None => Ok(()),
    }
}

fn check_len(expected: usize, actual: usize) -> Result<(), ExactError> {
    if actual == expected {
        Ok(())
    } else {
        Err(ExactError::Length { expected, actual })
    }
}

/// A term in units of [`NARROW_UNIT`], if it is a whole number of them that fits.
fn narrow_term(negative: bool, magnitude: u128, shift: u32) -> Option<i128> {
    let shift = shift.checked_sub(UNIT_SHIFT)?;
    let term = (shift < magnitude.leading_zeros()).then(|| (magnitude << shift) as i128)?;
    Some(if negative { -term } else { term })
}

/// A weighted mean, correctly rounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExactMean {
    sum: ExactSum,
    total: u128,
}

impl ExactMean {
    /// The mean of nothing yet.
    pub fn new(len: usize) -> Self {
        Self {
            sum: ExactSum::new(len),
            total: 0,
        }
    }

    /// Adds `values`, which count `weight` times.
    ///
    /// # Errors
    /// As [`ExactSum::add`].
    pub fn add(&mut self, weight: u64, values: &[f32]) -> Result<(), ExactError> {
        self.sum.add(weight, values)?;
        self.total += u128::from(weight);
        Ok(())
    }

    /// Adds what another has summed.
    ///
    /// # Errors
    /// [`ExactError::Length`]; [`ExactError::Weight`] if the weights are beyond all bounds.
    pub fn merge(&mut self, other: &Self) -> Result<(), ExactError> {
        let total = self.total.saturating_add(other.total);
        if total > MAX_WEIGHT {
            return Err(ExactError::Weight);
        }
        self.sum.merge(&other.sum)?;
        self.total = total;
        Ok(())
    }

    /// A mean of a sum and the weights in it.
    ///
    /// # Errors
    /// [`ExactError::Weight`] if those are beyond all bounds.
    pub fn of_sum(sum: ExactSum, total: u128) -> Result<Self, ExactError> {
        match total <= MAX_WEIGHT {
            true => Ok(Self { sum, total }),
            false => Err(ExactError::Weight),
        }
    }

    /// The sum.
    pub fn sum(&self) -> &ExactSum {
        &self.sum
    }

    /// Sum of the weights.
    pub fn weight(&self) -> u128 {
        self.total
    }

    /// The mean, rounded once, to nearest, ties to even.
    ///
    /// # Errors
    /// [`ExactError::NoWeight`] if nothing that counts was added.
    pub fn mean(&self) -> Result<Vec<f32>, ExactError> {
        self.sum.divided(self.total)
    }

    /// The partial sum as octets, little-endian: length (u64), zeros (u64), sum of weights (u128), then
    /// the integers of 128 bits, then those of 384 bits if there are any.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend((self.sum.len() as u64).to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend(self.total.to_le_bytes());
        self.sum.write_to(&mut bytes);
        bytes
    }

    /// Reads what [`ExactMean::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`ExactError::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ExactError> {
        let read = || {
            let (head, integers) = bytes.split_at_checked(HEAD_LEN)?;
            let len = u64::from_le_bytes(head[..8].try_into().ok()?);
            let total = u128::from_le_bytes(head[16..].try_into().ok()?);
            let sum = ExactSum::read_from(integers, usize::try_from(len).ok()?)?;
            (head[8..16] == [0; 8] && total <= MAX_WEIGHT).then_some(Self { sum, total })
        };
        read().ok_or(ExactError::Malformed)
    }
}

/// A whole number of `2^exponent`: `magnitude`, and less than one more if there is a `rest`.
struct Number {
    negative: bool,
    magnitude: u128,
    rest: bool,
    exponent: i32,
}

impl Number {
    /// The upper 128 bits that count, and whether anything is below them.
    fn of_wide(mut limbs: Wide) -> Self {
        let negative = limbs[LIMBS - 1] >> 63 == 1;
        if negative {
            negate(&mut limbs);
        }
        let top = limbs.iter().rposition(|&limb| limb != 0).unwrap_or(0);
        let bits = 64 * top as u32 + 64 - limbs[top].leading_zeros();
        let cut = bits.saturating_sub(128);
        let (limb, bit) = ((cut / 64) as usize, cut % 64);
        let at = |at: usize| u128::from(limbs.get(at).copied().unwrap_or(0));
        let mut magnitude = (at(limb) | (at(limb + 1) << 64)) >> bit;
        if bit > 0 {
            magnitude |= at(limb + 2) << (128 - bit);
        }
        let below = limbs[..limb].iter().any(|&limb| limb != 0);
        Self {
            negative,
            magnitude,
            rest: below || at(limb) & ((1 << bit) - 1) != 0,
            exponent: WIDE_UNIT + cut as i32,
        }
    }
}

/// A number divided and rounded to nearest, ties to even; infinite if it is too large.
fn quotient(number: Number, divisor: u128) -> f32 {
    if number.magnitude == 0 {
        return 0.0;
    }
    // With all 128 bits in use the quotient has more than the 25 that rounding needs.
    let up = number.magnitude.leading_zeros();
    let magnitude = number.magnitude << up;
    let quotient = magnitude / divisor;
    let rest = number.rest || quotient * divisor != magnitude;
    let magnitude = rounded(quotient, rest, number.exponent - up as i32);
    if number.negative {
        -magnitude
    } else {
        magnitude
    }
}

/// The f32 nearest to `magnitude * 2^exponent` and less than one unit more if there is a `rest`; the
/// magnitude has more bits than an f32.
fn rounded(magnitude: u128, rest: bool, exponent: i32) -> f32 {
    let bits = 128 - magnitude.leading_zeros() as i32;
    let top = exponent + bits - 1;
    // The last bit that the result has, which for subnormal numbers is that of the least f32.
    let last = (top - 23).max(WIDE_UNIT);
    let drop = last - exponent;
    if drop > bits {
        return 0.0;
    }
    let kept = magnitude.checked_shr(drop as u32).unwrap_or(0);
    let half = 1_u128 << (drop - 1);
    let below = magnitude & (half - 1) != 0 || rest;
    let odd = kept & 1 == 1;
    let up = magnitude & half != 0 && (below || odd);
    let kept = kept + u128::from(up);
    if top > 127 {
        return f32::INFINITY;
    }
    // A carry out of the mantissa goes into the exponent, as it should.
    let field = (last - WIDE_UNIT) as u32;
    f32::from_bits((field << 23) + kept as u32)
}

/// Adds `magnitude * 2^shift`, or takes it away.
fn add_shifted(sum: &mut Wide, negative: bool, magnitude: u128, shift: u32) {
    let (limb, bit) = ((shift / 64) as usize, shift % 64);
    let low = magnitude << bit;
    let high = if bit > 0 { magnitude >> (128 - bit) } else { 0 };
    let mut term = [0; LIMBS];
    let parts = [low as u64, (low >> 64) as u64, high as u64];
    for (slot, part) in term.iter_mut().skip(limb).zip(parts) {
        *slot = part;
    }
    if negative {
        negate(&mut term);
    }
    add_wide(sum, &term);
}

fn add_wide(sum: &mut Wide, term: &Wide) {
    let mut carry = false;
    for (sum, &term) in sum.iter_mut().zip(term) {
        let (one, over) = sum.overflowing_add(term);
        let (both, over_too) = one.overflowing_add(u64::from(carry));
        *sum = both;
        carry = over || over_too;
    }
}

fn negate(number: &mut Wide) {
    number.iter_mut().for_each(|limb| *limb = !*limb);
    let one: Wide = core::array::from_fn(|at| u64::from(at == 0));
    add_wide(number, &one);
}

/// Reason why a sum or a mean was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExactError {
    /// A vector of another length.
    Length {
        /// Numbers of the sum.
        expected: usize,
        /// Numbers that came.
        actual: usize,
    },
    /// A value that is infinite or no number.
    NotFinite {
        /// Its place.
        at: usize,
    },
    /// Nothing that counts was added.
    NoWeight,
    /// The sum of weights is beyond all bounds.
    Weight,
    /// A result is larger than any f32.
    Overflow {
        /// Its place.
        at: usize,
    },
    /// Octets that are no sum.
    Malformed,
}

impl fmt::Display for ExactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { expected, actual } => {
                write!(f, "{actual} numbers, {expected} are expected")
            }
            Self::NotFinite { at } => write!(f, "parameter {at} is not finite"),
            Self::NoWeight => write!(f, "the weights of all updates are 0"),
            Self::Weight => write!(f, "the sum of weights is too large"),
            Self::Overflow { at } => write!(f, "parameter {at} is larger than any f32"),
            Self::Malformed => write!(f, "these octets are no partial sum"),
        }
    }
}

impl core::error::Error for ExactError {}
