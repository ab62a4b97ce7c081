//! The command line.
//!
//! The flags of keys come from [`zfl_experiment`]; the others are declared here. A flag that alone is
//! nonsense is refused by clap; what takes several flags, the data or a board, by [`zfl_experiment`]. Either way before anything starts, with status 2.

use crate::data::GetArgs;
use crate::keys::{RunKeys, ServerKeys};
use crate::terminal::display::DisplayArgs;
use crate::values::{address, capture, dashboard, server};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use zfl_experiment::Settings;
use zfl_experiment::values::positive;
use zfl_runner::Capture;

const ABOUT: &str = "Emulates federated learning on fleets of small devices";

const LONG_ABOUT: &str = "\
Emulates federated learning on fleets of small devices.

Every device is a real firmware image in a machine of its own (QEMU). It fetches its part of the \
training data from an aggregator on this machine, trains on it, and sends back what it learned, not \
the data. The aggregator gives a device's data to that device's address only. zfl starts all of it, \
shows how the model improves, and writes down what each round cost.";

const RUN_EXAMPLES: &str = "\
Examples:
  zfl run                                     50 emulated devices, 20 rounds, MNIST
  zfl run --clients 8 --rounds 3              a smaller fleet, done in seconds
  zfl run --body native                       the same devices, not emulated
  zfl run --hidden 200,200 --body native      a deeper network
  zfl run --clients-per-round 10 --seed 7     10 of the 50 devices in each round
  zfl run --link wifi --drop-out 30%          over Wi-Fi, with three of ten devices away at any time
  zfl run experiments/mixed.toml              a fleet of several kinds of devices, from a file
  zfl run --resume runs/NAME                  goes on with a run that was broken off
  zfl run --data zfl:digits --hidden 32       on the small data set that is built in
  zfl run --dry-run --clients 8               print the resolved configuration, start nothing

The result is in runs/<name>/: summary.json, rounds.csv, clients.csv, traffic.csv, events.jsonl, the
model, and what each device printed. The exit status is 0 only if every round completed.";

const SERVER_EXAMPLES: &str = "\
Examples:
  zfl server -r 20 -c 10                      waits at 127.0.0.1:8080 for devices
  zfl client -c 10 -e 5 -b 600                in another terminal: ten devices
  zfl server -r 20 -c 3 --listen 192.0.2.1:8080   for three devices on the network of that address

The server's page about the run is on this machine alone unless --dashboard says otherwise.";

/// Processor of emulated machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Accel {
    /// Translated by QEMU, which works everywhere
    #[default]
    Tcg,
    /// The host's own, where its KVM runs the firmware: many times faster, and nothing counts instructions
    Kvm,
}

#[derive(Parser)]
#[command(name = "zfl", version, about = ABOUT, long_about = LONG_ABOUT)]
#[command(arg_required_else_help = true)]
pub struct Cli {
    /// Tree of zfl with boards, links, data and firmware, also by ZFL_ROOT [default: the one that you stand in,
    /// else the one that this program lies in, else what is built in]
    #[arg(long, value_name = "DIR", global = true, help_heading = "Global")]
    root: Option<PathBuf>,

    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// The tree that is named.
    pub fn root(&self) -> Option<PathBuf> {
        let variable = || std::env::var_os("ZFL_ROOT").filter(|dir| !dir.is_empty());
        self.root.clone().or_else(|| variable().map(PathBuf::from))
    }
}

#[derive(Subcommand)]
pub enum Command {
    /// Run an experiment: aggregator and fleet together
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// Many runs of one experiment, with other values of its keys: grids, random draws, seeds
    #[command(after_help = crate::sweep::EXAMPLES)]
    Sweep(crate::sweep::SweepArgs),
    /// Only the aggregator, for devices that are started elsewhere
    #[command(after_help = SERVER_EXAMPLES)]
    Server(Box<ServerArgs>),
    /// One edge, for an aggregator and devices that are started elsewhere: docs/edges.md
    Edge(Box<EdgeArgs>),
    /// Run an experiment on several machines: Slurm's, or any by zfl agent
    #[command(after_help = crate::launch::EXAMPLES)]
    Launch(Box<crate::launch::LaunchArgs>),
    /// One node of several, as srun, mpirun or Kubernetes starts it on each machine: docs/cluster.md
    Agent(Box<crate::agent::AgentArgs>),
    /// Only devices, not emulated, for an aggregator that runs already
    #[command(after_help = SERVER_EXAMPLES)]
    Client(ClientArgs),
    /// Data sets, and how they are dealt out to the devices
    Data(Box<DataArgs>),
    /// Show a run in the browser or on the terminal: one under way, or one that is over
    View(ViewArgs),
    /// Display process of --tui and --json
    #[command(hide = true)]
    Follow(FollowArgs),
    /// List the runs under way in runs/; those with --out elsewhere are not found
    Ps,
    /// Print what a device wrote on its serial line
    Logs(LogsArgs),
    /// Stop a device of a run that was started with --gdb, and look into it with gdb-multiarch
    Gdb(crate::gdb::GdbArgs),
    /// Stop a run as Ctrl-C would
    Stop(StopArgs),
    /// Cost of a run to each device: time, instructions, memory, bytes
    Devices(DevicesArgs),
    /// Write a report on one or more runs: one HTML page, and the figures as SVG and PNG
    Report(ReportArgs),
    /// Runs side by side: a table by their settings, with mean and spread over seeds
    #[command(after_help = crate::compare::EXAMPLES)]
    Compare(crate::compare::CompareArgs),
    /// Write the results of a run for other programs: CSV, JSON, Parquet, TensorBoard; the model for PyTorch, Rust and C
    #[command(after_help = crate::export::EXAMPLES)]
    Export(crate::export::ExportArgs),
    /// Accuracy, loss and confusion of a model on data
    #[command(after_help = crate::eval::EXAMPLES)]
    Eval(crate::eval::EvalArgs),
    /// One small job on every board at hand: the same model as on the host, or which board makes another
    #[command(after_help = crate::selfcheck::EXAMPLES)]
    Selfcheck(crate::selfcheck::SelfcheckArgs),
    /// Print the JSON Schema of experiment files, for editors
    Schema,
    /// Print the completions of a shell: `source <(zfl completions bash)`
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
}

