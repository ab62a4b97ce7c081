//! Softmax with cross-entropy, computed so that no logit overflows.

use crate::kernels::exp::exp_less;

/// Loss of one example, not finite if a logit is not.
///
/// # Units
/// Nats.
pub(crate) fn cross_entropy(logits: &[f32], label: usize) -> f32 {
    let max = largest(logits);
    let sum: f32 = logits.iter().fold(0.0, |sum, &z| sum + libm::expf(z - max));
    libm::logf(sum) + (max - logits[label])
}

/// Computes [`cross_entropy`]; also writes its derivative by the logits, `softmax - one_hot(label)`.
#[inline(never)]
pub(crate) fn cross_entropy_gradient(logits: &[f32], label: usize, deltas: &mut [f32]) -> f32 {
    let max = largest(logits);
    exp_less(logits, max, deltas);
    let sum = deltas.iter().fold(0.0, |sum, delta| sum + delta);
    let scale = 1.0 / sum;
    let (fours, rest) = deltas.as_chunks_mut::<4>();
    for four in fours {
        *four = four.map(|delta| delta * scale);
    }
    rest.iter_mut().for_each(|delta| *delta *= scale);
    deltas[label] -= 1.0;
    libm::logf(sum) + (max - logits[label])
}

/// The class with the largest logit, the first of equals.
pub(crate) fn prediction(logits: &[f32]) -> usize {
    let mut best = 0;
    for (class, &z) in logits.iter().enumerate() {
        if z > logits[best] {
            best = class;
        }
    }
    best
}

pub(crate) fn largest(logits: &[f32]) -> f32 {
    logits
        .iter()
        .fold(f32::NEG_INFINITY, |max, &z| if z > max { z } else { max })
}
