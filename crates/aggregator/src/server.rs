//! An experiment's server: its endpoints and its rounds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use fl_data::{Partition, Splits};
use futures::{FutureExt, StreamExt};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::broadcast;

use crate::config::Config;
use crate::device::Devices;
use crate::event::{ClientRecord, Event, Phase, Record, RoundRecord};
use crate::http::app;
use crate::log::Log;
use crate::resume::Resumed;
use crate::roster::Standing;
use crate::rounds::{Outlook, Rounds};
use crate::run_dir::{RunDir, model_sha256};
use crate::shared::Shared;
use crate::strategy::FedAvg;

/// Longest that a device may take to say goodbye.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// An aggregator that has not begun.
pub struct Server {
    rounds: Rounds,
    /// What the parts of the run before this one have of [`Summary::train_s`].
    train_s_before: f64,
}

/// How a run ended.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Whether every round completed.
    pub success: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Clients that there may be.
    pub clients: u32,
    /// Rounds that were to be.
    pub rounds: u32,
    /// Rounds that completed.
    pub rounds_completed: u32,
    /// Accuracy of the last model on the test set.
    pub final_accuracy: Option<f64>,
    /// Its mean cross-entropy on the test set, in nats.
    pub final_loss: Option<f64>,
    /// The best accuracy of any round.
    pub best_accuracy: Option<f64>,
    /// HTTP bytes from devices.
    pub bytes_up: u64,
    /// HTTP bytes to devices.
    pub bytes_down: u64,
    /// From the first wait for devices to the last evaluation, in seconds. Of a run that was resumed,
    /// without what was broken off and done again.
    pub train_s: f64,
    /// SHA-256 of the last model's parameters as little-endian f32.
    pub model_sha256: String,
    /// What every random stream was derived from.
    pub seed: u64,
    /// Clients of a cohort that had no update in it.
    pub client_failures: Vec<ClientFailure>,
}

/// One client that failed one round.
#[derive(Clone, Debug, Serialize)]
pub struct ClientFailure {
    /// The round.
    pub round: u32,
    /// The client.
    pub client: u32,
    /// Why.
    pub reason: String,
}

