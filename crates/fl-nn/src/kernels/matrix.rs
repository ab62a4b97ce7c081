//! Products of f32 vectors and matrices, one example at a time, for the layers behind the first.
//!
//! A zero input and a unit without slope are skipped. With finite numbers that changes no bit but the
//! sign of a zero; an infinite or NaN weight that is skipped is found at the end of the training.

use crate::activation::Activation;

/// Partial sums of a dot product, in one written order that vectorises without reassociation.
const DOT_LANES: usize = 8;

/// `outputs = inputs * weights + bias`.
///
/// # Shapes
/// `params`: weights `[d_in, d_out]`, then bias `[d_out]`; `inputs`: `[d_in]`; `outputs`: `[d_out]`.
pub(crate) fn forward(params: &[f32], inputs: &[f32], outputs: &mut [f32]) {
    let (weights, bias) = params.split_at(inputs.len() * outputs.len());
    outputs.copy_from_slice(bias);
    for (row, &x) in weights.chunks_exact(outputs.len()).zip(inputs) {
        if x != 0.0 {
            add_scaled(outputs, x, row);
        }
    }
}

/// Adds one example's gradient: `weights += inputs outer deltas`, `bias += deltas`.
///
/// # Shapes
/// `gradient`: as `params` of [`forward`]; `inputs`: `[d_in]`; `deltas`: `[d_out]`.
pub(crate) fn add_gradient(gradient: &mut [f32], inputs: &[f32], deltas: &[f32]) {
    let (weights, bias) = gradient.split_at_mut(inputs.len() * deltas.len());
    for (row, &x) in weights.chunks_exact_mut(deltas.len()).zip(inputs) {
        if x != 0.0 {
            add_scaled(row, x, deltas);
        }
    }
    add(bias, deltas);
}

/// Derivatives by the weighted sums of the layer below: `below = slope(inputs) * (weights * deltas)`.
///
/// # Shapes
/// `params`, `inputs`: of [`forward`]; `deltas`: `[d_out]`; `below`: `[d_in]`.
pub(crate) fn backward(
    params: &[f32],
    activation: Activation,
    inputs: &[f32],
    deltas: &[f32],
    below: &mut [f32],
) {
    for ((row, &x), out) in params.chunks_exact(deltas.len()).zip(inputs).zip(below) {
        let slope = activation.slope(x);
        *out = if slope == 0.0 {
            0.0
        } else {
            slope * dot(row, deltas)
        };
    }
}

/// `sum += terms`.
pub(crate) fn add(sum: &mut [f32], terms: &[f32]) {
    for (sum, &term) in sum.iter_mut().zip(terms) {
        *sum += term;
    }
}

fn add_scaled(sum: &mut [f32], scale: f32, terms: &[f32]) {
    for (sum, &term) in sum.iter_mut().zip(terms) {
        *sum += scale * term;
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<DOT_LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<DOT_LANES>();
    let mut lanes = [0.0; DOT_LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..DOT_LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    let whole = ((a + e) + (b + f)) + ((c + g) + (d + h));
    a_rest
        .iter()
        .zip(b_rest)
        .fold(whole, |sum, (&a, &b)| sum + a * b)
}
