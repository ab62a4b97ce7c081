//! An experiment's server: its endpoints and its rounds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use zfl_clock::Instant;

use anyhow::{Context, Result};
use fl_data::{Dataset, Partition, Splits};
use fl_round::ClientState;
use futures::{FutureExt, StreamExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinSet;
use zfl_http_server::Limits;
use zfl_run_dir::{
    ClientFailure, ClientRecord, Event, FleetRecord, LevelRecord, OnDevices, Record, Resumed,
    RoundPhase, RoundRecord, RunDir, TrainingSummary, model_sha256,
};

use crate::algorithm::{KeptByClient, RunningAlgorithm};
use crate::config::Config;
use crate::device::Devices;
use crate::entry::Entry;
use crate::hooks::RoundHooks;
use crate::log::{Log, lock};
use crate::memory;
use crate::probe::{self, Progress};
use crate::refusals;
use crate::rounds::Rounds;
use crate::serve::{Entrance, limits, serve};
use crate::shared::Shared;
use crate::traffic;

/// Longest that a device may take to say goodbye.
pub(crate) const STOP_WITHIN: Duration = Duration::from_secs(2);

/// An aggregator that has not begun.
pub struct Server {
    rounds: Rounds,
    limits: Limits,
    /// Part of [`TrainingSummary::train_s`] that the run took before it was resumed.
    train_s_before: f64,
}

/// Data of a run: examples that others may have a view on, and those to test with.
#[derive(Clone, Debug)]
pub struct Data {
    /// Examples for training.
    pub train: Arc<Dataset>,
    /// Examples for evaluation.
    pub test: Dataset,
}

impl From<Splits> for Data {
    fn from(Splits { train, test }: Splits) -> Self {
        let train = Arc::new(train);
        Self { train, test }
    }
}

/// Remote control of a running server.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
    /// Edges in this process.
    below: Arc<Mutex<Below>>,
}

/// Clusters, and the edges that have them.
type Below = Vec<(Range<u32>, Handle)>;

impl Server {
    /// A server for an experiment.
    ///
    /// # Errors
    /// If the run directory cannot be written.
    pub fn new(
        config: Config,
        data: impl Into<Data>,
        partition: Partition,
        run_dir: RunDir,
    ) -> Result<Self> {
        let data = data.into();
        let params = Arc::new(config.initial_params());
        let limits = limits(config.clients, usize::MAX);
        let log = Log::new(run_dir.events()?, config.elapsed_before)
            .context("start the writer of events.jsonl")?;
        let states = KeptByClient::default();
        let algorithm = RunningAlgorithm::new(&config, states.clone())?;
        let config = Config {
            stragglers: algorithm.stragglers().unwrap_or(config.stragglers),
            ..config
        };
        let (shared, work) = Shared::new(config, data.train, partition, log, states);
        let shared = Arc::new(shared);
        let rounds = Rounds {
            devices: Devices::new(shared.clone()),
            shared,
            work,
            test: Arc::new(data.test),
            run_dir,
            algorithm: Arc::new(Mutex::new(algorithm)),
            params,
            table: Vec::new(),
            failures: Vec::new(),
            saved: BTreeMap::new(),
            starts: JoinSet::new(),
            stragglers: Default::default(),
            round_began: (Instant::now(), 0),
            made: None,
            faults: Default::default(),
            planned: BTreeMap::new(),
            evaluation_began: BTreeMap::new(),
        };
        Ok(Self {
            rounds,
            limits,
            train_s_before: 0.0,
        })
    }

    /// Asks before each round what will be wrong with devices in it.
    #[must_use]
    pub fn with_hooks(self, hooks: Arc<dyn RoundHooks>) -> Self {
        self.rounds.shared.watch_with(hooks);
        self
    }

    /// Lets join whom these rules let.
    #[must_use]
    pub fn with_entry(self, entry: Entry) -> Self {
        let shared = &self.rounds.shared;
        shared.with(|state, _| state.roster.entry = entry);
        self
    }

