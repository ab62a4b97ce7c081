//! Keeping up with a run, and telling those who watch what is new.

use crate::serve::MAX_STREAMS;
use anyhow::{Context, Result};
use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, SystemTime};
use tokio::sync::{Semaphore, broadcast};
use zfl_run_dir::fold::{Changes, Device, Fault, RoundRow};
use zfl_run_dir::{Fold, Meta, Tail, is_under_way};

/// Interval between two reads of the file, and so between two messages to a page.
const INTERVAL: Duration = Duration::from_millis(250);

/// Interval between messages about a run without events: its clock goes on.
const AT_LEAST: u32 = 4;

/// Messages that a slow page may fall behind before it has to load everything anew.
const BACKLOG: usize = 256;

/// A recorded run without an end, whose events are as old as this and whose process is not to be seen,
/// is taken to be broken off. The devices of a round that goes on are asked for their progress far more
/// often, but the process may be in a container.
const BROKEN_OFF: Duration = Duration::from_secs(60);

/// Messages to the pages that follow a run.
#[derive(Clone, Debug)]
pub enum News {
    /// Something is new.
    Message(Message),
    /// Everything is: the run goes on from an earlier round.
    Anew,
}

/// One server-sent event.
#[derive(Clone, Debug)]
pub struct Message {
    /// `run`, `rounds`, `devices` or `faults`.
    pub event: &'static str,
    /// JSON: an object for `run`, arrays of what is new or changed for the others.
    pub data: Arc<str>,
}

/// State shared by the endpoints and the thread that follows the files.
#[derive(Debug)]
pub struct Shared {
    run_dir: PathBuf,
    /// True if this process makes the run, so that the run lives as long as the page.
    live: bool,
    inner: Mutex<Inner>,
    news: broadcast::Sender<News>,
    pub streams: Arc<Semaphore>,
    following: AtomicBool,
}

#[derive(Debug)]
struct Inner {
    fold: Fold,
    tail: Tail,
}

impl Shared {
    pub fn new(meta: Meta, run_dir: &Path, live: bool) -> Self {
        let mut fold = Fold::new(meta);
        // Of a run that is being written there is nothing to tell.
        if !live {
            fold.set_damage(zfl_run_dir::damage(run_dir));
        }
        Self {
            run_dir: run_dir.to_owned(),
            live,
            inner: Mutex::new(Inner {
                fold,
                tail: Tail::new(run_dir),
            }),
            news: broadcast::Sender::new(BACKLOG),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            following: AtomicBool::new(false),
        }
    }

    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// True if this process makes the run.
    pub fn is_live(&self) -> bool {
        self.live
    }

    pub fn subscribe(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// Reads on; returns how many events were new.
    ///
    /// # Errors
    /// If the file cannot be read. One that is not there yet is none for a run of this process.
    pub fn catch_up(&self) -> io::Result<usize> {
        let mut inner = self.lock();
        if inner.tail.is_replaced() {
            *inner = Inner {
                fold: Fold::new(inner.fold.meta().clone()),
                tail: Tail::new(&self.run_dir),
            };
            // Whoever left since does not miss it.
            let _ = self.news.send(News::Anew);
        }
        let Inner { fold, tail } = &mut *inner;
        let events = match tail.poll(|record| fold.apply(record)) {
            Err(error) if self.live && error.kind() == io::ErrorKind::NotFound => Ok(0),
            read => read,
        };
        fold.set_unreadable(tail.unreadable());
        let open = !self.live && !fold.is_over();
        let left = || age(tail) > BROKEN_OFF && !is_under_way(&self.run_dir);
        fold.set_interrupted(open && left());
        events
    }

    /// Looks at the fold; `now_ms` is the run's clock.
    pub fn look<T>(&self, read: impl FnOnce(&Fold, u64) -> T) -> T {
        let inner = self.lock();
        read(&inner.fold, now_ms(&inner))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while an event was taken in leaves a fold that may lack it, and nothing worse.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who watch what has changed, and `anyway` how the run stands.
    fn publish(&self, anyway: bool) {
        let messages = {
            let mut inner = self.lock();
            let changes = inner.fold.take_changes();
            if self.news.receiver_count() == 0 {
                return;
            }
            messages(&inner.fold, now_ms(&inner), &changes, anyway)
        };
        for message in messages {
            // Whoever left since does not miss it.
            let _ = self.news.send(News::Message(message));
        }
    }
}

fn age(tail: &Tail) -> Duration {
    tail.modified()
        .and_then(|at| SystemTime::now().duration_since(at).ok())
        .unwrap_or_default()
}

fn now_ms(inner: &Inner) -> u64 {
    let since = u64::try_from(age(&inner.tail).as_millis()).unwrap_or(u64::MAX);
    inner.fold.time_ms().saturating_add(since)
}

fn messages(fold: &Fold, now_ms: u64, changes: &Changes, anyway: bool) -> Vec<Message> {
    let mut messages = Vec::new();
    if changes.run || anyway {
        messages.extend(message("run", &fold.run(now_ms)));
    }
    let rounds: Vec<&RoundRow> = changes
        .rounds
        .iter()
        .filter_map(|&round| fold.round(round))
        .collect();
    let devices: Vec<&Device> = changes
        .devices
        .iter()
        .filter_map(|&client| fold.device(client))
        .collect();
    let faults: Vec<&Fault> = changes
        .faults
        .iter()
        .filter_map(|&number| fold.fault(number))
        .collect();
    if !rounds.is_empty() {
        messages.extend(message("rounds", &rounds));
    }
    if !devices.is_empty() {
        messages.extend(message("devices", &devices));
    }
    if !faults.is_empty() {
        messages.extend(message("faults", &faults));
    }
    messages
}

fn message(event: &'static str, data: &impl Serialize) -> Option<Message> {
    let data = serde_json::to_string(data).ok()?.into();
    Some(Message { event, data })
}

/// Starts the thread, once.
pub fn spawn(shared: &Arc<Shared>) -> Result<()> {
    if shared.following.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let weak = Arc::downgrade(shared);
    let thread = thread::Builder::new()
        .name("dashboard".into())
        .spawn(move || keep_up(&weak));
    thread
        .map(drop)
        .context("start the thread of the dashboard")
}

fn keep_up(shared: &Weak<Shared>) {
    for tick in 0u32.. {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        // A file that cannot be read now is tried again; the run itself reports a disk that fails.
        let _ = shared.catch_up();
        shared.publish(tick % AT_LEAST == 0);
        drop(shared);
        thread::sleep(INTERVAL);
    }
}
