//! Lines and a progress bar of a run that goes on.
//!
//! Lines go to standard output and are all there is where that is no terminal; the bar goes to
//! standard error, and only if that is one. [`display`] puts something else behind both, if asked to.

pub mod display;
mod lines;
pub mod text;

use display::DisplayArgs;
pub use lines::{Line, Lines};

use crate::output;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use zfl_experiment::Experiment;
use zfl_run_dir::{Event, RunSummary};
use zfl_runner::{Begin, Interrupt, Observer};

/// Interval at which the bar is drawn anew, so that people see that the run is alive.
const TICK: Duration = Duration::from_millis(200);

/// The terminal of one run.
#[derive(Debug)]
pub struct Terminal {
    lines: Lines,
    out: PathBuf,
    clients_per_round: u32,
    display: DisplayArgs,
    bar: ProgressBar,
    /// A line below the introduction.
    pub hint: Option<String>,
    /// Begin of the first round here, and the updates of those before it.
    training_since: OnceLock<(Instant, u64)>,
}

impl Terminal {
    /// Shows nothing yet.
    pub fn of(experiment: &Experiment, display: DisplayArgs) -> Self {
        let &Experiment {
            rounds,
            clients,
            clients_per_round,
            ..
        } = experiment;
        let target = if display.bar() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let style = ProgressStyle::with_template("{msg:30} {bar:30} {prefix}");
        bar.set_style(
            style
                .expect("the template is a constant")
                .progress_chars("━╸─"),
        );
        Self {
            lines: Lines { rounds, clients },
            out: experiment.out.clone(),
            clients_per_round,
            display,
            bar,
            hint: None,
            training_since: OnceLock::new(),
        }
    }

    /// Prints a line above the bar.
    fn line(&self, text: &str) {
        let line = format!("{}\n", clean_lines(text));
        self.print(|| output::write(&mut io::stdout().lock(), &line));
    }

    /// Prints a warning above the bar.
    fn warn(&self, text: &str) {
        let line = format!("warning: {}\n", clean_lines(text));
        self.print(|| output::write(&mut io::stderr().lock(), &line));
    }

    fn print(&self, write: impl Fn() -> io::Result<()>) {
        self.bar.suspend(|| {
            // That nobody reads any more (`| head`), or that the disk is full, ends no run.
            let mut written = write();
            let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
            if written.as_ref().is_err_and(broken) && display::recover() {
                written = write();
            }
            output::lost(&written);
        });
    }

    /// A round begins.
    fn training(&self, round: u32, cohort: usize) {
        let before = u64::from(round - 1) * u64::from(self.clients_per_round);
        self.training_since.get_or_init(|| {
            self.bar.reset();
            self.bar
                .set_length(u64::from(self.lines.rounds) * u64::from(self.clients_per_round));
            self.bar.set_prefix("");
            self.bar.enable_steady_tick(TICK);
            (Instant::now(), before)
        });
        self.bar.set_position(before);
        self.bar
            .set_message(format!("{} {cohort} devices train", self.lines.head(round)));
    }

    /// An update came, or will not come.
    fn update(&self) {
        self.bar.inc(1);
        let Some((since, before)) = self.training_since.get() else {
            return;
        };
        let (done, all) = (self.bar.position(), self.bar.length().unwrap_or(0));
        // Of a run that goes on, only what was done here took the time since.
        let own = done.saturating_sub(*before).max(1);
        let left_s = since.elapsed().as_secs_f64() * all.saturating_sub(done) as f64 / own as f64;
        let left = humantime::format_duration(Duration::from_secs(left_s as u64));
        self.bar.set_prefix(format!("ETA {left}"));
    }
}

impl Observer for Terminal {
    fn on_begin(&self, begin: Begin<'_>) -> anyhow::Result<()> {
        self.display.open(begin.run_dir)?;
        if !begin.introduction.is_empty() {
            self.line(begin.introduction);
        }
        if let Some(hint) = &self.hint {
            self.line(hint);
        }
        Ok(())
    }

    fn on_booting(&self) {
        self.bar.set_length(self.lines.clients.into());
        self.bar.set_message("booting");
        self.bar.enable_steady_tick(TICK);
    }

    fn on_running(&self, _client: u32) {
        // A device may also come back later, when the bar counts something else.
        if self.training_since.get().is_none() {
            self.bar.inc(1);
            self.bar
                .set_prefix(format!("{} of {}", self.bar.position(), self.lines.clients));
        }
    }

    fn on_event(&self, event: &Event) {
        match event {
            Event::RoundStarted { round, cohort } => self.training(*round, cohort.len()),
            Event::ResultReceived { .. } | Event::ClientFailed { .. } => self.update(),
            Event::RunFinished { .. } => self.bar.finish_and_clear(),
            _ => {}
        }
        match self.lines.of(event) {
            Some(Line::Said(text)) if !self.display.quiet => self.line(&text),
            // A reason is one line, whatever is in it.
            Some(Line::Warning(text)) => self.warn(&zfl_text::plain(&text)),
            _ => {}
        }
    }

    fn on_note(&self, line: &str) {
        self.line(line);
    }

    fn on_warning(&self, line: &str) {
        self.warn(line);
    }

    fn on_second_signal(&self, signal: Interrupt) {
        display::abandon();
        std::process::exit(signal.status.into());
    }

    fn on_end(&self, summary: &RunSummary) {
        self.line(&summary.describe(seen(&self.out)));
    }
}

/// A path as it is seen from where the user stands.
pub fn seen(path: &Path) -> &Path {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path)
}

/// Reasons may quote what a device wrote: none of it may steer the terminal.
fn clean_lines(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(text::clean).collect();
    lines.join("\n")
}
