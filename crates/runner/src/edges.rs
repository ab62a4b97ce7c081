//! The edges of a run: each an aggregator of its own between its cluster and the aggregator above it.
//!
//! An edge that is lost ends at once, with all that it had in memory. One that comes back has its address and
//! what it kept: where its devices are.

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;
use tokio::task::JoinHandle;
use zfl_aggregator::{Clusters, Edge, EdgeSetup, Entry, Handle, Kept, Limits, Proof, bind, lock};
use zfl_experiment::{EdgeNode, Experiment};
use zfl_files::Dir;
use zfl_orchestrator::{DeviceSpec, Fleet, Word};
use zfl_run_dir::EventLog;

use crate::observer::Observer;

/// Folder of the events of the edges in the run directory.
pub(crate) const FOLDER: &str = "edges";

/// Longest wait for an edge to say goodbye to its cluster.
const END_WITHIN: Duration = Duration::from_secs(5);

/// Pause between two tries to listen where an edge was that has just ended.
const LISTEN_AGAIN: Duration = Duration::from_millis(5);
/// Longest wait for an address that an edge has just had.
const LISTEN_WITHIN: Duration = Duration::from_secs(5);

/// The edges of a run.
pub(crate) struct Edges {
    root: Handle,
    address: SocketAddr,
    clients: u32,
    devices: BTreeMap<u32, Proof>,
    limits: Limits,
    rounded: bool,
    rounds: u32,
    hands_over: bool,
    folder: std::path::PathBuf,
    observer: Arc<dyn Observer>,
    nodes: Mutex<Vec<Node>>,
    gateways: Option<Gateways>,
    starts: Starts,
}

/// Edges that are starting again: each once at a time.
#[derive(Default)]
struct Starts(Mutex<BTreeSet<u32>>);

/// One edge that is starting, until this is dropped.
struct Start<'a>(&'a Starts, u32);

impl Starts {
    /// `None` if the edge is starting already.
    fn begin(&self, number: u32) -> Option<Start<'_>> {
        lock(&self.0).insert(number).then(|| Start(self, number))
    }
}

impl Drop for Start<'_> {
    fn drop(&mut self) {
        lock(&self.0.0).remove(&self.1);
    }
}

/// An edge.
struct Node {
    place: EdgeNode,
    /// Address at which it listens; its port is 0 before it has one.
    address: SocketAddr,
    secret: Word,
    /// Vectors that it keeps beyond its end.
    memory: Arc<Mutex<Kept>>,
    handle: Option<Handle>,
    /// None once it is lost.
    task: Option<JoinHandle<()>>,
    /// It is a gateway, and runs.
    is_machine_up: bool,
}

impl Node {
    fn is_up(&self) -> bool {
        self.task.is_some() || self.is_machine_up
    }
}

/// Gateways of a run: machines of its fleet.
pub(crate) struct Gateways {
    fleet: Weak<Fleet>,
    /// Secrets by which they join the root.
    secrets: BTreeMap<u32, Word>,
    /// Task that deals data out to them.
    deals: JoinHandle<()>,
}

impl Drop for Gateways {
    fn drop(&mut self) {
        self.deals.abort();
    }
}

/// Port at which a gateway listens.
const GATEWAY_PORT: u16 = 80;

/// Secrets of the gateways among the devices to be.
pub(crate) fn secrets(experiment: &Experiment, devices: &[DeviceSpec]) -> BTreeMap<u32, Word> {
    let first = experiment.clients;
    let those = devices.iter().filter(|spec| spec.client >= first);
    those
        .filter_map(|spec| Some((spec.client, spec.secret?)))
        .collect()
}

impl Gateways {
    /// The gateways of a fleet with these secrets; none if it has none.
    ///
    /// # Errors
    /// If there is no listener for their data.
    pub async fn of(
        fleet: &Arc<Fleet>,
        root: &Handle,
        secrets: BTreeMap<u32, Word>,
        proofs: &BTreeMap<u32, Proof>,
    ) -> Result<Option<Self>> {
        if secrets.is_empty() {
            return Ok(None);
        }
        let listener = bind(SocketAddr::new(fleet.server_ip(), 0)).await?;
        let address = |(client, proof): (&u32, &Proof)| match proof {
            Proof::Address(IpAddr::V4(address)) => Some((*client, *address)),
            _ => None,
        };
        let addresses = proofs.iter().filter_map(address).collect();
        Ok(Some(Self {
            fleet: Arc::downgrade(fleet),
            secrets,
            deals: tokio::spawn(root.deal_data(listener, addresses)?),
        }))
    }

