//! Resuming a run that was broken off: reading its directory, and removing the round that is run anew.
//!
//! A round is complete once its model is in place, which is written last. Rows and events of a round
//! that is not complete are taken away, since it is run anew: what is left tells of each round once.
//! [`Event::RunResumed`] tells how long it had taken.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fl_nn::Model;

use zfl_files::{Dir, read_line};

use crate::{
    ClientRecord, EVENTS, Event, MAX_LINE, MAX_TABLE, Record, RoundPhase, RoundRecord, RunDir,
    RunSummary,
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
    /// Clients that were gone for good, and why.
    pub lost: BTreeMap<u32, String>,
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
    /// If it is no run directory, no round is complete, or a file is not as zfl writes it.
    pub fn broken_off(path: &Path, model: &Model) -> Result<Resumed> {
        let file = path.join(Self::MODEL);
        ensure!(
            file.exists(),
            "{} holds no complete round to go on from: run it anew",
            path.display()
        );
        let (params, round) = Self::read_model(&file, model)?;
        let rows = complete_rows(path, "rounds.csv", round)?;
        let table: Vec<RoundRecord> = parse(path, "rounds.csv", &rows)?;
        ensure!(
            table.last().is_some_and(|last| last.round == round),
            "{}: the model is that of round {round}, which rounds.csv does not have",
            path.display()
        );
        let rows = complete_rows(path, "clients.csv", round)?;
        let failures = failures(path, &rows)?;
        let events = Complete::read(path, round)?;
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
            lost: events.lost,
            elapsed_s,
            train_s: elapsed_s - events.started_s.unwrap_or(elapsed_s),
            lost_s: (events.last_s - elapsed_s).max(0.0),
        })
    }

    /// Opens the directory of a run to go on after `round`: what is there of later rounds is removed, and
    /// so is the summary of a run that was stopped.
    ///
    /// `events.jsonl` is another file then, so that whoever follows it learns that it has changed.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn resume(path: &Path, round: u32) -> Result<Self> {
        let dir = Dir::open(path)?;
        dir.remove_unfinished()?;
        for name in ["rounds.csv", "clients.csv", "traffic.csv"] {
            let text = complete_rows(path, name, round)?;
            dir.write(name, text.as_bytes())?;
        }
        let events = Complete::read(path, round)?;
        cut(&dir, EVENTS, events.bytes)?;
        match dir.remove(RunSummary::FILE) {
            Err(error) if !error.is_missing() => Err(error.into()),
            _ => Self::reopen(path),
        }
    }
}

/// Puts a file of the first bytes of a file in its place.
fn cut(dir: &Dir, name: &str, bytes: u64) -> Result<()> {
    let mut whole = dir.open_file(name, u64::MAX)?.take(bytes);
    dir.replace(name, |kept| io::copy(&mut whole, kept).map(|_| ()))?;
    Ok(())
}

/// The head and the whole rows of a table that belong to rounds up to `round`.
fn complete_rows(path: &Path, name: &str, round: u32) -> Result<String> {
    let file = path.join(name);
    let text = Dir::open(path)?.read_text(name, MAX_TABLE)?;
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut end = 0;
    for row in reader.records() {
        let row = row.with_context(|| format!("{} is not as zfl writes it", file.display()))?;
        let of = row.get(0).and_then(|cell| cell.parse::<u32>().ok());
        let after = row.position().map_or(end, |at| at.byte() as usize) + row_bytes(&text, &row);
        // What a crash left half written belongs to a round that is not complete.
        if of.is_some_and(|of| of > round) || !text[..after].ends_with('\n') {
            break;
        }
        end = after;
    }
    Ok(text.get(..end).unwrap_or_default().to_owned())
}

/// Bytes of a row in the text, with its line's end.
fn row_bytes(text: &str, row: &csv::StringRecord) -> usize {
    let start = row.position().map_or(0, |at| at.byte() as usize);
    let rest = text.get(start..).unwrap_or_default();
    let mut quoted = false;
    let end = rest.bytes().position(|byte| {
        quoted ^= byte == b'"';
        byte == b'\n' && !quoted
    });
    end.map_or(rest.len(), |end| end + 1)
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, name: &str, text: &str) -> Result<Vec<T>> {
    let mut rows = csv::Reader::from_reader(text.as_bytes());
    let rows = rows.deserialize().collect::<Result<_, _>>();
    rows.with_context(|| format!("{} is not as zfl writes it", path.join(name).display()))
}

