//! The command line.
//!
//! What one flag alone can tell to be nonsense is refused by [`crate::values`]; what takes several
//! flags, the data or a board is refused by [`zfl_experiment`]. Either way before anything starts, with status 2.

use crate::terminal::display::DisplayArgs;
use crate::values::{capture, choice, dashboard, rule};
use clap::{Args, Parser, Subcommand};
use fl_nn::Activation;
use fl_proto::Arithmetic;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use zfl_aggregator::Weighting;
use zfl_experiment::values::{
    learning_rate, milliseconds, name, patience, positive, probability, seconds, seed,
};
use zfl_experiment::{
    BodyChoice, DeviceSettings, FaultFlags, Network, Number, RuleSettings, Settings, Time,
    parse_arg,
};
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
  zfl run --dry-run --clients 8               print the resolved configuration, start nothing

The result is in runs/<name>/: summary.json, rounds.csv, clients.csv, traffic.csv, events.jsonl, the
model, and what each device printed. The exit status is 0 only if every round completed.";

const SERVER_EXAMPLES: &str = "\
Examples:
  zfl server -r 20 -c 10                      waits at 127.0.0.1:8080 for devices
  zfl client -c 10 -e 5 -b 600                in another terminal: ten devices
  zfl server -r 20 -c 3 --listen 192.0.2.1:8080   for three devices on the network of that address

The server's page about the run is on this machine alone unless --dashboard says otherwise.";

#[derive(Parser)]
#[command(name = "zfl", version, about = ABOUT, long_about = LONG_ABOUT)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run an experiment: aggregator and fleet together
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// Only the aggregator, for devices that are started elsewhere
    #[command(after_help = SERVER_EXAMPLES)]
    Server(Box<ServerArgs>),
    /// Only devices, not emulated, for an aggregator that runs already
    #[command(after_help = SERVER_EXAMPLES)]
    Client(ClientArgs),
    /// Show a run in the browser or on the terminal: one under way, or one that is over
    View(ViewArgs),
    /// What --tui and --json of a run start
    #[command(hide = true)]
    Follow(FollowArgs),
    /// List the runs under way in runs/; those with --out elsewhere are not found
    Ps,
    /// Print what a device wrote on its serial line
    Logs(LogsArgs),
    /// Stop a run as Ctrl-C would
    Stop(StopArgs),
    /// What each device of a run paid: time, instructions, memory, bytes
    Devices(DevicesArgs),
    /// Write a report on one or more runs: one HTML page, and the figures as SVG and PNG
    Report(ReportArgs),
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

    /// Where to serve the page; port 0 takes a free one and prints it
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,

    /// Show it on the full screen of this terminal instead
    #[arg(long, conflicts_with = "listen")]
    pub tui: bool,

    /// Refused, with the reason: there is nothing to touch
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

    /// Devices in the fleet [default: 50]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub clients: Option<u32>,

    /// Rounds of federated averaging [default: 20]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub rounds: Option<u32>,

    /// Devices asked to train in each round [default: all]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub clients_per_round: Option<u32>,

    /// Print the resolved configuration and start nothing
    #[arg(long)]
    pub dry_run: bool,

    #[command(flatten)]
    pub fleet: FleetArgs,

    #[command(flatten)]
    pub faults: FaultArgs,

    /// Passes over a device's own data in each round [default: 5]
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Training")]
    pub epochs: Option<u32>,

    /// Examples in each step of gradient descent [default: 600]
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Training")]
    pub batch_size: Option<u32>,

    /// Let whoever has this token control the run from its page: stop it, kill or freeze a device … [default
    /// TOKEN: a random one; or give it in ZFL_DASHBOARD_TOKEN, since arguments show in `ps`]
    #[arg(long, value_name = "TOKEN", num_args = 0..=1, require_equals = true, help_heading = "Results")]
    pub dashboard_token: Option<Option<String>>,

    /// Write down the frames of these devices, `all` or 0,3,7, as pcap/CLIENT.pcapng [default: none]
    #[arg(long, value_name = "CLIENTS", value_parser = capture, help_heading = "Results")]
    pub pcap: Option<Capture>,

    #[command(flatten)]
    pub learning: LearningArgs,

    /// A device that trains nothing in a round, or failed one and answers nothing, for so long is killed
    /// and booted again [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = patience, help_heading = "Rounds")]
    pub watchdog: Option<f64>,

    #[command(flatten)]
    pub display: DisplayArgs,
}

