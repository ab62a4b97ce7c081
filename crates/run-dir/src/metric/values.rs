//! The values of a client in a round, by metric.

use super::{Id, METRICS, Reads};
use crate::event::ClientRecord;
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fmt;

/// A number for each metric, where it is known.
///
/// As bits, so that a device of many rounds takes eight bytes for each; what a device measures may be
/// any number, so that only one NaN of many stands for what is not known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Values([u64; METRICS.len()]);

const UNKNOWN: u64 = u64::MAX;

impl Default for Values {
    fn default() -> Self {
        Self([UNKNOWN; METRICS.len()])
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Id::all().filter_map(|id| Some((id.metric().name, self.get(id)?)));
        f.debug_map().entries(known).finish()
    }
}

impl Values {
    /// The values of a record, as its columns have them.
    pub fn of(record: &ClientRecord) -> Self {
        let mut values = Self::default();
        for metric in Id::all() {
            if let Reads::Record(read) = metric.metric().reads {
                values.set(metric, read(record));
            }
        }
        values
    }

    /// One value.
    pub fn get(&self, metric: Id) -> Option<f64> {
        Some(self.0[metric.0])
            .filter(|&bits| bits != UNKNOWN)
            .map(f64::from_bits)
    }

    /// Puts one value in its place.
    pub fn set(&mut self, metric: Id, value: Option<f64>) {
        self.0[metric.0] = value.map_or(UNKNOWN, f64::to_bits);
    }

    /// Makes the metrics that are made of others.
    pub(crate) fn complete(&mut self) {
        for metric in Id::all() {
            if let Reads::Others(make) = metric.metric().reads {
                let value = make(self);
                self.set(metric, value);
            }
        }
    }
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        named(serializer, |metric| self.get(metric))
    }
}

/// A number for each metric as a map, null where it is not known.
pub(crate) fn named<S: Serializer>(
    serializer: S,
    value: impl Fn(Id) -> Option<f64>,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(METRICS.len()))?;
    for metric in Id::all() {
        let row = metric.metric();
        map.serialize_entry(row.name, &value(metric).map(|value| row.json(value)))?;
    }
    map.end()
}
