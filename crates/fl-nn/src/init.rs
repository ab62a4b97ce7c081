//! Initial parameters from a seeded stream.

use fl_rng::{Pcg32, Purpose};

use crate::error::SizeError;
use crate::model::Model;

/// How weights start; biases start at 0.
///
/// Both draw uniformly from `[-limit, limit)`, which needs no transcendental function and so is the same
/// to the bit everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// `limit = sqrt(6 / d_in)`, variance `2 / d_in`, for ReLU: <https://arxiv.org/abs/1502.01852>.
    He,
    /// `limit = sqrt(6 / (d_in + d_out))`, for sigmoid: <https://proceedings.mlr.press/v9/glorot10a.html>.
    Xavier,
}

impl Model {
    /// Fills `params` with the initial parameters of `seed`.
    ///
    /// # Errors
    /// [`SizeError`] if `params` is not `[num_params]`; it is then unchanged.
    pub fn init_params(&self, init: Init, seed: u64, params: &mut [f32]) -> Result<(), SizeError> {
        let expected = self.shape().num_params();
        if params.len() != expected {
            return Err(SizeError {
                expected,
                actual: params.len(),
            });
        }
        let mut rng = Pcg32::new(Purpose::InitialWeights, seed);
        for layer in self.shape().layers() {
            let fan = match init {
                Init::He => layer.d_in,
                Init::Xavier => layer.d_in + layer.d_out,
            };
            let limit = libm::sqrtf(6.0 / fan as f32);
            let (weights, bias) = params[layer.params()].split_at_mut(layer.weights().len());
            weights.fill_with(|| limit * rng.symmetric());
            bias.fill(0.0);
        }
        Ok(())
    }
}
