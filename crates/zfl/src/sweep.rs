//! `zfl sweep`: the runs of a sweep, each in a process of its own, several at once.
//!
//! Each run is `zfl run` in this process's group, so that ^Z stops them with it. They leave Ctrl-C and a hang-up
//! to this process, which asks them to end by SIGTERM, and they are killed by the system when it is gone.

use crate::output;
use crate::terminal::text;
use anyhow::{Context, Result};
use clap::Args;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use zfl_clock::Instant;
use zfl_experiment::values::{name, positive};
use zfl_experiment::{Root, place};
use zfl_orchestrator::admission::Capacity;
use zfl_runner::{Interrupt, Interrupts, block_on};
use zfl_sweep::{Folder, Plan, Planned, Row, Standing, Status, Sweep};

/// Examples in the help.
pub const EXAMPLES: &str = "\
Examples:
  zfl sweep experiments/sweeps/seeds.toml            every run of the file, several at once
  zfl sweep experiments/sweeps/seeds.toml --dry-run  which runs these are
  zfl sweep sweeps/seeds                             goes on with a sweep that was broken off
  zfl compare sweeps/seeds --target 0.9              its table, and rounds and bytes to 90 %

The runs are in sweeps/<name>/runs/, one row each in sweeps/<name>/runs.csv. The exit status is 0 only if every
run completed.";

#[derive(Args)]
pub struct SweepArgs {
    /// Sweep file (TOML), see docs/sweeps.md; or the folder of a sweep that goes on
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Runs at the same time [default: as many as memory and processors bear]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub jobs: Option<u32>,

    /// Name of the sweep [default: that in the file, else the file's]
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub name: Option<String>,

    /// Folder for the runs and their table; one that is there goes on [default: sweeps/NAME]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Check and list the runs, with estimates, and start none
    #[arg(long)]
    pub dry_run: bool,

    /// Start machines of a board that is given by a path: look at its file first
    #[arg(long)]
    pub allow_board: bool,

    /// Print no line per run and no progress, only warnings and the end
    #[arg(short, long)]
    pub quiet: bool,
}

/// Interval at which the bar is drawn anew.
const TICK: Duration = Duration::from_millis(500);

/// Carries `zfl sweep` out, and returns the exit status.
///
/// # Errors
/// A [`Refusal`](zfl_experiment::Refusal) of what cannot be meant; any other failure to begin.
pub fn sweep(args: &SweepArgs, root: &Root) -> Result<u8> {
    let mut sweep = Sweep::read(&args.file)?;
    if let Some(name) = &args.name {
        sweep.name.clone_from(name);
    }
    let plan = Plan::of(&sweep, root)?;
    for note in &plan.notes {
        output::note(note);
    }
    let path = match &args.out {
        Some(out) => std::path::absolute(out)?,
        None => root.sweeps().join(&sweep.name),
    };
    let standings = Folder::look(&path, &plan)?;
    place::may_hold(&path)?;
    let jobs = Jobs::of(args.jobs)?;
    if args.dry_run {
        return output::print(&listed(&plan, &standings, &jobs, &path)).map(|()| 0);
    }
    let folder = Folder::claim(&path, &sweep)?;
    let work = Work::new(args, root, plan, standings, folder)?;
    block_on(work.carry_out(jobs))
}

/// Room for runs at the same time.
#[derive(Clone, Copy, Debug)]
struct Jobs {
    /// Number that was asked for.
    most: Option<usize>,
    processors: usize,
    bytes: u64,
}

impl Jobs {
    fn of(most: Option<u32>) -> Result<Self> {
        Ok(Self {
            most: most.map(|most| most as usize),
            processors: std::thread::available_parallelism().map_or(1, |n| n.get()),
            bytes: Capacity::room()?,
        })
    }

    /// Tells whether there is room for a run beside those that go on. One alone always may, and says itself what
    /// it lacks.
    fn bear(&self, running: &[&Planned], next: &Planned) -> bool {
        if running.is_empty() {
            return true;
        }
        if let Some(most) = self.most {
            return running.len() < most;
        }
        let all = || running.iter().copied().chain([next]);
        let processors: usize = all().map(|run| run.processors).sum();
        let bytes = all().map(|run| run.host_bytes).fold(0, u64::saturating_add);
        processors <= self.processors && bytes <= self.bytes
    }

    /// The most of these runs that go on at once.
    fn at_once(&self, runs: &[Planned]) -> usize {
        let mut running = Vec::new();
        for run in runs {
            if !self.bear(&running, run) {
                break;
            }
            running.push(run);
        }
        running.len()
    }
}

