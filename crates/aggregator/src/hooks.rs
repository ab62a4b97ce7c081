//! Hooks between the rounds and the owner of the fleet.

use std::collections::{BTreeMap, BTreeSet};
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
    /// the time are not known yet; it is of so many optimiser steps. It must be quick: the client waits.
    fn seen(&self, _update: &ClientRecord, _steps: u32) -> Option<HostCost> {
        None
    }

    /// Calculates what a round took the device of an update that has come, after so many optimiser steps:
    /// from counted instructions and its link, or estimates of them, so that every run has the same.
    fn calculated(&self, _update: &ClientRecord, _steps: u32) -> Option<Calculated> {
        None
    }
}

/// Time and energy of a round on a device, which no clock has measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Calculated {
    /// Computing, and the link.
    pub took: Duration,
    /// Energy, in joules, if there is a model of it.
    pub energy_j: Option<f64>,
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
    /// Times for which they are held up.
    pub held_up_by_client: BTreeMap<u32, Duration>,
}
