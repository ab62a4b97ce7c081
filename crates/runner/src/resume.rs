//! A run that was broken off and goes on: nothing that decides its model may have changed.

use crate::runner::Runner;
use crate::storage;
use anyhow::Result;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use zfl_experiment::{Experiment, Out, Refusal, Root, Settings, boards, require, versions};
use zfl_files::{Dir, FileError};
use zfl_run_dir::{Checkpoint, MAX_FACTS, Meta, PARTITION, RunDir, RunSummary};

impl Runner {
    /// A run that was broken off, in this directory. Settings may change how it is run, not what; but there
    /// may be more rounds.
    ///
    /// # Errors
    /// A [`Refusal`] if it is under way or over, was run with other settings or inputs, or is not as it was
    /// written.
    pub fn resume(flags: Settings, run: &Path, root: &Root) -> Result<Self> {
        let lock = zfl_run_dir::lock(run).map_err(refused)?;
        check_files(lock.dir()).map_err(refused)?;
        let complete = Checkpoint::verified(run).map_err(refused)?;
        let meta = Meta::verified(run).map_err(|error| {
            Refusal(format!(
                "{error:#}; put it back from a copy, or {}",
                anew(run)
            ))
        })?;
        let config = lock.dir().read_text("config.toml", MAX_FACTS);
        let config = json(&config.map_err(refused)?).map_err(refused)?;
        let file = Settings::of_run(lock.dir())?;
        require(file.outdated().is_none(), || {
            let before = file.zfl_version.as_deref().unwrap_or_default();
            format!(
                "{} was begun by zfl {before}, and models of this zfl may be others: go on with that one, or \
                 {}",
                run.display(),
                anew(run)
            )
        })?;
        let edited = differences(&meta.config, &config);
        require(edited.is_empty(), || {
            format!(
                "{} is not what the run was begun with ({}): put that back (meta.json has it, and only \
                 `rounds` may be another), or {}",
                run.join("config.toml").display(),
                edited.join(", "),
                anew(run)
            )
        })?;
        let settings = flags.over(file, &boards::guests(root))?;
        let (mut experiment, data) = Experiment::of_run(&settings, Out::Resumed(run), root)?;
        let other = differences(&config, &experiment.to_json()?);
        require(other.is_empty(), || {
            format!(
                "{} was run with other settings ({}): leave out the flags that change them",
                run.display(),
                other.join(", ")
            )
        })?;
        let mut changed = versions::changed_inputs(&meta.versions, &versions::of(&experiment)?);
        let partition = lock.dir().read_text(PARTITION, MAX_FACTS);
        if partition.map_err(refused)? != experiment.partition_table(&data.train) {
            changed.push("partition".to_owned());
        }
        require(changed.is_empty(), || {
            format!(
                "{} was begun with other inputs ({}): put back what they were (meta.json has the \
                 checksums), or {}",
                run.display(),
                changed.join(", "),
                anew(run)
            )
        })?;
        let resumed =
            RunDir::broken_off_after(complete, run, &experiment.model).map_err(refused)?;
        storage::check(&experiment, run, &resumed)?;
        let (done, rounds) = (resumed.round, experiment.rounds);
        require(done <= rounds, || {
            format!("{rounds} rounds, but {done} are complete: give at least as many")
        })?;
        let is_over = RunSummary::load(run).is_ok_and(|summary| summary.training.success);
        require(done < rounds || !is_over, || {
            format!(
                "{} is over: all {rounds} rounds are complete; for more, give --rounds",
                run.display()
            )
        })?;
        if rounds != meta.rounds {
            let note = format!("{rounds} rounds instead of {}", meta.rounds);
            experiment.notes.push(note);
        }
        let mut runner = Self::new(experiment, data);
        runner.resumed = Some((resumed, lock));
        Ok(runner)
    }
}

/// Files of a run that are appended to, or read only once it goes on.
const FILES: [&str; 8] = [
    "checkpoint.json",
    "model.safetensors",
    "events.jsonl",
    "rounds.csv",
    "clients.csv",
    "traffic.csv",
    "evaluations.csv",
    "meta.json",
];

/// Folders of a run, whose files are appended to, or read by their path.
const FOLDERS: [&str; 5] = ["serial", "pcap", "state", "inputs", "storage"];

