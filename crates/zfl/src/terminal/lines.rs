//! Events as lines for people, in the habit of the field: `[ROUND 3/20] … received 10 results and 0
//! failures`.

use zfl_run_dir::{Event, RoundRecord};

/// A line for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Progress of the run.
    Said(String),
    /// Something that should not be.
    Warning(String),
}

/// Facts of a run for its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    /// Rounds to complete.
    pub rounds: u32,
    /// Devices.
    pub clients: u32,
}

impl Lines {
    /// The line of an event that has one.
    pub fn of(self, event: &Event) -> Option<Line> {
        match event {
            Event::Evaluated {
                round: 0,
                loss,
                accuracy,
            } => {
                let accuracy = 100.0 * accuracy;
                Some(Line::Said(format!(
                    "[INIT] accuracy {accuracy:.2} %, loss {loss:.4}"
                )))
            }
            Event::ClientFailed { client, reason, .. } => {
                Some(Line::Warning(format!("client {client}: {reason}")))
            }
            Event::ResultRejected {
                client,
                status,
                reason,
                more,
            } => {
                let more = match more {
                    0 => String::new(),
                    _ => format!(" (and {more} more like it)"),
                };
                let sender = client.map_or("someone".to_owned(), |id| format!("client {id}"));
                Some(Line::Warning(format!(
                    "refused a message of {sender} ({status}): {reason}{more}"
                )))
            }
            Event::RoundFinished { record } if record.round > 0 => {
                Some(Line::Said(self.finished(record)))
            }
            _ => None,
        }
    }

    /// Begin of a round's line.
    pub fn head(self, round: u32) -> String {
        let width = self.rounds.to_string().len();
        format!("[ROUND {round:width$}/{}]", self.rounds)
    }

    fn finished(self, record: &RoundRecord) -> String {
        let RoundRecord {
            round,
            cohort_size,
            results,
            failures,
            test_accuracy,
            test_loss,
            round_s,
            ..
        } = record;
        let tested = match (test_accuracy, test_loss) {
            (Some(accuracy), Some(loss)) => {
                let percent = 100.0 * accuracy;
                format!("accuracy {percent:5.2} %, loss {loss:.4}, ")
            }
            // No global model, and so no test.
            _ => String::new(),
        };
        let sampled = if *cohort_size < self.clients {
            format!("sampled {cohort_size} of {}, ", self.clients)
        } else {
            String::new()
        };
        format!(
            "{} {tested}{sampled}received {results} results \
             and {failures} failures, {round_s:.1} s",
            self.head(*round)
        )
    }
}
