//! Sums of updates with factors that are no whole numbers: the exact mean, and what differs from it.

use alloc::vec::Vec;

use super::Update;
use crate::exact::{ExactError, ExactMean};

/// One update of a sum.
pub(crate) struct Term<'a> {
    pub update: &'a Update,
    /// Weight in the mean.
    pub weight: u64,
    /// Factor of its way from the global model that is added to the mean. Where all are 0, the sum is the
    /// mean to the bit.
    pub lean: f64,
}

/// The weighted mean of the models and what leans away from it, summed in the order of `terms`.
///
/// # Errors
/// As [`ExactMean::mean`].
pub(crate) fn leaning_mean(global: &[f32], terms: &[Term<'_>]) -> Result<Vec<f64>, ExactError> {
    let mut mean = ExactMean::new(global.len());
    for term in terms {
        mean.add(term.weight, term.update.model())?;
    }
    let mut target: Vec<f64> = mean.mean()?.into_iter().map(f64::from).collect();
    for Term { update, lean, .. } in terms.iter().filter(|term| term.lean != 0.0) {
        let ways = update.model().iter().zip(global);
        for (target, (to, from)) in target.iter_mut().zip(ways) {
            *target += lean * (f64::from(*to) - f64::from(*from));
        }
    }
    Ok(target)
}
