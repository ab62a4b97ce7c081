//! Updates sorted coordinate by coordinate.

use alloc::vec;
use alloc::vec::Vec;

use super::Update;
use crate::exact::{ExactError, ExactMean};

/// Vectors of the least, the second least, … number of all updates at every coordinate.
pub(crate) struct Sorted(Vec<Vec<f32>>);

impl Sorted {
    /// Sorts updates whose models have `len` finite numbers each.
    pub fn new(len: usize, updates: &[&Update]) -> Self {
        let mut ranks = vec![vec![0.0; len]; updates.len()];
        let mut column = vec![0.0; updates.len()];
        for at in 0..len {
            for (number, update) in column.iter_mut().zip(updates) {
                *number = update.model()[at];
            }
            column.sort_unstable_by(f32::total_cmp);
            for (rank, number) in ranks.iter_mut().zip(&column) {
                rank[at] = *number;
            }
        }
        Self(ranks)
    }

    /// Mean of all but the `cut` least and the `cut` largest numbers of every coordinate.
    ///
    /// # Errors
    /// [`ExactError::NoWeight`] if none are left.
    pub fn mean_without(&self, cut: usize) -> Result<Vec<f32>, ExactError> {
        let left = self.0.len().saturating_sub(2 * cut);
        let mut mean = ExactMean::new(self.len());
        for rank in self.0.iter().skip(cut).take(left) {
            mean.add(1, rank)?;
        }
        mean.mean()
    }

    /// Median of every coordinate; of an even count the mean of the middle two.
    ///
    /// # Errors
    /// [`ExactError::NoWeight`] if there are no updates.
    pub fn median(&self) -> Result<Vec<f32>, ExactError> {
        self.mean_without(self.0.len().saturating_sub(1) / 2)
    }

    /// Mean of those `count` numbers of every coordinate that are nearest to the median. They are
    /// neighbours; of two runs of them that are equally near it is the lower.
    ///
    /// # Errors
    /// [`ExactError::NoWeight`] if there are none.
    pub fn mean_around_median(&self, count: usize) -> Result<Vec<f32>, ExactError> {
        let (median, last) = (self.median()?, self.0.len().saturating_sub(count));
        let mut near = vec![vec![0.0; self.len()]; count.min(self.0.len())];
        for (at, median) in median.into_iter().enumerate() {
            let distance = |rank: usize| (f64::from(self.0[rank][at]) - f64::from(median)).abs();
            let mut first = 0;
            while first < last && distance(first + count) < distance(first) {
                first += 1;
            }
            for (offset, row) in near.iter_mut().enumerate() {
                row[at] = self.0[first + offset][at];
            }
        }
        let mut mean = ExactMean::new(self.len());
        for row in &near {
            mean.add(1, row)?;
        }
        mean.mean()
    }

    fn len(&self) -> usize {
        self.0.first().map_or(0, Vec::len)
    }
}
