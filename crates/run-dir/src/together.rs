//! Pieces of work that wait for the disk, side by side: it brings many files to safety in the time of one.

use std::panic::resume_unwind;
use std::thread::{Builder, Scope, ScopedJoinHandle};

/// A piece of work that is under way, or done.
pub(crate) enum Pending<'scope, T> {
    Running(ScopedJoinHandle<'scope, T>),
    Done(T),
}

/// Begins a piece of work on a thread of its own; does it here if there can be none.
pub(crate) fn begin<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Copy + Send + 'scope,
) -> Pending<'scope, T> {
    match Builder::new().spawn_scoped(scope, work) {
        Ok(running) => Pending::Running(running),
        Err(_) => Pending::Done(work()),
    }
}

impl<T> Pending<'_, T> {
    /// Waits for its end.
    pub fn end(self) -> T {
        match self {
            Self::Running(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Self::Done(done) => done,
        }
    }
}
