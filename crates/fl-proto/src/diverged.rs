//! Results of a training that diverged.

use serde::{Deserialize, Deserializer};

use crate::Token;

/// Readable part of results whose loss is not finite. A loss that is NaN is written as `null`.
#[derive(Clone, Debug, Deserialize)]
pub struct Diverged {
    /// Round of the results.
    pub round: u32,
    /// Their token.
    pub token: Token,
    #[serde(deserialize_with = "number")]
    loss: f64,
}

impl Diverged {
    /// Tells if the loss is not finite as f32, which is what a loss is; else the results are malformed.
    pub fn is_so(&self) -> bool {
        !(self.loss as f32).is_finite()
    }
}

/// A number, or NaN for `null`.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let number = Option::<f64>::deserialize(deserializer)?;
    Ok(number.unwrap_or(f64::NAN))
}
