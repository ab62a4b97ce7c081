//! The run as a whole, and its rounds.

use super::{Device, Fold, State};
use crate::{LevelRecord, MeshRecord, RoundPhase, RoundRecord};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Rounds that the outlook on the rest is made from.
const RECENT: usize = 5;

/// A complete round: its row of `rounds.csv`, and what is summed up to it.
#[derive(Clone, Debug, Serialize)]
pub struct RoundRow {
    /// The row.
    #[serde(flatten)]
    pub record: RoundRecord,
    /// HTTP bytes both ways, up to the end of this round.
    pub total_bytes: u64,
    /// The slowest device's training time of every round so far, summed, by the devices' own clocks:
    /// how long the rounds would have taken had the devices had nothing to wait for but each other.
    /// Missing from the first round on of which that time is not known.
    pub device_elapsed_s: Option<f64>,
}

impl RoundRow {
    pub(super) fn after(before: Option<&Self>, record: RoundRecord) -> Self {
        let bytes = record.bytes_up.saturating_add(record.bytes_down);
        let before_s = before.map_or(Some(0.0), |row| row.device_elapsed_s);
        let own = if record.round == 0 {
            Some(0.0)
        } else {
            record.slowest_train_s
        };
        Self {
            total_bytes: before
                .map_or(0, |row| row.total_bytes)
                .saturating_add(bytes),
            device_elapsed_s: before_s.zip(own).map(|(before, own)| before + own),
            record,
        }
    }
}

/// State of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It goes on.
    Running,
    /// Every round completed.
    Finished,
    /// It ended early, and says why.
    Failed,
    /// It ended without a word.
    Interrupted,
}

/// The run at a glance.
#[derive(Clone, Debug, Serialize)]
pub struct RunView {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: RunState,
    /// Reason of its failure.
    pub reason: Option<String>,
    /// Phase of the round.
    pub phase: RoundPhase,
    /// The round; 0 before the first.
    pub round: u32,
    /// Rounds to complete.
    pub rounds: u32,
    /// Rounds that are complete.
    pub rounds_completed: u32,
    /// Devices, of those that are started elsewhere the ones that have come.
    pub clients: u32,
    /// True if devices are started elsewhere; their logs are there, too.
    pub devices_elsewhere: bool,
    /// Devices that wait for work.
    pub ready: u32,
    /// Devices at work.
    pub training: u32,
    /// Devices that are gone.
    pub dead: u32,
    /// Devices by state; a state without any is left out.
    pub states: BTreeMap<&'static str, u32>,
    /// Accuracy of the last model on the test set, from 0 to 1.
    pub accuracy: Option<f64>,
    /// Mean cross-entropy of the last model on the test set, in nats.
    pub loss: Option<f64>,
    /// Best accuracy of any round's model.
    pub best_accuracy: Option<f64>,
    /// HTTP bytes from devices in the complete rounds.
    pub bytes_up: u64,
    /// HTTP bytes to devices in the complete rounds.
    pub bytes_down: u64,
    /// Levels of aggregators in the complete rounds together; none without edges.
    pub levels: Vec<LevelRecord>,
    /// Edges that are lost and not back.
    pub lost_edges: BTreeSet<u32>,
    /// Places of the radios; none where devices have IP.
    pub mesh: Option<MeshRecord>,
    /// Faults so far.
    pub faults: u64,
    /// Number of actions of remote control: `kill`, `stop` … With any, the command does not repeat the run.
    pub by_hand: BTreeMap<String, u64>,
    /// Lines of `events.jsonl` that could not be read: of another version, or cut off by a crash.
    pub unreadable_events: u64,
    /// Files that are not as they were written, in lines for people.
    pub damage: Vec<String>,
    /// The last complete round at each time that the run was broken off and resumed.
    pub resumed_from: Vec<u32>,
    /// Since the start of the run, in seconds, without what was broken off and done again.
    pub elapsed_s: f64,
    /// Simulated time up to the end of the last round, in seconds.
    pub simulated_s: Option<f64>,
    /// Energy of the rounds on the devices so far, in joules: an estimate.
    pub energy_j: Option<f64>,
    /// Until its end as far as can be told, in seconds.
    pub eta_s: Option<f64>,
    /// `bare`, `zephyr`, `native`.
    pub body: Option<String>,
    /// The board of most devices.
    pub board: Option<String>,
    /// Network of the devices.
    pub network: Option<String>,
    /// The link profile of most devices.
    pub link: Option<String>,
    /// The version of zfl.
    pub zfl_version: Option<String>,
    /// The command with which the run was begun.
    pub command: Option<String>,
}

