//! `zfl agent`: one node of several. That of rank 0 has the root, too.

use crate::args::DashboardChoice;
use crate::keys::RunKeys;
use crate::launch::node;
use crate::run::{experiment, shown_status, status};
use crate::secret::join_secret;
use crate::terminal::Terminal;
use crate::terminal::display::{DisplayArgs, Shown};
use crate::values::{address, dashboard};
use crate::{command, output, runs};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use zfl_clock::Instant;
use zfl_experiment::values::positive;
use zfl_experiment::{EdgeTree, Refusal, Root};
use zfl_runner::launch::{Node, Nodes, World};
use zfl_runner::{Observer, Runner};
use zfl_sandbox::signals;

/// Environment variable with the token of a launch.
pub const TOKEN: &str = "ZFL_LAUNCH_TOKEN";

/// Facts that the root is told, whoever starts it.
#[derive(Args)]
pub struct RootArgs {
    /// Experiment file (TOML); flags override what it says. The root alone reads it
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Go on with a run that was broken off, from its last complete round
    #[arg(long, value_name = "RUN", conflicts_with_all = ["file", "out", "name"])]
    pub resume: Option<PathBuf>,

    #[command(flatten)]
    pub keys: RunKeys,

    /// Start more devices than the nodes have memory and processors for
    #[arg(long, help_heading = "Fleet")]
    pub oversubscribe: bool,

    /// Start machines of a board that is given by a path: look at its file first
    #[arg(long, help_heading = "Fleet")]
    pub allow_board: bool,

    /// Address of the live page about the run, at the root; `off` for none
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0", value_parser = dashboard)]
    #[arg(help_heading = "Results")]
    pub dashboard: DashboardChoice,

    #[command(flatten)]
    pub display: DisplayArgs,
}

#[derive(Args)]
pub struct AgentArgs {
    #[command(flatten)]
    pub of: RootArgs,

    /// Address at which the root waits for the nodes [default: 0.0.0.0 and the port of ZFL_ROOT_AT]
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub listen: Option<SocketAddr>,

    /// Threads on which native devices run; no result depends on it [default: one per processor]
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Fleet")]
    pub threads: Option<u32>,

    /// Be this alone: `root`, or a `node` also where the rank is 0 [default: a node, and at rank 0 the root, too]
    #[arg(long, value_name = "PART")]
    pub only: Option<Only>,

    /// Process of the root that this node was started by
    #[arg(long, value_name = "PID", hide = true)]
    pub of_root: Option<u32>,
}

/// Role of an agent alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Only {
    /// The root.
    Root,
    /// A node.
    Node,
}

impl RootArgs {
    /// The run that is asked for, on so many nodes: a new one or one that goes on.
    ///
    /// # Errors
    /// A [`Refusal`] of what cannot be meant.
    pub fn runner(&self, nodes: u32, root: &Root) -> Result<Runner> {
        let mut flags = self.keys.0.clone();
        flags.edges = Some(EdgeTree::flat(nodes));
        match &self.resume {
            Some(named) => {
                let run = runs::find(root.runs(), Some(named))?;
                Runner::resume(flags, &run, root)
            }
            None => Ok(experiment(flags, self.file.as_deref(), root)?.into()),
        }
    }

    /// Runs the root with these nodes, and returns the exit status.
    ///
    /// # Errors
    /// A [`Refusal`] of what cannot be meant; any other failure to begin.
    pub fn run(&self, nodes: Nodes, root: &Root, began: Instant) -> Result<u8> {
        let runner = self.runner(nodes.count, root).map_err(Refusal::of)?;
        let experiment = runner.experiment();
        for line in &experiment.notes {
            output::note(line);
        }
        let shown = Shown;
        let terminal = Terminal::of(experiment, self.display);
        let summary = runner
            .began(began)
            .oversubscribe(self.oversubscribe)
            .allow_board(self.allow_board)
            .page(self.dashboard.address())
            .command(command::own())
            .end_on_signals()
            .launch(nodes, terminal)?;
        Ok(shown_status(status(&summary), shown))
    }
}

/// Carries `zfl agent` out, and returns the exit status.
///
/// # Errors
/// A [`Refusal`] of what cannot be meant; any other failure to begin.
pub fn agent(args: &AgentArgs, root: &Root, began: Instant) -> Result<u8> {
    match args.of_root {
        Some(parent) => signals::belong_to(parent).context("cannot belong to the root")?,
        None => signals::end_with_parent().context("cannot belong to what started it")?,
    }
    args.of.display.check()?;
    let world = World::of(|name| std::env::var(name).ok()).map_err(Refusal::of)?;
    let token = join_secret(None, std::env::var_os(TOKEN))?;
    let token = token.ok_or_else(|| {
        Refusal(format!(
            "{TOKEN} is not set: give all nodes one secret of 16 to 32 letters and digits that nobody guesses"
        ))
    })?;
    let is_root = match args.only {
        Some(only) => only == Only::Root,
        None => world.rank == 0 && args.of_root.is_none(),
    };
    if is_root {
        let any = IpAddr::from([0, 0, 0, 0]);
        let listen = match args.listen {
            Some(listen) => listen,
            None => SocketAddr::new(any, world.port().map_err(Refusal::of)?),
        };
        let count = world.size;
        let nodes = Nodes {
            count,
            listen,
            token,
            here: match args.only {
                Some(_) => Vec::new(),
                None => vec![(0, node(0, count, token))],
            },
        };
        return args.of.run(nodes, root, began);
    }
    let node = Node {
        world,
        token,
        threads: args.threads,
        observer: Arc::new(Notes),
    };
    node.run(root).map(|()| 0)
}

/// Lines of a node, on standard error.
struct Notes;

impl Observer for Notes {
    fn on_warning(&self, line: &str) {
        output::warn(line);
    }
}
