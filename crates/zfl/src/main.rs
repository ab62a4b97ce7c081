//! The command line of zfl: an aggregator and a fleet of devices, together or apart.
//!
//! Exit status: 0 only if every round completed; 1 if not, or something failed; 2 if the request
//! was refused before anything started; 130 after Ctrl-C, 143 after SIGTERM.
//!
//! Invariants:
//! - Whatever can be refused is refused before a folder is made or a process is started.
//! - No thread exists before the fleet's namespaces do: making them takes a single-threaded process.

mod args;
mod experiment;
mod refusal;
mod run_dir;

use anyhow::Result;
use args::{Cli, Command};
use clap::Parser;
use refusal::Refusal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    match perform(Cli::parse().command) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<Refusal>() { 2 } else { 1 })
        }
    }
}

fn perform(command: Command) -> Result<u8> {
    match command {
        Command::Run(args) => {
            let (experiment, data) = experiment::Experiment::of_run(&args, &root())?;
            drop(data);
            print!("{}", toml::to_string(&experiment)?);
            Ok(0)
        }
        Command::Server(_) | Command::Client(_) => anyhow::bail!("not built yet"),
    }
}

/// Where boards/, data/ and runs/ are: the nearest folder upwards that has boards/, else the source
/// tree that zfl was built from.
fn root() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    let found = here
        .ancestors()
        .find(|folder| folder.join("boards").is_dir());
    found.map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."),
        Path::to_owned,
    )
}
