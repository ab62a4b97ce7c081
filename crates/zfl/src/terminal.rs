//! What a run shows while it goes on: one line per round, and a progress bar on a terminal.
//!
//! Lines go to standard output and are all there is where that is no terminal; the bar goes to
//! standard error, and only if that is one.

use crate::experiment::Experiment;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;
use zfl_aggregator::{Event, RoundRecord};

const BAR: &str = "{msg:28} {bar:32} {pos}/{len} {prefix}";

/// The terminal of one run.
#[derive(Debug)]
pub struct Terminal {
    rounds: u32,
    clients: u32,
    clients_per_round: u32,
    bar: ProgressBar,
}

impl Terminal {
    /// Shows nothing yet.
    pub fn of(experiment: &Experiment) -> Self {
        let &Experiment {
            rounds,
            clients,
            clients_per_round,
            ..
        } = experiment;
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(BAR).expect("the template is a constant");
        bar.set_style(style.progress_chars("━╸─"));
        Self {
            rounds,
            clients,
            clients_per_round,
            bar,
        }
    }

    /// Prints a line above the bar.
    pub fn line(&self, text: &str) {
        self.bar.suspend(|| println!("{text}"));
    }

    /// Prints a warning above the bar.
    pub fn warn(&self, text: &str) {
        self.bar.suspend(|| eprintln!("warning: {text}"));
    }

    /// Begins to count what has to happen `total` times.
    pub fn count(&self, what: &str, total: u64) {
        self.bar.reset();
        self.bar.set_length(total);
        self.bar.set_message(what.to_owned());
        self.bar.set_prefix("");
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    /// One of those things happened.
    pub fn step(&self) {
        self.bar.inc(1);
    }

    /// Shows one event of the aggregator.
    pub fn show(&self, event: &Event) {
        match event {
            Event::Evaluated {
                round: 0,
                loss,
                accuracy,
            } => {
                let accuracy = 100.0 * accuracy;
                self.line(&format!("[INIT] accuracy {accuracy:.2} %, loss {loss:.4}"));
            }
            Event::RoundStarted { round, cohort } => {
                self.count(&self.head(*round), cohort.len() as u64);
            }
            Event::ResultReceived { .. } => self.step(),
            Event::ClientFailed { client, reason, .. } => {
                self.step();
                self.warn(&format!("client {client}: {reason}"));
            }
            Event::ResultRejected {
                client,
                status,
                reason,
            } => {
                let sender = client.map_or("someone".to_owned(), |id| format!("client {id}"));
                self.warn(&format!(
                    "refused a message of {sender} ({status}): {reason}"
                ));
            }
            Event::RoundFinished { record } if record.round > 0 => self.round(record),
            _ => {}
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn round(&self, record: &RoundRecord) {
        let RoundRecord {
            round,
            results,
            failures,
            test_accuracy,
            test_loss,
            round_s,
            ..
        } = record;
        let accuracy = 100.0 * test_accuracy;
        let sampled = if self.clients_per_round < self.clients {
            format!("sampled {} of {}, ", record.cohort_size, self.clients)
        } else {
            String::new()
        };
        self.line(&format!(
            "{} accuracy {accuracy:5.2} %, loss {test_loss:.4}, {sampled}received {results} results \
             and {failures} failures, {round_s:.1} s",
            self.head(*round)
        ));
        let left = self.rounds.saturating_sub(*round);
        let mean_s = record.elapsed_s / f64::from(*round);
        let eta =
            humantime::format_duration(Duration::from_secs((mean_s * f64::from(left)) as u64));
        self.bar.set_prefix(format!("ETA {eta}"));
    }

    fn head(&self, round: u32) -> String {
        let width = self.rounds.to_string().len();
        format!("[ROUND {round:width$}/{}]", self.rounds)
    }
}
