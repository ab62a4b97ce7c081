//! Softmax with cross-entropy, computed so that no logit overflows.

use crate::kernels::exp::exp_less;
use crate::kernels::level::by_level;
use wide::f32x4;

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
    by_level!(gradient_any(logits: &[f32], label: usize, deltas: &mut [f32]) -> f32)
}

/// [`cross_entropy_gradient`], for a level.
#[inline(always)]
fn gradient_any(logits: &[f32], label: usize, deltas: &mut [f32]) -> f32 {
    // Ten classes are common: no loop is left where their number is known.
    let ten = (
        <&[f32; 10]>::try_from(logits),
        <&mut [f32; 10]>::try_from(&mut *deltas),
    );
    match ten {
        (Ok(logits), Ok(deltas)) => gradient_of(logits, label, deltas),
        _ => gradient_of(logits, label, deltas),
    }
}

/// [`cross_entropy_gradient`], for a number of classes that may be known.
#[inline(always)]
fn gradient_of(logits: &[f32], label: usize, deltas: &mut [f32]) -> f32 {
    let max = largest(logits);
    exp_less(logits, max, deltas);
    let sum = deltas.iter().fold(0.0, |sum, delta| sum + delta);
    let scale = 1.0 / sum;
    let (fours, rest) = deltas.as_chunks_mut::<4>();
    for four in fours {
        *four = (f32x4::from(*four) * f32x4::splat(scale)).to_array();
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
