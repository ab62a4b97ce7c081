//! The rounds, as a state machine: waiting for ready devices, cohort chosen, training, aggregating,
//! evaluating.
//!
//! No phase waits without a deadline, so no device can hang a round: who does not answer in time has
//! failed the round, and the round completes if a quorum of updates is there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fl_data::Dataset;
use fl_proto::Token;
use fl_proto::message::MODEL;
use fl_rng::{Pcg32, Purpose};
use futures::{FutureExt, StreamExt};
use tokio::task::JoinSet;
use zfl_run_dir::{ClientRecord, Event, RoundPhase, RoundRecord, RunDir};

use crate::broadcast::{Broadcast, Form};
use crate::config::Config;
use crate::config::STARTS_AT_ONCE;
use crate::device::{DeviceError, Devices};
use crate::evaluate::evaluate;
use crate::hooks::RoundFaults;
use crate::probe;
use crate::roster::{Assignment, Client, ClientState, Outcome};
use crate::shared::{Late, OpenRound, Shared, State};
use crate::strategy::{Strategy, Update};
use crate::traffic::Ledger;

/// Tries of one `/start`, with a growing pause between them: a second and a half in all.
const START_TRIES: u32 = 6;

/// Runs the rounds.
pub(crate) struct Rounds {
    pub shared: Arc<Shared>,
    pub devices: Devices,
    pub test: Arc<Dataset>,
    pub run_dir: RunDir,
    pub strategy: Box<dyn Strategy>,
    pub params: Arc<Vec<f32>>,
    pub table: Vec<RoundRecord>,
    pub failures: Vec<ClientRecord>,
    /// Bytes that are in the tables.
    pub ledger: Ledger,
}

impl Rounds {
    /// All rounds; on an error those that completed are in the table.
    pub async fn run(&mut self) -> Result<()> {
        // Whoever asks stops with this.
        let mut asking = JoinSet::new();
        asking.spawn(probe::fetched(self.shared.clone(), self.devices.clone()));
        asking.spawn(probe::suspects(self.shared.clone(), self.devices.clone()));
        let (first, last) = (self.shared.config.first_round, self.shared.config.rounds);
        // A run that was broken off in its first round has this row already.
        if self.table.is_empty() {
            self.evaluate_initial().await?;
        }
        for round in first..=last {
            self.round(round).await?;
        }
        Ok(())
    }

    async fn evaluate_initial(&mut self) -> Result<()> {
        let params = self.params.clone();
        let (loss, accuracy, eval_s) = self.evaluate(0, &params).await?;
        let record = RoundRecord {
            test_loss: loss,
            test_accuracy: accuracy,
            eval_s,
            elapsed_s: self.shared.log.elapsed_s(),
            ..RoundRecord::default()
        };
        self.finish_round(record, &[])
    }

