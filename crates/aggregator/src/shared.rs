//! What the endpoints and the rounds share: one state behind one lock.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use axum::http::StatusCode;
use fl_data::{Dataset, Partition};
use fl_proto::{Results, Token};
use tokio::sync::watch;
use zfl_run_dir::{ClientRecord, Event, RoundPhase};

use crate::broadcast::Form;
use crate::config::Config;
use crate::evaluate::evaluate_chunk;
use crate::hooks::{RoundFaults, RoundHooks};
use crate::log::{Log, lock};
use crate::roster::{Assignment, ClientState, JoinError, Outcome, Roster};
use crate::strategy::{Sections, Update};

/// The outcome of an update that came after its round.
const LATE: &str = "late";

/// Examples that an update must do on: enough to find nonsense, too few to take time.
const CHECKED_EXAMPLES: usize = 32;

/// A request refused: the status and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub StatusCode, pub String);

/// The state of a run.
pub struct Shared {
    hooks: OnceLock<Arc<dyn RoundHooks>>,
    pub(crate) config: Config,
    pub(crate) train: Dataset,
    pub(crate) partition: Partition,
    pub(crate) log: Log,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

/// What changes.
#[derive(Debug)]
pub(crate) struct State {
    pub roster: Roster,
    pub phase: RoundPhase,
    pub open: Option<OpenRound>,
    /// The round before, for updates that come late.
    pub previous: Option<(u32, BTreeMap<u32, Assignment>)>,
    /// What came too late since the last round was closed.
    pub late: Late,
    /// Clients that cannot be reached in this round: nobody asks them.
    pub away: BTreeSet<u32>,
    /// Connections by which an update came, and its answer goes.
    pub answering: u32,
    pub rejected: u32,
    pub cancelled: Option<String>,
}

/// Updates that came too late.
#[derive(Debug, Default)]
pub(crate) struct Late {
    /// Those that count in the next round; none unless that is wanted.
    pub updates: Vec<Update>,
    /// All of them.
    pub records: Vec<ClientRecord>,
}

/// The round that updates are taken for.
#[derive(Debug)]
pub(crate) struct OpenRound {
    pub round: u32,
    pub chosen: Instant,
    pub assignments: BTreeMap<u32, Assignment>,
    pub updates: Vec<Update>,
    pub records: Vec<ClientRecord>,
    /// Bytes up and down of each client of the cohort when it was chosen.
    pub bytes_before: BTreeMap<u32, (u64, u64)>,
}

impl OpenRound {
    /// Clients of the cohort of which nothing is known yet.
    pub fn missing(&self) -> usize {
        self.assignments
            .values()
            .filter(|assignment| assignment.outcome.is_none())
            .count()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(config: Config, train: Dataset, partition: Partition, log: Log) -> Self {
        let state = State {
            roster: Roster::new(config.clients),
            phase: RoundPhase::default(),
            open: None,
            previous: None,
            late: Late::default(),
            away: BTreeSet::new(),
            answering: 0,
            rejected: 0,
            cancelled: None,
        };
        Self {
            hooks: OnceLock::new(),
            config,
            train,
            partition,
            log,
            state: Mutex::new(state),
            changes: watch::Sender::new(0),
        }
    }

    /// Sets whom to ask about the fleet; the first one stays.
    pub(crate) fn watch_with(&self, hooks: Arc<dyn RoundHooks>) {
        let _ = self.hooks.set(hooks);
    }

    /// Whom to ask about the fleet, if anybody.
    pub(crate) fn hooks(&self) -> Option<&Arc<dyn RoundHooks>> {
        self.hooks.get()
    }

    /// Reads or changes the state, and wakes whoever waits for a change. What there is to tell of a change
    /// is told in `change`: later, it could come behind what followed from it.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut lock(&self.state));
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
        result
    }

