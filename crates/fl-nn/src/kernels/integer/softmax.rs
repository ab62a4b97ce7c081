//! Softmax with cross-entropy in integers: powers of two and logarithms by polynomials.

use super::{DELTAS, SUMS};

/// Upper half of a product.
#[inline(always)]
fn high(a: u32, b: u32) -> u32 {
    ((u64::from(a) * u64::from(b)) >> 32) as u32
}

/// `x * (c[0] - x * (c[1] - x * ..))`, for x in units of 2^-32.
#[inline(always)]
fn alternating(x: u32, coefficients: [u32; 6]) -> u32 {
    let folded = coefficients.iter().rev();
    folded.fold(0, |sum, coefficient| high(x, coefficient - sum))
}

/// `exp(-d)` for d of [`SUMS`] places, with an error of 2^-26 at most.
///
/// # Units
/// 2^-30.
pub(crate) fn exp_of_minus(d: u32) -> u32 {
    /// log2(e), in units of 2^-30.
    const LOG2_E: u64 = 1_549_082_005;
    /// `(1 - 2^-x) / x`, interpolated in Chebyshev's points of `0..1`.
    const POWER: [u32; 6] = [
        2_977_044_447,
        1_031_763_206,
        238_367_376,
        41_218_952,
        5_547_538,
        493_577,
    ];
    let exponent = u64::from(d) * LOG2_E;
    let (whole, part) = (
        (exponent >> (30 + SUMS)) as u32,
        (exponent >> (SUMS - 2)) as u32,
    );
    let power = (1 << 30) - (alternating(part, POWER) >> 2);
    power >> whole.min(31)
}

/// Natural logarithm of a sum of [`exp_of_minus`] that is one at least, in units of 2^-[`SUMS`].
fn ln(sum: u64) -> u64 {
    /// ln(2), in units of 2^-20.
    const LN_2: u64 = 726_817;
    /// `ln(1 + x) / x`, interpolated in Chebyshev's points of `0..1`, in units of 2^-31.
    const LOGARITHM: [u32; 6] = [
        2_147_463_445,
        1_072_270_051,
        697_609_163,
        448_994_885,
        215_048_438,
        50_344_867,
    ];
    let above = sum.leading_zeros();
    let part = (sum << above << 1 >> 32) as u32;
    let whole = u64::from(33_u32.saturating_sub(above));
    whole * LN_2 + u64::from(alternating(part, LOGARITHM) >> (31 - SUMS))
}

/// Loss of one example, and in `deltas` its derivative by the logits, `softmax - one_hot(label)`.
///
/// # Units
/// Loss and logits: 2^-[`SUMS`]; derivatives: 2^-[`DELTAS`].
pub(crate) fn cross_entropy_gradient(logits: &[i32], label: usize, deltas: &mut [i32]) -> u64 {
    let max = logits.iter().fold(i32::MIN, |max, &z| max.max(z));
    let mut sum = 0;
    for (delta, z) in deltas.iter_mut().zip(logits) {
        let power = exp_of_minus(max.abs_diff(*z));
        *delta = power as i32;
        sum += u64::from(power);
    }
    // The largest logit alone gives 2^30.
    let scale = ((1 << 62) / sum.max(1 << 30)).min(u32::MAX.into());
    for delta in deltas.iter_mut() {
        const RIGHT: u32 = 62 - DELTAS;
        *delta = ((u64::from(*delta as u32) * scale + (1 << (RIGHT - 1))) >> RIGHT) as i32;
    }
    deltas[label] -= 1 << DELTAS;
    ln(sum) + u64::from(max.abs_diff(logits[label]))
}

/// Turns a sum into the output of a sigmoid, `1 / (1 + exp(-z))`.
///
/// # Units
/// 2^-15.
pub(crate) fn sigmoid(z: i32) -> i32 {
    let below = (1 << 30) + exp_of_minus(z.unsigned_abs());
    // The output for the magnitude, which is half of one at least.
    let upper = ((1 << 31) / (below >> 14)).min(0x7fff) as i32;
    if z < 0 { 0x8000 - upper } else { upper }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "slow")]
    fn exponentials_and_sigmoids_are_close_for_every_argument() {
        for d in (0..40 << SUMS).step_by(977).chain([u32::MAX]) {
            let x = f64::from(d) / f64::from(1 << SUMS);
            let found = f64::from(exp_of_minus(d)) / f64::from(1 << 30);
            assert!(
                (found - (-x).exp()).abs() < 2.0_f64.powi(-26),
                "{x}: {found}"
            );
            for (z, sign) in [(d as i32, 1.0), (-(d as i32), -1.0)] {
                let found = f64::from(sigmoid(z)) / f64::from(1 << 15);
                let x = if d == u32::MAX { 0.0 } else { sign * x };
                assert!(
                    (found - 1.0 / (1.0 + (-x).exp())).abs() < 1e-4,
                    "{x}: {found}"
                );
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "slow")]
    fn the_loss_and_its_gradient_are_those_of_floats() {
        let mut rng = fl_rng::Pcg32::on_stream(9, 9);
        for classes in [1, 2, 3, 10, 1000] {
            for scale in [0.01, 1.0, 15.0, 900.0] {
                let logits: Vec<i32> = (0..classes)
                    .map(|_| (rng.symmetric() * scale * (1 << SUMS) as f32) as i32)
                    .collect();
                let label = rng.below(classes) as usize;
                let mut deltas = vec![7; logits.len()];
                let loss = cross_entropy_gradient(&logits, label, &mut deltas);
                let z = |i: usize| f64::from(logits[i]) / f64::from(1 << SUMS);
                let max = (0..logits.len()).map(z).fold(f64::MIN, f64::max);
                let sum: f64 = (0..logits.len()).map(|i| (z(i) - max).exp()).sum();
                let expected = sum.ln() + max - z(label);
                assert!(
                    (loss as f64 / f64::from(1 << SUMS) - expected).abs() < 2e-5,
                    "{expected}"
                );
                for (i, &delta) in deltas.iter().enumerate() {
                    let expected = (z(i) - max).exp() / sum - f64::from(u8::from(i == label));
                    let found = f64::from(delta) / f64::from(1 << DELTAS);
                    assert!(
                        (found - expected).abs() < 6e-8,
                        "{classes} {i}: {found} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_ends_of_the_numbers_are_no_trap() {
        let mut deltas = [0; 2];
        let loss = cross_entropy_gradient(&[i32::MAX, i32::MIN], 1, &mut deltas);
        assert_eq!(
            (loss, deltas),
            (u32::MAX.into(), [1 << DELTAS, -(1 << DELTAS)])
        );
        assert_eq!([i32::MIN, i32::MAX, 0].map(sigmoid), [1, 0x7fff, 0x4000]);
    }
}
