//! An edge: rounds for a cluster of clients, whose updates go up as one.
//!
//! An edge has the experiment of the aggregator above it, and hands out the same partitions to the same clients,
//! by their numbers in the whole run. Its machine of the rounds runs a round when it is ordered from above, on the
//! cohort that it is given: everyone else is away. What it sends up are exact sums, so that the model is that of a
//! run without edges, to the bit.
//!
//! With more than one round per order (kappa of HierFAVG, Liu et al. 2020, Algorithm 1:
//! <https://arxiv.org/abs/1905.06641>) the mean of the cluster's updates is the model of its next round, and
//! the sums of the last one go up.

mod setup;
mod sums;
mod upward;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use fl_algo::{MODEL, Partial, Way};
use fl_data::{Dataset, Partition};
use fl_proto::DeviceState;
use fl_proto::cluster::{Counted, EdgeWork, PartialResults};
use fl_round::{Action, ClientState, Closed, Faults, Start};
use futures::{FutureExt, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinSet, spawn_blocking};
use zfl_clock::Instant;
use zfl_http_server::Limits;
use zfl_run_dir::EventLog;

use crate::algorithm::{KeptByClient, kept_of};
use crate::broadcast::{Broadcast, Form};
use crate::config::{Config, Weighting};
use crate::device::Devices;
use crate::edge_memory::{self, Keep, Kept};
use crate::edges::EdgeStart;
use crate::entry::Entry;
use crate::local::PartialWork;
use crate::log::{Log, lock};
use crate::rounds::answer_to;
use crate::serve::{limits, serve, serve_above};
use crate::server::{Handle, STOP_WITHIN};
use crate::shared::{Received, Shared, Work};
use crate::upstream::{Order, Orders, Upstream};
use crate::{probe, token};
use sums::{add_cost, counted, encoded};
use upward::{cluster_report, join, keep_sending, report};

pub use setup::EdgeSetup;
pub(crate) use setup::of_edge;

/// An edge that has not begun.
pub struct Edge {
    shared: Arc<Shared>,
    work: Work,
    devices: Devices,
    upstream: Arc<Upstream>,
    setup: EdgeSetup,
    limits: Limits,
    /// Copies of what clients keep are those of the aggregator above: it takes them over.
    shares_kept: bool,
    starts: JoinSet<()>,
    changed: Arc<Notify>,
    current: Option<Current>,
    /// Bytes of the clients that have been told.
    told: BytesByClient,
    keep: Option<Keep>,
    above: Option<TcpListener>,
}

/// HTTP bytes from and to each client.
type BytesByClient = BTreeMap<u32, (u64, u64)>;

/// An order being carried out.
struct Current {
    order: Arc<Order>,
    /// Rounds of the cluster that are done for it.
    done: u32,
    /// Model of the next of them, if it is not that of the order.
    model: Option<Vec<f32>>,
    counted: BTreeMap<u32, Counted>,
    failed: BTreeMap<u32, String>,
    sums: Partial,
    /// Time in which updates were added up.
    added: Duration,
}

impl Edge {
    /// An edge of an experiment, whose copies of what clients keep are its own.
    ///
    /// # Errors
    /// If no thread can be started, or the algorithm needs each update.
    pub fn new(
        config: Config,
        train: Dataset,
        partition: Partition,
        events: EventLog,
        setup: EdgeSetup,
    ) -> Result<Self> {
        let states = KeptByClient::default();
        Self::made(
            config,
            train.into(),
            partition,
            events,
            setup,
            (states, false),
        )
    }

    /// An edge of a server in the same process, with which it shares data and what clients keep.
    ///
    /// # Errors
    /// As [`Edge::new`].
    pub fn beside(server: &Handle, events: EventLog, setup: EdgeSetup) -> Result<Self> {
        let shared = &server.shared;
        Self::made(
            shared.config.clone(),
            shared.train.clone(),
            shared.partition.clone(),
            events,
            setup,
            (shared.states.clone(), true),
        )
    }

