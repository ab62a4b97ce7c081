//! Watching a fleet: what happens to devices goes to the aggregator, and one that hangs is ended.

use crate::faults::FaultRunner;
use crate::observer::Observer;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use zfl_aggregator::Handle;
use zfl_clock::Instant;
use zfl_orchestrator::FleetEvent;
use zfl_run_dir::{Death, Event, FleetRecord, Record};

/// Interval at which the watchdog looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Lines of a device's log that tell what it did last.
const LAST_LINES: usize = 30;

/// Devices that died.
pub(crate) type Deaths = Arc<Mutex<Vec<Death>>>;

/// Notes a death.
fn note(deaths: &Deaths, death: Death) {
    let mut deaths = deaths.lock().unwrap_or_else(PoisonError::into_inner);
    deaths.push(death);
}

/// Passes on what happens in the fleet, until there is no fleet.
pub(crate) async fn watch(
    mut told: UnboundedReceiver<FleetEvent>,
    aggregator: Handle,
    faults: Arc<FaultRunner>,
    observer: Arc<dyn Observer>,
    deaths: Deaths,
) {
    while let Some(event) = told.recv().await {
        faults.on_event(&event);
        let (client, record) = match event {
            FleetEvent::Booting { client, attempt } => (client, FleetRecord::Booting { attempt }),
            FleetEvent::Running {
                client,
                address,
                boot_ms,
            } => {
                observer.on_running(client);
                faults.booted(client, boot_ms);
                let address = address.to_string();
                (client, FleetRecord::Running { address, boot_ms })
            }
            FleetEvent::Finished { client } => {
                // After the last round this is how it should be; before, no round waits for it.
                aggregator.client_lost(client, "its client ended by itself, see its log");
                (client, FleetRecord::Finished {})
            }
            FleetEvent::Refused { client, reason } => {
                observer.on_warning(&format!("client {client} cannot join: {reason}"));
                (client, FleetRecord::Refused { reason })
            }
            FleetEvent::Stopped { client } => (client, FleetRecord::Stopped {}),
            FleetEvent::LogLost { client, error } => {
                observer.on_warning(&format!("client {client}: its log is lost: {error}"));
                (client, FleetRecord::LogLost { error })
            }
            FleetEvent::Died(zfl_orchestrator::Death {
                client,
                reason,
                last_lines,
            }) => {
                observer.on_warning(&format!("client {client} died: {reason}"));
                aggregator.client_lost(client, &reason);
                let death = Death {
                    client,
                    reason: reason.clone(),
                    last_lines: last_lines.clone(),
                };
                note(&deaths, death);
                (client, FleetRecord::Died { reason, last_lines })
            }
        };
        aggregator.fleet_event(Some(client), record);
    }
}

/// Ends devices that make no progress, and boots them again.
///
/// A device counts as stuck if it has begun to train and has trained nothing more for `patience`. One
/// that has trained and is sending is not: its link may be slow, and the round's deadline ends that.
/// One that has failed a round, or has not got ready in time, counts as stuck if it is asked and answers
/// nothing for `patience`.
pub(crate) struct Watchdog {
    pub faults: Arc<FaultRunner>,
    pub aggregator: Handle,
    pub observer: Arc<dyn Observer>,
    pub deaths: Deaths,
    /// Directory of the run, which has the logs.
    pub run: PathBuf,
    pub patience: Duration,
}

/// A device in a round.
struct Trainee {
    done_examples: u32,
    since: Instant,
}