/// The runs that a sweep would make, for people.
fn listed(plan: &Plan, standings: &[Standing], jobs: &Jobs, path: &Path) -> String {
    let width = plan
        .runs
        .iter()
        .map(|run| run.point.name.len())
        .max()
        .unwrap_or(0)
        .max(3);
    let mut table = format!(
        "{:width$}  {:>6}  {:>7}  {:>10}  {:>9}  {:>10}  standing\n",
        "run", "rounds", "devices", "parameters", "wire MB*", "memory MB*"
    );
    for (run, standing) in plan.runs.iter().zip(standings) {
        let standing = match standing {
            Standing::New => "",
            Standing::Begun => "goes on",
            Standing::Done => "done",
        };
        let mega = |bytes: u64| bytes as f64 / 1e6;
        let line = format!(
            "{:width$}  {:>6}  {:>7}  {:>10}  {:>9.1}  {:>10.0}  {standing}",
            run.point.name,
            run.rounds,
            run.clients,
            run.num_params,
            mega(run.wire_bytes),
            mega(run.host_bytes)
        );
        table += line.trim_end();
        table.push('\n');
    }
    let at_once = jobs.at_once(&plan.runs);
    table
        + &format!(
            "{} runs, {at_once} at once; * estimates: models and updates on the wire, memory of this machine\n\
         The results would go to {}\n",
            plan.runs.len(),
            path.display()
        )
}

/// A sweep at work.
struct Work {
    program: PathBuf,
    root: Option<PathBuf>,
    allow_board: bool,
    quiet: bool,
    plan: Plan,
    folder: Folder,
    standings: Vec<Standing>,
    rows: Vec<Row>,
    bar: ProgressBar,
}

/// End of a run: its place in the plan, its status, and the seconds that it took.
type End = (usize, io::Result<ExitStatus>, f64);

impl Work {
    fn new(
        args: &SweepArgs,
        root: &Root,
        plan: Plan,
        standings: Vec<Standing>,
        folder: Folder,
    ) -> Result<Self> {
        let row = |(run, standing): (&Planned, &Standing)| {
            let status = match standing {
                Standing::New => Status::Waiting,
                Standing::Begun => Status::Interrupted,
                Standing::Done => Status::Done,
            };
            Row::of(run, status, &folder.run(run))
        };
        let rows = plan.runs.iter().zip(&standings).map(row).collect();
        Ok(Self {
            program: std::env::current_exe().context("cannot find this program")?,
            root: root.tree().map(Path::to_owned),
            allow_board: args.allow_board,
            quiet: args.quiet,
            bar: bar(plan.runs.len(), args.quiet),
            rows,
            plan,
            folder,
            standings,
        })
    }

    /// Makes every run that is not done; the exit status.
    async fn carry_out(mut self, jobs: Jobs) -> Result<u8> {
        let mut interrupts = Interrupts::new()?;
        let mut interrupt: Option<Interrupt> = None;
        let count = |standing| {
            self.standings
                .iter()
                .filter(|one| **one == standing)
                .count()
        };
        self.say(&format!(
            "{} runs in {}: {} done, {} to go on with",
            self.plan.runs.len(),
            self.folder
                .table()
                .parent()
                .unwrap_or(Path::new(""))
                .display(),
            count(Standing::Done),
            count(Standing::Begun)
        ));
        let to_do = |at: &usize| self.standings[*at] != Standing::Done;
        let turns = self.plan.by_turns().into_iter();
        let mut waiting: Vec<usize> = turns.filter(to_do).rev().collect();
        let mut running = BTreeMap::<usize, Pid>::new();
        let mut ends = FuturesUnordered::new();
        let mut ticks = tokio::time::interval(TICK);
        self.write_table()?;
        loop {
            while let (Some(&next), None) = (waiting.last(), interrupt) {
                let at_work: Vec<&Planned> =
                    running.keys().map(|&at| &self.plan.runs[at]).collect();
                if !jobs.bear(&at_work, &self.plan.runs[next]) {
                    break;
                }
                waiting.pop();
                let child = self.start(next)?;
                running.extend(pid(&child).map(|pid| (next, pid)));
                ends.push(ended(next, child));
            }
            if ends.is_empty() {
                break;
            }
            tokio::select! {
                Some(end) = ends.next() => {
                    running.remove(&end.0);
                    self.take_in(end, interrupt.is_some())?;
                }
                signal = interrupts.next() => {
                    self.say(&format!("{}: the runs stop; once more to stop them at once", signal.name));
                    interrupt.get_or_insert(signal);
                    for &pid in running.values() {
                        // One that has just ended is waited for above.
                        let _ = kill(pid, Signal::SIGTERM);
                    }
                }
                _ = ticks.tick() => self.show(running.keys()),
            }
        }
        self.conclude(interrupt)
    }

