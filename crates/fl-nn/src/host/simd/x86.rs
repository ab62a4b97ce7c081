//! AVX2 and AVX-512.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each is an instruction, and sound by the terms of the trait's methods"
)]

use core::arch::x86_64::*;

use super::kernels::table;
use crate::host::pairs::Line;

use super::{CHUNK, Eight, GROUP, Vector};

table!(
    AVX512,
    "avx512f,avx512bw,avx512vl,avx512dq,avx2,bmi1,popcnt",
    __m512,
    __m256
);
table!(AVX2, "avx2,bmi1,popcnt", __m256, __m256);

impl Vector for __m512 {
    const LANES: usize = 16;
    const SUMS: usize = 16;

    type Tile = [Self; 1];

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        unsafe { _mm512_abs_ps(self) }
    }
    #[inline(always)]
    unsafe fn max_bits(self, other: Self) -> Self {
        unsafe {
            let (a, b) = (_mm512_castps_si512(self), _mm512_castps_si512(other));
            _mm512_castsi512_ps(_mm512_max_epi32(a, b))
        }
    }
    #[inline(always)]
    unsafe fn halves(self, other: Self) -> Self {
        unsafe {
            let low = _mm512_and_si512(_mm512_castps_si512(self), _mm512_set1_epi32(0xffff));
            let high = _mm512_slli_epi32::<16>(_mm512_castps_si512(other));
            _mm512_castsi512_ps(_mm512_or_si512(low, high))
        }
    }
    #[inline(always)]
    unsafe fn pack_pairs(
        from: *const u8,
        first: u32,
        indices: *mut u32,
        values: *mut u32,
    ) -> usize {
        unsafe {
            let pairs = _mm512_cvtepu8_epi16(_mm256_loadu_si256(from.cast()));
            let set = _mm512_test_epi32_mask(pairs, pairs);
            let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let places = _mm512_add_epi32(_mm512_set1_epi32(first as i32), lanes);
            _mm512_storeu_epi32(values.cast(), _mm512_maskz_compress_epi32(set, pairs));
            _mm512_storeu_epi32(indices.cast(), _mm512_maskz_compress_epi32(set, places));
            set.count_ones() as usize
        }
    }
    #[inline(always)]
    unsafe fn weigh(tile: *const Line, indices: &[u32], octets: &[u32]) -> Self::Tile {
        unsafe {
            let mut sums = [_mm512_setzero_si512(); 2];
            let (places, last) = indices.as_chunks::<2>();
            let (pairs, rest) = octets.as_chunks::<2>();
            for (places, pairs) in places.iter().zip(pairs) {
                // One load for two places: loads are what this loop waits for.
                let both = places.as_ptr().cast::<u64>().read_unaligned();
                let lines = [
                    tile.add(both as u32 as usize),
                    tile.add((both >> 32) as usize),
                ];
                for n in 0..2 {
                    let line = _mm512_load_si512(lines[n].cast());
                    let products = _mm512_madd_epi16(line, _mm512_set1_epi32(pairs[n] as i32));
                    sums[n] = _mm512_add_epi32(sums[n], products);
                }
            }
            for (&index, &octets) in last.iter().zip(rest) {
                let line = _mm512_load_si512(tile.add(index as usize).cast());
                let products = _mm512_madd_epi16(line, _mm512_set1_epi32(octets as i32));
                sums[0] = _mm512_add_epi32(sums[0], products);
            }
            let sums = _mm512_add_epi32(sums[0], sums[1]);
            [_mm512_cvtepi32_ps(sums)]
        }
    }
    #[inline(always)]
    unsafe fn pair(octets: u32) -> Self {
        unsafe { _mm512_castsi512_ps(_mm512_set1_epi32(octets as i32)) }
    }
    #[inline(always)]
    unsafe fn add_products(self, line: *const f32, octets: Self) -> Self {
        unsafe {
            let products =
                _mm512_madd_epi16(_mm512_loadu_si512(line.cast()), _mm512_castps_si512(octets));
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(self), products))
        }
    }
    #[inline(always)]
    unsafe fn to_floats(self) -> Self {
        unsafe { _mm512_cvtepi32_ps(_mm512_castps_si512(self)) }
    }
    #[inline(always)]
    unsafe fn whole(self) -> Self {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvttps_epi32(self)) }
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvttps_epi32(self), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        }
    }
    #[inline(always)]
    unsafe fn below(self, other: Self) -> Self {
        unsafe {
            let set = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self, other);
            _mm512_castsi512_ps(_mm512_maskz_set1_epi32(set, -1))
        }
    }
    #[inline(always)]
    unsafe fn choose(self, yes: Self, no: Self) -> Self {
        unsafe { _mm512_mask_blend_ps(_mm512_movepi32_mask(_mm512_castps_si512(self)), no, yes) }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        unsafe { _mm512_min_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { _mm512_max_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_head(from: *const f32, count: usize) -> Self {
        unsafe { _mm512_maskz_loadu_ps(head(count), from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn store_head(self, to: *mut f32, count: usize) {
        unsafe { _mm512_mask_storeu_ps(to, head(count), self) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { _mm512_add_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { _mm512_sub_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { _mm512_mul_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        unsafe { _mm512_div_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        unsafe { _mm512_sqrt_ps(self) }
    }
    #[inline(always)]
    unsafe fn pack(self, first: u32, indices: *mut u32, values: *mut f32) -> usize {
        unsafe {
            let set = _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(self, _mm512_setzero_ps());
            let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let places = _mm512_add_epi32(_mm512_set1_epi32(first as i32), lanes);
            // Into a register and then out: straight to memory is slow on some processors.
            _mm512_storeu_ps(values, _mm512_maskz_compress_ps(set, self));
            _mm512_storeu_epi32(indices.cast(), _mm512_maskz_compress_epi32(set, places));
            set.count_ones() as usize
        }
    }
    #[inline(always)]
    unsafe fn octets_set(octets: &[u8; CHUNK]) -> u64 {
        unsafe {
            let octets = _mm512_loadu_si512(octets.as_ptr().cast());
            _mm512_test_epi8_mask(octets, octets)
        }
    }
    #[inline(always)]
    unsafe fn columns(rows: &[&[u8; GROUP]; GROUP], to: *mut u8, stride: usize) {
        unsafe { columns(rows, to, stride) }
    }
}

/// The mask of the first `count` lanes.
#[inline(always)]
fn head(count: usize) -> __mmask16 {
    ((1_u32 << count) - 1) as __mmask16
}

impl Vector for __m256 {
    const LANES: usize = 8;
    const SUMS: usize = 12;

    type Tile = [Self; 2];

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self) }
    }
    #[inline(always)]
    unsafe fn max_bits(self, other: Self) -> Self {
        unsafe {
            let (a, b) = (_mm256_castps_si256(self), _mm256_castps_si256(other));
            _mm256_castsi256_ps(_mm256_max_epi32(a, b))
        }
    }
    #[inline(always)]
    unsafe fn halves(self, other: Self) -> Self {
        unsafe {
            let low = _mm256_and_si256(_mm256_castps_si256(self), _mm256_set1_epi32(0xffff));
            let high = _mm256_slli_epi32::<16>(_mm256_castps_si256(other));
            _mm256_castsi256_ps(_mm256_or_si256(low, high))
        }
    }
    #[inline(always)]
    unsafe fn pack_pairs(
        from: *const u8,
        first: u32,
        indices: *mut u32,
        values: *mut u32,
    ) -> usize {
        unsafe {
            let pairs = _mm256_cvtepu8_epi16(_mm_loadu_si128(from.cast()));
            let zeros = _mm256_cmpeq_epi32(pairs, _mm256_setzero_si256());
            let set = !_mm256_movemask_ps(_mm256_castsi256_ps(zeros)) as usize & 0xff;
            let order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(PACKED[set] as i64));
            let places = _mm256_add_epi32(_mm256_set1_epi32(first as i32), order);
            _mm256_storeu_si256(values.cast(), _mm256_permutevar8x32_epi32(pairs, order));
            _mm256_storeu_si256(indices.cast(), places);
            set.count_ones() as usize
        }
    }
    #[inline(always)]
    unsafe fn weigh(tile: *const Line, indices: &[u32], octets: &[u32]) -> Self::Tile {
        unsafe {
            let mut sums = [_mm256_setzero_si256(); 2];
            for (&index, &octets) in indices.iter().zip(octets) {
                let line: *const __m256i = tile.add(index as usize).cast();
                let octets = _mm256_set1_epi32(octets as i32);
                for (n, sum) in sums.iter_mut().enumerate() {
                    let products = _mm256_madd_epi16(_mm256_load_si256(line.add(n)), octets);
                    *sum = _mm256_add_epi32(*sum, products);
                }
            }
            [_mm256_cvtepi32_ps(sums[0]), _mm256_cvtepi32_ps(sums[1])]
        }
    }
    #[inline(always)]
    unsafe fn pair(octets: u32) -> Self {
        unsafe { _mm256_castsi256_ps(_mm256_set1_epi32(octets as i32)) }
    }
    #[inline(always)]
    unsafe fn add_products(self, line: *const f32, octets: Self) -> Self {
        unsafe {
            let products =
                _mm256_madd_epi16(_mm256_loadu_si256(line.cast()), _mm256_castps_si256(octets));
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(self), products))
        }
    }
    #[inline(always)]
    unsafe fn to_floats(self) -> Self {
        unsafe { _mm256_cvtepi32_ps(_mm256_castps_si256(self)) }
    }
    #[inline(always)]
    unsafe fn whole(self) -> Self {
        unsafe { _mm256_cvtepi32_ps(_mm256_cvttps_epi32(self)) }
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        unsafe {
            let biased = _mm256_add_epi32(_mm256_cvttps_epi32(self), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        }
    }
    #[inline(always)]
    unsafe fn below(self, other: Self) -> Self {
        unsafe { _mm256_cmp_ps::<_CMP_LT_OQ>(self, other) }
    }
    #[inline(always)]
    unsafe fn choose(self, yes: Self, no: Self) -> Self {
        unsafe { _mm256_blendv_ps(no, yes, self) }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        unsafe { _mm256_min_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { _mm256_max_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_head(from: *const f32, count: usize) -> Self {
        unsafe { _mm256_maskload_ps(from, head_8(count)) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn store_head(self, to: *mut f32, count: usize) {
        // A masked store is slow on some processors, and mostly all lanes are there.
        unsafe {
            if count == Self::LANES {
                _mm256_storeu_ps(to, self);
            } else {
                _mm256_maskstore_ps(to, head_8(count), self);
            }
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { _mm256_add_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { _mm256_sub_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { _mm256_mul_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        unsafe { _mm256_div_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        unsafe { _mm256_sqrt_ps(self) }
    }
    #[inline(always)]
    unsafe fn pack(self, first: u32, indices: *mut u32, values: *mut f32) -> usize {
        unsafe {
            let set = _mm256_cmp_ps::<_CMP_NEQ_UQ>(self, _mm256_setzero_ps());
            let set = _mm256_movemask_ps(set) as usize;
            let order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(PACKED[set] as i64));
            let places = _mm256_add_epi32(_mm256_set1_epi32(first as i32), order);
            _mm256_storeu_ps(values, _mm256_permutevar8x32_ps(self, order));
            _mm256_storeu_si256(indices.cast(), places);
            set.count_ones() as usize
        }
    }
    #[inline(always)]
    unsafe fn octets_set(octets: &[u8; CHUNK]) -> u64 {
        unsafe {
            let low = _mm256_loadu_si256(octets.as_ptr().cast());
            let high = _mm256_loadu_si256(octets[32..].as_ptr().cast());
            let zero = _mm256_setzero_si256();
            let low = _mm256_movemask_epi8(_mm256_cmpeq_epi8(low, zero)) as u32;
            let high = _mm256_movemask_epi8(_mm256_cmpeq_epi8(high, zero)) as u32;
            !(u64::from(low) | u64::from(high) << 32)
        }
    }
    #[inline(always)]
    unsafe fn columns(rows: &[&[u8; GROUP]; GROUP], to: *mut u8, stride: usize) {
        unsafe { columns(rows, to, stride) }
    }
}

/// The mask of the first `count` lanes.
#[inline(always)]
unsafe fn head_8(count: usize) -> __m256i {
    const ONES_AND_ZEROS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: eight lanes from 0..=8 on are within sixteen.
    unsafe { _mm256_loadu_si256(ONES_AND_ZEROS[8 - count..][..8].as_ptr().cast()) }
}

/// For each set of eight lanes the numbers of those that are in it, an octet each, the first lowest.
static PACKED: [u64; 256] = {
    let mut packed = [0; 256];
    let mut set = 0;
    while set < 256 {
        let (mut lane, mut place) = (0, 0);
        while lane < 8 {
            if set >> lane & 1 == 1 {
                packed[set] |= lane << (8 * place);
                place += 1;
            }
            lane += 1;
        }
        set += 1;
    }
    packed
};

/// Four times the perfect shuffle of sixteen rows.
#[inline(always)]
unsafe fn columns(rows: &[&[u8; GROUP]; GROUP], to: *mut u8, stride: usize) {
    unsafe {
        let mut now = [_mm_setzero_si128(); GROUP];
        for (now, row) in now.iter_mut().zip(rows) {
            *now = _mm_loadu_si128(row.as_ptr().cast());
        }
        for _ in 0..4 {
            let before = now;
            for i in 0..GROUP / 2 {
                let (a, b) = (before[i], before[i + GROUP / 2]);
                now[2 * i] = _mm_unpacklo_epi8(a, b);
                now[2 * i + 1] = _mm_unpackhi_epi8(a, b);
            }
        }
        for (n, now) in now.into_iter().enumerate() {
            _mm_storeu_si128(to.add(n * stride).cast(), now);
        }
    }
}

impl Eight for __m256 {
    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { _mm256_add_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { _mm256_mul_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn sums(fours: [Self; 4]) -> [f32; 4] {
        unsafe {
            let mut halves = [_mm_setzero_ps(); 4];
            for (half, eight) in halves.iter_mut().zip(fours) {
                let high = _mm256_extractf128_ps::<1>(eight);
                *half = _mm_add_ps(_mm256_castps256_ps128(eight), high);
            }
            let [a, b, c, d] = halves;
            let sums = _mm_hadd_ps(_mm_hadd_ps(a, b), _mm_hadd_ps(c, d));
            let mut out = [0.0; 4];
            _mm_storeu_ps(out.as_mut_ptr(), sums);
            out
        }
    }
}
