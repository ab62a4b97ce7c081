//! Initial parameters from a seeded stream.

use fl_rng::{Pcg32, Purpose};

use crate::activation::Activation;
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

impl Init {
    /// The scheme for layers of this activation.
    pub fn of(activation: Activation) -> Self {
        match activation {
            Activation::Relu => Self::He,
            Activation::Sigmoid => Self::Xavier,
        }
    }
}

impl Model {
    /// Fills `params` from element `from` on as [`Model::init_params`] would, by the scheme of the model's
    /// activation; leaves those before.
    ///
    /// # Shapes
    /// `params`: `[num_params]`; those that there are too few are left out.
    pub fn init_from(&self, from: usize, seed: u64, params: &mut [f32]) {
        let mut rng = Pcg32::new(Purpose::InitialWeights, seed);
        for placed in self.layers() {
            let limit = limit(Init::of(self.activation()), placed.layer.fans());
            let biases = placed.params.start + placed.layer.num_weights();
            for at in placed.params {
                let drawn = if at < biases {
                    limit * rng.symmetric()
                } else {
                    0.0
                };
                if let Some(param) = params.get_mut(at).filter(|_| at >= from) {
                    *param = drawn;
                }
            }
        }
    }

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
            let limit = limit(init, placed.layer.fans());
            let (weights, bias) = params[placed.params].split_at_mut(placed.layer.num_weights());
            weights.fill_with(|| limit * rng.symmetric());
            bias.fill(0.0);
        }
        Ok(())
    }
}

/// Largest initial weight of a layer.
fn limit(init: Init, (d_in, d_out): (usize, usize)) -> f32 {
    let fan = match init {
        Init::He => d_in,
        Init::Xavier => d_in + d_out,
    };
    libm::sqrtf(6.0 / fan as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;

    #[test]
    fn the_end_of_a_model_begins_as_that_of_the_whole_one_and_leaves_the_rest() {
        for activation in [Activation::Relu, Activation::Sigmoid] {
            let model = Model::new(Shape::new(&[6, 5, 3]).unwrap(), activation);
            let mut whole = vec![0.0; model.shape().num_params()];
            model
                .init_params(Init::of(activation), 7, &mut whole)
                .unwrap();
            for from in [0, 4, 35, whole.len()] {
                let mut end = vec![9.0; whole.len()];
                model.init_from(from, 7, &mut end);
                assert_eq!(
                    (&end[from..], &end[..from]),
                    (&whole[from..], &vec![9.0; from][..])
                );
            }
        }
    }
}
