//! Going on with a run that was broken off: what its directory still tells, and what of it to forget.
//!
//! A round is complete once its model is in place, which is written last. Rows and events of a round
//! that is not complete are taken away, since it is run anew.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fl_nn::Network;

use crate::event::{ClientRecord, Event, Phase, Record, RoundRecord};
use crate::run_dir::{RunDir, at};

/// Where a run was broken off.
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
    /// Time of the run at the end of that round, in seconds.
    pub elapsed_s: f64,
}

impl RunDir {
    /// Finds out where the run in a directory was broken off. Nothing is changed.
    ///
    /// # Errors
    /// If it is no run directory, no round is complete, or a file is not as zfl writes it.
    pub fn broken_off(path: &Path, network: &Network) -> Result<Resumed> {
        let model = path.join(Self::MODEL);
        ensure!(
            model.is_file(),
            "{} holds no complete round to go on from: run it anew",
            path.display()
        );
        let (params, round) = Self::read_model(&model, network)?;
        let rows = complete_rows(path, "rounds.csv", round)?;
        let table: Vec<RoundRecord> = parse(path, "rounds.csv", &rows)?;
        ensure!(
            table.last().is_some_and(|last| last.round == round),
            "{}: the model is that of round {round}, which rounds.csv does not have",
            path.display()
        );
        let elapsed_s = table.last().map_or(0.0, |last| last.elapsed_s);
        let rows = complete_rows(path, "clients.csv", round)?;
        let failures = failures(path, &rows)?;
        let (_, lost) = complete_events(path, round)?;
        Ok(Resumed {
            round,
            params,
            table,
            failures,
            lost,
            elapsed_s,
        })
    }

    /// Opens the directory of a run to go on after `round`: what is there of later rounds is removed.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn resume(path: &Path, round: u32) -> Result<Self> {
        for name in ["rounds.csv", "clients.csv", "traffic.csv"] {
            let text = complete_rows(path, name, round)?;
            replace(path, name, text.as_bytes())?;
        }
        let (events_bytes, _) = complete_events(path, round)?;
        let events = File::options().write(true).open(path.join("events.jsonl"));
        let cut = events.and_then(|events| events.set_len(events_bytes));
        cut.with_context(|| at(path, "events.jsonl"))?;
        Self::reopen(path)
    }
}

fn replace(path: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let new = path.join(format!(".{name}.new"));
    let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, path.join(name)));
    written.with_context(|| at(path, name))
}

/// The head and the whole rows of a table that belong to rounds up to `round`.
fn complete_rows(path: &Path, name: &str, round: u32) -> Result<String> {
    let file = path.join(name);
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
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

/// Bytes of the events up to the end of `round`, and who was gone by then.
fn complete_events(path: &Path, round: u32) -> Result<(u64, BTreeMap<u32, String>)> {
    let file = path.join("events.jsonl");
    let events = File::open(&file).with_context(|| format!("read {}", file.display()))?;
    let mut events = BufReader::new(events);
    let (mut bytes, mut lost, mut line) = (0, BTreeMap::new(), Vec::new());
    loop {
        line.clear();
        let count = events.read_until(b'\n', &mut line)?;
        // A line without an end was cut off, and so was what would have followed.
        if count == 0 || line.last() != Some(&b'\n') {
            break;
        }
        let Ok(record) = serde_json::from_slice::<Record>(&line) else {
            break;
        };
        match record.event {
            Event::PhaseEntered { round: of, phase } if of > round || phase == Phase::Finished => {
                break;
            }
            Event::ClientLost { client, reason } => _ = lost.insert(client, reason),
            Event::ClientJoined { client, .. } | Event::ClientExpected { client } => {
                lost.remove(&client);
            }
            _ => {}
        }
        bytes += count as u64;
    }
    Ok((bytes, lost))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let complete = [phase(1), lost(1), lost(2), back, lost(3)].concat();
        let all = format!("{complete}{}{}{{\"time_ms\":", phase(2), lost(4));
        fs::write(dir.path().join("events.jsonl"), all).unwrap();
        let (bytes, gone) = complete_events(dir.path(), 1).unwrap();
        assert_eq!(bytes, complete.len() as u64);
        assert_eq!(gone.into_keys().collect::<Vec<_>>(), [2, 3]);
    }
}
