//! The edges of a run: each an aggregator of its own between its cluster and the root.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use zfl_aggregator::{Edge, EdgeSetup, Entry, Handle, Limits, Proof, bind};
use zfl_experiment::Experiment;
use zfl_files::Dir;
use zfl_run_dir::EventLog;

use crate::observer::Observer;

/// Folder of the events of the edges in the run directory.
pub(crate) const FOLDER: &str = "edges";

/// Longest wait for an edge to say goodbye to its cluster.
const END_WITHIN: Duration = Duration::from_secs(5);

/// Addresses at which devices find their aggregator.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    root: SocketAddr,
    edges: Vec<(Range<u32>, SocketAddr)>,
}

impl Servers {
    /// One aggregator for all.
    pub fn one(address: SocketAddr) -> Self {
        Self {
            root: address,
            edges: Vec::new(),
        }
    }

    /// The aggregator of a client.
    pub fn of(&self, client: u32) -> SocketAddr {
        let edge = self
            .edges
            .iter()
            .find(|(cluster, _)| cluster.contains(&client));
        edge.map_or(self.root, |(_, address)| *address)
    }
}

/// The edges of a run.
pub(crate) struct Edges {
    pub servers: Servers,
    pub handles: Vec<(Range<u32>, Handle)>,
    /// Proof of each edge towards the root, by its ID there.
    pub proofs: BTreeMap<u32, Proof>,
    tasks: Vec<JoinHandle<()>>,
}

impl Edges {
    /// Starts the edges of an experiment; without any, devices join the root.
    ///
    /// # Errors
    /// If one cannot listen, or its events cannot be written.
    pub async fn start(
        experiment: &Experiment,
        root: (&Handle, SocketAddr),
        devices: &BTreeMap<u32, Proof>,
        limits: Limits,
        observer: &Arc<dyn Observer>,
    ) -> Result<Self> {
        let (server, address) = root;
        let mut edges = Self {
            servers: Servers::one(address),
            handles: Vec::new(),
            proofs: BTreeMap::new(),
            tasks: Vec::new(),
        };
        for (number, cluster) in (0..).zip(experiment.clusters()) {
            let secret = EdgeSetup::secret();
            let setup = EdgeSetup {
                number,
                cluster: cluster.clone(),
                clusters: Vec::new(),
                upstream: address,
                secret: Some(secret),
                rounded: !experiment.edge_sums.is_exact(),
                rounds: experiment.edge_rounds,
            };
            let folder = Dir::make(&experiment.out.join(FOLDER))?;
            let file = folder.append(&format!("{number}.jsonl"))?;
            let events = EventLog::new(file).context("the events of an edge")?;
            let own = devices.range(cluster.clone());
            let edge = Edge::beside(server, events, setup)?
                .with_limits(limits)
                .with_entry(Entry {
                    fleet: Some(own.map(|(client, proof)| (*client, *proof)).collect()),
                    ..Entry::default()
                });
            let listener = bind(SocketAddr::new(address.ip(), 0)).await?;
            let own = listener.local_addr().context("an edge has no address")?;
            edges.servers.edges.push((cluster.clone(), own));
            edges.handles.push((cluster, edge.handle()));
            let id = experiment.clients + number;
            edges.proofs.insert(id, Proof::Secret(secret));
            let observer = Arc::clone(observer);
            edges.tasks.push(tokio::spawn(async move {
                if let Err(error) = edge.run(listener).await {
                    observer.on_warning(&format!("edge {number}: {error:#}"));
                }
            }));
        }
        Ok(edges)
    }

    /// Waits until the edges, which the root has told to stop, have told their devices.
    pub async fn end(self) {
        for mut task in self.tasks {
            if zfl_clock::timeout(END_WITHIN, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}
