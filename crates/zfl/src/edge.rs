//! `zfl edge`: one edge, for an aggregator and devices that are started elsewhere.

use crate::args::EdgeArgs;
use crate::output;
use crate::secret::{VARIABLE, join_secret};
use anyhow::Result;
use std::path::PathBuf;
use zfl_experiment::{Experiment, Refusal, Root};
use zfl_runner::EdgeProcess;

/// Carries `zfl edge` out, and returns the exit status.
///
/// # Errors
/// A [`Refusal`] of what cannot be meant; that the address is taken; that the aggregator above refuses it.
pub fn edge(args: &EdgeArgs, root: &Root) -> Result<u8> {
    let of = &args.of;
    let secret = join_secret(of.join_secret.as_deref(), std::env::var_os(VARIABLE))?;
    let settings = of.settings();
    // What an edge writes lies beside its run's: it has no run directory.
    let folder = settings.out.clone();
    let folder = folder.unwrap_or_else(|| PathBuf::from(format!("edge-{}", args.number)));
    let resolved = Experiment::of_server(&settings, Some(&folder.join("unused")), root);
    let (experiment, data) = resolved.map_err(Refusal::of)?;
    let edge = EdgeProcess {
        experiment,
        data,
        number: args.number,
        upstream: args.upstream,
        listen: of.listen,
        secret,
        folder,
        told: output::note,
    };
    edge.run()?;
    Ok(0)
}
