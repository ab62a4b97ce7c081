//! The loops of [`super::matrix`] with four columns in a vector, to the same bits.
//!
//! A block of columns is taken as fours from the left; the last four end where the block ends, and overlap with those
//! before where its width is no multiple of four. So no element needs a loop of its own, and one that is in two vectors
//! is the same number in both.

use core::array;

#[cfg(not(dsp))]
use bytemuck::cast;
use bytemuck::cast_slice;
use wide::f32x4;
#[cfg(not(dsp))]
use wide::i32x4;

use super::level::by_level;
use super::matrix::plain;
#[cfg(not(dsp))]
use crate::activation::Activation;

/// Columns of a block: as many vectors as the smallest processors have registers for.
const BLOCK: usize = 16;

/// Calls `$act::<N>` with the number of fours of a block of `$width` columns.
macro_rules! by_width {
    ($width:expr, $act:ident $arguments:tt, $other:expr) => {
        match $width {
            0..4 => $other,
            4 => $act::<1> $arguments,
            5..=8 => $act::<2> $arguments,
            9..=12 => $act::<3> $arguments,
            _ => $act::<4> $arguments,
        }
    };
}

/// The bits of numbers, by which zeros are told: an emulator compares integers faster than floats.
#[inline(always)]
fn bits_of(numbers: &[f32]) -> impl Iterator<Item = u32> {
    cast_slice::<f32, u32>(numbers).iter().copied()
}

/// The number of these bits, unless it is a zero.
#[inline(always)]
fn not_zero(bits: u32) -> Option<f32> {
    (bits << 1 != 0).then(|| f32::from_bits(bits))
}

/// The fours of a block, which has more than `4 * (N - 1)` columns.
#[inline(always)]
fn load<const N: usize>(block: &[f32]) -> Option<[f32x4; N]> {
    let (fours, last) = (block.as_chunks::<4>().0, block.last_chunk::<4>()?);
    // Checked once: a loop over what there is would become a call that copies it.
    let fours = fours.get(..N - 1)?;
    Some(array::from_fn(|i| {
        f32x4::from(*fours.get(i).unwrap_or(last))
    }))
}

/// Writes what [`load`] reads.
#[inline(always)]
fn store<const N: usize>(block: &mut [f32], fours: [f32x4; N]) {
    if let Some(places) = block.as_chunks_mut::<4>().0.get_mut(..N - 1) {
        (0..N - 1).for_each(|i| places[i] = fours[i].to_array());
    }
    if let Some(last) = block.last_chunk_mut::<4>() {
        *last = fours[N - 1].to_array();
    }
}

/// [`super::matrix::forward`].
#[inline(never)]
pub(crate) fn forward(params: &[f32], inputs: &[f32], outputs: &mut [f32]) {
    by_level!(forward_any(params: &[f32], inputs: &[f32], outputs: &mut [f32]))
}

/// [`forward`], for a level.
#[inline(always)]
fn forward_any(params: &[f32], inputs: &[f32], outputs: &mut [f32]) {
    // Ten classes are common: no check is left where their number is known.
    match <&mut [f32; 10]>::try_from(&mut *outputs) {
        Ok(outputs) => forward_of(params, inputs, outputs),
        Err(_) => forward_of(params, inputs, outputs),
    }
}

/// [`forward`], for a width that may be known.
#[inline(always)]
fn forward_of(params: &[f32], inputs: &[f32], outputs: &mut [f32]) {
    let width = outputs.len();
    let (weights, bias) = params.split_at(inputs.len() * width);
    for (begin, outputs) in (0..).step_by(BLOCK).zip(outputs.chunks_mut(BLOCK)) {
        let place = (width, begin);
        by_width!(
            outputs.len(),
            add_rows(place, weights, bias, inputs, outputs),
            plain::forward_columns(place, weights, bias, inputs, outputs)
        );
    }
}