/// Refuses a run directory with a link, or with anything but files, in the place of a file.
fn check_files(run: &Dir) -> Result<(), FileError> {
    for file in FILES {
        match run.open_file(file, u64::MAX) {
            Err(error) if !error.is_missing() => return Err(error),
            _ => {}
        }
    }
    for folder in FOLDERS {
        let folder = match run.folder(folder) {
            Err(error) if error.is_missing() => continue,
            folder => folder?,
        };
        for name in folder.names()? {
            folder.open_file(&name.to_string_lossy(), u64::MAX)?;
        }
    }
    Ok(())
}

/// Names of the inputs that are others now than when the run was made whose `config.toml` this file is;
/// none, if it is of no run.
///
/// # Errors
/// If an input cannot be read.
pub fn changed_since(file: &Path, experiment: &Experiment) -> Result<Vec<String>> {
    let is_config = file.file_name().is_some_and(|name| name == "config.toml");
    let run = file.parent().filter(|_| is_config);
    let Some(Ok(meta)) = run.map(Meta::verified) else {
        return Ok(Vec::new());
    };
    let now = versions::of(experiment)?;
    let mut changed = versions::changed_inputs(&meta.versions, &now);
    // What flags add or leave out is no secret.
    changed.retain(|name| now.contains_key(name) && meta.versions.contains_key(name));
    Ok(changed)
}

fn refused(error: impl Into<anyhow::Error>) -> Refusal {
    Refusal(format!("{:#}", error.into()))
}

/// Advice for whoever cannot go on.
fn anew(run: &Path) -> String {
    let config = run.join("config.toml");
    format!("do the run anew: zfl run {}", config.display())
}

/// A configuration as `meta.json` has it.
fn json(config: &str) -> Result<Value> {
    Ok(serde_json::to_value(toml::from_str::<toml::Table>(
        config,
    )?)?)
}

/// Keys of which two configurations say different things, those of tables with a dot. The number of rounds
/// is none, since it decides no model, nor is that of edges with exact sums, nor the run's folder, which may have been
/// moved.
fn differences(before: &Value, now: &Value) -> Vec<String> {
    let mut keys = Vec::new();
    note_differences("", before, now, &mut keys);
    let decides_nothing = |key: &str| match key {
        "rounds" | "out" => true,
        // Exact sums are the same in any order; others are not.
        "edges" => ["edge_rounds", "edge_sums"]
            .iter()
            .all(|key| now.get(key).is_none()),
        _ => false,
    };
    keys.retain(|key| !decides_nothing(key));
    keys
}

fn note_differences(at: &str, before: &Value, now: &Value, keys: &mut Vec<String>) {
    match (before, now) {
        (Value::Object(before), Value::Object(now)) => {
            let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
            for name in names {
                let key = match at {
                    "" => name.clone(),
                    at => format!("{at}.{name}"),
                };
                let of = |table: &serde_json::Map<String, Value>| table.get(name).cloned();
                let [before, now] = [before, now].map(|table| of(table).unwrap_or_default());
                note_differences(&key, &before, &now, keys);
            }
        }
        (Value::Array(before), Value::Array(now)) if before.len() == now.len() => {
            for (number, (before, now)) in (1..).zip(before.iter().zip(now)) {
                note_differences(&format!("{at} {number}"), before, now, keys);
            }
        }
        _ if before != now => keys.push(at.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_by_its_key() {
        let differ = |one: &str, two: &str| differences(&json(one).unwrap(), &json(two).unwrap());
        assert!(
            differ(
                "out = 'a'\nseed = 1",
                "seed = 1 # mine\nout = 'b'\nrounds = 3"
            )
            .is_empty()
        );
        assert_eq!(differ("seed = 1\nx = 1", "seed = 2"), ["seed", "x"]);
        assert!(differ("edges = 3", "edges = 2").is_empty());
        assert_eq!(
            differ("edges = 3\nedge_rounds = 2", "edges = 2\nedge_rounds = 2"),
            ["edges"]
        );
        let (one, two) = ("[faults]\ndrop_out = 0.1", "[faults]\ndrop_out = 0.2");
        assert_eq!(differ(one, two), ["faults.drop_out"]);
        let (one, two) = ("[[fleet]]\ncount = 1\nrounds = 1", "[[fleet]]\ncount = 2");
        assert_eq!(differ(one, two), ["fleet 1.count", "fleet 1.rounds"]);
        assert_eq!(differ(one, ""), ["fleet"]);
    }
}
