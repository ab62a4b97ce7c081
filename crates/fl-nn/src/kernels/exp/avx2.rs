//! Exponentials with AVX2 for a PC that QEMU emulates: eight at a time, and constants that are broadcast from memory.

#[cfg(target_arch = "x86")]
use core::arch::x86::*;
#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::*;

use bytemuck::cast;

use super::{LEAST, WHOLE, magnitude_bits};

/// As [`super::exp_fours`], of ten numbers.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn exp_ten(from: &[f32; 10], max: f32, to: &mut [f32; 10]) -> bool {
    let (Some(first), Some(last)) = (from.first_chunk::<8>(), from.last_chunk::<4>()) else {
        return false;
    };
    let first = _mm256_sub_ps(cast(*first), _mm256_set1_ps(max));
    let last = _mm_sub_ps(cast(*last), _mm_set1_ps(max));
    // They overlap by two, which are the same in both.
    if let Some(to) = to.first_chunk_mut::<8>() {
        *to = cast(exp_eight(first));
    }
    if let Some(to) = to.last_chunk_mut::<4>() {
        *to = cast(exp_four(last));
    }
    is_inside_eight(first) && is_inside_four(last)
}

/// [`super::exp_of_four`] and its bounds, by the intrinsics of a width.
macro_rules! exponential {
    (
        $exp:ident, $is_inside:ident, $floats:ty, $integers:ty, $ones:ident, $add:ident, $sub:ident, $mul:ident,
        $div:ident, $select:ident, $whole:ident, $add_whole:ident, $sub_whole:ident, $greater:ident, $and:ident,
        $or:ident, $and_not:ident, $shift:ident, $test:ident, $zero:ident
    ) => {
        #[inline]
        #[target_feature(enable = "avx2")]
        fn $exp(x: $floats) -> $floats {
            let number = |bits| $ones(f32::from_bits(bits));
            let magnitude = |x: $floats| $and(cast(x), $whole(i32::MAX));
            let (one, whole, size) = (number(0x3f80_0000), number(WHOLE as u32), magnitude(x));
            let many = $sub($mul(x, number(0x3fb8_aa3b)), number(0x3f00_0000));
            let sum = $add(many, whole);
            let is_low = $greater(magnitude($sub(sum, whole)), magnitude(many));
            let many = $sub_whole($sub_whole(cast(sum), $whole(WHOLE)), is_low);
            let is_many = $greater(size, $whole(0x3f85_1592));
            let is_one = $greater(size, $whole(0x3eb1_7218));
            let k = $or($and(is_many, many), $and_not(is_many, is_one));
            let multiple = $sub(cast($add_whole(k, $whole(WHOLE))), whole);
            let high = $sub(x, $mul(multiple, number(0x3f31_7200)));
            let low = $mul(multiple, number(0x35bf_be8e));
            let r = $sub(high, low);
            let square = $mul(r, r);
            let p = $add($ones(1.666_662_5e-1), $mul(square, $ones(-2.766_733_3e-3)));
            let c = $sub(r, $mul(square, p));
            let quotient = $div($mul(r, c), $sub(number(0x4000_0000), c));
            let y = $add(one, $add($sub(quotient, low), high));
            let power = cast($shift::<23>($add_whole(k, $whole(127))));
            let is_large = cast($greater(size, $whole(0x3900_0000)));
            $select($add(one, x), $mul(y, power), is_large)
        }

        #[inline]
        #[target_feature(enable = "avx2")]
        fn $is_inside(x: $floats) -> bool {
            let bits: $integers = cast(x);
            let size = $and(bits, $whole(i32::MAX));
            let outside = $or(
                $greater(size, $whole(magnitude_bits(LEAST))),
                $greater(bits, $zero()),
            );
            $test(outside, outside) == 1
        }
    };
}

exponential!(
    exp_eight,
    is_inside_eight,
    __m256,
    __m256i,
    _mm256_set1_ps,
    _mm256_add_ps,
    _mm256_sub_ps,
    _mm256_mul_ps,
    _mm256_div_ps,
    _mm256_blendv_ps,
    _mm256_set1_epi32,
    _mm256_add_epi32,
    _mm256_sub_epi32,
    _mm256_cmpgt_epi32,
    _mm256_and_si256,
    _mm256_or_si256,
    _mm256_andnot_si256,
    _mm256_slli_epi32,
    _mm256_testz_si256,
    _mm256_setzero_si256
);
exponential!(
    exp_four,
    is_inside_four,
    __m128,
    __m128i,
    _mm_set1_ps,
    _mm_add_ps,
    _mm_sub_ps,
    _mm_mul_ps,
    _mm_div_ps,
    _mm_blendv_ps,
    _mm_set1_epi32,
    _mm_add_epi32,
    _mm_sub_epi32,
    _mm_cmpgt_epi32,
    _mm_and_si128,
    _mm_or_si128,
    _mm_andnot_si128,
    _mm_slli_epi32,
    _mm_testz_si128,
    _mm_setzero_si128
);