    /// Holds connections for as long, and as many, as told; else as many as a fleet may want.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Goes on from there instead of from nothing. [`Config::first_round`] is the round after it.
    ///
    /// # Errors
    /// If the run directory does not hold the algorithm's state of that round.
    pub fn resumed(mut self, from: Resumed) -> Result<Self> {
        let state = self.rounds.run_dir.state();
        state.tidy()?;
        lock(&self.rounds.algorithm).restore(state, from.round)?;
        self.rounds.saved = memory::restore(&self.rounds.shared, state)?;
        let log = &self.rounds.shared.log;
        for record in from.untold {
            log.emit(Event::RoundFinished { record });
        }
        log.emit(Event::RunResumed {
            round: from.round,
            lost_s: from.lost_s,
        });
        self.train_s_before = from.train_s;
        self.rounds.table = from.table;
        self.rounds.failures = from.failures;
        self.rounds.params = Arc::new(from.params);
        Ok(self)
    }

    /// Remote control of it.
    pub fn handle(&self) -> Handle {
        Handle::of(self.rounds.shared.clone())
    }

    /// Serves until every round is complete, one fails, or [`Handle::cancel`]; then tells the devices.
    /// The table, the model and the events are in the run directory then.
    ///
    /// # Errors
    /// If it cannot serve at all; a run that failed is a [`TrainingSummary`] that says so.
    pub async fn run(mut self, entrance: impl Into<Entrance>) -> Result<TrainingSummary> {
        let shared = self.rounds.shared.clone();
        let entrance = entrance.into();
        let address = entrance.address()?;
        if let Entrance::InProcess(door) = &entrance {
            shared.reach_by(door.lines());
        }
        let (over, serve_until) = oneshot::channel();
        let counting = tokio::spawn(refusals::tell_counted(shared.clone()));
        let serving = tokio::spawn(serve(entrance, shared.clone(), self.limits, serve_until));
        let (clients, rounds) = (shared.config.clients, shared.config.rounds);
        let began = shared.log.elapsed_s();
        shared.log.emit(Event::RunStarted {
            clients,
            rounds,
            attackers: shared.config.attackers.keys().copied().collect(),
            address,
        });
        let outcome = match self.rounds.run().await {
            Ok(()) => self.rounds.test_classes().await,
            failed => failed,
        };
        let reason = outcome.err().map(|error| format!("{error:#}"));
        let train_s = self.train_s_before + shared.log.elapsed_s() - began;
        let mut summary = self.summary(reason.clone(), train_s);
        let last = self.rounds.table.last().map_or(0, |record| record.round);
        shared.with(|state, _| state.machine.end());
        counting.abort();
        shared
            .refusals
            .rest()
            .into_iter()
            .for_each(|event| shared.log.emit(event));
        shared.log.run_is_over();
        shared.enter(last, RoundPhase::Finished);
        shared.log.emit(Event::RunFinished {
            success: summary.success,
            reason,
        });
        self.say_goodbye().await;
        drop(over);
        let _ = serving.await;
        if let Err(error) = self.count_the_rest(last + 1, &mut summary) {
            summary.success = false;
            summary.reason.get_or_insert(format!("{error:#}"));
        }
        Ok(summary)
    }

    /// Bytes that came after the last complete round, those of a round that failed among them.
    fn count_the_rest(&mut self, round: u32, summary: &mut TrainingSummary) -> Result<()> {
        let shared = &self.rounds.shared;
        let rest = shared.with(|state, _| traffic::next(round, &mut state.roster));
        for row in rest.iter().filter(|row| self.rounds.is_own(row)) {
            summary.bytes_up += row.bytes_up;
            summary.bytes_down += row.bytes_down;
        }
        self.rounds.run_dir.traffic(&rest)
    }

