//! zfl's chores: `cargo xtask <command>`.
//!
//! Everything that needs more than Cargo (packages of the system, firmware for another target, QEMU)
//! is done from here, so that two commands suffice on a fresh machine: `cargo xtask run` and
//! `cargo xtask test`.
//!
//! Invariants:
//! - No zfl crate is used here: xtask builds even when they do not.
//! - Whatever is already in place is left alone, and no package manager is called for it.
//! - A chore that cannot be done ends with a non-zero status and the command that would help.

// First, so that all others have its macros.
#[macro_use]
mod print;

mod advisories;
mod bench;
mod ci;
mod experiments;
mod guest;
mod licences;
mod links;
mod miri;
mod plugin;
mod process;
mod project;
mod responsiveness;
mod run;
mod setup;
mod sizes;
mod soak;
mod tally;
mod tiers;
mod toolchain;
mod words;
mod zephyr;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::process::ExitCode;

/// Sets zfl up, builds its firmware, runs and tests it.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install what is missing: QEMU, and a toolchain that can build firmware
    Setup {
        /// Also a Zephyr workspace: west, the trees of west.yml, and what their build needs
        #[arg(long)]
        zephyr: bool,
    },
    /// Build the firmware that boards boot
    BuildGuest {
        /// The firmware [default: zephyr where a Zephyr is found, else bare]
        #[arg(long, value_enum)]
        body: Option<GuestBody>,
        /// Only what this board boots (a folder of boards/)
        #[arg(long)]
        board: Option<String>,
    },
    /// Build the plugin of QEMU that counts cycles, for `zfl run --cost cycles`
    BuildPlugin,
    /// Count the benchmarks of the Cortex-M in QEMU, and write docs/calibration.md: how far the twin's predictions are off
    Calibrate,
    /// Set up and build what is missing, then `zfl run` with all that follows
    #[command(disable_help_flag = true)]
    Run {
        /// Handed to `zfl run`; see `cargo xtask run --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Build the bare firmware, and install a zfl with it built in: it runs by itself from any folder
    Install {
        /// Handed to `cargo install`: `--root DIR` for another place
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Set up, then all tests: host, firmware in QEMU, fleets
    Test,
    /// The tests of the firmware, each in QEMU
    TestQemu,
    /// The tests of the Zephyr guest
    TestZephyr,
    /// Memory of each firmware against its board's limits
    Sizes,
    /// Answer time of a device while it trains, and of the transfer of its training data
    Responsiveness {
        /// Only this board (a folder of boards/)
        #[arg(long)]
        board: Option<String>,
    },
    /// The end-to-end tests: fleets in QEMU, and what goes wrong with them
    TestFleet,
    /// Measure the numbers that docs/ states
    Bench(bench::BenchArgs),
    /// Published numbers made again, for docs/experiments.md
    Experiments(experiments::ExperimentsArgs),
    /// Random faults, links and algorithms: each run twice, and once killed and resumed; one model
    Soak(soak::SoakArgs),
    /// The device's crates under Miri, which needs a nightly Rust
    Miri,
    /// Formatting, lints, documentation, links, words, licences, the `no_std` builds, and Miri where it is
    /// there
    Ci,
}

/// A firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum GuestBody {
    /// The bare-metal firmware
    Bare,
    /// The Zephyr application
    Zephyr,
    /// Both
    All,
}

fn main() -> ExitCode {
    match perform(Cli::parse().chore) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(chore: Chore) -> Result<ExitCode> {
    match chore {
        Chore::Setup { zephyr: false } => setup::all(),
        Chore::Setup { zephyr: true } => zephyr::foresee()
            .and_then(|()| setup::all())
            .and_then(|()| zephyr::setup()),
        Chore::BuildGuest { body, board } => guest::build(body, board.as_deref()),
        Chore::BuildPlugin => plugin::build(),
        Chore::Calibrate => plugin::calibrate(),
        Chore::Run { args } => return run::run(&args),
        Chore::Install { args } => run::install(&args),
        Chore::Test => tiers::all(),
        Chore::TestQemu => tiers::qemu(),
        Chore::TestFleet => tiers::fleet(),
        Chore::TestZephyr => tiers::zephyr_alone(),
        Chore::Sizes => sizes::all(),
        Chore::Responsiveness { board } => responsiveness::all(board.as_deref()),
        Chore::Bench(args) => bench::bench(&args),
        Chore::Experiments(args) => experiments::experiments(&args),
        Chore::Soak(args) => soak::soak(&args),
        Chore::Miri => miri::demand(),
        Chore::Ci => ci::check(),
    }
    .map(|()| ExitCode::SUCCESS)
}
