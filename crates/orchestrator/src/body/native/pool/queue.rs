//! The devices that have something to do, and the times at which others will.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use zfl_clock::Instant;

/// Longest sleep of a worker: the clock may have stood still meanwhile.
const LONGEST: Duration = Duration::from_secs(1);

/// Work of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// A device whose streams moved, or whose time has come.
    Stirred(u32),
    /// A device that is started, and has one of the places of those that come up until [`Queue::came_up`].
    Starting(u32),
    /// A device that trains.
    Training(u32),
}

/// Devices that come up at once: each has streams and buffers until it waits for its first round.
const STARTING: usize = 64;

/// Queue of devices, by the places of their slots.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stirred: VecDeque<u32>,
    training: VecDeque<u32>,
    /// Devices to be started, and places of those that come up taken.
    started: VecDeque<u32>,
    coming_up: usize,
    timers: BTreeSet<(Instant, u32)>,
    /// Workers that sleep.
    asleep: usize,
    is_over: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a device that was stirred.
    pub(super) fn push(&self, at: u32) {
        let mut state = self.lock();
        state.stirred.push_back(at);
        self.wake(state);
    }

    /// Adds a device to be started.
    pub(super) fn start(&self, at: u32) {
        let mut state = self.lock();
        state.started.push_back(at);
        self.wake(state);
    }

    /// Gives the place of one that has come up back.
    pub(super) fn came_up(&self) {
        let mut state = self.lock();
        state.coming_up -= 1;
        self.wake(state);
    }

    /// Adds a device that goes on training when others have had their turn.
    pub(super) fn push_training(&self, at: u32) {
        let mut state = self.lock();
        state.training.push_back(at);
        self.wake(state);
    }

    fn wake(&self, state: MutexGuard<'_, State>) {
        let sleeps = state.asleep > 0;
        drop(state);
        if sleeps {
            self.changed.notify_one();
        }
    }

    /// Stirs a device at a time.
    pub(super) fn at(&self, time: Instant, at: u32) {
        let mut state = self.lock();
        let is_first = state.timers.first().is_none_or(|first| time < first.0);
        state.timers.insert((time, at));
        if is_first {
            self.wake(state);
        }
    }

    /// Takes a time back.
    pub(super) fn not_at(&self, time: Instant, at: u32) {
        self.lock().timers.remove(&(time, at));
    }

    /// Ends the waiting for work.
    pub(super) fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    pub(super) fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// The next device that was stirred, if there is one.
    pub(super) fn pop_stirred(&self) -> Option<u32> {
        self.lock().stirred.pop_front()
    }

    /// True if a device waits for its turn to train.
    pub(super) fn others_train(&self) -> bool {
        !self.lock().training.is_empty()
    }

    /// The next work: stirred devices first. Sleeps while there is none; `None` at the end.
    pub(super) fn next(&self) -> Option<Work> {
        let mut state = self.lock();
        loop {
            if state.is_over {
                return None;
            }
            if let Some(at) = state.stirred.pop_front() {
                return Some(Work::Stirred(at));
            }
            let now = Instant::now();
            if let Some(&(time, at)) = state.timers.first()
                && time <= now
            {
                state.timers.pop_first();
                return Some(Work::Stirred(at));
            }
            if state.coming_up < STARTING
                && let Some(at) = state.started.pop_front()
            {
                state.coming_up += 1;
                return Some(Work::Starting(at));
            }
            if let Some(at) = state.training.pop_front() {
                return Some(Work::Training(at));
            }
            let next = state.timers.first().map(|(time, _)| *time - now);
            let sleep = next.unwrap_or(LONGEST).min(LONGEST);
            state.asleep += 1;
            let woken = self.changed.wait_timeout(state, sleep);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
            state.asleep -= 1;
        }
    }
}
