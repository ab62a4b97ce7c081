//! Support of the tests: a tiny data set, a running aggregator, and devices that do as they are told.
//!
//! Everything goes over real sockets on loopback. No test asserts how long something takes, and none
//! waits for a deadline of the rounds: [`Run::pass_deadline`] puts their clock ahead.

// Each test file uses its own part of this.
#![allow(dead_code, unused_imports)]

mod device;
mod http;
mod wire;

pub use device::{Device, Order, Reply, message_of, update_of};
pub use http::{
    Answer, answer, connect_from, get, get_from, get_from_with, get_with, post, post_from, raw,
    word, word_line,
};
pub use wire::Wire;

use fl_data::{Dataset, Partition, Splits, iid};
use fl_nn::{Activation, Model, Shape};
use fl_proto::Arithmetic;
use fl_proto::codec::F32;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, oneshot};
use zfl_aggregator::{
    Config, Entry, Event, Handle, Limits, Record, RoundHooks, RunDir, Server, Stragglers,
    TrainingSummary, Weighting, bind,
};

/// Long enough that only a hang reaches it.
pub const LONG: Duration = Duration::from_secs(60);

/// 40 examples to train on and 8 to test with, of 4 octets and 2 classes.
pub fn data() -> Splits {
    let set = |len: usize| Dataset {
        inputs: (0..4 * len).map(|i| (i * 37 % 251) as u8).collect(),
        labels: (0..len).map(|i| (i % 2) as u8).collect(),
        num_inputs: 4,
        num_classes: 2,
    };
    Splits {
        train: set(40),
        test: set(8),
    }
}

pub fn model() -> Model {
    Model::new(Shape::new(&[4, 3, 2]).unwrap(), Activation::Relu)
}

/// Parameters of [`model`].
pub fn num_params() -> usize {
    model().shape().num_params()
}

/// `clients` for `rounds`, all of them in each, one update is enough, and nothing times out.
pub fn config(clients: u32, rounds: u32) -> Config {
    Config {
        clients,
        rounds,
        first_round: 1,
        elapsed_before: Duration::ZERO,
        clients_per_round: clients,
        over_commit: 0,
        quorum: 1,
        stragglers: Stragglers::Refuse,
        order: Default::default(),
        selection: Default::default(),
        budgets_j: Default::default(),
        wait_for: clients,
        ready_deadline: LONG,
        round_deadline: LONG,
        progress_interval: None,
        local_epochs: 1,
        batch_size: 2,
        learning_rate: 0.5,
        schedule: Default::default(),
        partial_work: Default::default(),
        privacy: None,
        optimizer: Default::default(),
        arithmetic: Arithmetic::Fixed,
        weighting: Weighting::NumExamples,
        attackers: Default::default(),
        algorithm: Default::default(),
        model: model(),
        seed: 7,
        overrides: BTreeMap::new(),
        encoding_up: fl_proto::codec::Encoding::default(),
        encoding_down: fl_proto::codec::Encoding::default(),
        evaluation: None,
        clusters: Default::default(),
        edge_rounds: 1,
    }
}

/// Client `i` has `i + 1` examples, so that weights matter.
pub fn partition(clients: u32) -> Partition {
    let sizes: Vec<usize> = (1..=clients as usize).collect();
    iid(40, &sizes, 7).unwrap()
}

/// A running aggregator.
pub struct Run {
    pub address: SocketAddr,
    pub handle: Handle,
    pub dir: tempfile::TempDir,
    events: broadcast::Receiver<Record>,
    summary: oneshot::Receiver<TrainingSummary>,
}

impl Run {
    pub async fn start(config: Config) -> Self {
        Self::prepared(config, |_| {}, None).await
    }

    pub async fn with_limits(config: Config, limits: Limits) -> Self {
        let set = |server: Server| server.with_limits(limits);
        Self::made(config, |_| {}, set).await
    }

    pub async fn with_entry(config: Config, entry: Entry) -> Self {
        let set = |server: Server| server.with_entry(entry);
        Self::made(config, |_| {}, set).await
    }

    pub async fn with_hooks(config: Config, hooks: Arc<dyn RoundHooks>) -> Self {
        Self::prepared(config, |_| {}, Some(hooks)).await
    }

    /// `prepare` sees the run directory before the server does.
    pub async fn prepared(
        config: Config,
        prepare: impl FnOnce(&Path),
        hooks: Option<Arc<dyn RoundHooks>>,
    ) -> Self {
        let set = |server: Server| match hooks {
            Some(hooks) => server.with_hooks(hooks),
            None => server,
        };
        Self::made(config, prepare, set).await
    }