/// One block of [`forward`].
#[inline(always)]
fn add_rows<const N: usize>(
    (width, begin): (usize, usize),
    weights: &[f32],
    bias: &[f32],
    inputs: &[f32],
    outputs: &mut [f32],
) {
    let end = begin + outputs.len();
    let Some(mut sums) = load::<N>(&bias[begin..end]) else {
        return;
    };
    for (row, x) in weights.chunks_exact(width).zip(bits_of(inputs)) {
        if let Some(x) = not_zero(x) {
            let Some(row) = load::<N>(&row[begin..end]) else {
                return;
            };
            for (sum, weights) in sums.iter_mut().zip(row) {
                *sum += weights * x;
            }
        }
    }
    store(outputs, sums);
}

/// [`super::matrix::add_gradient`].
#[inline(never)]
pub(crate) fn add_gradient(gradient: &mut [f32], inputs: &[f32], deltas: &[f32]) {
    by_level!(add_gradient_any(gradient: &mut [f32], inputs: &[f32], deltas: &[f32]))
}

/// [`add_gradient`], for a level.
#[inline(always)]
fn add_gradient_any(gradient: &mut [f32], inputs: &[f32], deltas: &[f32]) {
    match <&[f32; 10]>::try_from(deltas) {
        Ok(deltas) => add_gradient_of(gradient, inputs, deltas),
        Err(_) => add_gradient_of(gradient, inputs, deltas),
    }
}

/// [`add_gradient`], for a width that may be known.
#[inline(always)]
fn add_gradient_of(gradient: &mut [f32], inputs: &[f32], deltas: &[f32]) {
    let width = deltas.len();
    let (weights, bias) = gradient.split_at_mut(inputs.len() * width);
    for (begin, deltas) in (0..).step_by(BLOCK).zip(deltas.chunks(BLOCK)) {
        let place = (width, begin);
        by_width!(
            deltas.len(),
            add_outer(place, weights, bias, inputs, deltas),
            plain::add_gradient_columns(place, weights, bias, inputs, deltas)
        );
    }
}

/// One block of [`add_gradient`].
#[inline(always)]
fn add_outer<const N: usize>(
    (width, begin): (usize, usize),
    weights: &mut [f32],
    bias: &mut [f32],
    inputs: &[f32],
    deltas: &[f32],
) {
    let end = begin + deltas.len();
    let Some(deltas) = load::<N>(deltas) else {
        return;
    };
    let add = |row: &mut [f32], terms: [f32x4; N]| {
        // All are read before the first is written, since the last overlap.
        if let Some(mut sums) = load::<N>(row) {
            sums.iter_mut()
                .zip(terms)
                .for_each(|(sum, term)| *sum += term);
            store(row, sums);
        }
    };
    for (row, x) in weights.chunks_exact_mut(width).zip(bits_of(inputs)) {
        if let Some(x) = not_zero(x) {
            add(&mut row[begin..end], deltas.map(|delta| delta * x));
        }
    }
    add(&mut bias[begin..end], deltas);
}

/// [`super::matrix::backward`], with the sums of four rows in a vector.
#[cfg(not(dsp))]
#[inline(never)]
pub(crate) fn backward(
    params: &[f32],
    activation: Activation,
    inputs: &[f32],
    deltas: &[f32],
    below: &mut [f32],
) {
    by_level!(backward_any(
        params: &[f32],
        activation: Activation,
        inputs: &[f32],
        deltas: &[f32],
        below: &mut [f32],
    ))
}

/// [`backward`], for a level.
#[cfg(not(dsp))]
#[inline(always)]
fn backward_any(
    params: &[f32],
    activation: Activation,
    inputs: &[f32],
    deltas: &[f32],
    below: &mut [f32],
) {
    match <&[f32; 10]>::try_from(deltas) {
        Ok(deltas) => backward_of(params, activation, inputs, deltas, below),
        Err(_) => backward_of(params, activation, inputs, deltas, below),
    }
}

