//! NEON, which every 64-bit ARM has.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each is an instruction, and sound by the terms of the trait's methods"
)]

use core::arch::aarch64::*;

use super::kernels::table;
use super::{CHUNK, Eight, GROUP, Vector};

table!(NEON, "neon", float32x4_t, Halves);

impl Vector for float32x4_t {
    const LANES: usize = 4;
    const SUMS: usize = 16;

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
    unsafe fn columns(rows: &[&[u8; GROUP]; GROUP], to: &mut [[u8; GROUP]; GROUP]) {
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
            for (column, now) in to.iter_mut().zip(now) {
                vst1q_u8(column.as_mut_ptr(), now);
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
