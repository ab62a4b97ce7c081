//! The page of a run that is under way, and what is known of a run before its first event.

use crate::control::{ControlChannel, ControlToken};
use crate::observer::Observer;
use anyhow::{Context, Result};
use fl_data::Dataset;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use zfl_dashboard::Dashboard;
use zfl_experiment::{Experiment, versions};
use zfl_run_dir::{Meta, PARTITION, RunDir, SCALING};

/// Opens the page's socket. Done before the fleet's namespaces are entered, so that the page is
/// served on this machine's own loopback.
///
/// # Errors
/// If the address is taken or not this machine's.
pub fn open(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).with_context(|| {
        format!("the dashboard cannot listen on {address}: give another --dashboard, or off")
    })
}

/// Writes down what is known of a run before its first event, for the page and for reports.
///
/// # Errors
/// If the run directory cannot be written.
pub(crate) fn describe(
    experiment: &Experiment,
    network: Option<String>,
    train: &Dataset,
    command: Option<String>,
    run_dir: &mut RunDir,
) -> Result<Meta> {
    let mut meta = Meta::load(&experiment.out)?;
    // What repeats a run is how it was begun, not how it was resumed.
    meta.command = meta.command.or(command);
    // More rounds may be asked for when it goes on.
    meta.rounds = experiment.rounds;
    meta.config = experiment.to_json()?;
    meta.network = network;
    meta.devices_elsewhere = experiment.groups.is_empty();
    meta.split = experiment.partition.label_counts(train);
    let versions = versions::of(experiment)?;
    meta.versions = versions::merge_on_resume(std::mem::take(&mut meta.versions), versions);
    meta.save(&experiment.out)?;
    let table = experiment.partition_table(train);
    run_dir.keep(PARTITION, table.as_bytes())?;
    if let Some(scaling) = &experiment.scaling {
        run_dir.keep(SCALING, &serde_json::to_vec_pretty(scaling)?)?;
    }
    Ok(meta)
}

/// Serves the page about the run that is about to begin, in the background, and says where. With a token
/// it also takes requests, down the channel that comes with it.
///
/// # Errors
/// If the listener cannot be used.
pub(crate) fn serve(
    listener: Option<TcpListener>,
    meta: Meta,
    run_dir: &Path,
    control: Option<(ControlToken, Arc<ControlChannel>)>,
    observer: &dyn Observer,
) -> Result<()> {
    let Some(listener) = listener else {
        return Ok(());
    };
    let address = listener
        .local_addr()
        .context("the dashboard has no address")?;
    let address = format!("http://{address}/");
    let mut dashboard = Dashboard::new(meta, run_dir);
    let mut said = format!("dashboard: {address}");
    if let Some((token, channel)) = control {
        said = token.describe(&address);
        dashboard = dashboard.with_remote_control(token.token, channel);
    }
    dashboard.follow()?;
    tokio::spawn(dashboard.serve(listener)?);
    observer.on_note(&said);
    Ok(())
}
