//! Exponentials of a softmax, four at a time, to the bits of the `libm` crate.

#[cfg(any(test, target_feature = "sse2", target_feature = "neon"))]
use wide::{f32x4, i32x4};

#[cfg(any(target_arch = "x86", all(test, target_arch = "x86_64", not(miri))))]
mod avx2;

/// `to = exp(from - max)`, of numbers that are `max` at most.
///
/// # Shapes
/// `from`, `to`: `[len]`.
#[inline(always)]
pub(crate) fn exp_less(from: &[f32], max: f32, to: &mut [f32]) {
    #[cfg(target_arch = "x86")]
    if super::level::has_avx2()
        && let (Ok(from), Ok(to)) = (from.try_into(), <&mut [f32; 10]>::try_from(&mut *to))
    {
        // SAFETY: the processor has AVX2.
        #[allow(unsafe_code, reason = "a function of a level that was found")]
        if unsafe { avx2::exp_ten(from, max, to) } {
            return;
        }
    }
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
#[inline(always)]
fn exp_fours(from: &[f32], max: f32, to: &mut [f32]) -> bool {
    let mut outside = i32x4::ZERO;
    let mut of_four = |from: [f32; 4]| {
        let x = f32x4::from(from) - f32x4::splat(max);
        outside |= magnitude(x).simd_gt(i32x4::splat(magnitude_bits(LEAST)));
        outside |= bytemuck::cast::<f32x4, i32x4>(x).simd_gt(i32x4::ZERO);
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
    outside.none()
}

/// Below it a power of two would be subnormal.
#[cfg(any(test, target_feature = "sse2", target_feature = "neon"))]
const LEAST: f32 = -86.0;

/// Bits of 1.5 * 2^23, with which a sum has a whole number in its low bits.
#[cfg(any(test, target_feature = "sse2", target_feature = "neon"))]
const WHOLE: i32 = 0x4b40_0000;

/// Bits without the sign, in the order of the magnitudes: an emulator compares integers in a tenth of the time that it
/// needs for floats.
#[cfg(any(test, target_feature = "sse2", target_feature = "neon"))]
#[inline(always)]
fn magnitude(x: f32x4) -> i32x4 {
    bytemuck::cast::<f32x4, i32x4>(x) & i32x4::splat(i32::MAX)
}

/// As [`magnitude`], of one number.
#[cfg(any(test, target_feature = "sse2", target_feature = "neon"))]
const fn magnitude_bits(x: f32) -> i32 {
    x.to_bits() as i32 & i32::MAX
}

/// `exp` by the steps of `libm::expf`, for numbers from [`LEAST`] to zero.
#[cfg(any(test, target_feature = "sse2", target_feature = "neon"))]
#[inline(always)]
fn exp_of_four(x: f32x4) -> f32x4 {
    let number = |bits| f32x4::splat(f32::from_bits(bits));
    let (one, whole) = (f32x4::ONE, number(WHOLE as u32));
    let size = magnitude(x);
    let above = |bits| size.simd_gt(i32x4::splat(bits));
    // The multiple of ln 2: none above minus half of it, minus one down to one and a half.
    let many = x * number(0x3fb8_aa3b) - f32x4::splat(0.5);
    let sum = many + whole;
    // Rounded to the nearest, and up again where that is further from zero.
    let is_low = magnitude(sum - whole).simd_gt(magnitude(many));
    let many = bytemuck::cast::<f32x4, i32x4>(sum) - i32x4::splat(WHOLE) - is_low;
    let is_many = above(0x3f85_1592);
    let k = (is_many & many) | (!is_many & above(0x3eb1_7218));
    let multiple = bytemuck::cast::<i32x4, f32x4>(k + i32x4::splat(WHOLE)) - whole;
    let high = x - multiple * number(0x3f31_7200);
    let low = multiple * number(0x35bf_be8e);
    let r = high - low;
    let square = r * r;
    let p = f32x4::splat(1.666_662_5e-1) + square * f32x4::splat(-2.766_733_3e-3);
    let c = r - square * p;
    let y = one + (r * c / (f32x4::splat(2.0) - c) - low + high);
    let power: f32x4 = bytemuck::cast((k + i32x4::splat(127)) << 23);
    let is_large = bytemuck::cast::<i32x4, f32x4>(above(0x3900_0000));
    is_large.select(y * power, one + x)
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
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        for from in numbers.as_chunks::<10>().0 {
            if crate::kernels::level::has_avx2() && from.iter().all(|&x| x >= LEAST) {
                let mut to = [7.0; 10];
                // SAFETY: the processor has AVX2.
                #[allow(unsafe_code, reason = "a function of a level that was found")]
                let is_inside = unsafe { avx2::exp_ten(from, 0.0, &mut to) };
                let expected = from.map(libm::expf);
                assert!(is_inside, "{from:?}");
                assert_eq!(to.map(f32::to_bits), expected.map(f32::to_bits));
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
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            for place in [0, 7, 9] {
                if crate::kernels::level::has_avx2() {
                    let mut from = [-1.0; 10];
                    from[place] = wild;
                    // SAFETY: the processor has AVX2.
                    #[allow(unsafe_code, reason = "a function of a level that was found")]
                    let is_inside = unsafe { avx2::exp_ten(&from, 0.0, &mut [0.0; 10]) };
                    assert!(!is_inside, "{wild}");
                }
            }
            exp_less(&from, 0.0, &mut to);
            assert_eq!(to.map(f32::to_bits), from.map(libm::expf).map(f32::to_bits));
        }
        assert!(exp_fours(&[9.5, 9.0, 9.5 - 86.0, 8.0, 7.0], 9.5, &mut to));
    }
}
