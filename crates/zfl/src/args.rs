//! The command line.
//!
//! What one flag alone can tell to be nonsense is refused here; what takes several flags, the data
//! or a board is refused by [`crate::experiment`]. Either way before anything starts, with status 2.

use crate::terminal::display::DisplayArgs;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use std::net::SocketAddr;
use std::path::PathBuf;

const ABOUT: &str = "Emulates federated learning on fleets of small devices";

const LONG_ABOUT: &str = "\
Emulates federated learning on fleets of small devices.

Every device is a real firmware image in a machine of its own (QEMU). It fetches its part of the \
training data from an aggregator on this machine, trains on it, and sends back what it learned; the \
data of one device are never shown to another. zfl starts all of it, shows how the model improves, \
and writes down what each round cost.";

const RUN_EXAMPLES: &str = "\
Examples:
  zfl run                                     50 emulated devices, 20 rounds, MNIST
  zfl run --clients 8 --rounds 3              a smaller fleet, done in seconds
  zfl run --body native                       the same devices as tasks of this process
  zfl run --hidden 200,200 --body native      a deeper network
  zfl run --clients-per-round 10 --seed 7     10 of the 50 devices in each round
  zfl run --dry-run --clients 8               print the resolved configuration, start nothing

The result is in runs/<name>/: summary.json, rounds.csv, clients.csv, events.jsonl, the model, and
what each device printed. The exit status is 0 only if every round completed.";

const SERVER_EXAMPLES: &str = "\
Examples:
  zfl server -r 20 -c 10                      waits at 127.0.0.1:8080 for devices
  zfl client -c 10 -e 5 -b 600                in another terminal: ten devices";

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
    /// Only devices, as tasks of this process, for an aggregator that runs already
    #[command(after_help = SERVER_EXAMPLES)]
    Client(ClientArgs),
    /// Show a run in the browser or on the terminal: one under way, or one that is over
    View(ViewArgs),
    /// What --tui and --json of a run start
    #[command(hide = true)]
    Follow(FollowArgs),
    /// List the runs under way
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
    /// The run [default: the only one under way]
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
    /// Devices in the fleet
    #[arg(long, value_name = "N", default_value = "50", value_parser = positive)]
    pub clients: u32,

    /// Rounds of federated averaging
    #[arg(long, value_name = "N", default_value = "20", value_parser = positive)]
    pub rounds: u32,

    /// Devices asked to train in each round [default: all]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub clients_per_round: Option<u32>,

    /// Print the resolved configuration and start nothing
    #[arg(long)]
    pub dry_run: bool,

    /// What a device is
    #[arg(long, value_enum, default_value_t, help_heading = "Fleet")]
    pub body: BodyChoice,

    /// The machine of an emulated device, a folder of boards/ [default: microvm]
    #[arg(long, value_name = "NAME", help_heading = "Fleet")]
    pub board: Option<String>,

    /// How emulated devices reach the aggregator
    #[arg(long, value_enum, default_value_t, help_heading = "Fleet")]
    pub network: Network,

    /// Passes over a device's own data in each round
    #[arg(long, value_name = "N", default_value = "5", value_parser = positive)]
    #[arg(help_heading = "Training")]
    pub epochs: u32,

    /// Examples in each step of gradient descent
    #[arg(long, value_name = "N", default_value = "600", value_parser = positive)]
    #[arg(help_heading = "Training")]
    pub batch_size: u32,

    /// Where to serve the live page about the run; `off` for none
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0", value_parser = dashboard)]
    #[arg(help_heading = "Results")]
    pub dashboard: DashboardChoice,

    #[command(flatten)]
    pub learning: LearningArgs,

    #[command(flatten)]
    pub display: DisplayArgs,
}

/// Whether and where a run shows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DashboardChoice {
    /// Nowhere.
    Off,
    /// At this address of this machine.
    At(SocketAddr),
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

/// What `run` and `server` have in common.
#[derive(Args)]
pub struct LearningArgs {
    /// Step size of gradient descent
    #[arg(long, value_name = "X", default_value = "0.5", value_parser = learning_rate)]
    #[arg(help_heading = "Training")]
    pub lr: f32,

    /// Units of the hidden layers, separated by commas: 200,200
    #[arg(long, value_name = "N,…", default_value = "16", value_delimiter = ',')]
    #[arg(value_parser = positive, help_heading = "Training")]
    pub hidden: Vec<u32>,

