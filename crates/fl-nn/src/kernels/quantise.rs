//! Matrices of f32 rounded to 16-bit integers, for [`super::fixed`].
//!
//! # Layout
//! Two rows of the matrix make a *pair* of 16 columns, side by side in the halves of 32-bit lanes, so that
//! one `pmaddwd` (or its like) multiplies two inputs by four columns and adds up. Pairs of the first 16
//! columns come first, then those of the next: a *tile* each. A missing last row and missing columns are
//! zero.
//!
//! # Invariant: nothing overflows
//! A column of `n <= 65,535` values `v` gets the power of two `u` as its unit, the smallest for which
//! `max |v| / u < 2^15 - 2^7` and `sum |v| / u < 2^23` are sure. So every integer fits 16 bits; rounding
//! adds at most `n / 2` to the sum of magnitudes, no octet is above 255, and every partial sum of octets
//! times integers stays below `255 * (2^23 + 2^15) < 2^31`.

use core::{array, iter, mem};

use bytemuck::{Pod, cast, cast_slice_mut};
use wide::{f32x8, i32x8};

use crate::error::TrainError;

/// Columns of a tile.
pub(crate) const LANES: usize = 16;

/// Sixteen numbers in eights.
pub(crate) type Eights<T> = [T; LANES / 8];

/// Two rows of [`LANES`] columns: the upper row's integer in the low half of a lane, the lower's in the
/// high half.
pub(crate) type Pair = Eights<i32x8>;

/// Words of `i32` under a [`Pair`].
const PAIR_WORDS: u64 = LANES as u64;

/// Words that may be lost to align a [`Pair`].
const ALIGN_WORDS: u64 = 7;

/// Words for the integers of a matrix `[rows, columns]`, or the sums of [`sums_at_once`] pairs of its rows, wherever
/// the buffer lies.
pub(crate) fn pair_words(rows: usize, columns: usize) -> u64 {
    let pairs = rows.div_ceil(2).max(2) as u64 * columns.div_ceil(LANES) as u64;
    ALIGN_WORDS + pairs * PAIR_WORDS
}

/// Pairs of rows whose sums take no more memory than the integers of the matrix: one sum is as large as a pair of those.
pub(crate) fn sums_at_once(rows: usize) -> usize {
    rows.div_ceil(2).max(2) / 2
}

/// Tiles of the sums of `at_once` pairs of rows.
pub(crate) fn sums(words: &mut [i32], at_once: usize) -> impl Iterator<Item = &mut [[Pair; 2]]> {
    let (_, words, _) = bytemuck::pod_align_to_mut::<i32, i32x8>(words);
    let mut rest: &mut [[Pair; 2]] = words.as_chunks_mut().0.as_chunks_mut().0;
    // As `chunks_exact_mut`, which divides.
    iter::from_fn(move || {
        let (tile, after) = mem::take(&mut rest).split_at_mut_checked(at_once)?;
        rest = after;
        Some(tile)
    })
}

/// Tiles of a quantised matrix of `rows` rows.
pub(crate) fn tiles(pairs: &[i32], rows: usize) -> impl Iterator<Item = &[Pair]> {
    let (_, pairs, _) = bytemuck::pod_align_to::<i32, i32x8>(pairs);
    let mut rest: &[Pair] = pairs.as_chunks().0;
    iter::from_fn(move || {
        let (tile, after) = rest.split_at_checked(rows.div_ceil(2))?;
        rest = after;
        Some(tile)
    })
}

/// Rounds `values` to integers, and gives each column the worth of its unit, times `factor`.
///
/// # Shapes
/// `values`: row-major `[rows, columns]`; `units`: `[columns]`; `pairs`: by [`pair_words`].
///
/// # Errors
/// [`TrainError::Diverged`] if a value or the sum of a column is not finite.
pub(crate) fn quantise(
    values: &[f32],
    factor: f32,
    units: &mut [f32],
    pairs: &mut [i32],
) -> Result<(), TrainError> {
    let columns = units.len();
    let num_pairs = (values.len() / columns).div_ceil(2);
    let (_, pairs, _) = bytemuck::pod_align_to_mut::<i32, i32x8>(pairs);
    let tiles = pairs.as_chunks_mut().0.chunks_exact_mut(num_pairs);
    for ((tile, units), begin) in tiles.zip(units.chunks_mut(LANES)).zip((0..).step_by(LANES)) {
        let mut rows = values.chunks_exact(columns).map(|row| load(&row[begin..]));
        let scales = column_scales(rows.clone(), factor, units)?;
        for pair in tile {
            let upper = rows.next().unwrap_or_default();
            let lower = rows.next().unwrap_or_default();
            *pair = round_pair(upper, lower, scales);
        }
    }
    Ok(())
}