    /// Boots a gateway; true if it runs.
    async fn boot(&self, id: u32, root: SocketAddr) -> bool {
        match self.fleet.upgrade() {
            Some(fleet) => matches!(fleet.boot_one(id, root).await, Ok(Ok(_))),
            None => false,
        }
    }

    /// Address of a gateway.
    fn address(&self, id: u32) -> Option<SocketAddr> {
        let proofs = self.fleet.upgrade()?.proofs();
        match proofs.get(&id)? {
            zfl_orchestrator::Proof::Address(ip) => Some(SocketAddr::new(*ip, GATEWAY_PORT)),
            zfl_orchestrator::Proof::Secret(_) => None,
        }
    }
}

impl Edges {
    /// Starts the edges of an experiment; without any, devices join the root.
    ///
    /// # Errors
    /// If one cannot listen, or its events cannot be written.
    pub async fn start(
        experiment: &Experiment,
        (root, address): (&Handle, SocketAddr),
        devices: BTreeMap<u32, Proof>,
        limits: Limits,
        gateways: Option<Gateways>,
        observer: &Arc<dyn Observer>,
    ) -> Result<Self> {
        let secret = |edge: u32| {
            let known = gateways.as_ref()?.secrets.get(&(experiment.clients + edge));
            known.copied()
        };
        let nodes = experiment.edges.nodes(experiment.clients).into_iter();
        let nodes = nodes.map(|place| Node {
            address: gateways
                .as_ref()
                .and_then(|all| all.address(experiment.clients + place.number))
                .unwrap_or(SocketAddr::new(address.ip(), 0)),
            secret: secret(place.number).unwrap_or_else(EdgeSetup::secret),
            memory: Arc::default(),
            handle: None,
            task: None,
            is_machine_up: false,
            place,
        });
        let nodes = Mutex::new(nodes.collect());
        let edges = Self {
            devices,
            limits,
            nodes,
            gateways,
            ..Self::none(experiment, (root, address), observer)
        };
        let count = edges.nodes().len() as u32;
        for number in (0..count).filter(|_| edges.gateways.is_none()) {
            edges.spawn(number).await?;
        }
        Ok(edges)
    }

    /// No edges: all devices join one aggregator, at this address.
    pub fn none(
        experiment: &Experiment,
        (root, address): (&Handle, SocketAddr),
        observer: &Arc<dyn Observer>,
    ) -> Self {
        Self {
            root: root.clone(),
            address,
            clients: experiment.clients,
            devices: BTreeMap::new(),
            limits: crate::places::limits(experiment, 0, false),
            rounded: !experiment.edge_sums.is_exact(),
            rounds: experiment.edge_rounds,
            hands_over: experiment.edge_handover,
            folder: experiment.out.join(FOLDER),
            observer: Arc::clone(observer),
            nodes: Mutex::default(),
            gateways: None,
            starts: Starts::default(),
        }
    }

    /// Boots the gateways of a run that begins, all at once; other edges run already.
    pub async fn boot_gateways(&self) {
        let count = self.nodes().len() as u32;
        join_all((0..count).map(|number| self.boot_gateway(number))).await;
    }

    /// Boots a gateway, and tells if it has booted; `None` where edges are none.
    async fn boot_gateway(&self, number: u32) -> Option<bool> {
        let gateways = self.gateways.as_ref()?;
        let is_up = gateways.boot(self.clients + number, self.address).await;
        if is_up {
            self.gateway_runs(number);
        }
        Some(is_up)
    }

    /// Notes that the machine of a gateway runs.
    pub fn gateway_runs(&self, number: u32) {
        if let Some(node) = self.nodes().get_mut(number as usize) {
            node.is_machine_up = true;
        }
    }

    /// Clients of an edge that runs and is a gateway.
    pub fn cluster_of_gateway(&self, number: u32) -> Option<Range<u32>> {
        self.gateways.as_ref().and_then(|_| self.cluster(number))
    }

