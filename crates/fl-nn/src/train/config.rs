//! Hyper-parameters of a training.

use super::optimizer::Optimizer;
use crate::arithmetic::Arithmetic;
use crate::error::TrainError;

/// Work of one client in one round.
///
/// The default is one epoch of plain SGD over one batch of all examples, at a rate of 0.1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainConfig {
    /// Passes over the client's examples.
    pub local_epochs: u32,
    /// Examples per step; clamped to the number of examples, and the last batch may be short.
    pub batch_size: u32,
    /// Width of a step along the mean gradient of a batch.
    pub learning_rate: f32,
    /// Seed of the order of examples, already derived ([`fl_rng::derive_seed`]).
    pub seed: u64,
    /// Arithmetic of the layers.
    pub arithmetic: Arithmetic,
    /// Optimizer of this round.
    pub optimizer: Optimizer,
    /// Factor of the weights that is added to their gradient, biases included; 0 adds nothing.
    pub weight_decay: f32,
    /// Largest Euclidean norm of the gradient of all parameters; what is longer is scaled down to it.
    ///
    /// The norm is taken after a [`crate::Correction`] and before the decay.
    pub clip_norm: Option<f32>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            local_epochs: 1,
            batch_size: u32::MAX,
            learning_rate: 0.1,
            seed: 0,
            arithmetic: Arithmetic::Fixed,
            optimizer: Optimizer::Sgd,
            weight_decay: 0.0,
            clip_norm: None,
        }
    }
}

impl TrainConfig {
    /// Tests if the kernels can apply the gradient as they sum it, unless there is a correction.
    pub(super) fn is_plain(&self) -> bool {
        self.optimizer == Optimizer::Sgd && self.weight_decay == 0.0 && self.clip_norm.is_none()
    }

    pub(super) fn is_integer(&self) -> bool {
        self.arithmetic == Arithmetic::Integer
    }

    /// Factor of the mean gradient in the kernels' steps.
    ///
    /// SGD gets the very step that it takes without a correction, other optimizers the gradient itself.
    pub(super) fn scale(&self) -> f32 {
        match self.optimizer {
            Optimizer::Sgd => self.learning_rate,
            Optimizer::Momentum { .. } | Optimizer::Adam { .. } => 1.0,
        }
    }

    /// Checks everything but the batch size, which the memory plan checks.
    pub(super) fn check(&self) -> Result<(), TrainError> {
        if self.local_epochs == 0 {
            return Err(TrainError::ZeroEpochs);
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return Err(TrainError::LearningRate);
        }
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            return Err(TrainError::WeightDecay);
        }
        if self
            .clip_norm
            .is_some_and(|norm| norm.is_nan() || norm <= 0.0)
        {
            return Err(TrainError::ClipNorm);
        }
        if self.is_integer() && !self.is_plain() {
            return Err(TrainError::NotPlain);
        }
        self.optimizer.check()
    }
}
