//! The first layer in exact integer arithmetic.
//!
//! Most of the work of training is the first layer, and an emulated device pays many times more for an f32
//! operation than for an integer one. So the layer's weights (forward) and its deltas (gradient) are
//! rounded once per batch ([`super::quantise`]) and multiplied with the octets of the input as they are.
//! Sums are exact, so their order is free and their bits are the same everywhere. A list ([`super::sparse`])
//! names the pairs of octets that are not both zero; the others are never touched.
//!
//! The gradient is summed up example by example as well, for as many rows at a time as there are sums: so an example
//! needs no other list, in whatever batch it is.

use core::array;

use super::product::{add_products, weighted_sum};
use super::quantise::{LANES, Pair, load, store, sums, tiles};
use super::sparse;

/// `sums = input * weights + bias`.
///
/// # Shapes
/// `pairs`, `units`: quantised weights `[num_inputs, d_out]`; `list`: of the input; `bias`, `sums`: `[d_out]`.
pub(crate) fn forward(
    pairs: &[i32],
    units: &[f32],
    bias: &[f32],
    list: &[i32],
    num_inputs: usize,
    sums: &mut [f32],
) {
    let columns = (0..).step_by(LANES).zip(sums.chunks_mut(LANES));
    for (tile, (begin, sums)) in tiles(pairs, num_inputs).zip(columns) {
        let exact = weighted_sum(tile, list);
        let (units, bias) = (load(&units[begin..]), load(&bias[begin..]));
        let sum: [_; 2] = array::from_fn(|i| exact[i].round_float() * units[i] + bias[i]);
        store(sums, sum);
    }
}

/// Adds `x * deltas` of one example to the sums of all rows from pair `first` on that there are sums for.
///
/// # Shapes
/// `words`: sums of `at_once` pairs of rows; `list`: of the input; `deltas`: integers `[d_out]`.
pub(crate) fn add_gradient(
    words: &mut [i32],
    at_once: usize,
    first: usize,
    list: &[i32],
    deltas: &[f32],
) {
    for (tile, deltas) in sums(words, at_once).zip(deltas.chunks(LANES)) {
        add_to_tile(tile, first, list, deltas);
    }
}

/// [`add_gradient`] for the columns of one tile.
#[inline(always)]
pub(crate) fn add_to_tile(tile: &mut [[Pair; 2]], first: usize, list: &[i32], deltas: &[f32]) {
    let begin = match first {
        0 => 0,
        _ => list.partition_point(|&entry| sparse::index(entry) < first),
    };
    add_products(tile, first, &list[begin..], deltas);
}

/// `rows -= sums` for all rows from the first that there are sums for.
///
/// # Shapes
/// `rows`: `[_, d_out]`.
pub(crate) fn subtract_rows(words: &mut [i32], at_once: usize, units: &[f32], rows: &mut [f32]) {
    let width = units.len();
    let columns = (0..).step_by(LANES).zip(units.chunks(LANES));
    for (tile, (begin, units)) in sums(words, at_once).zip(columns) {
        let (end, units) = (begin + units.len(), load(units));
        let exact = tile.as_flattened().iter();
        for (exact, row) in exact.zip(rows.chunks_exact_mut(width)) {
            let row = &mut row[begin..end];
            let old = load(row);
            let new: [_; 2] = array::from_fn(|i| old[i] - exact[i].round_float() * units[i]);
            store(row, new);
        }
    }
}

/// `row -= sums` for a row, counted from the first that there are sums for.
pub(crate) fn subtract(
    words: &mut [i32],
    at_once: usize,
    place: usize,
    units: &[f32],
    row: &mut [f32],
) {
    let columns = units.chunks(LANES).zip(row.chunks_mut(LANES));
    for (tile, (units, weights)) in sums(words, at_once).zip(columns) {
        let exact = tile
            .get(place / 2)
            .map_or(Pair::default(), |pair| pair[place % 2]);
        let (units, old) = (load(units), load(weights));
        let new: [_; 2] = array::from_fn(|i| old[i] - exact[i].round_float() * units[i]);
        store(weights, new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::quantise::tests::random;
    use crate::kernels::quantise::{pair_words, quantise_in_place, sums_at_once};

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
                let list = sparse::of_input(&input, &mut case.lists);
                forward(&case.pairs, &case.units, &bias, list, rows, &mut sums);
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

    /// The same integers as the definition has, whatever the shape, and however the sums are cut.
    #[test]
    fn the_gradient_is_the_transposed_product_for_every_shape() {
        let mut rng = fl_rng::Pcg32::on_stream(3, 3);
        for _ in 0..if cfg!(miri) { 3 } else { 60 } {
            let (inputs, columns) = (1 + rng.below(70) as usize, 1 + rng.below(40) as usize);
            let batch = 1 + rng.below(12) as usize;
            let values: Vec<f32> = (0..batch * columns).map(|_| rng.symmetric()).collect();
            let octets: Vec<u8> = (0..batch * inputs)
                .map(|_| (rng.below(256) * (1 - rng.below(3).min(1))) as u8)
                .collect();
            let (mut deltas, mut units) = (values.clone(), vec![0.0; columns]);
            quantise_in_place(&mut deltas, 1.0, &mut units).unwrap();
            let integer = |n: usize, j: usize| deltas[n * columns + j].to_bits() as i32;
            for (n, j) in (0..batch).flat_map(|n| (0..columns).map(move |j| (n, j))) {
                let error = values[n * columns + j] - integer(n, j) as f32 * units[j];
                assert!(error.abs() <= units[j] * 0.501, "{n} {j}: {error}");
            }
            let (mut words, mut entries) = (
                vec![7; pair_words(inputs, columns) as usize],
                vec![0; sparse::input_entries(inputs)],
            );
            let at_once = sums_at_once(inputs);
            for first in (0..inputs.div_ceil(2)).step_by(at_once) {
                words.fill(0);
                for (input, deltas) in octets.chunks(inputs).zip(deltas.chunks(columns)) {
                    let list = sparse::of_input(input, &mut entries);
                    add_gradient(&mut words, at_once, first, list, deltas);
                }
                for i in 2 * first..inputs.min(2 * (first + at_once)) {
                    let mut row = vec![1.0; columns];
                    subtract(&mut words, at_once, i - 2 * first, &units, &mut row);
                    for (j, &found) in row.iter().enumerate() {
                        let products = (0..batch)
                            .map(|n| i64::from(octets[n * inputs + i]) * i64::from(integer(n, j)));
                        let sum = i32::try_from(products.sum::<i64>()).unwrap();
                        assert_eq!(
                            found,
                            1.0 - sum as f32 * units[j],
                            "{inputs} {columns} {i} {j}"
                        );
                    }
                }
            }
        }
    }
}