    async fn say_goodbye(&self) {
        let devices: Vec<(u32, SocketAddr)> = self.rounds.shared.look(|state| {
            // A suspect may well be there, and would wait for ever.
            let is_lost = |id| state.machine.state(id) == Some(ClientState::Lost);
            let those = state.roster.iter().filter(|(id, _)| !is_lost(*id));
            those
                .filter_map(|(id, client)| Some((id, client.address?)))
                .collect()
        });
        let stop = |(id, address)| self.rounds.devices.stop(id, address, STOP_WITHIN).boxed();
        // One after the other: a request takes some kilobytes, and there may be a hundred thousand.
        futures::stream::iter(devices.into_iter().map(stop))
            .buffer_unordered(32)
            .map(drop)
            .collect::<()>()
            .await;
    }

    fn summary(&self, reason: Option<String>, train_s: f64) -> TrainingSummary {
        let Rounds {
            shared,
            table,
            failures,
            params,
            ..
        } = &self.rounds;
        let done: Vec<&RoundRecord> = table.iter().filter(|record| record.round > 0).collect();
        let best = done
            .iter()
            .filter_map(|record| record.test_accuracy)
            .reduce(f64::max);
        let sum = |bytes: fn(&RoundRecord) -> u64| table.iter().map(bytes).sum::<u64>();
        let failure = |f: &ClientRecord| ClientFailure {
            round: f.round,
            client: f.client,
            reason: f.outcome.clone(),
        };
        TrainingSummary {
            success: reason.is_none() && done.len() as u32 == shared.config.rounds,
            reason,
            clients: shared.config.clients,
            rounds: shared.config.rounds,
            rounds_completed: done.len() as u32,
            final_accuracy: table.last().and_then(|record| record.test_accuracy),
            final_loss: table.last().and_then(|record| record.test_loss),
            best_accuracy: best,
            on_devices: OnDevices::of(table).map(Box::new),
            levels: LevelRecord::totals(table),
            epsilon: table
                .last()
                .and_then(|record| record.metrics.get("epsilon").copied()),
            bytes_up: sum(|record| record.bytes_up),
            bytes_down: sum(|record| record.bytes_down),
            train_s,
            model_sha256: model_sha256(params),
            seed: shared.config.seed,
            depends_on_time: lock(&shared.time_decided).clone(),
            client_failures: failures.iter().map(failure).collect(),
        }
    }
}

