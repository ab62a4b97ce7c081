//! The runner: an experiment, and what can be chosen about a run beyond it.

use crate::control::ControlToken;
use crate::fleet::{self, Capture, FleetOptions};
use crate::observer::{Begin, Observer};
use crate::page;
use crate::places;
use crate::run::{Run, claim, create, finish};
use crate::session::block_on;
use anyhow::{Context, Result, bail};
use fl_data::Splits;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use zfl_clock::Instant;
use zfl_experiment::{Experiment, Refusal, place};
use zfl_files::Lock;
use zfl_orchestrator::FleetConfig;
use zfl_run_dir::{Resumed, RunDir, RunHistory, RunSummary};
use zfl_sandbox::{Plan, Sandbox, enter};

/// Longest error of the fleet's process that comes back whole, in bytes; a pipe holds more.
const MAX_ERROR: usize = 16 << 10;

/// Runs an experiment to its end.
///
/// # Errors
/// A [`Refusal`] of what cannot be meant; any other failure to begin. A run that
/// failed in a round is a summary that says so.
pub fn run(of: impl Into<Runner>, observer: impl Observer + 'static) -> Result<RunSummary> {
    of.into().run(observer)
}

/// An experiment that is to be run, and choices that change no result.
pub struct Runner {
    pub(crate) experiment: Experiment,
    pub(crate) data: Splits,
    /// State to go on from, and the lock on the run's directory since before it was read.
    pub(crate) resumed: Option<(Resumed, Lock)>,
    pub(crate) fleet: FleetOptions,
    pub(crate) page: Option<SocketAddr>,
    control: Option<ControlToken>,
    pub(crate) command: Option<String>,
    pub(crate) signals: bool,
    pub(crate) began: Instant,
}

impl From<(Experiment, Splits)> for Runner {
    fn from((experiment, data): (Experiment, Splits)) -> Self {
        Self::new(experiment, data)
    }
}

impl Runner {
    /// An experiment with its data.
    pub fn new(experiment: Experiment, data: Splits) -> Self {
        Self {
            experiment,
            data,
            resumed: None,
            fleet: FleetOptions::default(),
            page: None,
            control: None,
            command: None,
            signals: false,
            began: Instant::now(),
        }
    }

    /// The experiment.
    pub fn experiment(&self) -> &Experiment {
        &self.experiment
    }

    /// Boots so many machines at the same time instead of four per processor.
    #[must_use]
    pub fn boot_parallel(mut self, machines: Option<u32>) -> Self {
        self.fleet.boot_parallel = machines;
        self
    }

    /// Runs native devices on so many threads instead of one per processor. It changes no result.
    #[must_use]
    pub fn threads(mut self, threads: Option<u32>) -> Self {
        self.fleet.threads = threads;
        self
    }

    /// Starts more devices than this machine has memory for.
    #[must_use]
    pub fn oversubscribe(mut self, oversubscribe: bool) -> Self {
        self.fleet.oversubscribe = oversubscribe;
        self
    }

    /// Has the host merge the memory of the machines where it is equal, if root has switched that on (KSM). Their
    /// memory then has no random layout.
    #[must_use]
    pub fn merge_memory(mut self, merge_memory: bool) -> Self {
        self.fleet.merge_memory = merge_memory;
        self
    }

    /// Runs the machines on the host's own processor (KVM), which is tried first. Nothing counts their instructions.
    #[must_use]
    pub fn kvm(mut self, kvm: bool) -> Self {
        self.fleet.kvm = kvm;
        self
    }

    /// Lets gdb into emulated devices, by a socket for each in the run directory. Deadlines stand still while one is
    /// connected.
    #[must_use]
    pub fn gdb(mut self, gdb: bool) -> Self {
        self.fleet.gdb = gdb;
        self
    }

    /// Starts machines of boards that are given by a path from elsewhere than zfl's own folder of boards.
    #[must_use]
    pub fn allow_board(mut self, allow_board: bool) -> Self {
        self.fleet.allow_board = allow_board;
        self
    }

    /// Writes down the frames of these devices.
    #[must_use]
    pub fn capture(mut self, capture: Option<Capture>) -> Self {
        self.fleet.pcap = capture;
        self
    }

    /// Serves the page about the run there.
    #[must_use]
    pub fn page(mut self, address: Option<SocketAddr>) -> Self {
        self.page = address;
        self
    }

    /// Lets whoever has this token control the run from its page.
    #[must_use]
    pub fn control(mut self, token: Option<ControlToken>) -> Self {
        self.control = token;
        self
    }

    /// The command that repeats the run, for its page.
    #[must_use]
    pub fn command(mut self, command: String) -> Self {
        self.command = Some(command);
        self
    }

    /// Ends the run cleanly at SIGINT, SIGTERM and SIGHUP. A second one is told to the observer, which may
    /// end the process.
    #[must_use]
    pub fn end_on_signals(mut self) -> Self {
        self.signals = true;
        self
    }

    /// Counts the run's duration from there.
    #[must_use]
    pub fn began(mut self, began: Instant) -> Self {
        self.began = began;
        self
    }

