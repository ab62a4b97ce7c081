//! State of a run: its events, folded.
//!
//! Pure: no clock, no file. [`Fold::apply`] takes one event after another, in the order of
//! `events.jsonl`; [`Fold::take_changes`] tells what to send to those who watch.
//!
//! # Fleet events
//! [`FleetRecord`](crate::FleetRecord) tells what only the fleet's owner knows: a device boots, runs, dies or
//! is stopped, a fault happens to it or is over. Remote actions from the dashboard are counted apart:
//! their faults are none of the experiment's.
//!
//! # Bounds
//! The events are this program's own, yet a device can make many of them (messages that are refused):
//! of the faults the newest [`MAX_FAULTS`] are kept, of a reason its first [`MAX_REASON`] bytes.

mod counts;
mod device;
mod fault;
mod fleet;
mod run;

pub use counts::SinceBoot;
pub use device::{Device, HistoryRow, State};
pub use fault::{Fault, MAX_FAULTS};
pub use run::{RoundRow, RunState, RunView};

use crate::Meta;
use crate::groups::{self, FleetGroup};
use crate::{
    ClientRecord, ClientRow, Confusion, Event, MeshRecord, Record, RoundEvaluation, RoundPhase,
    RoundRecord,
};
use fault::Faults;
use std::collections::{BTreeMap, BTreeSet};

/// Most of a reason that is kept, in bytes.
pub const MAX_REASON: usize = 1000;

/// Everything that is known of a run.
#[derive(Clone, Debug)]
pub struct Fold {
    meta: Meta,
    groups: Vec<FleetGroup>,
    /// Milliseconds since the start of the run, of the last event.
    time_ms: u64,
    phase: RoundPhase,
    round: u32,
    end: Option<End>,
    interrupted: bool,
    /// The last complete round at each time that the run was resumed.
    resumed_from: Vec<u32>,
    /// Between the parts of a run, when it is told anew who is gone.
    resuming: bool,
    unreadable: u64,
    /// Files that are not as they were written, in lines for people.
    damage: Vec<String>,
    rounds: BTreeMap<u32, RoundRow>,
    devices: BTreeMap<u32, Device>,
    /// Devices that were done with a round since the last one began.
    done: Vec<u32>,
    faults: Faults,
    /// Edges that are lost and not back.
    lost_edges: BTreeSet<u32>,
    /// Places of the radios, where there are some.
    mesh: Option<MeshRecord>,
    /// Number of actions of remote control, by action.
    by_hand: BTreeMap<String, u64>,
    /// Energy of all devices in all rounds, if it is known of any.
    energy_j: Option<f64>,
    /// The last evaluation on devices.
    evaluation: Option<RoundEvaluation>,
    /// The last model on the test set, class by class.
    tested: Option<Confusion>,
    changes: Changes,
}

/// End of the run.
#[derive(Clone, Debug)]
struct End {
    success: bool,
    reason: Option<String>,
}

/// Changes since they were last taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The run itself: phase, round, counts.
    pub run: bool,
    /// Rounds.
    pub rounds: BTreeSet<u32>,
    /// Devices.
    pub devices: BTreeSet<u32>,
    /// Faults, by number.
    pub faults: BTreeSet<u64>,
}

impl Fold {
    /// State of a run before its first event.
    pub fn new(meta: Meta) -> Self {
        let mut fold = Self {
            groups: groups::of(&meta.config),
            time_ms: 0,
            phase: RoundPhase::default(),
            round: 0,
            end: None,
            interrupted: false,
            resumed_from: Vec::new(),
            resuming: false,
            unreadable: 0,
            damage: Vec::new(),
            rounds: BTreeMap::new(),
            devices: BTreeMap::new(),
            done: Vec::new(),
            faults: Faults::default(),
            lost_edges: BTreeSet::new(),
            mesh: None,
            by_hand: BTreeMap::new(),
            energy_j: None,
            evaluation: None,
            tested: None,
            changes: Changes::default(),
            meta,
        };
        fold.expect_devices(fold.meta.clients);
        fold
    }

    /// Facts from before the first event.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Places of the radios, where devices have some.
    pub fn mesh(&self) -> Option<&MeshRecord> {
        self.mesh.as_ref()
    }

    /// The rounds that are complete, by number; 0 is the initial evaluation.
    pub fn rounds(&self) -> impl Iterator<Item = &RoundRow> {
        self.rounds.values()
    }

    /// One round.
    pub fn round(&self, round: u32) -> Option<&RoundRow> {
        self.rounds.get(&round)
    }

