//! The first layer in f32: the readable form that the integer kernel is tested against.

use super::sparse;

/// Places and octets of a list, without those that are zero, in their order.
fn octets(list: &[i32]) -> impl Iterator<Item = (usize, f32)> {
    let entries = list.iter().flat_map(|&entry| {
        let place = 2 * sparse::index(entry);
        let [upper, lower] = sparse::octets(entry);
        [(place, upper), (place + 1, lower)]
    });
    entries
        .filter(|&(_, octet)| octet != 0)
        .map(|(place, octet)| (place, f32::from(octet) / 255.0))
}

/// `sums = (input / 255) * weights + bias`.
///
/// # Shapes
/// `weights`: row-major `[d_in, d_out]`; `list`: of the input; `bias`, `sums`: `[d_out]`.
pub(crate) fn forward(weights: &[f32], bias: &[f32], list: &[i32], sums: &mut [f32]) {
    sums.copy_from_slice(bias);
    for (place, x) in octets(list) {
        let row = weights.chunks_exact(sums.len()).nth(place).unwrap_or(&[]);
        for (sum, weight) in sums.iter_mut().zip(row) {
            *sum += x * weight;
        }
    }
}

/// `sums += x / 255 * deltas` of one example, for as many rows from `first` on as there are sums of.
///
/// # Shapes
/// `list`: of the input; `deltas`: `[d_out]`; `sums`: row-major `[rows, d_out]`.
pub(crate) fn add_gradient(sums: &mut [f32], first: usize, list: &[i32], deltas: &[f32]) {
    let begin = list.partition_point(|&entry| 2 * sparse::index(entry) < first);
    for (place, x) in octets(&list[begin..]) {
        let mut rows = sums.chunks_exact_mut(deltas.len());
        let Some(row) = rows.nth(place.wrapping_sub(first)) else {
            break;
        };
        for (sum, delta) in row.iter_mut().zip(deltas) {
            *sum += x * delta;
        }
    }
}

/// `row -= rate * sums`.
pub(crate) fn subtract(sums: &[f32], rate: f32, row: &mut [f32]) {
    for (weight, sum) in row.iter_mut().zip(sums) {
        *weight -= rate * *sum;
    }
}
