//! The two loops for Armv7-M and Armv8-M without the DSP extension: a row at a time.
//!
//! The instructions of a row are written out, since a compiler spills what thirteen registers do hold.

#![allow(unsafe_code, reason = "a choice of registers that has no name in Rust")]

use core::arch::asm;

use bytemuck::{cast, cast_slice, cast_slice_mut};

use super::super::quantise::{LANES, Pair, load};
use super::super::sparse;

/// As that in vectors.
#[inline(never)]
pub(crate) fn weighted_sum(tile: &[Pair], list: &[i32]) -> Pair {
    let tile: &[[[[i16; 2]; 8]; 2]] = cast_slice(tile);
    cast([columns(tile, list, 0), columns(tile, list, 1)])
}

/// Sums of eight columns; once in the code, which has to stay within a page.
#[inline(never)]
fn columns(tile: &[[[[i16; 2]; 8]; 2]], list: &[i32], block: usize) -> [i32; 8] {
    let mut sums = [0; 8];
    for &entry in list {
        let Some(pair) = tile.get(sparse::index(entry)) else {
            break;
        };
        let [x, y] = sparse::octets(entry).map(i32::from);
        let pair = pair[block].as_flattened();
        // One after the other has the sums in registers.
        if let (Some(upper), true) = (pair.first_chunk(), x != 0) {
            add_row(&mut sums, upper, x);
        }
        if let (Some(lower), true) = (pair.last_chunk(), y != 0) {
            add_row(&mut sums, lower, y);
        }
    }
    sums
}

/// As that in vectors.
#[inline(never)]
pub(crate) fn add_products(sums: &mut [[Pair; 2]], first: usize, list: &[i32], deltas: &[f32]) {
    let rows: &mut [[[i32; LANES]; 2]] = cast_slice_mut(sums);
    let deltas: [i32; LANES] = cast(load(deltas));
    for &entry in list {
        // The list is in the order of the pairs: it ends with the sums.
        let Some([upper, lower]) = rows.get_mut(sparse::index(entry).wrapping_sub(first)) else {
            break;
        };
        let [x, y] = sparse::octets(entry).map(i32::from);
        if x != 0 {
            add_products_of(upper, x, &deltas);
        }
        if y != 0 {
            add_products_of(lower, y, &deltas);
        }
    }
}

/// Adds an octet times every second of the integers, from the first on, to eight sums.
#[inline(always)]
fn add_row(sums: &mut [i32; 8], row: &[i16; 15], octet: i32) {
    let [a, b, c, d, e, f, g, h] = sums;
    // SAFETY: reads numbers 0, 2, .. 14 of `row`, and writes registers.
    unsafe {
        asm!(
            "ldrsh {t}, [{p}]",
            "mla {a}, {t}, {x}, {a}",
            "ldrsh {t}, [{p}, #4]",
            "mla {b}, {t}, {x}, {b}",
            "ldrsh {t}, [{p}, #8]",
            "mla {c}, {t}, {x}, {c}",
            "ldrsh {t}, [{p}, #12]",
            "mla {d}, {t}, {x}, {d}",
            "ldrsh {t}, [{p}, #16]",
            "mla {e}, {t}, {x}, {e}",
            "ldrsh {t}, [{p}, #20]",
            "mla {f}, {t}, {x}, {f}",
            "ldrsh {t}, [{p}, #24]",
            "mla {g}, {t}, {x}, {g}",
            "ldrsh {t}, [{p}, #28]",
            "mla {h}, {t}, {x}, {h}",
            p = in(reg) row.as_ptr(), x = in(reg) octet, t = out(reg) _,
            a = inout(reg) *a, b = inout(reg) *b, c = inout(reg) *c, d = inout(reg) *d,
            e = inout(reg) *e, f = inout(reg) *f, g = inout(reg) *g, h = inout(reg) *h,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
}

/// Four sums, and products of `x` and four integers.
macro_rules! four {
    () => {
        "ldm {d}!, {{r4, r5, r8, r12}}
        ldm {p}, {{r0-r3}}
        mla r0, r4, {x}, r0
        mla r1, r5, {x}, r1
        mla r2, r8, {x}, r2
        mla r3, r12, {x}, r3
        stm {p}!, {{r0-r3}}"
    };
}

/// Adds an octet times sixteen integers to the sums of its row.
#[inline(always)]
fn add_products_of(row: &mut [i32; LANES], octet: i32, deltas: &[i32; LANES]) {
    // SAFETY: reads and writes the words of `row`, reads those of `deltas`, and writes registers.
    unsafe {
        asm!(
            four!(),
            four!(),
            four!(),
            four!(),
            p = inout(reg) row.as_mut_ptr() => _,
            d = inout(reg) deltas.as_ptr() => _,
            x = in(reg) octet,
            out("r0") _, out("r1") _, out("r2") _, out("r3") _,
            out("r4") _, out("r5") _, out("r8") _, out("r12") _,
            options(nostack, preserves_flags),
        );
    }
}
