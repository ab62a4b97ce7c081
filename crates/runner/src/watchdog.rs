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
use zfl_aggregator::{Handle, Progress};
use zfl_clock::Instant;
use zfl_machine::Turns;
use zfl_orchestrator::FleetEvent;
use zfl_run_dir::{Death, Event, FleetRecord, Record};

/// Interval at which the watchdog looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Devices asked at once before they are ended.
const AT_ONCE: usize = 8;

/// Own time in which a device can answer.
const ANSWER: Duration = Duration::from_secs(3);

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
        if faults.is_of_a_gateway(&event, &*observer) {
            continue;
        }
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
            FleetEvent::OffAir { client, reason } => {
                let who = client.map_or("the gateway of the mesh".to_owned(), |client| {
                    format!("client {client}")
                });
                observer.on_warning(&format!("{who} is off the air: {reason}"));
                let Some(client) = client else {
                    faults.restart_gateway_of_mesh();
                    continue;
                };
                let faults = Arc::clone(&faults);
                let why = reason.clone();
                tokio::spawn(async move { faults.kill(client, &why, true).await });
                let last_lines = Vec::new();
                (client, FleetRecord::Watchdog { reason, last_lines })
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
                let faults = Arc::clone(&faults);
                tokio::spawn(async move { faults.lose_behind(client, false).await });
                (client, FleetRecord::Died { reason, last_lines })
            }
        };
        aggregator.fleet_event(Some(client), record);
    }
}

/// Ends devices that make no progress, and boots them again.
///
/// A device counts as stuck if it has begun to train and has trained nothing more for `patience`, and says so
/// or nothing when it is asked. One that has trained and is sending is not: its link may be slow, and the
/// round's deadline ends that. One that has failed a round, or has not got ready in time, counts as stuck if it
/// is asked and answers nothing for `patience`.
///
/// Only the device's [own time](Turns::own_time) counts. On a host that has more devices than it can run, most
/// of them wait for a processor most of the time, and that is no fault of theirs.
pub(crate) struct Watchdog {
    pub faults: Arc<FaultRunner>,
    pub aggregator: Handle,
    pub observer: Arc<dyn Observer>,
    pub deaths: Deaths,
    /// Directory of the run, which has the logs.
    pub run: PathBuf,
    pub patience: Duration,
}

/// A moment by the clock of a device.
#[derive(Clone, Copy)]
struct Moment {
    at: Instant,
    /// Absent for what is no process of its own: all time is its own then.
    turns: Option<Turns>,
}

impl Moment {
    fn now(turns: Option<Turns>) -> Self {
        let at = Instant::now();
        Self { at, turns }
    }

    /// Tells if the device has had more time of its own since then.
    fn is_past(&self, own: Duration, turns: impl FnOnce() -> Option<Turns>) -> bool {
        is_past(self.at.elapsed(), own, self.turns, turns)
    }
}

/// Tells if more of a time that passed was a device's own.
fn is_past(
    passed: Duration,
    own: Duration,
    before: Option<Turns>,
    now: impl FnOnce() -> Option<Turns>,
) -> bool {
    // Its own time is never more, and cheaper not to look at.
    if passed <= own {
        return false;
    }
    let turns = before.zip(now());
    turns.is_none_or(|(before, now)| now.own_time(&before, passed) > own)
}

/// A device in a round.
struct Trainee {
    done_examples: u32,
    since: Moment,
    /// The first question after that.
    asked: Option<Moment>,
    is_being_asked: bool,
}

impl Trainee {
    fn new(done_examples: u32, turns: Option<Turns>) -> Self {
        Self {
            done_examples,
            since: Moment::now(turns),
            asked: None,
            is_being_asked: false,
        }
    }
}

/// State of the watch.
#[derive(Default)]
struct Watch {
    training: BTreeMap<u32, Trainee>,
    /// Those that were asked in vain, since when.
    silent: BTreeMap<u32, Moment>,
    /// Those that are being ended: they are found stuck until they have ended.
    ending: BTreeSet<u32>,
}

