//! `zfl run`: from the arguments to a run and its exit status.

use crate::args::{Accel, RunArgs};
use crate::terminal::Terminal;
use crate::terminal::display::Shown;
use crate::terminal::seen;
use crate::{command, output, runs, token};
use anyhow::{Context, Result};
use fl_data::Splits;
use std::path::Path;
use zfl_clock::Instant;
use zfl_experiment::estimate::plan;
use zfl_experiment::{Body, BodyChoice, Experiment, Out, Refusal, Root, Settings, boards};
use zfl_run_dir::RunSummary;
use zfl_runner::{Interrupt, Runner, TOKEN_VARIABLE, changed_since};

/// The commands that build a Zephyr firmware.
const ZEPHYR: &str = "cargo xtask setup --zephyr && cargo xtask build-guest --body zephyr";

/// Carries `zfl run` out, and returns the exit status.
///
/// # Errors
/// A [`Refusal`] of what cannot be meant; any other failure to begin.
pub fn run(args: &RunArgs, root: &Root, began: Instant) -> Result<u8> {
    if let Some(parent) = args.of_sweep {
        zfl_sandbox::signals::belong_to(parent).context("cannot belong to a sweep")?;
    }
    args.display.check()?;
    let dashboard = args.dashboard;
    let token = token::token(
        args.dashboard_token.as_ref(),
        std::env::var_os(TOKEN_VARIABLE),
        dashboard,
    )?;
    let runner = runner(args, root).map_err(Refusal::of)?;
    let experiment = runner.experiment();
    for line in &experiment.notes {
        output::note(line);
    }
    if args.dry_run {
        let (toml, out) = (experiment.to_toml()?, seen(&experiment.out).display());
        output::line(&format!("{toml}# The results would go to {out}"))?;
        for plan in plan::plans(experiment).map_err(Refusal::of)? {
            output::line(&format!("# {plan}"))?;
        }
        if let Some(board) = experiment.strangers_board() {
            output::note(&format!("a run with board {board} needs --allow-board"));
        }
        return Ok(0);
    }
    let shown = Shown;
    let mut terminal = Terminal::of(experiment, args.display);
    if wants_zephyr(args) && experiment.body == Some(Body::Bare) {
        terminal.hint = Some(format!(
            "bare, since no Zephyr firmware is built; get it by: {ZEPHYR}"
        ));
    }
    let summary = runner
        .began(began)
        .boot_parallel(args.boot_parallel)
        .threads(args.threads)
        .oversubscribe(args.oversubscribe)
        .merge_memory(args.merge_memory)
        .kvm(args.accel == Accel::Kvm)
        .gdb(args.gdb)
        .allow_board(args.allow_board)
        .capture(args.pcap.clone())
        .page(dashboard.address())
        .control(token)
        .command(command::own())
        .end_on_signals()
        .run(terminal)?;
    Ok(shown_status(status(&summary), shown))
}

/// The exit status of a run and its display: a success only if what was asked for is written.
pub fn shown_status(status: u8, shown: Shown) -> u8 {
    match shown.end() {
        false if status == 0 => 1,
        _ => status,
    }
}

/// The exit status that tells of a run.
pub fn status(summary: &RunSummary) -> u8 {
    let signal = summary.interrupted_by.as_deref();
    match signal.and_then(Interrupt::named) {
        Some(interrupt) => interrupt.status,
        None => u8::from(!summary.training.success),
    }
}

/// Tells whether the body was left to what is built.
fn wants_zephyr(args: &RunArgs) -> bool {
    let device = &args.keys.0.device;
    device.body() == BodyChoice::Auto && device.board.is_none() && args.file.is_none()
}

/// The run that is asked for, a new one or one that goes on.
fn runner(args: &RunArgs, root: &Root) -> Result<Runner> {
    let flags = args.keys.0.clone();
    if let Some(named) = &args.resume {
        let run = runs::find(root.runs(), Some(named))?;
        return Runner::resume(flags, &run, root);
    }
    let (experiment, data) = experiment(flags, args.file.as_deref(), root)?;
    if let Some(file) = &args.file {
        let changed = changed_since(file, &experiment)?;
        if !changed.is_empty() {
            output::warn(&format!(
                "the run of {} had other inputs ({}): the model may not be the same",
                file.display(),
                changed.join(", ")
            ));
        }
    }
    Ok((experiment, data).into())
}

/// The experiment that flags and a file ask for, with its data.
///
/// # Errors
/// A [`Refusal`] of what cannot be meant.
pub fn experiment(
    flags: Settings,
    file: Option<&Path>,
    root: &Root,
) -> Result<(Experiment, Splits)> {
    let file = match file {
        Some(file) => Settings::read(file)?,
        None => Settings::default(),
    };
    let overridden = boards::overridden(&flags, &file, root);
    for line in file.outdated().into_iter().chain(overridden) {
        output::note(&line);
    }
    let settings = flags.over(file, &boards::guests(root))?;
    let out = Out::New(settings.out.as_deref());
    Experiment::of_run(&settings, out, root)
}