/// [`backward`], for a width that may be known.
#[cfg(not(dsp))]
#[inline(always)]
fn backward_of(
    params: &[f32],
    activation: Activation,
    inputs: &[f32],
    deltas: &[f32],
    below: &mut [f32],
) {
    let width = deltas.len();
    let (inputs_of, rest) = inputs.as_chunks::<4>();
    let (below_of, below_rest) = below.as_chunks_mut::<4>();
    let mut params = params;
    for (inputs, below) in inputs_of.iter().zip(below_of) {
        let Some((rows, after)) = params.split_at_checked(4 * width) else {
            return;
        };
        params = after;
        let sums = dots(rows, deltas);
        *below = match activation {
            Activation::Relu => {
                // Above zero and no NaN, by the bits.
                let bits: i32x4 = cast(*inputs);
                let is_number = !bits.simd_gt(i32x4::splat(INFINITY));
                cast(bits.simd_gt(i32x4::ZERO) & is_number & cast::<f32x4, i32x4>(sums))
            }
            Activation::Sigmoid => {
                let outputs = f32x4::from(*inputs);
                let slopes = outputs * (f32x4::ONE - outputs);
                // No NaN comes of a unit without slope.
                let is_flat = slopes.simd_eq(f32x4::ZERO);
                is_flat.select(f32x4::ZERO, slopes * sums).to_array()
            }
        };
    }
    if !rest.is_empty() {
        plain::backward(params, activation, rest, deltas, below_rest);
    }
}

/// Bits of infinity: as integers, those of a NaN are above.
#[cfg(not(dsp))]
const INFINITY: i32 = f32::INFINITY.to_bits() as i32;

/// Sums of products of four rows, each in the order of [`plain`]'s `dot`.
#[cfg(not(dsp))]
#[inline(always)]
fn dots(rows: &[f32], deltas: &[f32]) -> f32x4 {
    let width = deltas.len();
    let (a, rows) = rows.split_at(width);
    let (b, rows) = rows.split_at(width);
    let (c, d) = rows.split_at(width);
    let (eights, rest) = deltas.as_chunks::<8>();
    // Written out: a closure would not be compiled for the level of its caller.
    let mut whole = sum_lanes([
        eight_lanes(a, eights),
        eight_lanes(b, eights),
        eight_lanes(c, eights),
        eight_lanes(d, eights),
    ]);
    // The partial sums begin with no zero: it could only change a sum of negative zeros.
    whole += f32x4::ZERO;
    for (column, delta) in (8 * eights.len()..).zip(rest) {
        if let (Some(&a), Some(&b), Some(&c), Some(&d)) =
            (a.get(column), b.get(column), c.get(column), d.get(column))
        {
            whole += f32x4::new([a, b, c, d]) * *delta;
        }
    }
    whole
}

/// The sum of each vector's first two lanes, added to that of its last two.
#[cfg(all(target_arch = "x86", target_feature = "sse3"))]
#[inline(always)]
#[allow(unsafe_code, reason = "a function of the target's level")]
fn sum_lanes(rows: [f32x4; 4]) -> f32x4 {
    // SAFETY: the target has SSE3.
    unsafe { add_neighbours(rows) }
}

/// The sum of each vector's first two lanes, added to that of its last two.
#[cfg(not(any(dsp, all(target_arch = "x86", target_feature = "sse3"))))]
#[inline(always)]
fn sum_lanes(rows: [f32x4; 4]) -> f32x4 {
    let [e, f, g, h] = f32x4::transpose(rows);
    (e + f) + (g + h)
}

/// As `sum_lanes`, without moves of lanes, for which an emulator takes as long as for sums.
#[cfg(any(
    all(target_arch = "x86", target_feature = "sse3"),
    all(test, target_arch = "x86_64", not(miri))
))]
#[inline]
#[target_feature(enable = "sse3")]
fn add_neighbours(rows: [f32x4; 4]) -> f32x4 {
    #[cfg(target_arch = "x86")]
    use core::arch::x86::_mm_hadd_ps;
    #[cfg(target_arch = "x86_64")]
    use core::arch::x86_64::_mm_hadd_ps;

    let [a, b, c, d] = rows.map(cast);
    cast(_mm_hadd_ps(_mm_hadd_ps(a, b), _mm_hadd_ps(c, d)))
}

