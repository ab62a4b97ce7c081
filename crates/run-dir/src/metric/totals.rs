//! The values of a device over its rounds.

use super::values::named;
use super::{Folds, Id, METRICS, Values};
use serde::ser::{Serialize, Serializer};

/// Totals of a device's rounds, by metric.
///
/// As JSON it has the values that displays of a run under way show.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    last: Values,
    /// The sum or the highest, as the metric's row has it.
    total: Values,
    /// Rounds of which the metric is known.
    rounds: Counts,
}

#[derive(Clone, Debug, PartialEq)]
struct Counts([u32; METRICS.len()]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; METRICS.len()])
    }
}

impl Totals {
    /// Takes in a round; what is not known of it changes nothing.
    pub fn add(&mut self, round: &Values) {
        for metric in Id::all() {
            let Some(value) = round.get(metric) else {
                continue;
            };
            let before = self.total.get(metric);
            let total = match metric.metric().folds {
                Folds::Sum | Folds::Mean => before.unwrap_or(0.0) + value,
                Folds::Max => before.unwrap_or(value).max(value),
                Folds::Last => value,
            };
            self.total.set(metric, Some(total));
            self.last.set(metric, Some(value));
            self.rounds.0[metric.0] += 1;
        }
    }

    /// Notes a value that is known between two rounds.
    pub fn note(&mut self, metric: Id, value: f64) {
        self.last.set(metric, Some(value));
        self.total.set(metric, Some(value));
    }

    /// The value of the last round in which it was known.
    pub fn last(&self, metric: Id) -> Option<f64> {
        self.last.get(metric)
    }

    /// All rounds by the rule of the metric's row.
    pub fn over_rounds(&self, metric: Id) -> Option<f64> {
        let total = self.total.get(metric)?;
        Some(match metric.metric().folds {
            Folds::Mean => total / f64::from(self.rounds.0[metric.0].max(1)),
            Folds::Sum | Folds::Max | Folds::Last => total,
        })
    }

    /// The value that displays of a run under way show.
    pub fn now(&self, metric: Id) -> Option<f64> {
        match metric.metric().shows_last {
            true => self.last(metric),
            false => self.over_rounds(metric),
        }
    }
}

impl Serialize for Totals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        named(serializer, |metric| self.now(metric))
    }
}
