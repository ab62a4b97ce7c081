//! The folder of a sweep.
//!
//! | | |
//! |---|---|
//! | `sweep.toml` | the sweep, with the experiment in it: `zfl sweep` of the folder goes on |
//! | `runs/NAME/` | the directory of a run |
//! | `runs/NAME.toml` | its experiment |
//! | `runs/NAME.log` | what it printed |
//! | `runs.csv` | a row of each run |
//! | `pid` | the lock, while the sweep goes on |

use crate::file::{FILE, Sweep};
use crate::plan::{Plan, Planned};
use crate::table::{self, Row};
use anyhow::{Context, Result};
use std::fs::File;
use std::path::{Path, PathBuf};
use zfl_experiment::Refusal;
use zfl_files::{Dir, Lock};
use zfl_run_dir::{MAX_FACTS, RunDir, RunSummary};

/// Folder of the runs in that of the sweep.
pub const RUNS: &str = "runs";

/// The table of the runs.
pub const TABLE: &str = "runs.csv";

/// The folder of a sweep that goes on, locked.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    lock: Lock,
    runs: Dir,
}

/// Standing of a run, as its directory tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is not there, or holds no complete round.
    New,
    /// It was broken off, failed, or had fewer rounds: it goes on.
    Begun,
    /// Every round is complete.
    Done,
}

impl Folder {
    /// Looks whether a sweep can go on in a folder, or begin in one that is not there. Nothing is made.
    ///
    /// # Errors
    /// A [`Refusal`] if a run of the folder has other settings than the plan, or more rounds.
    pub fn look(path: &Path, plan: &Plan) -> Result<Vec<Standing>, Refusal> {
        plan.runs.iter().map(|run| standing(path, run)).collect()
    }

    /// Makes the folder where it is missing, locks it, and writes down what the sweep is.
    ///
    /// # Errors
    /// A [`Refusal`] if another sweep goes on there, or it cannot be written.
    pub fn claim(path: &Path, sweep: &Sweep) -> Result<Self, Refusal> {
        let refused = |error: zfl_files::FileError| Refusal(error.to_string());
        let lock = zfl_run_dir::claim(path).map_err(refused)?;
        let dir = lock.dir();
        dir.write(FILE, sweep.to_toml().as_bytes())
            .map_err(refused)?;
        let runs = dir.make_folder(RUNS).map_err(refused)?;
        Ok(Self {
            path: path.to_owned(),
            lock,
            runs,
        })
    }

    /// The directory of a run.
    pub fn run(&self, run: &Planned) -> PathBuf {
        directory(&self.path, &run.point.name)
    }

    /// Prepares a run that is to begin: removes what has no complete round, and writes its experiment.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn prepare(&self, run: &Planned) -> Result<PathBuf> {
        let directory = self.run(run);
        if directory.exists() {
            std::fs::remove_dir_all(&directory).with_context(|| {
                format!(
                    "remove {}, which has no complete round",
                    directory.display()
                )
            })?;
        }
        self.write_settings(run)?;
        Ok(self.path.join(RUNS).join(settings_name(run)))
    }

    /// Writes the experiment of a run.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn write_settings(&self, run: &Planned) -> Result<()> {
        Ok(self.runs.write(&settings_name(run), run.toml.as_bytes())?)
    }

    /// The file that takes what a run prints.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn log(&self, run: &Planned) -> Result<File> {
        Ok(self.runs.append(&log_name(run))?)
    }

    /// The last line that a run printed, without `error: `.
    pub fn last_words(&self, run: &Planned) -> Option<String> {
        let text = self.runs.read_text(&log_name(run), MAX_FACTS).ok()?;
        let lines = || text.lines().rev().filter(|line| !line.trim().is_empty());
        let error = lines().find_map(|line| line.strip_prefix("error: "));
        error.or_else(|| lines().next()).map(str::to_owned)
    }

    /// Writes the table.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn write_table(&self, columns: &[String], rows: &[Row]) -> Result<()> {
        let text = table::csv(columns, rows)?;
        Ok(self.lock.dir().write(TABLE, &text)?)
    }

    /// The path of the table.
    pub fn table(&self) -> PathBuf {
        self.path.join(TABLE)
    }
}

fn settings_name(run: &Planned) -> String {
    format!("{}.toml", run.point.name)
}

fn log_name(run: &Planned) -> String {
    format!("{}.log", run.point.name)
}

fn directory(sweep: &Path, name: &str) -> PathBuf {
    sweep.join(RUNS).join(name)
}

/// Standing of a run in the folder of a sweep.
fn standing(sweep: &Path, run: &Planned) -> Result<Standing, Refusal> {
    let directory = directory(sweep, &run.point.name);
    let Ok(dir) = Dir::open(&directory) else {
        return Ok(Standing::New);
    };
    if !dir.is_file(RunDir::MODEL) {
        return Ok(Standing::New);
    }
    let runs = Dir::open(&sweep.join(RUNS))
        .and_then(|runs| runs.read_text(&settings_name(run), MAX_FACTS));
    let before = runs.map_err(|error| Refusal(error.to_string()))?;
    let (before, now) = (settings(&before), settings(&run.toml));
    if before != now {
        let keys: Vec<_> = differing(&before, &now);
        return Err(Refusal(format!(
            "{} is a run with other settings ({}): give the sweep another --name, or remove that folder",
            directory.display(),
            keys.join(", ")
        )));
    }
    let Ok(summary) = RunSummary::load(&directory) else {
        return Ok(Standing::Begun);
    };
    let done = summary.training.rounds_completed;
    if done > run.rounds {
        return Err(Refusal(format!(
            "{} has {done} rounds, and the sweep asks for {}: give it another --name, or at least as many rounds",
            directory.display(),
            run.rounds
        )));
    }
    Ok(match summary.training.success && done == run.rounds {
        true => Standing::Done,
        false => Standing::Begun,
    })
}

/// Settings that make a run what it is: more rounds continue it, and a version is told by the run itself.
fn settings(toml: &str) -> toml::Table {
    let mut table: toml::Table = toml::from_str(toml).unwrap_or_default();
    for key in ["rounds", "zfl_version"] {
        table.remove(key);
    }
    table
}

fn differing(before: &toml::Table, now: &toml::Table) -> Vec<String> {
    let keys: std::collections::BTreeSet<_> = before.keys().chain(now.keys()).collect();
    let differs = |key: &&&String| before.get(**key) != now.get(**key);
    keys.iter()
        .filter(differs)
        .map(|key| (*key).clone())
        .collect()
}
