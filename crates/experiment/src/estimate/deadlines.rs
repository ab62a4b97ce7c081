//! Deadlines that devices can meet: the time for their data and for a round, computed from links and sizes
//! before anything starts, so that nobody waits minutes for a run that cannot be.
//!
//! Deadlines that nobody set are chosen to fit. One that the user set stays: the run is refused if it
//! cannot have its quorum by then, and goes on, with a line, if only some devices are too slow. What is
//! computed are lower bounds, see `Link::transfer_time`; the factors here leave room.

use super::wire::{self, HEAD_BYTES};
use crate::experiment::Experiment;
use crate::refusal::{Refusal, require};
use crate::settings::Settings;
use zfl_aggregator::{START_PART, STARTS_AT_ONCE};
use zfl_netsim::{Link, ROUND_TRIPS_PER_EXCHANGE};

/// Allowance for the data beyond the computed time: TCP's recovery from losses, and the aggregator's
/// questions, which share the link.
const JOIN_FACTOR: f64 = 3.0;

/// Booting, which the first wait includes, in seconds.
const BOOT_S: f64 = 60.0;

/// Allowance for a round beyond the computed time: as above, and the training. With less, the part of the
/// deadline that the aggregator gives to one `/start` would not hold it.
const ROUND_FACTOR: f64 = START_PART as f64;

/// Allowance for an update beyond the computed time, before the watchdog ends its device, which cannot
/// say that it is alive while its link is full.
const UPDATE_FACTOR: f64 = 3.0;

/// Part of a deadline beyond which losses, and the load of the host, decide who meets it.
const TIGHT: f64 = 2.0;

/// Longest deadline that can be given, in seconds.
const LONGEST_S: f64 = 86_400.0;

/// Steps of a chosen deadline, in seconds.
const STEP_S: f64 = 60.0;

/// Deadlines, in seconds, and lines for people about them.
#[derive(Clone, Debug, PartialEq)]
pub struct Deadlines {
    /// Longest wait for devices to be ready before a round.
    pub ready_s: f64,
    /// Longest wait for updates in a round.
    pub round_s: f64,
    /// Longest time in a round without progress.
    pub watchdog_s: f64,
    /// Notes on unusual choices, and on devices that are too slow.
    pub notes: Vec<String>,
}

/// Exchanges of a group whose devices are behind a link, in seconds.
struct Linked {
    link_name: String,
    link: Link,
    count: u32,
    first_client: u32,
    examples: u32,
    /// Joining, and the training data.
    join_s: f64,
    /// `/start`, with the model.
    start_s: f64,
    update_s: f64,
}

impl Linked {
    fn round_s(&self) -> f64 {
        self.start_s + self.update_s
    }
}

/// Chooses the deadlines that nobody set and checks the others.
///
/// # Errors
/// A [`Refusal`] if no round could have its quorum.
pub fn fit(experiment: &Experiment, settings: &Settings) -> Result<Deadlines, Refusal> {
    let mut notes = Vec::new();
    if let Some(set) = settings.ready_deadline_s {
        let cure = |slow: &Linked| cure_of_data(slow, experiment, set);
        let join = |one: &Linked| one.join_s;
        notes.extend(check(
            experiment,
            set,
            "the data",
            join,
            "--ready-deadline",
            cure,
        )?);
    }
    // With late updates in the next round, nothing is lost by a deadline that is short.
    if let Some(set) = settings.round_deadline_s
        && !experiment.use_late
    {
        let round = Linked::round_s;
        let cure = |slow: &Linked| {
            let enough = fitting(ROUND_FACTOR * round(slow));
            cure(
                "--deadline",
                enough,
                Some("a smaller model, --hidden".to_owned()),
            )
        };
        notes.extend(check(
            experiment,
            set,
            "model and update",
            round,
            "--deadline",
            cure,
        )?);
    }
    let mut deadlines = choose(experiment, settings);
    notes.append(&mut deadlines.notes);
    Ok(Deadlines { notes, ..deadlines })
}

/// Chooses the deadlines that nobody set, longer ones where the default is too short for a link.
fn choose(experiment: &Experiment, settings: &Settings) -> Deadlines {
    let groups = linked(experiment);
    let slowest = |time: fn(&Linked) -> f64| {
        let times = groups.iter().map(time);
        times.filter(|&time| time <= LONGEST_S).fold(0.0, f64::max)
    };
    let join_s = slowest(|one| one.join_s);
    let update_s = slowest(|one| one.update_s);
    let round_s = all_starts_s(experiment, &groups).max(slowest(|one| one.start_s)) + update_s;
    let mut chosen = Vec::new();
    let mut longer = |flag: &str, usual_s: f64, asked: Option<f64>, needed_s: f64| {
        if asked.is_some() || needed_s <= usual_s {
            return usual_s;
        }
        let enough_s = fitting(needed_s).min(LONGEST_S);
        chosen.push(format!("{flag} {enough_s}"));
        enough_s
    };
    let mut deadlines = Deadlines {
        ready_s: longer(
            "--ready-deadline",
            experiment.ready_deadline_s,
            settings.ready_deadline_s,
            JOIN_FACTOR * join_s + BOOT_S,
        ),
        round_s: longer(
            "--deadline",
            experiment.round_deadline_s,
            settings.round_deadline_s,
            ROUND_FACTOR * round_s,
        ),
        watchdog_s: longer(
            "--watchdog",
            experiment.watchdog_s,
            settings.watchdog_s,
            UPDATE_FACTOR * update_s,
        ),
        notes: Vec::new(),
    };
    if !chosen.is_empty() {
        deadlines.notes.push(format!(
            "over {} the data of a device take about {}, a round about {}: taking {}",
            names(&groups),
            seconds(join_s),
            seconds(round_s),
            chosen.join(" ")
        ));
    }
    deadlines
}

