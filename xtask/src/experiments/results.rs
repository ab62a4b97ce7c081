//! Results of a row: the folder of its sweep, read.

use super::rows::{Kind, Measure};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Rounds of which the late accuracy is the mean.
const LATE: usize = 10;

/// A row that is done.
#[derive(Debug)]
pub struct Results {
    /// Date and machine of the measurement.
    pub measured: String,
    /// Time of all runs, in seconds.
    pub runs_s: f64,
    /// Cases in the order of the sweep.
    pub cases: Vec<Case>,
}

/// A case of a row.
#[derive(Debug)]
pub struct Case {
    /// Name of its runs without the seed.
    pub name: String,
    /// Runs that are done.
    pub runs: Vec<Run>,
    /// Runs that the sweep asks for.
    pub asked: usize,
}

/// A run of a row.
#[derive(Debug)]
pub struct Run {
    rounds: Vec<Round>,
    /// Numbers of the last round by the names of their columns, and those that the algorithm tells.
    last: BTreeMap<String, f64>,
}

/// The part of a row of `rounds.csv` that is needed.
#[derive(Debug, Deserialize)]
struct Round {
    round: u32,
    test_accuracy: Option<f64>,
    test_loss: Option<f64>,
    bytes_up: f64,
    bytes_down: f64,
    simulated_elapsed_s: Option<f64>,
}

/// The part of a row of `runs.csv` that is needed.
#[derive(Debug, Deserialize)]
struct Made {
    run: String,
    status: String,
    train_s: Option<f64>,
}

impl Results {
    /// Reads the folder of a row; nothing, unless a run is done.
    ///
    /// # Errors
    /// If it is not as expected.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let Ok(table) = fs::read_to_string(folder.join("runs.csv")) else {
            return Ok(None);
        };
        let mut table = csv::Reader::from_reader(table.as_bytes());
        let made: Vec<Made> = table
            .deserialize()
            .collect::<Result<_, _>>()
            .context("runs.csv")?;
        let is_done = |made: &&Made| made.status == "done";
        if !made.iter().any(|made| is_done(&made)) {
            return Ok(None);
        }
        let mut cases = Vec::<Case>::new();
        for Made { run, .. } in &made {
            let name = case_of(run);
            if !cases.iter().any(|case| case.name == name) {
                let name = name.to_owned();
                let (runs, asked) = (Vec::new(), 0);
                cases.push(Case { name, runs, asked });
            }
        }
        for case in &mut cases {
            let of_case = || made.iter().filter(|made| case_of(&made.run) == case.name);
            case.asked = of_case().count();
            for Made { run, .. } in of_case().filter(is_done) {
                let of = Run::read(&folder.join("runs").join(run)).with_context(|| run.clone())?;
                case.runs.push(of);
            }
        }
        let measured = fs::read_to_string(super::measured(folder)).unwrap_or_default();
        Ok(Some(Self {
            measured: measured.trim().to_owned(),
            runs_s: made
                .iter()
                .filter(is_done)
                .filter_map(|run| run.train_s)
                .sum(),
            cases,
        }))
    }
}

/// The name of a run without its seed.
fn case_of(run: &str) -> &str {
    run.rsplit_once("_seed-").map_or(run, |(case, _)| case)
}

impl Run {
    fn read(folder: &Path) -> Result<Self> {
        let mut table = csv::Reader::from_path(folder.join("rounds.csv"))?;
        let head = table.headers()?.clone();
        let mut rounds = Vec::new();
        let mut last = BTreeMap::new();
        for record in table.records() {
            let record = record?;
            rounds.push(record.deserialize(Some(&head))?);
            last = numbers(head.iter().zip(&record));
        }
        Ok(Self { rounds, last })
    }

