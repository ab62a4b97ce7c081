//! State that the endpoints and the rounds share, behind one lock: the machine of the rounds, the roster
//! and the updates that were taken in.

mod state;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::http::StatusCode;
use fl_algo::{LARGEST_NUMBER, Sections, Update};
use fl_data::{Dataset, Partition};
use fl_proto::message::MODEL;
use fl_proto::{Results, Token};
use fl_round::{Action, Failure, Machine, Measured, Note, Phase, Refused, Stragglers};
use tokio::sync::{mpsc, watch};
use zfl_clock::Instant;
use zfl_pipe::Lines;
use zfl_run_dir::{ClientRecord, Event, RoundPhase, time_decided};

use crate::algorithm::KeptByClient;
use crate::changes::Bases;
use crate::clusters::Clusters;
use crate::config::Config;
use crate::evaluate::evaluate_chunk;
use crate::hooks::RoundHooks;
use crate::kept::OnTheWay;
use crate::log::{Log, lock};
use crate::refusals::Refusals;
use crate::roster::{JoinError, Newcomer, Roster, Standing};
use crate::token;
use state::standing;

pub(crate) use state::{Received, State};

/// Examples that an update must do on: enough to find nonsense, too few to take time.
const CHECKED_EXAMPLES: usize = 32;

/// A request refused: the status and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub StatusCode, pub String);

/// The state of a run.
pub struct Shared {
    hooks: OnceLock<Arc<dyn RoundHooks>>,
    /// Way to devices of this process.
    lines: OnceLock<Lines>,
    pub(crate) config: Config,
    pub(crate) train: Arc<Dataset>,
    pub(crate) partition: Partition,
    pub(crate) log: Log,
    pub(crate) states: KeptByClient,
    pub(crate) on_the_way: OnTheWay,
    pub(crate) bases: Bases,
    pub(crate) refusals: Refusals,
    state: Mutex<State>,
    /// Start of the machine's clock.
    began: Instant,
    /// Time that its clock is ahead by, in microseconds: see [`Shared::skip`].
    skipped_us: AtomicU64,
    work: mpsc::UnboundedSender<Action>,
    /// Time at which the machine wants to be woken.
    wake: watch::Sender<Option<u64>>,
    /// Clients about which time decided, in words.
    pub(crate) time_decided: Mutex<Vec<String>>,
    /// Connections by which an update came, and its answer goes.
    pub(crate) answering: watch::Sender<u32>,
    /// Clusters as they are dealt out now.
    pub(crate) clusters: Mutex<Clusters>,
    /// Orders from above, if this is an edge.
    pub(crate) orders: OnceLock<crate::upstream::Orders>,
    /// Facts for gateways, if the edges of this aggregator are such.
    pub(crate) dealing: OnceLock<crate::gateways::Dealing>,
}

/// Work that the machine has for the rounds.
#[derive(Debug)]
pub(crate) struct Work {
    pub actions: mpsc::UnboundedReceiver<Action>,
    pub wake: watch::Receiver<Option<u64>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// State of a run that has not begun, and where its work comes out.
    pub(crate) fn new(
        config: Config,
        train: impl Into<Arc<Dataset>>,
        partition: Partition,
        log: Log,
        states: KeptByClient,
    ) -> (Self, Work) {
        let of_client = |(client, indices): (u32, &[u32])| {
            (indices.len() as u32, config.budgets_j.get(&client).copied())
        };
        let of_clients = (0..).zip(partition.clients()).map(of_client);
        let machine = Machine::new(config.policy(), token::source());
        let machine = machine.with_selection(config.selection, of_clients);
        let state = State::new(
            machine,
            Roster::new(config.clients, config.clusters.edges),
            config.remembers(),
        );
        let (work, actions) = mpsc::unbounded_channel();
        let (wake, woken) = watch::channel(None);
        let clusters = Mutex::new(config.clusters.clone());
        let shared = Self {
            clusters,
            hooks: OnceLock::new(),
            lines: OnceLock::new(),
            config,
            train: train.into(),
            partition,
            log,
            states,
            on_the_way: OnTheWay::default(),
            bases: Bases::default(),
            refusals: Refusals::new(),
            state: Mutex::new(state),
            began: Instant::now(),
            skipped_us: AtomicU64::new(0),
            work,
            wake,
            time_decided: Mutex::default(),
            answering: watch::Sender::new(0),
            orders: OnceLock::new(),
            dealing: OnceLock::new(),
        };
        let wake = woken;
        (shared, Work { actions, wake })
    }

