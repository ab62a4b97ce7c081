//! Displays of a run: lines, a full screen, or events for a program.
//!
//! The full screen and the events are shown by a process of its own, a child of the one that the user
//! started: it reads the run directory as the dashboard does, so nothing in the run waits for it. The
//! fleet's process could not do it, since it is no longer in the terminal's foreground and may read no
//! keys. The child learns of the end of the run by the end of a pipe, which comes whatever ends the
//! run, SIGKILL included; it then gives the terminal back. What the run says meanwhile goes down that
//! pipe. And if it is the child that dies, whoever next has something to say gives the terminal back.

use crate::output;
use anyhow::{Context, Result};
use clap::Args;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::{dup2_stderr, dup2_stdout};
use std::fs::File;
use std::io::{self, IsTerminal, PipeWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use zfl_experiment::{Refusal, require};

/// Leaves the alternate screen, shows the cursor, ends all attributes.
const LEAVE_SCREEN: &[u8] = b"\x1b[?1049l\x1b[?25h\x1b[0m\r\n";

/// The display that is asked for.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct DisplayArgs {
    /// Show the run on the full screen: rounds, fleet and logs; ? there lists the keys
    #[arg(long, conflicts_with = "json", help_heading = "Display")]
    pub tui: bool,

    /// Print what happens on standard output, for programs: the lines of events.jsonl, a JSON object
    /// each, and at the end {"event":"summary", …} with what summary.json has. All else goes to
    /// standard error
    #[arg(long, help_heading = "Display")]
    pub json: bool,

    /// Print no line per round and no progress, only warnings and the summary
    #[arg(short, long, conflicts_with = "tui", help_heading = "Display")]
    pub quiet: bool,
}

/// The child that shows the run. Not in a variable of the run, since a second Ctrl-C ends the process
/// from anywhere.
static FOLLOWER: Mutex<Option<Follower>> = Mutex::new(None);

#[derive(Debug)]
struct Follower {
    /// Process that started it: a fork has a copy of this and must leave the terminal alone.
    owner: u32,
    child: Child,
    run: PathBuf,
    /// Standard output and error as they were.
    out: OwnedFd,
    err: OwnedFd,
    /// The terminal as it was, if the child takes it.
    terminal: Option<Termios>,
    /// The child's life line, unless standard output is that.
    alive: Option<PipeWriter>,
}

/// A display that is closed when this is dropped.
#[derive(Debug)]
pub struct Shown;

impl DisplayArgs {
    /// Checks that there is a terminal if one is needed.
    ///
    /// # Errors
    /// If there is none.
    pub fn check(self) -> Result<(), Refusal> {
        if !self.tui {
            return Ok(());
        }
        need_terminal("--tui")
    }

    /// Tells whether a bar is shown where standard error is a terminal.
    pub fn bar(self) -> bool {
        // The full screen, or events in the same terminal, would be written across it.
        !(self.quiet || self.tui || self.json && io::stdout().is_terminal())
    }

    /// Shows the run in this directory as asked for.
    ///
    /// # Errors
    /// If the system gives no pipe or no process.
    pub fn open(self, run: &Path) -> Result<()> {
        if self.tui || self.json {
            let follower = Follower::start(self, run).context("cannot show the run")?;
            *lock() = Some(follower);
        }
        Ok(())
    }
}

/// Checks that a full screen can be shown.
///
/// # Errors
/// If not; `flag` is what asked for it.
pub fn need_terminal(flag: &str) -> Result<(), Refusal> {
    let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    require(terminal, || {
        format!(
            "{flag} needs a terminal at standard input and output: leave it out to get lines, or \
             give --json to get events for a program"
        )
    })?;
    let dumb = std::env::var("TERM").map_or(true, |term| term.is_empty() || term == "dumb");
    require(!dumb, || {
        format!(
            "{flag} needs a terminal that can place text, and TERM says it cannot: leave it out"
        )
    })
}

