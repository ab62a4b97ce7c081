//! One run, from its sandbox to its summary.

use crate::background::Background;
use crate::control::{self, ControlToken};
use crate::edges::{self, Edges, Gateways};
use crate::faults::FaultRunner;
use crate::observer::Observer;
use crate::page;
use crate::places;
use crate::session::{Interrupt, aggregate};
use crate::summary::{network_stats, summarise};
use anyhow::{Context, Result};
use fl_data::Dataset;
use fl_data::Splits;
use futures::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use zfl_aggregator::{Data, Entrance, Handle, Proof, Server, bind};
use zfl_clock::Instant;
use zfl_experiment::{Experiment, Refusal};
use zfl_files::Lock;
use zfl_netsim::radio::MeshConfig;
use zfl_orchestrator::{Fleet, FleetConfig, SharedExamples};
use zfl_run_dir::{
    FleetRecord, FleetSummary, INPUTS, Memory, MeshRecord, Meta, NetworkStats, Resumed, RunDir,
    RunHistory, RunSummary, TrainingSummary,
};
use zfl_sandbox::{NetworkKind, Sandbox};

/// A run that is about to begin.
pub(crate) struct Run {
    pub experiment: Experiment,
    /// The network, and why it is that one.
    pub network: String,
    pub began: Instant,
    pub resumed: Option<Resumed>,
    pub history: RunHistory,
    pub fleet: FleetConfig,
    pub page: Option<TcpListener>,
    pub control: Option<ControlToken>,
    pub command: Option<String>,
    pub signals: bool,
    pub observer: Arc<dyn Observer>,
}

impl Run {
    /// Runs aggregator and fleet side by side to the end.
    pub async fn execute(
        mut self,
        sandbox: Sandbox,
        data: Splits,
        mut run_dir: RunDir,
    ) -> Result<RunSummary> {
        let observer = Arc::clone(&self.observer);
        let experiment = &self.experiment;
        let secrets = edges::secrets(experiment, &self.fleet.devices);
        let clients = self.fleet.devices.iter().map(|spec| spec.client);
        let clients: BTreeSet<u32> = clients
            .filter(|client| *client < experiment.clients)
            .collect();
        let data = Data::from(data);
        let (tell, told) = mpsc::unbounded_channel();
        let in_process = sandbox.network() == NetworkKind::InProcess;
        let door = in_process.then(|| {
            let (door, lines) = zfl_pipe::exchange();
            self.fleet.lines = Some(lines);
            self.fleet.examples = Some(examples(experiment, &data.train));
            door
        });
        let mesh = self.fleet.mesh.as_ref().map(record_of_mesh);
        let fleet = Arc::new(Fleet::start(sandbox, self.fleet, tell).await?);
        for warning in fleet.warnings() {
            observer.on_warning(warning);
        }
        let server_ip = SocketAddr::new(fleet.server_ip(), 0);
        let (entrance, address) = match door {
            Some(door) => (Entrance::from(door), server_ip),
            None => {
                let listener = bind(server_ip).await?;
                let address = listener
                    .local_addr()
                    .context("the listener has no address")?;
                (listener.into(), address)
            }
        };
        let limits = places::limits(experiment, clients.len(), self.page.is_some());
        let network = Some(self.network.clone());
        let meta = page::describe(experiment, network, &data.train, self.command, &mut run_dir)?;
        let edges = experiment.edges.nodes(experiment.clients).len() as u32;
        let (channel, requests) = control::channel(fleet.can_cut(), edges);
        let control = self.control.map(|token| (token, channel));
        page::serve(self.page, meta, &experiment.out, control, &*observer)?;
        let (mut server, lost) = server(experiment, data, run_dir, self.resumed)?;
        let devices = proofs(&fleet);
        let handle = server.handle();
        let root = (&handle, address);
        let gateways = Gateways::of(&fleet, &handle, secrets, &devices).await?;
        let edges = Edges::start(experiment, root, devices, limits, gateways, &observer).await?;
        let edges = Arc::new(edges);
        let aggregator = root.0.clone();
        let faults = Arc::new(FaultRunner::new(
            Arc::downgrade(&fleet),
            aggregator.clone(),
            edges.clone(),
            experiment,
            experiment.fault_plan()?,
        ));
        server = server
            .with_limits(limits)
            .with_hooks(faults.clone())
            .with_entry(edges.entry(None));
        for (client, reason) in lost {
            aggregator.client_lost(client, &reason);
        }
        if let Some(mesh) = mesh {
            aggregator.fleet_event(None, FleetRecord::Mesh(mesh));
        }
        let background =
            Background::start(&aggregator, &faults, &observer, experiment, told, requests);

        let aggregating = aggregate(server, entrance, &observer, self.signals);
        tokio::pin!(aggregating);
        let (boot_s, ended) = tokio::select! {
            ended = &mut aggregating => (None, ended),
            boot_s = boot(&fleet, &clients, &edges, &aggregator, &*observer) => {
                (Some(boot_s), aggregating.await)
            }
        };
        let pids = fleet.pids().into_keys();
        let private = |client| Some(fleet.usage(client)?.private_bytes);
        let memory = Memory::of(pids.filter_map(private));
        let stats = fleet.switch_stats().as_ref().map(network_stats);
        edges.end().await;
        self.history.deaths.extend(background.end(fleet).await?);
        let (mut training, interrupt) = ended?;

        let mut history = self.history;
        history
            .depends_on_time
            .append(&mut training.depends_on_time);
        training.depends_on_time = std::mem::take(&mut history.depends_on_time);
        let wall_s = history.wall_s + self.began.elapsed().as_secs_f64();
        let fleet = FleetSummary {
            network: Some(self.network),
            boot_s: history.boot_s_with(boot_s),
            memory,
            network_stats: stats.map(|stats| NetworkStats {
                since_round: history.since_round(),
                ..stats
            }),
            faults: history.faults_with(faults.counts()),
            by_hand: history.by_hand_with(faults.remote_actions()),
            lost_s: history.since_round().map(|_| history.lost_s),
            deaths: history.deaths,
            resumed_from: history.resumed_from,
        };
        conclude(experiment, training, fleet, interrupt, wall_s, &*observer)
    }
}