/// As [`quantise`], to one integer in the place of each value.
///
/// # Errors
/// As [`quantise`]; the values are then worthless.
pub(crate) fn quantise_in_place(
    values: &mut [f32],
    factor: f32,
    units: &mut [f32],
) -> Result<(), TrainError> {
    let columns = units.len();
    for (units, begin) in units.chunks_mut(LANES).zip((0..).step_by(LANES)) {
        let rows = values.chunks_exact(columns).map(|row| load(&row[begin..]));
        let scales = column_scales(rows, factor, units)?;
        for row in values.chunks_exact_mut(columns) {
            let row = &mut row[begin..];
            let rounded = load(row);
            let integers: Pair =
                array::from_fn(|half| round(rounded[half], scales[half]) - i32x8::splat(ROUNDED));
            store(cast_slice_mut::<f32, i32>(row), integers);
        }
    }
    Ok(())
}

/// Units of the columns, times `factor`, and what their values are scaled by.
fn column_scales(
    rows: impl Iterator<Item = Eights<f32x8>>,
    factor: f32,
    units: &mut [f32],
) -> Result<Eights<f32x8>, TrainError> {
    let mut scales = [1.0; LANES];
    let bounds = column_bounds(rows);
    for ((unit, scale), (max, sum)) in units.iter_mut().zip(&mut scales).zip(bounds) {
        let exponent = unit_exponent(max, sum)?;
        *unit = power_of_two(exponent) * factor;
        *scale = power_of_two(254 - exponent);
    }
    Ok(load(&scales))
}

/// Writes the first numbers, as many as there is room for.
#[inline(always)]
pub(crate) fn store<T: Pod, E: Pod>(values: &mut [T], eights: Eights<E>) {
    let lanes: [T; LANES] = cast(eights);
    if let Some(all) = values.first_chunk_mut() {
        *all = lanes;
        return;
    }
    // In fours, lest both ways become one call that copies.
    for (values, four) in values.chunks_mut(4).zip(lanes.as_chunks::<4>().0) {
        match values.first_chunk_mut() {
            Some(all) => *all = *four,
            None => values.iter_mut().zip(four).for_each(|(to, x)| *to = *x),
        }
    }
}

/// The first [`LANES`] values, or what there is and zeros.
#[inline(always)]
pub(crate) fn load(values: &[f32]) -> Eights<f32x8> {
    match values.first_chunk::<LANES>() {
        Some(lanes) => cast(*lanes),
        None => {
            let mut lanes = [0.0; LANES];
            lanes[..values.len()].copy_from_slice(values);
            cast(lanes)
        }
    }
}

/// The largest magnitude and the sum of magnitudes of each column.
fn column_bounds(rows: impl Iterator<Item = Eights<f32x8>>) -> [(f32, f32); LANES] {
    let mut max = Pair::default();
    let mut sum = Eights::<f32x8>::default();
    for row in rows {
        for half in 0..LANES / 8 {
            let magnitude = row[half].abs();
            // The bits of numbers that are not negative are in their order.
            max[half] = max[half].max(cast(magnitude));
            sum[half] += magnitude;
        }
    }
    let (max, sum): ([f32; LANES], [f32; LANES]) = (cast(max), cast(sum));
    array::from_fn(|lane| (max[lane], sum[lane]))
}

/// The biased exponent of a column's unit.
pub(crate) fn unit_exponent(max: f32, sum: f32) -> Result<u32, TrainError> {
    // The f32 sum of n values is below the true one by at most n * 2^-24 of it: less than 2^-7.
    const MARGIN: f32 = 1.0 + 1.0 / 128.0;
    // Keeps a unit over 255 a normal number; columns of values below 2^-80 lose precision instead.
    const FINEST: u32 = 33;
    // Without the sign bit, which a NaN may have.
    let biased = |value: f32| (value * MARGIN).to_bits() << 1 >> 24;
    let (max, sum) = (biased(max), biased(sum));
    if max == 255 || sum == 255 {
        return Err(TrainError::Diverged);
    }
    // A number with the biased exponent e is below 2^(e - 126): below 2^15 units of 2^(e - 141), and
    // below 2^23 units of 2^(e - 149). The margin keeps it clear of both.
    Ok(max
        .saturating_sub(14)
        .max(sum.saturating_sub(22))
        .max(FINEST))
}

/// The number with this biased exponent, in `1..=254`.
pub(crate) fn power_of_two(exponent: u32) -> f32 {
    f32::from_bits(exponent << 23)
}

/// The nearest integers, ties to even, plus [`ROUNDED`].
#[inline(always)]
fn round(values: f32x8, scales: f32x8) -> i32x8 {
    // Above 1.5 * 2^23 the spacing of f32 is 1, and the low bits of a sum are those of the integer.
    cast(values * scales + 12_582_912.0)
}

/// The bits of 1.5 * 2^23.
const ROUNDED: i32 = 0x4b40_0000;