    async fn made(
        config: Config,
        prepare: impl FnOnce(&Path),
        set: impl FnOnce(Server) -> Server,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = RunDir::create(dir.path()).unwrap();
        prepare(dir.path());
        let partition = partition(config.clients);
        let server = set(Server::new(config, data(), partition, run_dir).unwrap());
        let handle = server.handle();
        let events = handle.subscribe();
        // On a thread and a runtime of its own, which a test that fails can leave behind: a run that
        // hangs must fail its test and not hang it as well.
        let (tell_address, address) = oneshot::channel();
        let (tell_summary, summary) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let ended = runtime.block_on(async {
                let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
                let _ = tell_address.send(listener.local_addr().unwrap());
                server.run(listener).await.unwrap()
            });
            let _ = tell_summary.send(ended);
        });
        let address = address.await.expect("the server listens");
        Self {
            address,
            handle,
            dir,
            events,
            summary,
        }
    }

    /// Joins `clients` devices with the IDs `0..clients`.
    pub async fn devices(&self, clients: u32) -> Vec<Device> {
        let mut devices = Vec::new();
        for client in 0..clients {
            devices.push(Device::join(self.address, client).await);
        }
        devices
    }

    /// The first event from here on that `wanted` makes something of.
    pub async fn until<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let search = async {
            loop {
                let record = self.events.recv().await.expect("the run goes on");
                if let Some(found) = wanted(&record.event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(LONG, search)
            .await
            .expect("the event comes")
    }

    /// Waits until the rounds wait for a deadline, and lets it pass.
    pub async fn pass_deadline(&self) {
        let deadline = async {
            loop {
                if let Some(left) = self.handle.deadline_in() {
                    return left;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let left = tokio::time::timeout(LONG, deadline).await;
        self.handle
            .skip(left.expect("the rounds wait for a deadline"));
    }

    /// Waits until a client is ready for the first time.
    pub async fn until_ready(&mut self, client: u32) {
        let is_it = |event: &Event| matches!(event, Event::ClientReady { client: ready } if *ready == client);
        self.until(|event| is_it(event).then_some(())).await;
    }

    /// Waits for the end without a look at the files, which a test may have made unreadable.
    pub async fn finish_unread(self) -> TrainingSummary {
        tokio::time::timeout(LONG, self.summary)
            .await
            .expect("the run ends")
            .unwrap()
    }

    /// Waits for the end; never for longer than [`LONG`], which is how a test notices a hang.
    pub async fn finish(self) -> Finished {
        let summary = tokio::time::timeout(LONG, self.summary)
            .await
            .expect("the run ends")
            .unwrap();
        let text =
            std::fs::read_to_string(self.dir.path().join("events.jsonl")).unwrap_or_default();
        let read = |line: &str| serde_json::from_str::<Record>(line).expect(line).event;
        let events = text.lines().map(read).collect();
        Finished {
            summary,
            events,
            dir: self.dir,
            handle: self.handle,
        }
    }
}

/// An aggregator that has run.
pub struct Finished {
    pub summary: TrainingSummary,
    /// Contents of `events.jsonl`.
    pub events: Vec<Event>,
    pub dir: tempfile::TempDir,
    pub handle: Handle,
}

impl Finished {
    /// The cohort of each round, the first at 0.
    pub fn cohorts(&self) -> Vec<Vec<u32>> {
        let cohort = |event: &Event| match event {
            Event::RoundStarted { cohort, .. } => Some(cohort.clone()),
            _ => None,
        };
        self.events.iter().filter_map(cohort).collect()
    }

    /// Round, client and reason of each failure.
    pub fn failures(&self) -> Vec<(u32, u32, &str)> {
        let failures = &self.summary.client_failures;
        failures
            .iter()
            .map(|f| (f.round, f.client, f.reason.as_str()))
            .collect()
    }

    /// Columns of a table in the run directory, row by row, by name.
    pub fn table(&self, name: &str, columns: &[&str]) -> Vec<Vec<String>> {
        let mut reader = csv::Reader::from_path(self.dir.path().join(name)).unwrap();
        let head = reader.headers().unwrap().clone();
        let places: Vec<usize> = columns
            .iter()
            .map(|name| head.iter().position(|column| column == *name).expect(name))
            .collect();
        let rows = reader.records().map(|row| row.unwrap());
        rows.map(|row| places.iter().map(|&at| row[at].to_owned()).collect())
            .collect()
    }
}
