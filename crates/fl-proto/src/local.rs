//! Parts of a [`crate::Start`] that say how a device trains beyond plain SGD, and what it hides.

use crate::checks;
use serde::{Deserialize, Serialize};

/// Optimizer of a training, begun anew in every round. A number that its rule does not take is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Optimizer {
    /// The rule.
    pub name: OptimizerName,
    /// Share of the velocity that is kept; of `momentum`.
    #[serde(
        default,
        skip_serializing_if = "is_zero",
        deserialize_with = "checks::finite"
    )]
    pub momentum: f32,
    /// Decay of the average of gradients; of `adam`.
    #[serde(
        default,
        skip_serializing_if = "is_zero",
        deserialize_with = "checks::finite"
    )]
    pub beta_1: f32,
    /// Decay of the average of squared gradients; of `adam`.
    #[serde(
        default,
        skip_serializing_if = "is_zero",
        deserialize_with = "checks::finite"
    )]
    pub beta_2: f32,
    /// Added to the denominator; of `adam`.
    #[serde(
        default,
        skip_serializing_if = "is_zero",
        deserialize_with = "checks::finite"
    )]
    pub epsilon: f32,
    /// Factor of the weights that is added to their gradient.
    #[serde(
        default,
        skip_serializing_if = "is_zero",
        deserialize_with = "checks::finite"
    )]
    pub weight_decay: f32,
    /// Largest norm of a gradient; 0 is none.
    #[serde(
        default,
        skip_serializing_if = "is_zero",
        deserialize_with = "checks::finite"
    )]
    pub clip_norm: f32,
}

/// Rule of an [`Optimizer`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerName {
    /// Plain steps.
    #[default]
    Sgd,
    /// SGD with momentum.
    Momentum,
    /// Adam.
    Adam,
}

/// Bound and noise of an update, which is what the training changed in the model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Privacy {
    /// Largest Euclidean norm of an update; a longer one is scaled down to it.
    #[serde(deserialize_with = "checks::finite")]
    pub clipping_norm: f32,
    /// Standard deviation of the Gaussian noise that the device adds to each number; 0 is none.
    #[serde(
        default,
        skip_serializing_if = "is_zero",
        deserialize_with = "checks::finite"
    )]
    pub noise_stddev: f32,
}

/// Name of the metric that tells of an update if it was longer than [`Privacy::clipping_norm`]: 1, or 0.
pub const CLIPPED: &str = "clipped";

/// Fields of a [`crate::Start`] that a device names at `/id` if it understands them.
pub const LATER_FIELDS: [&str; 3] = ["optimizer", "privacy", "evaluate"];

fn is_zero(number: &f32) -> bool {
    *number == 0.0
}
