//! NEON, which every 64-bit ARM has.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each is an instruction, and sound by the terms of the trait's methods"
)]

use core::arch::aarch64::*;

use super::kernels::table;
use crate::host::pairs::Line;

use super::{CHUNK, Eight, GROUP, Vector};

table!(NEON, "neon", float32x4_t, Halves);

impl Vector for float32x4_t {
    const LANES: usize = 4;
    const SUMS: usize = 16;

    type Tile = [Self; 4];

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        unsafe { vabsq_f32(self) }
    }
    #[inline(always)]
    unsafe fn max_bits(self, other: Self) -> Self {
        unsafe {
            let (a, b) = (vreinterpretq_s32_f32(self), vreinterpretq_s32_f32(other));
            vreinterpretq_f32_s32(vmaxq_s32(a, b))
        }
    }
    #[inline(always)]
    unsafe fn halves(self, other: Self) -> Self {
        unsafe {
            let high = vreinterpretq_u32_f32(other);
            // Inserts the other's bits above sixteen of this.
            vreinterpretq_f32_u32(vsliq_n_u32::<16>(vreinterpretq_u32_f32(self), high))
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
            let mut count = 0;
            for n in 0..4 {
                let pair = u32::from(*from.add(2 * n)) | u32::from(*from.add(2 * n + 1)) << 16;
                *indices.add(count) = first + n as u32;
                *values.add(count) = pair;
                count += usize::from(pair != 0);
            }
            count
        }
    }
    #[inline(always)]
    unsafe fn weigh(tile: *const Line, indices: &[u32], octets: &[u32]) -> Self::Tile {
        unsafe {
            let mut sums = [vdupq_n_s32(0); 4];
            for (&index, &octets) in indices.iter().zip(octets) {
                let line: *const i16 = tile.add(index as usize).cast();
                let octets = vreinterpretq_s16_u32(vdupq_n_u32(octets));
                for (n, sum) in sums.iter_mut().enumerate() {
                    let pairs = vld1q_s16(line.add(8 * n));
                    let low = vmull_s16(vget_low_s16(pairs), vget_low_s16(octets));
                    let high = vmull_high_s16(pairs, octets);
                    *sum = vaddq_s32(*sum, vpaddq_s32(low, high));
                }
            }
            let [a, b, c, d] = sums;
            [
                vcvtq_f32_s32(a),
                vcvtq_f32_s32(b),
                vcvtq_f32_s32(c),
                vcvtq_f32_s32(d),
            ]
        }
    }
    #[inline(always)]
    unsafe fn pair(octets: u32) -> Self {
        unsafe { vreinterpretq_f32_u32(vdupq_n_u32(octets)) }
    }
    #[inline(always)]
    unsafe fn add_products(self, line: *const f32, octets: Self) -> Self {
        unsafe {
            let (line, octets) = (vld1q_s16(line.cast()), vreinterpretq_s16_f32(octets));
            let low = vmull_s16(vget_low_s16(line), vget_low_s16(octets));
            let high = vmull_high_s16(line, octets);
            let sum = vaddq_s32(vreinterpretq_s32_f32(self), vpaddq_s32(low, high));
            vreinterpretq_f32_s32(sum)
        }
    }
    #[inline(always)]
    unsafe fn to_floats(self) -> Self {
        unsafe { vcvtq_f32_s32(vreinterpretq_s32_f32(self)) }
    }
    #[inline(always)]
    unsafe fn whole(self) -> Self {
        unsafe { vcvtq_f32_s32(vcvtq_s32_f32(self)) }
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        unsafe {
            let biased = vaddq_s32(vcvtq_s32_f32(self), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
        }
    }
    #[inline(always)]
    unsafe fn below(self, other: Self) -> Self {
        unsafe { vreinterpretq_f32_u32(vcltq_f32(self, other)) }
    }
    #[inline(always)]
    unsafe fn choose(self, yes: Self, no: Self) -> Self {
        unsafe { vbslq_f32(vreinterpretq_u32_f32(self), yes, no) }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        unsafe { self.below(other).choose(self, other) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { other.below(self).choose(self, other) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { vdupq_n_f32(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { vld1q_f32(from) }
    }
    #[inline(always)]
    unsafe fn load_head(from: *const f32, count: usize) -> Self {
        unsafe {
            if count == Self::LANES {
                return vld1q_f32(from);
            }
            let mut lanes = [0.0; 4];
            for (n, lane) in lanes[..count].iter_mut().enumerate() {
                *lane = *from.add(n);
            }
            vld1q_f32(lanes.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { vst1q_f32(to, self) }
    }
    #[inline(always)]
    unsafe fn store_head(self, to: *mut f32, count: usize) {
        unsafe {
            if count == Self::LANES {
                return vst1q_f32(to, self);
            }
            let mut lanes = [0.0; 4];
            vst1q_f32(lanes.as_mut_ptr(), self);
            for (n, lane) in lanes[..count].iter().enumerate() {
                *to.add(n) = *lane;
            }
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { vaddq_f32(self, other) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { vsubq_f32(self, other) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { vmulq_f32(self, other) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        unsafe { vdivq_f32(self, other) }
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        unsafe { vsqrtq_f32(self) }
    }
    #[inline(always)]
    unsafe fn pack(self, first: u32, indices: *mut u32, values: *mut f32) -> usize {
        unsafe {
            let mut lanes = [0.0; 4];
            vst1q_f32(lanes.as_mut_ptr(), self);
            let mut count = 0;
            for (n, &lane) in lanes.iter().enumerate() {
                *indices.add(count) = first + n as u32;
                *values.add(count) = lane;
                count += usize::from(lane != 0.0);
            }
            count
        }
    }
    #[inline(always)]
    unsafe fn octets_set(octets: &[u8; CHUNK]) -> u64 {
        let bit = |(n, &octet): (usize, &u8)| u64::from(octet != 0) << n;
        octets.iter().enumerate().map(bit).sum()
    }
    #[inline(always)]
    unsafe fn columns(rows: &[&[u8; GROUP]; GROUP], to: *mut u8, stride: usize) {
        unsafe {
            let mut now = [vdupq_n_u8(0); GROUP];
            for (now, row) in now.iter_mut().zip(rows) {
                *now = vld1q_u8(row.as_ptr());
            }
            // Four times the perfect shuffle of sixteen rows.
            for _ in 0..4 {
                let before = now;
                for i in 0..GROUP / 2 {
                    let (a, b) = (before[i], before[i + GROUP / 2]);
                    now[2 * i] = vzip1q_u8(a, b);
                    now[2 * i + 1] = vzip2q_u8(a, b);
                }
            }
            for (n, now) in now.into_iter().enumerate() {
                vst1q_u8(to.add(n * stride), now);
            }
        }
    }
}

/// Partial sums 0 to 3, and 4 to 7.
#[derive(Clone, Copy)]
struct Halves(float32x4_t, float32x4_t);

impl Eight for Halves {
    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { Self(vdupq_n_f32(0.0), vdupq_n_f32(0.0)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Self(vld1q_f32(from), vld1q_f32(from.add(4))) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { Self(vaddq_f32(self.0, other.0), vaddq_f32(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { Self(vmulq_f32(self.0, other.0), vmulq_f32(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn sums(fours: [Self; 4]) -> [f32; 4] {
        unsafe {
            let mut halves = [vdupq_n_f32(0.0); 4];
            for (half, Self(low, high)) in halves.iter_mut().zip(fours) {
                *half = vaddq_f32(low, high);
            }
            let [a, b, c, d] = halves;
            let sums = vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d));
            let mut out = [0.0; 4];
            vst1q_f32(out.as_mut_ptr(), sums);
            out
        }
    }
}