/// Examples that devices of this process have in memory: all but those of attackers, whose labels the aggregator makes.
fn examples(experiment: &Experiment, train: &Arc<Dataset>) -> SharedExamples {
    SharedExamples {
        set: Arc::clone(train),
        training: experiment.partition.clone(),
        holdout: experiment.held_out.clone(),
        fetched_by: experiment.attackers().into_keys().collect(),
    }
}

/// Locks the directory of a run that is about to begin.
///
/// # Errors
/// A [`Refusal`] if another run has it, or it cannot be made.
pub(crate) fn claim(out: &Path) -> Result<Lock, Refusal> {
    zfl_run_dir::claim(out).map_err(|error| Refusal(error.to_string()))
}

/// Makes the files of a run that begins, with copies of those that the experiment names by their path.
pub(crate) fn create(experiment: &mut Experiment) -> Result<RunDir> {
    let mut run_dir = RunDir::create(&experiment.out)?;
    for (name, text) in experiment.keep_inputs(INPUTS) {
        run_dir.keep(&name, text.as_bytes())?;
    }
    run_dir.replace("config.toml", experiment.to_toml()?.as_bytes())?;
    Ok(run_dir)
}

/// Sums a run up: for the observer, and in the run directory.
///
/// # Errors
/// If it cannot be written; it has been shown then.
pub(crate) fn conclude(
    experiment: &Experiment,
    training: TrainingSummary,
    fleet: FleetSummary,
    interrupt: Option<Interrupt>,
    wall_s: f64,
    observer: &dyn Observer,
) -> Result<RunSummary> {
    let signal = interrupt.map(|interrupt| interrupt.name);
    let summary = summarise(experiment, training, fleet, signal, wall_s);
    observer.on_end(&summary);
    summary.save(&experiment.out)?;
    Ok(summary)
}

