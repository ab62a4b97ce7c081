//! Optimizers: rules that turn the mean gradient of a batch into a step of the parameters.

use crate::error::TrainError;

/// Optimizer of one client in one round; its state begins anew in each.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Optimizer {
    /// `w -= learning_rate * g`.
    #[default]
    Sgd,
    /// SGD with momentum, Polyak 1964: `v = momentum * v + g; w -= learning_rate * v`.
    Momentum {
        /// Share of the velocity that is kept, in `0..1`; 0.9 is usual.
        momentum: f32,
    },
    /// Adam, Kingma and Ba 2015, Algorithm 1: <https://arxiv.org/abs/1412.6980>.
    Adam {
        /// Decay of the average of gradients, in `0..1`; 0.9 is usual.
        beta_1: f32,
        /// Decay of the average of squared gradients, in `0..1`; 0.999 is usual.
        beta_2: f32,
        /// Added to the denominator; 1e-8 is usual.
        epsilon: f32,
    },
}

impl Optimizer {
    /// Adam with the values that its authors recommend.
    pub const ADAM: Self = Self::Adam {
        beta_1: 0.9,
        beta_2: 0.999,
        epsilon: 1e-8,
    };

    /// Vectors of the size of the parameters that the optimizer keeps between steps.
    pub const fn state_vectors(self) -> usize {
        match self {
            Self::Sgd => 0,
            Self::Momentum { .. } => 1,
            Self::Adam { .. } => 2,
        }
    }

    pub(super) fn check(self) -> Result<(), TrainError> {
        let is_share = |value: &f32| (0.0..1.0).contains(value);
        match self {
            Self::Sgd => Ok(()),
            Self::Momentum { momentum } if is_share(&momentum) => Ok(()),
            Self::Momentum { .. } => Err(TrainError::Momentum),
            Self::Adam { beta_1, beta_2, .. } if !(is_share(&beta_1) && is_share(&beta_2)) => {
                Err(TrainError::Beta)
            }
            Self::Adam { epsilon, .. } if !(epsilon.is_finite() && epsilon > 0.0) => {
                Err(TrainError::Epsilon)
            }
            Self::Adam { .. } => Ok(()),
        }
    }
}

/// Bias corrections of [`Optimizer::Adam`], from step to step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Powers([f64; 2]);

impl Powers {
    /// No step begun.
    pub const fn new() -> Self {
        Self([1.0; 2])
    }

    /// Begins a step.
    pub fn advance(&mut self, optimizer: Optimizer) {
        if let Optimizer::Adam { beta_1, beta_2, .. } = optimizer {
            self.0[0] *= f64::from(beta_1);
            self.0[1] *= f64::from(beta_2);
        }
    }
}

/// `v = momentum * v + g; w -= rate * v`.
///
/// # Shapes
/// All `[len]`.
pub(super) fn momentum_step(
    weights: &mut [f32],
    gradient: &[f32],
    velocities: &mut [f32],
    rate: f32,
    momentum: f32,
) {
    for ((w, &g), v) in weights.iter_mut().zip(gradient).zip(velocities) {
        *v = momentum * *v + g;
        *w -= rate * *v;
    }
}

/// Numbers of one step of Adam.
pub(crate) struct AdamStep {
    pub betas: [f32; 2],
    /// The learning rate over the bias of the means.
    pub rate: f32,
    /// One over the bias of the squares.
    pub unbias: f32,
    pub epsilon: f32,
}

impl AdamStep {
    pub fn new(betas: [f32; 2], epsilon: f32, rate: f32, Powers(powers): Powers) -> Self {
        Self {
            betas,
            rate: (f64::from(rate) / (1.0 - powers[0])) as f32,
            unbias: (1.0 / (1.0 - powers[1])) as f32,
            epsilon,
        }
    }

    /// Moves `weights` and the two averages.
    ///
    /// # Shapes
    /// All `[len]`.
    pub fn apply(
        &self,
        weights: &mut [f32],
        gradient: &[f32],
        means: &mut [f32],
        squares: &mut [f32],
    ) {
        #[cfg(feature = "host")]
        if let Some(kernels) = crate::host::kernels() {
            return (kernels.adam)(self, weights, gradient, means, squares);
        }
        let [beta_1, beta_2] = self.betas;
        let moments = means.iter_mut().zip(squares);
        for ((w, &g), (m, v)) in weights.iter_mut().zip(gradient).zip(moments) {
            *m = beta_1 * *m + (1.0 - beta_1) * g;
            *v = beta_2 * *v + (1.0 - beta_2) * (g * g);
            *w -= self.rate * *m / (libm::sqrtf(*v * self.unbias) + self.epsilon);
        }
    }
}