    /// The devices, by client.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.values()
    }

    /// One device.
    pub fn device(&self, client: u32) -> Option<&Device> {
        self.devices.get(&client)
    }

    /// Failures and faults, the oldest first.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter()
    }

    /// Number of faults of each kind, including those no longer kept.
    pub fn fault_counts(&self) -> &BTreeMap<String, u64> {
        self.faults.counts()
    }

    /// Number of actions of remote control, by action.
    pub fn by_hand(&self) -> &BTreeMap<String, u64> {
        &self.by_hand
    }

    /// The last evaluation on devices.
    pub fn evaluation(&self) -> Option<&RoundEvaluation> {
        self.evaluation.as_ref()
    }

    /// The last model on the test set, class by class.
    pub fn tested(&self) -> Option<&Confusion> {
        self.tested.as_ref()
    }

    /// One fault, by number.
    pub fn fault(&self, number: u64) -> Option<&Fault> {
        self.faults.get(number)
    }

    /// Milliseconds since the start of the run, of the last event.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// True if the run is over, by its events.
    pub fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// Notes that whoever wrote the events seems to be gone, or not.
    pub fn set_interrupted(&mut self, interrupted: bool) {
        self.changes.run |= self.interrupted != interrupted;
        self.interrupted = interrupted;
    }

    /// Notes how many lines were no event.
    pub fn set_unreadable(&mut self, unreadable: u64) {
        self.changes.run |= self.unreadable != unreadable;
        self.unreadable = unreadable;
    }

    /// Notes which files are not as they were written, in lines for people.
    pub fn set_damage(&mut self, damage: Vec<String>) {
        self.changes.run |= self.damage != damage;
        self.damage = damage;
    }

    /// Takes the changes since the last call.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Takes in the next event.
    pub fn apply(&mut self, record: Record) {
        self.time_ms = record.time_ms;
        match record.event {
            Event::RunStarted {
                clients, rounds, ..
            } => self.run_started(clients, rounds),
            Event::RunResumed { round, .. } => self.run_resumed(round),
            Event::PhaseEntered { round, phase } => {
                self.phase = phase;
                self.round = self.round.max(round);
                self.changes.run = true;
            }
            Event::ClientJoined { client, .. } => self.set_state(client, State::Joining),
            Event::ClientReady { client } => self.set_state(client, State::Ready),
            Event::ClientLost {
                client,
                reason,
                comes_back,
            } => {
                self.lost(client, &reason, "lost");
                if comes_back {
                    self.set_state(client, State::Away);
                }
            }
            Event::ClientExpected { client } => self.set_state(client, State::Away),
            Event::RoundStarted { round, .. } => self.round_started(round),
            Event::ClientStarted { client, round } => self.started(client, round),
            Event::ClientProgress {
                client,
                round,
                done_examples,
                total_examples,
            } => {
                self.progress(client, round, done_examples, total_examples);
            }
            Event::ResultReceived { record } => self.received(&record),
            Event::ResultRejected {
                client,
                reason,
                more,
                ..
            } => {
                let more = (more > 0).then(|| format!(" (and {more} more)"));
                self.add_fault(client, "rejected", &(reason + &more.unwrap_or_default()));
            }
            Event::ClientFailed {
                client,
                round,
                reason,
            } => self.failed(client, round, &reason),
            Event::Evaluated { .. } | Event::TimeDecided { .. } => {}
            Event::DevicesEvaluated { record } => {
                self.evaluation = Some(*record);
                self.changes.run = true;
            }
            Event::ClassesTested { confusion, .. } => {
                self.tested = Some(confusion);
                self.changes.run = true;
            }
            Event::RoundFinished { record } => self.round_finished(record),
            Event::Fleet { client, record } => self.fleet(client, &record),
            Event::RunFinished { success, reason } => {
                self.end = Some(End {
                    success,
                    reason: reason.as_deref().map(bounded),
                });
                self.changes.run = true;
            }
        }
    }

    fn run_started(&mut self, clients: u32, rounds: u32) {
        self.meta.clients = clients;
        self.meta.rounds = rounds;
        self.end = None;
        self.resuming = false;
        self.expect_devices(clients);
        self.changes.run = true;
    }

    /// A run that was broken off goes on: its devices went with it, and boot anew.
    fn run_resumed(&mut self, round: u32) {
        self.resumed_from.push(round);
        self.end = None;
        self.resuming = true;
        self.lost_edges.clear();
        let there = self.devices.values();
        let there = there.filter(|device| device.state != State::Dead);
        let there: Vec<u32> = there.map(|device| device.client).collect();
        for client in there {
            self.set_state(client, State::Joining);
        }
        self.changes.run = true;
    }

    /// Makes the devices `0..clients`. Those that are started elsewhere come with their events, and so
    /// do those of a number that no fleet can have.
    fn expect_devices(&mut self, clients: u32) {
        const MOST: u32 = 100_000;
        if clients <= MOST && !self.meta.devices_elsewhere {
            for client in 0..clients {
                self.device_mut(client);
            }
        }
    }

    fn device_mut(&mut self, client: u32) -> &mut Device {
        self.changes.devices.insert(client);
        self.devices.entry(client).or_insert_with(|| {
            let group = groups::find(&self.groups, client);
            Device::new(client, group.cloned().unwrap_or_default(), &self.meta)
        })
    }

    fn set_state(&mut self, client: u32, state: State) {
        let device = self.device_mut(client);
        let is_done = state == State::Done && device.state != state;
        device.state = state;
        if !matches!(state, State::Dead | State::Failed | State::Away) {
            device.reason = None;
        }
        // A machine that is gone or begins anew does not stand still.
        if matches!(state, State::Dead | State::Booting) {
            device.frozen = false;
        }
        self.done.extend(is_done.then_some(client));
        self.changes.run = true;
    }

    fn round_started(&mut self, round: u32) {
        self.round = round;
        for client in std::mem::take(&mut self.done) {
            if self.device_mut(client).state == State::Done {
                self.set_state(client, State::Ready);
            }
        }
        self.changes.run = true;
    }

    fn started(&mut self, client: u32, round: u32) {
        self.set_state(client, State::Training);
        let device = self.device_mut(client);
        (device.round, device.done_examples, device.total_examples) = (round, 0, 0);
    }

    fn progress(&mut self, client: u32, round: u32, done: u32, total: u32) {
        let device = self.device_mut(client);
        let trains = matches!(device.state, State::Training | State::Sending);
        if !trains || device.round != round {
            return;
        }
        (device.done_examples, device.total_examples) = (done, total);
        let state = if total > 0 && done >= total {
            State::Sending
        } else {
            State::Training
        };
        if device.state != state {
            self.set_state(client, state);
        }
    }

    fn received(&mut self, record: &ClientRecord) {
        self.set_state(record.client, State::Done);
        self.device_mut(record.client)
            .take_in(&ClientRow::of(record));
        if let Some(more) = record.host.as_ref().and_then(|host| host.energy_j) {
            self.energy_j = Some(self.energy_j.unwrap_or(0.0) + more);
        }
        self.changes.run = true;
    }

    fn failed(&mut self, client: u32, round: u32, reason: &str) {
        let reason = bounded(reason);
        let device = self.device_mut(client);
        device.missed(round);
        let told = matches!(device.state, State::Dead | State::Away);
        if !told {
            device.reason = Some(reason.clone());
            self.set_state(client, State::Failed);
        }
        self.add_fault(Some(client), "failed", &reason);
    }

    /// A device is gone. Two may tell of the same: who has seen it die, and who has missed it.
    fn lost(&mut self, client: u32, reason: &str, kind: &str) {
        let was_dead = self.device_mut(client).state == State::Dead;
        if was_dead && self.resuming {
            return;
        }
        // What a hand did has been told, and more than once if it is told again.
        let by_hand = self.faults.last_of(client, self.round, &["crash by hand"]);
        let told = by_hand.and_then(|number| Some(self.faults.get(number)?.reason.clone()));
        if kind != "died" && told.is_some() {
            self.set_state(client, State::Dead);
            self.device_mut(client).reason = told;
            return;
        }
        self.set_state(client, State::Dead);
        let reason = bounded(reason);
        let round = self.round;
        let twice = was_dead
            && self
                .faults
                .last_of(client, round, &["died", "lost"])
                .is_some();
        match self.faults.last_of(client, round, &["lost"]) {
            Some(number) if twice && kind == "died" => {
                self.faults.replace(number, kind, &reason);
                self.changes.faults.insert(number);
            }
            _ if twice => return,
            _ => self.add_fault(Some(client), kind, &reason),
        }
        self.device_mut(client).reason = Some(reason);
    }

    fn add_fault(&mut self, client: Option<u32>, kind: &str, reason: &str) {
        self.note(Fault {
            client,
            kind: kind.to_owned(),
            reason: bounded(reason),
            ..Fault::default()
        });
    }

    /// Adds a fault of this moment; one that names no round is of the current one.
    fn note(&mut self, fault: Fault) {
        let round = if fault.round == 0 {
            self.round
        } else {
            fault.round
        };
        let elapsed_s = self.time_ms as f64 / 1e3;
        let number = self.faults.add(Fault {
            round,
            elapsed_s,
            ..fault
        });
        self.changes.faults.insert(number);
        self.changes.run = true;
    }

    fn round_finished(&mut self, record: RoundRecord) {
        let before = self
            .rounds
            .range(..record.round)
            .next_back()
            .map(|(_, row)| row);
        let row = RoundRow::after(before, record);
        self.changes.rounds.insert(row.record.round);
        self.changes.run = true;
        self.rounds.insert(row.record.round, row);
    }
}

/// A reason's first [`MAX_REASON`] bytes.
fn bounded(reason: &str) -> String {
    if reason.len() <= MAX_REASON {
        return reason.to_owned();
    }
    let mut end = MAX_REASON;
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    format!("{} …", &reason[..end])
}

#[cfg(test)]
mod tests;
