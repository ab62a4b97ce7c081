//! The nonlinearity between layers.

/// What a hidden unit does with its weighted sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `max(0, z)`.
    Relu,
    /// `1 / (1 + exp(-z))`.
    Sigmoid,
}

impl Activation {
    /// Replaces weighted sums by outputs.
    pub(crate) fn apply(self, units: &mut [f32]) {
        match self {
            // Written so that a NaN stays one, and divergence is seen at the loss.
            Self::Relu => units
                .iter_mut()
                .for_each(|z| *z = if 0.0 > *z { 0.0 } else { *z }),
            Self::Sigmoid => units
                .iter_mut()
                .for_each(|z| *z = 1.0 / (1.0 + libm::expf(-*z))),
        }
    }

    /// Multiplies `deltas` by the derivative, told from the outputs alone.
    pub(crate) fn backward(self, outputs: &[f32], deltas: &mut [f32]) {
        for (delta, &a) in deltas.iter_mut().zip(outputs) {
            match self {
                Self::Relu => *delta = if a > 0.0 { *delta } else { 0.0 },
                Self::Sigmoid => *delta *= a * (1.0 - a),
            }
        }
    }
}