impl Watchdog {
    /// Watches until the run is over.
    pub async fn watch(self, mut events: Receiver<Record>) {
        let mut training: BTreeMap<u32, Trainee> = BTreeMap::new();
        // Those that are being ended: they are found stuck until they have ended.
        let mut ending = BTreeSet::new();
        let mut look = zfl_clock::interval(LOOK_EVERY);
        // Whatever is under way ends with this.
        let mut ends = JoinSet::new();
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Ok(record) => {
                        if let Event::ClientLost { client, .. } = record.event {
                            ending.remove(&client);
                        }
                        follow(&mut training, record.event);
                    }
                    // What was missed may have been progress, or an end.
                    Err(RecvError::Lagged(_)) => {
                        training.clear();
                        ending.clear();
                    }
                    Err(RecvError::Closed) => return,
                },
                _ = look.tick() => {
                    for (_, held) in training.iter_mut().filter(|(id, _)| self.faults.holds(**id)) {
                        held.since = Instant::now();
                    }
                    let is_stuck = |one: &Trainee| one.since.elapsed() > self.patience;
                    let stuck = training.iter().filter(|(_, one)| is_stuck(one));
                    for client in stuck.map(|(&client, _)| client).collect::<Vec<_>>() {
                        training.remove(&client);
                        self.end(&mut ends, client, "no progress in training");
                    }
                    let silent = self.aggregator.silent();
                    for (client, _) in silent.into_iter().filter(|(_, long)| *long > self.patience) {
                        if !self.faults.holds(client) && ending.insert(client) {
                            self.end(&mut ends, client, "no answer");
                        }
                    }
                }
            }
        }
    }

    fn end(&self, ends: &mut JoinSet<()>, client: u32, what: &str) {
        let seconds = self.patience.as_secs_f64();
        let reason = format!("{what} for {seconds} s: killed by the watchdog");
        self.observer
            .on_warning(&format!("client {client}: {reason}"));
        let last_lines = last_lines(&self.run, client);
        let record = FleetRecord::Watchdog {
            reason: reason.clone(),
            last_lines: last_lines.clone(),
        };
        self.aggregator.fleet_event(Some(client), record);
        let death = Death {
            client,
            reason: reason.clone(),
            last_lines,
        };
        note(&self.deaths, death);
        let faults = Arc::clone(&self.faults);
        ends.spawn(async move { faults.kill(client, &reason, true).await });
    }
}

fn follow(training: &mut BTreeMap<u32, Trainee>, event: Event) {
    match event {
        Event::ClientStarted { client, .. } => {
            let begins = Trainee {
                done_examples: 0,
                since: Instant::now(),
            };
            training.insert(client, begins);
        }
        Event::ClientProgress {
            client,
            done_examples,
            total_examples,
            ..
        } => {
            if done_examples >= total_examples {
                training.remove(&client);
            } else if let Some(one) = training.get_mut(&client)
                && one.done_examples != done_examples
            {
                (one.done_examples, one.since) = (done_examples, Instant::now());
            }
        }
        Event::ResultReceived { record } => _ = training.remove(&record.client),
        Event::ClientFailed { client, .. } | Event::ClientLost { client, .. } => {
            training.remove(&client);
        }
        Event::RoundFinished { .. } => training.clear(),
        _ => {}
    }
}

/// The end of a device's log; nothing if it cannot be read.
fn last_lines(run: &Path, client: u32) -> Vec<String> {
    let mut text = String::new();
    if let Ok(mut file) = zfl_run_dir::log(run, client) {
        // What is no text is left out.
        let _ = file.read_to_string(&mut text);
    }
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LAST_LINES);
    lines[from..]
        .iter()
        .map(|line| (*line).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(client: u32) -> Event {
        Event::ClientStarted { client, round: 1 }
    }

    fn progress(done_examples: u32) -> Event {
        Event::ClientProgress {
            client: 1,
            round: 1,
            done_examples,
            total_examples: 100,
        }
    }

    #[test]
    fn only_progress_counts_as_progress() {
        let mut training = BTreeMap::new();
        follow(&mut training, started(1));
        let began = training[&1].since;
        follow(&mut training, progress(0));
        assert_eq!(training[&1].since, began, "alive, and stuck");
        follow(&mut training, progress(10));
        assert!(training[&1].since > began);
        follow(&mut training, progress(100));
        assert!(
            training.is_empty(),
            "it has trained, and may take its time to send"
        );
    }

    #[test]
    fn who_is_out_of_the_round_is_not_watched() {
        let mut training = BTreeMap::new();
        for client in [1, 2] {
            follow(&mut training, started(client));
        }
        let reason = String::new();
        follow(
            &mut training,
            Event::ClientLost {
                client: 1,
                reason,
                comes_back: false,
            },
        );
        assert_eq!(training.keys().collect::<Vec<_>>(), [&2]);
    }
}
