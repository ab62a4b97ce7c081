//! `zfl launch`: an experiment on several nodes, by a job of Slurm or on this machine.

use crate::agent::{RootArgs, TOKEN};
use crate::{output, slurm};
use anyhow::{Context, Result};
use clap::Args;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use zfl_clock::Instant;
use zfl_experiment::values::positive;
use zfl_experiment::{Refusal, Root};
use zfl_orchestrator::Word;
use zfl_runner::launch::{Nodes, new_token};

pub const EXAMPLES: &str = "\
Examples:
  zfl launch -N 3 experiments/cluster.toml            a job of Slurm on three nodes
  zfl launch -N 3 experiments/cluster.toml --print    its script, to look at and to change
  zfl launch --local 3 experiments/cluster.toml       three nodes on this machine, without Slurm
  zfl launch --local 2 --resume runs/NAME             goes on, with as many nodes as there are";

#[derive(Args)]
pub struct LaunchArgs {
    #[command(flatten)]
    pub of: RootArgs,

    /// Nodes of a job of Slurm
    #[arg(short = 'N', long, value_name = "N", value_parser = positive, required_unless_present = "local")]
    pub nodes: Option<u32>,

    /// Nodes on this machine, as processes
    #[arg(long, value_name = "N", value_parser = positive, conflicts_with = "nodes")]
    pub local: Option<u32>,

    /// Print the job's script and submit nothing
    #[arg(long, requires = "nodes")]
    pub print: bool,

    /// One more option of sbatch for the script, such as --sbatch=--time=2:00:00; may be given several times
    #[arg(
        long,
        value_name = "OPTION",
        requires = "nodes",
        allow_hyphen_values = true
    )]
    pub sbatch: Vec<String>,
}

/// Carries `zfl launch` out, and returns the exit status.
///
/// # Errors
/// A [`Refusal`] of what cannot be meant; any other failure to begin.
pub fn launch(args: &LaunchArgs, root: &Root, began: Instant) -> Result<u8> {
    args.of.display.check()?;
    if let Some(nodes) = args.nodes {
        // Whatever is refused is refused before the job waits for its turn.
        let runner = args.of.runner(nodes, root).map_err(Refusal::of)?;
        let script = slurm::script(&runner.experiment().name, nodes, &args.sbatch)?;
        return match args.print {
            true => output::print(&script).map(|()| 0),
            false => slurm::submit(&script).map(|()| 0),
        };
    }
    let count = args.local.unwrap_or(1);
    let token = new_token();
    let here = (0..count).map(|rank| (rank, node(rank, count, token)));
    let nodes = Nodes {
        count,
        listen: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0),
        token,
        here: here.collect(),
    };
    args.of.run(nodes, root, began)
}

/// The program of a node on this machine.
pub fn node(rank: u32, count: u32, token: Word) -> Box<dyn FnOnce(SocketAddr) -> Command> {
    let program = std::env::current_exe().context("the path of this program");
    Box::new(move |at| {
        let mut command = Command::new(program.unwrap_or_else(|_| "zfl".into()));
        command
            .args(["agent", "--of-root", &std::process::id().to_string()])
            .env("ZFL_RANK", rank.to_string())
            .env("ZFL_WORLD", count.to_string())
            .env("ZFL_ROOT_AT", at.to_string())
            .env(TOKEN, token.text())
            .env_remove(zfl_runner::TOKEN_VARIABLE)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null());
        command
    })
}
