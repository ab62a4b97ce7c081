//! A run that was broken off and goes on.

use crate::runner::Runner;
use anyhow::Result;
use std::collections::BTreeSet;
use std::path::Path;
use zfl_experiment::{Experiment, Out, Refusal, Root, Settings, boards, require};
use zfl_files::{Dir, FileError};
use zfl_run_dir::{MAX_FACTS, RunDir};

impl Runner {
    /// A run that was broken off, in this directory. Settings may change how it is run, not what.
    ///
    /// # Errors
    /// A [`Refusal`] if it is under way or over, or was run with other settings; if it cannot be read.
    pub fn resume(settings: Settings, run: &Path, root: &Root) -> Result<Self> {
        let refusal = |error: FileError| Refusal(error.to_string());
        let lock = zfl_run_dir::lock(run).map_err(refusal)?;
        let file = Settings::of_run(lock.dir())?;
        let settings = settings.over(file.clone(), &boards::guests(root))?;
        let (experiment, data) = Experiment::of_run(&settings, Out::Resumed(run), root)?;
        check_files(lock.dir()).map_err(refusal)?;
        let before = lock
            .dir()
            .read_text("config.toml", MAX_FACTS)
            .map_err(refusal)?;
        let now = experiment.to_toml()?;
        let mut other = differences(&before, &now)?;
        // A file that an older zfl wrote has no word of newer keys: it is read as it would be now.
        if !other.is_empty()
            && let Ok((alone, _)) = Experiment::of_run(&file, Out::Resumed(run), root)
        {
            other = differences(&alone.to_toml()?, &now)?;
        }
        require(other.is_empty(), || {
            format!(
                "{} was run with other settings ({}): leave out the flags that change them",
                run.display(),
                other.join(", ")
            )
        })?;
        let resumed = RunDir::broken_off(run, &experiment.model)
            .map_err(|error| Refusal(format!("{error:#}")))?;
        require(resumed.round < experiment.rounds, || {
            format!(
                "{} is over: all {} rounds are complete",
                run.display(),
                experiment.rounds
            )
        })?;
        let mut runner = Self::new(experiment, data);
        runner.resumed = Some((resumed, lock));
        Ok(runner)
    }
}

/// Files of a run that are appended to, or read only once it goes on.
const FILES: [&str; 5] = [
    "events.jsonl",
    "rounds.csv",
    "clients.csv",
    "traffic.csv",
    "meta.json",
];

/// Folders of a run, whose files are appended to.
const FOLDERS: [&str; 3] = ["serial", "pcap", "state"];

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

/// Keys of which two configurations say different things. The run's folder is none: it may have been
/// moved.
fn differences(before: &str, now: &str) -> Result<Vec<String>> {
    let [before, now] = [before, now].map(toml::from_str::<toml::Table>);
    let (before, now) = (before?, now?);
    let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let differs = |key: &&String| *key != "out" && before.get(*key) != now.get(*key);
    Ok(keys.into_iter().filter(differs).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_was_moved_has_the_same_settings() {
        let differ = |one: &str, two: &str| differences(one, two).unwrap();
        assert!(differ("out = 'a'\nseed = 1", "seed = 1 # mine\nout = 'b'").is_empty());
        assert_eq!(differ("seed = 1\nx = 1", "seed = 2"), ["seed", "x"]);
    }
}
