//! Kernels of the first layer in integers, and of the exponential.

use super::Vector;
use crate::host::pairs::{Line, Pairs};
use crate::kernels::quantise::{power_of_two, unit_exponent};

/// Columns of a [`Line`].
const COLUMNS: usize = 16;

#[inline(always)]
pub(super) unsafe fn list_pairs<V: Vector>(octets: &[u8], pairs: &mut Pairs) {
    let (indices, values) = pairs.begin(octets.len().div_ceil(2));
    let mut count = 0;
    let mut chunks = octets.chunks_exact(2 * V::LANES);
    let mut first = 0;
    for chunk in &mut chunks {
        // SAFETY: at most `first` entries are there, and there is room for LANES more than all pairs.
        count +=
            unsafe { V::pack_pairs(chunk.as_ptr(), first, indices.add(count), values.add(count)) };
        first += V::LANES as u32;
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let mut last = [0; 2 * COLUMNS];
        last[..rest.len()].copy_from_slice(rest);
        // SAFETY: as above.
        count +=
            unsafe { V::pack_pairs(last.as_ptr(), first, indices.add(count), values.add(count)) };
    }
    pairs.end(count);
}

/// `to = base + units * sum`, or, without a base, `to -= units * sum`, of pairs of octets times pairs of rows.
#[inline(always)]
pub(super) unsafe fn add_pairs<V: Vector>(
    lines: &[Line],
    (indices, octets): (&[u32], &[u32]),
    units: &[f32],
    base: Option<&[f32]>,
    to: &mut [f32],
) {
    let width = to.len().min(units.len());
    let width = base.map_or(width, |base| width.min(base.len()));
    let rows = lines.len() / width.div_ceil(COLUMNS);
    // Places ascend: if the last is there, all are.
    assert!(indices.last().is_none_or(|&last| (last as usize) < rows));
    for (tile, begin) in lines.chunks_exact(rows).zip((0..width).step_by(COLUMNS)) {
        // SAFETY: the places are within the tile; heads end with `to` and `units`.
        unsafe {
            let sums = V::weigh(tile.as_ptr(), indices, octets);
            for (n, &sum) in sums.as_ref().iter().enumerate() {
                let at = begin + n * V::LANES;
                if at >= width {
                    break;
                }
                let head = V::LANES.min(width - at);
                let change = sum.mul(V::load_head(units.as_ptr().add(at), head));
                let new = match base {
                    Some(base) => change.add(V::load_head(base.as_ptr().add(at), head)),
                    None => V::load_head(to.as_ptr().add(at), head).sub(change),
                };
                new.store_head(to.as_mut_ptr().add(at), head);
            }
        }
    }
}

/// [`crate::kernels::quantise::quantise`]: false if a number or a sum is not finite. Row `n` is taken from
/// `places[n]`, if there are places.
#[inline(always)]
pub(super) unsafe fn quantise<V: Vector>(
    values: &[f32],
    places: Option<&[u32]>,
    factor: f32,
    units: &mut [f32],
    lines: &mut [Line],
) -> bool {
    let width = units.len();
    let rows = values.len() / width;
    let values = &values[..rows * width];
    let tiles = lines.chunks_exact_mut(rows.div_ceil(2));
    for ((tile, units), begin) in tiles
        .zip(units.chunks_mut(COLUMNS))
        .zip((0..).step_by(COLUMNS))
    {
        let mut scales = [1.0; COLUMNS];
        for at in (0..units.len()).step_by(V::LANES) {
            let head = V::LANES.min(units.len() - at);
            let (mut max, mut sum) = ([0.0; COLUMNS], [0.0; COLUMNS]);
            // SAFETY: heads end with the row.
            unsafe {
                let (mut maxima, mut sums) = (V::splat(0.0), V::splat(0.0));
                for row in 0..rows {
                    let from = values.as_ptr().add(row * width + begin + at);
                    let magnitude = V::load_head(from, head).abs();
                    maxima = maxima.max_bits(magnitude);
                    sums = sums.add(magnitude);
                }
                maxima.store(max.as_mut_ptr());
                sums.store(sum.as_mut_ptr());
            }
            for n in 0..head {
                let Ok(exponent) = unit_exponent(max[n], sum[n]) else {
                    return false;
                };
                units[at + n] = power_of_two(exponent) * factor;
                scales[at + n] = power_of_two(254 - exponent);
            }
        }
        for (pair, line) in tile.iter_mut().enumerate() {
            for at in (0..COLUMNS).step_by(V::LANES) {
                let head = V::LANES.min(units.len().saturating_sub(at));
                // SAFETY: heads end with the row, which was checked; a line has sixteen lanes.
                unsafe {
                    let row = |n: usize| {
                        let place = places.map_or(n, |places| places[n] as usize);
                        if n < rows && place < rows && head > 0 {
                            V::load_head(values.as_ptr().add(place * width + begin + at), head)
                        } else {
                            V::splat(0.0)
                        }
                    };
                    let upper = row(2 * pair);
                    let lower = if 2 * pair + 1 < rows {
                        row(2 * pair + 1)
                    } else {
                        V::splat(0.0)
                    };
                    let (scale, round) = (V::load(scales.as_ptr().add(at)), V::splat(12_582_912.0));
                    let (upper, lower) = (upper.mul(scale).add(round), lower.mul(scale).add(round));
                    let to = line.0.as_mut_ptr().add(at);
                    upper.halves(lower).store(to.cast());
                }
            }
        }
    }
    true
}

/// `to = exp(from - max)`, by the steps of the `libm` crate.
#[inline(always)]
pub(super) unsafe fn exp<V: Vector>(from: &[f32], max: f32, to: &mut [f32]) {
    for (from, to) in from.chunks(V::LANES).zip(to.chunks_mut(V::LANES)) {
        let head = from.len().min(to.len());
        // SAFETY: heads of the two slices.
        unsafe {
            let x = V::load_head(from.as_ptr(), head).sub(V::splat(max));
            x.exp().store_head(to.as_mut_ptr(), head);
        }
    }
}

/// `z = 1 / (1 + exp(-z))`.
#[inline(always)]
pub(super) unsafe fn sigmoid<V: Vector>(units: &mut [f32]) {
    for units in units.chunks_mut(V::LANES) {
        // SAFETY: heads of the slice.
        unsafe {
            // The other sign of a number is its difference from -0.
            let x = V::splat(-0.0).sub(V::load_head(units.as_ptr(), units.len()));
            let one = V::splat(1.0);
            one.div(one.add(x.exp()))
                .store_head(units.as_mut_ptr(), units.len());
        }
    }
}
