//! Native devices on a pool of workers: as many threads as the host has processors, whatever the fleet.
//!
//! A device runs while it has something to do: a stream moved, a time came, or there is work to train. Between
//! two pieces of training a worker serves the devices whose streams moved, so that nobody waits for an answer
//! as long as a training takes; and it changes from one training to the next, so that all make progress.
//!
//! # Invariants
//! - No model depends on the number of workers, nor on which of them runs a device when.
//! - A device has no thread and no descriptor. One that panics ends alone.
//! - A lock of a device is held for moments, and never while a device runs or a stream is touched.

mod examples;
mod port;
mod queue;
mod slot;
mod worker;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Weak};
use std::thread::{Builder, JoinHandle};

use tokio::sync::{mpsc, oneshot};
use zfl_clock::Instant;
use zfl_pipe::{Callee, Line, Lines};

use self::examples::ListedExamples;
pub use self::examples::SharedExamples;
use self::queue::Queue;
use self::slot::{Order, Slot};
use crate::event::{Booted, Death, FleetEvent};
use crate::log::{DeviceLog, LogFolder, lock};
use crate::spec::DeviceSpec;
use crate::storage::RestingStorage;

/// Stack of a worker.
const STACK_BYTES: usize = 2 << 20;

/// Devices up to which each has a log, whether it did anything but join or not.
const LOGGED: usize = 4096;

/// The pool of a fleet. [`Pool::stop`] ends its workers and waits.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// State that the workers share.
#[derive(Debug)]
struct Shared {
    slots: Vec<Slot>,
    /// Place of each client's slot.
    places: BTreeMap<u32, u32>,
    queue: Queue,
    lines: Lines,
    started: Instant,
    /// Examples of the devices that need not fetch theirs.
    examples: Option<Arc<ListedExamples>>,
    events: mpsc::UnboundedSender<FleetEvent>,
}

impl Pool {
    /// Workers for these devices, none of which runs yet.
    pub(crate) fn start(
        specs: Vec<DeviceSpec>,
        (lines, examples): (Lines, Option<SharedExamples>),
        threads: usize,
        logs: Arc<LogFolder>,
        storage: impl Fn(u32) -> Option<RestingStorage>,
        events: mpsc::UnboundedSender<FleetEvent>,
    ) -> io::Result<Self> {
        let places = (0..)
            .zip(&specs)
            .map(|(at, spec)| (spec.client, at))
            .collect();
        let slot = |spec: DeviceSpec| {
            let log = DeviceLog::in_folder(Arc::clone(&logs), spec.client);
            Slot::new(&spec, log, storage(spec.client))
        };
        // Collected, they would stay in the memory of the specs, which is twice as much.
        let mut slots = Vec::with_capacity(specs.len());
        slots.extend(specs.into_iter().map(slot));
        let shared = Arc::new(Shared {
            slots,
            places,
            queue: Queue::default(),
            lines,
            started: Instant::now(),
            examples: examples.map(ListedExamples::new).map(Arc::new),
            events,
        });
        let callee: Weak<Shared> = Arc::downgrade(&shared);
        shared.lines.serve_by(callee);
        let mut pool = Self {
            shared,
            workers: Vec::new(),
        };
        for number in 0..threads.max(1) {
            let shared = Arc::clone(&pool.shared);
            let builder = Builder::new().name(format!("devices {number}"));
            let worker = builder.stack_size(STACK_BYTES);
            pool.workers.push(worker.spawn(move || shared.work())?);
        }
        Ok(pool)
    }

    /// Devices of the pool.
    pub(crate) fn clients(&self) -> impl Iterator<Item = u32> {
        self.shared.places.keys().copied()
    }

    pub(crate) fn has(&self, client: u32) -> bool {
        self.shared.places.contains_key(&client)
    }

    /// Starts a device; `None` if it runs, or there is none.
    pub(crate) fn boot(&self, client: u32) -> Option<Booted> {
        let (at, slot) = self.shared.slot(client)?;
        if !slot.boot() {
            return None;
        }
        self.shared.queue.start(at);
        Some(Booted {
            client,
            boot_ms: 0,
            attempts: 1,
        })
    }

    /// Ends a device as a crash would, in the middle of whatever it does, and waits until it is gone.
    pub(crate) async fn kill(&self, client: u32) {
        let Some((_, slot)) = self.shared.slot(client) else {
            return;
        };
        let (gone, ended) = oneshot::channel();
        let ran = slot.kill(gone);
        self.shared.settled(slot);
        if ran {
            // A worker always answers.
            let _ = ended.await;
            self.shared.stopped(slot, DeviceLog::save);
        }
    }

