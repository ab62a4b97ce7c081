//! The writer of `events.jsonl`, and the clock of its records.

use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime};

use crate::event::{Event, Record};
use crate::seal::{Seal, SealedFile};

/// Clock of a run.
#[derive(Clone, Copy, Debug)]
pub struct RunClock {
    started: Instant,
    elapsed_before: Duration,
}

impl RunClock {
    /// A clock that stands at `elapsed_before` now.
    pub fn new(elapsed_before: Duration) -> Self {
        Self {
            started: Instant::now(),
            elapsed_before,
        }
    }

    /// Time since the start of the run.
    pub fn elapsed(&self) -> Duration {
        self.elapsed_before + self.started.elapsed()
    }

    /// Record of an event with the time of now.
    pub fn stamp(&self, event: Event) -> Record {
        Record {
            time_ms: self.elapsed().as_millis() as u64,
            at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            event,
        }
    }
}

/// Log of a run's events, line by line.
#[derive(Debug)]
pub struct EventLog {
    file: SealedFile,
    failure: Option<String>,
}

impl EventLog {
    /// A log that goes on in `file`, which is open to be read and appended to.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn new(file: File) -> io::Result<Self> {
        Ok(Self {
            file: SealedFile::new(file)?,
            failure: None,
        })
    }

    /// The seal of all events so far.
    pub fn seal(&self) -> Seal {
        self.file.seal()
    }

    /// Writes one record.
    ///
    /// A disk that fails does not stop the run: [`EventLog::failure`] tells of it.
    pub fn append(&mut self, record: &Record) {
        let written = serde_json::to_vec(record)
            .map_err(std::io::Error::from)
            .and_then(|mut line| {
                line.push(b'\n');
                self.file.write_all(&line)
            });
        if let Err(error) = written {
            self.failure
                .get_or_insert_with(|| format!("events.jsonl: {error}"));
        }
    }

    /// The first error of a write, if one failed.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}