    fn made(
        config: Config,
        train: Arc<Dataset>,
        partition: Partition,
        events: EventLog,
        setup: EdgeSetup,
        (states, shares_kept): (KeptByClient, bool),
    ) -> Result<Self> {
        let log = Log::new(events, Duration::ZERO).context("start the writer of events")?;
        let orders = Orders::new(config.clients + setup.number, setup.cluster.clone());
        let upstream = Arc::new(Upstream {
            server: setup.upstream,
            secret: setup.secret,
            word: orders.word,
            id: orders.id,
            sockets: None,
        });
        let config = of_edge(config, &setup);
        let limits = limits(config.clients, usize::MAX);
        let (shared, work) = Shared::new(config, train, partition, log, states);
        let shared = Arc::new(shared);
        shared.with(|state, _| {
            let own = setup.clusters.is_empty().then(|| setup.cluster.clone());
            state.roster.limit_to(own.unwrap_or_default());
        });
        let _ = shared.orders.set(orders);
        Ok(Self {
            devices: Devices::new(shared.clone()),
            shared,
            work,
            upstream,
            setup,
            limits,
            shares_kept,
            starts: JoinSet::new(),
            changed: Arc::default(),
            current: None,
            told: BTreeMap::new(),
            keep: None,
            above: None,
        })
    }

    /// Keeps what it has to remember, and goes on with that of before.
    ///
    /// # Errors
    /// If what was kept is no such memory.
    pub fn with_memory(mut self, before: &Kept, keep: Keep) -> Result<Self> {
        let recalled = edge_memory::recall(&self.shared, before);
        recalled.context("the memory of this edge")?;
        self.keep = Some(keep);
        Ok(self)
    }

    /// Lets join whom these rules let.
    #[must_use]
    pub fn with_entry(self, entry: Entry) -> Self {
        self.shared.with(|state, _| state.roster.entry = entry);
        self
    }

    /// Holds connections for as long, and as many, as told.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Remote control of it.
    pub fn handle(&self) -> Handle {
        Handle::of(self.shared.clone())
    }

    /// Serves its cluster until the aggregator above tells it to stop; then tells its devices.
    ///
    /// # Errors
    /// If it cannot serve, or the aggregator above has another experiment.
    pub async fn run(mut self, listener: TcpListener) -> Result<()> {
        let orders_at = self.above.as_ref().unwrap_or(&listener);
        let port = orders_at.local_addr().context("no address")?.port();
        let (over, serve_until) = oneshot::channel();
        // Whoever ends this ends all of it.
        let mut serving = JoinSet::new();
        serving.spawn(serve(
            listener.into(),
            self.shared.clone(),
            self.limits,
            serve_until,
        ));
        let mut asking = JoinSet::new();
        let mut orders = JoinSet::new();
        if let Some(above) = self.above.take() {
            orders.spawn(serve_above(above, self.shared.clone()));
        }
        asking.spawn(probe::fetched(self.shared.clone(), self.devices.clone()));
        asking.spawn(probe::suspects(self.shared.clone(), self.devices.clone()));
        if let Some(interval) = self.shared.config.progress_interval {
            let (shared, devices) = (self.shared.clone(), self.devices.clone());
            asking.spawn(probe::progress(shared, devices, interval));
        }
        if let Some(keep) = self.keep.clone() {
            asking.spawn(edge_memory::keep(self.shared.clone(), keep));
        }
        let ended = self.join_and_run(port, &mut asking).await;
        drop(asking);
        self.shared.with(|state, _| state.machine.end());
        self.say_goodbye().await;
        drop(over);
        serving.join_next().await;
        ended
    }

    fn orders(&self) -> Result<&Orders> {
        self.shared.orders.get().context("this is no edge")
    }

    async fn join_and_run(&mut self, port: u16, asking: &mut JoinSet<()>) -> Result<()> {
        let mut stopped = self.orders()?.stop.subscribe();
        let (shared, upstream) = (self.shared.clone(), self.upstream.clone());
        let work = async {
            join(&shared, &upstream, port).await?;
            let changed = self.changed.clone();
            asking.spawn(report(shared, upstream, changed, port, self.setup.level));
            self.rounds().await
        };
        tokio::select! {
            ended = work => ended,
            _ = stopped.wait_for(|stopped| *stopped) => Ok(()),
        }
    }

