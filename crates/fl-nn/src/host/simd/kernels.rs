//! The kernels, generic over the vector; each level compiles them with its own instructions.

#![allow(
    clippy::needless_range_loop,
    reason = "registers side by side: every loop over them is unrolled"
)]

use super::{BLOCK, CHUNK, Eight, GROUP, Vector};
use crate::host::list::{List, SHARES};
use crate::train::AdamStep;

/// Makes the table of a level: functions with its instructions, and plain ones that call them.
macro_rules! table {
    ($table:ident, $features:literal, $vector:ty, $eight:ty) => {
        pub(in crate::host) static $table: $crate::host::simd::Kernels = {
            use core::ops::Range;
            use $crate::host::list::List;
            use $crate::host::pairs::{Line, Pairs};
            use $crate::host::simd::kernels::{self, Sum};
            use $crate::host::simd::{Bounds, GROUP, Kernels, RoundedRows, Source, fixed};
            use $crate::train::AdamStep;

            #[target_feature(enable = $features)]
            fn list_octets(input: &[u8], list: &mut List) {
                // SAFETY: this function has the instructions.
                unsafe { kernels::list_octets::<$vector>(input, list) }
            }
            #[target_feature(enable = $features)]
            fn list_units(units: &[f32], list: &mut List) {
                // SAFETY: as above.
                unsafe { kernels::list_units::<$vector>(units, list) }
            }
            #[target_feature(enable = $features)]
            fn add_rows(rows: &[f32], list: &List, base: &[f32], sums: &mut [f32]) {
                // SAFETY: as above.
                unsafe { kernels::add_rows::<$vector>(rows, list, Sum::From(base), sums) }
            }
            #[target_feature(enable = $features)]
            fn dots(rows: &[f32], deltas: &[f32], list: &List, slopes: bool, below: &mut [f32]) {
                // SAFETY: as above.
                unsafe { kernels::dots::<$eight>(rows, deltas, list, slopes, below) }
            }
            #[target_feature(enable = $features)]
            fn add_gradient(
                columns: &[f32],
                deltas: &[f32],
                width: usize,
                gradient: &mut [f32],
                list: &mut List,
            ) {
                // SAFETY: as above.
                unsafe {
                    kernels::add_gradient::<$vector>(columns, deltas, width, gradient, list, None)
                }
            }
            #[target_feature(enable = $features)]
            fn step_gradient(
                columns: &[f32],
                deltas: &[f32],
                width: usize,
                rate: f32,
                weights: &mut [f32],
                list: &mut List,
            ) {
                let rate = Some(rate);
                // SAFETY: as above.
                unsafe {
                    kernels::add_gradient::<$vector>(columns, deltas, width, weights, list, rate)
                }
            }
            #[target_feature(enable = $features)]
            fn step_rows(
                columns: &[u8],
                deltas: &[f32],
                width: usize,
                rate: f32,
                weights: &mut [f32],
                list: &mut List,
            ) {
                // SAFETY: as above.
                unsafe {
                    kernels::step_rows::<$vector>(columns, deltas, width, rate, weights, list)
                }
            }
            #[target_feature(enable = $features)]
            fn step(rate: f32, gradient: &[f32], params: &mut [f32]) {
                // SAFETY: as above.
                unsafe { kernels::step::<$vector>(rate, gradient, params) }
            }
            #[target_feature(enable = $features)]
            fn list_pairs(octets: &[u8], pairs: &mut Pairs) {
                // SAFETY: as above.
                unsafe { fixed::list_pairs::<$vector>(octets, pairs) }
            }
            #[target_feature(enable = $features)]
            fn add_pairs(
                lines: &[Line],
                lists: &[(&[u32], &[u32])],
                units: &[f32],
                base: &[f32],
                sums: &mut [f32],
            ) {
                // SAFETY: as above.
                unsafe { fixed::add_pairs::<$vector>(lines, lists, units, base, sums) }
            }
            #[target_feature(enable = $features)]
            fn subtract_pairs(
                lines: &[Line],
                list: (&[u32], &[u32]),
                units: &[f32],
                weights: &mut [f32],
            ) {
                // SAFETY: as above.
                unsafe { fixed::subtract_pairs::<$vector>(lines, list, units, weights) }
            }
            #[target_feature(enable = $features)]
            fn move_rows(
                columns: &[u8],
                batch: usize,
                moves: (&[Line], &[f32]),
                weights: &mut [f32],
                rounded: Option<RoundedRows<'_>>,
                pairs: &mut Pairs,
            ) {
                // SAFETY: as above.
                unsafe {
                    fixed::move_rows::<$vector>(columns, batch, moves, weights, rounded, pairs)
                }
            }
            #[target_feature(enable = $features)]
            fn column_bounds(matrix: Source<'_>, tiles: &[usize]) -> Bounds {
                // SAFETY: as above.
                unsafe { fixed::column_bounds::<$vector>(matrix, tiles) }
            }
            #[target_feature(enable = $features)]
            fn round(
                rows: Source<'_>,
                pairs: Range<usize>,
                columns: Range<usize>,
                scales: &[f32],
                lines: &mut [Line],
                first: usize,
            ) {
                // SAFETY: as above.
                unsafe { fixed::round::<$vector>(rows, pairs, columns, scales, lines, first) }
            }
            #[target_feature(enable = $features)]
            fn add_drift(deltas: &[f32], octets: &[f32], max: &mut [f32], sum: &mut [f32]) {
                // SAFETY: as above.
                unsafe { fixed::add_drift::<$vector>(deltas, octets, max, sum) }
            }
            #[target_feature(enable = $features)]
            fn exp(from: &[f32], max: f32, to: &mut [f32]) {
                // SAFETY: as above.
                unsafe { fixed::exp::<$vector>(from, max, to) }
            }
            #[target_feature(enable = $features)]
            fn sigmoid(units: &mut [f32]) {
                // SAFETY: as above.
                unsafe { fixed::sigmoid::<$vector>(units) }
            }
            #[target_feature(enable = $features)]
            fn adam(
                step: &AdamStep,
                weights: &mut [f32],
                gradient: &[f32],
                means: &mut [f32],
                squares: &mut [f32],
            ) {
                // SAFETY: as above.
                unsafe { kernels::adam::<$vector>(step, weights, gradient, means, squares) }
            }
            #[target_feature(enable = $features)]
            fn transpose(rows: &[&[u8; GROUP]; GROUP], columns: &mut [u8], stride: usize) {
                // SAFETY: as above.
                unsafe { kernels::transpose::<$vector>(rows, columns, stride) }
            }

            // SAFETY of all: whoever has the table has a processor with these instructions.
            Kernels {
                list_octets: |a, b| unsafe { list_octets(a, b) },
                list_units: |a, b| unsafe { list_units(a, b) },
                add_rows: |a, b, c, d| unsafe { add_rows(a, b, c, d) },
                dots: |a, b, c, d, e| unsafe { dots(a, b, c, d, e) },
                add_gradient: |a, b, c, d, e| unsafe { add_gradient(a, b, c, d, e) },
                step_gradient: |a, b, c, d, e, f| unsafe { step_gradient(a, b, c, d, e, f) },
                step_rows: |a, b, c, d, e, f| unsafe { step_rows(a, b, c, d, e, f) },
                step: |a, b, c| unsafe { step(a, b, c) },
                adam: |a, b, c, d, e| unsafe { adam(a, b, c, d, e) },
                list_pairs: |a, b| unsafe { list_pairs(a, b) },
                add_pairs: |a, b, c, d, e| unsafe { add_pairs(a, b, c, d, e) },
                subtract_pairs: |a, b, c, d| unsafe { subtract_pairs(a, b, c, d) },
                move_rows: |a, b, c, d, e, f| unsafe { move_rows(a, b, c, d, e, f) },
                column_bounds: |a, b| unsafe { column_bounds(a, b) },
                add_drift: |a, b, c, d| unsafe { add_drift(a, b, c, d) },
                round: |a, b, c, d, e, f| unsafe { round(a, b, c, d, e, f) },
                sigmoid: |a| unsafe { sigmoid(a) },
                exp: |a, b, c| unsafe { exp(a, b, c) },
                transpose: |a, b, c| unsafe { transpose(a, b, c) },
            }
        };
    };
}
pub(super) use table;