    async fn round(&mut self, round: u32) -> Result<()> {
        let began = Instant::now();
        let rejected_before = self.shared.look(|state| state.rejected);
        self.shared.enter(round, RoundPhase::WaitingForReady);
        let faults = match self.shared.hooks() {
            Some(hooks) => hooks.before_round(round, self.shared.log.elapsed_s()).await,
            None => RoundFaults::default(),
        };
        self.shared.set_away(&faults.away);
        self.wait_for_ready(round, &faults).await?;
        let waited = began.elapsed();

        self.shared.enter(round, RoundPhase::CohortChosen);
        let chosen = Instant::now();
        let deadline = chosen + self.shared.config.round_deadline;
        let cohort = self.open_round(round, &faults, chosen)?;
        self.shared.log.emit(Event::RoundStarted {
            round,
            cohort: cohort.clone(),
        });
        if let Some(hooks) = self.shared.hooks() {
            hooks.before_start(round, &cohort).await;
        }
        let start_s = self.start_all(round, &cohort, deadline).await?;

        self.shared.enter(round, RoundPhase::Training);
        self.wait_for_updates(round, deadline).await;
        let (updates, mut records, late) = self.close_round(round)?;
        let train_s = chosen.elapsed().as_secs_f64();

        self.shared.enter(round, RoundPhase::Aggregating);
        let aggregating = Instant::now();
        let results = updates.len() as u32;
        let train_loss = mean_loss(&records);
        let slowest = records
            .iter()
            .filter_map(|r| Some(r.cost.as_ref()?.train_us))
            .max();
        let simulated_s = simulated_s(&records);
        let simulated_elapsed_s = simulated_elapsed_s(self.table.last(), simulated_s);
        let mut all = updates;
        all.extend(late.updates);
        let params = Arc::new(self.strategy.aggregate(&self.params, &all));
        let aggregate_s = aggregating.elapsed().as_secs_f64();

        self.shared.enter(round, RoundPhase::Evaluating);
        let evaluated = self.evaluate(round, &params).await;
        let (test_loss, test_accuracy, eval_s) = evaluated.with_context(|| largest(&all))?;
        // Only now: the model of a run is one that has been tested.
        self.params = params;
        self.shared.answered().await;
        let traffic = self.shared.look(|state| {
            self.ledger.fill(&mut records, &state.roster);
            self.ledger.next(round, &state.roster)
        });
        self.run_dir.traffic(&traffic)?;
        let rejected = self.shared.look(|state| state.rejected) - rejected_before;
        let record = RoundRecord {
            round,
            cohort_size: cohort.len() as u32,
            results,
            failures: cohort.len() as u32 - results,
            rejected,
            late: late.records.len() as u32,
            train_loss,
            test_loss,
            test_accuracy,
            bytes_up: traffic.iter().map(|row| row.bytes_up).sum(),
            bytes_down: traffic.iter().map(|row| row.bytes_down).sum(),
            wait_s: waited.as_secs_f64(),
            start_s,
            train_s,
            slowest_train_s: slowest.map(|us| us as f64 / 1e6),
            aggregate_s,
            eval_s,
            round_s: began.elapsed().as_secs_f64(),
            elapsed_s: self.shared.log.elapsed_s(),
            simulated_s,
            simulated_elapsed_s,
            metrics: BTreeMap::new(),
        };
        // The row of a late update stands beside that of its failure.
        records.extend(late.records);
        self.finish_round(record, &records)
    }

    /// Waits until everyone who can be there is, or the deadline; fails without a quorum.
    async fn wait_for_ready(&self, round: u32, faults: &RoundFaults) -> Result<()> {
        let config = &self.shared.config;
        let deadline = Instant::now() + config.ready_deadline;
        // Those that failed are asked once before the count, or nobody ever would where all others
        // are ready at once.
        probe::before_round(&self.shared, &self.devices).await;
        let enough = |state: &State| {
            // Those that are away cannot come, even if they are on their way back from a crash.
            let is_out = |(id, client): &(u32, &Client)| {
                faults.away.contains(id)
                    || matches!(client.state, ClientState::Lost(_) | ClientState::Suspect)
            };
            let out = state.roster.iter().filter(is_out).count() as u32;
            let ready = available(state, faults).count() as u32;
            state.cancelled.is_some() || ready >= config.wait_for.min(config.clients - out)
        };
        let all_there = self.shared.wait_until(deadline, enough).await;
        self.check_cancelled()?;
        let ready = self
            .shared
            .look(|state| available(state, faults).count() as u32);
        if ready < config.quorum {
            let lost = self
                .shared
                .look(|state| state.roster.count(|s| matches!(s, ClientState::Lost(_))));
            bail!(
                "round {round}: {ready} of {} devices are ready, {lost} are lost and {} away on purpose, \
                 the quorum is {}: look at the devices' logs, or lower the quorum",
                config.clients,
                faults.away.len(),
                config.quorum
            );
        }
        if !all_there {
            self.shared.overdue(faults);
        }
        Ok(())
    }

    /// Chooses the cohort: the first that are available of a permutation of all IDs that the seed and
    /// the round alone decide.
    fn open_round(&self, round: u32, faults: &RoundFaults, chosen: Instant) -> Result<Vec<u32>> {
        let config = &self.shared.config;
        let mut order: Vec<u32> = (0..config.clients).collect();
        Pcg32::for_round(Purpose::Cohort, config.seed, round).shuffle(&mut order);
        let size = (config.clients_per_round + config.over_commit) as usize;
        self.shared.with(|state| {
            let there: Vec<u32> = available(state, faults).collect();
            let mut cohort: Vec<u32> = order
                .into_iter()
                .filter(|id| there.binary_search(id).is_ok())
                .take(size)
                .collect();
            cohort.sort_unstable();
            let mut assignments = BTreeMap::new();
            let mut bytes_before = BTreeMap::new();
            for &id in &cohort {
                let will_crash = faults.will_crash.contains_key(&id);
                let corrupt = faults.corrupt.contains(&id);
                assignments.insert(
                    id,
                    Assignment {
                        token: token()?,
                        outcome: None,
                        will_crash,
                        corrupt,
                    },
                );
                if let Some(client) = state.roster.get_mut(id) {
                    client.state = ClientState::Busy;
                    bytes_before.insert(id, (client.bytes_up, client.bytes_down));
                }
            }
            let (updates, records) = (Vec::new(), Vec::new());
            state.open = Some(OpenRound {
                round,
                chosen,
                assignments,
                updates,
                records,
                bytes_before,
            });
            Ok(cohort)
        })
    }

