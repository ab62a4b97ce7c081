//! The nonlinearity between layers.

use wide::f32x4;

/// Function of a hidden unit on its weighted sum.
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
            Self::Relu => {
                let relu = |z: f32| if 0.0 > z { 0.0 } else { z };
                let (fours, rest) = units.as_chunks_mut::<4>();
                for four in fours {
                    if cfg!(any(target_feature = "sse2", target_feature = "neon")) {
                        let z = f32x4::from(*four);
                        *four = (!f32x4::ZERO.simd_gt(z) & z).to_array();
                    } else {
                        four.iter_mut().for_each(|z| *z = relu(*z));
                    }
                }
                rest.iter_mut().for_each(|z| *z = relu(*z));
            }
            Self::Sigmoid => units
                .iter_mut()
                .for_each(|z| *z = 1.0 / (1.0 + libm::expf(-*z))),
        }
    }

    /// Derivative by the weighted sum, worked out from the output alone.
    #[inline(always)]
    pub(crate) fn slope(self, output: f32) -> f32 {
        match self {
            Self::Relu if output > 0.0 => 1.0,
            Self::Relu => 0.0,
            Self::Sigmoid => output * (1.0 - output),
        }
    }
}
