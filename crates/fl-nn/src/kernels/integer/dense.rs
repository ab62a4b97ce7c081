//! Layers behind the first, one example at a time, in exact sums of 64 bits.
//!
//! A vector that enters a sum has fifteen bits and a number of places of its own, so that nothing is lost of small
//! ones and nothing overflows with large ones.

use core::array;

use super::number::{bits_above_15, saturated, shifted};
use super::softmax::sigmoid;
use super::{DELTAS, MOST_DELTA, SUMS};
use crate::activation::Activation;

/// Sums of a row of outputs in registers at once: two of 64 bits leave Arm some for the rest.
const AT_ONCE: usize = 2;

/// Turns sums before an activation into outputs of fifteen bits, and returns their places.
pub(crate) fn outputs(activation: Activation, units: &mut [i32]) -> u32 {
    match activation {
        Activation::Relu => {
            units.iter_mut().for_each(|z| *z = (*z).max(0));
            SUMS - fifteen_bits(units)
        }
        Activation::Sigmoid => {
            units.iter_mut().for_each(|z| *z = sigmoid(*z));
            15
        }
    }
}

/// Rounds numbers to fifteen bits, and returns how many of their places that took.
fn fifteen_bits(values: &mut [i32]) -> u32 {
    let right = bits_above_15(values);
    if right > 0 {
        let round = |value: i32| (value >> right) + (value >> (right - 1) & 1);
        values.iter_mut().for_each(|value| *value = round(*value));
    }
    right
}

/// `outputs = inputs * weights + bias`.
///
/// # Shapes
/// `params`, of `places`: weights `[d_in, d_out]`, then bias `[d_out]`; `inputs`, of fifteen bits and `input_places`:
/// `[d_in]`; `outputs`: `[d_out]`.
pub(crate) fn forward(
    (params, places): (&[i32], u32),
    (inputs, input_places): (&[i32], u32),
    outputs: &mut [i32],
) {
    let width = outputs.len();
    let (weights, bias) = params.split_at(inputs.len() * width);
    let right = places + input_places - SUMS;
    let finished = |sum: i64, bias: i32| shifted(sum + (i64::from(bias) << input_places), right);
    let (blocks, rest) = outputs.as_chunks_mut::<AT_ONCE>();
    let (biases, bias_rest) = bias.as_chunks::<AT_ONCE>();
    for ((outputs, biases), begin) in blocks.iter_mut().zip(biases).zip((0..).step_by(AT_ONCE)) {
        let sums = columns::<AT_ONCE>(weights, (width, begin), inputs);
        *outputs = array::from_fn(|i| finished(sums[i], biases[i]));
    }
    let last = width - rest.len();
    for ((output, &bias), column) in rest.iter_mut().zip(bias_rest).zip(last..) {
        let [sum] = columns(weights, (width, column), inputs);
        *output = finished(sum, bias);
    }
}

/// Sums of products of the columns from `begin` on.
#[inline(always)]
fn columns<const N: usize>(
    weights: &[i32],
    (width, begin): (usize, usize),
    inputs: &[i32],
) -> [i64; N] {
    let mut sums = [0; N];
    for (row, &x) in weights.chunks_exact(width).zip(inputs) {
        let weights = row.get(begin..).and_then(|row| row.first_chunk::<N>());
        if let (Some(weights), true) = (weights, x != 0) {
            sums = array::from_fn(|i| sums[i] + i64::from(weights[i]) * i64::from(x));
        }
    }
    sums
}

/// Derivatives by the sums of the layer below, whose outputs the inputs are.
///
/// # Shapes
/// As [`forward`]; `deltas`, of fifteen bits and `delta_places`: `[d_out]`; `below`: `[d_in]`.
pub(crate) fn backward(
    (params, places): (&[i32], u32),
    activation: Activation,
    inputs: &[i32],
    (deltas, delta_places): (&[i32], u32),
    below: &mut [i32],
) {
    let right = places + delta_places - DELTAS;
    for ((row, &x), below) in params.chunks_exact(deltas.len()).zip(inputs).zip(below) {
        *below = 0;
        // A unit without slope.
        if x == 0 {
            continue;
        }
        let products = row.iter().zip(deltas);
        let sum: i64 = products.map(|(&w, &d)| i64::from(w) * i64::from(d)).sum();
        let derivative = limited(shifted(sum, right));
        *below = match activation {
            Activation::Relu => derivative,
            // The slope is a quarter at most.
            Activation::Sigmoid => shifted(i64::from(derivative) * i64::from(x * (0x8000 - x)), 30),
        };
    }
}

/// A derivative, saturated.
pub(crate) fn limited(derivative: i32) -> i32 {
    derivative.clamp(-MOST_DELTA, MOST_DELTA)
}

/// Bits of the length of a batch: sums of so many derivatives have so many places less.
pub(crate) fn length_bits(batch: usize) -> u32 {
    usize::BITS - batch.saturating_sub(1).leading_zeros()
}

/// Rounds derivatives to fifteen bits, and returns their places.
pub(crate) fn round_deltas(deltas: &mut [i32]) -> u32 {
    DELTAS - fifteen_bits(deltas)
}

/// `bias += deltas`, of a batch of `length` bits.
pub(crate) fn add_biases(bias: &mut [i32], deltas: &[i32], length: u32) {
    let half = 1 << length >> 1;
    for (sum, delta) in bias.iter_mut().zip(deltas) {
        *sum += (delta + half) >> length;
    }
}

/// `gradient += inputs outer deltas`, of a batch of `length` bits.
///
/// An example that would add 16 or more to an element counts less, by a power of two: the sum of a batch
/// cannot overflow.
///
/// # Shapes
/// `gradient`: `[d_in, d_out]`; `inputs`, `deltas`: of [`forward`] and [`backward`].
pub(crate) fn add_gradient(
    gradient: &mut [i32],
    (inputs, input_places): (&[i32], u32),
    (deltas, delta_places): (&[i32], u32),
    length: u32,
) {
    let right = (input_places + delta_places).saturating_sub(DELTAS) + length;
    // Products are 2^30 at most.
    if right > 30 {
        return;
    }
    let half = 1 << right >> 1;
    for (row, &x) in gradient.chunks_exact_mut(deltas.len()).zip(inputs) {
        if x != 0 {
            for (sum, &delta) in row.iter_mut().zip(deltas) {
                *sum += (x * delta + half) >> right;
            }
        }
    }
}

/// A parameter after a step.
#[inline(always)]
pub(crate) fn moved(param: i32, step: i32) -> i32 {
    saturated(i64::from(param) - i64::from(step))
}