impl Watchdog {
    /// Watches until the run is over.
    pub async fn watch(self, mut events: Receiver<Record>) {
        let mut watch = Watch::default();
        let mut look = zfl_clock::interval(LOOK_EVERY);
        // Whatever is under way ends with these.
        let (mut ends, mut asks) = (JoinSet::new(), JoinSet::new());
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Ok(record) => {
                        if let Event::ClientLost { client, .. } = record.event {
                            watch.ending.remove(&client);
                        }
                        follow(&mut watch.training, record.event, |id| self.faults.turns(id));
                    }
                    // What was missed may have been progress, or an end.
                    Err(RecvError::Lagged(_)) => watch = Watch::default(),
                    Err(RecvError::Closed) => return,
                },
                Some(Ok((client, progress))) = asks.join_next() => {
                    if self.hear(&mut watch.training, client, progress) {
                        watch.training.remove(&client);
                        self.end(&mut ends, client, "no progress in training");
                    }
                }
                _ = look.tick() => {
                    self.look_at_training(&mut watch.training, &mut asks);
                    for client in self.silent(&mut watch) {
                        self.end(&mut ends, client, "no answer");
                    }
                }
            }
        }
    }

    /// Asks those that have made no progress for too long, a few at once.
    fn look_at_training(
        &self,
        training: &mut BTreeMap<u32, Trainee>,
        asks: &mut JoinSet<(u32, Progress)>,
    ) {
        for (&client, one) in training.iter_mut() {
            let turns = || self.faults.turns(client);
            if self.faults.holds(client) {
                *one = Trainee::new(one.done_examples, turns());
            } else if asks.len() < AT_ONCE
                && !one.is_being_asked
                && one.since.is_past(self.patience, turns)
            {
                one.asked.get_or_insert_with(|| Moment::now(turns()));
                one.is_being_asked = true;
                let aggregator = self.aggregator.clone();
                asks.spawn(async move { (client, aggregator.progress_of(client).await) });
            }
        }
    }

    /// Takes what a device answered; true if it is stuck.
    fn hear(&self, training: &mut BTreeMap<u32, Trainee>, client: u32, progress: Progress) -> bool {
        let Some(one) = training.get_mut(&client).filter(|one| one.is_being_asked) else {
            return false;
        };
        one.is_being_asked = false;
        let turns = || self.faults.turns(client);
        match progress {
            Progress::Done(examples) if examples != one.done_examples => {
                *one = Trainee::new(examples, turns());
                false
            }
            Progress::Done(_) => true,
            // It is asked again, until it has had the time to answer.
            Progress::Silent => one.asked.is_some_and(|asked| asked.is_past(ANSWER, turns)),
            Progress::NoPart => {
                training.remove(&client);
                false
            }
        }
    }

    /// Those that have answered nothing for too long and are not being ended, who are being ended from now on.
    fn silent(&self, watch: &mut Watch) -> Vec<u32> {
        let silent = self.aggregator.silent().into_iter();
        let mut before = std::mem::take(&mut watch.silent);
        for (client, _) in silent.filter(|(client, _)| !self.faults.holds(*client)) {
            let since = before.remove(&client);
            let since = since.unwrap_or_else(|| Moment::now(self.faults.turns(client)));
            watch.silent.insert(client, since);
        }
        let Watch { silent, ending, .. } = watch;
        let mut is_over = |client, since: &Moment| {
            since.is_past(self.patience, || self.faults.turns(client)) && ending.insert(client)
        };
        let over = silent
            .iter()
            .filter(|(client, since)| is_over(**client, since));
        over.map(|(&client, _)| client).collect()
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

fn follow(
    training: &mut BTreeMap<u32, Trainee>,
    event: Event,
    turns: impl Fn(u32) -> Option<Turns>,
) {
    match event {
        Event::ClientStarted { client, .. } => {
            training.insert(client, Trainee::new(0, turns(client)));
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
                *one = Trainee::new(done_examples, turns(client));
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
        let mut follow = |event| {
            super::follow(&mut training, event, |_| None);
            training.get(&1).map(|one| one.since.at)
        };
        let began = follow(started(1));
        assert_eq!(follow(progress(0)), began, "alive, and stuck");
        assert!(follow(progress(10)) > began);
        follow(progress(100));
        assert!(
            training.is_empty(),
            "it has trained, and may take its time to send"
        );
    }

    #[test]
    fn a_device_that_waits_for_a_processor_loses_no_patience() {
        let turns = |ran, waited| {
            let [ran, waited] = [ran, waited].map(Duration::from_secs);
            Some(Turns { ran, waited })
        };
        let is_past = |passed, now| {
            let [passed, own] = [passed, 60].map(Duration::from_secs);
            is_past(passed, own, turns(1, 1), || now)
        };
        assert!(!is_past(61, turns(2, 61)), "it waited");
        assert!(is_past(61, turns(1, 1)), "it slept");
        assert!(is_past(100, turns(62, 40)), "it ran in circles");
        assert!(is_past(61, None), "it is no process of its own");
        assert!(!is_past(60, None), "not yet");
    }

    #[test]
    fn who_is_out_of_the_round_is_not_watched() {
        let mut training = BTreeMap::new();
        for client in [1, 2] {
            follow(&mut training, started(client), |_| None);
        }
        let reason = String::new();
        follow(
            &mut training,
            Event::ClientLost {
                client: 1,
                reason,
                comes_back: false,
            },
            |_| None,
        );
        assert_eq!(training.keys().collect::<Vec<_>>(), [&2]);
    }
}
