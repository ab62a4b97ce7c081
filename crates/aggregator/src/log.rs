//! The run's events: line by line to `events.jsonl`, then to subscribers, on a thread of its own.
//!
//! Whoever tells of an event does not wait for the disk, and may hold a lock. [`Log::flush`] waits until
//! all that was told is in the file.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::broadcast;
use zfl_run_dir::{Event, EventLog, Record, RunClock, Seal};

/// Events that a slow subscriber may fall behind before it loses the oldest.
const BACKLOG: usize = 8192;

/// Events that the disk may fall behind before whoever tells of one has to wait.
const UNWRITTEN: usize = 65_536;

/// Tells what happens.
#[derive(Debug)]
pub struct Log {
    clock: RunClock,
    subscribers: broadcast::Sender<Record>,
    queue: Mutex<Queue>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Queue {
    work: Option<SyncSender<Work>>,
    /// The run is over: every event is waited for.
    is_over: bool,
}

/// Work of the writer.
enum Work {
    Write(Box<Record>),
    /// Seal what is written once all before is, or say what failed.
    Flush(SyncSender<Result<Seal, String>>),
}

/// An answer of the writer that is still to come.
#[derive(Debug)]
pub struct Flushed(Option<Receiver<Result<Seal, String>>>);

impl Flushed {
    /// Waits for it; returns the seal of the file.
    ///
    /// # Errors
    /// The first error of a write, if one failed.
    pub fn wait(self) -> Result<Seal, String> {
        let answer = self.0.and_then(|answer| answer.recv().ok());
        answer.unwrap_or_else(|| Err("events.jsonl: its writer is gone".to_owned()))
    }
}

impl Log {
    /// A log into `file`, its clock at `elapsed_before`.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn new(file: EventLog, elapsed_before: Duration) -> std::io::Result<Self> {
        let (work, queue) = sync_channel(UNWRITTEN);
        let subscribers = broadcast::Sender::new(BACKLOG);
        let told = subscribers.clone();
        let write = move || write_all(file, &queue, &told);
        let writer = std::thread::Builder::new()
            .name("events".into())
            .spawn(write)?;
        Ok(Self {
            clock: RunClock::new(elapsed_before),
            subscribers,
            queue: Mutex::new(Queue {
                work: Some(work),
                is_over: false,
            }),
            writer: Some(writer),
        })
    }

    /// Everything that happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Record> {
        self.subscribers.subscribe()
    }

    /// Seconds since the start of the run.
    pub fn elapsed_s(&self) -> f64 {
        self.clock.elapsed().as_secs_f64()
    }

    /// Tells one thing. Times in the file never go back.
    pub fn emit(&self, event: Event) {
        let queue = lock(&self.queue);
        if let Some(work) = &queue.work {
            // Only a writer that panicked takes nothing; a flush says so.
            let _ = work.send(Work::Write(Box::new(self.clock.stamp(event))));
        }
        let is_over = queue.is_over;
        drop(queue);
        if is_over {
            let _ = self.flush().wait();
        }
    }

    /// Asks for word once all that was told so far is in the file and told to subscribers.
    pub fn flush(&self) -> Flushed {
        let (answer, answered) = sync_channel(1);
        let sent = match &lock(&self.queue).work {
            Some(work) => work.send(Work::Flush(answer)).is_ok(),
            None => false,
        };
        Flushed(sent.then_some(answered))
    }

    /// Makes whoever tells of an event wait until it is in the file, from now on: the process may end at
    /// any time.
    pub fn run_is_over(&self) {
        lock(&self.queue).is_over = true;
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        lock(&self.queue).work = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn write_all(mut file: EventLog, queue: &Receiver<Work>, subscribers: &broadcast::Sender<Record>) {
    for work in queue {
        match work {
            Work::Write(record) => {
                file.append(&record);
                // No subscriber is no error.
                let _ = subscribers.send(*record);
            }
            Work::Flush(answer) => {
                let failure = file.failure().map(str::to_owned);
                let _ = answer.send(failure.map_or_else(|| Ok(file.seal()), Err));
            }
        }
    }
}

/// Locks, also after a panic elsewhere: for data that every critical section leaves whole.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Seek};

    fn events(file: File) -> EventLog {
        EventLog::new(file).unwrap()
    }

    fn fleet(n: u32) -> Event {
        Event::ClientReady { client: n }
    }

    #[test]
    fn what_was_told_is_in_the_file_in_order_once_it_is_flushed() {
        let mut file = tempfile::tempfile().unwrap();
        let log = Log::new(events(file.try_clone().unwrap()), Duration::ZERO).unwrap();
        let mut told = log.subscribe();
        for n in 0..1000 {
            log.emit(fleet(n));
        }
        let seal = log.flush().wait().unwrap();
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(seal, Seal::of(text.as_bytes()));
        for (n, line) in text.lines().enumerate() {
            assert!(line.contains(&format!("\"client\":{n}}}")), "{line}");
            let record = told.try_recv().unwrap();
            assert_eq!(serde_json::to_string(&record).unwrap(), line);
        }
        assert_eq!(text.lines().count(), 1000);
    }

    #[test]
    fn a_disk_that_fails_is_told_of() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read_only = File::open(file.path()).unwrap();
        let log = Log::new(events(read_only), Duration::ZERO).unwrap();
        log.emit(fleet(0));
        let failure = log.flush().wait().unwrap_err();
        assert!(failure.starts_with("events.jsonl: "), "{failure}");
    }

    #[test]
    fn after_the_run_an_event_is_in_the_file_at_once() {
        let mut file = tempfile::tempfile().unwrap();
        let log = Log::new(events(file.try_clone().unwrap()), Duration::ZERO).unwrap();
        log.run_is_over();
        log.emit(fleet(7));
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text.lines().count(), 1);
    }
}
