//! The run's events: to subscribers, and line by line to `events.jsonl`.

use std::fs::File;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::broadcast;
use zfl_run_dir::{Event, EventLog, Record};

/// Events that a slow subscriber may fall behind before it loses the oldest.
const BACKLOG: usize = 8192;

/// Tells what happens.
#[derive(Debug)]
pub struct Log {
    subscribers: broadcast::Sender<Record>,
    file: Mutex<EventLog>,
}

impl Log {
    /// A log into `file`, its clock at `elapsed_before`.
    pub fn new(file: File, elapsed_before: Duration) -> Self {
        Self {
            subscribers: broadcast::Sender::new(BACKLOG),
            file: Mutex::new(EventLog::new(file, elapsed_before)),
        }
    }

    /// Everything that happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Record> {
        self.subscribers.subscribe()
    }

    /// Seconds since the start of the run.
    pub fn elapsed_s(&self) -> f64 {
        lock(&self.file).elapsed().as_secs_f64()
    }

    /// Writes one event down, then tells subscribers of it.
    pub fn emit(&self, event: Event) {
        // Held until they are told, so that they hear in the order of the file.
        let mut file = lock(&self.file);
        let record = file.append(event);
        // No subscriber is no error.
        let _ = self.subscribers.send(record);
    }

    /// The first error of a write to the file, if one failed.
    pub fn failure(&self) -> Option<String> {
        lock(&self.file).failure().map(str::to_owned)
    }
}

/// Locks, also after a panic elsewhere: every critical section here leaves its data whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