/// Clients of complete rounds that delivered nothing.
fn failures(path: &Path, text: &str) -> Result<Vec<ClientRecord>> {
    #[derive(serde::Deserialize)]
    struct Row {
        round: u32,
        client: u32,
        outcome: String,
        num_examples: u32,
    }
    let rows: Vec<Row> = parse(path, "clients.csv", text)?;
    let failed = rows
        .into_iter()
        .filter(|row| !matches!(row.outcome.as_str(), "received" | "late"));
    Ok(failed
        .map(|row| {
            ClientRecord::without_update(row.round, row.client, row.num_examples, row.outcome)
        })
        .collect())
}

/// Facts from the events up to the end of a round.
#[derive(Debug, Default)]
struct Complete {
    /// Their length in the file, in bytes.
    bytes: u64,
    /// Clients that were gone by then.
    lost: BTreeMap<u32, String>,
    /// Rounds whose end they tell.
    rounds: BTreeSet<u32>,
    /// Begin of the run's first part, and time of the last of these events, in seconds.
    started_s: Option<f64>,
    end_s: f64,
    /// Time of the last event of all.
    last_s: f64,
}

impl Complete {
    fn read(path: &Path, round: u32) -> Result<Self> {
        let mut events = BufReader::new(Dir::open(path)?.open_file(EVENTS, u64::MAX)?);
        let (mut complete, mut line) = (Self::default(), Vec::new());
        let mut over = false;
        loop {
            let count = read_line(&mut events, &mut line, MAX_LINE)
                .with_context(|| format!("read {}", path.join(EVENTS).display()))?;
            // A line without an end was cut off, and so was what would have followed.
            if count == 0 || line.last() != Some(&b'\n') {
                return Ok(complete);
            }
            let Ok(record) = serde_json::from_slice::<Record>(&line) else {
                return Ok(complete);
            };
            complete.last_s = record.time_ms as f64 / 1e3;
            over |= matches!(record.event, Event::PhaseEntered { round: of, phase }
                if of > round || phase == RoundPhase::Finished);
            if !over {
                complete.bytes += count as u64;
                complete.take_in(record);
            }
        }
    }

    fn take_in(&mut self, record: Record) {
        self.end_s = self.last_s;
        match record.event {
            Event::RunStarted { .. } => _ = self.started_s.get_or_insert(self.end_s),
            Event::RoundFinished { record } => _ = self.rounds.insert(record.round),
            Event::ClientLost {
                client,
                reason,
                comes_back: false,
            } => _ = self.lost.insert(client, reason),
            Event::ClientLost { client, .. }
            | Event::ClientJoined { client, .. }
            | Event::ClientExpected { client } => {
                self.lost.remove(&client);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    const ROUNDS: &str = "round,x\n0,a\n1,\"b,\nc\"\n2,d\n3,half";

    #[test]
    fn rows_of_later_rounds_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("t.csv"), ROUNDS).unwrap();
        let rows = |round| complete_rows(dir.path(), "t.csv", round).unwrap();
        assert_eq!(rows(1), "round,x\n0,a\n1,\"b,\nc\"\n");
        assert_eq!(rows(2), "round,x\n0,a\n1,\"b,\nc\"\n2,d\n");
        assert_eq!(rows(3), rows(2), "half a row is none");
    }

    #[test]
    fn events_end_with_the_round_and_tell_who_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let line = |event: &str| format!("{{\"time_ms\":1,\"at\":\"\",{event}}}\n");
        let phase = |round: u32| {
            line(&format!(
                "\"event\":\"phase_entered\",\"round\":{round},\"phase\":\"training\""
            ))
        };
        let lost = |client: u32| {
            line(&format!(
                "\"event\":\"client_lost\",\"client\":{client},\"reason\":\"r\""
            ))
        };
        let back = line("\"event\":\"client_expected\",\"client\":1");
        let reboots =
            line("\"event\":\"client_lost\",\"client\":5,\"reason\":\"r\",\"comes_back\":true");
        let complete = [phase(1), lost(1), lost(2), back, lost(3), reboots].concat();
        let all = format!("{complete}{}{}{{\"time_ms\":", phase(2), lost(4));
        fs::write(dir.path().join("events.jsonl"), all).unwrap();
        let events = Complete::read(dir.path(), 1).unwrap();
        assert_eq!(events.bytes, complete.len() as u64);
        assert_eq!(events.lost.into_keys().collect::<Vec<_>>(), [2, 3]);
    }

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
        let events = Complete::read(dir.path(), 1).unwrap();
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
