//! Rows of docs/experiments.toml.

use crate::project;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// File of the rows.
const ROWS: &str = "docs/experiments.toml";

/// A published result that is made again.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Its name, and that of its sweep.
    pub name: String,
    /// Its heading.
    pub title: String,
    /// The experiment, and in what it differs from the published one.
    pub about: String,
    /// Source of the published numbers.
    pub source: String,
    /// Duration of all runs on two processors, in minutes.
    pub minutes: f64,
    /// True if its devices are emulated.
    #[serde(default)]
    pub emulated: bool,
    /// Numbers that are stated of each case.
    pub measures: Vec<Measure>,
    /// Reasons for numbers that are missed, once it was run.
    #[serde(default)]
    pub remark: String,
}

/// A number of a run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measure {
    /// Its kind.
    pub of: Kind,
    /// Accuracy that is to be reached, from 0 to 1.
    pub target: Option<f64>,
    /// Name of a metric of the algorithm.
    pub metric: Option<String>,
    /// Published numbers by case.
    #[serde(default)]
    pub published: BTreeMap<String, String>,
}

/// Kind of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Accuracy of the last model, in per cent.
    Accuracy,
    /// Best accuracy of any round, in per cent.
    BestAccuracy,
    /// Mean accuracy over the last ten rounds, in per cent.
    LateAccuracy,
    /// Cross-entropy of the last model.
    Loss,
    /// Bytes both ways, in millions.
    Megabytes,
    /// Bytes from devices, in millions.
    MegabytesUp,
    /// Bytes to devices, in millions.
    MegabytesDown,
    /// Bytes both ways of a round after the first, which brings the training data, in millions.
    MegabytesARound,
    /// Rounds to the target.
    RoundsTo,
    /// Bytes both ways to the target, in millions.
    MegabytesTo,
    /// Simulated time to the target, in seconds.
    SimulatedTo,
    /// Simulated time of all rounds, in seconds.
    Simulated,
    /// A metric of the last round.
    Metric,
}

impl Measure {
    /// Heading of its column.
    pub fn head(&self) -> String {
        let to = || format!("{:.0} %", 100.0 * self.target.unwrap_or(0.0));
        match self.of {
            Kind::Accuracy => "accuracy %".to_owned(),
            Kind::BestAccuracy => "best accuracy %".to_owned(),
            Kind::LateAccuracy => "accuracy % (last ten rounds)".to_owned(),
            Kind::Loss => "loss".to_owned(),
            Kind::Megabytes => "MB".to_owned(),
            Kind::MegabytesUp => "MB up".to_owned(),
            Kind::MegabytesDown => "MB down".to_owned(),
            Kind::MegabytesARound => "MB a round".to_owned(),
            Kind::RoundsTo => format!("rounds to {}", to()),
            Kind::MegabytesTo => format!("MB to {}", to()),
            Kind::SimulatedTo => format!("simulated s to {}", to()),
            Kind::Simulated => "simulated s".to_owned(),
            Kind::Metric => self.metric.clone().unwrap_or_default(),
        }
    }

    /// Digits behind the point.
    pub fn digits(&self) -> usize {
        match self.of {
            Kind::RoundsTo => 0,
            Kind::SimulatedTo | Kind::Simulated => 1,
            Kind::Loss | Kind::Metric | Kind::MegabytesARound => 3,
            _ => 2,
        }
    }
}

impl Row {
    /// Its sweep file.
    pub fn sweep(&self) -> PathBuf {
        project::root().join(format!("experiments/sweeps/{}.toml", self.name))
    }

    /// Duration for people.
    pub fn duration(&self) -> String {
        match self.minutes {
            minutes if minutes < 90.0 => format!("{minutes:.0} min"),
            minutes => format!("{:.0} h", minutes / 60.0),
        }
    }
}

/// Reads the rows.
///
/// # Errors
/// If the file is not as expected, or a row has no sweep file.
pub fn read() -> Result<Vec<Row>> {
    #[derive(Deserialize)]
    struct Rows {
        row: Vec<Row>,
    }
    let path = project::root().join(ROWS);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {ROWS}"))?;
    let Rows { row: rows } =
        toml::from_str(&text).with_context(|| format!("{ROWS} is not as expected"))?;
    for row in &rows {
        let sweep = row.sweep();
        ensure!(
            sweep.is_file(),
            "{} is not there, and {ROWS} has the row",
            sweep.display()
        );
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_its_sweep_and_its_numbers() {
        for row in read().unwrap() {
            assert!(
                !row.measures.is_empty() && row.minutes > 0.0,
                "{}",
                row.name
            );
            for measure in &row.measures {
                let needs_target = measure.head().contains(" to ");
                assert_eq!(measure.target.is_some(), needs_target, "{}", row.name);
                assert_eq!(
                    measure.metric.is_some(),
                    measure.of == Kind::Metric,
                    "{}",
                    row.name
                );
            }
        }
    }
}