#[derive(Args)]
pub struct DataArgs {
    #[command(subcommand)]
    pub command: DataCommand,
}

#[derive(Subcommand)]
pub enum DataCommand {
    /// List the data sets that have a name, with their licences
    List,
    /// Fetch a data set that has a name
    Get(GetArgs),
    /// Print what each device of a run would get, before any run: examples by class, by device
    Show(Box<ShowArgs>),
}

#[derive(Args)]
pub struct ShowArgs {
    /// Experiment file (TOML); flags override what it says [default: none]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// As the partition.csv of a run
    #[arg(long)]
    pub csv: bool,

    #[command(flatten)]
    pub keys: RunKeys,
}

#[derive(Args)]
pub struct ReportArgs {
    /// Run directories, or names of runs in runs/; those of one configuration are shown as a band
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,

    /// The folder for the report
    #[arg(long, value_name = "DIR", default_value = "report")]
    pub out: PathBuf,
}

#[derive(Args)]
pub struct ViewArgs {
    /// The run directory, or the name of a run in runs/
    #[arg(value_name = "RUN")]
    pub run: PathBuf,

    /// Address of the page; port 0 takes a free one and prints it
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0", value_parser = address)]
    pub listen: SocketAddr,

    /// Show it on the full screen of this terminal instead
    #[arg(long, conflicts_with = "listen")]
    pub tui: bool,

    /// Refused, with the reason: there is nothing to control
    #[arg(long, value_name = "TOKEN", num_args = 0..=1, require_equals = true, hide = true)]
    pub dashboard_token: Option<Option<String>>,
}

#[derive(Args)]
pub struct FollowArgs {
    /// The run directory
    #[arg(value_name = "RUN")]
    pub run: PathBuf,

    /// On the full screen
    #[arg(long, conflicts_with = "json", required_unless_present = "json")]
    pub tui: bool,

    /// Event by event
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct LogsArgs {
    /// The device
    #[arg(value_name = "CLIENT")]
    pub client: u32,

    /// The run [default: the one under way, else the latest]
    #[arg(long, value_name = "RUN")]
    pub run: Option<PathBuf>,

    /// Go on until the run ends
    #[arg(short, long)]
    pub follow: bool,
}

#[derive(Args)]
pub struct StopArgs {
    /// The run directory, or the name of a run in runs/ [default: the only one under way in runs/]
    #[arg(value_name = "RUN")]
    pub run: Option<PathBuf>,
}

#[derive(Args)]
pub struct DevicesArgs {
    /// The run [default: the one under way, else the latest]
    #[arg(value_name = "RUN")]
    pub run: Option<PathBuf>,

    /// Bytes of their memory instead: the firmware, the data, the training
    #[arg(long, conflicts_with = "json")]
    pub memory: bool,

    /// JSON, for machines
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct RunArgs {
    /// Experiment file (TOML), see experiments/; flags override what it says [default: none]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Go on with a run that was broken off, from its last complete round
    #[arg(long, value_name = "RUN", conflicts_with_all = ["file", "out", "name"])]
    pub resume: Option<PathBuf>,

    #[command(flatten)]
    pub keys: RunKeys,

    /// Print the resolved configuration and start nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Machines that boot at the same time [default: four per processor]
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Fleet")]
    pub boot_parallel: Option<u32>,

    /// Threads on which native devices run; no result depends on it [default: one per processor]
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Fleet")]
    pub threads: Option<u32>,

    /// Start more devices than this machine has memory for
    #[arg(long, help_heading = "Fleet")]
    pub oversubscribe: bool,

    /// Have Linux merge equal memory of the machines, where root has switched that on (KSM); their memory then has
    /// no random layout
    #[arg(long, help_heading = "Fleet")]
    pub merge_memory: bool,

    /// Processor of the machines
    #[arg(
        long,
        value_name = "NAME",
        value_enum,
        default_value_t,
        help_heading = "Fleet"
    )]
    pub accel: Accel,