    /// Runs it to its end. It blocks, and must not be called from within an asynchronous runtime.
    ///
    /// # Errors
    /// As [`crate::run()`].
    pub fn run(self, observer: impl Observer + 'static) -> Result<RunSummary> {
        let observer: Arc<dyn Observer> = Arc::new(observer);
        fleet::allowed(&self.experiment, &self.fleet)?;
        let resumed = self.resumed.as_ref().map(|(resumed, _)| resumed);
        if resumed.is_some_and(|resumed| resumed.round == self.experiment.rounds) {
            return self.finish(observer);
        }
        let (mut fleet, plan, page) = self.prepare().map_err(Refusal::of)?;
        let (resumed, lock) = self.resumed.unzip();
        let mut experiment = self.experiment;
        experiment.make_folder()?;
        fleet::place(&mut fleet, &experiment.out);
        // Held by this outer process, and by what it forks: until the last of them has ended.
        let _lock = match lock {
            Some(lock) => lock,
            None => claim(&experiment.out)?,
        };
        let (run_dir, history) = match &resumed {
            Some(resumed) => go_on(&experiment, resumed)?,
            None => (create(&mut experiment)?, RunHistory::default()),
        };
        let out = experiment.out.clone();
        let mut introduction = {
            let (kvm, train) = (self.fleet.kvm, &self.data.train);
            fleet::introduction(&experiment, &plan, &fleet, kvm, train)?
        };
        if let Some(round) = history.resumed_from.last() {
            introduction += &format!("\ngoes on after round {round}");
        }
        observer.on_begin(Begin {
            run_dir: &out,
            introduction: &introduction,
        })?;
        let run = Run {
            experiment,
            network: plan.to_string(),
            began: self.began,
            resumed,
            history,
            fleet,
            page,
            control: self.control,
            command: self.command,
            signals: self.signals,
            observer,
        };
        confined(&plan, &out, |sandbox| {
            block_on(run.execute(sandbox, self.data, run_dir))
        })
    }

    /// Sums up a run of which all rounds are complete.
    pub(crate) fn finish(self, observer: Arc<dyn Observer>) -> Result<RunSummary> {
        let (resumed, _lock) = self.resumed.context("there is no run to sum up")?;
        let (run_dir, history) = go_on(&self.experiment, &resumed)?;
        observer.on_begin(Begin {
            run_dir: &self.experiment.out,
            introduction: "all rounds are complete: the summary is written",
        })?;
        let before = (resumed, history);
        let (experiment, data) = (self.experiment, self.data);
        block_on(finish(
            experiment, data, run_dir, before, self.began, observer,
        ))
    }

    /// Finds out all that can stand in the way of the run, before anything of it is there.
    fn prepare(&self) -> Result<(FleetConfig, Plan, Option<TcpListener>)> {
        let resumed = self.resumed.as_ref().map(|(resumed, _)| resumed);
        let mut fleet = fleet::config(&self.experiment, &self.fleet, resumed)?;
        let by_sockets = match fleet::exchanges_in_process(&self.experiment) {
            true => 0,
            false => self.experiment.clients,
        };
        fleet.other_files = places::least_files(by_sockets, self.page.is_some());
        let plan = fleet::probe(&self.experiment, &fleet, &self.fleet)?;
        if self.resumed.is_some() {
            place::may_hold(&self.experiment.out)?;
        }
        let page = self.page.map(page::open).transpose()?;
        Ok((fleet, plan, page))
    }
}

/// Opens the directory of a run that goes on, and reads what came before.
pub(crate) fn go_on(experiment: &Experiment, resumed: &Resumed) -> Result<(RunDir, RunHistory)> {
    let run_dir = RunDir::resume(&experiment.out, &resumed.complete)?;
    // It may say more rounds than before.
    run_dir.replace("config.toml", experiment.to_toml()?.as_bytes())?;
    let history = RunHistory::of(&experiment.out, resumed)?;
    Ok((run_dir, history))
}

/// Executes a run in its sandbox, and brings back what came of it: from another process, if there are
/// machines.
fn confined(
    plan: &Plan,
    run_dir: &Path,
    execute: impl FnOnce(Sandbox) -> Result<RunSummary>,
) -> Result<RunSummary> {
    let (mut told, tell) = io::pipe().context("make a pipe")?;
    let mut tell = Some(tell);
    let mut here = None;
    let status = enter(plan, |sandbox| {
        let ended = execute(sandbox);
        if let (Err(error), Some(tell)) = (&ended, &mut tell) {
            let mut text = format!("{error:#}");
            let end = (0..=MAX_ERROR)
                .rev()
                .find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or(0));
            // If the outer process is gone, nobody is left to hear of it.
            let _ = tell.write_all(text.as_bytes());
        }
        let status = u8::from(ended.is_err());
        here = Some(ended);
        status
    })?;
    if let Some(ended) = here {
        return ended;
    }
    drop(tell.take());
    let mut error = String::new();
    match status {
        0 => RunSummary::load(run_dir),
        1 if told.read_to_string(&mut error)? > 0 => bail!(error),
        status => Err(Ended { status }.into()),
    }
}

/// The fleet's process was ended before it could tell how the run went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status; above 128 it is 128 and a signal's number.
    pub status: u8,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the fleet's process ended with status {}", self.status)
    }
}

impl std::error::Error for Ended {}
