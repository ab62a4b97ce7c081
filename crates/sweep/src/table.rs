//! The table of a sweep's runs.

use crate::name::text;
use crate::plan::Planned;
use anyhow::Result;
use std::path::Path;
use zfl_run_dir::RunSummary;
use zfl_run_dir::fold::RunView;

/// State of a run of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has not begun.
    Waiting,
    /// It goes on.
    Running,
    /// It was broken off, and would go on.
    Interrupted,
    /// It ended without all of its rounds.
    Failed,
    /// Every round is complete.
    Done,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::Done => "done",
        }
    }
}

/// Columns beside those of the keys.
const RESULTS: [&str; 10] = [
    "rounds",
    "accuracy",
    "best_accuracy",
    "loss",
    "bytes_up",
    "bytes_down",
    "simulated_s",
    "energy_j",
    "train_s",
    "model_sha256",
];

/// A run in the table.
#[derive(Clone, Debug)]
pub struct Row {
    name: String,
    case: Option<String>,
    values: crate::file::Setting,
    /// Its state.
    pub status: Status,
    view: Option<RunView>,
    model_sha256: Option<String>,
}

impl Row {
    /// The row of a run, with what its directory tells.
    pub fn of(run: &Planned, status: Status, directory: &Path) -> Self {
        let is_there = directory.join("meta.json").is_file();
        let fold = is_there
            .then(|| zfl_run_dir::replay(directory).ok())
            .flatten();
        let summary = RunSummary::load(directory).ok();
        Self {
            name: run.point.name.clone(),
            case: run.point.case.clone(),
            values: run.point.values.clone(),
            status,
            view: fold.map(|fold| fold.run(0)),
            model_sha256: summary.map(|summary| summary.training.model_sha256),
        }
    }

    /// Accuracy after the last round.
    pub fn accuracy(&self) -> Option<f64> {
        self.view.as_ref()?.accuracy
    }

    /// Rounds that are complete.
    pub fn rounds(&self) -> u32 {
        self.view.as_ref().map_or(0, |view| view.rounds_completed)
    }

    fn cells(&self, columns: &[String], has_cases: bool) -> Vec<String> {
        let mut cells = vec![self.name.clone(), self.status.name().to_owned()];
        if has_cases {
            cells.push(self.case.clone().unwrap_or_default());
        }
        cells.extend(
            columns
                .iter()
                .map(|key| self.values.get(key).map(text).unwrap_or_default()),
        );
        cells.extend(self.results());
        cells
    }

    fn results(&self) -> [String; RESULTS.len()] {
        let Some(view) = &self.view else {
            return Default::default();
        };
        let known =
            |number: Option<f64>| number.map(|number| number.to_string()).unwrap_or_default();
        [
            view.rounds_completed.to_string(),
            known(view.accuracy),
            known(view.best_accuracy),
            known(view.loss),
            view.bytes_up.to_string(),
            view.bytes_down.to_string(),
            known(view.simulated_s),
            known(view.energy_j),
            format!("{:.3}", view.elapsed_s),
            self.model_sha256.clone().unwrap_or_default(),
        ]
    }
}

/// Name of the column of a key: its own, unless a result has it.
fn column(key: &str) -> String {
    let name = key.strip_suffix(".name").unwrap_or(key);
    match RESULTS.contains(&name) {
        true => format!("key.{name}"),
        false => name.to_owned(),
    }
}

/// The table as CSV.
pub(crate) fn csv(columns: &[String], rows: &[Row]) -> Result<Vec<u8>> {
    let has_cases = rows.iter().any(|row| row.case.is_some());
    let case = has_cases.then_some("case");
    let own = ["run", "status"].into_iter().chain(case);
    let keys = columns.iter().map(|key| column(key));
    let head = own.map(str::to_owned).chain(keys);
    let head = head.chain(RESULTS.map(str::to_owned));
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(head)?;
    for row in rows {
        csv.write_record(row.cells(columns, has_cases))?;
    }
    Ok(csv.into_inner()?)
}
