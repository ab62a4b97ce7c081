//! `--json`: the events of a run on standard output, for programs.

use crate::output;
use crate::stdin_lines::StdinLines;
use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;
use zfl_files::Dir;
use zfl_run_dir::{EVENTS, MAX_FACTS, RunSummary};

/// Interval at which the file is read on.
const INTERVAL: Duration = Duration::from_millis(100);

/// Copies the lines of `events.jsonl` until the run ends, which standard input tells, and then the
/// summary. Returns the exit status.
///
/// # Errors
/// If a file cannot be read.
pub fn follow(run: &Path) -> Result<u8> {
    // Ctrl-C is for the run, the end of which is still to be told.
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]).thread_block()?;
    let lines = StdinLines::read()?;
    let mut copy = Copy::default();
    let told = loop {
        // In this order: what was written before the end is there after it.
        let ended = lines.ended_within(INTERVAL);
        match copy.on(run, io::stdout()) {
            Ok(()) if ended => break summary(run, io::stdout()),
            Ok(()) => {}
            Err(error) => break Err(error),
        }
    };
    output::asked_for(told)
        .map(|()| 0)
        .context("the events of the run")
}

/// A file being copied, line by whole line.
#[derive(Default)]
struct Copy {
    file: Option<File>,
    pending: Vec<u8>,
}

impl Copy {
    /// Copies the lines that are new.
    fn on(&mut self, run: &Path, mut to: impl Write) -> io::Result<()> {
        if self.file.is_none() {
            self.file = match Dir::open(run).and_then(|dir| dir.open_file(EVENTS, u64::MAX)) {
                Err(error) if error.is_missing() => return Ok(()),
                file => Some(file?),
            };
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let mut piece = [0; 64 << 10];
        loop {
            let read = file.read(&mut piece)?;
            if read == 0 {
                return to.flush();
            }
            self.pending.extend_from_slice(&piece[..read]);
            if let Some(end) = self.pending.iter().rposition(|&byte| byte == b'\n') {
                to.write_all(&self.pending[..=end])?;
                self.pending.drain(..=end);
            }
        }
    }
}

/// Prints `summary.json` as an event, if the run came to one.
fn summary(run: &Path, mut to: impl Write) -> io::Result<()> {
    let text = match Dir::open(run).and_then(|dir| dir.read(RunSummary::FILE, MAX_FACTS)) {
        Err(error) if error.is_missing() => return Ok(()),
        text => text?,
    };
    let mut event = Map::from_iter([("event".to_owned(), Value::from("summary"))]);
    event.extend(serde_json::from_slice::<Map<String, Value>>(&text)?);
    writeln!(to, "{}", Value::from(event))?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_are_copied_and_the_summary_is_an_event() {
        let run = tempfile::tempdir().unwrap();
        let (mut copy, mut out) = (Copy::default(), Vec::new());
        copy.on(run.path(), &mut out).unwrap();
        assert!(out.is_empty(), "there is no file yet");
        let mut file = File::create(run.path().join("events.jsonl")).unwrap();
        write!(file, "{{\"a\":1}}\n{{\"b\"").unwrap();
        copy.on(run.path(), &mut out).unwrap();
        assert_eq!(out, b"{\"a\":1}\n");
        writeln!(file, ":2}}").unwrap();
        copy.on(run.path(), &mut out).unwrap();
        summary(run.path(), &mut out).unwrap();
        assert_eq!(out, b"{\"a\":1}\n{\"b\":2}\n", "there is no summary yet");
        out.clear();
        std::fs::write(run.path().join("summary.json"), r#"{"rounds":3}"#).unwrap();
        summary(run.path(), &mut out).unwrap();
        let event: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(event, serde_json::json!({"event": "summary", "rounds": 3}));
    }
}