/// Ends the display before the process ends at once.
pub fn abandon() {
    end(Some(Duration::from_secs(2)));
}

impl Shown {
    /// Ends the display, however long it has yet to write; false if events that were asked for could not
    /// be written. The display has said why.
    pub fn end(self) -> bool {
        end(None)
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        end(None);
    }
}

impl Follower {
    fn start(asked: DisplayArgs, run: &Path) -> Result<Self> {
        // Whoever reads there may be gone.
        let _ = io::stdout().flush();
        let terminal = asked.tui.then(|| tcgetattr(io::stdin())).transpose()?;
        let out = io::stdout().as_fd().try_clone_to_owned()?;
        let err = io::stderr().as_fd().try_clone_to_owned()?;
        let (told, tell) = io::pipe()?;
        let child = Command::new("/proc/self/exe")
            .arg0("zfl")
            .args(["follow", if asked.tui { "--tui" } else { "--json" }])
            .arg(run)
            .stdin(told)
            .spawn()
            .context("start /proc/self/exe")?;
        let alive = if asked.tui {
            dup2_stdout(&tell)?;
            dup2_stderr(&tell)?;
            None
        } else {
            // Whoever prints what to standard output: a program reads there, people do not.
            dup2_stdout(&err)?;
            Some(tell)
        };
        Ok(Self {
            owner: std::process::id(),
            child,
            run: run.to_owned(),
            out,
            err,
            terminal,
            alive,
        })
    }

    /// Gives everything back; returns whether the events that were asked for are written.
    fn end(mut self, patience: Option<Duration>) -> Result<bool> {
        // With these, the last ends of the pipe that the child reads are gone.
        self.restore_output()?;
        self.alive.take();
        let ended_well = self.wait(patience)?;
        if !ended_well {
            self.leave_screen()?;
        }
        Ok(ended_well || self.terminal.is_some())
    }

    fn restore_output(&self) -> nix::Result<()> {
        // Nobody may read any more what is buffered.
        let _ = io::stdout().flush();
        dup2_stdout(&self.out)?;
        dup2_stderr(&self.err)
    }

    /// Does what a child that was killed could not do.
    fn leave_screen(&self) -> Result<()> {
        let Some(terminal) = &self.terminal else {
            return Ok(());
        };
        if tcgetattr(&self.out)? == *terminal {
            return Ok(());
        }
        // The fleet's process is in the terminal's background, and would be stopped by this signal.
        let stop = SigSet::from(Signal::SIGTTOU);
        let mask = stop.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let restored = tcsetattr(&self.out, SetArg::TCSANOW, terminal);
        mask.thread_set_mask()?;
        restored?;
        File::from(self.out.try_clone()?).write_all(LEAVE_SCREEN)?;
        let run = self.run.display();
        output::warn(&format!("the full screen is gone, the run {run} is not"));
        Ok(())
    }

    /// Waits for the child; whether it ended well.
    fn wait(&mut self, patience: Option<Duration>) -> io::Result<bool> {
        let Some(patience) = patience else {
            return Ok(self.child.wait()?.success());
        };
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.success());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(false)
    }
}

/// Gives the terminal back if the child that had it is dead, in the fleet's process, too; returns
/// whether lines can be printed again.
pub fn recover() -> bool {
    let follower = lock().take_if(|follower| follower.terminal.is_some());
    let recovered = follower.map(|follower| {
        follower.restore_output()?;
        follower.leave_screen()
    });
    matches!(recovered, Some(Ok(())))
}

fn end(patience: Option<Duration>) -> bool {
    let follower = lock().take_if(|follower| follower.owner == std::process::id());
    let Some(follower) = follower else {
        return true;
    };
    follower.end(patience).unwrap_or_else(|error| {
        // The run itself went as its status says.
        output::warn(&format!("the display: {error:#}"));
        true
    })
}

fn lock() -> std::sync::MutexGuard<'static, Option<Follower>> {
    FOLLOWER.lock().unwrap_or_else(PoisonError::into_inner)
}
