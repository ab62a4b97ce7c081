//! The dashboard: of a run under way, and of one that is over.

use crate::args::DashboardChoice;
use crate::run::block_on;
use crate::session::Interrupts;
use crate::terminal::Terminal;
use crate::touch::{Asked, Hand, without_token};
use anyhow::{Context, Result};
use fl_data::{Dataset, Partition};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use zfl_dashboard::Dashboard;
use zfl_experiment::{Experiment, versions};
use zfl_run_dir::{Meta, RunDir};

/// Opens the dashboard's socket. Done before the fleet's namespaces are entered, so that the page is
/// served on this machine's own loopback.
///
/// # Errors
/// If the address is taken or not this machine's.
pub fn open(choice: DashboardChoice) -> Result<Option<TcpListener>> {
    let DashboardChoice::At(address) = choice else {
        return Ok(None);
    };
    let listener = TcpListener::bind(address).with_context(|| {
        format!("the dashboard cannot listen on {address}: give another --dashboard, or off")
    })?;
    Ok(Some(listener))
}

/// Writes down what is known of a run before its first event, for the page and for reports.
///
/// # Errors
/// If the run directory cannot be written.
pub fn describe(
    experiment: &Experiment,
    network: Option<String>,
    train: &Dataset,
    partition: &Partition,
) -> Result<Meta> {
    let mut meta = Meta::load(&experiment.out)?;
    // What repeats a run is how it was begun, not how it was resumed.
    meta.command
        .get_or_insert_with(|| command(std::env::args().skip(1).map(without_token)));
    meta.network = network;
    meta.devices_elsewhere = experiment.groups.is_empty();
    meta.split = partition.label_counts(train);
    let versions = versions::of(experiment)?;
    meta.versions = versions::merge_on_resume(std::mem::take(&mut meta.versions), versions);
    // Whole or not at all: what shows the run reads it, too.
    RunDir::reopen(&experiment.out)?.replace(Meta::FILE, &serde_json::to_vec(&meta)?)?;
    Ok(meta)
}

/// The command with these arguments, as a shell takes it.
fn command(arguments: impl Iterator<Item = String>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let quoted = |argument: String| {
        if !argument.is_empty() && argument.chars().all(plain) {
            argument
        } else {
            format!("'{}'", argument.replace('\'', r"'\''"))
        }
    };
    let words = std::iter::once("zfl".to_owned()).chain(arguments.map(quoted));
    words.collect::<Vec<_>>().join(" ")
}

/// Serves the page about the run that is about to begin, in the background, and says where. With a token
/// the run can be touched by the hand that comes with it.
///
/// # Errors
/// If the listener cannot be used.
pub fn serve(
    listener: Option<TcpListener>,
    meta: Meta,
    run_dir: &Path,
    touch: Option<(Asked, Arc<Hand>)>,
    terminal: &Terminal,
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
    if let Some((asked, hand)) = touch {
        said = asked.describe(&address);
        dashboard = dashboard.touchable(asked.token, hand);
    }
    dashboard.follow()?;
    tokio::spawn(dashboard.serve(listener)?);
    terminal.line(&said);
    Ok(())
}

/// `zfl view`: serves the page about a run until Ctrl-C.
///
/// # Errors
/// If there is no such run, or the address is taken.
pub fn view(run: &Path, listen: SocketAddr) -> Result<u8> {
    let listener = open(DashboardChoice::At(listen))?.context("no address to serve at")?;
    let address = listener.local_addr()?;
    let dashboard = Dashboard::from_run_dir(run)?;
    block_on(async move {
        let mut interrupts = Interrupts::new()?;
        dashboard.follow()?;
        let serving = tokio::spawn(dashboard.serve(listener)?);
        println!("{} at http://{address}/ until Ctrl-C", run.display());
        interrupts.next().await;
        serving.abort();
        Ok(0)
    })
}

#[cfg(test)]
mod tests {
    use super::command;

    #[test]
    fn a_token_is_not_written_down() {
        let words = ["run", "--dashboard-token=correct-horse-battery", "--lr=1"].map(str::to_owned);
        let words = words.into_iter().map(crate::touch::without_token);
        assert_eq!(command(words), "zfl run --dashboard-token --lr=1");
    }

    #[test]
    fn a_command_can_be_repeated() {
        let words = ["run", "--lr=0.5", "", "it's a $HOME"].map(str::to_owned);
        let expected = r"zfl run --lr=0.5 '' 'it'\''s a $HOME'";
        assert_eq!(command(words.into_iter()), expected);
    }
}