/// The nearest integers of two rows, as a pair.
#[inline(always)]
fn round_pair(upper: Eights<f32x8>, lower: Eights<f32x8>, scales: Eights<f32x8>) -> Pair {
    array::from_fn(|half| {
        let upper = round(upper[half], scales[half]);
        let lower = round(lower[half], scales[half]);
        (upper & i32x8::splat(0xffff)) | lower << 16
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::kernels::fixed::forward;
    use crate::kernels::sparse;
    use fl_rng::Pcg32;

    /// A matrix, its integers and its units, and room for lists.
    pub(crate) struct Case {
        pub values: Vec<f32>,
        pub units: Vec<f32>,
        pub lists: Vec<i32>,
        pub pairs: Vec<i32>,
    }

    fn case(rows: usize, columns: usize, values: Vec<f32>) -> Result<Case, TrainError> {
        let mut units = vec![0.0; columns];
        let mut pairs = vec![7; pair_words(rows, columns) as usize];
        quantise(&values, 1.0, &mut units, &mut pairs)?;
        Ok(Case {
            values,
            units,
            lists: vec![7; sparse::input_entries(rows)],
            pairs,
        })
    }

    pub(crate) fn random(rows: usize, columns: usize) -> Case {
        let mut rng = Pcg32::on_stream(rows as u64, columns as u64);
        case(
            rows,
            columns,
            (0..rows * columns).map(|_| rng.symmetric()).collect(),
        )
        .unwrap()
    }

    /// Integers of a quantised matrix of one tile, row after row.
    fn integers(case: &Case, rows: usize) -> Vec<[i16; LANES]> {
        let pairs = tiles(&case.pairs, rows).next().unwrap();
        let lanes = |pair: &Pair| cast::<Pair, [i32; LANES]>(*pair);
        let halves = |pair| {
            [
                lanes(pair).map(|x| x as i16),
                lanes(pair).map(|x| (x >> 16) as i16),
            ]
        };
        pairs.iter().flat_map(halves).take(rows).collect()
    }

    #[test]
    fn no_column_can_overflow() {
        let mut rng = Pcg32::on_stream(1, 1);
        let most = if cfg!(miri) { 3 } else { 65_535 };
        for rows in [1, 2, 3, 784, 65_535].into_iter().filter(|&n| n <= most) {
            // Per column: as random, all at the bound of a power of two or just below it, one giant.
            let mut values: Vec<f32> = (0..rows * 5).map(|_| rng.symmetric()).collect();
            for (index, row) in values.chunks_exact_mut(5).enumerate() {
                row[1] = 1.0;
                row[2] = -(1.0 - f32::EPSILON / 2.0);
                row[3] = if index == rows / 2 { 3.0e30 } else { 1.0e-30 };
                row[4] = f32::MAX / 2.0 / rows as f32;
            }
            let mut case = case(rows, 5, values).unwrap();
            let integers = integers(&case, rows);
            for column in 0..5 {
                let magnitudes = || integers.iter().map(|row| i64::from(row[column]).abs());
                let (largest, sum) = (magnitudes().max().unwrap(), magnitudes().sum::<i64>());
                assert!(
                    largest < 1 << 15 && 255 * sum < 1 << 31,
                    "{rows} rows, column {column}"
                );
                // Nor is precision thrown away: one of the bounds is within a factor of four.
                assert!(
                    largest >= 1 << 13 || sum >= 1 << 21,
                    "{rows} rows, column {column}"
                );
            }
            let input = vec![255; rows];
            let mut sums = [0.0; 5];
            let list = sparse::of_input(&input, &mut case.lists);
            forward(&case.pairs, &case.units, &[0.0; 5], list, rows, &mut sums);
            for (column, sign) in [(1, 255.0), (2, -255.0)] {
                let expected = sign * rows as f32;
                assert!(
                    (sums[column] / expected - 1.0).abs() < 1e-3,
                    "{} {expected}",
                    sums[column]
                );
            }
        }
    }

    #[test]
    fn columns_of_nothing_and_of_almost_nothing_stay_what_they_are() {
        let case = case(2, 3, vec![0.0, 1e-45, f32::MIN_POSITIVE, -0.0, 1e-45, 0.0]).unwrap();
        assert!(
            case.units.iter().all(|unit| unit.is_normal()),
            "{:?}",
            case.units
        );
        assert!(integers(&case, 2).iter().all(|row| row == &[0; LANES]));
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in 0..6 {
                let mut values = vec![0.5; 6];
                values[place] = value;
                assert_eq!(case(2, 3, values).err(), Some(TrainError::Diverged));
            }
        }
        // Each is finite, the sum is not.
        assert_eq!(
            case(2, 1, vec![f32::MAX, f32::MAX]).err(),
            Some(TrainError::Diverged)
        );
    }
}