/// A hand on a running server.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Server {
    /// A server for an experiment.
    ///
    /// # Errors
    /// If the run directory cannot be written.
    pub fn new(
        config: Config,
        data: Splits,
        partition: Partition,
        run_dir: RunDir,
    ) -> Result<Self> {
        let params = Arc::new(config.initial_params());
        let log = Log::new(run_dir.events()?, config.elapsed_before);
        let weighting = config.weighting;
        let shared = Arc::new(Shared::new(config, data.train, partition, log));
        let rounds = Rounds {
            shared,
            devices: Devices::default(),
            test: Arc::new(data.test),
            run_dir,
            strategy: Box::new(FedAvg { weighting }),
            params,
            table: Vec::new(),
            failures: Vec::new(),
            counted: (0, 0),
        };
        Ok(Self {
            rounds,
            train_s_before: 0.0,
        })
    }

    /// Asks before each round what will be wrong with devices in it.
    #[must_use]
    pub fn with_outlook(self, outlook: Arc<dyn Outlook>) -> Self {
        self.rounds.shared.watch_with(outlook);
        self
    }

    /// Goes on from there instead of from nothing. [`Config::first_round`] is the round after it.
    #[must_use]
    pub fn resumed(mut self, from: Resumed) -> Self {
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
        self
    }

    /// A hand on it.
    pub fn handle(&self) -> Handle {
        Handle {
            shared: self.rounds.shared.clone(),
        }
    }

    /// Serves until every round is complete, one fails, or [`Handle::cancel`]; then tells the devices.
    /// The table, the model and the events are in the run directory then.
    ///
    /// # Errors
    /// If it cannot serve at all; a run that failed is a [`Summary`] that says so.
    pub async fn run(mut self, listener: TcpListener) -> Result<Summary> {
        let shared = self.rounds.shared.clone();
        let address = listener
            .local_addr()
            .context("the listener has no address")?;
        let service = app(shared.clone()).into_make_service_with_connect_info::<SocketAddr>();
        let serving = tokio::spawn(async move { axum::serve(listener, service).await });
        let (clients, rounds) = (shared.config.clients, shared.config.rounds);
        let began = shared.log.elapsed_s();
        shared.log.emit(Event::RunStarted {
            clients,
            rounds,
            address: address.to_string(),
        });
        let outcome = self.rounds.run().await;
        let reason = outcome.err().map(|error| format!("{error:#}"));
        let train_s = self.train_s_before + shared.log.elapsed_s() - began;
        let summary = self.summary(reason.clone(), train_s);
        let last = self.rounds.table.last().map_or(0, |record| record.round);
        shared.enter(last, Phase::Finished);
        shared.log.emit(Event::RunFinished {
            success: summary.success,
            reason,
        });
        self.say_goodbye().await;
        serving.abort();
        Ok(summary)
    }

    async fn say_goodbye(&self) {
        let addresses: Vec<SocketAddr> = self.rounds.shared.look(|state| {
            // A suspect may well be there, and would wait for ever.
            let alive = |standing: &Standing| !matches!(standing, Standing::Lost(_));
            let those = state
                .roster
                .iter()
                .filter(|(_, client)| alive(&client.standing));
            those.filter_map(|(_, client)| client.address).collect()
        });
        let stops: Vec<_> = addresses
            .into_iter()
            .map(|address| self.rounds.devices.stop(address, STOP_WITHIN).boxed())
            .collect();
        futures::stream::iter(stops)
            .buffer_unordered(32)
            .map(drop)
            .collect::<()>()
            .await;
    }

    fn summary(&self, reason: Option<String>, train_s: f64) -> Summary {
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
            .map(|record| record.test_accuracy)
            .reduce(f64::max);
        // What the table has not seen: the rounds that failed, and what came after the last one.
        let (up, down) = self.rounds.traffic();
        let rest = (up - self.rounds.counted.0, down - self.rounds.counted.1);
        let sum = |bytes: fn(&RoundRecord) -> u64| table.iter().map(bytes).sum::<u64>();
        let failure = |f: &ClientRecord| ClientFailure {
            round: f.round,
            client: f.client,
            reason: f.outcome.clone(),
        };
        Summary {
            success: reason.is_none() && done.len() as u32 == shared.config.rounds,
            reason,
            clients: shared.config.clients,
            rounds: shared.config.rounds,
            rounds_completed: done.len() as u32,
            final_accuracy: table.last().map(|record| record.test_accuracy),
            final_loss: table.last().map(|record| record.test_loss),
            best_accuracy: best,
            bytes_up: sum(|record| record.bytes_up) + rest.0,
            bytes_down: sum(|record| record.bytes_down) + rest.1,
            train_s,
            model_sha256: model_sha256(params),
            seed: shared.config.seed,
            client_failures: failures.iter().map(failure).collect(),
        }
    }
}

impl Handle {
    /// Everything that happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Record> {
        self.shared.log.subscribe()
    }

    /// Tells that a device is gone: no round waits for it.
    pub fn client_lost(&self, client: u32, reason: &str) {
        self.shared.lost(client, reason);
    }

    /// Tells that a device which was lost is on its way back: rounds wait for it again.
    pub fn client_expected(&self, client: u32) {
        self.shared.expected(client);
    }

    /// Clients that failed a round or never got ready, and for how long each has answered nothing though
    /// it was asked.
    pub fn silent(&self) -> Vec<(u32, Duration)> {
        self.shared.look(|state| state.roster.silent())
    }

    /// Puts something that happened to the fleet among the events.
    pub fn fleet_event(&self, client: Option<u32>, what: &str, detail: serde_json::Value) {
        self.shared.log.emit(Event::Fleet {
            client,
            what: what.to_owned(),
            detail,
        });
    }

    /// Ends the run, for this reason.
    pub fn cancel(&self, reason: &str) {
        self.shared.with(|state| {
            state.cancelled.get_or_insert_with(|| reason.to_owned());
        });
    }

    /// Seconds since the start of the run.
    pub fn elapsed_s(&self) -> f64 {
        self.shared.log.elapsed_s()
    }

    /// HTTP bytes from and to a client so far.
    pub fn traffic(&self, client: u32) -> Option<(u64, u64)> {
        self.shared.look(|state| {
            let client = state.roster.get(client)?;
            Some((client.bytes_up, client.bytes_down))
        })
    }
}

/// Listens.
///
/// # Errors
/// If the address is taken or not this machine's, with what to do.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| match address.port() {
            0 => format!("listen on {address}"),
            _ => format!(
                "listen on {address}: is another zfl running? give another port, or port 0 for any"
            ),
        })
}
