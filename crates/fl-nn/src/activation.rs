//! The nonlinearity between layers.

use wide::i32x4;

/// Bits of minus infinity: as integers, those of the other numbers below zero lie between the least and these.
const INFINITY_BELOW: i32 = f32::NEG_INFINITY.to_bits() as i32;

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
                        // Below zero by the bits: an emulator compares integers faster than floats.
                        let bits: i32x4 = bytemuck::cast(*four);
                        let is_least = !bits.simd_gt(i32x4::splat(i32::MIN));
                        let is_above = bits.simd_gt(i32x4::splat(INFINITY_BELOW));
                        *four = bytemuck::cast((is_least | is_above) & bits);
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
