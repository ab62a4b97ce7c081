//! Kernels of the first layer in integers, and of the exponential.

use core::ops::Range;

use super::{COLUMNS, GROUP, RoundedRows, Source, TOGETHER, Vector};
use crate::host::pairs::{Line, Pairs};

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

/// `sums[n] = base + units * sum` of pairs of octets times pairs of rows, of each list: a tile stays in the first
/// cache for all of them.
#[inline(always)]
pub(super) unsafe fn add_pairs<V: Vector>(
    lines: &[Line],
    lists: &[(&[u32], &[u32])],
    units: &[f32],
    base: &[f32],
    sums: &mut [f32],
) {
    let width = base.len().min(units.len());
    let stride = sums.len() / lists.len().max(1);
    assert!(width <= stride);
    let rows = lines.len() / width.div_ceil(COLUMNS);
    lists.iter().for_each(|list| check(list, rows));
    for (tile, begin) in lines.chunks_exact(rows).zip((0..width).step_by(COLUMNS)) {
        for (&(indices, octets), sums) in lists.iter().zip(sums.chunks_exact_mut(stride)) {
            // SAFETY: the places are within the tile; heads end with `units`, `base` and sums.
            unsafe {
                let found = V::weigh(tile.as_ptr(), indices, octets);
                for (n, &sum) in found.as_ref().iter().enumerate() {
                    let at = begin + n * V::LANES;
                    if at >= width {
                        break;
                    }
                    let head = V::LANES.min(width - at);
                    let change = sum.mul(V::load_head(units.as_ptr().add(at), head));
                    change
                        .add(V::load_head(base.as_ptr().add(at), head))
                        .store_head(sums.as_mut_ptr().add(at), head);
                }
            }
        }
    }
}

/// Places ascend: if the last is there, all are.
#[inline(always)]
fn check((indices, _): &(&[u32], &[u32]), rows: usize) {
    assert!(indices.last().is_none_or(|&last| (last as usize) < rows));
}

/// Subtracts from each row the sums of its column of octets, and rounds the pairs of rows that moved anew.
#[inline(always)]
pub(super) unsafe fn move_rows<V: Vector>(
    columns: &[u8],
    batch: usize,
    (lines, units): (&[Line], &[f32]),
    weights: &mut [f32],
    mut rounded: Option<RoundedRows<'_>>,
    pairs: &mut Pairs,
) {
    let width = units.len();
    let columns = columns.chunks_exact(columns.len() / GROUP);
    let mut columns = columns.map(|column| {
        // As many as one vector takes, or less: behind the batch are zeros.
        &column[..batch.next_multiple_of(2 * COLUMNS)]
    });
    for (pair, rows) in weights.chunks_mut(2 * width).enumerate() {
        let mut moves = false;
        for (row, column) in rows.chunks_exact_mut(width).zip(&mut columns) {
            if batch <= COLUMNS && column[..COLUMNS] == [0; COLUMNS] {
                continue;
            }
            pairs.clear();
            // SAFETY: the caller has the instructions.
            unsafe {
                list_pairs::<V>(column, pairs);
                let list = pairs.get(0);
                // A gradient of zero moves nothing.
                if !list.0.is_empty() {
                    subtract_pairs::<V>(lines, list, units, row);
                    moves = true;
                }
            }
        }
        if let Some(RoundedRows {
            lines,
            scales,
            first,
        }) = rounded.as_mut().filter(|_| moves)
        {
            let values: &[f32] = rows;
            let source = Source {
                values,
                width,
                places: None,
            };
            // SAFETY: likewise.
            unsafe { round::<V>(source, 0..1, 0..width, scales, lines, *first + pair) };
        }
    }
}

/// `to -= units * sum` of pairs of octets times pairs of rows.
#[inline(always)]
pub(super) unsafe fn subtract_pairs<V: Vector>(
    lines: &[Line],
    list: (&[u32], &[u32]),
    units: &[f32],
    to: &mut [f32],
) {
    let width = to.len().min(units.len());
    let rows = lines.len() / width.div_ceil(COLUMNS);
    check(&list, rows);
    /// The number of pairs as a constant: they stay in registers.
    macro_rules! few {
        ($($n:literal)*) => {
            match list {
                $(([..], octets) if octets.len() == $n => {
                    // SAFETY: the caller has the instructions.
                    unsafe { subtract_few::<V, $n>(lines, rows, list, units, to) }
                })*
                // SAFETY: likewise.
                _ => unsafe { subtract::<V>(lines, rows, list, units, to) },
            }
        };
    }
    few!(1 2 3 4 5 6 7 8);
}