    /// Starts a run, or goes on with it.
    fn start(&mut self, at: usize) -> Result<Child> {
        let run = &self.plan.runs[at];
        let mut command = Command::new(&self.program);
        command.args(["run", "--dashboard", "off", "--quiet", "--of-sweep"]);
        command.arg(std::process::id().to_string());
        let out = self.folder.run(run);
        match self.standings[at] {
            Standing::New => {
                let file = self.folder.prepare(run)?;
                command.arg(file).arg("--out").arg(&out);
            }
            _ => {
                self.folder.write_settings(run)?;
                command.arg("--resume").arg(&out);
                command.args(["--rounds", &run.rounds.to_string()]);
            }
        }
        if let Some(root) = &self.root {
            command.arg("--root").arg(root);
        }
        if self.allow_board {
            command.arg("--allow-board");
        }
        let log = self.folder.log(run)?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        self.rows[at].status = Status::Running;
        Ok(child)
    }

    /// Notes the end of a run, and tells of it.
    fn take_in(&mut self, (at, status, took_s): End, stopping: bool) -> Result<()> {
        let run = &self.plan.runs[at];
        let name = &run.point.name;
        let status = match status?.code() {
            Some(0) => Status::Done,
            Some(129 | 130 | 143) | None if stopping => Status::Interrupted,
            _ => Status::Failed,
        };
        let row = Row::of(run, status, &self.folder.run(run));
        let done = self
            .rows
            .iter()
            .filter(|row| row.status == Status::Done)
            .count();
        let all = self.plan.runs.len();
        let width = all.to_string().len();
        let rounds = row.rounds();
        match status {
            Status::Done => {
                let accuracy = row
                    .accuracy()
                    .map_or(String::new(), |share| format!("{:.2} % ", 100.0 * share));
                self.say(&format!(
                    "[{:width$}/{all}] {name}: {accuracy}after {rounds} rounds, {took_s:.1} s",
                    done + 1
                ));
            }
            Status::Interrupted => self.say(&format!("{name}: stopped after {rounds} rounds")),
            _ => {
                let why = self
                    .folder
                    .last_words(run)
                    .unwrap_or_else(|| "it said nothing".to_owned());
                self.warn(&format!("{name} failed after {rounds} rounds: {why}"));
            }
        }
        self.rows[at] = row;
        self.write_table()
    }

    fn conclude(self, interrupt: Option<Interrupt>) -> Result<u8> {
        self.bar.finish_and_clear();
        let count = |status| self.rows.iter().filter(|row| row.status == status).count();
        let (done, failed, all) = (count(Status::Done), count(Status::Failed), self.rows.len());
        let failed_too = match failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        let table = self.folder.table();
        let folder = table.parent().unwrap_or(Path::new("")).display();
        let next = match done == all {
            true => format!("zfl compare {folder}"),
            false => format!("to go on: zfl sweep {folder}"),
        };
        output::say(&format!(
            "{done} of {all} runs done{failed_too}: {}\n{next}",
            table.display()
        ));
        Ok(match interrupt {
            Some(interrupt) => interrupt.status,
            None => u8::from(done < all),
        })
    }

    fn write_table(&self) -> Result<()> {
        self.folder.write_table(&self.plan.columns, &self.rows)
    }

    /// Shows on a terminal which runs go on, and how far they are.
    fn show<'a>(&self, running: impl Iterator<Item = &'a usize>) {
        let each = running.map(|&at| {
            let run = &self.plan.runs[at];
            let round = crate::runs::progress(&self.folder.run(run));
            format!("{} {round}/{}", run.point.name, run.rounds)
        });
        let done = self
            .rows
            .iter()
            .filter(|row| row.status == Status::Done)
            .count();
        self.bar.set_position(done as u64);
        self.bar.set_message(each.collect::<Vec<_>>().join(", "));
    }

    fn say(&self, line: &str) {
        if !self.quiet {
            self.bar.suspend(|| output::say(&text::clean(line)));
        }
    }

    fn warn(&self, line: &str) {
        self.bar.suspend(|| output::warn(&text::clean(line)));
    }
}

fn pid(child: &Child) -> Option<Pid> {
    Some(Pid::from_raw(child.id()?.cast_signed()))
}

async fn ended(at: usize, mut child: Child) -> End {
    let began = Instant::now();
    let status = child.wait().await;
    (at, status, began.elapsed().as_secs_f64())
}

fn bar(runs: usize, quiet: bool) -> ProgressBar {
    let target = match quiet || !io::stderr().is_terminal() {
        true => ProgressDrawTarget::hidden(),
        false => ProgressDrawTarget::stderr(),
    };
    let bar = ProgressBar::with_draw_target(Some(runs as u64), target);
    let style = ProgressStyle::with_template("{pos}/{len} {bar:20} {wide_msg}");
    bar.set_style(
        style
            .expect("the template is a constant")
            .progress_chars("━╸─"),
    );
    bar
}
