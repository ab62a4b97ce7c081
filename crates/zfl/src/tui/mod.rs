//! A run on the full screen of a terminal.
//!
//! It shows what [`zfl_run_dir::Fold`] makes of `events.jsonl`, as the page in the browser does, and
//! like that page it only reads the run directory. [`follow`] is the process behind `zfl run --tui`:
//! its standard input is what the run says, and the end of that is the end of the run. [`view`] shows
//! any run, until a key ends it.
//!
//! Invariants:
//! - The screen is drawn ten times a second at most, and only if something is different.
//! - The terminal is given back whatever ends this process, a panic included; after SIGKILL the
//!   process that started it does so.
//! - What devices wrote goes through [`crate::terminal::text::clean`].

mod app;
mod draw;
mod serial;
#[cfg(test)]
mod tests;

use crate::stdin_lines::StdinLines;
use crate::terminal::display::need_terminal;
use crate::terminal::text::clean;
use crate::terminal::{Line, Lines};
use anyhow::{Context, Result};
use app::{App, KeyEffect, Log};
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use zfl_experiment::require;
use zfl_run_dir::{Fold, Meta, Tail, is_under_way};
use zfl_sandbox::signals;

/// The shortest time from one picture to the next.
const FRAME: Duration = Duration::from_millis(100);

/// Reason for leaving the screen.
enum End {
    /// The run is over.
    Over,
    /// A person or a signal asked for it.
    Left,
}

/// Shows the run that standard input tells of until it ends, then prints what it said.
///
/// # Errors
/// If the run directory cannot be read.
pub fn follow(run: &Path) -> Result<u8> {
    let signals = signals()?;
    let mut show = Show::of(run, Source::Lines(StdinLines::read()?), signals)?;
    let ended = show.on_screen();
    let mut out = io::stdout();
    if let Err(error) = &ended {
        let _ = writeln!(out, "warning: no full screen: {error:#}");
    }
    // From here on the run is shown as without --tui. That nobody reads any more ends no run.
    for line in show.app.log.kept() {
        let _ = writeln!(out, "{}", clean(line));
    }
    if let Source::Lines(lines) = show.source {
        for line in lines.rest() {
            let _ = writeln!(out, "{}", clean(&line));
        }
    }
    Ok(0)
}

/// Shows a run until a key ends it.
///
/// # Errors
/// If there is no terminal, or the run directory cannot be read.
pub fn view(run: &Path) -> Result<u8> {
    need_terminal("--tui")?;
    require(run.join("events.jsonl").is_file(), || {
        let run = run.display();
        format!("{run} has no events.jsonl: the run has not begun")
    })?;
    Show::of(run, Source::Events, signals()?)?.on_screen()?;
    Ok(0)
}

/// The signals that end this process or stop it, which are from now on looked for between two pictures:
/// none may do so half way. No other thread may be there yet.
fn signals() -> Result<SignalFd> {
    let mask = signals::heeded([
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGTSTP,
        Signal::SIGCONT,
    ]);
    mask.thread_block()?;
    // The terminal is given back also when the shell has it already.
    SigSet::from(Signal::SIGTTOU).thread_block()?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(&mask, flags)?)
}

/// Source of the log's lines.
enum Source {
    /// From the run itself.
    Lines(StdinLines),
    /// From its events.
    Events,
}

/// A run on the screen.
struct Show {
    app: App,
    tail: Tail,
    source: Source,
    signals: SignalFd,
}

impl Show {
    fn of(run: &Path, source: Source, signals: SignalFd) -> Result<Self> {
        let owned = matches!(source, Source::Lines(_));
        let mut app = App::new(Fold::new(Meta::load(run)?), run, owned);
        // The clock runs.
        app.took_in(1);
        Ok(Self {
            app,
            tail: Tail::new(run),
            source,
            signals,
        })
    }

    /// Shows the run on the screen, and gives that back.
    fn on_screen(&mut self) -> Result<End> {
        // Restores the terminal on a panic, too.
        let mut terminal = ratatui::try_init().context("take the terminal")?;
        let ended = self.turn(&mut terminal);
        drop(terminal);
        ratatui::try_restore().context("give the terminal back")?;
        ended
    }

