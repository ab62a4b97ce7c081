//! The writer of `events.jsonl`.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

use crate::event::{Event, Record};

/// The log of a run's events, with the run's clock.
#[derive(Debug)]
pub struct EventLog {
    started: Instant,
    elapsed_before: Duration,
    file: File,
    failure: Option<String>,
}

impl EventLog {
    /// A log into `file`, its clock at `elapsed_before`.
    pub fn new(file: File, elapsed_before: Duration) -> Self {
        Self {
            started: Instant::now(),
            elapsed_before,
            file,
            failure: None,
        }
    }

    /// Time since the start of the run.
    pub fn elapsed(&self) -> Duration {
        self.elapsed_before + self.started.elapsed()
    }

    /// Writes one event with the time of now; times in the file never go back.
    ///
    /// A disk that fails does not stop the run: [`EventLog::failure`] tells of it.
    pub fn append(&mut self, event: Event) -> Record {
        let record = Record {
            time_ms: self.elapsed().as_millis() as u64,
            at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            event,
        };
        let written = serde_json::to_vec(&record)
            .map_err(std::io::Error::from)
            .and_then(|mut line| {
                line.push(b'\n');
                self.file.write_all(&line)
            });
        if let Err(error) = written {
            self.failure
                .get_or_insert_with(|| format!("events.jsonl: {error}"));
        }
        record
    }

    /// The first error of a write, if one failed.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}
