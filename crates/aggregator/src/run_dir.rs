//! The run directory: everything that a run leaves behind.
//!
//! | file | written |
//! |---|---|
//! | `config.toml` | before the run starts |
//! | `events.jsonl`, `rounds.csv`, `clients.csv` | line by line, as it happens |
//! | `checkpoint.safetensors` | after each round: the global model, its round in the metadata |
//! | `model.safetensors`, `summary.json` | at the end |
//!
//! Files that are written as a whole appear as a whole: under another name first, then renamed. Every
//! failure to write is an error that names the file; none is passed over.

use crate::event::EventRecord;
use crate::record::{ClientRecord, RoundRecord, Summary};
use serde::Serialize;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Names of the files.
pub mod file {
    /// The experiment, every value resolved.
    pub const CONFIG: &str = "config.toml";
    /// One [`EventRecord`](crate::EventRecord) a line.
    pub const EVENTS: &str = "events.jsonl";
    /// One [`RoundRecord`](crate::RoundRecord) a row.
    pub const ROUNDS: &str = "rounds.csv";
    /// One [`ClientRecord`](crate::ClientRecord) a row.
    pub const CLIENTS: &str = "clients.csv";
    /// The global model after the last completed round.
    pub const CHECKPOINT: &str = "checkpoint.safetensors";
    /// The final global model.
    pub const MODEL: &str = "model.safetensors";
    /// One [`Summary`](crate::Summary).
    pub const SUMMARY: &str = "summary.json";
}

/// Why the run directory could not be used.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// There is something in it already.
    #[error(
        "the run directory {0} is not empty: give --out another one, or remove it if its results are \
         not needed"
    )]
    NotEmpty(PathBuf),
    /// The system refused.
    #[error("cannot write {path}: {source}; {advice}", advice = advice(source))]
    Io {
        /// What was to be written.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

fn advice(error: &io::Error) -> &'static str {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded => "free space there, or give --out a place that has some",
        FileTooLarge => "raise the limit on file sizes (ulimit -f)",
        _ => "give --out a directory that can be written to",
    }
}

/// An open run directory; clones write to the same one.
#[derive(Clone, Debug)]
pub struct RunDir(Arc<Open>);

#[derive(Debug)]
struct Open {
    path: PathBuf,
    events: Mutex<File>,
    rounds: Mutex<csv::Writer<File>>,
    clients: Mutex<csv::Writer<File>>,
}

impl RunDir {
    /// Makes the directory, and those above it, with empty files for events and rows.
    ///
    /// # Errors
    /// [`RunDirError`] if it has something in it, or the system refuses.
    pub fn create(path: &Path) -> Result<Self, RunDirError> {
        let io = |source| RunDirError::Io { path: path.into(), source };
        fs::create_dir_all(path).map_err(io)?;
        if fs::read_dir(path).map_err(io)?.next().is_some() {
            return Err(RunDirError::NotEmpty(path.into()));
        }
        Self::open(path)
    }

    /// Opens the files for events and rows to append to.
    fn open(path: &Path) -> Result<Self, RunDirError> {
        let append = |name: &str| {
            let path = path.join(name);
            let file = OpenOptions::new().append(true).create(true).open(&path);
            file.map_err(|source| RunDirError::Io { path, source })
        };
        let csv = |name: &str| append(name).map(csv::Writer::from_writer).map(Mutex::new);
        Ok(Self(Arc::new(Open {
            path: path.into(),
            events: Mutex::new(append(file::EVENTS)?),
            rounds: csv(file::ROUNDS)?,
            clients: csv(file::CLIENTS)?,
        })))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Writes `config.toml`. The caller's own configuration may hold more than the
    /// [`Experiment`](crate::Experiment); one that is there already is kept by
    /// [`Server::new`](crate::Server::new).
    ///
    /// # Errors
    /// [`RunDirError`] if the system refuses, or TOML cannot hold a value.
    pub fn write_config(&self, config: &impl Serialize) -> Result<(), RunDirError> {
        let path = self.0.path.join(file::CONFIG);
        let text = toml::to_string(config)
            .map_err(|error| RunDirError::Io { path, source: io::Error::other(error) })?;
        self.replace(file::CONFIG, text.as_bytes())
    }

    /// Whether there is a `config.toml`.
    pub(crate) fn has_config(&self) -> bool {
        self.0.path.join(file::CONFIG).exists()
    }

    /// Appends a line to `events.jsonl`.
    ///
    /// # Errors
    /// [`RunDirError`] if the system refuses.
    pub fn append_event(&self, record: &EventRecord) -> Result<(), RunDirError> {
        let write = || {
            let mut line = serde_json::to_vec(record)?;
            line.push(b'\n');
            self.0.events.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)
        };
        write().map_err(|source| self.error(file::EVENTS, source))
    }

