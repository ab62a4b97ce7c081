//! Planned faults, carried out on the fleet and told to the aggregator; and what each device costs its
//! host.
//!
//! The plan says what happens to whom in which round ([`zfl_orchestrator::faults`]). What takes a
//! device out of a round is told to the aggregator before it chooses the cohort, so that the outcome
//! does not depend on who is faster; the device itself then suffers it for real.

mod edges;
mod relays;
mod remote;
mod spans;

use crate::edges::Edges;
use crate::meter::Meter;
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use relays::LostWay;
use remote::RemoteState;
use spans::{Span, Spans};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use zfl_aggregator::{Calculated, Handle, RoundFaults, RoundHooks, lock};
use zfl_experiment::Experiment;
use zfl_machine::Turns;
use zfl_orchestrator::Fleet;
use zfl_orchestrator::faults::{Fault, FaultPlan};
use zfl_run_dir::{ClientRecord, Event, FaultRecord, FleetRecord, HostCost, Record, RoundPhase};

/// A fleet, and what happens to it on purpose.
pub(crate) struct FaultRunner {
    fleet: Weak<Fleet>,
    aggregator: Handle,
    edges: Arc<Edges>,
    plan: FaultPlan,
    meter: Meter,
    state: Mutex<State>,
    spans: Spans,
}

#[derive(Default)]
struct State {
    /// Clients whose links are cut for a round.
    away: BTreeSet<u32>,
    /// Clients whose memory is taken for a round.
    starved: BTreeSet<u32>,
    /// Faults that clients of this round have yet to suffer.
    due: BTreeMap<u32, Fault>,
    /// Edges that are lost in this round as soon as a client of theirs trains; true for those that come back.
    lost_edges: BTreeMap<u32, bool>,
    /// Leaves that lose their way to the gateway in this round.
    lost_ways: BTreeMap<u32, LostWay>,
    /// Leaves that boot again when a client has, by that client.
    behind: BTreeMap<u32, Vec<u32>>,
    /// Lost edges whose devices go to others before the next round.
    given: BTreeSet<u32>,
    /// Edges that something is being done to by hand.
    edges_by_hand: BTreeSet<u32>,
    round: u32,
    /// Faults that happened, counted by kind.
    counts: BTreeMap<&'static str, u32>,
    remote: RemoteState,
}

impl FaultRunner {
    /// A runner for a fleet that serves `aggregator`, which listens there.
    pub fn new(
        fleet: Weak<Fleet>,
        aggregator: Handle,
        edges: Arc<Edges>,
        experiment: &Experiment,
        plan: FaultPlan,
    ) -> Self {
        Self {
            meter: Meter::new(experiment),
            fleet,
            aggregator,
            edges,
            plan,
            state: Mutex::default(),
            spans: Spans::new(experiment),
        }
    }