    async fn rounds(&mut self) -> Result<()> {
        self.shared
            .with(|state, now_us| state.machine.begin(now_us));
        let mut broadcast = Broadcast::default();
        loop {
            while self.starts.try_join_next().is_some() {}
            let shared = self.shared.clone();
            match self.work.next(&shared).await {
                Action::FindFaults { .. } => self.begin_round().await?,
                Action::Probe { clients } => {
                    probe::before_round(&shared, &self.devices, &clients).await;
                    shared.with(|state, now_us| state.machine.probed(now_us));
                }
                Action::OpenRound { round, .. } => {
                    broadcast = self.broadcast(round).await?;
                    shared.with(|state, now_us| state.machine.start(now_us));
                }
                Action::Start(start) => self.start(start, &broadcast)?,
                Action::CloseRound(closed) => {
                    self.close(closed).await?;
                    shared.with(|state, now_us| state.machine.made(now_us));
                }
                Action::FinishRound(_) => {
                    shared.with(|state, now_us| state.machine.completed(now_us));
                }
                Action::Fail { reason } => bail!("{reason}"),
                Action::Finish => return Ok(()),
                Action::OpenEvaluation { .. } | Action::Evaluate(_) | Action::Tell(_) => {}
            }
        }
    }

    /// Waits for an order, unless more rounds are to be run for the last, and begins a round on its cohort.
    async fn begin_round(&mut self) -> Result<()> {
        if self.current.is_none() {
            // Who was not of the last cohort may have joined since, and is asked.
            self.shared.with(|state, _| state.machine.all_are_back());
            let order = self.next_order().await?;
            let numbers = self.shared.config.sections(Way::Up);
            let mirrored = numbers.filter(|spec| spec.name != MODEL);
            let mirrored: Vec<_> = mirrored.map(|spec| (spec.name, spec.count)).collect();
            self.current = Some(Current {
                order,
                done: 0,
                model: None,
                counted: BTreeMap::new(),
                failed: BTreeMap::new(),
                sums: Partial::new(self.shared.config.travelling(), mirrored),
                added: Duration::ZERO,
            });
        }
        let Some(Current { order, done, .. }) = &self.current else {
            return Ok(());
        };
        let kappa = self.setup.rounds;
        let round = order.start.round.saturating_sub(1).saturating_mul(kappa);
        let round = round.saturating_add(1 + done);
        let those = |wanted: fn(&fl_proto::cluster::Orders) -> bool| {
            let cohort = order.cohort.iter();
            cohort
                .filter(move |(_, orders)| wanted(orders))
                .map(|(client, _)| *client)
        };
        let all = 0..self.shared.config.clients;
        let faults = Faults {
            away: all
                .filter(|client| !order.cohort.contains_key(client))
                .collect(),
            will_fail: those(|orders| orders.will_fail).collect(),
            corrupt: those(|orders| orders.corrupt).collect(),
            ..Faults::default()
        };
        self.shared.with(|state, now_us| {
            state.machine.come_to(round);
            state.machine.faults(now_us, faults);
        });
        Ok(())
    }

    async fn next_order(&self) -> Result<Arc<Order>> {
        let orders = self.orders()?;
        let mut next = orders.order.subscribe();
        // It is at work from the moment on that it took the order.
        let is_new = |order: &Option<Arc<Order>>| {
            order.is_some() && *lock(&orders.state) == DeviceState::Training
        };
        let order = next.wait_for(is_new).await?.clone();
        order.context("an order")
    }

    /// The sections of a round: as they came, or with the cluster's own model.
    async fn broadcast(&self, round: u32) -> Result<Broadcast> {
        let Some(Current { order, model, .. }) = &self.current else {
            return Ok(Broadcast::default());
        };
        let with_json = self.shared.look(|state| {
            let mut clients = order.cohort.keys().filter_map(|id| state.roster.get(*id));
            clients.any(|client| client.form == Form::Json)
        });
        let (shared, order, model) = (self.shared.clone(), order.clone(), model.clone());
        let encode = move || {
            let config = &shared.config;
            let mut sections = order.sections.clone();
            let is_own = model.is_some();
            if let Some(model) = model {
                sections.insert(MODEL.to_owned(), model);
            }
            let tensors = config.tensors();
            // In the order of the wire.
            let names = config.sections(Way::Down).map(|spec| spec.name);
            let outgoing: Vec<_> = names
                .filter_map(|name| {
                    let numbers = sections.get(name)?;
                    Some(config.outgoing(round, name, numbers, &tensors))
                })
                .collect();
            if config.sends_changes() {
                let base = match (is_own, outgoing.first()) {
                    (true, Some(model)) => crate::broadcast::arrived(model),
                    _ => sections.get(MODEL).cloned().unwrap_or_default(),
                };
                shared.keep_base(round, Arc::new(base));
            }
            if is_own {
                return Broadcast::new(&outgoing, with_json);
            }
            let plain = sections.iter();
            let plain: Vec<_> = plain.map(|(name, it)| (name.as_str(), &**it)).collect();
            let json = with_json.then(|| fl_proto::json_form::encode_sections(&plain));
            Ok(Broadcast::of(order.octets.clone(), json.flatten()))
        };
        spawn_blocking(encode).await?
    }