    /// Makes a device stand still before its next step; its streams stay open.
    pub(crate) fn freeze(&self, client: u32) {
        if let Some((_, slot)) = self.shared.slot(client) {
            slot.set(Order::Stand);
        }
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self, client: u32) {
        if let Some((at, slot)) = self.shared.slot(client) {
            slot.set(Order::Go);
            self.shared.stir_at(at);
        }
    }

    /// Ends every device, and waits until all are gone. It blocks.
    pub(crate) fn stop(mut self) {
        self.shared.queue.end();
        for worker in self.workers.drain(..) {
            // A panic of a device was caught and told.
            let _ = worker.join();
        }
        let save = match self.shared.is_large() {
            false => DeviceLog::save,
            true => DeviceLog::save_if_trained,
        };
        for slot in &self.shared.slots {
            if slot.end() {
                self.shared.stopped(slot, save);
            } else {
                save(&mut lock(&slot.home.log));
                self.shared.check_log(slot);
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.queue.end();
    }
}

impl Shared {
    fn slot(&self, client: u32) -> Option<(u32, &Slot)> {
        let at = *self.places.get(&client)?;
        Some((at, self.slots.get(at as usize)?))
    }

    /// True if there are too many devices for a log of each.
    fn is_large(&self) -> bool {
        self.slots.len() > LOGGED
    }

    /// The set that a device has its examples in.
    fn examples_of(&self, slot: &Slot) -> Option<Arc<ListedExamples>> {
        let examples = self.examples.as_ref();
        examples.filter(|all| all.has(slot.home.client)).cloned()
    }

    fn stir_at(&self, at: u32) {
        if self.slots[at as usize].stir() {
            self.queue.push(at);
        }
    }

    fn emit(&self, event: FleetEvent) {
        // A caller that dropped its end does not want to know.
        let _ = self.events.send(event);
    }

    fn stopped(&self, slot: &Slot, save: fn(&mut DeviceLog)) {
        let mut log = lock(&slot.home.log);
        log.note("killed on demand");
        save(&mut log);
        drop(log);
        self.check_log(slot);
        self.emit(FleetEvent::Stopped {
            client: slot.home.client,
        });
    }

    fn died(&self, slot: &Slot, reason: String) {
        let mut log = lock(&slot.home.log);
        let reason = log.shown(&reason).into_owned();
        log.note(&reason);
        log.save();
        let death = Death {
            client: slot.home.client,
            reason,
            last_lines: log.last_lines(),
        };
        drop(log);
        self.emit(FleetEvent::Died(death));
    }

    fn check_log(&self, slot: &Slot) {
        if let Some(error) = lock(&slot.home.log).take_error() {
            self.emit(FleetEvent::LogLost {
                client: slot.home.client,
                error: error.to_string(),
            });
        }
    }
}

impl Callee for Shared {
    fn take(&self, device: u32, line: Line) -> bool {
        let Some((at, slot)) = self.slot(device) else {
            return false;
        };
        let taken = slot.runs() && slot.home.called(line);
        if taken {
            self.stir_at(at);
        }
        taken
    }

    fn stir(&self, device: u32) {
        if let Some((at, _)) = self.slot(device) {
            self.stir_at(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::DeviceBody;
    use zfl_files::Dir;

    #[tokio::test]
    async fn the_log_of_a_killed_device_says_so_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let logs = LogFolder {
            dir: Dir::open(folder.path()).unwrap(),
            started: Instant::now(),
            resumed: None,
        };
        let specs = vec![DeviceSpec::new(3, DeviceBody::Pooled)];
        let (_door, lines) = zfl_pipe::exchange();
        let (events, mut told) = mpsc::unbounded_channel();
        let pool = Pool::start(specs, (lines, None), 1, logs.into(), |_| None, events).unwrap();
        pool.boot(3).unwrap();
        pool.kill(3).await;
        // Before anything else happens in the run: whoever looks after the death reads why.
        let text = std::fs::read_to_string(folder.path().join("3.log")).unwrap();
        assert!(text.ends_with("] -- killed on demand\n"), "{text}");
        let mut last = None;
        while let Ok(event) = told.try_recv() {
            last = Some(event);
        }
        assert!(matches!(last, Some(FleetEvent::Stopped { client: 3 })));
        pool.stop();
    }
}
