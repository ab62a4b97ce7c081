//! Products of f32 vectors and matrices, one example at a time, for the layers behind the first.
//!
//! A zero input and a unit without slope are skipped. With finite numbers that changes no bit but the
//! sign of a zero; an infinite or NaN weight that is skipped is found at the end of the training.
//!
//! [`super::fours`] has the same loops for targets with vectors of four, or with many registers for floats.

#[cfg(any(dsp, target_feature = "sse2", target_feature = "neon"))]
use super::fours as form;
use crate::activation::Activation;
#[cfg(not(any(dsp, target_feature = "sse2", target_feature = "neon")))]
use plain as form;
use wide::f32x4;

/// `outputs = inputs * weights + bias`.
///
/// # Shapes
/// `params`: weights `[d_in, d_out]`, then bias `[d_out]`; `inputs`: `[d_in]`; `outputs`: `[d_out]`.
pub(crate) fn forward(params: &[f32], inputs: &[f32], outputs: &mut [f32]) {
    form::forward(params, inputs, outputs);
}

/// Adds one example's gradient: `weights += inputs outer deltas`, `bias += deltas`.
///
/// # Shapes
/// `gradient`: as `params` of [`forward`]; `inputs`: `[d_in]`; `deltas`: `[d_out]`.
pub(crate) fn add_gradient(gradient: &mut [f32], inputs: &[f32], deltas: &[f32]) {
    form::add_gradient(gradient, inputs, deltas);
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
    // Rows side by side need vectors; the other loops gain by what is written out for four columns.
    #[cfg(dsp)]
    return plain::backward(params, activation, inputs, deltas, below);
    #[cfg(not(dsp))]
    form::backward(params, activation, inputs, deltas, below)
}

/// `sum += terms`, which are copied to `kept`.
///
/// # Shapes
/// All as long as the shortest.
#[inline(never)]
pub(crate) fn add_and_keep(sum: &mut [f32], terms: &[f32], kept: &mut [f32]) {
    let (terms_of, rest) = terms.as_chunks::<4>();
    let (sums, sum_rest) = sum.as_chunks_mut::<4>();
    let (kepts, kept_rest) = kept.as_chunks_mut::<4>();
    // In one loop: a copy of its own would be a call.
    for ((sum, kept), term) in sums.iter_mut().zip(kepts).zip(terms_of) {
        *sum = (f32x4::from(*sum) + f32x4::from(*term)).to_array();
        *kept = *term;
    }
    for ((sum, kept), &term) in sum_rest.iter_mut().zip(kept_rest).zip(rest) {
        *sum += term;
        *kept = term;
    }
}

/// `sum += terms`.
pub(crate) fn add(sum: &mut [f32], terms: &[f32]) {
    for (sum, &term) in sum.iter_mut().zip(terms) {
        *sum += term;
    }
}

/// The loops that say what is meant.
pub(crate) mod plain {
    use super::add;
    use crate::activation::Activation;

    /// Partial sums of a dot product, in one written order that vectorises without reassociation.
    const DOT_LANES: usize = 8;

    /// [`super::forward`].
    #[cfg(any(test, not(any(dsp, target_feature = "sse2", target_feature = "neon"))))]
    pub(crate) fn forward(params: &[f32], inputs: &[f32], outputs: &mut [f32]) {
        let width = outputs.len();
        let (weights, bias) = params.split_at(inputs.len() * width);
        forward_columns((width, 0), weights, bias, inputs, outputs);
    }

    /// Columns of a matrix of `width` columns, from `begin` on.
    pub(crate) fn forward_columns(
        (width, begin): (usize, usize),
        weights: &[f32],
        bias: &[f32],
        inputs: &[f32],
        outputs: &mut [f32],
    ) {
        outputs.copy_from_slice(&bias[begin..][..outputs.len()]);
        for (row, &x) in weights.chunks_exact(width).zip(inputs) {
            if x != 0.0 {
                add_scaled(outputs, x, &row[begin..]);
            }
        }
    }

    /// [`super::add_gradient`].
    #[cfg(any(test, not(any(dsp, target_feature = "sse2", target_feature = "neon"))))]
    pub(crate) fn add_gradient(gradient: &mut [f32], inputs: &[f32], deltas: &[f32]) {
        let width = deltas.len();
        let (weights, bias) = gradient.split_at_mut(inputs.len() * width);
        add_gradient_columns((width, 0), weights, bias, inputs, deltas);
    }

    /// Columns of a gradient of `width` columns, from `begin` on.
    pub(crate) fn add_gradient_columns(
        (width, begin): (usize, usize),
        weights: &mut [f32],
        bias: &mut [f32],
        inputs: &[f32],
        deltas: &[f32],
    ) {
        for (row, &x) in weights.chunks_exact_mut(width).zip(inputs) {
            if x != 0.0 {
                add_scaled(&mut row[begin..], x, deltas);
            }
        }
        add(&mut bias[begin..], deltas);
    }

    /// [`super::backward`].
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
}