    fn start(&mut self, start: Start, broadcast: &Broadcast) -> Result<()> {
        let Some(Current { order, .. }) = &self.current else {
            return Ok(());
        };
        let Start { client, round, .. } = start;
        let config = &self.shared.config;
        if self.shared.edge_of(client).is_some() {
            let edge = EdgeStart {
                shared: &self.shared,
                devices: &self.devices,
                cohort: &order.cohort,
                broadcast,
            };
            return edge.send(start, &mut self.starts);
        }
        let mut local = config.local(order.start.round, client);
        if order.cohort.get(&client).is_some_and(|one| one.straggler) {
            let most = local.local_epochs;
            local.local_epochs = PartialWork::epochs(config.seed, round, client, most);
        }
        let state_round = self.shared.states.round(client);
        let token = token::word(start.token);
        let message = token.map(|token| config.start(round, token, local, state_round));
        let (shared, devices) = (self.shared.clone(), self.devices.clone());
        let broadcast = broadcast.clone();
        self.starts.spawn(async move {
            let answer = answer_to(&shared, &devices, start, message, &broadcast).await;
            shared.with(|state, now_us| {
                state.machine.start_answered(now_us, client, round, answer);
            });
        });
        Ok(())
    }

    /// Adds the updates of a round of the cluster up, and sends the sums if it was the last for its order.
    async fn close(&mut self, closed: Closed) -> Result<()> {
        let Some(mut current) = self.current.take() else {
            return Ok(());
        };
        self.harvest(&mut current, &closed)?;
        current.done += 1;
        if current.done < self.setup.rounds {
            if current.sums.mean.weight() > 0 {
                let mean = spawn_blocking(move || (current.sums.mean.mean(), current));
                let (mean, after) = mean.await?;
                current = after;
                current.model = Some(mean?);
            }
            let sums = &mut current.sums;
            let changes: Vec<_> = sums
                .changes
                .iter()
                .map(|(n, s)| (n.clone(), s.len()))
                .collect();
            let changes = changes.iter().map(|(name, len)| (name.as_str(), *len));
            *sums = Partial::new(sums.mean.sum().len(), changes);
            current.failed.clear();
            self.current = Some(current);
            return Ok(());
        }
        self.orders()?.set(DeviceState::Sending);
        self.send(current).await?;
        // The order after this may have come already.
        let orders = self.orders()?;
        let mut state = lock(&orders.state);
        if *state == DeviceState::Sending {
            *state = DeviceState::Ready;
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Takes the updates of a closed round in.
    fn harvest(&mut self, current: &mut Current, closed: &Closed) -> Result<()> {
        let began = Instant::now();
        let (taken, sums) = self.shared.with(|state, _| {
            let arrivals = closed.updates.iter();
            let taken: Vec<Received> = arrivals
                .filter_map(|arrival| state.inbox.remove(&arrival.update))
                .collect();
            for arrival in closed.late.iter().chain(&closed.unused) {
                state.inbox.remove(&arrival.update);
            }
            (taken, std::mem::take(&mut state.sums))
        });
        let config = &self.shared.config;
        let (vectors, personal) = (config.vectors(), config.keeps_personal());
        let mut kept = BTreeMap::new();
        let last = std::mem::take(&mut current.counted);
        for Received { record, update } in taken {
            let Some(mut update) = update else { continue };
            let client = update.client;
            update.weight = match config.weighting {
                Weighting::NumExamples => update.num_examples,
                Weighting::Uniform => 1,
            };
            let before = self.shared.states.get(client);
            if let Err(why) = current.sums.add(&update, before.as_deref()) {
                current.failed.insert(client, why.to_string());
                continue;
            }
            kept.extend(kept_of(vectors, personal, &update).map(|it| (client, it)));
            let one = counted(&record, &update, current.order.start.round);
            current.counted.insert(client, one);
        }
        for (update, clients) in sums {
            current.sums.add(&update, None)?;
            kept.extend(self.shared.states.proposed(update.client));
            current
                .counted
                .extend(clients.into_iter().map(|one| (one.client, one)));
        }
        for (client, before) in last {
            if let Some(one) = current.counted.get_mut(&client) {
                add_cost(one, &before);
            }
        }
        for failure in &closed.failed {
            current
                .failed
                .insert(failure.client, failure.reason.clone());
        }
        for client in current.order.cohort.keys() {
            if !current.counted.contains_key(client) {
                let why = || "its edge did not find it ready".to_owned();
                current.failed.entry(*client).or_insert_with(why);
            }
        }
        current.added += began.elapsed();
        let id = self.upstream.id;
        self.shared.states.propose(id, kept);
        if current.done + 1 < self.setup.rounds {
            self.shared.states.take_proposed(id);
        }
        Ok(())
    }

    /// Sends the sums until they are taken, or of no use any more.
    async fn send(&mut self, current: Current) -> Result<()> {
        let round = current.order.start.round;
        let (bytes, now) = self.bytes();
        let cluster = self.orders()?.cluster();
        let report = self.shared.look(|state| cluster_report(state, &cluster));
        let Current {
            order,
            counted,
            failed,
            sums,
            added,
            ..
        } = current;
        let mut work = self.shared.with(|state, _| std::mem::take(&mut state.work));
        let own = EdgeWork {
            add_us: added.as_micros() as u64,
            held: sums.held() as u64,
        };
        work.insert(self.upstream.id, own);
        let control = PartialResults {
            round,
            token: order.start.token.clone(),
            weight: sums.mean.weight().to_string(),
            counted: counted.into_values().collect(),
            failed: failed
                .into_iter()
                .map(|(id, why)| (id, why.chars().take(160).collect()))
                .collect(),
            cluster: report,
            bytes,
            work,
        };
        let rounded = self.setup.rounded;
        let encode = move || encoded(&control, &sums, rounded);
        let body: Bytes = spawn_blocking(encode).await??.into();
        let mut later = self.orders()?.order.subscribe();
        let is_over = later.wait_for(|order| {
            order
                .as_ref()
                .is_some_and(|order| order.start.round > round)
        });
        let taken = tokio::select! {
            taken = keep_sending(&self.upstream, body) => taken,
            _ = is_over => false,
        };
        if taken {
            self.told = now;
            if !self.shares_kept {
                let clients = self.shared.states.take_proposed(self.upstream.id);
                if let Some(keep) = self.keep.clone() {
                    let shared = self.shared.clone();
                    let kept = move || edge_memory::keep_vectors(&shared, &clients, &keep);
                    spawn_blocking(kept).await?;
                }
            }
        }
        Ok(())
    }

    /// Bytes of each client and edge below that have not been told, and of all time.
    fn bytes(&self) -> (BytesByClient, BytesByClient) {
        let now: BytesByClient = self.shared.look(|state| {
            let all = state.roster.iter();
            all.map(|(id, one)| (id, (one.bytes_up, one.bytes_down)))
                .collect()
        });
        let news = now.iter().filter_map(|(id, (up, down))| {
            let told = self.told.get(id).copied().unwrap_or_default();
            let news = (up.saturating_sub(told.0), down.saturating_sub(told.1));
            (news != (0, 0)).then_some((*id, news))
        });
        (news.collect(), now)
    }

    async fn say_goodbye(&self) {
        let all: Vec<_> = self.shared.look(|state| {
            let lost = |id| state.machine.state(id) == Some(ClientState::Lost);
            let those = state.roster.iter().filter(|(id, _)| !lost(*id));
            those
                .filter_map(|(id, one)| Some((id, one.address?)))
                .collect()
        });
        let stop = |(id, address)| self.devices.stop(id, address, STOP_WITHIN).boxed();
        let stops: Vec<_> = all.into_iter().map(stop).collect();
        futures::stream::iter(stops)
            .buffer_unordered(32)
            .map(drop)
            .collect::<()>()
            .await;
    }
}