/// [`subtract_pairs`] of `N` pairs.
#[inline(always)]
unsafe fn subtract_few<V: Vector, const N: usize>(
    lines: &[Line],
    rows: usize,
    (indices, octets): (&[u32], &[u32]),
    units: &[f32],
    to: &mut [f32],
) {
    let (indices, octets) = (&indices[..N], &octets[..N]);
    let width = to.len().min(units.len());
    let whole = width / V::LANES * V::LANES;
    // SAFETY: the places are within the tile; heads end with `to` and `units`.
    unsafe {
        let (mut from, mut pairs) = ([lines.as_ptr(); N], [V::splat(0.0); N]);
        for n in 0..N {
            from[n] = from[n].add(indices[n] as usize);
            pairs[n] = V::pair(octets[n]);
        }
        let mut tile = 0;
        for begin in (0..width).step_by(COLUMNS) {
            for lane in (0..COLUMNS).step_by(V::LANES) {
                let at = begin + lane;
                let mut sum = V::splat(0.0);
                for n in 0..N {
                    let line = from[n].add(tile).cast::<f32>().add(lane);
                    sum = sum.add_products(line, pairs[n]);
                }
                let sum = sum.to_floats();
                let (units, to) = (
                    units.as_ptr().wrapping_add(at),
                    to.as_mut_ptr().wrapping_add(at),
                );
                if at < whole {
                    let change = sum.mul(V::load(units));
                    V::load(to).sub(change).store(to);
                } else if at < width {
                    let head = width - at;
                    let change = sum.mul(V::load_head(units, head));
                    V::load_head(to, head).sub(change).store_head(to, head);
                }
            }
            tile += rows;
        }
    }
}

#[inline(always)]
unsafe fn subtract<V: Vector>(
    lines: &[Line],
    rows: usize,
    list: (&[u32], &[u32]),
    units: &[f32],
    to: &mut [f32],
) {
    let width = to.len().min(units.len());
    for (tile, begin) in lines.chunks_exact(rows).zip((0..width).step_by(COLUMNS)) {
        // SAFETY: the places are within the tile; heads end with `to` and `units`.
        unsafe {
            let sums = V::weigh(tile.as_ptr(), list.0, list.1);
            for (n, &sum) in sums.as_ref().iter().enumerate() {
                let at = begin + n * V::LANES;
                if at >= width {
                    break;
                }
                let head = V::LANES.min(width - at);
                let change = sum.mul(V::load_head(units.as_ptr().add(at), head));
                V::load_head(to.as_ptr().add(at), head)
                    .sub(change)
                    .store_head(to.as_mut_ptr().add(at), head);
            }
        }
    }
}

/// The largest magnitude and the sum of magnitudes of each column of some tiles, which lie together in the answer.
#[inline(always)]
pub(super) unsafe fn column_bounds<V: Vector>(
    Source { values, width, .. }: Source<'_>,
    tiles: &[usize],
) -> ([f32; TOGETHER], [f32; TOGETHER]) {
    assert!(tiles.len() * COLUMNS <= TOGETHER && tiles.iter().all(|tile| tile * COLUMNS < width));
    let (mut max, mut sum) = ([0.0; TOGETHER], [0.0; TOGETHER]);
    let column = |at: usize| tiles[at / COLUMNS] * COLUMNS + at % COLUMNS;
    for begin in (0..tiles.len() * COLUMNS).step_by(4 * V::LANES) {
        // Missing vectors are the first again.
        let mut columns = [column(begin); 4];
        for (n, at) in (begin..tiles.len() * COLUMNS)
            .step_by(V::LANES)
            .take(4)
            .enumerate()
        {
            columns[n] = column(at);
        }
        let heads = columns.map(|column| V::LANES.min(width.saturating_sub(column)));
        let (mut maxima, mut sums) = ([0.0; TOGETHER], [0.0; TOGETHER]);
        // SAFETY: heads end with the row; targets have room for all lanes.
        unsafe {
            if heads == [V::LANES; 4] {
                sum_columns::<V>(
                    values,
                    width,
                    columns,
                    |from, _| V::load(from),
                    &mut maxima,
                    &mut sums,
                );
            } else {
                let load = |from, n: usize| match heads[n] {
                    0 => V::splat(0.0),
                    head => V::load_head(from, head),
                };
                sum_columns::<V>(values, width, columns, load, &mut maxima, &mut sums);
            }
        }
        let count = (4 * V::LANES).min(TOGETHER - begin);
        max[begin..][..count].copy_from_slice(&maxima[..count]);
        sum[begin..][..count].copy_from_slice(&sums[..count]);
    }
    (max, sum)
}