/// The devices, and what is between them and the aggregator.
#[derive(Args)]
pub struct FleetArgs {
    /// What a device is; boards of FILE that boot it stay [default: auto]
    #[arg(long, value_parser = choice::<BodyChoice>(), help_heading = "Fleet")]
    pub body: Option<BodyChoice>,

    /// The machine of an emulated device, a folder of boards/; it says the body, too [default: microvm]
    #[arg(long, value_name = "NAME", help_heading = "Fleet")]
    pub board: Option<String>,

    /// How emulated devices reach the aggregator [default: auto]
    #[arg(long, value_parser = choice::<Network>(), help_heading = "Fleet")]
    pub network: Option<Network>,

    /// What is between a device and the aggregator, a file of links/ [default: nothing]
    #[arg(long, value_name = "NAME", help_heading = "Fleet")]
    pub link: Option<String>,

    /// Frames that each direction of a link loses: 0.05 or 5% [default: as the link has it]
    #[arg(long, value_name = "P", value_parser = probability, help_heading = "Fleet")]
    pub loss: Option<f64>,

    /// What each direction of a link delays a frame by [default: as the link has it]
    #[arg(long, value_name = "MS", value_parser = milliseconds, help_heading = "Fleet")]
    pub delay: Option<f64>,

    /// What time is on emulated devices [default: host]
    #[arg(long, value_parser = choice::<Time>(), help_heading = "Fleet")]
    pub time: Option<Time>,

    /// Million instructions a second of emulated devices: 1000, 500, 250, 125 … [default: the board's,
    /// with --time icount]
    #[arg(long, value_name = "N", help_heading = "Fleet")]
    pub mips: Option<f64>,

    /// Machines that boot at the same time [default: one per processor]
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Fleet")]
    pub boot_parallel: Option<u32>,

    /// Start more devices than this machine has memory for
    #[arg(long, help_heading = "Fleet")]
    pub oversubscribe: bool,
}

/// Trouble on purpose; an experiment file can ask for more kinds of it.
#[derive(Args)]
pub struct FaultArgs {
    /// Devices that are away for a round: 0.3 or 30% [default: none]
    #[arg(long, value_name = "P", value_parser = probability, help_heading = "Faults")]
    pub drop_out: Option<f64>,

    /// Devices that are killed while they train in a round: 0.05 or 5% [default: none]
    #[arg(long, value_name = "P", value_parser = probability, help_heading = "Faults")]
    pub crash: Option<f64>,

    /// Crashed devices boot again and rejoin
    #[arg(long, help_heading = "Faults")]
    pub reboot: bool,
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

    /// Where to wait for devices; port 0 takes a free one and prints it
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    #[command(flatten)]
    pub learning: LearningArgs,

    #[command(flatten)]
    pub display: DisplayArgs,
}

/// Arguments of both `run` and `server`.
#[derive(Args)]
pub struct LearningArgs {
    /// Step size of gradient descent [default: 0.5]
    #[arg(long, value_name = "X", value_parser = learning_rate, help_heading = "Training")]
    pub lr: Option<f32>,

    /// Units of the hidden layers, separated by commas: 200,200 [default: 16]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    #[arg(value_parser = positive, help_heading = "Training")]
    pub hidden: Option<Vec<u32>>,

    /// Activation of the hidden layers [default: relu]
    #[arg(long, value_parser = choice::<Activation>(), help_heading = "Training")]
    pub activation: Option<Activation>,

    /// Arithmetic of the first layer: fixed point is several times faster on emulated devices
    /// [default: fixed]
    #[arg(long, value_parser = choice::<Arithmetic>(), help_heading = "Training")]
    pub arithmetic: Option<Arithmetic>,

    /// What every random number is derived from; the same seed gives the same model, bit by bit
    /// [default: 1]
    #[arg(long, value_name = "N", value_parser = seed, help_heading = "Training")]
    pub seed: Option<u64>,

    /// Folder with the four files of MNIST or a set like it, gzipped or not [default: data/mnist]
    #[arg(long, value_name = "DIR", help_heading = "Training")]
    pub data: Option<PathBuf>,