/// # Safety
/// As for all here: the caller has the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn list_octets<V: Vector>(input: &[u8], list: &mut List) {
    let (indices, values, len) = list.begin(input.len());
    let mut count = 0;
    let (chunks, rest) = input.as_chunks::<CHUNK>();
    let mut last = [0; CHUNK];
    // A copy of nothing is a call all the same.
    let last = (!rest.is_empty()).then(|| {
        last[..rest.len()].copy_from_slice(rest);
        &last
    });
    for (chunk, begin) in chunks.iter().chain(last).zip((0..).step_by(CHUNK)) {
        // SAFETY: the caller has the instructions, and there are no more entries than octets.
        unsafe {
            let mut set = V::octets_set(chunk);
            while set != 0 {
                let bit = set.trailing_zeros();
                indices.add(count).write(begin + bit);
                values
                    .add(count)
                    .write(SHARES[usize::from(chunk[bit as usize % CHUNK])]);
                count += 1;
                set &= set - 1;
            }
        }
    }
    *len = count;
}

#[inline(always)]
pub(super) unsafe fn list_units<V: Vector>(units: &[f32], list: &mut List) {
    let (indices, values, len) = list.begin(units.len());
    let mut count = 0;
    for (chunk, first) in units.chunks(V::LANES).zip((0..).step_by(V::LANES)) {
        // SAFETY: at most `first` entries are there, and the list has room for LANES more than all units.
        unsafe {
            let lanes = V::load_head(chunk.as_ptr(), chunk.len());
            count += lanes.pack(first, indices.add(count), values.add(count));
        }
    }
    *len = count;
}

