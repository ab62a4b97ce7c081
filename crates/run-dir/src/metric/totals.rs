//! The values of a device over its rounds.

use super::values::named;
use super::{Folds, Id, Values};
use serde::ser::{Serialize, Serializer};

/// Totals of a device's rounds, by metric.
///
/// As JSON it has the values that displays of a run under way show.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Those that are known, in the order of the metrics: of most devices of a large fleet next to none is.
    known: Vec<Total>,
}

#[derive(Clone, Debug, PartialEq)]
struct Total {
    metric: Id,
    last: f64,
    /// The sum or the highest, as the metric's row has it.
    total: f64,
    /// Rounds of which the metric is known.
    rounds: u32,
}

impl Totals {
    /// Takes in a round; what is not known of it changes nothing.
    pub fn add(&mut self, round: &Values) {
        for metric in Id::all() {
            let Some(value) = round.get(metric) else {
                continue;
            };
            let before = self.of(metric).map(|one| one.total);
            let one = self.of_mut(metric, value);
            one.total = match metric.metric().folds {
                Folds::Sum | Folds::Mean => before.unwrap_or(0.0) + value,
                Folds::Max => before.unwrap_or(value).max(value),
                Folds::Last => value,
            };
            one.last = value;
            one.rounds += 1;
        }
    }

    /// Notes a value that is known between two rounds.
    pub fn note(&mut self, metric: Id, value: f64) {
        let one = self.of_mut(metric, value);
        (one.last, one.total) = (value, value);
    }

    fn of(&self, metric: Id) -> Option<&Total> {
        let place = self
            .known
            .binary_search_by_key(&metric.0, |one| one.metric.0);
        self.known.get(place.ok()?)
    }

    /// The place of a metric, made with a value if it was not known.
    fn of_mut(&mut self, metric: Id, value: f64) -> &mut Total {
        let place = self
            .known
            .binary_search_by_key(&metric.0, |one| one.metric.0);
        let place = place.unwrap_or_else(|place| {
            let (last, total, rounds) = (value, value, 0);
            let one = Total {
                metric,
                last,
                total,
                rounds,
            };
            self.known.reserve_exact(1);
            self.known.insert(place, one);
            place
        });
        &mut self.known[place]
    }

    /// The value of the last round in which it was known.
    pub fn last(&self, metric: Id) -> Option<f64> {
        Some(self.of(metric)?.last)
    }

    /// All rounds by the rule of the metric's row.
    pub fn over_rounds(&self, metric: Id) -> Option<f64> {
        let Total { total, rounds, .. } = *self.of(metric)?;
        Some(match metric.metric().folds {
            Folds::Mean => total / f64::from(rounds.max(1)),
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