    /// Activation of the hidden layers
    #[arg(long, value_enum, default_value_t, help_heading = "Training")]
    pub activation: Activation,

    /// Arithmetic of the first layer: fixed point is several times faster on emulated devices
    #[arg(long, value_enum, default_value_t, help_heading = "Training")]
    pub arithmetic: Arithmetic,

    /// What every random number is derived from; the same seed gives the same model, bit by bit
    #[arg(long, value_name = "N", default_value = "1", value_parser = seed)]
    #[arg(help_heading = "Training")]
    pub seed: u64,

    /// Folder with the four files of MNIST or a set like it, gzipped or not [default: data/mnist]
    #[arg(long, value_name = "DIR", help_heading = "Training")]
    pub data: Option<PathBuf>,

    /// Training examples of each device [default: an equal share of the data, at most 1200]
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Training")]
    pub examples: Option<u32>,

    /// How the updates of a round are weighed against each other
    #[arg(long, value_enum, default_value_t, help_heading = "Rounds")]
    pub weighting: Weighting,

    /// Updates without which a round fails [default: half of those asked for]
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Rounds")]
    pub quorum: Option<u32>,

    /// Longest wait for the updates of a round; it then goes on without those that are missing
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    #[arg(help_heading = "Rounds")]
    pub deadline: f64,

    /// Longest wait for devices to be ready before a round, booting before the first included
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    #[arg(help_heading = "Rounds")]
    pub ready_deadline: f64,

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

/// What a device is, as asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BodyChoice {
    /// What --board boots; without it zephyr where its firmware is built, else bare
    #[default]
    Auto,
    /// A bare-metal firmware in QEMU
    Bare,
    /// A Zephyr application in QEMU
    Zephyr,
    /// A task of this process: no emulation, for debugging and for scale
    Native,
}

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// A bare-metal firmware in QEMU.
    Bare,
    /// A Zephyr application in QEMU.
    Zephyr,
    /// A task of this process.
    Native,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// The best that this machine allows
    #[default]
    Auto,
    /// A bridge and a tap per device, in namespaces of their own
    Bridge,
    /// QEMU's own network per device; needs no privilege
    User,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// max(0, x)
    #[default]
    Relu,
    /// 1 / (1 + exp(-x))
    Sigmoid,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arithmetic {
    /// Integers
    #[default]
    Fixed,
    /// Single-precision floating point
    Float,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weighting {
    /// By the number of examples that a device trained on
    #[default]
    NumExamples,
    /// All alike
    Uniform,
}

fn positive(text: &str) -> Result<u32, String> {
    match text.trim().parse() {
        Ok(0) => Err("give at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err(format!("give a whole number from 1 to {}", u32::MAX)),
    }
}

fn seed(text: &str) -> Result<u64, String> {
    // config.toml must hold it, and TOML's integers have a sign.
    match text.parse::<u64>() {
        Ok(seed) if i64::try_from(seed).is_ok() => Ok(seed),
        _ => Err(format!("give a whole number from 0 to {}", i64::MAX)),
    }
}

fn dashboard(text: &str) -> Result<DashboardChoice, String> {
    if text == "off" {
        return Ok(DashboardChoice::Off);
    }
    let at = text.parse().map(DashboardChoice::At);
    at.map_err(|_| "give an address and port, such as 127.0.0.1:8000, or off".to_owned())
}

fn learning_rate(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("give a number above 0, such as 0.5".to_owned()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    // A day: beyond it, Duration and Instant would have to be checked for overflow.
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(seconds),
        _ => Err("give a number of seconds above 0 and up to 86400".to_owned()),
    }
}

fn name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() || text.starts_with('.') || !text.chars().all(plain) {
        return Err("take letters, digits, '-', '_' and '.', and no '.' in front".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn clap_agrees() {
        Cli::command().debug_assert();
    }

    #[test]
    fn names_stay_in_the_runs_folder() {
        assert!(name("night-7_b.2").is_ok());
        for bad in ["", "..", "a/b", ".hidden", "a b"] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn rates_are_positive_and_finite() {
        assert_eq!(learning_rate("0.25"), Ok(0.25));
        for bad in ["0", "-1", "nan", "inf", "1e-60", "x"] {
            assert!(learning_rate(bad).is_err(), "{bad:?}");
        }
    }
}
