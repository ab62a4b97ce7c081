//! Choice between the forms of computation.

/// Arithmetic of a training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arithmetic {
    /// First layer by exact integer sums over rounded weights and deltas, all others in f32: many times faster on an
    /// emulated device.
    #[default]
    Fixed,
    /// Plain f32, the reference.
    Float,
    /// Fixed point in all layers, for plain SGD without a [`crate::Correction`]: no float between the first step and the
    /// last. An evaluation is that of `Fixed`.
    Integer,
}

impl Arithmetic {
    /// Arithmetic of an evaluation.
    pub(crate) fn of_evaluation(self) -> Self {
        match self {
            Self::Integer | Self::Fixed => Self::Fixed,
            Self::Float => Self::Float,
        }
    }
}
