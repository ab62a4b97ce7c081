//! A line about a partition: how much each client has, and of how many classes.

use super::Partition;
use crate::dataset::Dataset;
use std::fmt;

/// Spread of sizes and classes over clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionSummary {
    /// Least, median and most examples of a client.
    pub examples: [usize; 3],
    /// Least, median and most classes of which a client has examples.
    pub classes: [usize; 3],
    /// Examples that are dealt out.
    pub dealt: usize,
    /// Examples of the training set.
    pub available: usize,
}

impl PartitionSummary {
    pub(super) fn of(partition: &Partition, data: &Dataset) -> Self {
        let counts = partition.label_counts(data);
        let classes = counts
            .iter()
            .map(|row| row.iter().filter(|&&count| count > 0).count());
        Self {
            examples: spread(partition.sizes()),
            classes: spread(classes),
            dealt: partition.sizes().sum(),
            available: data.len(),
        }
    }
}

/// Least, median (the lower one of two) and most.
fn spread(values: impl Iterator<Item = usize>) -> [usize; 3] {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    let at = |index: usize| values.get(index).copied().unwrap_or(0);
    let last = values.len().saturating_sub(1);
    [at(0), at(last / 2), at(last)]
}

impl fmt::Display for PartitionSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |[least, median, most]: [usize; 3], what: &str| match least == most {
            true => format!("{least} {what}"),
            false => format!("{least} to {most} {what} (median {median})"),
        };
        let (examples, classes) = (of(self.examples, "examples"), of(self.classes, "classes"));
        let (dealt, available) = (self.dealt, self.available);
        write!(
            f,
            "{examples} of {classes} a device, {dealt} of {available} in all"
        )
    }
}
