//! Initial parameters from a seeded stream.

use fl_rng::{Pcg32, Purpose};

use crate::error::SizeError;
use crate::model::Model;

/// Scheme of initial weights; biases start at 0.
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
    /// # Shapes
    /// `params`: `[num_params]`.
    ///
    /// # Errors
    /// [`SizeError`] if `params` has another length; it is then unchanged.
    pub fn init_params(&self, init: Init, seed: u64, params: &mut [f32]) -> Result<(), SizeError> {
        SizeError::check(self.shape().num_params(), params.len())?;
        let mut rng = Pcg32::new(Purpose::InitialWeights, seed);
        for placed in self.layers() {
            let (d_in, d_out) = placed.layer.fans();
            let fan = match init {
                Init::He => d_in,
                Init::Xavier => d_in + d_out,
            };
            let limit = libm::sqrtf(6.0 / fan as f32);
            let (weights, bias) = params[placed.params].split_at_mut(placed.layer.num_weights());
            weights.fill_with(|| limit * rng.symmetric());
            bias.fill(0.0);
        }
        Ok(())
    }
}