    /// Faults that happened, counted by kind.
    pub fn counts(&self) -> BTreeMap<&'static str, u32> {
        self.state().counts.clone()
    }

    /// A device runs, after so long a boot.
    pub fn booted(&self, client: u32, boot_ms: u64) {
        self.meter.booted(client, boot_ms);
    }

    /// Kills a device, and boots it again if it is to come back. The aggregator is told.
    pub async fn kill(&self, client: u32, reason: &str, reboot: bool) {
        let is_killed = self.end(client, reason, reboot).await;
        self.lose_behind(client, reboot && is_killed).await;
        if is_killed && reboot {
            self.bring_back(client).await;
        }
    }

    /// Kills a device, and tells the aggregator whether it is gone for good; false if there is no fleet.
    async fn end(&self, client: u32, reason: &str, comes_back: bool) -> bool {
        // Without a fleet the run is over, and its devices are gone with it.
        let Some(fleet) = self.fleet.upgrade() else {
            return false;
        };
        let killed = fleet.kill(client).await.is_ok();
        // This may end the round.
        match comes_back {
            _ if !killed => {}
            true => self.aggregator.client_reboots(client, reason),
            false => self.aggregator.client_lost(client, reason),
        }
        killed
    }

    /// Boots a device that the aggregator expects back, and then the leaves that wait for it.
    pub async fn bring_back(&self, client: u32) {
        self.boot(client).await;
        let behind = self.state().behind.remove(&client).unwrap_or_default();
        join_all(behind.into_iter().map(|leaf| self.boot(leaf))).await;
    }

    async fn boot(&self, client: u32) {
        if let Some(fleet) = self.fleet.upgrade() {
            // A boot that fails is told as a death.
            let _ = fleet.boot_one(client, self.edges.server_of(client)).await;
        }
    }

    /// Carries out what is planned, until the run is over.
    pub async fn perform(self: Arc<Self>, mut events: Receiver<Record>) {
        // Whatever is under way ends with this.
        let mut acts = JoinSet::new();
        loop {
            match events.recv().await.map(|record| record.event) {
                Ok(Event::ClientStarted { client, round }) => {
                    self.begin(&mut acts, round, Some(client))
                }
                Ok(Event::PhaseEntered {
                    phase: RoundPhase::Finished,
                    ..
                }) => {
                    return self.restore().await;
                }
                Ok(_) => {}
                // Who has started is not known any more: everybody who should have.
                Err(RecvError::Lagged(_)) => {
                    let round = self.state().round;
                    self.begin(&mut acts, round, None);
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Lets what is due happen to a client that has begun to train, or to all.
    fn begin(self: &Arc<Self>, acts: &mut JoinSet<()>, round: u32, client: Option<u32>) {
        let due: Vec<(u32, Fault, Option<Span>)> = {
            let mut state = self.state();
            if state.round != round {
                return;
            }
            self.begin_losses(&mut state, acts, client);
            let due: Vec<(u32, Fault)> = match client {
                Some(client) => state.due.remove_entry(&client).into_iter().collect(),
                None => std::mem::take(&mut state.due).into_iter().collect(),
            };
            // Under the lock: whoever ends the round sees all that began in it.
            let begin = |(client, fault)| (client, fault, self.spans.begin(client, fault));
            due.into_iter().map(begin).collect()
        };
        for (client, fault, span) in due {
            let runner = Arc::clone(self);
            acts.spawn(async move { runner.inflict(round, client, fault, span).await });
        }
    }

    async fn inflict(&self, round: u32, client: u32, fault: Fault, span: Option<Span>) {
        self.tell(round, client, fault);
        if let Fault::Crash { reboot } = fault {
            return self.kill(client, &reason(fault), reboot).await;
        }
        // All others have happened before the start.
        let Some(span) = span else { return };
        if let Some(fleet) = self.fleet.upgrade() {
            match fault {
                Fault::Freeze { .. } => _ = fleet.freeze(client).await,
                _ => self.complain(client, fleet.cut(client).await),
            }
        }
        let for_ms = span.for_ms;
        let number = span.has_begun();
        zfl_clock::sleep(Duration::from_millis(for_ms)).await;
        if self.spans.end(client, number) {
            self.let_go(client, fault).await;
        }
    }

    /// Lets a device go on that was frozen or cut off, unless it is held by hand.
    async fn let_go(&self, client: u32, fault: Fault) {
        let record = FleetRecord::FaultOver {
            fault: fault.name().to_owned(),
            round: None,
            hand: None,
        };
        self.aggregator.fleet_event(Some(client), record);
        let Some(fleet) = self.fleet.upgrade() else {
            return;
        };
        let (frozen, cut) = {
            let remote = &self.state().remote;
            (remote.freezes(client), remote.cuts(client))
        };
        match fault {
            Fault::Freeze { .. } if !frozen => _ = fleet.thaw(client).await,
            Fault::Cut { .. } if !cut => self.complain(client, fleet.heal(client).await),
            _ => {}
        }
    }

    /// True while a device stands still or is cut off as planned: its silence says nothing.
    pub fn holds(&self, client: u32) -> bool {
        self.spans.holds(client) || self.state().away.contains(&client)
    }

    /// Turns of a device at the processors of this machine; `None` if it is none of its processes.
    pub fn turns(&self, client: u32) -> Option<Turns> {
        self.fleet.upgrade()?.turns(client)
    }

    /// Tells if a debugger is connected to a device; `None` where none is let in.
    pub fn is_debugged(&self) -> Option<bool> {
        self.fleet.upgrade()?.is_debugged()
    }

    fn tell(&self, round: u32, client: u32, fault: Fault) {
        *self.state().counts.entry(fault.name()).or_default() += 1;
        let mut record = FaultRecord {
            fault: fault.name().to_owned(),
            round: Some(round),
            ..FaultRecord::default()
        };
        match fault {
            Fault::Crash { reboot } => record.reboot = Some(reboot),
            Fault::Freeze { for_ms } | Fault::Cut { for_ms } => record.for_ms = Some(for_ms),
            Fault::DropOut | Fault::OutOfMemory | Fault::Corrupt => {}
        }
        let record = FleetRecord::Fault(record);
        self.aggregator.fleet_event(Some(client), record);
    }

    /// A fault that could not be carried out is no secret.
    fn complain(&self, client: u32, done: Result<(), zfl_orchestrator::FleetError>) {
        if let Err(error) = done {
            let error = error.to_string();
            let record = FleetRecord::FaultFailed { error };
            self.aggregator.fleet_event(Some(client), record);
        }
    }

    /// Undoes what lasts for a round.
    async fn restore(&self) {
        let (away, starved) = {
            let mut state = self.state();
            let mut away = std::mem::take(&mut state.away);
            away.retain(|&client| !state.remote.cuts(client));
            (away, std::mem::take(&mut state.starved))
        };
        let Some(fleet) = self.fleet.upgrade() else {
            return;
        };
        for client in away {
            self.complain(client, fleet.heal(client).await);
        }
        for client in starved {
            if let Err(error) = fleet.type_line(client, "hog 0").await {
                self.complain(client, Err(error));
                // Without its memory it would miss every round from here on.
                self.kill(client, "its memory could not be given back", true)
                    .await;
            }
        }
    }

    async fn prepare(&self, round: u32, elapsed_s: f64) -> RoundFaults {
        {
            // What is due in the round before is too late from here on.
            let mut state = self.state();
            (state.round, state.due) = (round, BTreeMap::new());
            state.lost_ways.clear();
            state.lost_edges.clear();
        }
        for (client, fault) in self.spans.end_with_round().await {
            self.let_go(client, fault).await;
        }
        self.restore().await;
        self.give_away().await;
        let (lost_edges, without) = self.losses(round);
        let mut due = self.plan.round(round, elapsed_s);
        // One fault at a time: whoever loses its edge suffers nothing else.
        due.retain(|client, fault| *fault == Fault::DropOut || !without.contains(client));
        let lost_ways = self.losses_of_ways(&mut due);
        let mut faults = RoundFaults {
            will_fail: without,
            ..RoundFaults::default()
        };
        faults.will_fail.extend(lost_ways.keys());
        for (&client, &fault) in &due {
            match fault {
                Fault::DropOut => {
                    faults.away.insert(client);
                    self.take_away(round, client).await;
                }
                Fault::Crash { .. } | Fault::OutOfMemory => _ = faults.will_fail.insert(client),
                Fault::Corrupt => _ = faults.corrupt.insert(client),
                Fault::Freeze { for_ms } | Fault::Cut { for_ms } => {
                    let held_up = Duration::from_millis(for_ms);
                    if self.spans.outlasts_the_round(held_up) {
                        faults.will_fail.insert(client);
                    } else {
                        faults.held_up = faults.held_up.max(held_up);
                        faults.held_up_by_client.insert(client, held_up);
                    }
                }
            }
        }
        let mut state = self.state();
        (state.lost_edges, state.lost_ways) = (lost_edges, lost_ways);
        state.due = due;
        state.due.retain(|_, fault| *fault != Fault::DropOut);
        faults
    }

    async fn take_away(&self, round: u32, client: u32) {
        self.tell(round, client, Fault::DropOut);
        // Where links cannot be cut, it is away in that nobody asks it.
        if let Some(fleet) = self.fleet.upgrade()
            && fleet.cut(client).await.is_ok()
        {
            self.state().away.insert(client);
        }
    }

    /// Takes a device's memory, so that it has none left for the round's training.
    async fn starve(&self, round: u32, client: u32) {
        self.tell(round, client, Fault::OutOfMemory);
        if let Some(fleet) = self.fleet.upgrade() {
            self.complain(client, fleet.type_line(client, "hog all").await);
            self.state().starved.insert(client);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl RoundHooks for FaultRunner {
    fn before_round(&self, round: u32, elapsed_s: f64) -> BoxFuture<'_, RoundFaults> {
        self.prepare(round, elapsed_s).boxed()
    }

    fn before_start<'a>(&'a self, round: u32, cohort: &'a [u32]) -> BoxFuture<'a, ()> {
        if let Some(fleet) = self.fleet.upgrade() {
            fleet.expect(cohort);
        }
        // Whoever was not chosen has nothing to suffer.
        let mut due = std::mem::take(&mut self.state().due);
        due.retain(|client, _| cohort.contains(client));
        self.keep_to_lost_ways(&mut due);
        let mut starved = Vec::new();
        due.retain(|&client, fault| match fault {
            Fault::Corrupt => {
                self.tell(round, client, *fault);
                false
            }
            Fault::OutOfMemory => {
                starved.push(client);
                false
            }
            _ => true,
        });
        self.state().due = due;
        let starving = starved
            .into_iter()
            .map(move |client| self.starve(round, client));
        join_all(starving).map(drop).boxed()
    }

    fn seen(&self, update: &ClientRecord, steps: u32) -> Option<HostCost> {
        self.meter.seen(&*self.fleet.upgrade()?, update, steps)
    }

    fn calculated(&self, update: &ClientRecord, steps: u32) -> Option<Calculated> {
        self.meter.calculated(update, steps)
    }
}

/// The reason for a missing update, in the tables: the same words in every run.
fn reason(fault: Fault) -> String {
    format!("{} on purpose", fault.name())
}
