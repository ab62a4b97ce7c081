//! One edge as a process, for an aggregator and devices that are started elsewhere.

use crate::edges;
use crate::places;
use crate::session::{Interrupts, block_on};
use anyhow::{Context, Result};
use fl_data::Splits;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use zfl_aggregator::{Edge, EdgeSetup, Entry, Kept, bind, is_kept};
use zfl_experiment::{Experiment, Refusal, require};
use zfl_files::Dir;
use zfl_orchestrator::{Word, preflight};
use zfl_run_dir::EventLog;

/// File with the events of an edge.
const EVENTS: &str = "events.jsonl";

/// Most that a file of its memory may have for each device and for each parameter, in bytes.
const EACH: u64 = 256;

/// An edge that listens for its cluster.
pub struct EdgeProcess {
    /// The experiment of the aggregator above.
    pub experiment: Experiment,
    /// Its data.
    pub data: Splits,
    /// Number of the edge, from 0.
    pub number: u32,
    /// Address of the aggregator above.
    pub upstream: SocketAddr,
    /// Address for the devices of the cluster.
    pub listen: SocketAddr,
    /// The secret that every device and edge has to know.
    pub secret: Option<Word>,
    /// Folder of its events and of the addresses of its devices. An edge that is started again with it has them.
    pub folder: PathBuf,
    /// Told where it listens.
    pub told: fn(&str),
}

impl EdgeProcess {
    /// Runs it until the aggregator above says that the run is over, or a signal does. It blocks.
    ///
    /// # Errors
    /// A [`Refusal`] of what cannot be meant; any other failure.
    pub fn run(self) -> Result<()> {
        let experiment = &self.experiment;
        let edges = experiment.edges.nodes(experiment.clients);
        let number = self.number;
        require((number as usize) < edges.len(), || {
            format!(
                "edge {number}: the experiment has {} edges, numbered from 0: give --edges as the aggregator above \
                 has it",
                edges.len()
            )
        })?;
        preflight(&[], places::least_files(self.experiment.clients, false)).map_err(Refusal::of)?;
        block_on(self.execute())
    }

    async fn execute(self) -> Result<()> {
        let experiment = &self.experiment;
        let number = self.number as usize;
        let place = experiment
            .edges
            .nodes(experiment.clients)
            .swap_remove(number);
        let cluster = place.cluster.clone();
        let listener = bind(self.listen).await.map_err(Refusal::of)?;
        let address = listener.local_addr().context("no address")?;
        let folder = Dir::make(&self.folder)?;
        let most = EACH * (u64::from(experiment.clients) + experiment.num_params() + 1);
        let before = memory(&folder, most)?;
        let events = EventLog::new(folder.append(EVENTS)?).context("the events of the edge")?;
        let rounded = !experiment.edge_sums.is_exact();
        let setup = EdgeSetup {
            upstream: self.upstream,
            secret: self.secret,
            ..edges::setup(&place, rounded, experiment.edge_rounds)
        };
        let partition = experiment.partition.clone();
        let edge = Edge::new(
            experiment.aggregator(),
            self.data.train,
            partition,
            events,
            setup,
        )?;
        let keep = Arc::new(move |name: &str, bytes: &[u8]| {
            // Without it an edge that is started again has no devices; this one goes on.
            let _ = folder.write(name, bytes);
        });
        let edge = edge
            .with_limits(places::limits(experiment, 0, false))
            .with_memory(&before, keep)?
            .with_entry(Entry {
                secret: self.secret,
                ..Entry::default()
            });
        let (first, last, count) = (cluster.start, cluster.end - 1, cluster.len());
        (self.told)(&match place.below.ranges.len() as u32 {
            0 => format!(
                "edge {number} listens on {address} for clients {first} to {last}; start them with: zfl client -c \
                 {count} --server {address}"
            ),
            below => format!(
                "edge {number} listens on {address} for edges {} to {}, with clients {first} to {last}; start them \
                 with: zfl edge --upstream {address}",
                place.below.first,
                place.below.first + below - 1
            ),
        });
        let mut interrupts = Interrupts::new()?;
        tokio::select! {
            ended = edge.run(listener) => ended,
            signal = interrupts.next() => anyhow::bail!("interrupted by {}", signal.name),
        }
    }
}

/// Vectors that an edge of before has kept in a folder.
///
/// # Errors
/// If a file cannot be read.
fn memory(folder: &Dir, most: u64) -> Result<Kept> {
    let names = folder.names()?.into_iter();
    let names = names.filter_map(|name| name.into_string().ok());
    let read = |name: String| {
        let octets = folder.read(&name, most)?;
        Ok((name, octets))
    };
    names.filter(|name| is_kept(name)).map(read).collect()
}
