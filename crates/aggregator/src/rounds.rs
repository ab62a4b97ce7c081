//! The rounds: does what their machine ([`fl_round::Machine`]) asks for, and wakes it in time.
//!
//! The machine decides; here are the clock, the requests to devices and the payloads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use zfl_clock::Instant;

use anyhow::{Result, bail};
use fl_data::Dataset;
use fl_proto::cluster::Orders;
use fl_proto::codec::Encoding;
use fl_proto::message::MODEL;
use fl_round::{Action, Faults, Start, StartAnswer};
use tokio::task::{JoinSet, spawn_blocking};
use zfl_run_dir::{ClientRecord, RoundRecord, RunDir};

use crate::algorithm::RunningAlgorithm;
use crate::broadcast::{Broadcast, Form, arrived};
use crate::device::{DeviceError, Devices};
use crate::hooks::RoundFaults;
use crate::local::PartialWork;
use crate::log::lock;
use crate::probe;
use crate::shared::{Shared, Work};
use crate::token;

/// Longest wait for word of a device that says it is busy.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// Runs the rounds.
pub(crate) struct Rounds {
    pub shared: Arc<Shared>,
    pub work: Work,
    pub devices: Devices,
    pub test: Arc<Dataset>,
    pub run_dir: RunDir,
    pub algorithm: Arc<Mutex<RunningAlgorithm>>,
    pub params: Arc<Vec<f32>>,
    pub table: Vec<RoundRecord>,
    pub failures: Vec<ClientRecord>,
    /// Updates under way in simulated time that are saved.
    pub saved: BTreeMap<u32, u64>,
    /// `/start`s under way.
    pub starts: JoinSet<()>,
    /// Clients of the cohort that do only some of their epochs.
    pub stragglers: BTreeSet<u32>,
    /// Start of the round, and the messages that had been refused by then.
    pub round_began: (Instant, u32),
    /// Round whose model is made, and that is to be written down.
    pub made: Option<Made>,
    /// Faults of the round.
    pub faults: Faults,
    /// Cohort of the round and what is planned for it, for the orders to edges.
    pub planned: BTreeMap<u32, Orders>,
    /// Bytes up and down at the beginning of the evaluation, of those who are asked.
    pub evaluation_began: BTreeMap<u32, (u64, u64)>,
}