    /// Sets whom to ask about the fleet; the first one stays.
    pub(crate) fn watch_with(&self, hooks: Arc<dyn RoundHooks>) {
        let _ = self.hooks.set(hooks);
    }

    /// Says how devices of this process are reached; the first way stays.
    pub(crate) fn reach_by(&self, lines: Lines) {
        let _ = self.lines.set(lines);
    }

    /// Way to devices of this process, if there are any.
    pub(crate) fn lines(&self) -> Option<&Lines> {
        self.lines.get()
    }

    /// Hooks of whoever runs the fleet, if anybody does.
    pub(crate) fn hooks(&self) -> Option<&Arc<dyn RoundHooks>> {
        self.hooks.get()
    }

    /// Changes the state at a time of the machine's clock. What the machine has to tell is told before
    /// the lock is given back, so that nothing that follows from it can come before it; the rest of its
    /// work goes to the rounds.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut State, u64) -> T) -> T {
        let mut state = lock(&self.state);
        let result = change(&mut state, self.now_us());
        while let Some(action) = state.machine.next_action() {
            match action {
                Action::Tell(note) => {
                    state.note_gone(&note);
                    self.tell(&state, note);
                }
                action => {
                    state.note(&action, &self.log);
                    // Once the rounds are over nobody takes work any more.
                    let _ = self.work.send(action);
                }
            }
        }
        let wake_us = state.machine.deadline();
        self.wake.send_if_modified(|known| {
            let is_news = *known != wake_us;
            *known = wake_us;
            is_news
        });
        result
    }

    /// Reads the state.
    pub(crate) fn look<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&lock(&self.state))
    }

    /// Time of the machine's clock.
    pub(crate) fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64 + self.skipped_us.load(Ordering::SeqCst)
    }

    /// The instant of a time of the machine's clock.
    pub(crate) fn instant(&self, us: u64) -> Instant {
        let skipped_us = self.skipped_us.load(Ordering::SeqCst);
        self.began + Duration::from_micros(us.saturating_sub(skipped_us))
    }

    /// Puts the machine's clock ahead.
    pub(crate) fn skip(&self, duration: Duration) {
        let us = duration.as_micros() as u64;
        self.skipped_us.fetch_add(us, Ordering::SeqCst);
        self.with(|state, now_us| state.machine.tick(now_us));
    }

    fn tell(&self, state: &State, note: Note) {
        let event = match note {
            Note::Entered { round, phase } => Event::PhaseEntered {
                round,
                phase: round_phase(phase),
            },
            Note::Ready { client } => Event::ClientReady { client },
            Note::Lost {
                client,
                reason,
                comes_back,
            } => Event::ClientLost {
                client,
                reason,
                comes_back,
            },
            Note::Expected { client } => Event::ClientExpected { client },
            Note::Started { client, round } => Event::ClientStarted { client, round },
            Note::Failed(failure) => Event::ClientFailed {
                client: failure.client,
                round: failure.round,
                reason: failure.reason,
            },
            Note::TimeDecided(failure) => {
                let Failure {
                    client,
                    round,
                    reason,
                } = failure;
                lock(&self.time_decided).push(time_decided(client, round, &reason));
                Event::TimeDecided {
                    client,
                    round,
                    reason,
                }
            }
            Note::Received { update } => match state.inbox.get(&update) {
                Some(Received { record, .. }) => Event::ResultReceived {
                    record: record.clone(),
                },
                None => return,
            },
        };
        self.log.emit(event);
    }

    /// Tells that a round came to a phase that only its caller knows of.
    pub(crate) fn enter(&self, round: u32, phase: RoundPhase) {
        self.log.emit(Event::PhaseEntered { round, phase });
    }

    /// Keeps the model of a round, as devices are sent it, as long as an update may be its changes.
    pub(crate) fn keep_base(&self, round: u32, model: Arc<Vec<f32>>) {
        if self.config.stragglers == Stragglers::Refuse {
            self.bases.forget_before(round);
        }
        self.bases.insert(round, model);
    }

    /// Adds bytes that went over a client's connections.
    pub(crate) fn count(&self, id: u32, up: u64, down: u64) {
        lock(&self.state).roster.count(id, up, down);
    }

    /// Notes that something came from a client: it is there.
    pub(crate) fn heard(&self, id: u32) {
        lock(&self.state).machine.heard(id);
    }

    /// Notes that a client was asked in vain.
    pub(crate) fn unheard(&self, id: u32) {
        self.with(|state, now_us| state.machine.unheard(now_us, id));
    }

    pub(crate) fn rejected(&self) {
        let mut state = lock(&self.state);
        state.rejected = state.rejected.saturating_add(1);
    }

    /// True if what this client sends for a round is damaged on the way.
    pub(crate) fn is_corrupted(&self, id: u32, round: u32, token: &Token) -> bool {
        let token = token::number(token);
        self.look(|state| state.machine.is_corrupted(id, round, token))
    }

    /// Clients whose place a newcomer can have only if they are gone, and their addresses: the one whose ID
    /// it asks for, or where none is left some that were never ready, up to so many.
    pub(crate) fn in_the_way(
        &self,
        wish: Option<u32>,
        newcomer: &Newcomer,
        most: usize,
    ) -> Vec<(u32, SocketAddr)> {
        let first: u32 = rand::random();
        self.look(|state| {
            let State {
                machine, roster, ..
            } = state;
            let standing = |id| standing(machine, id, self.now_us(), None);
            let address = |id| Some((id, roster.get(id)?.address?));
            if let Some(id) = roster.place(wish, newcomer) {
                let asked = roster.is_another(id, newcomer) && standing(id) != Standing::Free;
                return asked.then(|| address(id)).flatten().into_iter().collect();
            }
            let all = self.config.clients;
            let those = (0..all).map(|i| (i.wrapping_add(first % all)) % all);
            let idle = those.filter(|&id| standing(id) == Standing::New);
            idle.filter_map(address).take(most).collect()
        })
    }

    /// Takes a device in. Of the client `gone` it is known that nobody is at its address any more.
    pub(crate) fn join(
        &self,
        wish: Option<u32>,
        newcomer: Newcomer,
        gone: Option<u32>,
    ) -> Result<u32, JoinError> {
        self.with(|state, now_us| {
            let machine = &mut state.machine;
            let standing = |id| standing(machine, id, now_us, gone);
            let (id, again) = state.roster.join(wish, newcomer, standing)?;
            if let Some(cluster) = self.cluster(id) {
                let address = newcomer.address;
                for client in cluster {
                    let why = format!("its edge joined anew from {address}");
                    machine.reboots(now_us, client, &why);
                }
                state.edges.remove(&id);
                state.lost_edges.remove(&id);
                return Ok(id);
            }
            machine.joined(now_us, id);
            state.gone.remove(&id);
            self.log.emit(Event::ClientJoined {
                client: id,
                address: newcomer.address.to_string(),
                again,
            });
            Ok(id)
        })
    }

    /// Examples that a client's device holds out; none if it cannot evaluate.
    pub(crate) fn holdout(&self, id: u32) -> Vec<u32> {
        let can = |state: &State| state.roster.get(id).is_some_and(|one| one.evaluates);
        match self.config.evaluation.is_some() && self.look(can) {
            true => self.config.holdout(id).to_vec(),
            false => Vec::new(),
        }
    }

    /// Notes that a client has all of its data, as soon as this answer has arrived.
    pub(crate) fn fetched(&self, id: u32) {
        self.with(|state, now_us| state.machine.fetched(now_us, id));
    }

    /// Notes that a device answered that it is ready.
    pub(crate) fn is_ready(&self, id: u32) {
        self.with(|state, now_us| state.machine.ready(now_us, id));
    }

    /// Tells what a device answered, unless it has been given up since.
    pub(crate) fn in_round(&self, id: u32, round: u32, event: impl FnOnce() -> Event) {
        self.with(|state, _| {
            if state.machine.is_in_round(id, round) {
                self.log.emit(event());
            }
        });
    }

    /// Gives the place of a device up that did not do its part of a round, and said so.
    pub(crate) fn failed_there(&self, id: u32, round: u32, reason: &str) {
        self.with(|state, now_us| state.machine.gave_up(now_us, id, round, reason));
    }

    /// Gives the place of a client up whose update is of no use, if it is the one that was asked for.
    pub(crate) fn give_up(&self, id: u32, round: u32, token: &Token, why: &str) {
        let token = token::number(token);
        self.with(|state, now_us| state.machine.useless(now_us, id, round, token, why));
    }

    /// Takes an update in, for the round, client and token that it was asked of, once.
    ///
    /// # Errors
    /// [`Refusal`] with the status and the reason.
    pub(crate) fn take_update(
        &self,
        id: u32,
        results: Results,
        sections: Sections,
    ) -> Result<(), Refusal> {
        let expected = self.partition.indices(id as usize).len();
        if results.num_examples as usize != expected {
            return Err(Refusal(
                StatusCode::BAD_REQUEST,
                format!(
                    "{} examples, this client has {expected}",
                    results.num_examples
                ),
            ));
        }
        let round = results.round;
        let metrics = results.metrics.iter();
        let metrics = metrics.map(|(name, value)| (name.to_owned(), value));
        let update = Update {
            client: id,
            num_examples: results.num_examples,
            round,
            steps: results.steps,
            loss: results.loss,
            sections,
            metrics: metrics.collect(),
            ..Update::default()
        };
        let (record, measured) = self.record(id, &results);
        let token = token::number(&results.token);
        let placed =
            self.with(|state, now_us| state.place(now_us, token, (record, measured), Some(update)));
        match placed {
            Ok(placed) if placed.counts => Ok(()),
            Ok(_) => Err(refusal(&Refused::RoundOver { round })),
            Err(refused) => Err(refusal(&refused)),
        }
    }

    /// The row of an update that has come. An update that is awaited is measured, which takes a look at
    /// its device: not under the lock.
    pub(crate) fn record(&self, id: u32, results: &Results) -> (ClientRecord, Measured) {
        let mut record = ClientRecord {
            round: results.round,
            client: id,
            outcome: "received".into(),
            num_examples: results.num_examples,
            loss: Some(results.loss),
            round_s: None,
            bytes_up: 0,
            bytes_down: 0,
            cost: Some(results.cost.clone()),
            host: None,
            chosen: None,
        };
        let mut measured = Measured {
            loss: results.loss,
            ..Measured::default()
        };
        let token = token::number(&results.token);
        if self.look(|state| state.machine.is_awaited(id, results.round, token)) {
            let hooks = self.hooks.get();
            record.host = hooks.and_then(|hooks| hooks.seen(&record, results.steps));
            let calculated = hooks.and_then(|hooks| hooks.calculated(&record, results.steps));
            if let Some(calculated) = calculated {
                measured.took_us = Some(calculated.took.as_micros() as u64);
                measured.energy_j = calculated.energy_j;
            }
        }
        (record, measured)
    }

    /// Checks that a model can be made of an update.
    ///
    /// # Errors
    /// The problem.
    pub(crate) fn check(&self, id: u32, sections: &Sections) -> Result<(), String> {
        for (name, numbers) in sections {
            check_numbers(name, numbers)?;
        }
        // Of a model whose end stays on the device there is nothing to test.
        let is_whole = self.config.algorithm.has_global_model();
        let Some(params) = sections.get(MODEL).filter(|_| is_whole) else {
            return Ok(());
        };
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
                "these parameters give no usable loss on the client's own examples: {error}"
            )),
        }
    }
}