/// [`column_bounds`] of four vectors side by side: sums that wait for themselves fill each other's time.
#[inline(always)]
unsafe fn sum_columns<V: Vector>(
    values: &[f32],
    width: usize,
    columns: [usize; 4],
    load: impl Fn(*const f32, usize) -> V,
    max: &mut [f32; TOGETHER],
    sum: &mut [f32; TOGETHER],
) {
    // SAFETY: as for the caller.
    unsafe {
        let (mut maxima, mut sums) = ([V::splat(0.0); 4], [V::splat(0.0); 4]);
        for row in values.chunks_exact(width) {
            for n in 0..4 {
                // Without an offset where there is nothing to load.
                let magnitude = load(row.as_ptr().wrapping_add(columns[n]), n).abs();
                maxima[n] = maxima[n].max_bits(magnitude);
                sums[n] = sums[n].add(magnitude);
            }
        }
        for n in 0..4 {
            maxima[n].store(max.as_mut_ptr().add(n * V::LANES));
            sums[n].store(sum.as_mut_ptr().add(n * V::LANES));
        }
    }
}

/// Rounds `columns`, which begin with a tile, of some pairs of rows. The first row of `source` is of pair `first` of
/// the lines.
#[inline(always)]
pub(super) unsafe fn round<V: Vector>(
    source: Source<'_>,
    pairs: Range<usize>,
    columns: Range<usize>,
    scales: &[f32],
    lines: &mut [Line],
    first: usize,
) {
    let tiles = source.width.div_ceil(COLUMNS);
    let stride = lines.len() / tiles;
    assert!(columns.start.is_multiple_of(COLUMNS) && columns.end <= source.width);
    assert!(columns.end.next_multiple_of(COLUMNS) <= scales.len());
    assert!(first + pairs.end <= stride);
    // Rounds what is added to it.
    // SAFETY: the caller has the instructions.
    let magic = unsafe { V::splat(12_582_912.0) };
    let (begin, end) = (columns.start, columns.end);
    let whole = begin + (end - begin) / COLUMNS * COLUMNS;
    for pair in pairs {
        let rows = (source.row(2 * pair), source.row(2 * pair + 1));
        let line = begin / COLUMNS * stride + first + pair;
        let mut line = lines[line..].as_mut_ptr();
        // SAFETY: heads end with the columns, which the rows have; the line of the last tile is within `lines`.
        unsafe {
            let mut at = begin;
            if let (Some(upper), Some(lower)) = rows {
                while at < whole {
                    for lane in (0..COLUMNS).step_by(V::LANES) {
                        let scale = V::load(scales.as_ptr().add(at + lane));
                        let upper = V::load(upper.as_ptr().add(at + lane)).mul(scale);
                        let lower = V::load(lower.as_ptr().add(at + lane)).mul(scale);
                        upper
                            .add(magic)
                            .halves(lower.add(magic))
                            .store(line.cast::<f32>().add(lane));
                    }
                    at += COLUMNS;
                    line = line.wrapping_add(stride);
                }
            }
            while at < end {
                for lane in (0..COLUMNS).step_by(V::LANES) {
                    let head = V::LANES.min(end.saturating_sub(at + lane));
                    let scale = V::load(scales.as_ptr().add(at + lane));
                    let upper = head_of::<V>(rows.0, at + lane, head).mul(scale);
                    let lower = head_of::<V>(rows.1, at + lane, head).mul(scale);
                    upper
                        .add(magic)
                        .halves(lower.add(magic))
                        .store(line.cast::<f32>().add(lane));
                }
                at += COLUMNS;
                line = line.wrapping_add(stride);
            }
        }
    }
}

/// `max += sum_n magnitude`, `sum += sum_n octets[n] * magnitude` of some deltas.
#[inline(always)]
pub(super) unsafe fn add_drift<V: Vector>(
    deltas: &[f32],
    octets: &[f32],
    max: &mut [f32],
    sum: &mut [f32],
) {
    let width = max.len().min(sum.len());
    let deltas = &deltas[..octets.len() * width];
    for at in (0..width).step_by(V::LANES) {
        let head = V::LANES.min(width - at);
        // SAFETY: heads end with the rows.
        unsafe {
            let mut maxima = V::load_head(max.as_ptr().add(at), head);
            let mut sums = V::load_head(sum.as_ptr().add(at), head);
            for (n, &octets) in octets.iter().enumerate() {
                let delta = V::load_head(deltas.as_ptr().add(n * width + at), head).abs();
                maxima = maxima.add(delta);
                sums = sums.add(delta.mul(V::splat(octets)));
            }
            maxima.store_head(max.as_mut_ptr().add(at), head);
            sums.store_head(sum.as_mut_ptr().add(at), head);
        }
    }
}

/// The first `head` numbers of a row from `at` on, or zeros.
#[inline(always)]
unsafe fn head_of<V: Vector>(row: Option<&[f32]>, at: usize, head: usize) -> V {
    let Some(row) = row else {
        // SAFETY: the caller has the instructions.
        return unsafe { V::splat(0.0) };
    };
    let row = row.as_ptr();
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
