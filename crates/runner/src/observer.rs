//! The observer of a run: whoever is told what happens.

use crate::session::Interrupt;
use anyhow::Result;
use std::path::Path;
use std::sync::Arc;
use zfl_run_dir::{Event, RunSummary};

/// A run that is about to begin.
#[derive(Clone, Copy, Debug)]
pub struct Begin<'a> {
    /// The run directory; it exists, and holds no event of this run yet.
    pub run_dir: &'a Path,
    /// Lines for people: the devices, the rounds, the network.
    pub introduction: &'a str,
}

/// A follower of a run. Every method may be left out.
///
/// All but [`Observer::on_begin`] are called from the run's own threads, and should return soon.
pub trait Observer: Send + Sync {
    /// The run begins: no thread and no process of it exists yet.
    ///
    /// # Errors
    /// An error ends the run before it has begun.
    fn on_begin(&self, _begin: Begin<'_>) -> Result<()> {
        Ok(())
    }

    /// The devices begin to boot.
    fn on_booting(&self) {}

    /// One more device runs.
    fn on_running(&self, _client: u32) {}

    /// An event of the record, in its order.
    fn on_event(&self, _event: &Event) {}

    /// A line for people.
    fn on_note(&self, _line: &str) {}

    /// A warning for people. What a device wrote may be part of it.
    fn on_warning(&self, _line: &str) {}

    /// A second signal asks for the end at once. See [`Runner::end_on_signals`](crate::Runner::end_on_signals).
    fn on_second_signal(&self, _signal: Interrupt) {}

    /// The run is over.
    fn on_end(&self, _summary: &RunSummary) {}
}

/// Nobody looks.
impl Observer for () {}

impl<O: Observer + ?Sized> Observer for Arc<O> {
    fn on_begin(&self, begin: Begin<'_>) -> Result<()> {
        (**self).on_begin(begin)
    }

    fn on_booting(&self) {
        (**self).on_booting();
    }

    fn on_running(&self, client: u32) {
        (**self).on_running(client);
    }

    fn on_event(&self, event: &Event) {
        (**self).on_event(event);
    }

    fn on_note(&self, line: &str) {
        (**self).on_note(line);
    }

    fn on_warning(&self, line: &str) {
        (**self).on_warning(line);
    }

    fn on_second_signal(&self, signal: Interrupt) {
        (**self).on_second_signal(signal);
    }

    fn on_end(&self, summary: &RunSummary) {
        (**self).on_end(summary);
    }
}
