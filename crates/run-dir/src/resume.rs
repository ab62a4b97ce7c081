//! Resuming a run that was broken off: reading its directory, and removing the round that is run anew.
//!
//! A round is complete once its model is in place, which is written last. What the [`Checkpoint`] vouches
//! for is read, and what was written later is taken away: what is left tells of each round once.
//! [`Event::RunResumed`] tells how long the round had taken that is run anew.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fl_nn::Model;
use zfl_files::{Dir, read_line};

use crate::seal::TABLES;
use crate::write::heads;
use crate::{
    Checkpoint, ClientRecord, CompleteRound, EVENTS, EvaluationRecord, Event, MAX_LINE, MAX_TABLE,
    Record, RoundRecord, RunDir, RunSummary,
};

/// State of an interrupted run at its last complete round.
#[derive(Clone, Debug, Default)]
pub struct Resumed {
    /// The last complete round.
    pub round: u32,
    /// The model that it left.
    pub params: Vec<f32>,
    /// All complete rounds.
    pub table: Vec<RoundRecord>,
    /// Clients that failed in them.
    pub failures: Vec<ClientRecord>,
    /// Files that the checkpoint vouches for, and who was gone for good.
    pub complete: CompleteRound,
    /// Complete rounds of which the events do not tell: a kill came in between.
    pub untold: Vec<RoundRecord>,
    /// Time of the run at the end of that round, in seconds.
    pub elapsed_s: f64,
    /// Time of the run from the first wait for devices to the end of that round, in seconds.
    pub train_s: f64,
    /// Time from there to the last event, which went into a round that is done again, in seconds.
    pub lost_s: f64,
}

impl RunDir {
    /// Reads where the run in a directory was broken off. Nothing is changed.
    ///
    /// # Errors
    /// If it is no run directory, no round is complete, or a file is not as zfl wrote it.
    pub fn broken_off(path: &Path, model: &Model) -> Result<Resumed> {
        Self::broken_off_after(Checkpoint::verified(path)?, path, model)
    }

    /// Reads where the run in a directory was broken off, of whose last complete round every file was
    /// [verified](Checkpoint::verified).
    ///
    /// # Errors
    /// As [`RunDir::broken_off`].
    pub fn broken_off_after(
        complete: CompleteRound,
        path: &Path,
        model: &Model,
    ) -> Result<Resumed> {
        let (params, round) = Self::read_model(path, model)?;
        let [rounds, clients, _] = TABLES;
        let dir = Dir::open(path)?;
        same_columns(&dir, &complete)?;
        let table: Vec<RoundRecord> = parse(&dir, rounds, &complete)?;
        let agree = complete.round == round && table.last().is_some_and(|of| of.round == round);
        ensure!(
            agree,
            "{}: the model is that of round {round}, which rounds.csv does not end with",
            path.display()
        );
        let failures = failures(parse(&dir, clients, &complete)?);
        let events = Told::read(&dir, complete.bytes(EVENTS))?;
        // An event may tell of a little later than the table does, and no time comes twice.
        let elapsed_s = table.last().map_or(0.0, |last| last.elapsed_s);
        let elapsed_s = elapsed_s.max(events.end_s);
        let told = |record: &&RoundRecord| !events.rounds.contains(&record.round);
        Ok(Resumed {
            round,
            params,
            untold: table.iter().filter(told).cloned().collect(),
            table,
            failures,
            complete,
            elapsed_s,
            train_s: elapsed_s - events.started_s.unwrap_or(elapsed_s),
            lost_s: (events.last_s - elapsed_s).max(0.0),
        })
    }

    /// Opens the directory of a run to go on after a complete round: what was written later is removed, and
    /// so is the summary of a run that was stopped.
    ///
    /// `events.jsonl` is another file then, so that whoever follows it learns that it has changed.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn resume(path: &Path, complete: &CompleteRound) -> Result<Self> {
        let dir = Dir::open(path)?;
        dir.remove_unfinished()?;
        for name in TABLES.into_iter().chain([EVENTS]) {
            cut(&dir, name, complete.bytes(name))?;
        }
        // There may be one of a round that was broken off alone.
        let evaluations = EvaluationRecord::FILE;
        match dir.is_file(evaluations) {
            true if complete.files.contains_key(evaluations) => {
                cut(&dir, evaluations, complete.bytes(evaluations))?;
            }
            true => dir.remove(evaluations)?,
            false => {}
        }
        match dir.remove(RunSummary::FILE) {
            Err(error) if !error.is_missing() => Err(error.into()),
            _ => Self::go_on(dir, complete.clone()),
        }
    }
}

impl CompleteRound {
    /// The length of a file at the end of the round.
    fn bytes(&self, name: &str) -> u64 {
        self.files.get(name).map_or(0, |seal| seal.bytes)
    }
}

/// Puts a file of the first bytes of a file in its place.
fn cut(dir: &Dir, name: &str, bytes: u64) -> Result<()> {
    let mut whole = dir.open_file(name, u64::MAX)?.take(bytes);
    dir.replace(name, |kept| io::copy(&mut whole, kept).map(|_| ()))?;
    Ok(())
}

