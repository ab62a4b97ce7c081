//! Availability traces: when each device is there.
//!
//! ```json
//! {"unit": "rounds", "devices": [{"client": 3, "on": [[1, 4], [8, 20]]}]}
//! ```
//!
//! An interval `[from, to]` holds `from` and not `to`; `unit` is `rounds` or `seconds` since the start
//! of the run. A device that is not listed is always there. In seconds of wall time two runs differ
//! where a round begins near an edge; in rounds, or in simulated time, they never do.

use super::config::{FaultError, check_client};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use zfl_schema::{Document, Mistake};

/// Unit of a trace's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TraceUnit {
    /// Rounds, from 1.
    Rounds,
    /// Seconds since the start of the run.
    Seconds,
}

/// Availability of each device.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    unit: TraceUnit,
    on: BTreeMap<u32, Vec<(f64, f64)>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    unit: TraceUnit,
    devices: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    client: u32,
    on: Vec<Vec<f64>>,
}

/// The JSON Schema of a trace.
fn schema() -> Value {
    let row = json!({
        "type": "object",
        "properties": {
            "client": {"type": "integer", "minimum": 0, "maximum": u32::MAX},
            "on": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
        },
        "required": ["client", "on"],
        "additionalProperties": false,
    });
    json!({
        "type": "object",
        "properties": {
            "unit": {"enum": ["rounds", "seconds"]},
            "devices": {"type": "array", "items": row},
        },
        "required": ["unit", "devices"],
        "additionalProperties": false,
    })
}

impl Trace {
    /// Unit of its numbers.
    pub fn unit(&self) -> TraceUnit {
        self.unit
    }

    /// Reads a trace.
    ///
    /// # Errors
    /// [`FaultError::Trace`] with the place of the first fault.
    pub fn parse(json: &str) -> Result<Self, FaultError> {
        Self::read(json).map_err(|mistake| FaultError::Trace(mistake.to_string()))
    }

    fn read(json: &str) -> Result<Self, Mistake> {
        let document = Document::json(json)?;
        document.check(&schema())?;
        let file = serde_json::from_str(json);
        let File { unit, devices } = file.map_err(|_| document.mistake("", "this is no trace"))?;
        let mut on = BTreeMap::new();
        for (at, Row { client, on: spans }) in devices.into_iter().enumerate() {
            let refuse = |place: &str, what: String| {
                Err(document.mistake(
                    &format!("devices.{at}.{place}"),
                    format!("client {client}: {what}"),
                ))
            };
            let mut whole = Vec::new();
            let mut end = 0.0;
            for (at, span) in spans.iter().enumerate() {
                let place = format!("on.{at}");
                let &[from, to] = &span[..] else {
                    return refuse(&place, "an interval has two numbers: [from, to]".to_owned());
                };
                if !(from >= end && to > from) {
                    return refuse(&place, format!("[{from}, {to}] is empty or out of order"));
                }
                end = to;
                whole.push((from, to));
            }
            if on.insert(client, whole).is_some() {
                return refuse("client", "it is listed twice".to_owned());
            }
        }
        Ok(Self { unit, on })
    }

    /// Refuses clients that the fleet does not have.
    ///
    /// # Errors
    /// [`FaultError::Client`].
    pub fn validate(&self, clients: u32) -> Result<(), FaultError> {
        self.on
            .keys()
            .try_for_each(|client| check_client(*client, clients))
    }

    /// True if a device is there at the start of a round.
    pub fn is_on(&self, client: u32, round: u32, elapsed_s: f64) -> bool {
        let at = match self.unit {
            TraceUnit::Rounds => f64::from(round),
            TraceUnit::Seconds => elapsed_s,
        };
        let Some(spans) = self.on.get(&client) else {
            return true;
        };
        spans.iter().any(|(from, to)| (*from..*to).contains(&at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_count_from_the_start() {
        let trace =
            Trace::parse(r#"{"unit":"seconds","devices":[{"client":0,"on":[[0,1.5],[2,3]]}]}"#)
                .unwrap();
        let on = |s| trace.is_on(0, 1, s);
        assert_eq!(
            [on(0.0), on(1.5), on(2.0), on(3.0)],
            [true, false, true, false]
        );
        assert!(trace.is_on(1, 1, 99.0));
    }

    #[test]
    fn a_bad_trace_is_named() {
        for (json, part) in [
            ("[]", "line 1, column 1: the file is []: give a table"),
            (
                r#"{"unit":"days","devices":[]}"#,
                "line 1, column 9: `unit` is \"days\": give one of \"rounds\", \"seconds\"",
            ),
            (
                r#"{"unit":"rounds","devices":[{"client":1,"on":[[3,2]]}]}"#,
                "[3, 2] is empty",
            ),
            (
                r#"{"unit":"rounds","devices":[{"client":1,"on":[[3,3]]}]}"#,
                "[3, 3] is empty",
            ),
            (
                r#"{"unit":"rounds","devices":[{"client":1,"on":[[1,3],[2,4]]}]}"#,
                "out of order",
            ),
            (
                r#"{"unit":"rounds","devices":[{"client":1,"on":[]},{"client":1,"on":[]}]}"#,
                "twice",
            ),
        ] {
            let error = Trace::parse(json).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
