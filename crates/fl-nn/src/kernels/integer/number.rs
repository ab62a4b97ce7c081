//! Fixed-point numbers: from f32 and back by their bits, rounding shifts, and the rate of a step.

use crate::error::TrainError;

/// Most places of parameters: their unit is that of an f32 of 0.03 to 0.06.
const FINEST: u32 = 28;

/// Biased exponent of numbers in `0.5..1`.
const BELOW_ONE: u32 = 126;

/// Largest biased exponent of a parameter: below 2^8.
const LARGEST: u32 = BELOW_ONE + 8;

/// Exponent of an f32, biased by 127.
fn exponent(bits: u32) -> u32 {
    bits << 1 >> 24
}

/// Places of a model's parameters: 28, or fewer, so that the largest can grow eightfold.
///
/// # Errors
/// [`TrainError::Diverged`] if one is 256 or more, or not finite.
pub(crate) fn places(params: &[f32]) -> Result<u32, TrainError> {
    let magnitudes = params.iter().map(|param| param.to_bits() << 1);
    let largest = exponent(magnitudes.max().unwrap_or(0) >> 1);
    if largest > LARGEST {
        return Err(TrainError::Diverged);
    }
    Ok(FINEST - largest.saturating_sub(BELOW_ONE))
}

/// The nearest fixed-point number, for the [`places`] of a model with this parameter.
pub(crate) fn from_f32(value: f32, places: u32) -> i32 {
    let bits = value.to_bits();
    // Of a subnormal number nothing is left.
    let mantissa = (bits & 0x7f_ffff | 0x80_0000) as i32;
    let right = 150 - (exponent(bits) as i32 + places as i32);
    let magnitude = match right {
        ..=0 => mantissa << -right,
        1..=25 => (mantissa + (1 << (right - 1))) >> right,
        _ => 0,
    };
    if bits >> 31 == 1 {
        -magnitude
    } else {
        magnitude
    }
}

/// The nearest f32.
pub(crate) fn to_f32(value: i32, places: u32) -> f32 {
    match value {
        0 => 0.0,
        // Far from subnormal: the exponent is a matter of subtraction.
        _ => f32::from_bits((value as f32).to_bits() - (places << 23)),
    }
}

/// `value / 2^places`, rounded to the nearest, in 32 bits.
///
/// # Units
/// `places`: 1 to 62; `value`: below 2^62.
#[inline(always)]
pub(crate) fn shifted(value: i64, places: u32) -> i32 {
    saturated((value + (1 << (places - 1))) >> places)
}

/// The nearest number of 32 bits.
#[inline(always)]
pub(crate) fn saturated(value: i64) -> i32 {
    i32::try_from(value).unwrap_or(if value < 0 { i32::MIN } else { i32::MAX })
}

/// Bits of the largest magnitude beyond fifteen.
pub(crate) fn bits_above_15(values: &[i32]) -> u32 {
    // Of negative numbers one less than the magnitude: rounding takes care of the last unit.
    let all = values
        .iter()
        .fold(0, |all, value| all | value ^ value >> 31);
    17_u32.saturating_sub(all.leading_zeros())
}

/// A positive factor `mantissa / 2^places`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Factor {
    /// Of 31 bits.
    mantissa: u32,
    places: i32,
}

impl Factor {
    /// `value / divisor`, of a positive finite number and a divisor in `1..2^24`.
    pub fn ratio(value: f32, divisor: u32) -> Self {
        let bits = value.to_bits();
        let (mantissa, exponent) = match exponent(bits) {
            0 => (bits & 0x7f_ffff, 1),
            exponent => (bits & 0x7f_ffff | 0x80_0000, exponent),
        };
        let quotient = (u64::from(mantissa) << 39) / u64::from(divisor.max(1));
        let above = 33 - quotient.leading_zeros() as i32;
        let mantissa = match above {
            ..0 => quotient << -above,
            _ => quotient >> above,
        };
        Self {
            mantissa: mantissa as u32,
            places: 189 - exponent as i32 - above,
        }
    }

