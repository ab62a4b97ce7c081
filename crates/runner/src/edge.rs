//! One edge as a process, for an aggregator and devices that are started elsewhere.

use crate::places;
use crate::session::{Interrupts, block_on};
use anyhow::{Context, Result};
use fl_data::Splits;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use zfl_aggregator::{Edge, EdgeSetup, Entry, bind};
use zfl_experiment::{Experiment, Refusal, require};
use zfl_files::Dir;
use zfl_orchestrator::{Word, preflight};
use zfl_run_dir::EventLog;

/// File with the devices of an edge.
const DEVICES: &str = "devices.json";

/// File with the events of an edge.
const EVENTS: &str = "events.jsonl";

/// Most that the file of devices may have for each, in bytes.
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
        let clusters = self.experiment.clusters();
        let number = self.number;
        require((number as usize) < clusters.len(), || {
            format!(
                "edge {number}: the experiment has {} edges, numbered from 0: give --edges as the aggregator above \
                 has it",
                clusters.len()
            )
        })?;
        preflight(&[], places::least_files(self.experiment.clients, false)).map_err(Refusal::of)?;
        block_on(self.execute())
    }

    async fn execute(self) -> Result<()> {
        let experiment = &self.experiment;
        let number = self.number as usize;
        let cluster = experiment.clusters().swap_remove(number);
        let listener = bind(self.listen).await.map_err(Refusal::of)?;
        let address = listener.local_addr().context("no address")?;
        let folder = Dir::make(&self.folder)?;
        let most = EACH * u64::from(experiment.clients) + EACH;
        let before = match folder.read(DEVICES, most) {
            Err(error) if error.is_missing() => None,
            read => Some(read?),
        };
        let events = EventLog::new(folder.append(EVENTS)?).context("the events of the edge")?;
        let setup = EdgeSetup {
            number: self.number,
            cluster: cluster.clone(),
            clusters: Vec::new(),
            upstream: self.upstream,
            secret: self.secret,
            rounded: !experiment.edge_sums.is_exact(),
            rounds: experiment.edge_rounds,
        };
        let partition = experiment.partition.clone();
        let edge = Edge::new(
            experiment.aggregator(),
            self.data.train,
            partition,
            events,
            setup,
        )?;
        let keep = Arc::new(move |bytes: &[u8]| {
            // Without it an edge that is started again has no devices; this one goes on.
            let _ = folder.write(DEVICES, bytes);
        });
        let edge = edge
            .with_limits(places::limits(experiment, 0, false))
            .with_memory(before.as_deref(), keep)?
            .with_entry(Entry {
                secret: self.secret,
                ..Entry::default()
            });
        (self.told)(&format!(
            "edge {number} listens on {address} for clients {} to {}; start them with: zfl client -c {} --server \
             {address}",
            cluster.start,
            cluster.end - 1,
            cluster.len()
        ));
        let mut interrupts = Interrupts::new()?;
        tokio::select! {
            ended = edge.run(listener) => ended,
            signal = interrupts.next() => anyhow::bail!("interrupted by {}", signal.name),
        }
    }
}
