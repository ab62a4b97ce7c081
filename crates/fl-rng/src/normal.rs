//! Normally distributed numbers.

use crate::pcg::Pcg32;
use crate::split_mix::fraction;

/// The standard normal distribution, drawn in pairs by Marsaglia's polar method.
///
/// Marsaglia and Bray 1964: <https://doi.org/10.1137/1006063>. All functions are those of `libm` or exact by
/// IEEE 754, so that the bits are the same on every target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normal {
    rng: Pcg32,
    /// The other number of a pair.
    spare: Option<f64>,
}

impl Normal {
    /// The numbers that follow from a generator.
    pub fn new(rng: Pcg32) -> Self {
        Self { rng, spare: None }
    }

    /// The next number.
    pub fn sample(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (u, v) = (self.symmetric(), self.symmetric());
            let square = u * u + v * v;
            if square > 0.0 && square < 1.0 {
                let factor = libm::sqrt(-2.0 * libm::log(square) / square);
                self.spare = Some(v * factor);
                return u * factor;
            }
        }
    }

    /// Uniform in `[-1, 1)`, in steps of 2^-52.
    fn symmetric(&mut self) -> f64 {
        let word = u64::from(self.rng.next_u32()) << 32 | u64::from(self.rng.next_u32());
        2.0 * fraction(word) - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "slow")]
    fn moments_are_those_of_the_standard_normal_distribution() {
        let mut normal = Normal::new(Pcg32::on_stream(3, 9));
        let samples: Vec<f64> = (0..100_000).map(|_| normal.sample()).collect();
        let count = samples.len() as f64;
        let moment = |power| samples.iter().map(|x| x.powi(power)).sum::<f64>() / count;
        // Each within five of its standard deviations.
        assert!(moment(1).abs() < 5.0 * (1.0 / count).sqrt());
        assert!((moment(2) - 1.0).abs() < 5.0 * (2.0 / count).sqrt());
        assert!(moment(3).abs() < 5.0 * (15.0 / count).sqrt());
        assert!((moment(4) - 3.0).abs() < 5.0 * (96.0 / count).sqrt());
        let beyond = samples.iter().filter(|x| x.abs() > 1.96).count() as f64 / count;
        assert!((beyond - 0.05).abs() < 0.004, "{beyond}");
    }

    #[test]
    fn bits_are_those_of_the_first_day() {
        let mut normal = Normal::new(Pcg32::on_stream(42, 54));
        let bits = [(); 4].map(|()| normal.sample().to_bits());
        let expected = [
            4_605_390_196_927_449_343,
            4_608_963_276_305_582_845,
            4_605_715_397_223_678_544,
            4_605_731_210_897_017_360,
        ];
        assert_eq!(bits, expected);
    }
}
