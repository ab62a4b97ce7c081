//! Choice between the two forms of the first layer.

/// Arithmetic of the first layer; all others compute in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arithmetic {
    /// Exact integer sums over rounded weights and deltas: many times faster on an emulated device.
    #[default]
    Fixed,
    /// Plain f32, the reference.
    Float,
}