    /// A number of the run; `None` if it is not known, or a target was not reached.
    pub fn number(&self, measure: &Measure) -> Option<f64> {
        let last = self.rounds.last()?;
        let accuracies = || {
            let known = self.rounds.iter().filter_map(|round| round.test_accuracy);
            known.map(|share| 100.0 * share)
        };
        let sum = |of: fn(&Round) -> f64, until: u32| {
            let rounds = self.rounds.iter().filter(|round| round.round <= until);
            rounds.map(of).sum::<f64>() / 1e6
        };
        let both: fn(&Round) -> f64 = |round| round.bytes_up + round.bytes_down;
        let sum_from = |first: u32| {
            let rounds = self.rounds.iter().filter(|round| round.round >= first);
            rounds.map(both).sum::<f64>() / 1e6
        };
        let reached = || {
            let target = measure.target?;
            self.rounds
                .iter()
                .find(|round| round.test_accuracy.is_some_and(|share| share >= target))
        };
        match measure.of {
            Kind::Accuracy => Some(100.0 * last.test_accuracy?),
            Kind::BestAccuracy => accuracies().reduce(f64::max),
            Kind::LateAccuracy => {
                let late: Vec<f64> = accuracies().rev().take(LATE).collect();
                Some(late.iter().sum::<f64>() / late.len() as f64)
            }
            Kind::Loss => last.test_loss,
            Kind::Megabytes => Some(sum(both, u32::MAX)),
            Kind::MegabytesUp => Some(sum(|round| round.bytes_up, u32::MAX)),
            Kind::MegabytesDown => Some(sum(|round| round.bytes_down, u32::MAX)),
            Kind::MegabytesARound => Some(sum_from(2) / (f64::from(last.round) - 1.0)),
            Kind::RoundsTo => Some(f64::from(reached()?.round)),
            Kind::MegabytesTo => Some(sum(both, reached()?.round)),
            Kind::SimulatedTo => reached()?.simulated_elapsed_s,
            Kind::Simulated => last.simulated_elapsed_s,
            Kind::Metric => self.last.get(measure.metric.as_deref()?).copied(),
        }
    }
}

/// The numbers of a row, and those in its cell `metrics`.
fn numbers<'a>(cells: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, f64> {
    let mut numbers = BTreeMap::new();
    for (name, cell) in cells {
        match name {
            "metrics" => numbers
                .extend(serde_json::from_str::<BTreeMap<String, f64>>(cell).unwrap_or_default()),
            name => numbers.extend(cell.parse().ok().map(|number| (name.to_owned(), number))),
        }
    }
    numbers
}

/// `87 ± 4` of a sample, and how many of its runs have the number if not all do.
pub fn shown(runs: &[Run], measure: &Measure) -> String {
    let numbers: Vec<f64> = runs.iter().filter_map(|run| run.number(measure)).collect();
    let n = numbers.len() as f64;
    if numbers.is_empty() {
        return match measure.target {
            Some(_) => "not reached".to_owned(),
            None => "–".to_owned(),
        };
    }
    let digits = measure.digits();
    let mean = numbers.iter().sum::<f64>() / n;
    let mut text = format!("{mean:.digits$}");
    if numbers.len() > 1 {
        let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
        text += &format!(" ± {:.digits$}", (squares / (n - 1.0)).sqrt());
    }
    if numbers.len() < runs.len() {
        text += &format!(" ({} of {})", numbers.len(), runs.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(of: Kind, target: Option<f64>) -> Measure {
        Measure {
            of,
            target,
            metric: None,
            published: BTreeMap::new(),
        }
    }

    fn run(accuracies: &[f64]) -> Run {
        let round = |(round, &test_accuracy): (u32, &f64)| Round {
            round,
            test_accuracy: Some(test_accuracy),
            test_loss: Some(1.0),
            bytes_up: 1e6,
            bytes_down: 2e6,
            simulated_elapsed_s: None,
        };
        Run {
            rounds: (0..).zip(accuracies).map(round).collect(),
            last: numbers([("wait_s", "1.5"), ("metrics", r#"{"drift":0.5}"#)].into_iter()),
        }
    }

    #[test]
    fn numbers_are_those_of_the_rounds() {
        let runs = [run(&[0.1, 0.5, 0.9]), run(&[0.1, 0.9, 0.8])];
        let shown = |of, target| shown(&runs, &measure(of, target));
        assert_eq!(shown(Kind::Accuracy, None), "85.00 ± 7.07");
        assert_eq!(shown(Kind::BestAccuracy, None), "90.00 ± 0.00");
        assert_eq!(shown(Kind::RoundsTo, Some(0.85)), "2 ± 1");
        assert_eq!(shown(Kind::MegabytesTo, Some(0.85)), "7.50 ± 2.12");
        assert_eq!(shown(Kind::RoundsTo, Some(0.95)), "not reached");
        assert_eq!(shown(Kind::SimulatedTo, Some(0.85)), "not reached");
        let metric = Measure {
            metric: Some("drift".to_owned()),
            ..measure(Kind::Metric, None)
        };
        assert_eq!(super::shown(&runs, &metric), "0.500 ± 0.000");
        let one = [run(&[0.9]), run(&[0.1])];
        assert_eq!(
            super::shown(&one, &measure(Kind::RoundsTo, Some(0.5))),
            "0 (1 of 2)"
        );
    }

    #[test]
    fn a_case_is_a_run_without_its_seed() {
        assert_eq!(case_of("iid_seed-3"), "iid");
        assert_eq!(case_of("iid"), "iid");
    }
}