/// Products of eights.
#[cfg(not(dsp))]
#[inline(always)]
fn products(row: &[f32; 8], deltas: &[f32; 8]) -> [f32x4; 2] {
    let [row, deltas]: [[f32x4; 2]; 2] = [cast(*row), cast(*deltas)];
    [row[0] * deltas[0], row[1] * deltas[1]]
}

/// Eight partial sums of products, the upper four added to the lower.
#[cfg(not(dsp))]
#[inline(always)]
fn eight_lanes(row: &[f32], eights: &[[f32; 8]]) -> f32x4 {
    let rows = row.as_chunks::<8>().0;
    let (Some(row), Some(delta)) = (rows.first(), eights.first()) else {
        return f32x4::ZERO;
    };
    let [mut low, mut high] = products(row, delta);
    for (row, deltas) in rows[1..].iter().zip(&eights[1..]) {
        let [first, second] = products(row, deltas);
        low += first;
        high += second;
    }
    low + high
}

#[cfg(test)]
mod tests {
    use super::*;
    use fl_rng::Pcg32;

    /// Numbers, many of them zeros of either sign, and some that are not finite.
    fn numbers(rng: &mut Pcg32, len: usize, wild: bool) -> Vec<f32> {
        let mut number = |_| match rng.below(if wild { 12 } else { 8 }) {
            0..3 => 0.0,
            3 => -0.0,
            8 => f32::NAN,
            9 => f32::INFINITY,
            10 => -f32::INFINITY,
            _ => rng.symmetric(),
        };
        (0..len).map(&mut number).collect()
    }

    /// The bits, but for those of a NaN.
    fn bits(numbers: &[f32]) -> Vec<u32> {
        let bits = |x: &f32| if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() };
        numbers.iter().map(bits).collect()
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[test]
    fn lanes_are_added_in_one_order() {
        let mut rng = Pcg32::on_stream(7, 7);
        for _ in 0..100 {
            let rows = [(); 4].map(|()| {
                let lanes = numbers(&mut rng, 4, true);
                f32x4::from(<[f32; 4]>::try_from(&lanes[..]).unwrap())
            });
            if crate::kernels::level::has_avx2() {
                // SAFETY: AVX2 includes SSE3.
                #[allow(unsafe_code, reason = "a function of a level that was found")]
                let found = unsafe { add_neighbours(rows) };
                assert_eq!(bits(&found.to_array()), bits(&sum_lanes(rows).to_array()));
            }
        }
    }

    #[test]
    fn every_shape_has_the_bits_of_the_plain_loops() {
        let mut rng = Pcg32::on_stream(6, 6);
        let most = if cfg!(miri) { 6 } else { 40 };
        for (width, wild) in (1..=most).flat_map(|width| [(width, false), (width, true)]) {
            for inputs in [1, 2, 3, 4, 5, 8, 11, 16] {
                let params = numbers(&mut rng, (inputs + 1) * width, wild);
                let units = numbers(&mut rng, inputs, wild);
                let deltas = numbers(&mut rng, width, wild);
                let [mut found, mut expected] = [(); 2].map(|()| vec![7.0; width]);
                forward(&params, &units, &mut found);
                plain::forward(&params, &units, &mut expected);
                assert_eq!(bits(&found), bits(&expected), "{inputs} {width}");

                let [mut found, mut expected] = [params.clone(), params.clone()];
                add_gradient(&mut found, &units, &deltas);
                plain::add_gradient(&mut expected, &units, &deltas);
                assert_eq!(bits(&found), bits(&expected), "{inputs} {width}");

                for activation in [Activation::Relu, Activation::Sigmoid] {
                    let [mut found, mut expected] = [(); 2].map(|()| vec![7.0; inputs]);
                    backward(&params, activation, &units, &deltas, &mut found);
                    plain::backward(&params, activation, &units, &deltas, &mut expected);
                    assert_eq!(bits(&found), bits(&expected), "{inputs} {width}");
                }
            }
        }
    }
}
