//! Exponentials of a softmax, four at a time, to the bits of the `libm` crate.

#[cfg(any(test, target_feature = "sse2", target_feature = "neon"))]
use wide::{f32x4, i32x4};

/// `to = exp(from - max)`, of numbers that are `max` at most.
///
/// # Shapes
/// `from`, `to`: `[len]`.
pub(crate) fn exp_less(from: &[f32], max: f32, to: &mut [f32]) {
    #[cfg(any(target_feature = "sse2", target_feature = "neon"))]
    if exp_fours(from, max, to) {
        return;
    }
    for (to, &z) in to.iter_mut().zip(from) {
        *to = libm::expf(z - max);
    }
}

/// As [`exp_less`]; false, with nothing of worth in `to`, if a difference is not in [`exp_of_four`]'s bounds.
#[cfg(any(test, target_feature = "sse2", target_feature = "neon"))]
fn exp_fours(from: &[f32], max: f32, to: &mut [f32]) -> bool {
    let mut inside = i32x4::splat(-1);
    let mut of_four = |from: [f32; 4]| {
        let x = f32x4::from(from) - f32x4::splat(max);
        let bounds = x.simd_ge(f32x4::splat(LEAST)) & f32x4::ZERO.simd_ge(x);
        inside &= bytemuck::cast::<f32x4, i32x4>(bounds);
        exp_of_four(x).to_array()
    };
    let (Some(last), Some(to_last)) = (from.last_chunk(), to.last_chunk_mut()) else {
        return false;
    };
    // The last four overlap with those before.
    *to_last = of_four(*last);
    for (to, &from) in to.as_chunks_mut().0.iter_mut().zip(from.as_chunks().0) {
        *to = of_four(from);
    }
    inside.all()
}

/// Below it a power of two would be subnormal.
#[cfg(any(test, target_feature = "sse2", target_feature = "neon"))]
const LEAST: f32 = -86.0;

/// `exp` by the steps of `libm::expf`, for numbers from [`LEAST`] to zero.
#[cfg(any(test, target_feature = "sse2", target_feature = "neon"))]
#[inline(always)]
fn exp_of_four(x: f32x4) -> f32x4 {
    let number = |bits| f32x4::splat(f32::from_bits(bits));
    let one = f32x4::ONE;
    // The multiple of ln 2: none above minus half of it, minus one down to one and a half.
    let many = x * number(0x3fb8_aa3b) - f32x4::splat(0.5);
    let many: i32x4 = many.fast_trunc_int();
    let below = |bits| bytemuck::cast::<f32x4, i32x4>(number(bits).simd_gt(x));
    let is_many = below(0xbf85_1592);
    let k = (is_many & many) | (!is_many & below(0xbeb1_7218));
    let multiple = k.round_float();
    let high = x - multiple * number(0x3f31_7200);
    let low = multiple * number(0x35bf_be8e);
    let r = high - low;
    let square = r * r;
    let p = f32x4::splat(1.666_662_5e-1) + square * f32x4::splat(-2.766_733_3e-3);
    let c = r - square * p;
    let y = one + (r * c / (f32x4::splat(2.0) - c) - low + high);
    let power: f32x4 = bytemuck::cast((k + i32x4::splat(127)) << 23);
    let is_small = x.simd_ge(number(0xb900_0000));
    is_small.select(one + x, y * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every bound of a step and its neighbours, and numbers in between.
    #[test]
    fn exponentials_are_those_of_libm() {
        let bounds = [0xbeb1_7218, 0xbf85_1592, 0xb900_0000, LEAST.to_bits()];
        let near = bounds.into_iter().flat_map(|bits| bits - 3..=bits + 3);
        let between =
            (0x8000_0000..LEAST.to_bits()).step_by(if cfg!(miri) { 1 << 24 } else { 1511 });
        let numbers: Vec<f32> = near
            .chain(between)
            .map(f32::from_bits)
            .chain([0.0, -0.0])
            .collect();
        for from in numbers.chunks(1022) {
            let mut to = vec![7.0; from.len()];
            exp_less(from, 0.0, &mut to);
            for (x, found) in from.iter().zip(to) {
                assert_eq!(found.to_bits(), libm::expf(*x).to_bits(), "{x}");
            }
        }
    }

    #[test]
    fn numbers_out_of_bounds_are_left_to_libm() {
        let mut to = [7.0; 5];
        for wild in [
            f32::NAN,
            f32::NEG_INFINITY,
            -86.1,
            -104.0,
            f32::INFINITY,
            1.0,
        ] {
            let from = [0.0, -1.0, -2.0, -3.0, wild];
            assert!(!exp_fours(&from, 0.0, &mut to), "{wild}");
            exp_less(&from, 0.0, &mut to);
            assert_eq!(to.map(f32::to_bits), from.map(libm::expf).map(f32::to_bits));
        }
        assert!(exp_fours(&[9.5, 9.0, 9.5 - 86.0, 8.0, 7.0], 9.5, &mut to));
    }
}