/// Checks that the quorum can be had by a deadline that was set; returns a line if only some devices are too slow.
fn check(
    experiment: &Experiment,
    set_s: f64,
    what: &str,
    time: impl Fn(&Linked) -> f64,
    flag: &str,
    cure: impl Fn(&Linked) -> String,
) -> Result<Option<String>, Refusal> {
    let mut groups = linked(experiment);
    groups.retain(|one| time(one) > set_s);
    let Some(slow) = groups.first() else {
        return Ok(None);
    };
    let late: u32 = groups.iter().map(|one| one.count).sum();
    let client = slow.first_client;
    let said = format!(
        "{what} of client {client} take {} over {}, and {flag} is {set_s} s",
        seconds(time(slow)),
        slow.link_name
    );
    require(experiment.clients - late >= experiment.quorum, || {
        let never = time(slow) > LONGEST_S;
        let cure = if never {
            "a better link".to_owned()
        } else {
            cure(slow)
        };
        format!("{said}: give {cure}")
    })?;
    Ok(Some(format!(
        "{said}: {late} of {} devices are too slow for it",
        experiment.clients
    )))
}

/// Reason for which time decides who meets the deadline of a round, if it was set too close to what the links
/// take at least.
pub fn tight(experiment: &Experiment) -> Option<String> {
    let slow = linked(experiment);
    let slow = slow
        .iter()
        .filter(|one| one.round_s() * TIGHT > experiment.round_deadline_s);
    let slow = slow.max_by(|a, b| a.round_s().total_cmp(&b.round_s()))?;
    Some(format!(
        "model and update of client {} take {} over {} at least, and --deadline is {} s",
        slow.first_client,
        seconds(slow.round_s()),
        slow.link_name,
        experiment.round_deadline_s,
    ))
}

/// A cure for data that take too long.
fn cure_of_data(slow: &Linked, experiment: &Experiment, set_s: f64) -> String {
    let ready = |examples| JOIN_FACTOR * join_s(experiment, &slow.link, examples) + BOOT_S;
    // Too many by halves: how few would do need not be known to one.
    let mut examples = slow.examples;
    while examples > 0 && ready(examples) > set_s {
        examples /= 2;
    }
    let fewer = (examples > 0).then(|| format!("--examples {examples}"));
    cure("--ready-deadline", fitting(ready(slow.examples)), fewer)
}

/// A longer deadline, if there is one, or what else there is.
fn cure(flag: &str, enough_s: f64, else_: Option<String>) -> String {
    let longer = (enough_s <= LONGEST_S).then(|| format!("{flag} {enough_s}"));
    let cures: Vec<String> = longer.into_iter().chain(else_).collect();
    cures.join(" or ")
}

/// The groups that are behind links.
fn linked(experiment: &Experiment) -> Vec<Linked> {
    let mut first_client = 0;
    let mut found = Vec::new();
    for group in &experiment.groups {
        let (link, client) = (&group.wire(), first_client);
        first_client += group.count;
        if link.is_perfect() {
            continue;
        }
        let (start, update) = (
            wire::start_bytes(experiment),
            wire::update_bytes(experiment),
        );
        found.push(Linked {
            link_name: group
                .link_name
                .clone()
                .unwrap_or_else(|| "its link".to_owned()),
            link: *link,
            count: group.count,
            first_client: client,
            examples: group.max_examples,
            join_s: join_s(experiment, link, group.max_examples),
            start_s: exchange_s(link, HEAD_BYTES, start),
            update_s: exchange_s(link, update, HEAD_BYTES),
        });
    }
    found
}

/// Joining, and fetching so many examples.
fn join_s(experiment: &Experiment, link: &Link, examples: u32) -> f64 {
    let (examples, inputs) = (u64::from(examples), u64::from(experiment.layers[0]));
    let id = exchange_s(link, HEAD_BYTES, HEAD_BYTES);
    let data = exchange_s(link, HEAD_BYTES, examples * inputs);
    let labels = exchange_s(link, HEAD_BYTES, examples);
    id + data + labels
}

/// One request with its answer.
fn exchange_s(link: &Link, up: u64, down: u64) -> f64 {
    let (up, down) = link.transfer_time(up, down, ROUND_TRIPS_PER_EXCHANGE);
    up.as_secs_f64() + down.as_secs_f64()
}

/// The `/start`s of a cohort, of which only so many are under way at once.
fn all_starts_s(experiment: &Experiment, groups: &[Linked]) -> f64 {
    let ends = groups.iter().filter(|one| one.start_s <= LONGEST_S);
    let all: f64 = ends.map(|one| one.start_s * f64::from(one.count)).sum();
    let cohort = experiment.clients_per_round + experiment.over_commit;
    all * f64::from(cohort) / f64::from(experiment.clients) / STARTS_AT_ONCE as f64
}

/// A deadline that is easy to read and not below that.
fn fitting(seconds: f64) -> f64 {
    (seconds / STEP_S).ceil() * STEP_S
}

fn seconds(seconds: f64) -> String {
    if seconds > LONGEST_S {
        "more than a day".to_owned()
    } else {
        format!("{seconds:.0} s")
    }
}

/// The links of these groups, each once.
fn names(groups: &[Linked]) -> String {
    let mut names: Vec<&str> = groups.iter().map(|one| one.link_name.as_str()).collect();
    names.sort();
    names.dedup();
    names.join(", ")
}
