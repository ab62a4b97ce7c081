//! The first layer: its integers are those of [`crate::kernels::quantise`], made from integers.

use core::array;

use bytemuck::{cast, cast_mut};
use wide::i32x8;

use super::dense::moved;
use super::number::{Factor, saturated};
use super::{DELTAS, SUMS};
use crate::kernels::product::weighted_sum;
use crate::kernels::quantise::{LANES, Pair, sums, tiles};

/// Rounds a matrix to 16-bit pairs; in `shifts` the bits that each column lost.
///
/// # Shapes
/// `values`: row-major `[rows, columns]`; `shifts`: `[columns]`; `pairs`: by `pair_words`.
pub(crate) fn quantise(values: &[i32], shifts: &mut [u32], pairs: &mut [i32]) {
    let columns = shifts.len();
    let num_pairs = (values.len() / columns).div_ceil(2);
    let (_, pairs, _) = bytemuck::pod_align_to_mut::<i32, i32x8>(pairs);
    let tiles = pairs.as_chunks_mut().0.chunks_exact_mut(num_pairs.max(1));
    for ((tile, shifts), begin) in tiles
        .zip(shifts.chunks_mut(LANES))
        .zip((0..).step_by(LANES))
    {
        let right = column_shifts(values, columns, begin, shifts);
        let mut rows = values.chunks_exact(columns).map(|row| load(&row[begin..]));
        for pair in tile {
            let upper = rows.next().unwrap_or_default();
            let lower = rows.next().unwrap_or_default();
            let pair: &mut [i32; LANES] = cast_mut::<Pair, _>(pair);
            for lane in 0..LANES {
                let (upper, lower) = (
                    round(upper[lane], right[lane]),
                    round(lower[lane], right[lane]),
                );
                pair[lane] = upper & 0xffff | lower << 16;
            }
        }
    }
}

/// As [`quantise`], to one integer in the place of each value.
pub(crate) fn quantise_in_place(values: &mut [i32], shifts: &mut [u32]) {
    let columns = shifts.len();
    for (shifts, begin) in shifts.chunks_mut(LANES).zip((0..).step_by(LANES)) {
        let right = column_shifts(values, columns, begin, shifts);
        for row in values.chunks_exact_mut(columns) {
            for (value, &right) in row[begin..].iter_mut().zip(&right) {
                *value = round(*value, right);
            }
        }
    }
}

/// The first [`LANES`] values, or what there is and zeros.
#[inline(always)]
fn load(values: &[i32]) -> [i32; LANES] {
    match values.first_chunk() {
        Some(lanes) => *lanes,
        None => array::from_fn(|lane| values.get(lane).copied().unwrap_or(0)),
    }
}

/// `value / 2^right`, rounded to the nearest of 16 bits.
#[inline(always)]
fn round(value: i32, right: u32) -> i32 {
    // The bit below the last one: no sum can overflow.
    let rounded = (value >> right) + ((value << 1 >> right) & 1);
    rounded.clamp(-0x8000, 0x7fff)
}

/// Bits that the columns from `begin` on have to lose, for integers of 16 bits and sums of magnitudes below 2^23.
fn column_shifts(values: &[i32], columns: usize, begin: usize, shifts: &mut [u32]) -> [u32; LANES] {
    let (mut all, mut sums) = ([0_u32; LANES], [0_u32; LANES]);
    for row in values.chunks_exact(columns) {
        let row = load(&row[begin..]);
        for lane in 0..LANES {
            let magnitude = row[lane].unsigned_abs();
            all[lane] |= magnitude;
            // Rounded up: 2^16 times less than 2^15 + 1.
            sums[lane] += (magnitude >> 16) + 1;
        }
    }
    let right = array::from_fn(|lane| {
        let largest = 32 - all[lane].leading_zeros();
        let sum = 48 - sums[lane].leading_zeros();
        // Below 2^15 and 2^23.
        largest.saturating_sub(15).max(sum.saturating_sub(23))
    });
    shifts
        .iter_mut()
        .zip(right)
        .for_each(|(shift, right)| *shift = right);
    right
}

/// `sums = input / 255 * weights + bias`.
///
/// # Shapes
/// `pairs`, `shifts`: quantised weights `[num_inputs, d_out]` of `places`; `list`: of the input; `bias`, of `places`,
/// and `outputs`: `[d_out]`.
pub(crate) fn forward(
    (pairs, shifts, places): (&[i32], &[u32], u32),
    bias: &[i32],
    list: &[i32],
    num_inputs: usize,
    outputs: &mut [i32],
) {
    /// 2^38 / 255.
    const PER_OCTET: i64 = 1_077_952_576;
    let columns = shifts
        .chunks(LANES)
        .zip(bias.chunks(LANES))
        .zip(outputs.chunks_mut(LANES));
    for (tile, ((shifts, bias), outputs)) in tiles(pairs, num_inputs).zip(columns) {
        let exact: [i32; LANES] = cast(weighted_sum(tile, list));
        for (((output, sum), bias), shift) in outputs.iter_mut().zip(exact).zip(bias).zip(shifts) {
            let sum = (i64::from(sum) * PER_OCTET) >> (38 - SUMS + places - shift);
            *output = saturated(sum + i64::from(bias >> (places - SUMS)));
        }
    }
}

/// `row -= factor * sums` for a row, counted from the first that there are sums for.
///
/// # Shapes
/// `row`, of `places`: `[d_out]`; `shifts`: those of the derivatives.
pub(crate) fn subtract(
    words: &mut [i32],
    (at_once, place): (usize, usize),
    (factor, shifts): (Factor, &[u32]),
    (row, places): (&mut [i32], u32),
) {
    let columns = shifts.chunks(LANES).zip(row.chunks_mut(LANES));
    for (tile, (shifts, row)) in sums(words, at_once).zip(columns) {
        let Some(pair) = tile.get(place / 2) else {
            continue;
        };
        let exact: &[i32; LANES] = bytemuck::cast_ref(&pair[place % 2]);
        for ((param, &sum), &shift) in row.iter_mut().zip(exact).zip(shifts) {
            if sum != 0 {
                let step = factor.step(places, DELTAS as i32 - shift as i32);
                *param = moved(*param, step.of(sum));
            }
        }
    }
}
