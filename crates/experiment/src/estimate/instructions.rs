//! Instructions of a training, estimated from its sizes: for devices that count none.

/// Instructions for each parameter and example, of SGD on fl-nn: forward, backward and the gradient. As counted
/// on the bare firmware with 784-16-10; see docs/cost.md.
const PER_EXAMPLE: f64 = 1.64;

/// Instructions for each parameter and optimiser step.
const PER_STEP: f64 = 11.2;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_is_near_what_the_bare_firmware_counts() {
        // 784-16-10: epochs, examples and batch size, and instructions as counted.
        for (epochs, examples, batch_size, counted) in [
            (5, 600, 600, 63_392_738.0),
            (5, 600, 20, 84_028_636.0),
            (2, 600, 20, 33_728_652.0),
        ] {
            let steps = epochs * u32::div_ceil(examples, batch_size);
            let estimated = of_training(12_730, steps, examples, batch_size) as f64;
            assert!(
                (estimated / counted - 1.0).abs() < 0.01,
                "{estimated} for {counted}"
            );
        }
    }
}