    /// Training examples of each device; the mean, if the partition decides how many each has
    /// [default: an equal share of the data, at most 1200]
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Training")]
    pub examples: Option<u32>,

    /// Rule by which the training examples are dealt out [default: iid]
    #[arg(long, value_parser = rule(zfl_experiment::partitions()), help_heading = "Training")]
    pub partition: Option<String>,

    /// Parameter of --partition, as often as needed: alpha=0.1
    #[arg(long, value_name = "NAME=X", value_parser = parse_arg, help_heading = "Training")]
    pub partition_arg: Vec<(String, Number)>,

    /// How the updates of a round are weighed against each other [default: num-examples]
    #[arg(long, value_parser = choice::<Weighting>(), help_heading = "Rounds")]
    pub weighting: Option<Weighting>,

    /// Fewest updates that a round needs; with fewer the run fails [default: half of those asked for]
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Rounds")]
    pub quorum: Option<u32>,

    /// Devices asked beyond --clients-per-round; the round ends when enough have answered [default: 0]
    #[arg(long, value_name = "N", help_heading = "Rounds")]
    pub over_commit: Option<u32>,

    /// Use an update that comes too late in the next round, instead of only counting it
    #[arg(long, help_heading = "Rounds")]
    pub use_late: bool,

    /// Longest wait for the updates of a round; it then goes on without those that are missing
    /// [default: 120]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = "Rounds")]
    pub deadline: Option<f64>,

    /// Longest wait for devices to be ready before a round, booting before the first included; rounds
    /// do not wait again for those that did not come
    /// [default: 120]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = "Rounds")]
    pub ready_deadline: Option<f64>,

    /// Where to serve the live page about the run; `off` for none
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0", value_parser = dashboard)]
    #[arg(help_heading = "Results")]
    pub dashboard: DashboardChoice,

    /// Folder for the results, which must not exist or be empty [default: runs/NAME]
    #[arg(long, value_name = "DIR", help_heading = "Results")]
    pub out: Option<PathBuf>,

    /// Name of the run [default: from the time and what is run]
    #[arg(long, value_name = "NAME", value_parser = name, help_heading = "Results")]
    pub name: Option<String>,
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

    /// Where the aggregator listens
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    pub server: SocketAddr,

    /// Folder for the devices' logs [default: runs/NAME]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

impl RunArgs {
    /// The settings that the flags of `zfl run` are.
    pub fn settings(&self) -> Settings {
        Settings {
            clients: self.clients,
            rounds: self.rounds,
            clients_per_round: self.clients_per_round,
            local_epochs: self.epochs,
            batch_size: self.batch_size,
            network: self.fleet.network,
            time: self.fleet.time,
            device: self.fleet.settings(),
            watchdog_s: self.watchdog,
            fault_flags: FaultFlags {
                drop_out: self.faults.drop_out,
                crash: self.faults.crash,
                reboot: self.faults.reboot,
            },
            ..self.learning.settings()
        }
    }
}

impl ServerArgs {
    /// The settings that the flags of `zfl server` are.
    pub fn settings(&self) -> Settings {
        Settings {
            clients: self.clients,
            rounds: Some(self.rounds),
            clients_per_round: Some(self.clients_per_round),
            ..self.learning.settings()
        }
    }
}

impl FleetArgs {
    fn settings(&self) -> DeviceSettings {
        let mut settings = DeviceSettings {
            body: self.body,
            board: self.board.clone(),
            link: self.link.clone(),
            loss: self.loss,
            delay_ms: self.delay,
            mips: self.mips,
            ..DeviceSettings::default()
        };
        settings.resolve_paths(Path::new(""));
        settings
    }
}

impl LearningArgs {
    fn settings(&self) -> Settings {
        Settings {
            name: self.name.clone(),
            over_commit: self.over_commit,
            use_late: self.use_late.then_some(true),
            quorum: self.quorum,
            ready_deadline_s: self.ready_deadline,
            round_deadline_s: self.deadline,
            weighting: self.weighting,
            learning_rate: self.lr,
            arithmetic: self.arithmetic,
            hidden: self.hidden.clone(),
            activation: self.activation,
            seed: self.seed,
            examples_per_client: self.examples,
            data: self.data.clone(),
            partition: RuleSettings {
                name: self.partition.clone(),
                params: self.partition_arg.iter().cloned().collect(),
            },
            ..Settings::default()
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