/// Checks that numbers are such as training can come to.
///
/// # Errors
/// The first that is not.
pub(crate) fn check_numbers(name: &str, numbers: &[f32]) -> Result<(), String> {
    let Some(at) = fl_algo::first_unsound(numbers) else {
        return Ok(());
    };
    let what = match numbers[at] {
        number if number.is_finite() => format!("is {number:e}, more than {LARGEST_NUMBER:e}"),
        _ => "is not finite".to_owned(),
    };
    Err(match name {
        MODEL => format!("parameter {at} {what}: the training diverged, lower the learning rate"),
        name => format!("section {name}: number {at} {what}"),
    })
}

/// The phase as the record of a run has it.
fn round_phase(phase: Phase) -> RoundPhase {
    match phase {
        Phase::WaitingForReady => RoundPhase::WaitingForReady,
        Phase::CohortChosen => RoundPhase::CohortChosen,
        Phase::Training => RoundPhase::Training,
        Phase::Evaluating => RoundPhase::DevicesEvaluate,
    }
}

pub(crate) fn refusal(refused: &Refused) -> Refusal {
    let status = match refused {
        Refused::NotBegun { .. } | Refused::Twice { .. } => StatusCode::CONFLICT,
        Refused::NotInCohort { .. } | Refused::WrongToken => StatusCode::FORBIDDEN,
        Refused::RoundOver { .. } | Refused::GivenUp { .. } | Refused::WillFail { .. } => {
            StatusCode::GONE
        }
    };
    Refusal(status, refused.to_string())
}