    /// Appends a row to `rounds.csv`.
    ///
    /// # Errors
    /// [`RunDirError`] if the system refuses.
    pub fn append_round(&self, record: &RoundRecord) -> Result<(), RunDirError> {
        append_rows(&self.0.rounds, std::slice::from_ref(record))
            .map_err(|source| self.error(file::ROUNDS, source))
    }

    /// Appends rows to `clients.csv`.
    ///
    /// # Errors
    /// [`RunDirError`] if the system refuses.
    pub fn append_clients(&self, records: &[ClientRecord]) -> Result<(), RunDirError> {
        append_rows(&self.0.clients, records).map_err(|source| self.error(file::CLIENTS, source))
    }

    /// Writes `checkpoint.safetensors`.
    ///
    /// # Errors
    /// [`RunDirError`] if the system refuses.
    pub fn write_checkpoint(&self, bytes: &[u8]) -> Result<(), RunDirError> {
        self.replace(file::CHECKPOINT, bytes)
    }

    /// Writes `model.safetensors`.
    ///
    /// # Errors
    /// [`RunDirError`] if the system refuses.
    pub fn write_model(&self, bytes: &[u8]) -> Result<(), RunDirError> {
        self.replace(file::MODEL, bytes)
    }

    /// Writes `summary.json`, over an earlier one.
    ///
    /// # Errors
    /// [`RunDirError`] if the system refuses.
    pub fn write_summary(&self, summary: &Summary) -> Result<(), RunDirError> {
        let mut text = serde_json::to_vec_pretty(summary)
            .map_err(|error| self.error(file::SUMMARY, error.into()))?;
        text.push(b'\n');
        self.replace(file::SUMMARY, &text)
    }

    /// Puts a whole file in the place of an earlier one, or fails and leaves that as it was.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), RunDirError> {
        let temporary = self.0.path.join(format!(".{name}.new"));
        let write = || {
            let mut file = File::create(&temporary)?;
            file.write_all(bytes)?;
            // A full disk may tell only now.
            file.sync_data()?;
            fs::rename(&temporary, self.0.path.join(name))
        };
        write().map_err(|source| {
            // Nothing more can be done about a file that is in the way of nothing.
            let _ = fs::remove_file(&temporary);
            self.error(name, source)
        })
    }

    fn error(&self, name: &str, source: io::Error) -> RunDirError {
        RunDirError::Io { path: self.0.path.join(name), source }
    }
}

fn append_rows(
    writer: &Mutex<csv::Writer<File>>,
    records: &[impl Serialize],
) -> Result<(), io::Error> {
    let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
    for record in records {
        writer.serialize(record)?;
    }
    writer.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;

    fn event() -> EventRecord {
        let event = Event::ClientReady { client: 1 };
        EventRecord { seq: 0, time_ms: 0, time: String::new(), event }
    }

    #[test]
    fn a_directory_with_something_in_it_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        RunDir::create(&path).unwrap();
        let error = RunDir::create(&path).unwrap_err();
        assert!(error.to_string().contains("--out"), "{error}");
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        let error = RunDir::create(&path).unwrap_err().to_string();
        assert!(error.contains("file") && error.contains("--out"), "{error}");
    }

    #[test]
    fn a_full_disk_is_an_error_with_advice() {
        let dir = tempfile::tempdir().unwrap();
        for name in [file::EVENTS, file::ROUNDS, file::CLIENTS] {
            std::os::unix::fs::symlink("/dev/full", dir.path().join(name)).unwrap();
        }
        let run = RunDir::open(dir.path()).unwrap();
        let errors = [
            run.append_event(&event()).unwrap_err(),
            run.append_round(&RoundRecord::default()).unwrap_err(),
        ];
        for error in errors {
            let message = error.to_string();
            assert!(message.contains("No space left on device"), "{message}");
            assert!(message.contains("free space there"), "{message}");
        }
    }

    #[test]
    fn a_whole_file_is_replaced_or_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(dir.path()).unwrap();
        run.write_model(b"one").unwrap();
        run.write_model(b"two").unwrap();
        assert_eq!(fs::read(dir.path().join(file::MODEL)).unwrap(), b"two");
        std::os::unix::fs::symlink("/dev/full", dir.path().join(".model.safetensors.new")).unwrap();
        assert!(run.write_model(b"three").is_err());
        assert_eq!(fs::read(dir.path().join(file::MODEL)).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "nothing is left over");
    }
}
