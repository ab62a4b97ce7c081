//! Bound and noise of an update, for differential privacy.
//!
//! Abadi et al. 2016, *Deep Learning with Differential Privacy*: <https://arxiv.org/abs/1607.00133>, for updates
//! as McMahan et al. 2018 have it: <https://arxiv.org/abs/1710.06963>. All sums are f64 in the order of the
//! parameters, and the functions those of `libm`: the same bits on every body.

use fl_rng::Normal;

/// Scales what `weights` have changed from `global` down to a Euclidean norm of `longest`; tells if it was
/// longer. If it was not, no bit changes.
///
/// # Shapes
/// `global`, `weights`: `[num_params]`.
pub fn clip(global: &[f32], weights: &mut [f32], longest: f32) -> bool {
    let change = |(w, g): (&f32, &f32)| f64::from(*w) - f64::from(*g);
    let squares = weights.iter().zip(global).map(|pair| {
        let change = change(pair);
        change * change
    });
    let norm = libm::sqrt(squares.sum::<f64>());
    let longest = f64::from(longest);
    if norm <= longest {
        return false;
    }
    let factor = longest / norm;
    for (w, g) in weights.iter_mut().zip(global) {
        *w = (f64::from(*g) + factor * change((w, g))) as f32;
    }
    true
}

/// Adds Gaussian noise of this standard deviation to every number; with 0 no bit changes.
pub fn add_noise(weights: &mut [f32], stddev: f64, normal: &mut Normal) {
    if stddev == 0.0 {
        return;
    }
    for w in weights {
        *w = (f64::from(*w) + stddev * normal.sample()) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fl_rng::{Pcg32, Purpose};

    #[test]
    fn what_is_short_enough_keeps_its_bits() {
        let global = [0.1, -0.2, 0.3];
        let mut weights = [0.4, -0.6, 0.3];
        assert!(!clip(&global, &mut weights, 0.51));
        assert_eq!(weights, [0.4, -0.6, 0.3]);
        add_noise(&mut weights, 0.0, &mut normal());
        assert_eq!(weights, [0.4, -0.6, 0.3]);
    }

    #[test]
    fn what_is_too_long_keeps_its_direction() {
        let global = [1.0, 1.0];
        let mut weights = [4.0, 5.0];
        assert!(clip(&global, &mut weights, 2.5));
        assert_eq!(weights, [2.5, 3.0]);
    }

    #[test]
    fn noise_is_that_of_its_stream() {
        let (mut weights, mut expected) = ([1.0; 3], normal());
        add_noise(&mut weights, 0.5, &mut normal());
        for weight in weights {
            assert_eq!(weight, (1.0 + 0.5 * expected.sample()) as f32);
        }
    }

    fn normal() -> Normal {
        Normal::new(Pcg32::new(Purpose::DeviceNoise, 7))
    }
}
