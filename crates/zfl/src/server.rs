//! `zfl server`: only the aggregator, for devices that are started elsewhere.

use crate::args::ServerArgs;
use crate::run::{block_on, conclude, create};
use crate::session::aggregate;
use crate::summary::summarise;
use crate::terminal::Terminal;
use crate::view;
use anyhow::{Context, Result};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use zfl_aggregator::{Server, bind};
use zfl_experiment::Experiment;
use zfl_run_dir::{FleetSummary, PidFile};

/// Carries `zfl server` out, and returns the exit status.
///
/// # Errors
/// A [`Refusal`](zfl_experiment::Refusal) of what cannot be meant; that the address is taken; any
/// other failure to begin.
pub fn server(args: &ServerArgs, root: &Path, began: Instant) -> Result<u8> {
    args.display.check()?;
    let settings = args.settings();
    let out = args.learning.out.as_deref();
    let (experiment, data) = Experiment::of_server(&settings, out, root)?;
    block_on(async {
        // Before a folder is made: whoever forgot a server in another terminal leaves no trace.
        let listener = bind(args.listen).await?;
        let address = listener
            .local_addr()
            .context("the listener has no address")?;
        let dashboard = view::open(args.learning.dashboard)?;
        let run_dir = create(&experiment)?;
        let _pid_file = PidFile::write(&experiment.out)?;
        let partition = experiment.partition(data.train.len())?;
        let meta = view::describe(&experiment, None, &data.train, &partition)?;
        let _shown = args.display.open(&experiment.out)?;
        let terminal = Arc::new(Terminal::of(&experiment));
        view::serve(dashboard, meta, &experiment.out, None, &terminal)?;
        let server = Server::new(experiment.aggregator(), data, partition, run_dir)?;
        terminal.line(&format!(
            "listening on {address} for {} devices; start some with: zfl client -c {} -e 5 -b 600 \
             --server {address}",
            experiment.clients_per_round, experiment.clients_per_round
        ));
        let (learned, interrupt) = aggregate(server, listener, &terminal).await?;
        let signal = interrupt.map(|interrupt| interrupt.name);
        let wall_s = began.elapsed().as_secs_f64();
        let summary = summarise(
            &experiment,
            learned,
            FleetSummary::default(),
            signal,
            wall_s,
        );
        conclude(&summary, interrupt, &experiment.out, &terminal)
    })
}
