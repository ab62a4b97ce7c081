//! The root of a launch: it waits for its nodes, runs the aggregator, and says which of them are lost.

use super::hub::{self, Go, Hub, NodeEvent};
use crate::edges::Edges;
use crate::faults::FaultRunner;
use crate::fleet;
use crate::observer::{Begin, Observer};
use crate::page;
use crate::places;
use crate::run::{claim, conclude, create, server};
use crate::runner::{Runner, go_on};
use crate::session::{Interrupts, aggregate, block_on};
use anyhow::{Context, Result, bail};
use fl_data::Splits;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::process::{Child, Command};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use zfl_aggregator::{EdgeSetup, Entry, Handle, Proof, bind};
use zfl_experiment::{Experiment, Refusal, require};
use zfl_orchestrator::{Word, preflight};
use zfl_run_dir::{Death, FleetSummary, RunHistory, RunSummary};

/// Begin of the reason for which a client is gone whose node is lost. Such clients come back when the run is resumed.
const NODE_LOST: &str = "its node is lost";

/// Longest wait for what the nodes wrote, when all is over.
const LAST_FILES: Duration = Duration::from_secs(120);

/// Longest wait for the end of processes that were started here.
const LAST_PROCESSES: Duration = Duration::from_secs(10);

/// Longest wait for the reason of a process that has ended.
const REASON_WITHIN: Duration = Duration::from_secs(1);

/// Interval at which processes that were started here are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The nodes of a launch.
pub struct Nodes {
    /// Their number.
    pub count: u32,
    /// Address at which the root waits for them.
    pub listen: SocketAddr,
    /// Secret that all of them know.
    pub token: Word,
    /// The program of a node that is started here, for each that is; told where the root listens.
    #[expect(clippy::type_complexity, reason = "it is called once")]
    pub here: Vec<(u32, Box<dyn FnOnce(SocketAddr) -> Command>)>,
}

/// Lost nodes, and what the others told at their end.
#[derive(Default)]
struct Told {
    ready: BTreeMap<u32, String>,
    lost: BTreeMap<u32, String>,
    ended: BTreeMap<u32, Option<f64>>,
    deaths: Vec<Death>,
}

impl Told {
    /// Longest boot of a node, in seconds; none if one is unknown.
    fn boot_s(&self) -> Option<f64> {
        let each = self.ended.values().copied();
        each.reduce(|one, other| Some(one?.max(other?))).flatten()
    }

    /// Takes in how a node ended after the last round.
    fn last(&mut self, rank: u32, event: NodeEvent, observer: &dyn Observer) {
        let why = match event {
            NodeEvent::Ended {
                boot_s,
                mut deaths,
                error,
            } => {
                self.deaths.append(&mut deaths);
                self.ended.insert(rank, boot_s);
                error
            }
            _ => Some("it ended before it sent what it wrote".to_owned()),
        };
        if let Some(why) = why {
            observer.on_warning(&format!("node {rank}: {why}"));
            self.lost.insert(rank, why);
        }
    }

    fn over(&self) -> usize {
        let lost = self
            .lost
            .keys()
            .filter(|rank| !self.ended.contains_key(rank));
        self.ended.len() + lost.count()
    }
}

