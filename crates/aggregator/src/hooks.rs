//! Hooks between the rounds and the owner of the fleet.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use zfl_run_dir::{ClientRecord, HostCost};

/// Told before each round what will be wrong with devices in it.
pub trait RoundHooks: Send + Sync {
    /// The faults of a round, `elapsed_s` seconds into the run.
    fn before_round(&self, round: u32, elapsed_s: f64) -> BoxFuture<'_, RoundFaults>;

    /// Called between the choice of the cohort and the first `/start`, which waits for it.
    fn before_start<'a>(&'a self, _round: u32, _cohort: &'a [u32]) -> BoxFuture<'a, ()> {
        std::future::ready(()).boxed()
    }

    /// Measures the cost to the host of a client whose update has come; of the update's record the bytes and
    /// the time are not known yet. It must be quick: the client waits.
    fn seen(&self, _update: &ClientRecord) -> Option<HostCost> {
        None
    }
}

/// Devices that will not take part, as told before a round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoundFaults {
    /// Clients that cannot be reached in this round: they are not chosen.
    pub away: BTreeSet<u32>,
    /// Clients that will fail in it: they are chosen, and no update of theirs counts.
    pub will_fail: BTreeSet<u32>,
    /// Clients whose update is damaged on the way: one bit of it is turned before it is read.
    pub corrupt: BTreeSet<u32>,
    /// Longest time for which others are held up in the middle of it: it ends so much later.
    pub held_up: Duration,
}