/// Refuses tables of another version of zfl: its rows and those to come would not have the same columns.
fn same_columns(dir: &Dir, complete: &CompleteRound) -> Result<()> {
    for (name, head) in heads() {
        if !complete.files.contains_key(name) {
            continue;
        }
        let file = dir.open_file(name, u64::MAX)?;
        let mut rows = csv::Reader::from_reader(BufReader::new(file.take(MAX_LINE as u64)));
        let path = dir.path().join(name);
        ensure!(
            rows.headers()?.iter().eq(head),
            "{} has other columns than this zfl writes: go on with the zfl that began the run, or begin it anew: zfl run {}",
            path.display(),
            dir.path().join("config.toml").display()
        );
    }
    Ok(())
}

/// The rows of a table that belong to complete rounds.
fn parse<T: serde::de::DeserializeOwned>(
    dir: &Dir,
    name: &str,
    complete: &CompleteRound,
) -> Result<Vec<T>> {
    let file = dir.open_file(name, u64::MAX)?;
    let bytes = complete.bytes(name).min(MAX_TABLE);
    let mut rows = csv::Reader::from_reader(BufReader::new(file.take(bytes)));
    let rows = rows.deserialize().collect::<Result<_, _>>();
    rows.with_context(|| {
        format!(
            "{} is not as zfl writes it",
            dir.path().join(name).display()
        )
    })
}

/// A row of the table of clients, as far as it counts here.
#[derive(serde::Deserialize)]
struct ClientEnd {
    round: u32,
    client: u32,
    outcome: String,
    num_examples: u32,
}

/// Clients of complete rounds that delivered nothing.
fn failures(rows: Vec<ClientEnd>) -> Vec<ClientRecord> {
    let failed = rows
        .into_iter()
        .filter(|row| !matches!(row.outcome.as_str(), "received" | "late"));
    failed
        .map(|row| {
            ClientRecord::without_update(row.round, row.client, row.num_examples, row.outcome)
        })
        .collect()
}

/// Facts from the events up to the end of a round.
#[derive(Debug, Default)]
struct Told {
    /// Rounds whose end they tell.
    rounds: BTreeSet<u32>,
    /// Begin of the run's first part, and time of the last of these events, in seconds.
    started_s: Option<f64>,
    end_s: f64,
    /// Time of the last event of all.
    last_s: f64,
}

impl Told {
    /// Reads the events, of which the first `bytes` are of complete rounds.
    fn read(dir: &Dir, bytes: u64) -> Result<Self> {
        let mut events = BufReader::new(dir.open_file(EVENTS, u64::MAX)?);
        let (mut told, mut line, mut end) = (Self::default(), Vec::new(), 0);
        // What cannot be read came later: it was cut off, and so was what would have followed.
        while let Ok(count @ 1..) = read_line(&mut events, &mut line, MAX_LINE) {
            let Ok(record) = serde_json::from_slice::<Record>(&line) else {
                break;
            };
            end += count as u64;
            told.last_s = record.time_ms as f64 / 1e3;
            if end <= bytes {
                told.take_in(record);
            }
        }
        ensure!(
            end >= bytes,
            "{} is not as zfl writes it",
            dir.path().join(EVENTS).display()
        );
        Ok(told)
    }

    fn take_in(&mut self, record: Record) {
        self.end_s = self.last_s;
        match record.event {
            Event::RunStarted { .. } => _ = self.started_s.get_or_insert(self.end_s),
            Event::RoundFinished { record } => _ = self.rounds.insert(record.round),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn times_are_those_of_the_first_start_of_the_seam_and_of_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let line = |time_ms: u64, event: &str| {
            format!("{{\"time_ms\":{time_ms},\"at\":\"\",\"event\":{event}}}\n")
        };
        let started = "\"run_started\",\"clients\":1,\"rounds\":9,\"address\":\"\"";
        let phase =
            |round: u32| format!("\"phase_entered\",\"round\":{round},\"phase\":\"training\"");
        let resumed = "\"run_resumed\",\"round\":1,\"lost_s\":0.5";
        let ready = "\"client_ready\",\"client\":0";
        let all = [
            line(3, started),
            line(10, &phase(1)),
            line(2000, resumed),
            line(2007, started),
            line(2010, &phase(2)),
            line(9000, ready),
        ];
        fs::write(dir.path().join("events.jsonl"), all.concat()).unwrap();
        let bytes = all[..4].concat().len() as u64;
        let folder = Dir::open(dir.path()).unwrap();
        let events = Told::read(&folder, bytes).unwrap();
        assert_eq!(events.started_s, Some(0.003));
        assert_eq!((events.end_s, events.last_s), (2.007, 9.0));
        assert!(events.rounds.is_empty());
    }

    #[test]
    fn what_is_cut_is_another_file() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("events.jsonl");
        fs::write(&file, "one\ntwo\n").unwrap();
        let old = File::open(&file).unwrap();
        cut(&Dir::open(dir.path()).unwrap(), "events.jsonl", 4).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "one\n");
        let inode = |metadata: fs::Metadata| metadata.ino();
        let (before, now) = (old.metadata().unwrap(), file.metadata().unwrap());
        assert_ne!(inode(before), inode(now));
    }
}
