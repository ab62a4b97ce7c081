//! The page of a run that is over, or that another process carries out.

use crate::output;
use anyhow::Result;
use std::net::SocketAddr;
use std::path::Path;
use zfl_dashboard::Dashboard;
use zfl_experiment::Refusal;
use zfl_runner::{Interrupts, block_on, open_page};

/// `zfl view`: serves the page about a run until Ctrl-C.
///
/// # Errors
/// If there is no such run, or the address is taken.
pub fn view(run: &Path, listen: SocketAddr) -> Result<u8> {
    let listener = open_page(listen).map_err(Refusal::of)?;
    let address = listener.local_addr()?;
    let dashboard = Dashboard::from_run_dir(run).map_err(Refusal::of)?;
    block_on(async move {
        let mut interrupts = Interrupts::new()?;
        dashboard.follow()?;
        let serving = tokio::spawn(dashboard.serve(listener)?);
        output::line(&format!(
            "{} at http://{address}/ until Ctrl-C",
            run.display()
        ))?;
        interrupts.next().await;
        serving.abort();
        Ok(0)
    })
}
