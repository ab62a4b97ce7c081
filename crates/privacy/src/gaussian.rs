//! Rényi divergence of a Gaussian mechanism on a Poisson sample.

use std::f64::consts::{LN_2, PI, SQRT_2};

/// Terms below this, as a logarithm, no longer change a sum.
const NEGLIGIBLE: f64 = -30.0;

/// Terms after which a series is given up.
const MOST_TERMS: u32 = 1000;

/// Divergence of one round at an order above 1.
pub fn divergence(sampling: f64, noise_multiplier: f64, order: f64) -> f64 {
    if sampling <= 0.0 {
        return 0.0;
    }
    if noise_multiplier <= 0.0 {
        return f64::INFINITY;
    }
    if sampling >= 1.0 {
        return order / (2.0 * noise_multiplier * noise_multiplier);
    }
    let log_moment = if order.fract() == 0.0 {
        whole(sampling, noise_multiplier, order as u32)
    } else {
        fractional(sampling, noise_multiplier, order)
    };
    log_moment / (order - 1.0)
}

/// Bound of the divergence of one round on a sample of fixed size, for whole orders from 2: Theorem 9 of Wang, Balle
/// and Kasiviswanathan. The noise multiplier is over the most that the mean changes if one client is another.
pub fn fixed_size(sampling: f64, noise_multiplier: f64, order: f64) -> f64 {
    if order.fract() != 0.0 || order < 2.0 || noise_multiplier <= 0.0 {
        return f64::INFINITY;
    }
    let whole = divergence(1.0, noise_multiplier, order);
    if sampling >= 1.0 {
        return whole;
    }
    let of = |j: f64| divergence(1.0, noise_multiplier, j);
    let term = |j: u32| {
        let j = f64::from(j);
        let twice = LN_2 + (j - 1.0) * of(j);
        let bound = match j {
            2.0 => twice.min(2.0 * LN_2 + libm::log(libm::expm1(of(2.0)))),
            _ => twice,
        };
        j * libm::log(sampling) + log_choose(order, j) + bound
    };
    let log_moment = (2..=order as u32).map(term).fold(0.0, log_add);
    (log_moment / (order - 1.0)).min(whole)
}

/// Logarithm of the moment for a whole order: Section 3.3 of Mironov, Talwar and Zhang.
fn whole(q: f64, sigma: f64, order: u32) -> f64 {
    let alpha = f64::from(order);
    let term = |k: u32| {
        let k = f64::from(k);
        let exponent = (k * k - k) / (2.0 * sigma * sigma);
        log_choose(alpha, k) + k * libm::log(q) + (alpha - k) * libm::log1p(-q) + exponent
    };
    (0..=order).map(term).fold(f64::NEG_INFINITY, log_add)
}

/// Logarithm of the moment for any order: two series, split where the densities cross.
fn fractional(q: f64, sigma: f64, alpha: f64) -> f64 {
    let (log_q, log_rest) = (libm::log(q), libm::log1p(-q));
    let crossing = sigma * sigma * (log_rest - log_q) + 0.5;
    let variance = 2.0 * sigma * sigma;
    let (mut below, mut above) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    let mut coefficient = 1.0_f64;
    for i in 0..MOST_TERMS {
        let i = f64::from(i);
        let j = alpha - i;
        let log_coefficient = libm::log(coefficient.abs());
        let part = |k: f64, rest: f64, edge: f64| {
            let tail = log_erfc(edge / (SQRT_2 * sigma)) - LN_2;
            log_coefficient + k * log_q + rest * log_rest + (k * k - k) / variance + tail
        };
        let (lower, upper) = (part(i, j, i - crossing), part(j, i, crossing - j));
        let add = if coefficient > 0.0 {
            log_add
        } else {
            log_subtract
        };
        (below, above) = (add(below, lower), add(above, upper));
        if lower.max(upper) < NEGLIGIBLE {
            return log_add(below, above);
        }
        coefficient *= (alpha - i) / (i + 1.0);
    }
    // Without its end the sum bounds nothing: other orders do.
    f64::INFINITY
}

/// Logarithm of a binomial coefficient.
fn log_choose(n: f64, k: f64) -> f64 {
    libm::lgamma(n + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(n - k + 1.0)
}

/// Logarithm of the sum of two numbers given by theirs.
fn log_add(a: f64, b: f64) -> f64 {
    let (low, high) = (a.min(b), a.max(b));
    if low == f64::NEG_INFINITY {
        return high;
    }
    high + libm::log1p(libm::exp(low - high))
}

/// Logarithm of a difference; the first number is the larger.
fn log_subtract(a: f64, b: f64) -> f64 {
    if b == f64::NEG_INFINITY {
        return a;
    }
    if a <= b {
        return f64::NEG_INFINITY;
    }
    a + libm::log1p(-libm::exp(b - a))
}

/// Logarithm of the complementary error function, also where that is too small for a number.
fn log_erfc(x: f64) -> f64 {
    if x < 20.0 {
        return libm::log(libm::erfc(x));
    }
    let s = 1.0 / (x * x);
    let series = 1.0 - 0.5 * s + 0.75 * s * s - 1.875 * s * s * s;
    -x * x - libm::log(x) - 0.5 * libm::log(PI) + libm::log(series)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_order_lies_on_the_curve_of_its_neighbours() {
        for (q, sigma) in [(0.01, 1.0), (0.1, 2.0), (0.5, 4.0)] {
            for order in [2.0, 5.0, 11.0] {
                let (low, high) = (order - 1e-6, order + 1e-6);
                let mean = (divergence(q, sigma, low) + divergence(q, sigma, high)) / 2.0;
                let found = divergence(q, sigma, order);
                assert!(
                    (found / mean - 1.0).abs() < 1e-6,
                    "{q} {sigma} {order}: {found} {mean}"
                );
            }
        }
    }

    /// The moment of the ratio of both densities, as an integral, against the series.
    #[test]
    fn every_order_is_that_of_the_integral() {
        for (q, sigma, alpha) in [
            (0.1, 1.0, 3.5),
            (0.2, 2.0, 7.3),
            (0.01, 0.7, 2.1),
            (0.5, 3.0, 4.0),
        ] {
            let step = 1e-3;
            let at = |x: f64| {
                let density =
                    libm::exp(-x * x / (2.0 * sigma * sigma)) / (sigma * libm::sqrt(2.0 * PI));
                let ratio = 1.0 - q + q * libm::exp((2.0 * x - 1.0) / (2.0 * sigma * sigma));
                density * libm::pow(ratio, alpha)
            };
            let moment: f64 = (-40_000..60_000)
                .map(|i| step * at(f64::from(i) * step))
                .sum();
            let expected = libm::log(moment) / (alpha - 1.0);
            let found = divergence(q, sigma, alpha);
            assert!(
                (found / expected - 1.0).abs() < 1e-6,
                "{q} {sigma} {alpha}: {found} {expected}"
            );
        }
    }

    #[test]
    fn the_tail_goes_on_where_the_function_ends() {
        let (below, above) = (log_erfc(19.999_999), log_erfc(20.000_001));
        assert!((below - above - 8e-5).abs() < 1e-6, "{below} {above}");
        assert!(log_erfc(100.0) < -10_000.0);
    }

    #[test]
    fn a_sample_of_all_is_the_gaussian_mechanism_and_one_of_none_tells_nothing() {
        assert_eq!(divergence(1.0, 2.0, 8.0), 1.0);
        assert_eq!(divergence(0.0, 2.0, 8.0), 0.0);
        assert_eq!(divergence(0.5, 0.0, 8.0), f64::INFINITY);
    }
}