    /// Sends `/start` to the cohort; returns the seconds until the last took it or failed.
    async fn start_all(&self, round: u32, cohort: &[u32], deadline: Instant) -> Result<f64> {
        let began = Instant::now();
        let shared = &self.broadcast(cohort).await?;
        let starts: Vec<_> = cohort
            .iter()
            .map(|&id| self.start_one(round, id, shared, deadline).boxed())
            .collect();
        let starts = futures::stream::iter(starts)
            .buffer_unordered(STARTS_AT_ONCE)
            .collect::<()>();
        let cancelled = |state: &State| state.cancelled.is_some();
        tokio::select! {
            () = starts => {}
            _ = self.shared.wait_until(deadline, cancelled) => {}
        }
        Ok(began.elapsed().as_secs_f64())
    }

    /// Encodes the sections that the cohort shares.
    async fn broadcast(&self, cohort: &[u32]) -> Result<Broadcast> {
        let with_json = self.shared.look(|state| {
            let mut clients = cohort.iter().filter_map(|id| state.roster.get(*id));
            clients.any(|client| client.form == Form::Json)
        });
        let (codec, params) = (self.shared.config.encoding_down, self.params.clone());
        let encode = move || Broadcast::new(codec, &[(MODEL, &params)], with_json);
        tokio::task::spawn_blocking(encode).await?
    }