impl Work {
    /// The next thing to do; wakes the machine while there is none.
    pub async fn next(&mut self, shared: &Shared) -> Action {
        loop {
            let wake_us = *self.wake.borrow_and_update();
            let sleep = async {
                match wake_us {
                    Some(us) => zfl_clock::sleep_until(shared.instant(us)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(action) = self.actions.recv() => return action,
                _ = self.wake.changed() => {}
                () = sleep => shared.with(|state, now_us| state.machine.tick(now_us)),
            }
        }
    }
}

/// A round whose model is made.
pub(crate) struct Made {
    /// Its row.
    pub record: RoundRecord,
    /// Rows of its clients.
    pub clients: Vec<ClientRecord>,
    /// Model of the round before.
    pub before: Arc<Vec<f32>>,
}

impl Rounds {
    /// Runs all rounds; on an error those that completed are in the table.
    pub async fn run(&mut self) -> Result<()> {
        // Whoever asks stops with this.
        let mut asking = JoinSet::new();
        asking.spawn(probe::fetched(self.shared.clone(), self.devices.clone()));
        asking.spawn(probe::suspects(self.shared.clone(), self.devices.clone()));
        if let Some(interval) = self.shared.config.progress_interval {
            let (shared, devices) = (self.shared.clone(), self.devices.clone());
            asking.spawn(probe::progress(shared, devices, interval));
        }
        // A run that was broken off in its first round has this row already.
        if self.table.is_empty() {
            self.evaluate_initial().await?;
        }
        self.shared
            .with(|state, now_us| state.machine.begin(now_us));
        let mut broadcast = Arc::default();
        loop {
            while self.starts.try_join_next().is_some() {}
            match self.next_action().await {
                Action::FindFaults { round } => self.find_faults(round).await,
                Action::Probe { clients } => {
                    probe::before_round(&self.shared, &self.devices, &clients).await;
                    self.shared
                        .with(|state, now_us| state.machine.probed(now_us));
                }
                Action::OpenRound { round, picks } => {
                    let cohort: Vec<u32> = picks.iter().map(|pick| pick.client).collect();
                    let config = &self.shared.config;
                    self.stragglers = config.partial_work.stragglers(config.seed, round, &cohort);
                    if let Some(hooks) = self.shared.hooks() {
                        hooks.before_start(round, &cohort).await;
                    }
                    broadcast = Arc::new(self.broadcast(round, &cohort).await?);
                    self.plan(&cohort);
                    self.shared
                        .with(|state, now_us| state.machine.start(now_us));
                }
                Action::Start(start) if self.shared.edge_of(start.client).is_some() => {
                    self.start_edge(start, &broadcast)?;
                }
                Action::Start(start) => {
                    let sent = self.start(start, &broadcast);
                    self.starts.spawn(sent);
                }
                Action::CloseRound(closed) => {
                    self.close(closed).await?;
                    self.shared.with(|state, now_us| state.machine.made(now_us));
                }
                Action::OpenEvaluation { clients, .. } => {
                    broadcast = Arc::new(self.open_evaluation(&clients).await?);
                    self.shared
                        .with(|state, now_us| state.machine.evaluate(now_us));
                }
                Action::Evaluate(start) => {
                    let sent = self.ask_evaluation(start, &broadcast);
                    self.starts.spawn(sent);
                }
                Action::FinishRound(evaluated) => {
                    self.finish(evaluated).await?;
                    self.shared
                        .with(|state, now_us| state.machine.completed(now_us));
                }
                Action::Fail { reason } => {
                    // A round that was not written down leaves no model.
                    if let Some(made) = self.made.take() {
                        self.params = made.before;
                    }
                    bail!("{reason}")
                }
                Action::Finish => return Ok(()),
                // Told where it came from.
                Action::Tell(_) => {}
            }
        }
    }

    async fn next_action(&mut self) -> Action {
        self.work.next(&self.shared).await
    }

    async fn find_faults(&mut self, round: u32) {
        let rejected = self.shared.look(|state| state.rejected);
        self.round_began = (Instant::now(), rejected);
        let faults = match self.shared.hooks() {
            Some(hooks) => hooks.before_round(round, self.shared.log.elapsed_s()).await,
            None => RoundFaults::default(),
        };
        let faults = Faults {
            away: faults.away,
            will_fail: faults.will_fail,
            corrupt: faults.corrupt,
            held_up_us: faults.held_up.as_micros() as u64,
            held_up: faults.held_up_by_client.iter().map(in_us).collect(),
        };
        self.faults = faults.clone();
        self.shared
            .with(|state, now_us| state.machine.faults(now_us, faults));
    }

    /// Begins a round of the algorithm, and encodes the sections that a cohort shares.
    async fn broadcast(&self, round: u32, cohort: &[u32]) -> Result<Broadcast> {
        let with_json = self.shared.look(|state| {
            let mut clients = cohort.iter().filter_map(|id| state.roster.get(*id));
            clients.any(|client| client.form == Form::Json)
        });
        let (shared, params) = (self.shared.clone(), self.params.clone());
        let algorithm = self.algorithm.clone();
        let encode = move || {
            let beside = lock(&algorithm).begin(round, &params);
            let beside = beside
                .iter()
                .map(|(name, numbers)| (name.as_str(), &**numbers));
            let travelling = shared.config.travelling();
            let model = (travelling > 0).then_some((MODEL, &params[..travelling]));
            let sections = model.into_iter().chain(beside);
            let tensors = shared.config.tensors();
            let sections = sections
                .map(|(name, numbers)| shared.config.outgoing(round, name, numbers, &tensors));
            let sections: Vec<_> = sections.collect();
            if shared.config.sends_changes() {
                let model = match shared.config.encoding_down == Encoding::default() {
                    true => params.clone(),
                    false => Arc::new(arrived(&sections[0])),
                };
                shared.keep_base(round, model);
            }
            Broadcast::new(&sections, with_json)
        };
        spawn_blocking(encode).await?
    }

    /// Sends one `/start` and gives the machine its answer.
    fn start(
        &self,
        start: Start,
        broadcast: &Arc<Broadcast>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (shared, devices) = (self.shared.clone(), self.devices.clone());
        let broadcast = broadcast.clone();
        let message = self.message(start);
        async move {
            let answer = answer_to(&shared, &devices, start, message, &broadcast).await;
            let Start { client, round, .. } = start;
            shared.with(|state, now_us| {
                state.machine.start_answered(now_us, client, round, answer);
            });
        }
    }

    /// The control message of a `/start`.
    pub(crate) fn message(&self, start: Start) -> Option<fl_proto::Start> {
        let Start { client, round, .. } = start;
        let config = &self.shared.config;
        let mut local = config.local(round, client);
        if self.stragglers.contains(&client) {
            let most = local.local_epochs;
            local.local_epochs = PartialWork::epochs(config.seed, round, client, most);
        }
        let algorithm = lock(&self.algorithm);
        algorithm.configure(round, client, &mut local);
        let state_round = self.shared.states.round(client);
        let token = token::word(start.token)?;
        Some(fl_proto::Start {
            privacy: algorithm.privacy(),
            ..config.start(round, token, local, state_round)
        })
    }
}

/// A client's time in microseconds.
fn in_us((client, time): (&u32, &Duration)) -> (u32, u64) {
    (*client, time.as_micros() as u64)
}

pub(crate) async fn answer_to(
    shared: &Shared,
    devices: &Devices,
    start: Start,
    message: Option<fl_proto::Start>,
    broadcast: &Broadcast,
) -> StartAnswer {
    match try_start(shared, devices, start, message, broadcast).await {
        Ok(()) => StartAnswer::Taken,
        // It is busy with the round before, or took this very `/start` in a try whose answer was lost.
        Err(error) if status_of(&error) == Some(409) && has_begun(shared, devices, start).await => {
            StartAnswer::Taken
        }
        Err(error) => answer_of(&error),
    }
}

/// The answer to a `/start` that a device did not take.
pub(crate) fn answer_of(error: &DeviceError) -> StartAnswer {
    let reason = error.to_string();
    match status_of(error) {
        // It is busy, still joining, slow, or out of reach.
        None | Some(408 | 409 | 503) => StartAnswer::Later(reason),
        Some(_) => StartAnswer::Refused(reason),
    }
}

pub(crate) async fn try_start(
    shared: &Shared,
    devices: &Devices,
    start: Start,
    message: Option<fl_proto::Start>,
    broadcast: &Broadcast,
) -> Result<(), DeviceError> {
    let client = start.client;
    let gone = || DeviceError::Connection("it has no address".to_owned());
    let place = shared.look(|state| {
        let client = state.roster.get(client)?;
        Some((client.address?, client.form))
    });
    let (address, form) = place.ok_or_else(gone)?;
    let message = message.ok_or(DeviceError::Malformed)?;
    let body = broadcast.body(&message, form);
    let body = body.map_err(|_| DeviceError::Malformed)?;
    let within = Duration::from_micros(start.within_us);
    let answer = devices.start(client, address, (body, form), within).await;
    answer.map(drop)
}

/// Asks a device whether the last round that it began is that of a `/start`.
async fn has_begun(shared: &Shared, devices: &Devices, start: Start) -> bool {
    let Start { client, round, .. } = start;
    let Some(address) = shared.look(|state| state.roster.get(client)?.address) else {
        return false;
    };
    let answer = devices.ready(client, address, READY_WITHIN).await;
    answer.is_ok_and(|ready| ready.id == client && ready.round == round)
}

/// The status of a refusal; none if there was no proper answer.
fn status_of(error: &DeviceError) -> Option<u16> {
    match error {
        DeviceError::Refused { status, .. } => Some(status.as_u16()),
        _ => None,
    }
}
