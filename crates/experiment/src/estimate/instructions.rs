//! Instructions of a training, estimated from its sizes: for devices that count none.

/// Instructions for each parameter and example, of SGD on fl-nn: forward, backward and the gradient.
const PER_EXAMPLE: f64 = 1.7;

/// Instructions for each parameter and optimiser step.
const PER_STEP: f64 = 10.0;

/// Estimated instructions of so many optimiser steps on a client's examples.
///
/// # Shapes
/// `batch_size`: examples of a step; the last one of a pass may have fewer.
pub fn of_training(num_params: u64, steps: u32, num_examples: u32, batch_size: u32) -> u64 {
    let steps_per_pass = num_examples.div_ceil(batch_size.max(1)).max(1);
    let passes = f64::from(steps) / f64::from(steps_per_pass);
    let examples = passes * f64::from(num_examples);
    (num_params as f64 * (PER_EXAMPLE * examples + PER_STEP * f64::from(steps))) as u64
}
