//! A round of a run: the record in the events, the row of `rounds.csv`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::level::LevelRecord;

/// Declares the fields of [`RoundRecord`] with the form that each has in `rounds.csv`.
macro_rules! round_columns {
    ($($(#[doc = $doc:literal])+ $(#[serde($($serde:tt)+)])? $field:ident: $type:ty = $form:ident,)+) => {
        /// A row of `rounds.csv`.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        pub struct RoundRecord {
            $($(#[doc = $doc])+ $(#[serde($($serde)+)])? pub $field: $type,)+
        }

        impl RoundRecord {
            /// The names of the columns.
            pub const HEAD: [&str; [$(stringify!($field)),+].len()] = [$(stringify!($field)),+];

            /// The row.
            pub fn cells(&self) -> [String; Self::HEAD.len()] {
                [$($form(&self.$field)),+]
            }
        }
    };
}

round_columns! {
    /// The round; 0 is the initial evaluation.
    round: u32 = plain,
    /// Clients chosen.
    cohort_size: u32 = plain,
    /// Updates in the new model.
    results: u32 = plain,
    /// Clients of the cohort without one.
    failures: u32 = plain,
    /// Messages refused.
    rejected: u32 = plain,
    /// Updates of an earlier round that came late.
    late: u32 = plain,
    /// Mean training loss, weighted by examples.
    train_loss: Option<f64> = known,
    /// Mean cross-entropy on the test set, in nats; absent where there is no global model.
    test_loss: Option<f64> = known,
    /// Share of right predictions on the test set; absent where there is no global model.
    test_accuracy: Option<f64> = known,
    /// HTTP bytes from devices in this round, data fetching and joining before it included.
    bytes_up: u64 = plain,
    /// HTTP bytes to devices in this round.
    bytes_down: u64 = plain,
    /// Wait for ready devices, in seconds.
    wait_s: f64 = seconds,
    /// From choosing the cohort to the last `/start` taken, in seconds.
    start_s: f64 = seconds,
    /// From choosing the cohort to the last update, in seconds.
    train_s: f64 = seconds,
    /// The slowest device's own training time, in seconds.
    slowest_train_s: Option<f64> = known_seconds,
    /// Adding up, in seconds.
    aggregate_s: f64 = seconds,
    /// Testing, in seconds.
    eval_s: f64 = seconds,
    /// All of the round, in seconds.
    round_s: f64 = seconds,
    /// Since the start of the run, at the end of the round, in seconds.
    elapsed_s: f64 = seconds,
    /// Time that the round would take on the devices themselves: that of the slowest, its computing and
    /// its link, in seconds; absent unless known of every update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    simulated_s: Option<f64> = known_seconds,
    /// The sum of that over the rounds so far, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    simulated_elapsed_s: Option<f64> = known_seconds,
    /// Step size of a device without one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    learning_rate: Option<f64> = known,
    /// Evaluation on the devices, in seconds; this and what follows is absent of a round without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    evaluate_s: Option<f64> = known_seconds,
    /// Devices whose evaluation came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    devices_evaluated: Option<u32> = known,
    /// Mean cross-entropy on the examples that they hold out, weighted by examples, in nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_loss: Option<f64> = known,
    /// Mean of their accuracies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_accuracy_mean: Option<f64> = known,
    /// Mean weighted by examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_accuracy_weighted_mean: Option<f64> = known,
    /// Mean of the worst tenth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_accuracy_worst_decile: Option<f64> = known,
    /// Standard deviation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_accuracy_deviation: Option<f64> = known,
    /// The least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_accuracy_min: Option<f64> = known,
    /// First quartile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_accuracy_q1: Option<f64> = known,
    /// Median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_accuracy_median: Option<f64> = known,
    /// Third quartile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_accuracy_q3: Option<f64> = known,
    /// The greatest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_accuracy_max: Option<f64> = known,
    /// Mean of the accuracies of personal models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    personal_accuracy_mean: Option<f64> = known,
    /// Of personal models: mean weighted by examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    personal_accuracy_weighted_mean: Option<f64> = known,
    /// Of personal models: mean of the worst tenth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    personal_accuracy_worst_decile: Option<f64> = known,
    /// Of personal models: standard deviation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    personal_accuracy_deviation: Option<f64> = known,
    /// Of personal models: the least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    personal_accuracy_min: Option<f64> = known,
    /// Of personal models: first quartile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    personal_accuracy_q1: Option<f64> = known,
    /// Of personal models: median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    personal_accuracy_median: Option<f64> = known,
    /// Of personal models: third quartile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    personal_accuracy_q3: Option<f64> = known,
    /// Of personal models: the greatest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    personal_accuracy_max: Option<f64> = known,
    /// Levels of aggregators and the bytes of their connections, where there are edges; in the table as JSON.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "levels_of")]
    levels: Vec<LevelRecord> = list,
    /// Numbers that the algorithm tells of the round, by name; in the table as a JSON object.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "named_numbers")]
    metrics: BTreeMap<String, f64> = object,
}

fn plain(value: &impl ToString) -> String {
    value.to_string()
}

fn known(value: &Option<impl ToString>) -> String {
    value.as_ref().map_or_else(String::new, ToString::to_string)
}

/// Seconds to the microsecond.
fn seconds(value: &f64) -> String {
    format!("{value:.6}")
}

fn known_seconds(value: &Option<f64>) -> String {
    value.as_ref().map_or_else(String::new, seconds)
}

fn object(value: &BTreeMap<String, f64>) -> String {
    if value.is_empty() {
        return String::new();
    }
    serde_json::to_string(value).unwrap_or_default()
}

fn list(levels: &Vec<LevelRecord>) -> String {
    if levels.is_empty() {
        return String::new();
    }
    serde_json::to_string(levels).unwrap_or_default()
}

/// Takes the object of an event, and the text of a cell.
fn named_numbers<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, f64>, D::Error> {
    value_or_text(deserializer)
}

fn levels_of<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<LevelRecord>, D::Error> {
    value_or_text(deserializer)
}

/// Takes a value, or the JSON of one as a text.
fn value_or_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::de::DeserializeOwned + Default,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form<T> {
        Text(String),
        Value(T),
    }
    match Form::deserialize(deserializer)? {
        Form::Value(value) => Ok(value),
        Form::Text(text) if text.is_empty() => Ok(T::default()),
        Form::Text(text) => serde_json::from_str(&text).map_err(serde::de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_back_as_it_was_written() {
        let record = RoundRecord {
            round: 3,
            train_loss: Some(0.25),
            wait_s: 1.5,
            simulated_s: Some(2.0),
            levels: vec![LevelRecord::default(); 2],
            metrics: [("drift".to_owned(), 0.5), ("norm".to_owned(), 2.0)].into(),
            ..RoundRecord::default()
        };
        for record in [record, RoundRecord::default()] {
            let mut table = csv::Writer::from_writer(Vec::new());
            table.write_record(RoundRecord::HEAD).unwrap();
            table.write_record(record.cells()).unwrap();
            let text = table.into_inner().unwrap();
            let mut rows = csv::Reader::from_reader(&*text);
            let read: Vec<RoundRecord> = rows.deserialize().collect::<Result<_, _>>().unwrap();
            assert_eq!(read, std::slice::from_ref(&record));
            let json = serde_json::to_string(&record).unwrap();
            assert_eq!(serde_json::from_str::<RoundRecord>(&json).unwrap(), record);
        }
    }

    #[test]
    fn a_round_of_an_older_version_tells_no_metrics() {
        let mut json = serde_json::to_value(RoundRecord::default()).unwrap();
        assert!(json.get("metrics").is_none());
        json["round"] = 2.into();
        assert_eq!(
            serde_json::from_value::<RoundRecord>(json).unwrap().round,
            2
        );
    }
}
