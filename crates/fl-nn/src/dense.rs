//! The layers behind the first: f32 in, f32 out, one example at a time.
//!
//! Zero inputs are skipped. With finite weights that changes no bit but the sign of a zero, and an
//! infinite or NaN weight is found when the parameters are updated.

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
    add_scaled(bias, 1.0, deltas);
}

/// `previous = weights * deltas`, the derivative of the loss by the inputs.
pub(crate) fn backward(params: &[f32], deltas: &[f32], previous: &mut [f32]) {
    for (row, out) in params.chunks_exact(deltas.len()).zip(previous) {
        *out = dot(row, deltas);
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
    let rest: f32 = a_rest
        .iter()
        .zip(b_rest)
        .fold(0.0, |sum, (&a, &b)| sum + a * b);
    lanes.iter().fold(rest, |sum, &lane| sum + lane)
}