    /// Reads the state.
    pub(crate) fn look<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&lock(&self.state))
    }

    /// Waits until `done` or the deadline; returns whether it is done.
    pub(crate) async fn wait_until(
        &self,
        deadline: Instant,
        done: impl Fn(&State) -> bool,
    ) -> bool {
        let mut changes = self.changes.subscribe();
        loop {
            changes.borrow_and_update();
            if self.look(&done) {
                return true;
            }
            if tokio::time::timeout_at(deadline.into(), changes.changed())
                .await
                .is_err()
            {
                return self.look(&done);
            }
        }
    }

    pub(crate) fn enter(&self, round: u32, phase: RoundPhase) {
        self.with(|state| {
            state.phase = phase;
            self.log.emit(Event::PhaseEntered { round, phase });
        });
    }

    /// Adds bytes that went over a client's connections.
    pub(crate) fn count(&self, id: u32, up: u64, down: u64) {
        let mut state = lock(&self.state);
        if let Some(client) = state.roster.get_mut(id) {
            client.bytes_up += up;
            client.bytes_down += down;
        }
    }

    /// Something came from a client: it is there.
    pub(crate) fn heard(&self, id: u32) {
        if let Some(client) = lock(&self.state).roster.get_mut(id) {
            client.silent_since = None;
        }
    }

    /// A client was asked in vain.
    pub(crate) fn unheard(&self, id: u32) {
        let mut state = lock(&self.state);
        let away = state.away.contains(&id);
        if let Some(client) = state.roster.get_mut(id)
            && !away
        {
            client.silent_since.get_or_insert_with(Instant::now);
        }
    }

    /// Who cannot be reached in this round: that they are silent says nothing.
    pub(crate) fn set_away(&self, away: &BTreeSet<u32>) {
        self.with(|state| {
            for &id in state.away.iter().chain(away) {
                if let Some(client) = state.roster.get_mut(id) {
                    client.silent_since = None;
                }
            }
            state.away.clone_from(away);
        });
    }

    /// Who was waited for long enough: rounds do not wait again for those that never came, nor for those
    /// that have not got ready.
    pub(crate) fn overdue(&self, faults: &RoundFaults) {
        let absent = self.with(|state| {
            let mut absent = Vec::new();
            for (id, client) in state.roster.iter_mut() {
                match client.state {
                    _ if faults.away.contains(&id) => {}
                    ClientState::Absent => absent.push(id),
                    ClientState::Joined | ClientState::Fetched => {
                        client.state = ClientState::Suspect
                    }
                    _ => {}
                }
            }
            absent
        });
        let within = self.config.ready_deadline;
        for id in absent {
            self.lost(id, &format!("did not join within {within:?}"));
        }
    }

    pub(crate) fn rejected(&self) {
        lock(&self.state).rejected += 1;
    }

    /// Whether what this client sends in this round is damaged on the way.
    pub(crate) fn is_corrupted(&self, id: u32) -> bool {
        self.look(|state| {
            let assignment = state
                .open
                .as_ref()
                .and_then(|open| open.assignments.get(&id));
            assignment.is_some_and(|assignment| assignment.corrupt)
        })
    }

    /// A device that was lost is on its way back: rounds wait for it again.
    pub(crate) fn expected(&self, id: u32) {
        self.with(|state| {
            let client = state.roster.get_mut(id);
            let lost = client.filter(|client| matches!(client.state, ClientState::Lost(_)));
            if let Some(client) = lost {
                client.state = ClientState::Absent;
                self.log.emit(Event::ClientExpected { client: id });
            }
        });
    }

    /// Where the client that a device wishes to be is already, if that is elsewhere.
    pub(crate) fn occupant(&self, wish: Option<u32>, address: SocketAddr) -> Option<SocketAddr> {
        self.look(|state| {
            let client = state.roster.get(wish?)?;
            let gone = matches!(client.state, ClientState::Lost(_) | ClientState::Absent);
            client.address.filter(|known| *known != address && !gone)
        })
    }

    /// Takes a device in that is reached at `address` and asks from `source`.
    pub(crate) fn join(
        &self,
        wish: Option<u32>,
        address: SocketAddr,
        source: IpAddr,
        form: Form,
    ) -> Result<u32, JoinError> {
        self.with(|state| {
            let (id, again) = state.roster.join(wish, address)?;
            if let Some(client) = state.roster.get_mut(id) {
                client.source = Some(source);
                client.form = form;
            }
            if again {
                fail_assignment(
                    state,
                    id,
                    "the device joined anew in the middle of the round",
                );
            }
            self.log.emit(Event::ClientJoined {
                client: id,
                address: address.to_string(),
                again,
            });
            Ok(id)
        })
    }

    /// The client has all of its data, as soon as this answer has arrived.
    pub(crate) fn fetched(&self, id: u32) {
        self.with(|state| {
            if let Some(client) = state.roster.get_mut(id)
                && client.state == ClientState::Joined
            {
                client.state = ClientState::Fetched;
            }
        });
    }

    /// A device answered that it is ready.
    pub(crate) fn is_ready(&self, id: u32) {
        self.with(|state| {
            let Some(client) = state.roster.get_mut(id) else {
                return;
            };
            if matches!(client.state, ClientState::Fetched | ClientState::Suspect) {
                client.state = ClientState::Ready;
                self.log.emit(Event::ClientReady { client: id });
            }
        });
    }

    /// A device is gone: its place in the round is given up. After the last round devices go as they
    /// should, and nothing is lost.
    pub(crate) fn lost(&self, id: u32, reason: &str) {
        self.with(|state| {
            if state.phase == RoundPhase::Finished {
                return;
            }
            fail_assignment(state, id, reason);
            let Some(client) = state.roster.get_mut(id) else {
                return;
            };
            client.silent_since = None;
            let news = !matches!(client.state, ClientState::Lost(_));
            client.state = ClientState::Lost(reason.to_owned());
            if news {
                self.log.emit(Event::ClientLost {
                    client: id,
                    reason: reason.to_owned(),
                });
            }
        });
    }

    /// A device took its `/start`, however the answer came: faults, the watchdog and the displays go by it.
    pub(crate) fn started(&self, round: u32, id: u32) {
        self.in_round(id, || Event::ClientStarted { client: id, round });
    }

    /// Tells what a device answered, unless it has been given up since.
    pub(crate) fn in_round(&self, id: u32, event: impl FnOnce() -> Event) {
        self.with(|state| {
            let assignment = state
                .open
                .as_ref()
                .and_then(|open| open.assignments.get(&id));
            let outcome = assignment.and_then(|assignment| assignment.outcome.as_ref());
            if !matches!(outcome, Some(Outcome::Failed(_))) {
                self.log.emit(event());
            }
        });
    }

    /// A device did not do its part of the round.
    pub(crate) fn failed(&self, id: u32, reason: &str) {
        self.with(|state| {
            fail_assignment(state, id, reason);
            if let Some(client) = state.roster.get_mut(id)
                && client.state == ClientState::Busy
            {
                client.state = ClientState::Suspect;
            }
        });
    }

    /// A device did not do its part of the round, and said so: it is there, and rounds wait for it.
    pub(crate) fn failed_there(&self, id: u32, reason: &str) {
        self.with(|state| {
            fail_assignment(state, id, reason);
            if let Some(client) = state.roster.get_mut(id)
                && client.state == ClientState::Busy
            {
                client.state = ClientState::Fetched;
            }
        });
    }

    /// Gives the place of a client up whose update is of no use, if it is the one that was asked for.
    pub(crate) fn give_up(&self, id: u32, round: u32, token: &Token, why: &str) {
        self.with(|state| {
            let open = state.open.as_ref().filter(|open| open.round == round);
            let assignment = open.and_then(|open| open.assignments.get(&id));
            if assignment.is_some_and(|assignment| assignment.token == *token) {
                fail_assignment(state, id, why);
                make_ready(state, id);
            }
        });
    }

    /// Takes an update in, for the round, client and token that it was asked of, once.
    pub(crate) fn take_update(
        &self,
        id: u32,
        results: Results,
        params: Vec<f32>,
        sections: Sections,
    ) -> Result<(), Refusal> {
        let refuse = |status: StatusCode, why: String| Err(Refusal(status, why));
        let expected = self.partition.indices(id as usize).len();
        if results.num_examples as usize != expected {
            return refuse(
                StatusCode::BAD_REQUEST,
                format!(
                    "{} examples, this client has {expected}",
                    results.num_examples
                ),
            );
        }
        let placed = self.with(|state| {
            let record = self.place_update(state, id, results, params, sections)?;
            let placed = record.clone();
            self.log.emit(Event::ResultReceived { record });
            Ok(placed)
        })?;
        let too_late = placed.outcome == LATE && !self.config.use_late;
        let round = placed.round;
        if too_late {
            return refuse(StatusCode::GONE, format!("round {round} is over"));
        }
        Ok(())
    }

    /// Whether an update is one that a model can be made of.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn check(&self, id: u32, params: &[f32]) -> Result<(), String> {
        if let Some(at) = params.iter().position(|param| !param.is_finite()) {
            return Err(format!(
                "parameter {at} is not finite: the training diverged, lower the learning rate"
            ));
        }
        // Numbers may be finite and still too large for a single forward pass.
        let own = self.partition.indices(id as usize);
        let some = &own[..own.len().min(CHECKED_EXAMPLES)];
        let (inputs, labels) = (
            self.train.gather_inputs(some),
            self.train.gather_labels(some),
        );
        let arithmetic = self.config.evaluation_arithmetic();
        match evaluate_chunk(&self.config.model, params, &inputs, &labels, arithmetic) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!(
                "these parameters give no finite loss on the client's own examples: {error}"
            )),
        }
    }

    fn place_update(
        &self,
        state: &mut State,
        id: u32,
        results: Results,
        params: Vec<f32>,
        sections: Sections,
    ) -> Result<ClientRecord, Refusal> {
        let refuse = |status: StatusCode, why: String| Err(Refusal(status, why));
        let Results {
            round,
            token,
            num_examples,
            steps,
            loss,
            cost,
            ..
        } = results;
        let mut record = ClientRecord {
            round,
            client: id,
            outcome: "received".into(),
            num_examples,
            loss: Some(loss),
            round_s: None,
            bytes_up: 0,
            bytes_down: 0,
            cost: Some(cost),
            host: None,
        };
        let update = Update {
            client: id,
            num_examples,
            steps,
            params,
            sections,
        };
        let open = match &mut state.open {
            Some(open) if open.round == round => open,
            Some(open) if open.round < round => {
                return refuse(StatusCode::CONFLICT, format!("round {round} has not begun"));
            }
            _ => {
                if is_late(&mut state.previous, id, round, &token) {
                    record.outcome = LATE.into();
                    record.host = self.hooks.get().and_then(|hooks| hooks.seen(&record));
                    if self.config.use_late {
                        state.late.updates.push(update);
                    }
                    state.late.records.push(record.clone());
                    recover(state, id);
                    return Ok(record);
                }
                if knows_token(&state.previous, id, round, &token) {
                    recover(state, id);
                }
                return refuse(StatusCode::GONE, format!("round {round} is over"));
            }
        };
        let Some(assignment) = open.assignments.get_mut(&id) else {
            return refuse(
                StatusCode::FORBIDDEN,
                format!("client {id} is not in the cohort of round {round}"),
            );
        };
        if assignment.token != token {
            return refuse(
                StatusCode::FORBIDDEN,
                "the token is not that of this /start".into(),
            );
        }
        match &assignment.outcome {
            Some(Outcome::Received) => {
                return refuse(
                    StatusCode::CONFLICT,
                    format!("the update of round {round} is in already"),
                );
            }
            Some(Outcome::Failed(why)) => {
                return refuse(
                    StatusCode::GONE,
                    format!("given up in round {round}: {why}"),
                );
            }
            None if assignment.will_crash => {
                return refuse(
                    StatusCode::GONE,
                    format!("this device fails in round {round}"),
                );
            }
            None => assignment.outcome = Some(Outcome::Received),
        }
        record.round_s = Some(open.chosen.elapsed().as_secs_f64());
        let before = open.bytes_before.get(&id).copied().unwrap_or_default();
        if let Some(client) = state.roster.get(id) {
            record.bytes_up = client.bytes_up - before.0;
            record.bytes_down = client.bytes_down - before.1;
        }
        record.host = self.hooks.get().and_then(|hooks| hooks.seen(&record));
        open.updates.push(update);
        open.records.push(record.clone());
        make_ready(state, id);
        Ok(record)
    }
}

