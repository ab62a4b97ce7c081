//! A small training with a known outcome: a device that runs it proves that its numbers are the host's.
//!
//! The sizes are chosen to be awkward: no layer fills its vectors, batches are odd, the last one is short.

use fl_rng::{Pcg32, Purpose, derive_seed};

use crate::activation::Activation;
use crate::arithmetic::Arithmetic;
use crate::error::TrainError;
use crate::init::Init;
use crate::memory::Workspace;
use crate::model::Model;
use crate::shape::Shape;
use crate::train::{Step, TrainConfig, Trainer};

const SIZES: [usize; 4] = [61, 17, 9, 5];
const EXAMPLES: usize = 37;
const PARAMS: usize = 62 * 17 + 18 * 9 + 10 * 5;

/// The case of each hash of [`EXPECTED`], in order.
const CASES: [(Arithmetic, Activation, Init); 4] = [
    (Arithmetic::Fixed, Activation::Relu, Init::He),
    (Arithmetic::Fixed, Activation::Sigmoid, Init::Xavier),
    (Arithmetic::Float, Activation::Relu, Init::He),
    (Arithmetic::Float, Activation::Sigmoid, Init::Xavier),
];

/// Result of [`SelfTest::run`] wherever the arithmetic is right.
pub const EXPECTED: [u64; CASES.len()] = [
    0x2dd6_5c6f_6e93_2110,
    0x8df7_197f_ce6d_167f,
    0xbd93_ec5f_8a11_707b,
    0x4f6c_f60d_de23_c470,
];

/// The memory of the test, about 13 KiB: better a static than on the stack of a device.
#[derive(Debug)]
pub struct SelfTest {
    params: [f32; PARAMS],
    inputs: [u8; EXAMPLES * SIZES[0]],
    labels: [u8; EXAMPLES],
    floats: [f32; 700],
    ints: [i32; 1100],
    order: [u32; EXAMPLES],
}

impl SelfTest {
    /// Memory for one run after the other.
    pub const fn new() -> Self {
        Self {
            params: [0.0; PARAMS],
            inputs: [0; EXAMPLES * SIZES[0]],
            labels: [0; EXAMPLES],
            floats: [0.0; 700],
            ints: [0; 1100],
            order: [0; EXAMPLES],
        }
    }

    /// Trains in both arithmetics with both activations, in steps of `max_examples`.
    ///
    /// Returns the 64-bit FNV-1a hash of each outcome: the parameters, then the mean loss, all as
    /// little-endian f32. Equal to [`EXPECTED`] for every `max_examples`.
    ///
    /// # Errors
    /// Any [`TrainError`] is a fault of the target.
    pub fn run(&mut self, max_examples: u32) -> Result<[u64; CASES.len()], TrainError> {
        self.draw_examples();
        let mut hashes = [0; CASES.len()];
        for (hash, (arithmetic, activation, init)) in hashes.iter_mut().zip(CASES) {
            let shape = Shape::new(&SIZES).map_err(|_| TrainError::Diverged)?;
            let model = Model::new(shape, activation);
            model
                .init_params(init, 1, &mut self.params)
                .map_err(TrainError::Params)?;
            let config = TrainConfig {
                local_epochs: 3,
                batch_size: 15,
                learning_rate: 0.5,
                seed: derive_seed(1, 2, 3),
                arithmetic,
                ..TrainConfig::default()
            };
            let loss = self.train(&model, config, max_examples)?;
            *hash = fnv1a(self.params.iter().chain([&loss]));
        }
        Ok(hashes)
    }

    fn train(
        &mut self,
        model: &Model,
        config: TrainConfig,
        max_examples: u32,
    ) -> Result<f32, TrainError> {
        let mut trainer = Trainer::new(model, config, EXAMPLES)?;
        let mut workspace = Workspace {
            floats: &mut self.floats,
            ints: &mut self.ints,
            order: &mut self.order,
        };
        loop {
            let (params, inputs, labels) = (&mut self.params, &self.inputs, &self.labels);
            let step = trainer.step(params, inputs, labels, &mut workspace, max_examples)?;
            if step == Step::Done {
                return Ok(trainer.mean_loss());
            }
        }
    }

    /// Noise, two thirds of it black, with a brighter patch whose place is the label.
    fn draw_examples(&mut self) {
        let mut rng = Pcg32::new(Purpose::SelfTest, 4);
        for (input, label) in self.inputs.chunks_exact_mut(SIZES[0]).zip(&mut self.labels) {
            *label = rng.below(SIZES[3] as u32) as u8;
            for octet in input.iter_mut() {
                *octet = if rng.below(3) == 0 {
                    rng.below(256) as u8
                } else {
                    0
                };
            }
            input[usize::from(*label) * 12..][..12].fill(255);
        }
    }
}

impl Default for SelfTest {
    fn default() -> Self {
        Self::new()
    }
}

/// FNV-1a, <https://www.rfc-editor.org/rfc/rfc9923>.
fn fnv1a<'a>(numbers: impl Iterator<Item = &'a f32>) -> u64 {
    let octets = numbers.flat_map(|number| number.to_bits().to_le_bytes());
    octets.fold(0xcbf2_9ce4_8422_2325, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_gives_the_expected_bits_however_the_work_is_cut() {
        let mut test = SelfTest::new();
        for max_examples in [u32::MAX, 1, 2, 7, 15, 16] {
            let hashes = test.run(max_examples).unwrap();
            assert_eq!(hashes, EXPECTED, "steps of {max_examples}: {hashes:#018x?}");
        }
    }
}