    fn turn(&mut self, terminal: &mut DefaultTerminal) -> Result<End> {
        let mut drawn = Instant::now();
        terminal.draw(|frame| draw::draw(frame, &mut self.app))?;
        loop {
            let more = self.refresh()?;
            if self.app.is_changed() {
                terminal.draw(|frame| draw::draw(frame, &mut self.app))?;
            }
            if !more {
                return Ok(End::Over);
            }
            // Keys that come meanwhile are taken at once and seen in the next picture.
            drawn = (drawn + FRAME).max(Instant::now());
            while event::poll(drawn.saturating_duration_since(Instant::now()))? {
                match self.app.on_event(&event::read()?) {
                    Some(KeyEffect::Leave) => return Ok(End::Left),
                    Some(KeyEffect::Stop) => self.stop(),
                    // The terminal makes no signal of this key here.
                    Some(KeyEffect::Suspend) => {
                        let group = Pid::from_raw(0);
                        self.suspend(terminal, || kill(group, Signal::SIGTSTP))?;
                    }
                    None => {}
                }
            }
            match self.signal()? {
                None => {}
                Some(Signal::SIGTSTP) => self.suspend(terminal, || raise(Signal::SIGTSTP))?,
                Some(Signal::SIGCONT) => self.take(terminal)?,
                Some(_) => return Ok(End::Left),
            }
        }
    }

    /// Gives the terminal back, stops and goes on when the shell says so; not at all where no shell looks
    /// after this process. The signal waits until it is let through.
    fn suspend(
        &mut self,
        terminal: &mut DefaultTerminal,
        stop: impl FnOnce() -> nix::Result<()>,
    ) -> Result<()> {
        // Before the shell learns of it and takes the terminal itself.
        terminal.show_cursor()?;
        ratatui::try_restore().context("give the terminal back")?;
        stop()?;
        let waiting = SigSet::from(Signal::SIGTSTP);
        waiting.thread_unblock()?;
        waiting.thread_block()?;
        self.take(terminal)
    }

    /// Takes the terminal again, whoever had it meanwhile. Its other screen is empty when it comes; to clear it
    /// would be to ask for the cursor, whose answer the thread that reads the keys would take.
    fn take(&mut self, terminal: &mut DefaultTerminal) -> Result<()> {
        *terminal = ratatui::try_init().context("take the terminal")?;
        terminal.draw(|frame| draw::draw(frame, &mut self.app))?;
        Ok(())
    }

    /// The next signal, if one has come.
    fn signal(&self) -> Result<Option<Signal>> {
        let signal = self.signals.read_signal()?;
        let number = signal.map(|signal| signal.ssi_signo.cast_signed());
        Ok(number.map(Signal::try_from).transpose()?)
    }

    /// Takes in what is new; returns whether more may come.
    fn refresh(&mut self) -> Result<bool> {
        let more = match &self.source {
            Source::Lines(lines) => lines.drain(|line| self.app.log.push(&line)),
            Source::Events => true,
        };
        let from_events = matches!(self.source, Source::Events);
        if self.tail.is_replaced() {
            self.read_anew(from_events);
        }
        let app = &mut self.app;
        let lines = Lines {
            rounds: app.fold.meta().rounds,
            clients: app.fold.meta().clients,
        };
        let read = self.tail.poll(|record| {
            let line = from_events.then(|| lines.of(&record.event)).flatten();
            match line {
                Some(Line::Said(text)) => app.log.push(&text),
                Some(Line::Warning(text)) => app.log.push(&format!("warning: {text}")),
                None => {}
            }
            app.fold.apply(record);
        });
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => app.took_in(read.context("read events.jsonl")?),
        }
        if from_events && !app.fold.is_over() {
            app.fold.set_interrupted(!is_under_way(&app.run));
        }
        app.refresh_serial();
        Ok(more)
    }

    /// Forgets what was read: the run goes on from an earlier round.
    fn read_anew(&mut self, from_events: bool) {
        self.app.fold = Fold::new(self.app.fold.meta().clone());
        if from_events {
            self.app.log = Log::default();
        }
        self.tail = Tail::new(&self.app.run);
    }

    /// Asks the run to end, as Ctrl-C does.
    fn stop(&self) {
        let run = Pid::from_raw(std::os::unix::process::parent_id() as i32);
        // It may have ended by itself just now.
        let _ = kill(run, Signal::SIGINT);
    }
}
