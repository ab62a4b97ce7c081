//! The command line of zfl: an aggregator and a fleet of devices, together or apart.
//!
//! Exit status: 0 only if every round completed; 1 if not, or something failed; 2 if the request
//! was refused before anything started; 130 after Ctrl-C, 143 after SIGTERM.
//! Commands that only print end with 0 when nobody reads any more.
//!
//! Invariants:
//! - Whatever can be refused is refused before a folder is made or a process is started.
//! - No thread exists before the fleet's namespaces do: making them takes a single-threaded process.

#![forbid(unsafe_code)]

mod agent;
mod args;
mod client;
mod command;
mod compare;
mod data;
mod devices;
mod edge;
mod eval;
mod events;
mod export;
mod firmware;
mod gdb;
mod keys;
mod launch;
mod output;
mod run;
mod runs;
mod secret;
mod server;
mod slurm;
mod stdin_lines;
mod sweep;
mod terminal;
mod token;
mod tui;
mod values;
mod view;

use anyhow::{Context, Result};
use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use output::NobodyReads;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use zfl_clock::Instant;
use zfl_experiment::{Refusal, Root, place, require};
use zfl_runner::Ended;

fn main() -> ExitCode {
    let began = Instant::now();
    let performed = match Cli::try_parse() {
        Ok(cli) => prepared().and_then(|()| perform(cli, began)),
        Err(usage) => explain(&usage),
    };
    ExitCode::from(performed.unwrap_or_else(|error| failed(&error)))
}

fn prepared() -> Result<()> {
    // As many as it may have: where that is refused, there are as many as before.
    let _ = zfl_http_server::open_files::raise();
    zfl_sandbox::signals::prepare().context("cannot set signals")
}

/// Prints help or the version; or that the arguments make no command.
fn explain(usage: &clap::Error) -> Result<u8> {
    let text = usage.render();
    let styled = |terminal: bool| match terminal {
        true => text.ansi().to_string(),
        false => text.to_string(),
    };
    if usage.use_stderr() {
        let text = styled(io::stderr().is_terminal());
        output::note(text.trim_end());
        return Ok(2);
    }
    output::print(&styled(io::stdout().is_terminal())).map(|()| 0)
}

/// Tells of an error, and returns the exit status.
fn failed(error: &anyhow::Error) -> u8 {
    // It has been told by a signal, or by the fleet's process itself.
    if let Some(ended) = error.downcast_ref::<Ended>() {
        return ended.status;
    }
    if error.is::<NobodyReads>() {
        return 0;
    }
    output::note(&format!("error: {error:#}"));
    if error.is::<Refusal>() { 2 } else { 1 }
}

fn perform(cli: Cli, began: Instant) -> Result<u8> {
    let root = Root::find(cli.root().as_deref())?.with_firmware(firmware::find);
    let root = root.with_sets(data::folder());
    for line in &root.notes {
        output::note(&format!("warning: {line}"));
    }
    match cli.command {
        Command::Run(args) => run::run(&args, &root, began),
        Command::Sweep(args) => sweep::sweep(&args, &root),
        Command::Server(args) => server::server(&args, &root, began),
        Command::Edge(args) => edge::edge(&args, &root),
        Command::Launch(args) => launch::launch(&args, &root, began),
        Command::Agent(args) => agent::agent(&args, &root, began),
        Command::Client(args) => client::client(&args, &root),
        Command::View(args) => {
            require(args.dashboard_token.is_none(), || {
                "zfl view shows what a run wrote down, and there is nothing to control: give \
                 --dashboard-token to zfl run"
                    .to_owned()
            })?;
            let run = runs::find(root.runs(), Some(&args.run))?;
            runs::warn_of_damage(&run);
            if args.tui {
                tui::view(&run)
            } else {
                view::view(&run, args.listen)
            }
        }
        Command::Data(args) => data::data(*args, &root).map(|()| 0),
        Command::Follow(args) if args.json => events::follow(&args.run),
        Command::Follow(args) => tui::follow(&args.run),
        Command::Ps => runs::list(root.runs(), &root.sweeps()).map(|()| 0),
        Command::Logs(args) => {
            let run = runs::find(root.runs(), args.run.as_deref())?;
            runs::print_log(&run, args.client, args.follow).map(|()| 0)
        }
        Command::Gdb(args) => gdb::gdb(&args, &root),
        Command::Stop(args) => {
            runs::stop(&runs::to_stop(root.runs(), args.run.as_deref())?).map(|()| 0)
        }
        Command::Devices(args) => {
            let run = runs::find(root.runs(), args.run.as_deref())?;
            devices::show(&run, args.json).map(|()| 0)
        }
        Command::Schema => {
            let schema = serde_json::to_string_pretty(&zfl_experiment::keys::schema())?;
            output::line(&schema).map(|()| 0)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "zfl", &mut script);
            output::print(&String::from_utf8_lossy(&script)).map(|()| 0)
        }
        Command::Export(args) => export::export(&args, &root).map(|()| 0),
        Command::Eval(args) => eval::eval(&args, &root).map(|()| 0),
        Command::Compare(args) => compare::compare(&args, &root).map(|()| 0),
        Command::Report(args) => {
            let find = |run: &PathBuf| runs::find(root.runs(), Some(run));
            let found = args.runs.iter().map(find).collect::<Result<Vec<_>, _>>()?;
            place::may_hold(&args.out)?;
            let report = zfl_report::write(&found, &args.out)?;
            for warning in report.warnings {
                output::warn(&terminal::text::clean(&warning));
            }
            output::line(&report.page.display().to_string()).map(|()| 0)
        }
    }
}
