//! The run's events: to subscribers, and line by line to `events.jsonl`.

use std::fs::File;
use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::broadcast;

use crate::event::{Event, Record};

/// Events that a slow subscriber may fall behind before it loses the oldest.
const BACKLOG: usize = 8192;

/// Tells what happens.
#[derive(Debug)]
pub struct Log {
    started: Instant,
    elapsed_before: Duration,
    subscribers: broadcast::Sender<Record>,
    file: Mutex<File>,
    failure: Mutex<Option<String>>,
}

impl Log {
    /// A log into `file`, its clock at `elapsed_before`.
    pub fn new(file: File, elapsed_before: Duration) -> Self {
        Self {
            started: Instant::now(),
            elapsed_before,
            subscribers: broadcast::Sender::new(BACKLOG),
            file: Mutex::new(file),
            failure: Mutex::new(None),
        }
    }

    /// Everything that happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Record> {
        self.subscribers.subscribe()
    }

    /// Seconds since the start of the run.
    pub fn elapsed_s(&self) -> f64 {
        self.elapsed().as_secs_f64()
    }

    fn elapsed(&self) -> Duration {
        self.elapsed_before + self.started.elapsed()
    }

    /// Tells one thing.
    pub fn emit(&self, event: Event) {
        // Held from the look at the clock on, so that the times in the file never go back.
        let mut file = lock(&self.file);
        let record = Record {
            time_ms: self.elapsed().as_millis() as u64,
            at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            event,
        };
        let written = serde_json::to_vec(&record)
            .map_err(std::io::Error::from)
            .and_then(|mut line| {
                line.push(b'\n');
                file.write_all(&line)
            });
        if let Err(error) = written {
            lock(&self.failure).get_or_insert_with(|| format!("events.jsonl: {error}"));
        }
        // No subscriber is no error.
        let _ = self.subscribers.send(record);
    }

    /// Why the log could not be written, if it could not.
    pub fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }
}

/// Locks, also after a panic elsewhere: every critical section here leaves its data whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
