//! The first layer in exact integer arithmetic.
//!
//! Most of the work of training is the first layer, and an emulated device pays ten times more for an f32
//! operation than for an i32 one. So the layer's weights (forward) and its deltas (gradient) are rounded,
//! once per batch, to integers times a power of two, one *unit* per column, and multiplied with the
//! octets of the input as they are. Sums are exact, so their order is free.
//!
//! # Invariant: no sum overflows
//! A column of `n <= 65,535` values `v` with `S = sum |v|` gets the unit `u` for which `S / u < 2^22`.
//! Rounding adds at most `n / 2`, and no octet is above 255, so every partial sum of a column is below
//! `255 * (2^22 + 2^15) < 2^31`.

use crate::error::TrainError;

/// Columns that are handled at once: four SSE registers of i32.
pub(crate) const LANES: usize = 16;

/// A row of one tile.
type Row = [i32; LANES];

/// Numbers of `rows` by `columns` values in tiles of [`LANES`] columns, the last tile padded.
pub(crate) fn len(rows: usize, columns: usize) -> u64 {
    rows as u64 * (columns.div_ceil(LANES) * LANES) as u64
}

/// Rounds `values` to integers and tells each column's unit.
///
/// # Shapes
/// `values`: row-major `[rows, columns]`; `units`: `[columns]`; `ints`: [`len`]`(rows, columns)`, written
/// tile after tile, each `[rows, LANES]`.
///
/// # Errors
/// [`TrainError::Diverged`] if a value is not finite or the sum of a column is not.
pub(crate) fn quantise(
    values: &[f32],
    units: &mut [f32],
    ints: &mut [i32],
) -> Result<(), TrainError> {
    let columns = units.len();
    let rows = values.len() / columns;
    let (ints, _) = ints.as_chunks_mut::<LANES>();
    for (tile, units) in units.chunks_mut(LANES).enumerate() {
        let begin = tile * LANES;
        let mut sums = [0.0_f32; LANES];
        for row in values.chunks_exact(columns) {
            for (sum, value) in sums.iter_mut().zip(&row[begin..begin + units.len()]) {
                *sum += value.abs();
            }
        }
        let mut scales = [0.0_f32; LANES];
        for ((unit, scale), sum) in units.iter_mut().zip(&mut scales).zip(sums) {
            (*unit, *scale) = unit_and_scale(sum)?;
        }
        let ints = &mut ints[tile * rows..(tile + 1) * rows];
        for (row, ints) in values.chunks_exact(columns).zip(ints) {
            *ints = [0; LANES];
            for ((int, scale), value) in ints
                .iter_mut()
                .zip(scales)
                .zip(&row[begin..begin + units.len()])
            {
                *int = round(value * scale);
            }
        }
    }
    Ok(())
}

/// The unit of a column whose absolute values sum to `sum`, and its inverse.
fn unit_and_scale(sum: f32) -> Result<(f32, f32), TrainError> {
    // The f32 sum of n values is below the true one by at most n * 2^-24 of it: less than 2^-7.
    let exponent = (sum * (1.0 + 1.0 / 128.0)).to_bits() >> 23;
    if exponent == 255 {
        return Err(TrainError::Diverged);
    }
    // Now sum < 2^(exponent - 126), so dividing by 2^(exponent - 148) leaves less than 2^22. Columns
    // of tiny values get a larger unit, so that neither it nor its inverse leaves the normal numbers.
    let exponent = exponent.max(40);
    Ok((
        f32::from_bits((exponent - 21) << 23),
        f32::from_bits((275 - exponent) << 23),
    ))
}

/// The nearest integer, ties to even, for `|x| <= 2^22`: above 1.5 * 2^23 the spacing of f32 is 1.
fn round(x: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0;
    (x + MAGIC).to_bits().wrapping_sub(MAGIC.to_bits()) as i32
}

/// `sums = (input / 255) * weights + bias`.
///
/// # Shapes
/// `ints`, `units`: of [`quantise`] for `[d_in, d_out]`; `input`: `[d_in]`; `bias`, `sums`: `[d_out]`.
pub(crate) fn forward(ints: &[i32], units: &[f32], bias: &[f32], input: &[u8], sums: &mut [f32]) {
    let (rows, _) = ints.as_chunks::<LANES>();
    let columns = units
        .chunks(LANES)
        .zip(bias.chunks(LANES))
        .zip(sums.chunks_mut(LANES));
    for (rows, ((units, bias), sums)) in rows.chunks_exact(input.len()).zip(columns) {
        let acc = weighted_sum(rows, input);
        for (((sum, acc), unit), bias) in sums.iter_mut().zip(acc).zip(units).zip(bias) {
            *sum = acc as f32 * (unit * (1.0 / 255.0)) + bias;
        }
    }
}

fn weighted_sum(rows: &[Row], input: &[u8]) -> Row {
    let mut acc = [0; LANES];
    let (words, rest) = input.as_chunks::<4>();
    let (quads, rest_rows) = rows.as_chunks::<4>();
    for (quad, word) in quads.iter().zip(words) {
        if u32::from_ne_bytes(*word) != 0 {
            for (row, &x) in quad.iter().zip(word) {
                if x != 0 {
                    add_scaled(&mut acc, x, row);
                }
            }
        }
    }
    for (row, &x) in rest_rows.iter().zip(rest) {
        add_scaled(&mut acc, x, row);
    }
    acc
}

#[inline(always)]
fn add_scaled(acc: &mut Row, x: u8, row: &Row) {
    for lane in 0..LANES {
        acc[lane] = acc[lane].wrapping_add(i32::from(x).wrapping_mul(row[lane]));
    }
}

/// One input's row of the batch's gradient, applied: `weights -= rate * sum_n (x_n / 255) * delta_n`.
///
/// # Shapes
/// `ints`, `units`: of [`quantise`] for `[batch, d_out]`; `inputs`: this input in each example of the
/// batch; `weights`: `[d_out]`.
pub(crate) fn update(
    ints: &[i32],
    units: &[f32],
    rate: f32,
    inputs: impl ExactSizeIterator<Item = u8> + Clone,
    weights: &mut [f32],
) {
    let (rows, _) = ints.as_chunks::<LANES>();
    let columns = units.chunks(LANES).zip(weights.chunks_mut(LANES));
    for (rows, (units, weights)) in rows.chunks_exact(inputs.len()).zip(columns) {
        let mut acc = [0; LANES];
        for (row, x) in rows.iter().zip(inputs.clone()) {
            if x != 0 {
                add_scaled(&mut acc, x, row);
            }
        }
        for ((weight, acc), unit) in weights.iter_mut().zip(acc).zip(units) {
            *weight -= acc as f32 * (unit * rate);
        }
    }
}
