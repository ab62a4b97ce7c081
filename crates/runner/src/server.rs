//! An aggregator alone, for devices that are started elsewhere.

use crate::observer::{Begin, Observer};
use crate::page;
use crate::places;
use crate::run::{claim, conclude, create};
use crate::session::{aggregate, block_on};
use anyhow::{Context, Result};
use fl_data::Splits;
use std::net::SocketAddr;
use std::sync::Arc;
use zfl_aggregator::{Entry, Server, bind};
use zfl_clock::Instant;
use zfl_experiment::{Experiment, Refusal};
use zfl_orchestrator::{Word, preflight};
use zfl_run_dir::{FleetSummary, RunSummary};

/// An aggregator that listens for devices.
pub struct Listening {
    /// The experiment, as [`Experiment::of_server`] has it.
    pub experiment: Experiment,
    /// Its data.
    pub data: Splits,
    /// The address for devices; with port 0 a free one.
    pub listen: SocketAddr,
    /// The secret that every device has to know; `None`: anybody may join.
    pub secret: Option<Word>,
    /// IDs that one address may have, unless it is this machine's; `None`: a quarter of them.
    pub clients_per_address: Option<u32>,
    /// The address of the page about the run.
    pub page: Option<SocketAddr>,
    /// The command that repeats the run, for its page.
    pub command: Option<String>,
    /// Ends the run cleanly at SIGINT, SIGTERM and SIGHUP.
    pub signals: bool,
    /// The moment that the run's duration counts from.
    pub began: Instant,
}

impl Listening {
    /// Runs it to its end. It blocks, and must not be called from within an asynchronous runtime.
    ///
    /// # Errors
    /// If the address is taken; any other failure to begin.
    pub fn run(self, observer: impl Observer + 'static) -> Result<RunSummary> {
        let files = places::least_files(self.experiment.clients, self.page.is_some());
        preflight(&[], files).map_err(Refusal::of)?;
        block_on(self.execute(Arc::new(observer)))
    }

    async fn execute(self, observer: Arc<dyn Observer>) -> Result<RunSummary> {
        let mut experiment = self.experiment;
        // Before a folder is made: whoever forgot a server in another terminal leaves no trace.
        let listener = bind(self.listen).await.map_err(Refusal::of)?;
        let address = listener
            .local_addr()
            .context("the listener has no address")?;
        let page = self.page.map(page::open).transpose();
        let page = page.map_err(Refusal::of)?;
        experiment.make_folder()?;
        let _lock = claim(&experiment.out)?;
        let mut run_dir = create(&mut experiment)?;
        let train = &self.data.train;
        let meta = page::describe(&experiment, None, train, self.command, &mut run_dir)?;
        observer.on_begin(Begin {
            run_dir: &experiment.out,
            introduction: "",
        })?;
        let limits = places::limits(&experiment, 0, page.is_some());
        page::serve(page, meta, &experiment.out, None, &*observer)?;
        let server = Server::new(
            experiment.aggregator(),
            self.data,
            experiment.partition.clone(),
            run_dir,
        )?;
        let few = (experiment.clients / 4).max(1);
        let server = server.with_limits(limits).with_entry(Entry {
            fleet: None,
            secret: self.secret,
            per_address: Some(self.clients_per_address.unwrap_or(few)),
        });
        let wanted = experiment.clients_per_round;
        let secret = self.secret.map_or("", |_| " --join-secret FILE");
        observer.on_note(&format!(
            "listening on {address} for {wanted} devices; start some with: zfl client -c {wanted} -e 5 \
             -b 600 --server {address}{secret}"
        ));
        let (training, interrupt) =
            aggregate(server, listener.into(), &observer, self.signals).await?;
        let wall_s = self.began.elapsed().as_secs_f64();
        let fleet = FleetSummary::default();
        conclude(&experiment, training, fleet, interrupt, wall_s, &*observer)
    }
}