/// Proofs by which the devices of a fleet are told apart.
pub(crate) fn proofs(fleet: &Fleet) -> BTreeMap<u32, Proof> {
    let proofs = fleet.proofs().into_iter();
    let proofs = proofs.map(|(client, proof)| {
        let proof = match proof {
            zfl_orchestrator::Proof::Address(address) => Proof::Address(address),
            zfl_orchestrator::Proof::Secret(secret) => Proof::Secret(secret),
        };
        (client, proof)
    });
    proofs.collect()
}

/// Ends a run whose rounds are all complete: what its record lacks is written, and no device is started.
///
/// # Errors
/// If it cannot be written.
pub(crate) async fn finish(
    experiment: Experiment,
    data: Splits,
    run_dir: RunDir,
    (resumed, history): (Resumed, RunHistory),
    began: Instant,
    observer: Arc<dyn Observer>,
) -> Result<RunSummary> {
    let listener = bind(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)).await?;
    let network = Meta::load(&experiment.out)?.network;
    let (server, _) = server(&experiment, data, run_dir, Some(resumed))?;
    let (training, interrupt) = aggregate(server, listener.into(), &observer, false).await?;
    let wall_s = history.wall_s + began.elapsed().as_secs_f64();
    let fleet = FleetSummary {
        network,
        // Nothing was booted to end it.
        boot_s: history.boot_s_with(Some(0.0)),
        faults: history.faults_with(BTreeMap::new()),
        by_hand: history.by_hand_with(BTreeMap::new()),
        lost_s: Some(history.lost_s),
        deaths: history.deaths,
        resumed_from: history.resumed_from,
        ..FleetSummary::default()
    };
    conclude(&experiment, training, fleet, interrupt, wall_s, &*observer)
}

/// The aggregator, at its beginning or where it goes on, and the clients that are lost by then.
pub(crate) fn server(
    experiment: &Experiment,
    data: impl Into<Data>,
    run_dir: RunDir,
    resumed: Option<Resumed>,
) -> Result<(Server, BTreeMap<u32, String>)> {
    let mut config = experiment.aggregator();
    let partition = experiment.partition.clone();
    let Some(mut resumed) = resumed else {
        let server = Server::new(config, data, partition, run_dir)?;
        return Ok((server, Default::default()));
    };
    config.first_round = resumed.round + 1;
    config.elapsed_before = Duration::try_from_secs_f64(resumed.elapsed_s).unwrap_or_default();
    let lost = std::mem::take(&mut resumed.complete.gone);
    let server = Server::new(config, data, partition, run_dir)?;
    Ok((server.resumed(resumed)?, lost))
}

/// Places of the radios, as the run's record has them.
fn record_of_mesh(mesh: &MeshConfig) -> MeshRecord {
    let topology = &mesh.topology;
    MeshRecord {
        radio: mesh.radio.name.clone(),
        range_m: mesh.radio.range_m,
        places: topology.places().iter().map(|&(x, y)| [x, y]).collect(),
        hops: (0..topology.nodes())
            .map(|node| topology.hops(node))
            .collect(),
    }
}

/// Boots that are under way or wait for their turn at once: more than a host can run machines at.
const MOST_BOOTS: usize = 1024;

/// Boots these devices; returns how long that took, in seconds.
pub(crate) async fn boot(
    fleet: &Fleet,
    clients: &BTreeSet<u32>,
    edges: &Edges,
    aggregator: &Handle,
    observer: &dyn Observer,
) -> f64 {
    let began = Instant::now();
    observer.on_booting();
    edges.boot_gateways().await;
    let boots = clients
        .iter()
        .map(|&client| fleet.boot_one(client, edges.server_of(client)));
    let booted = futures::stream::iter(boots).buffer_unordered(MOST_BOOTS);
    let booted = booted.filter(|one| std::future::ready(matches!(one, Ok(Ok(_)))));
    let count = booted.count().await;
    let boot_s = began.elapsed().as_secs_f64();
    let record = FleetRecord::FleetBooted {
        devices: count,
        boot_s,
    };
    aggregator.fleet_event(None, record);
    observer.on_note(&format!("{count} devices run after {boot_s:.1} s"));
    boot_s
}
