//! The first layer in f32: the readable form that the integer kernel is tested against.

/// `sums = (input / 255) * weights + bias`.
///
/// # Shapes
/// `weights`: row-major `[d_in, d_out]`; `input`: `[d_in]`; `bias`, `sums`: `[d_out]`.
pub(crate) fn forward(weights: &[f32], bias: &[f32], input: &[u8], sums: &mut [f32]) {
    sums.copy_from_slice(bias);
    for (row, &x) in weights.chunks_exact(sums.len()).zip(input) {
        if x != 0 {
            let x = f32::from(x) / 255.0;
            for (sum, weight) in sums.iter_mut().zip(row) {
                *sum += x * weight;
            }
        }
    }
}

/// `weights -= rate * sum_n (x_n / 255) * delta_n` for one input.
///
/// # Shapes
/// `deltas`: row-major `[batch, d_out]`; `octets`: this input in each example of the batch; `gradient`,
/// which is scratch, and `weights`: `[d_out]`.
pub(crate) fn update(
    deltas: &[f32],
    rate: f32,
    octets: impl Iterator<Item = u8>,
    gradient: &mut [f32],
    weights: &mut [f32],
) {
    gradient.fill(0.0);
    for (row, x) in deltas.chunks_exact(weights.len()).zip(octets) {
        if x != 0 {
            let x = f32::from(x) / 255.0;
            for (sum, delta) in gradient.iter_mut().zip(row) {
                *sum += x * delta;
            }
        }
    }
    for (weight, sum) in weights.iter_mut().zip(gradient) {
        *weight -= rate * *sum;
    }
}
