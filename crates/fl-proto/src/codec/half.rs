//! `f16`: IEEE 754 binary16, little endian. Half the octets, 11 significant bits.
//!
//! Rounding is to nearest, ties to even, by integer operations alone: the same bits on every
//! instruction set. From 65,520 on a number becomes infinite, and a receiver refuses it.

use super::{Codec, Cursor, Plan};

/// Numbers in half precision, two octets each.
#[derive(Clone, Copy, Debug)]
pub struct F16;

impl Codec for F16 {
    fn name(&self) -> &'static str {
        "f16"
    }

    fn code(&self) -> u8 {
        1
    }

    fn doc(&self) -> &'static str {
        "Half precision, rounded to nearest: 2 bytes a number"
    }

    fn octets(&self, _: &Plan<'_>, count: u32) -> u64 {
        2 * u64::from(count)
    }

    fn encode(
        &self,
        _: &Plan<'_>,
        numbers: &[f32],
        cursor: &mut Cursor,
        octets: &mut [u8],
    ) -> usize {
        let rest = numbers.get(cursor.next..).unwrap_or(&[]);
        let (slots, _) = octets.as_chunks_mut::<2>();
        let n = rest.len().min(slots.len());
        for (slot, number) in slots.iter_mut().zip(rest) {
            *slot = from_single(*number).to_le_bytes();
        }
        cursor.next += n;
        2 * n
    }

    fn decode(&self, octets: &[u8], cursor: &mut Cursor, numbers: &mut [f32]) -> Option<usize> {
        let (words, _) = octets.as_chunks::<2>();
        let slots = numbers.get_mut(cursor.next..)?.get_mut(..words.len())?;
        for (slot, word) in slots.iter_mut().zip(words) {
            *slot = to_single(u16::from_le_bytes(*word));
        }
        cursor.next += words.len();
        Some(2 * words.len())
    }
}

/// Bits of infinity in half precision.
const INFINITY: u16 = 0x7c00;

/// The nearest number of half precision, as bits.
pub(super) fn from_single(number: f32) -> u16 {
    let bits = number.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    sign | match magnitude {
        0x7f80_0001.. => INFINITY | 0x200,
        // From 65,520, which lies halfway between the largest number and the next power of two.
        0x477f_f000.. => INFINITY,
        // From 2^-14: the exponent's bias goes from 127 to 15, and 13 bits are rounded off.
        0x3880_0000.. => {
            let odd = magnitude >> 13 & 1;
            ((magnitude - (112 << 23) + 0xfff + odd) >> 13) as u16
        }
        // Above 2^-25: multiples of 2^-24.
        0x3300_0001.. => {
            let significand = magnitude & 0x7f_ffff | 0x80_0000;
            let shift = 126 - (magnitude >> 23);
            let odd = significand >> shift & 1;
            ((significand + (1 << (shift - 1)) - 1 + odd) >> shift) as u16
        }
        _ => 0,
    }
}

/// A number of half precision, exactly.
pub(super) fn to_single(half: u16) -> f32 {
    const SMALLEST: f32 = 1.0 / (1 << 24) as f32;
    let sign = u32::from(half & 0x8000) << 16;
    let fraction = u32::from(half & 0x3ff);
    let magnitude = match u32::from(half >> 10 & 0x1f) {
        0 => (fraction as f32 * SMALLEST).to_bits(),
        31 => 0x7f80_0000 | fraction << 13,
        exponent => (exponent + 112) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every number, but under Miri, which is slow.
    const STRIDE: usize = if cfg!(miri) { 499 } else { 1 };

    #[test]
    fn every_half_comes_back_with_its_bits() {
        for half in (0..=u16::MAX).step_by(STRIDE) {
            let back = from_single(to_single(half));
            let nan = half & 0x7fff > INFINITY;
            assert_eq!(back, if nan { half & 0x8000 | 0x7e00 } else { half });
        }
    }

    #[test]
    fn rounding_is_to_the_nearest_and_ties_go_to_even() {
        // All neighbours a and b: what lies between them goes to the nearer, the middle to the even.
        for low in (0..INFINITY - 1).step_by(STRIDE) {
            let (a, b) = (to_single(low), to_single(low + 1));
            let middle = a + (b - a) / 2.0;
            let even = low + (low & 1);
            assert_eq!(from_single(middle), even, "{middle:e}");
            assert_eq!(from_single(middle.next_down()), low, "{middle:e}");
            assert_eq!(from_single(middle.next_up()), low + 1, "{middle:e}");
            assert_eq!(from_single(-middle), even | 0x8000);
        }
        assert_eq!(from_single(65_519.996), 0x7bff);
        assert_eq!(from_single(65_520.0), INFINITY);
        assert_eq!(from_single(f32::MAX), INFINITY);
        assert_eq!(from_single(f32::from_bits(1)), 0);
    }

    #[test]
    fn octets_are_pinned() {
        let numbers = [1.0, -0.5, 0.1, 65_504.0, 5.960_464_5e-8, -0.0];
        let mut octets = [0; 12];
        let mut cursor = Cursor::default();
        assert_eq!(
            F16.encode(&Plan::default(), &numbers, &mut cursor, &mut octets),
            12
        );
        let expected = [0, 0x3c, 0, 0xb8, 0x66, 0x2e, 0xff, 0x7b, 1, 0, 0, 0x80];
        assert_eq!(octets, expected);
    }
}