    /// Let `zfl gdb` into emulated devices; deadlines stand still while it looks at one
    #[arg(long, help_heading = "Fleet")]
    pub gdb: bool,

    /// Start machines of a board that is given by a path: look at its file first
    #[arg(long, help_heading = "Fleet")]
    pub allow_board: bool,

    /// Let whoever has this token control the run from its page: stop it, kill or freeze a device … [default
    /// TOKEN: a random one; or give it in ZFL_DASHBOARD_TOKEN, since arguments show in `ps`]
    #[arg(long, value_name = "TOKEN", num_args = 0..=1, require_equals = true, help_heading = "Results")]
    pub dashboard_token: Option<Option<String>>,

    /// Write down the frames of these devices, `all` or 0,3,7, as pcap/CLIENT.pcapng [default: none]
    #[arg(long, value_name = "CLIENTS", value_parser = capture, help_heading = "Results")]
    pub pcap: Option<Capture>,

    /// Address of the live page about the run; `off` for none
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0", value_parser = dashboard)]
    #[arg(help_heading = "Results")]
    pub dashboard: DashboardChoice,

    #[command(flatten)]
    pub display: DisplayArgs,

    /// Process of `zfl sweep` that this run is of: it ends with it, and leaves Ctrl-C to it
    #[arg(long, value_name = "PID", hide = true)]
    pub of_sweep: Option<u32>,
}

/// Address of a run's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DashboardChoice {
    /// Nowhere.
    Off,
    /// At this address of this machine.
    At(SocketAddr),
}

impl DashboardChoice {
    /// The address, if there is one.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

#[derive(Args)]
pub struct ServerArgs {
    /// Rounds of federated averaging
    #[arg(short, long, value_name = "N", value_parser = positive)]
    pub rounds: u32,

    /// Devices asked to train in each round; the first round waits until as many have joined
    #[arg(short, long, value_name = "N", value_parser = positive)]
    pub clients_per_round: u32,

    /// Most devices that may join: the data are dealt out to as many [default: 100, or more if
    /// CLIENTS_PER_ROUND is more]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub clients: Option<u32>,

    /// Address on which to wait for devices: 192.0.2.1:8080, 0.0.0.0:8080 for every one of this machine; a port alone
    /// is on this machine only, and port 0 takes a free one and prints it
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080", value_parser = address)]
    pub listen: SocketAddr,

    /// IDs that devices of one address may have; those of this machine's own may have all [default: a quarter of
    /// them]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub clients_per_address: Option<u32>,

    /// File with the secret that every device has to know, 16 to 32 letters, digits, - or _; or give it in
    /// ZFL_JOIN_SECRET [default: anybody may join]
    #[arg(long, value_name = "FILE")]
    pub join_secret: Option<PathBuf>,

    #[command(flatten)]
    pub keys: ServerKeys,

    /// Address of the live page about the run; `off` for none
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0", value_parser = dashboard)]
    #[arg(help_heading = "Results")]
    pub dashboard: DashboardChoice,

    #[command(flatten)]
    pub display: DisplayArgs,
}

#[derive(Args)]
pub struct EdgeArgs {
    /// Number of this edge, from 0
    #[arg(long, value_name = "N")]
    pub number: u32,

    /// Address of the aggregator above: `zfl server` with the same flags
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub upstream: SocketAddr,

    #[command(flatten)]
    pub of: ServerArgs,
}

#[derive(Args)]
pub struct ClientArgs {
    /// Devices to start
    #[arg(short = 'c', long, value_name = "N", value_parser = positive)]
    pub clients: u32,

    /// Passes over a device's own data in each round
    #[arg(short, long, value_name = "N", value_parser = positive)]
    pub epochs: u32,

    /// Examples in each step of gradient descent
    #[arg(short, long, value_name = "N", value_parser = positive)]
    pub batch_size: u32,

    /// Address of the aggregator; the host may have a name, and a port alone is on this machine
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080", value_parser = server)]
    pub server: SocketAddr,

    /// File with the join secret of the server; or give it in ZFL_JOIN_SECRET [default: none]
    #[arg(long, value_name = "FILE")]
    pub join_secret: Option<PathBuf>,

    /// Folder for the devices' logs [default: runs/NAME]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

impl ServerArgs {
    /// The settings that the flags of `zfl server` are.
    pub fn settings(&self) -> Settings {
        Settings {
            clients: self.clients,
            rounds: Some(self.rounds),
            clients_per_round: Some(self.clients_per_round),
            ..self.keys.0.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn clap_agrees() {
        Cli::command().debug_assert();
    }
}