impl Fold {
    /// The run at a glance, `now_ms` milliseconds after its start.
    pub fn run(&self, now_ms: u64) -> RunView {
        let last = self.rounds.values().next_back().map(|row| &row.record);
        let count = |is: fn(State) -> bool| {
            self.devices
                .values()
                .filter(|device| is(device.state))
                .count() as u32
        };
        let sum = |of: fn(&RoundRecord) -> u64| {
            self.rounds
                .values()
                .map(|row| of(&row.record))
                .fold(0, u64::saturating_add)
        };
        let state = self.state();
        let now_ms = if state == RunState::Running {
            now_ms.max(self.time_ms)
        } else {
            self.time_ms
        };
        let meta = &self.meta;
        RunView {
            name: meta.name.clone(),
            state,
            reason: self.end.as_ref().and_then(|end| end.reason.clone()),
            phase: self.phase,
            round: self.round,
            rounds: meta.rounds,
            rounds_completed: self.completed().count() as u32,
            clients: match meta.devices_elsewhere {
                true => self.devices.len() as u32,
                false => meta.clients,
            },
            devices_elsewhere: meta.devices_elsewhere,
            ready: count(State::is_ready),
            training: count(State::is_training),
            dead: count(|state| state == State::Dead),
            states: states(self.devices.values()),
            accuracy: last.and_then(|record| record.test_accuracy),
            loss: last.and_then(|record| record.test_loss),
            best_accuracy: self
                .rounds()
                .filter_map(|row| row.record.test_accuracy)
                .reduce(f64::max),
            bytes_up: sum(|record| record.bytes_up),
            bytes_down: sum(|record| record.bytes_down),
            levels: LevelRecord::totals(self.rounds.values().map(|row| &row.record)),
            lost_edges: self.lost_edges.clone(),
            mesh: self.mesh.clone(),
            faults: self.fault_counts().values().sum(),
            by_hand: self.by_hand.clone(),
            unreadable_events: self.unreadable,
            damage: self.damage.clone(),
            resumed_from: self.resumed_from.clone(),
            elapsed_s: now_ms as f64 / 1e3,
            simulated_s: last.and_then(|record| record.simulated_elapsed_s),
            energy_j: self.energy_j,
            eta_s: (state == RunState::Running)
                .then(|| self.eta_s(now_ms))
                .flatten(),
            body: meta.body.clone(),
            board: meta.board.clone(),
            network: meta.network.clone(),
            link: meta.link.clone(),
            zfl_version: meta.zfl_version.clone(),
            command: meta.command.clone(),
        }
    }

    /// State of the run.
    pub fn state(&self) -> RunState {
        match &self.end {
            Some(end) if end.success => RunState::Finished,
            Some(_) => RunState::Failed,
            None if self.interrupted => RunState::Interrupted,
            None => RunState::Running,
        }
    }

    fn completed(&self) -> impl DoubleEndedIterator<Item = &RoundRecord> {
        self.rounds
            .values()
            .map(|row| &row.record)
            .filter(|record| record.round > 0)
    }

    /// The rounds to go at the pace of the last few, less what of the current one is over.
    fn eta_s(&self, now_ms: u64) -> Option<f64> {
        let recent: Vec<f64> = self
            .completed()
            .rev()
            .take(RECENT)
            .map(|r| r.round_s)
            .collect();
        let last = self.completed().next_back()?;
        let pace = recent.iter().sum::<f64>() / recent.len() as f64;
        let to_go = f64::from(self.meta.rounds.saturating_sub(last.round));
        let under_way = (now_ms as f64 / 1e3 - last.elapsed_s).clamp(0.0, pace);
        Some((to_go * pace - under_way).max(0.0))
    }
}

fn states<'a>(devices: impl Iterator<Item = &'a Device>) -> BTreeMap<&'static str, u32> {
    let mut states = BTreeMap::new();
    for device in devices {
        *states.entry(device.state.name()).or_default() += 1;
    }
    states
}