impl Handle {
    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        let below = Arc::default();
        Self { shared, below }
    }

    /// Tells these edges from now on what is of their clusters.
    pub fn set_edges(&self, edges: Vec<(Range<u32>, Self)>) {
        *lock(&self.below) = edges;
    }

    /// The aggregator that a client joins.
    fn of_client(&self, client: u32) -> Arc<Shared> {
        let edge = {
            let below = lock(&self.below);
            let those = below.iter().find(|(cluster, _)| cluster.contains(&client));
            those.map(|(_, edge)| edge.clone())
        };
        edge.map_or_else(|| self.shared.clone(), |edge| edge.of_client(client))
    }

    /// Tells that an edge and with it these clients are gone: no round of now waits for them. The next does if it
    /// `comes_back`.
    pub fn edge_lost(&self, edge: u32, cluster: Range<u32>, reason: &str, comes_back: bool) {
        self.shared.with(|state, now_us| {
            // It may have sent something that is still on its way.
            state.lost_edges.insert(self.shared.config.clients + edge);
            for client in cluster {
                if state.machine.state(client) == Some(ClientState::Lost) {
                    continue;
                }
                match comes_back {
                    true => state.machine.reboots(now_us, client, reason),
                    false => state.machine.lost(now_us, client, reason),
                }
            }
        });
    }

    /// Tells that the clients of a lost edge are on their way back, those that were lost for this reason.
    pub fn edge_expected(&self, cluster: Range<u32>, reason: &str) {
        self.shared.with(|state, now_us| {
            let lost: Vec<u32> = state
                .gone
                .range(cluster)
                .filter(|(_, why)| *why == reason)
                .map(|(client, _)| *client)
                .collect();
            for client in lost {
                state.machine.expected(now_us, client);
            }
        });
    }

    /// Clients that are lost for good, and why.
    pub fn gone(&self) -> BTreeMap<u32, String> {
        self.shared.look(|state| state.gone.clone())
    }

    /// Deals the clients of this aggregator out to its edges anew, each of which has to be told, too.
    pub fn deal(&self, clusters: Vec<Range<u32>>) {
        self.shared.deal(clusters);
    }

    /// Gives an edge these clients instead of its own.
    pub fn give(&self, cluster: Range<u32>, entry: Entry) {
        let Some(orders) = self.shared.orders.get() else {
            return;
        };
        self.shared.with(|state, _| {
            orders.give(cluster);
            state.roster.entry = entry;
        });
    }

    /// Everything that happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Record> {
        self.shared.log.subscribe()
    }

    /// Tells that a device is gone: no round waits for it.
    pub fn client_lost(&self, client: u32, reason: &str) {
        if self.tell_gateway(client, false) {
            return;
        }
        self.of_client(client)
            .with(|state, now_us| state.machine.lost(now_us, client, reason));
    }

    /// Tells that a device is gone and on its way back: no round of now waits for it, the next does.
    pub fn client_reboots(&self, client: u32, reason: &str) {
        if self.tell_gateway(client, true) {
            return;
        }
        self.of_client(client)
            .with(|state, now_us| state.machine.reboots(now_us, client, reason));
    }

    /// Tells that a device which was lost is on its way back: rounds wait for it again.
    pub fn client_expected(&self, client: u32) {
        self.of_client(client)
            .with(|state, now_us| state.machine.expected(now_us, client));
    }

    /// Clients that failed a round or never got ready, and for how long each has answered nothing though
    /// it was asked.
    pub fn silent(&self) -> Vec<(u32, Duration)> {
        let now_us = self.shared.now_us();
        let silent = |(client, us)| (client, Duration::from_micros(us));
        let own: Vec<_> = self
            .shared
            .look(|state| state.machine.silent(now_us).map(silent).collect());
        let below = lock(&self.below).clone();
        let below = below.iter().flat_map(|(_, edge)| edge.silent());
        own.into_iter().chain(below).collect()
    }

    /// Asks a client how far it is with its part of a round.
    pub async fn progress_of(&self, client: u32) -> Progress {
        let devices = Devices::new(self.shared.clone());
        probe::progress_of(&self.shared, &devices, client).await
    }

    /// Puts something that happened to the fleet among the events.
    pub fn fleet_event(&self, client: Option<u32>, record: FleetRecord) {
        self.shared.log.emit(Event::Fleet { client, record });
    }

    /// Ends the run, for this reason.
    pub fn cancel(&self, reason: &str) {
        self.shared
            .with(|state, now_us| state.machine.cancel(now_us, reason));
    }

    /// Puts the clock of the rounds ahead, so that tests need not wait for deadlines.
    pub fn skip(&self, duration: Duration) {
        self.shared.skip(duration);
    }

    /// Time until the next deadline of the rounds, if they wait for one.
    pub fn deadline_in(&self) -> Option<Duration> {
        let deadline_us = self.shared.look(|state| state.machine.deadline())?;
        let left_us = deadline_us.saturating_sub(self.shared.now_us());
        Some(Duration::from_micros(left_us))
    }

    /// Seconds since the start of the run.
    pub fn elapsed_s(&self) -> f64 {
        self.shared.log.elapsed_s()
    }

    /// HTTP bytes from and to a client so far.
    pub fn traffic(&self, client: u32) -> Option<(u64, u64)> {
        self.of_client(client)
            .look(|state| state.roster.bytes(client))
    }
}

/// Listens. Connections wait in a queue as long as this system allows, so that a whole cohort can come at once.
///
/// # Errors
/// If the address is taken or not this machine's, with what to do.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    /// The system cuts it to its own limit (`net.core.somaxconn`, 4,096 on most).
    const QUEUE: u32 = 1 << 16;
    let listen = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(QUEUE)
    };
    listen().with_context(|| match address.port() {
        0 => format!("listen on {address}"),
        _ => format!(
            "listen on {address}: is another zfl running? give another port, or port 0 for any"
        ),
    })
}
