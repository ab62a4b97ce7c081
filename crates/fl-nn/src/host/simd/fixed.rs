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

/// Columns whose bounds are found together: sums that wait for themselves fill each other's time.
const TOGETHER: usize = 4 * COLUMNS;

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
    let pairs = rows.div_ceil(2);
    let groups = lines.chunks_mut(TOGETHER / COLUMNS * pairs);
    for ((group, units), begin) in groups
        .zip(units.chunks_mut(TOGETHER))
        .zip((0..).step_by(TOGETHER))
    {
        let mut scales = [1.0; TOGETHER];
        // SAFETY: the columns end with the row.
        let bounds = unsafe { column_bounds::<V>(&values[begin..], rows, width, units.len()) };
        for (n, unit) in units.iter_mut().enumerate() {
            let Ok(exponent) = unit_exponent(bounds.0[n], bounds.1[n]) else {
                return false;
            };
            *unit = power_of_two(exponent) * factor;
            scales[n] = power_of_two(254 - exponent);
        }
        let source = Source {
            values,
            places,
            rows,
            width,
        };
        if units.len() == TOGETHER {
            // SAFETY: as many columns are left in each row, and the group has the tiles of all.
            unsafe { round::<V, { TOGETHER / COLUMNS }>(source, begin, TOGETHER, &scales, group) };
            continue;
        }
        let tiles = group.chunks_exact_mut(pairs).zip(units.chunks(COLUMNS));
        for ((tile, units), at) in tiles.zip((0..).step_by(COLUMNS)) {
            // SAFETY: as many columns as units are left in each row.
            unsafe { round::<V, 1>(source, begin + at, units.len(), &scales[at..], tile) };
        }
    }
    true
}

/// The largest magnitude and the sum of magnitudes of each of the first `columns`, at most [`TOGETHER`].
#[inline(always)]
unsafe fn column_bounds<V: Vector>(
    values: &[f32],
    rows: usize,
    width: usize,
    columns: usize,
) -> ([f32; TOGETHER], [f32; TOGETHER]) {
    let (mut max, mut sum) = ([0.0; TOGETHER], [0.0; TOGETHER]);
    let mut at = 0;
    // SAFETY: heads end with the columns; targets have room for all lanes.
    unsafe {
        while at + 4 * V::LANES <= columns {
            let (mut maxima, mut sums) = ([V::splat(0.0); 4], [V::splat(0.0); 4]);
            for row in 0..rows {
                let from = values.as_ptr().add(row * width + at);
                for n in 0..4 {
                    let magnitude = V::load(from.add(n * V::LANES)).abs();
                    maxima[n] = maxima[n].max_bits(magnitude);
                    sums[n] = sums[n].add(magnitude);
                }
            }
            for n in 0..4 {
                maxima[n].store(max.as_mut_ptr().add(at + n * V::LANES));
                sums[n].store(sum.as_mut_ptr().add(at + n * V::LANES));
            }
            at += 4 * V::LANES;
        }
        while at < columns {
            let head = V::LANES.min(columns - at);
            let (mut maxima, mut sums) = (V::splat(0.0), V::splat(0.0));
            for row in 0..rows {
                let magnitude = V::load_head(values.as_ptr().add(row * width + at), head).abs();
                maxima = maxima.max_bits(magnitude);
                sums = sums.add(magnitude);
            }
            maxima.store(max.as_mut_ptr().add(at));
            sums.store(sum.as_mut_ptr().add(at));
            at += V::LANES;
        }
    }
    (max, sum)
}

/// A matrix of which row `n` is taken from `places[n]`, if there are places.
#[derive(Clone, Copy)]
struct Source<'a> {
    values: &'a [f32],
    places: Option<&'a [u32]>,
    rows: usize,
    width: usize,
}

impl Source<'_> {
    /// Numbers of a row from column `begin` on; zeros behind the last row.
    #[inline(always)]
    fn row(&self, n: usize, begin: usize) -> *const f32 {
        static NONE: [f32; TOGETHER] = [0.0; TOGETHER];
        let place = match self.places {
            Some(places) if n < self.rows => places[n] as usize,
            _ => n,
        };
        match place < self.rows {
            true => self.values[place * self.width + begin..].as_ptr(),
            false => NONE.as_ptr(),
        }
    }
}

/// Rounds `columns` of a matrix from `begin` on into `TILES` tiles, row by row: the columns of a row lie together. A
/// single tile may have fewer than [`COLUMNS`].
///
/// # Safety
/// As for all here; each row has as many columns, and `scales` too up to whole tiles.
#[inline(always)]
unsafe fn round<V: Vector, const TILES: usize>(
    source: Source<'_>,
    begin: usize,
    columns: usize,
    scales: &[f32],
    tiles: &mut [Line],
) {
    let pairs = tiles.len() / TILES;
    let scales = &scales[..TILES * COLUMNS];
    for pair in 0..pairs {
        let (upper, lower) = (source.row(2 * pair, begin), source.row(2 * pair + 1, begin));
        for tile in 0..TILES {
            let line = tiles[tile * pairs + pair].0.as_mut_ptr();
            for lane in (0..COLUMNS).step_by(V::LANES) {
                let at = tile * COLUMNS + lane;
                let head = match TILES {
                    1 => V::LANES.min(columns.saturating_sub(at)),
                    _ => V::LANES,
                };
                // SAFETY: heads end with the row, which the caller vouches for; a line has sixteen lanes.
                unsafe {
                    let (scale, round) = (V::load(scales.as_ptr().add(at)), V::splat(12_582_912.0));
                    let upper = head_of::<V>(upper, at, head).mul(scale).add(round);
                    let lower = head_of::<V>(lower, at, head).mul(scale).add(round);
                    upper.halves(lower).store(line.add(lane).cast());
                }
            }
        }
    }
}

/// The first `head` numbers of a row from `at` on, or zeros.
#[inline(always)]
unsafe fn head_of<V: Vector>(row: *const f32, at: usize, head: usize) -> V {
    // SAFETY: the row has as many.
    unsafe {
        if head == V::LANES {
            V::load(row.add(at))
        } else if head > 0 {
            V::load_head(row.add(at), head)
        } else {
            V::splat(0.0)
        }
    }
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
