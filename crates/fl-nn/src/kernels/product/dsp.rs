//! The two loops with the DSP extension of Cortex-M4, M7 and M33: products of halves, two at once.
//!
//! The instructions of an entry are written out, since a compiler spills what thirteen registers do hold.

#![allow(unsafe_code, reason = "instructions that have no name in Rust")]

use core::arch::asm;
use core::array;

use bytemuck::{cast, cast_slice, cast_slice_mut};

use super::super::quantise::{LANES, Pair, load};
use super::super::sparse;

/// As that in vectors.
#[inline(never)]
pub(crate) fn weighted_sum(tile: &[Pair], list: &[i32]) -> Pair {
    let tile: &[[u32; LANES]] = cast_slice(tile);
    let mut sums = [0; LANES];
    for &entry in list {
        let Some(pair) = tile.get(sparse::index(entry)) else {
            break;
        };
        add_pair(&mut sums, pair, sparse::decode(entry).1);
    }
    cast(sums)
}

/// As that in vectors.
#[inline(never)]
pub(crate) fn add_products(sums: &mut [[Pair; 2]], first: usize, list: &[i32], deltas: &[f32]) {
    let rows: &mut [[i32; 2 * LANES]] = cast_slice_mut(sums);
    let deltas: [i32; LANES] = cast(load(deltas));
    let deltas = array::from_fn(|i| deltas[2 * i] & 0xffff | deltas[2 * i + 1] << 16);
    for &entry in list {
        // The list is in the order of the pairs: it ends with the sums.
        let Some(rows) = rows.get_mut(sparse::index(entry).wrapping_sub(first)) else {
            break;
        };
        add_rows(rows, sparse::decode(entry).1, &deltas);
    }
}

/// Four sums, and products of both halves of `x` and four pairs of integers.
macro_rules! four_pairs {
    () => {
        "ldm {d}!, {{r4, r5, r8, r12}}
        ldm {p}, {{r0-r3}}
        smlad r0, r4, {x}, r0
        smlad r1, r5, {x}, r1
        smlad r2, r8, {x}, r2
        smlad r3, r12, {x}, r3
        stm {p}!, {{r0-r3}}"
    };
}

/// Adds two octets times the integers of their rows to sixteen sums, which cost less in memory than a second way through
/// the list.
#[inline(always)]
fn add_pair(sums: &mut [i32; LANES], pair: &[u32; LANES], octets: i32) {
    // SAFETY: reads and writes the words of `sums`, reads those of `pair`; writes registers, and a flag that nobody reads.
    // `cfg(dsp)` is for cores that have SMLAD.
    unsafe {
        asm!(
            four_pairs!(),
            four_pairs!(),
            four_pairs!(),
            four_pairs!(),
            p = inout(reg) sums.as_mut_ptr() => _,
            d = inout(reg) pair.as_ptr() => _,
            x = in(reg) octets,
            out("r0") _, out("r1") _, out("r2") _, out("r3") _,
            out("r4") _, out("r5") _, out("r8") _, out("r12") _,
            options(nostack),
        );
    }
}

/// Four sums, and products of one half of `x` and two pairs of integers.
macro_rules! four {
    ($half:literal, $low:literal, $high:literal) => {
        concat!(
            "ldm {p}, {{r0-r3}}\n",
            concat!("smla", $half, "b r0, {x}, ", $low, ", r0\n"),
            concat!("smla", $half, "t r1, {x}, ", $low, ", r1\n"),
            concat!("smla", $half, "b r2, {x}, ", $high, ", r2\n"),
            concat!("smla", $half, "t r3, {x}, ", $high, ", r3\n"),
            "stm {p}!, {{r0-r3}}\n",
        )
    };
}

/// Adds two octets times sixteen integers to the sums of their rows.
#[inline(always)]
fn add_rows(rows: &mut [i32; 2 * LANES], octets: i32, deltas: &[i32; LANES / 2]) {
    // SAFETY: reads and writes the words of `rows`, reads those of `deltas`; writes registers, and a flag that nobody reads.
    // `cfg(dsp)` is for cores that have the instructions.
    unsafe {
        asm!(
            "ldm {d}!, {{r4, r5, r8, r12}}",
            four!("b", "r4", "r5"),
            four!("b", "r8", "r12"),
            "add {p}, #32",
            four!("t", "r4", "r5"),
            four!("t", "r8", "r12"),
            "ldm {d}, {{r4, r5, r8, r12}}",
            four!("t", "r4", "r5"),
            four!("t", "r8", "r12"),
            "sub {p}, #96",
            four!("b", "r4", "r5"),
            four!("b", "r8", "r12"),
            p = inout(reg) rows.as_mut_ptr() => _,
            d = inout(reg) deltas.as_ptr() => _,
            x = in(reg) octets,
            out("r0") _, out("r1") _, out("r2") _, out("r3") _,
            out("r4") _, out("r5") _, out("r8") _, out("r12") _,
            options(nostack),
        );
    }
}