    /// Number of the gateway that is this machine of the fleet.
    pub fn gateway(&self, client: u32) -> Option<u32> {
        let number = client.checked_sub(self.clients)?;
        self.gateways.as_ref().map(|_| number)
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<Node>> {
        lock(&self.nodes)
    }

    /// The aggregator that a client joins.
    pub fn server_of(&self, client: u32) -> SocketAddr {
        let nodes = self.nodes();
        let joins =
            |node: &&Node| node.place.below.is_empty() && node.place.cluster.contains(&client);
        let edge = nodes.iter().find(joins);
        edge.map_or(self.address, |node| node.address)
    }

    /// Rules by which the devices and edges of an aggregator join it, each as itself: of the root, or of an edge.
    pub fn entry(&self, of: Option<u32>) -> Entry {
        let nodes = self.nodes();
        let below = nodes.iter().filter(|node| node.place.parent == of);
        let edges =
            below.map(|node| (self.clients + node.place.number, Proof::Secret(node.secret)));
        let own = of.and_then(|edge| nodes.get(edge as usize));
        let own = own.map_or(0..self.clients, |node| node.place.cluster.clone());
        let devices = self.devices.range(own).map(|(id, proof)| (*id, *proof));
        Entry {
            fleet: Some(devices.chain(edges).collect()),
            ..Entry::default()
        }
    }

    /// Starts an edge, for the first time or again.
    async fn spawn(&self, number: u32) -> Result<()> {
        if let Some(is_up) = self.boot_gateway(number).await {
            ensure!(is_up, "its gateway does not boot, see its log");
            return Ok(());
        }
        let (setup, address, memory) = {
            let nodes = self.nodes();
            let node = nodes.get(number as usize).context("no such edge")?;
            let above = node
                .place
                .parent
                .and_then(|above| nodes.get(above as usize));
            let setup = EdgeSetup {
                upstream: above.map_or(self.address, |above| above.address),
                secret: Some(node.secret),
                ..setup(&node.place, self.rounded, self.rounds)
            };
            (setup, node.address, Arc::clone(&node.memory))
        };
        let folder = Dir::make(&self.folder)?;
        let file = folder.append(&format!("{number}.jsonl"))?;
        let events = EventLog::new(file).context("the events of an edge")?;
        let before = lock(&memory).clone();
        let keep = Arc::new(move |name: &str, kept: &[u8]| {
            lock(&memory).insert(name.to_owned(), kept.to_vec());
        });
        let edge = Edge::beside(&self.root, events, setup)?
            .with_limits(self.limits)
            .with_memory(&before, keep)?
            .with_entry(self.entry(Some(number)));
        let listener = match address.port() {
            0 => bind(address).await?,
            _ => listen_again(address).await?,
        };
        let address = listener.local_addr().context("an edge has no address")?;
        let handle = edge.handle();
        for (client, why) in self.root.gone() {
            handle.client_lost(client, &why);
        }
        let observer = Arc::clone(&self.observer);
        let task = tokio::spawn(async move {
            if let Err(error) = edge.run(listener).await {
                observer.on_warning(&format!("edge {number}: {error:#}"));
            }
        });
        if let Some(node) = self.nodes().get_mut(number as usize) {
            node.address = address;
            (node.handle, node.task) = (Some(handle), Some(task));
        }
        self.connect();
        Ok(())
    }

    /// Tells every aggregator the edges below it.
    fn connect(&self) {
        let nodes = self.nodes();
        let below = |of: Option<u32>| -> Vec<(Range<u32>, Handle)> {
            let those = nodes.iter().filter(|node| node.place.parent == of);
            those
                .filter_map(|node| Some((node.place.cluster.clone(), node.handle.clone()?)))
                .collect()
        };
        self.root.set_edges(below(None));
        for node in &*nodes {
            if let Some(handle) = &node.handle {
                handle.set_edges(below(Some(node.place.number)));
            }
        }
    }

    /// Clients of an edge that runs.
    pub fn cluster(&self, number: u32) -> Option<Range<u32>> {
        let nodes = self.nodes();
        let node = nodes.get(number as usize)?;
        node.is_up().then(|| node.place.cluster.clone())
    }

    /// Clients of an edge that runs or is lost.
    pub fn cluster_of(&self, number: u32) -> Range<u32> {
        let nodes = self.nodes();
        let node = nodes.get(number as usize);
        node.map_or(0..0, |node| node.place.cluster.clone())
    }

    /// Tells if there is such an edge, and whether it runs.
    pub fn runs(&self, number: u32) -> Option<bool> {
        Some(self.nodes().get(number as usize)?.is_up())
    }

    /// True if a lost edge's devices go to another.
    pub fn hands_over(&self) -> bool {
        self.hands_over
    }

    /// Ends an edge at once. Those above it are told; its clients are lost with it unless they `come back`.
    pub async fn kill(&self, number: u32, reason: &str, come_back: bool) {
        let ended = {
            let mut nodes = self.nodes();
            let Some(node) = nodes.get_mut(number as usize) else {
                return;
            };
            let was_up = node.is_up();
            node.is_machine_up = false;
            let task = node.task.take().inspect(JoinHandle::abort);
            was_up.then(|| (task, node.place.cluster.clone()))
        };
        let Some((task, cluster)) = ended else { return };
        if let Some(fleet) = self.gateways.as_ref().and_then(|all| all.fleet.upgrade()) {
            let _ = fleet.kill(self.clients + number).await;
        }
        // It has let go of its address then.
        if let Some(task) = task {
            let _ = task.await;
        }
        for above in self.above(number) {
            above.edge_lost(number, cluster.clone(), reason, come_back);
        }
    }

    /// Tells those above a lost edge that its clients are on their way back which were lost for this reason.
    pub fn expect(&self, number: u32, reason: &str) {
        let cluster = self.cluster_of(number);
        for above in self.above(number) {
            above.edge_expected(cluster.clone(), reason);
        }
    }

    /// Aggregators above an edge, up to the root.
    fn above(&self, number: u32) -> Vec<Handle> {
        let nodes = self.nodes();
        let mut above = Vec::new();
        let mut at = nodes.get(number as usize);
        while let Some(node) = at {
            at = node
                .place
                .parent
                .and_then(|parent| nodes.get(parent as usize));
            above.extend(at.and_then(|parent| parent.handle.clone()));
        }
        above.push(self.root.clone());
        above
    }

    /// Starts a lost edge again.
    ///
    /// # Errors
    /// As of [`Edges::start`], and if it is starting already.
    pub async fn bring_back(&self, number: u32) -> Result<()> {
        let _start = self.starts.begin(number).context("it starts already")?;
        match self.runs(number) {
            Some(false) => self.spawn(number).await,
            _ => Ok(()),
        }
    }

    /// Gives the clients of a lost edge to a neighbour that runs; returns its number and the clients.
    pub fn hand_over(&self, number: u32) -> Option<(u32, Range<u32>)> {
        let (to, cluster) = {
            let mut nodes = self.nodes();
            let lost = nodes
                .get(number as usize)
                .filter(|node| node.task.is_none())?;
            let cluster = lost.place.cluster.clone();
            let is_next = |node: &&mut Node| {
                let own = &node.place.cluster;
                let touches = own.end == cluster.start || own.start == cluster.end;
                node.task.is_some() && touches && !own.is_empty()
            };
            let next = nodes.iter_mut().find(is_next)?;
            let own = next.place.cluster.clone();
            next.place.cluster = own.start.min(cluster.start)..own.end.max(cluster.end);
            let to = next.place.number;
            nodes.get_mut(number as usize)?.place.cluster = cluster.start..cluster.start;
            let all = nodes.iter().map(|node| node.place.cluster.clone());
            self.root.deal(all.collect());
            (to, cluster)
        };
        let entry = self.entry(Some(to));
        let given = {
            let nodes = self.nodes();
            let node = nodes.get(to as usize)?;
            (node.handle.clone()?, node.place.cluster.clone())
        };
        given.0.give(given.1, entry);
        self.connect();
        Some((to, cluster))
    }

    /// Waits until the edges, which the root has told to stop, have told their devices.
    pub async fn end(&self) {
        let tasks: Vec<_> = self
            .nodes()
            .iter_mut()
            .filter_map(|node| node.task.take())
            .collect();
        let end = |mut task: JoinHandle<()>| async move {
            if zfl_clock::timeout(END_WITHIN, &mut task).await.is_err() {
                task.abort();
            }
        };
        join_all(tasks.into_iter().map(end)).await;
    }
}

/// Place and manner of an edge but for the way up.
pub(crate) fn setup(place: &EdgeNode, rounded: bool, rounds: u32) -> EdgeSetup {
    let EdgeNode {
        number,
        level,
        cluster,
        below,
        ..
    } = place;
    EdgeSetup {
        number: *number,
        level: *level,
        cluster: cluster.clone(),
        clusters: Clusters::clone(below),
        upstream: SocketAddr::from(([0, 0, 0, 0], 0)),
        secret: None,
        rounded,
        // Of the edges that devices join: a round of those above is one of theirs.
        rounds: if below.is_empty() { rounds } else { 1 },
    }
}

/// Listens where an edge was that has just ended, and that may need a moment to let go.
async fn listen_again(address: SocketAddr) -> Result<tokio::net::TcpListener> {
    let began = zfl_clock::Instant::now();
    loop {
        match bind(address).await {
            Err(_) if began.elapsed() < LISTEN_WITHIN => zfl_clock::sleep(LISTEN_AGAIN).await,
            ended => return ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_starts_once_at_a_time() {
        let starts = Starts::default();
        let first = starts.begin(1);
        assert!(first.is_some() && starts.begin(1).is_none() && starts.begin(2).is_some());
        drop(first);
        assert!(starts.begin(1).is_some());
    }
}