/// Calls [`block`] with the number of its sums as a constant.
macro_rules! blocks {
    ($count:expr, $vector:ty, $arguments:tt, $($n:literal)*) => {
        match $count {
            $($n => block::<$vector, $n> $arguments,)*
            _ => {}
        }
    };
}

/// Use of a sum.
#[derive(Clone, Copy)]
pub(super) enum Sum<'a> {
    /// It begins with these.
    From(&'a [f32]),
    /// It begins with what is there.
    Go,
    /// Number of times that it is subtracted from what is there.
    Step(f32),
}

/// `sums += sum_i x_i * rows[i]`, as `sum` says.
#[inline(always)]
pub(super) unsafe fn add_rows<V: Vector>(
    rows: &[f32],
    list: &List,
    sum: Sum<'_>,
    sums: &mut [f32],
) {
    let vectors = sums.len().div_ceil(V::LANES);
    let blocks = vectors.div_ceil(V::SUMS);
    let mut begin = 0;
    for left in (1..=blocks).rev() {
        let rest = vectors - begin;
        // A division takes as long as a row of a narrow layer.
        let count = if left == 1 { rest } else { rest.div_ceil(left) };
        let at = begin * V::LANES;
        // SAFETY: the caller has the instructions, and the block ends with the sums or before.
        unsafe {
            blocks!(count, V, (rows, list, sum, sums, at),
                1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
        }
        begin += count;
    }
}

/// [`add_rows`] for `N` vectors of columns from `at` on, of which the last may be a head.
#[inline(always)]
unsafe fn block<V: Vector, const N: usize>(
    rows: &[f32],
    list: &List,
    sum: Sum<'_>,
    sums: &mut [f32],
    at: usize,
) {
    if N > V::SUMS {
        return;
    }
    let width = sums.len();
    let last = (N - 1) * V::LANES;
    let head = V::LANES.min(width - at - last);
    let sums = sums[at..at + last + head].as_mut_ptr();
    // SAFETY: the slices end behind the head of the last vector.
    unsafe {
        let mut totals: [V; N] = match sum {
            Sum::From(base) => load(base[at..][..last + head].as_ptr(), head),
            Sum::Go => load(sums, head),
            Sum::Step(_) => [V::splat(0.0); N],
        };
        for (&index, &x) in list.indices().iter().zip(list.values()) {
            let row = &rows[index as usize * width..][..width];
            let (row, x) = (row[at..].as_ptr(), V::splat(x));
            for n in 0..N - 1 {
                totals[n] = totals[n].add(x.mul(V::load(row.add(n * V::LANES))));
            }
            let row = V::load_head(row.add(last), head);
            totals[N - 1] = totals[N - 1].add(x.mul(row));
        }
        if let Sum::Step(rate) = sum {
            let (rate, old): (V, [V; N]) = (V::splat(rate), load(sums, head));
            for n in 0..N {
                totals[n] = old[n].sub(rate.mul(totals[n]));
            }
        }
        for (n, total) in totals[..N - 1].iter().enumerate() {
            total.store(sums.add(n * V::LANES));
        }
        totals[N - 1].store_head(sums.add(last), head);
    }
}

/// `N` vectors, of the last only `head` numbers.
#[inline(always)]
unsafe fn load<V: Vector, const N: usize>(from: *const f32, head: usize) -> [V; N] {
    // SAFETY: the caller has as many numbers.
    unsafe {
        let mut vectors = [V::splat(0.0); N];
        for n in 0..N - 1 {
            vectors[n] = V::load(from.add(n * V::LANES));
        }
        vectors[N - 1] = V::load_head(from.add((N - 1) * V::LANES), head);
        vectors
    }
}

/// Rows whose dot products are made side by side.
const SIDE: usize = 8;

#[inline(always)]
pub(super) unsafe fn dots<E: Eight>(
    rows: &[f32],
    deltas: &[f32],
    list: &List,
    slopes: bool,
    below: &mut [f32],
) {
    let (indices, last) = list.indices().as_chunks::<SIDE>();
    let (factors, last_factors) = list.values().as_chunks::<SIDE>();
    for (indices, factors) in indices.iter().zip(factors) {
        // SAFETY: the caller has the instructions.
        let mut products = unsafe { dot_rows::<E>(rows, deltas, indices) };
        if slopes {
            for n in 0..SIDE {
                products[n] *= factors[n];
            }
        }
        for n in 0..SIDE {
            below[indices[n] as usize] = products[n];
        }
    }
    if let Some(&first) = last.first() {
        // Missing rows are the first again.
        let mut indices = [first; SIDE];
        indices[..last.len()].copy_from_slice(last);
        // SAFETY: likewise.
        let products = unsafe { dot_rows::<E>(rows, deltas, &indices) };
        for ((&index, product), slope) in last.iter().zip(products).zip(last_factors) {
            below[index as usize] = if slopes { slope * product } else { product };
        }
    }
}

/// Dot products of some rows.
#[inline(always)]
unsafe fn dot_rows<E: Eight>(rows: &[f32], deltas: &[f32], indices: &[u32; SIDE]) -> [f32; SIDE] {
    let width = deltas.len();
    let (chunks, rest) = deltas.as_chunks::<8>();
    let mut side = [rows.as_ptr(); SIDE];
    for n in 0..SIDE {
        side[n] = rows[indices[n] as usize * width..][..width].as_ptr();
    }
    // SAFETY: every row has `width` numbers.
    unsafe {
        let mut sums = [E::zero(); SIDE];
        for (chunk, at) in chunks.iter().zip((0..).step_by(8)) {
            let delta = E::load(chunk.as_ptr());
            for n in 0..SIDE {
                sums[n] = sums[n].add(E::load(side[n].add(at)).mul(delta));
            }
        }
        let [a, b, c, d, e, f, g, h] = sums;
        let [[a, b, c, d], [e, f, g, h]] = [E::sums([a, b, c, d]), E::sums([e, f, g, h])];
        let mut products = [a, b, c, d, e, f, g, h];
        for (delta, at) in rest.iter().zip(width - rest.len()..) {
            for n in 0..SIDE {
                products[n] += *side[n].add(at) * delta;
            }
        }
        products
    }
}

#[inline(always)]
pub(super) unsafe fn add_gradient<V: Vector>(
    columns: &[f32],
    deltas: &[f32],
    width: usize,
    gradient: &mut [f32],
    list: &mut List,
    rate: Option<f32>,
) {
    let count = (deltas.len() / width).min(BLOCK);
    let (columns, _) = columns.as_chunks::<BLOCK>();
    for (column, row) in columns.iter().zip(gradient.chunks_exact_mut(width)) {
        // SAFETY: the caller has the instructions.
        unsafe {
            list_units::<V>(&column[..count], list);
            // A gradient of zero moves nothing.
            if !list.indices().is_empty() {
                add_rows::<V>(deltas, list, rate.map_or(Sum::Go, Sum::Step), row);
            }
        }
    }
}

#[inline(always)]
pub(super) unsafe fn step_rows<V: Vector>(
    columns: &[u8],
    deltas: &[f32],
    width: usize,
    rate: f32,
    weights: &mut [f32],
    list: &mut List,
) {
    let columns = columns.chunks_exact((deltas.len() / width).next_multiple_of(CHUNK));
    for (column, row) in columns.zip(weights.chunks_exact_mut(width)) {
        // SAFETY: the caller has the instructions.
        unsafe {
            list_octets::<V>(column, list);
            // A gradient of zero moves nothing.
            if !list.indices().is_empty() {
                add_rows::<V>(deltas, list, Sum::Step(rate), row);
            }
        }
    }
}

#[inline(always)]
pub(super) unsafe fn transpose<V: Vector>(
    rows: &[&[u8; GROUP]; GROUP],
    columns: &mut [u8],
    stride: usize,
) {
    assert!(columns.len() >= (GROUP - 1) * stride + GROUP);
    // SAFETY: the last column ends within the slice, and the caller has the instructions.
    unsafe { V::columns(rows, columns.as_mut_ptr(), stride) };
}

#[inline(always)]
pub(super) unsafe fn step<V: Vector>(rate: f32, gradient: &[f32], params: &mut [f32]) {
    let chunks = params.chunks_mut(V::LANES).zip(gradient.chunks(V::LANES));
    for (params, gradient) in chunks {
        let count = params.len().min(gradient.len());
        // SAFETY: heads of the two slices.
        unsafe {
            let step = V::splat(rate).mul(V::load_head(gradient.as_ptr(), count));
            let moved = V::load_head(params.as_ptr(), count).sub(step);
            moved.store_head(params.as_mut_ptr(), count);
        }
    }
}

#[inline(always)]
pub(super) unsafe fn adam<V: Vector>(
    step: &AdamStep,
    weights: &mut [f32],
    gradient: &[f32],
    means: &mut [f32],
    squares: &mut [f32],
) {
    let AdamStep { betas, .. } = step;
    let moments = means.chunks_mut(V::LANES).zip(squares.chunks_mut(V::LANES));
    let chunks = weights.chunks_mut(V::LANES).zip(gradient.chunks(V::LANES));
    for ((weights, gradient), (means, squares)) in chunks.zip(moments) {
        let count = weights.len().min(gradient.len());
        let count = count.min(means.len()).min(squares.len());
        // SAFETY: heads of the four slices.
        unsafe {
            let (kept, new) = (V::splat(betas[0]), V::splat(1.0 - betas[0]));
            let (kept_2, new_2) = (V::splat(betas[1]), V::splat(1.0 - betas[1]));
            let g = V::load_head(gradient.as_ptr(), count);
            let m = kept
                .mul(V::load_head(means.as_ptr(), count))
                .add(new.mul(g));
            let v = kept_2.mul(V::load_head(squares.as_ptr(), count));
            let v = v.add(new_2.mul(g.mul(g)));
            let root = v
                .mul(V::splat(step.unbias))
                .sqrt()
                .add(V::splat(step.epsilon));
            let w = V::load_head(weights.as_ptr(), count);
            let w = w.sub(V::splat(step.rate).mul(m).div(root));
            m.store_head(means.as_mut_ptr(), count);
            v.store_head(squares.as_mut_ptr(), count);
            w.store_head(weights.as_mut_ptr(), count);
        }
    }
}