/// A device that has delivered waits for the next round.
fn make_ready(state: &mut State, id: u32) {
    if let Some(client) = state.roster.get_mut(id)
        && matches!(client.state, ClientState::Busy | ClientState::Suspect)
    {
        client.state = ClientState::Ready;
    }
}

/// A suspect that shows up after its round is there after all; a client of this round has to deliver.
fn recover(state: &mut State, id: u32) {
    if let Some(client) = state.roster.get_mut(id)
        && client.state == ClientState::Suspect
    {
        client.state = ClientState::Ready;
    }
}

/// Whether this is the token that the client was given in the round before.
fn knows_token(
    previous: &Option<(u32, BTreeMap<u32, Assignment>)>,
    id: u32,
    round: u32,
    token: &Token,
) -> bool {
    previous.as_ref().is_some_and(|(last, assignments)| {
        let assignment = assignments.get(&id);
        *last == round && assignment.is_some_and(|assignment| assignment.token == *token)
    })
}

fn is_late(
    previous: &mut Option<(u32, BTreeMap<u32, Assignment>)>,
    id: u32,
    round: u32,
    token: &Token,
) -> bool {
    let Some((last, assignments)) = previous else {
        return false;
    };
    let Some(assignment) = assignments.get_mut(&id) else {
        return false;
    };
    let late = *last == round
        && assignment.token == *token
        && !assignment.will_crash
        && assignment.outcome != Some(Outcome::Received);
    if late {
        assignment.outcome = Some(Outcome::Received);
    }
    late
}

/// Gives the place of a client in the open round up, if it still waits for an update.
fn fail_assignment(state: &mut State, id: u32, reason: &str) {
    if let Some(assignment) = state
        .open
        .as_mut()
        .and_then(|open| open.assignments.get_mut(&id))
    {
        assignment
            .outcome
            .get_or_insert_with(|| Outcome::Failed(reason.to_owned()));
    }
}