    /// `sum`, of `places`, times the factor, in numbers of `target` places.
    #[inline(always)]
    pub fn step(self, target: u32, places: i32) -> Step {
        Step {
            mantissa: self.mantissa,
            right: self.places + places - target as i32,
        }
    }
}

/// A [`Factor`] between numbers of two formats.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    mantissa: u32,
    right: i32,
}

impl Step {
    /// The product, rounded to the nearest.
    #[inline(always)]
    pub fn of(self, sum: i32) -> i32 {
        let product = i64::from(sum) * i64::from(self.mantissa);
        match self.right {
            1..=62 => shifted(product, self.right as u32),
            ..=0 => saturated(product.saturating_mul(1 << (-self.right).min(40))),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_come_and_go_to_the_nearest_unit() {
        let mut rng = fl_rng::Pcg32::on_stream(7, 7);
        for scale in [1e-9, 0.01, 0.3, 1.0, 7.0, 200.0] {
            let params: Vec<f32> = (0..200).map(|_| rng.symmetric() * scale).collect();
            let places = places(&params).unwrap();
            let unit = 1.0 / f64::from(1_u32 << places);
            for &param in &params {
                let fixed = from_f32(param, places);
                let error = f64::from(fixed) * unit - f64::from(param);
                assert!(error.abs() <= unit / 2.0, "{param} {places}");
                assert!(fixed.unsigned_abs() <= 1 << 28, "{param} {places}");
                let back = f64::from(to_f32(fixed, places));
                assert!((back - f64::from(param)).abs() <= unit / 2.0 + back.abs() * 6e-8);
                // Once rounded, it stays what it is.
                if fixed.unsigned_abs() < 1 << 24 {
                    assert_eq!(from_f32(to_f32(fixed, places), places), fixed);
                }
            }
        }
        for out in [256.0, -300.0, f32::MAX, f32::INFINITY, f32::NAN, -f32::NAN] {
            assert_eq!(places(&[0.0, out, 1.0]), Err(TrainError::Diverged));
        }
        assert_eq!(places(&[]), Ok(28));
        assert_eq!(places(&[0.9, -255.0]), Ok(20));
        assert_eq!([0.0, -0.0, 1e-45].map(|zero| from_f32(zero, 28)), [0; 3]);
    }

    #[test]
    fn a_step_is_the_rounded_product() {
        let mut rng = fl_rng::Pcg32::on_stream(8, 8);
        for _ in 0..if cfg!(miri) { 50 } else { 2000 } {
            let rate = rng.symmetric().abs() * 10.0_f32.powi(rng.below(60) as i32 - 45);
            let divisor = 1 + rng.below(1 << 24).min((1 << 24) - 2);
            let sum = rng.next_u32() as i32 >> rng.below(31);
            let (target, places) = (20 + rng.below(9), rng.below(27) as i32);
            let found = Factor::ratio(rate.max(1e-44), divisor)
                .step(target, places)
                .of(sum);
            let exact = f64::from(sum) * f64::from(rate.max(1e-44)) / f64::from(divisor)
                * 2.0_f64.powi(target as i32 - places);
            let bound = f64::from(i32::MAX);
            let (exact, found) = (exact.clamp(-bound - 1.0, bound), f64::from(found));
            assert!(
                (found - exact).abs() <= 0.5 + exact.abs() * 2e-9,
                "{rate} {divisor} {sum}: {found} {exact}"
            );
        }
    }

    #[test]
    fn bits_are_counted_by_the_largest_magnitude() {
        for (value, bits) in [
            (0, 0),
            (0x7fff, 0),
            (-0x8000, 0),
            (0x8000, 1),
            (i32::MAX, 16),
            (i32::MIN, 16),
        ] {
            assert_eq!(bits_above_15(&[1, value, -1]), bits, "{value}");
        }
    }
}