    async fn start_one(&self, round: u32, id: u32, shared: &Broadcast, deadline: Instant) {
        let mut pause = Duration::from_millis(50);
        // Whether this token may have reached the device in a try that got no answer.
        let mut unanswered = false;
        for attempt in 1.. {
            let Some(place) = self.shared.look(|state| place(state, id)) else {
                return;
            };
            let reason = match self.try_start(round, id, place, shared, deadline).await {
                Ok(()) => return self.shared.started(round, id),
                // The device took it, and the answer was lost: its update will come.
                Err(DeviceError::Refused { status, .. })
                    if unanswered && status.as_u16() == 409 =>
                {
                    return self.shared.started(round, id);
                }
                Err(error @ DeviceError::Refused { status, .. }) if !retriable(status.as_u16()) => {
                    let reason = of_start(round, &error.to_string());
                    return self.shared.failed_there(id, &reason);
                }
                Err(error) => {
                    unanswered |= !matches!(error, DeviceError::Refused { .. });
                    error.to_string()
                }
            };
            if attempt >= START_TRIES || Instant::now() + pause >= deadline {
                return self.shared.failed(id, &of_start(round, &reason));
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    async fn try_start(
        &self,
        round: u32,
        id: u32,
        place: Place,
        shared: &Broadcast,
        deadline: Instant,
    ) -> Result<(), DeviceError> {
        let Place {
            address,
            token,
            form,
        } = place;
        let start = self.shared.config.start(round, id, token);
        let body = shared.body(&start, form);
        let body = body.map_err(|_| DeviceError::Malformed)?;
        let left = deadline.saturating_duration_since(Instant::now());
        let within = self.shared.config.start_within().min(left);
        let answer = self.devices.start(id, address, (body, form), within).await;
        answer.map(drop)
    }

    async fn wait_for_updates(&self, round: u32, deadline: Instant) {
        let reporter = self.shared.config.progress_interval.map(|interval| {
            tokio::spawn(probe::progress(
                self.shared.clone(),
                self.devices.clone(),
                round,
                interval,
            ))
        });
        let config = &self.shared.config;
        let over = |state: &State| {
            let Some(open) = &state.open else { return true };
            state.cancelled.is_some() || open.missing() == 0 || is_enough(config, open)
        };
        self.shared.wait_until(deadline, over).await;
        if let Some(reporter) = reporter {
            reporter.abort();
        }
    }

    /// Ends the round for updates; fails without a quorum.
    fn close_round(&mut self, round: u32) -> Result<(Vec<Update>, Vec<ClientRecord>, Late)> {
        self.check_cancelled()?;
        let config = &self.shared.config;
        let deadline = config.round_deadline;
        let (open, late, too_slow) = self.shared.with(|state| {
            let mut open = state.open.take();
            let enough = open.as_ref().is_some_and(|open| is_enough(config, open));
            let why = if enough {
                format!(
                    "not waited for: {} updates were in",
                    config.clients_per_round
                )
            } else {
                format!("no update within {deadline:?}")
            };
            let mut too_slow = false;
            for (id, assignment) in open.iter_mut().flat_map(|open| &mut open.assignments) {
                if assignment.outcome.is_some() {
                    continue;
                }
                too_slow = !enough;
                assignment.outcome = Some(Outcome::Failed(why.clone()));
                if let Some(client) = state.roster.get_mut(*id)
                    && client.state == ClientState::Busy
                {
                    client.state = ClientState::Suspect;
                }
            }
            state.previous = open.as_ref().map(|open| (round, open.assignments.clone()));
            let late = std::mem::take(&mut state.late);
            (open, late, too_slow)
        });
        let mut open = open.context("the round was closed twice")?;
        self.ledger.close(std::mem::take(&mut open.bytes_before));
        for (&client, assignment) in &open.assignments {
            let Some(Outcome::Failed(reason)) = &assignment.outcome else {
                continue;
            };
            self.shared.log.emit(Event::ClientFailed {
                client,
                round,
                reason: reason.clone(),
            });
            let num_examples = self.shared.partition.indices(client as usize).len() as u32;
            let record = ClientRecord::without_update(round, client, num_examples, reason.clone());
            self.failures.push(record.clone());
            open.records.push(record);
        }
        open.records.sort_by_key(|record| record.client);
        let (quorum, got) = (self.shared.config.quorum, open.updates.len());
        if got < quorum as usize {
            let records = &mut open.records;
            self.shared
                .look(|state| self.ledger.fill(records, &state.roster));
            open.records.extend(late.records);
            self.run_dir.clients(&open.records)?;
            bail!(
                "round {round}: {got} updates of {} devices, the quorum is {quorum}: {}; look at the \
                 devices' logs{}, or lower the quorum",
                open.assignments.len(),
                reasons(&open.assignments),
                if too_slow {
                    ", give a longer --deadline"
                } else {
                    ""
                }
            );
        }
        open.updates.sort_by_key(|update| update.client);
        let mut late = late;
        late.updates.sort_by_key(|update| update.client);
        late.records.sort_by_key(|record| record.client);
        Ok((open.updates, open.records, late))
    }

    async fn evaluate(&self, round: u32, params: &Arc<Vec<f32>>) -> Result<(f64, f64, f64)> {
        let began = Instant::now();
        let (model, params, test) = (self.shared.config.model, params.clone(), self.test.clone());
        let arithmetic = self.shared.config.evaluation_arithmetic();
        let work = move || evaluate(&model, &params, &test, arithmetic);
        let found = tokio::task::spawn_blocking(work).await?;
        let found = found.with_context(|| format!("test the model of round {round}"))?;
        let (loss, accuracy) = (found.mean_loss(), found.accuracy());
        self.shared.log.emit(Event::Evaluated {
            round,
            loss,
            accuracy,
        });
        Ok((loss, accuracy, began.elapsed().as_secs_f64()))
    }

    /// Writes a round down, and the model that it left, before the next may begin.
    fn finish_round(&mut self, record: RoundRecord, clients: &[ClientRecord]) -> Result<()> {
        let round = record.round;
        self.run_dir.round(&record, clients)?;
        // Last, since a resumed run goes on from the round of the model.
        self.run_dir.model(
            RunDir::MODEL,
            &self.shared.config.model,
            &self.params,
            round,
        )?;
        self.table.push(record.clone());
        self.shared.log.emit(Event::RoundFinished { record });
        if let Some(failure) = self.shared.log.failure() {
            bail!("{failure}");
        }
        self.check_cancelled()
    }

    fn check_cancelled(&self) -> Result<()> {
        match self.shared.look(|state| state.cancelled.clone()) {
            Some(reason) => bail!("{reason}"),
            None => Ok(()),
        }
    }
}

/// Whether a round that asked more devices than it needs has the updates that it needs.
fn is_enough(config: &Config, open: &OpenRound) -> bool {
    config.over_commit > 0 && open.updates.len() >= config.clients_per_round as usize
}

/// Why places in a cohort have no update, the most frequent reason first, three at most.
fn reasons(assignments: &BTreeMap<u32, Assignment>) -> String {
    let mut counts = BTreeMap::<&str, u32>::new();
    for assignment in assignments.values() {
        if let Some(Outcome::Failed(why)) = &assignment.outcome {
            *counts.entry(why).or_default() += 1;
        }
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let told = counts.iter().take(3);
    let told: Vec<_> = told
        .map(|(why, count)| format!("{count} x {why}"))
        .collect();
    told.join("; ")
}

/// Where to look if the mean of updates is of no use, though each of them seemed to be.
fn largest(updates: &[Update]) -> String {
    let magnitude = |update: &Update| {
        let params = update.params.iter();
        params.fold(0.0_f32, |most, param| most.max(param.abs()))
    };
    let each = updates
        .iter()
        .map(|update| (magnitude(update), update.client));
    let (most, client) = each.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default();
    format!("the largest parameter, {most:e}, is of client {client}: look at its log")
}

/// Clients that may be chosen, in order.
fn available<'a>(state: &'a State, faults: &'a RoundFaults) -> impl Iterator<Item = u32> + 'a {
    let ready = state
        .roster
        .iter()
        .filter(|(_, client)| client.state == ClientState::Ready);
    ready
        .map(|(id, _)| id)
        .filter(|id| !faults.away.contains(id))
}

/// Destination of a `/start`.
struct Place {
    address: SocketAddr,
    token: Token,
    form: Form,
}

/// The destination of a client's `/start`, if it still has its place in the round.
fn place(state: &State, id: u32) -> Option<Place> {
    let assignment = state.open.as_ref()?.assignments.get(&id)?;
    let client = state.roster.get(id)?;
    let address = client.address?;
    (assignment.outcome.is_none() && state.cancelled.is_none()).then(|| Place {
        address,
        token: assignment.token.clone(),
        form: client.form,
    })
}

/// Why a device took no `/start`. The event goes out when the round is closed, with all the others.
fn of_start(round: u32, reason: &str) -> String {
    format!("/start of round {round}: {reason}")
}

/// Whether a device that answers so may take the same `/start` a little later: it is still joining,
/// or still busy with the round before.
fn retriable(status: u16) -> bool {
    matches!(status, 408 | 409 | 503)
}

/// A word that no device can guess.
fn token() -> Result<Token> {
    let word: u64 = rand::random();
    Token::try_from(format!("{word:016x}").as_str())
        .ok()
        .context("a token of 16 digits")
}

/// What a round takes on the devices themselves, in seconds: that of the slowest whose update is in it.
fn simulated_s(records: &[ClientRecord]) -> Option<f64> {
    let received = records.iter().filter(|record| record.cost.is_some());
    let each = received.map(|record| {
        let host = record.host?;
        Some(host.virtual_s? + host.link_s.unwrap_or(0.0))
    });
    each.reduce(|slowest, one| Some(slowest?.max(one?)))?
}

/// Simulated time of the run, if it is known of every round so far: `last` and one of `round_s`.
fn simulated_elapsed_s(last: Option<&RoundRecord>, round_s: Option<f64>) -> Option<f64> {
    let before = match last {
        Some(last) if last.round > 0 => last.simulated_elapsed_s?,
        _ => 0.0,
    };
    Some(before + round_s?)
}

/// Mean training loss of a round, weighted by examples.
fn mean_loss(records: &[ClientRecord]) -> Option<f64> {
    let weighted = records
        .iter()
        .filter_map(|r| Some((f64::from(r.loss?), f64::from(r.num_examples))));
    let (sum, examples) = weighted.fold((0.0, 0.0), |(s, n), (loss, k)| (s + loss * k, n + k));
    (examples > 0.0).then(|| sum / examples)
}
