//! Samples of the gamma distribution as logarithms, so that a small shape gives no zero.
//!
//! All functions are those of `libm` or exact by IEEE 754: the same seed gives the same bits on every
//! machine.

use fl_rng::{Pcg32, fraction};

/// Draws the logarithm of a sample of Gamma(`shape`, 1), for a `shape` above 0.
///
/// Marsaglia and Tsang 2000, "A simple method for generating gamma variables":
/// <https://doi.org/10.1145/358407.358414>. A shape below 1 is reached from `shape + 1` by the factor
/// `U^(1 / shape)`, which as a number soon is 0 and as a logarithm never is.
pub(super) fn log_gamma(rng: &mut Pcg32, shape: f64) -> f64 {
    if shape < 1.0 {
        return log_gamma(rng, shape + 1.0) + libm::log(uniform(rng)) / shape;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / libm::sqrt(9.0 * d);
    loop {
        let x = normal(rng);
        let root = 1.0 + c * x;
        if root <= 0.0 {
            continue;
        }
        let log_v = 3.0 * libm::log(root);
        let v = root * root * root;
        if libm::log(uniform(rng)) < 0.5 * x * x + d - d * v + d * log_v {
            return libm::log(d) + log_v;
        }
    }
}

/// Draws from the standard normal distribution by Marsaglia's polar method.
pub(super) fn normal(rng: &mut Pcg32) -> f64 {
    loop {
        let (u, v) = (2.0 * uniform(rng) - 1.0, 2.0 * uniform(rng) - 1.0);
        let s = u * u + v * v;
        if s > 0.0 && s < 1.0 {
            return u * libm::sqrt(-2.0 * libm::log(s) / s);
        }
    }
}

/// Draws uniformly between 0 and 1, both excluded.
fn uniform(rng: &mut Pcg32) -> f64 {
    between(u64::from(rng.next_u32()) << 32 | u64::from(rng.next_u32()))
}

/// Number between 0 and 1, both excluded, for a random word.
fn between(word: u64) -> f64 {
    const HALF_STEP: f64 = 1.0 / (1_u64 << 54) as f64;
    // The largest sum is rounded to 1.
    (fraction(word) + HALF_STEP).min(1.0 - f64::EPSILON / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(shape: f64) -> impl Iterator<Item = f64> {
        let mut rng = Pcg32::on_stream(7, 7);
        (0..20_000).map(move |_| log_gamma(&mut rng, shape))
    }

    #[test]
    fn mean_and_variance_are_the_shape() {
        for shape in [0.1, 0.5, 1.0, 5.0, 100.0] {
            let values: Vec<f64> = samples(shape).map(libm::exp).collect();
            let count = values.len() as f64;
            let mean = values.iter().sum::<f64>() / count;
            let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            // Five standard deviations of the mean; the variance has heavier tails.
            assert!(
                (mean - shape).abs() < 5.0 * (shape / count).sqrt(),
                "{mean}"
            );
            assert!((variance / shape - 1.0).abs() < 0.2, "{shape}: {variance}");
        }
    }

    #[test]
    fn no_shape_gives_anything_but_a_number() {
        for shape in [1e-6, 1e-3, 0.999_999, 1e6] {
            assert!(samples(shape).all(f64::is_finite), "{shape}");
        }
    }

    #[test]
    fn uniform_excludes_both_ends() {
        let mut rng = Pcg32::on_stream(1, 1);
        assert!((0..100_000).all(|_| (f64::MIN_POSITIVE..1.0).contains(&uniform(&mut rng))));
        assert_eq!(between(0), 2.0_f64.powi(-54));
        assert_eq!(between(u64::MAX), 1.0_f64.next_down());
    }
}