impl Runner {
    /// Runs it on these nodes. It blocks, and must not be called from within an asynchronous runtime.
    ///
    /// # Errors
    /// A [`Refusal`] of what cannot be meant, and if a node cannot carry its part; any other failure to begin.
    pub fn launch(mut self, nodes: Nodes, observer: impl Observer + 'static) -> Result<RunSummary> {
        let observer: Arc<dyn Observer> = Arc::new(observer);
        fleet::allowed(&self.experiment, &self.fleet)?;
        fits(&self.experiment, nodes.count)?;
        if let Some((resumed, _)) = &mut self.resumed {
            if resumed.round == self.experiment.rounds {
                return self.finish(observer);
            }
            let kept = resumed.complete.kept_rounds(&self.experiment.out)?;
            require(kept.is_empty(), || {
                "the algorithm keeps something of each client, which is on the nodes and ends with them: a launch of it \
                 is not resumed, do the run anew"
                    .to_owned()
            })?;
            resumed
                .complete
                .gone
                .retain(|_, why| !why.starts_with(NODE_LOST));
        }
        preflight(&[], places::least_files(nodes.count, self.page.is_some()))
            .map_err(Refusal::of)?;
        let page = self.page.map(page::open).transpose().map_err(Refusal::of)?;
        let listener = hub::open(nodes.listen).map_err(Refusal::of)?;
        let at = listener.local_addr().context("the root has no address")?;
        let (tell, told) = unbounded_channel();
        let train = &self.data.train;
        let oversubscribe = self.fleet.oversubscribe;
        let hub = Hub::new(
            &mut self.experiment,
            train,
            nodes.token,
            oversubscribe,
            tell,
        )?;
        let hub = Arc::new(hub);
        hub.listen(listener)?;
        if nodes.here.len() < nodes.count as usize {
            observer.on_note(&format!(
                "the experiment has {} nodes: wait for nodes at {at}",
                nodes.count
            ));
        }
        let children = Children::start(nodes.here, at)?;
        let root = Root {
            hub,
            told,
            children,
            count: nodes.count,
            ip: at.ip(),
            observer,
        };
        block_on(root.execute(self, page))
    }
}

/// Clients of each node.
fn clusters(experiment: &Experiment) -> Vec<Range<u32>> {
    let nodes = experiment.edges.nodes(experiment.clients).into_iter();
    nodes.map(|node| node.cluster).collect()
}

/// Refuses what cannot be had on nodes.
fn fits(experiment: &Experiment, nodes: u32) -> Result<(), Refusal> {
    let each = [
        (
            clusters(experiment).len() != nodes as usize,
            "edges of its own: each node is one, leave `edges` out",
        ),
        (
            experiment.edge_handover,
            "edge_handover: a device is on its node",
        ),
        (
            !experiment.faults.is_empty(),
            "planned faults, which only one machine makes: leave them out, or use zfl run --edges",
        ),
        (
            experiment.radio.is_some(),
            "a radio, whose medium is on one machine: leave it out, or use zfl run",
        ),
        (
            experiment.personal_numbers() > 0,
            "personal models, which would stay on the nodes: use zfl run",
        ),
    ];
    for (is_asked, what) in each {
        require(!is_asked, || format!("a launch goes without {what}"))?;
    }
    Ok(())
}

/// Processes of nodes that were started here; they are ended with this value.
struct Children(BTreeMap<u32, Child>);

impl Children {
    #[expect(clippy::type_complexity, reason = "as in `Nodes`")]
    fn start(
        here: Vec<(u32, Box<dyn FnOnce(SocketAddr) -> Command>)>,
        at: SocketAddr,
    ) -> Result<Self> {
        let mut children = Self(BTreeMap::new());
        for (rank, command) in here {
            let child = command(at).spawn();
            let child = child.with_context(|| format!("node {rank} cannot be started"))?;
            children.0.insert(rank, child);
        }
        Ok(children)
    }

    /// One that has ended.
    fn ended(&mut self) -> Option<u32> {
        let mut each = self.0.iter_mut();
        each.find_map(|(rank, child)| child.try_wait().ok()?.map(|_| *rank))
    }

