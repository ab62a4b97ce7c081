//! The first layer in exact integer arithmetic.
//!
//! Most of the work of training is the first layer, and an emulated device pays many times more for an f32
//! operation than for an integer one. So the layer's weights (forward) and its deltas (gradient) are
//! rounded once per batch ([`super::quantise`]) and multiplied with the octets of the input as they are.
//! Sums are exact, so their order is free and their bits are the same everywhere. Octets come two by two,
//! and a list ([`super::sparse`]) names the pairs that are not both zero; the others are never touched.

use core::array;

use bytemuck::cast;
use wide::{f32x4, i16x8, i32x4};

use super::quantise::{Fours, LANES, Pair, load, tiles};
use super::sparse;

/// `sums = input * weights + bias`.
///
/// # Shapes
/// `pairs`, `units`: quantised weights `[d_in, d_out]`; `lists`: scratch; `input`: `[d_in]`; `bias`,
/// `sums`: `[d_out]`.
pub(crate) fn forward(
    lists: &mut [i32],
    pairs: &[i32],
    units: &[f32],
    bias: &[f32],
    input: &[u8],
    sums: &mut [f32],
) {
    let list = sparse::of_input(input, lists);
    let columns = units
        .chunks(LANES)
        .zip(bias.chunks(LANES))
        .zip(sums.chunks_mut(LANES));
    for (tile, ((units, bias), sums)) in tiles(pairs, input.len()).zip(columns) {
        let (exact, units, bias) = (weighted_sum(tile, list), load(units), load(bias));
        store(
            sums,
            array::from_fn(|i| exact[i].round_float() * units[i] + bias[i]),
        );
    }
}

/// `weights -= sum_n x_n * delta_n`, for up to four inputs that follow each other.
///
/// # Shapes
/// `pairs`, `units`: quantised deltas `[batch, d_out]`; `lists`: scratch; `examples`: `[batch]`;
/// `word_of(n)`: the inputs' octets in example `n`, the first in the lowest bits; `weights`: row-major
/// `[inputs, d_out]`.
pub(crate) fn update(
    lists: &mut [i32],
    pairs: &[i32],
    units: &[f32],
    examples: &[u32],
    word_of: impl Fn(u32) -> u32,
    weights: &mut [f32],
) {
    let lists = sparse::of_column(examples, lists, word_of);
    for (row, list) in weights.chunks_exact_mut(units.len()).zip(lists) {
        subtract(pairs, examples.len(), units, list, row);
    }
}

/// `row -= sum_n x_n * delta_n` for one input, whose octets are in `list`.
#[inline(always)]
pub(crate) fn subtract(pairs: &[i32], batch: usize, units: &[f32], list: &[i32], row: &mut [f32]) {
    if list.is_empty() {
        return;
    }
    let columns = units.chunks(LANES).zip(row.chunks_mut(LANES));
    for (tile, (units, weights)) in tiles(pairs, batch).zip(columns) {
        let (exact, units, old) = (weighted_sum(tile, list), load(units), load(weights));
        store(
            weights,
            array::from_fn(|i| old[i] - exact[i].round_float() * units[i]),
        );
    }
}

/// Writes the first values, as many as there is room for.
#[inline(always)]
fn store(values: &mut [f32], fours: Fours<f32x4>) {
    let lanes: [f32; LANES] = cast(fours);
    match values.first_chunk_mut() {
        Some(all) => *all = lanes,
        None => values.copy_from_slice(&lanes[..values.len()]),
    }
}

/// The kernel: exact sums of octets times integers, column by column.
///
/// Kept out of its callers, so that its loop has the registers to itself.
#[inline(never)]
fn weighted_sum(tile: &[Pair], list: &[i32]) -> Pair {
    let mut sums = Pair::default();
    let Some(last) = tile.len().checked_sub(1) else {
        return sums;
    };
    for &entry in list {
        let (index, octets) = sparse::decode(entry);
        let octets: i16x8 = cast(i32x4::splat(octets));
        // No index is above the last: the minimum only saves the branch of a bounds check.
        let pair = &tile[index.min(last)];
        for quarter in 0..LANES / 4 {
            sums[quarter] += octets.dot(cast(pair[quarter]));
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::quantise::tests::random;

    /// Every integer is off by half a unit at most, and the f32 result by its own rounding.
    fn tolerance(octets: impl Iterator<Item = u32>, unit: f32, result: f32) -> f64 {
        f64::from(octets.sum::<u32>()) * f64::from(unit) / 2.0 + f64::from(result.abs()) * 1e-6
    }

    #[test]
    fn forward_is_the_matrix_product_for_every_remainder() {
        let most = if cfg!(miri) { 5 } else { 784 };
        for rows in [1, 2, 3, 4, 5, 63, 784].into_iter().filter(|&n| n <= most) {
            for columns in [1, 10, 16, 17, 40] {
                let mut case = random(rows, columns);
                let input: Vec<u8> = (0..rows).map(|i| (i * 89 * (i % 3) % 256) as u8).collect();
                let bias: Vec<f32> = (0..columns).map(|j| j as f32).collect();
                let mut sums = vec![0.0; columns];
                let (lists, pairs) = (&mut case.lists, &case.pairs);
                forward(lists, pairs, &case.units, &bias, &input, &mut sums);
                for (j, &sum) in sums.iter().enumerate() {
                    let column = case.values.iter().skip(j).step_by(columns);
                    let products = column
                        .zip(&input)
                        .map(|(&w, &x)| f64::from(w) * f64::from(x));
                    let error = f64::from(sum) - (products.sum::<f64>() + j as f64);
                    let octets = input.iter().map(|&x| u32::from(x));
                    assert!(
                        error.abs() <= tolerance(octets, case.units[j], sum),
                        "{rows} {j}: {error}"
                    );
                }
            }
        }
    }

    #[test]
    fn update_is_the_transposed_product_for_every_remainder() {
        let most = if cfg!(miri) { 3 } else { 600 };
        for batch in [1, 2, 3, 7, 600].into_iter().filter(|&n| n <= most) {
            for (columns, inputs) in [(1, 4), (10, 1), (16, 3), (33, 4)] {
                let mut case = random(batch, columns);
                let octet = |n: usize, i: usize| {
                    ((n * 31 + i * 57) % 256 * usize::from(n % 3 != i % 3)) as u32
                };
                let word_of = |n| (0..4).fold(0, |word, i| word | octet(n as usize, i) << (8 * i));
                let examples: Vec<u32> = (0..batch as u32).collect();
                let mut weights = vec![1.0; inputs * columns];
                let (lists, pairs) = (&mut case.lists, &case.pairs);
                update(lists, pairs, &case.units, &examples, word_of, &mut weights);
                for (place, &weight) in weights.iter().enumerate() {
                    let (i, j) = (place / columns, place % columns);
                    let column = case.values.iter().skip(j).step_by(columns);
                    let products = column
                        .enumerate()
                        .map(|(n, &d)| f64::from(d) * f64::from(octet(n, i)));
                    let error = f64::from(weight) - (1.0 - products.sum::<f64>());
                    let octets = (0..batch).map(|n| octet(n, i));
                    assert!(
                        error.abs() <= tolerance(octets, case.units[j], weight),
                        "{batch} {i} {j}"
                    );
                }
            }
        }
    }
}