    /// Waits until all have ended, for a time.
    async fn wait(&mut self) {
        let all = async {
            while !self.0.is_empty() {
                match self.ended() {
                    Some(ended) => _ = self.0.remove(&ended),
                    None => zfl_clock::sleep(LOOK_EVERY).await,
                }
            }
        };
        let _ = zfl_clock::timeout(LAST_PROCESSES, all).await;
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in self.0.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A root that is about to begin.
struct Root {
    hub: Arc<Hub>,
    told: UnboundedReceiver<(u32, NodeEvent)>,
    children: Children,
    count: u32,
    ip: std::net::IpAddr,
    observer: Arc<dyn Observer>,
}

impl Root {
    async fn execute(mut self, runner: Runner, page: Option<TcpListener>) -> Result<RunSummary> {
        let mut told = Told::default();
        self.all_ready(&mut told).await?;
        let Runner {
            mut experiment,
            data,
            resumed,
            command,
            signals,
            began,
            ..
        } = runner;
        let observer = Arc::clone(&self.observer);
        let (resumed, lock) = resumed.unzip();
        experiment.make_folder()?;
        let _lock = match lock {
            Some(lock) => lock,
            None => claim(&experiment.out)?,
        };
        let (mut run_dir, mut history) = match &resumed {
            Some(resumed) => go_on(&experiment, resumed)?,
            None => (create(&mut experiment)?, RunHistory::default()),
        };
        let network = network(&told);
        let introduction = introduction(&experiment, &told, &history);
        let Splits { train, .. } = &data;
        let meta = page::describe(
            &experiment,
            Some(network.clone()),
            train,
            command,
            &mut run_dir,
        )?;
        observer.on_begin(Begin {
            run_dir: &experiment.out,
            introduction: &introduction,
        })?;
        let limits = places::limits(&experiment, 0, page.is_some());
        page::serve(page, meta, &experiment.out, None, &*observer)?;
        let gone: Vec<u32> = resumed
            .iter()
            .flat_map(|it| it.complete.gone.keys().copied())
            .collect();
        let (server, lost) = server(&experiment, data, run_dir, resumed)?;
        let aggregator = server.handle();
        let listener = bind(SocketAddr::new(self.ip, 0)).await?;
        let address = listener
            .local_addr()
            .context("the listener has no address")?;
        let faults = FaultRunner::new(
            Weak::new(),
            aggregator.clone(),
            Arc::new(Edges::none(&experiment, (&aggregator, address), &observer)),
            &experiment,
            experiment.fault_plan()?,
        );
        let edges = (experiment.clients..).zip(self.hub.secrets());
        let server = server
            .with_limits(limits)
            .with_hooks(Arc::new(faults))
            .with_entry(Entry {
                fleet: Some(
                    edges
                        .map(|(id, secret)| (id, Proof::Secret(secret)))
                        .collect(),
                ),
                ..Entry::default()
            });
        for (client, reason) in lost {
            aggregator.client_lost(client, &reason);
        }
        let mark = self.mark(&experiment)?;
        self.hub.go(Go {
            port: address.port(),
            run_dir: experiment.out.clone(),
            mark: mark.clone(),
            gone,
        });
        let clusters = clusters(&experiment);
        let aggregating = aggregate(server, listener.into(), &observer, signals);
        tokio::pin!(aggregating);
        let ended = loop {
            tokio::select! {
                ended = &mut aggregating => break ended,
                Some(event) = self.told.recv() => {
                    hear(&mut told, event, &clusters, &aggregator, &*observer);
                }
            }
        };
        let last = async {
            while told.over() < self.count as usize {
                let Some((rank, event)) = self.told.recv().await else {
                    return;
                };
                told.last(rank, event, &*observer);
            }
        };
        if zfl_clock::timeout(LAST_FILES, last).await.is_err() {
            observer.on_warning("not all nodes have sent what they wrote");
        }
        self.children.wait().await;
        let _ = zfl_files::Dir::open(&experiment.out)?.remove(&mark);
        let (mut training, interrupt) = ended?;
        history.deaths.append(&mut told.deaths);
        history
            .depends_on_time
            .append(&mut training.depends_on_time);
        training.depends_on_time = std::mem::take(&mut history.depends_on_time);
        let wall_s = history.wall_s + began.elapsed().as_secs_f64();
        let fleet = FleetSummary {
            network: Some(network),
            boot_s: history.boot_s_with(told.boot_s()),
            faults: history.faults_with(BTreeMap::new()),
            by_hand: history.by_hand_with(BTreeMap::new()),
            lost_s: history.since_round().map(|_| history.lost_s),
            deaths: history.deaths,
            resumed_from: history.resumed_from,
            ..FleetSummary::default()
        };
        conclude(&experiment, training, fleet, interrupt, wall_s, &*observer)
    }

    /// Waits until every node has said that it can carry its part.
    async fn all_ready(&mut self, told: &mut Told) -> Result<()> {
        let mut interrupts = Interrupts::new()?;
        let mut look = zfl_clock::interval(LOOK_EVERY);
        while told.ready.len() < self.count as usize {
            tokio::select! {
                Some((rank, event)) = self.told.recv() => match event {
                    NodeEvent::Ready { network, cores, host } => {
                        let line = format!("node {rank} ({host}): {cores} processors, network {network}");
                        told.ready.insert(rank, line);
                    }
                    NodeEvent::Refused { host, reason } => {
                        return Err(Refusal(format!("node {rank} ({host}): {reason}")).into());
                    }
                    NodeEvent::Lost { host } => bail!("node {rank} ({host}) ended before the run began"),
                    NodeEvent::Ended { .. } => bail!("node {rank} ended before the run began"),
                },
                _ = look.tick() => if let Some(rank) = self.children.ended() {
                    // Why it has ended comes by another thread, which may be behind.
                    while let Ok(Some((rank, event))) = zfl_clock::timeout(REASON_WITHIN, self.told.recv()).await {
                        if let NodeEvent::Refused { host, reason } = event {
                            return Err(Refusal(format!("node {rank} ({host}): {reason}")).into());
                        }
                    }
                    bail!("node {rank} ended before the run began");
                },
                signal = interrupts.next() => bail!("interrupted by {}", signal.name),
            }
        }
        Ok(())
    }

    /// A file by which a node knows that it sees the run directory.
    fn mark(&self, experiment: &Experiment) -> Result<String> {
        let name = format!("launch{}", EdgeSetup::secret().text());
        zfl_files::Dir::open(&experiment.out)?.write(&name, b"")?;
        Ok(name)
    }
}

/// Takes in what happened to a node while the run is under way.
fn hear(
    told: &mut Told,
    (rank, event): (u32, NodeEvent),
    clusters: &[Range<u32>],
    aggregator: &Handle,
    observer: &dyn Observer,
) {
    let cluster = clusters.get(rank as usize).cloned().unwrap_or_default();
    let why = match event {
        NodeEvent::Ready { host, .. } => {
            told.lost.remove(&rank);
            observer.on_note(&format!("node {rank} ({host}) is back"));
            return;
        }
        NodeEvent::Refused { host, reason } => format!("node {rank} ({host}): {reason}"),
        NodeEvent::Lost { host } => format!("node {rank} ({host})"),
        NodeEvent::Ended {
            boot_s,
            mut deaths,
            error,
        } => {
            told.deaths.append(&mut deaths);
            match error {
                None => {
                    told.ended.insert(rank, boot_s);
                    return;
                }
                Some(error) => format!("node {rank}: {error}"),
            }
        }
    };
    observer.on_warning(&format!(
        "lost: {why}, with {} devices, {} to {}; the run goes on without them",
        cluster.len(),
        cluster.start,
        cluster.end.saturating_sub(1),
    ));
    told.lost.insert(rank, why.clone());
    let reason = format!("{NODE_LOST}: {why}");
    for client in cluster {
        aggregator.client_lost(client, &reason);
        told.deaths.push(Death {
            client,
            reason: reason.clone(),
            last_lines: Vec::new(),
        });
    }
}

/// Nodes and their networks, for people.
fn network(told: &Told) -> String {
    let count = told.ready.len();
    format!("{count} nodes, each an edge with a fleet of its own")
}

fn introduction(experiment: &Experiment, told: &Told, history: &RunHistory) -> String {
    let layers: Vec<_> = experiment.layers.iter().map(u32::to_string).collect();
    let mut lines = vec![
        format!(
            "{} devices on {} nodes",
            experiment.clients,
            told.ready.len()
        ),
        format!(
            "{} rounds of {}, network {} with {} parameters",
            experiment.rounds,
            experiment.strategy.title(),
            layers.join("-"),
            experiment.num_params(),
        ),
    ];
    let clusters = clusters(experiment);
    let each = told.ready.iter().zip(clusters);
    lines.extend(each.map(|((_, line), cluster)| {
        let last = cluster.end.saturating_sub(1);
        format!("{line}, devices {} to {last}", cluster.start)
    }));
    if let Some(round) = history.resumed_from.last() {
        lines.push(format!("goes on after round {round}"));
    }
    lines.join("\n")
}
