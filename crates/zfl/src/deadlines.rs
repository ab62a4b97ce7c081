//! Whether devices can have their data, and rounds their updates, before the deadlines: computed from
//! links and sizes before anything starts, so that nobody waits minutes for a run that cannot be.
//!
//! Deadlines that nobody set are chosen to fit. One that the user set is his: the run is refused if it
//! cannot have its quorum by then, and goes on, with a line, if only some devices are too slow. What is
//! computed are lower bounds, see `Link::transfer_time`; the factors here leave room.

use crate::experiment::Experiment;
use crate::refusal::{Refusal, require};
use crate::settings::Settings;
use fl_proto::wire_len::HEAD_BYTES;
use zfl_orchestrator::switch::{Link, ROUND_TRIPS_PER_EXCHANGE};

/// How much longer than computed the data may take: TCP's recovery from losses, and the aggregator's
/// questions, which share the link.
const JOIN_FACTOR: f64 = 3.0;

/// Booting, which the first wait includes, in seconds.
const BOOT_S: f64 = 60.0;

/// How much longer than computed a round may take: as above, and the training. The aggregator gives
/// a quarter of the deadline to one `/start`.
const ROUND_FACTOR: f64 = 4.0;

/// How much longer than computed an update may take before the watchdog ends its device, which cannot
/// say that it is alive while its link is full.
const UPDATE_FACTOR: f64 = 3.0;

/// `/start`s that the aggregator has under way at once.
const STARTS_AT_ONCE: f64 = 12.0;

/// Longest deadline that can be given, in seconds.
const LONGEST_S: f64 = 86_400.0;

/// Steps of a chosen deadline, in seconds.
const STEP_S: f64 = 60.0;

/// A group whose devices are behind a link, and what that makes of their exchanges, in seconds.
struct Linked {
    /// The link's name.
    link: String,
    wire: Link,
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

/// Chooses the deadlines that nobody set and checks the others; returns lines for people.
///
/// # Errors
/// A [`Refusal`] if no round could have its quorum.
pub fn fit(experiment: &mut Experiment, settings: &Settings) -> Result<Vec<String>, Refusal> {
    let mut lines = Vec::new();
    if let Some(set) = settings.ready_deadline_s {
        let cure = |slow: &Linked| cure_of_data(slow, experiment, set);
        let join = |one: &Linked| one.join_s;
        lines.extend(check(
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
                Some("a smaller network, --hidden".to_owned()),
            )
        };
        lines.extend(check(
            experiment,
            set,
            "model and update",
            round,
            "--deadline",
            cure,
        )?);
    }
    lines.extend(choose(experiment, settings));
    Ok(lines)
}

/// Chooses the deadlines that nobody set, longer ones where the default is too short for a link.
fn choose(experiment: &mut Experiment, settings: &Settings) -> Option<String> {
    let groups = linked(experiment);
    let slowest = |time: fn(&Linked) -> f64| {
        let times = groups.iter().map(time);
        times.filter(|&time| time <= LONGEST_S).fold(0.0, f64::max)
    };
    let join_s = slowest(|one| one.join_s);
    let update_s = slowest(|one| one.update_s);
    let round_s = all_starts_s(experiment, &groups).max(slowest(|one| one.start_s)) + update_s;
    let names = names(&groups);
    let mut chosen = Vec::new();
    let mut set = |flag: &str, value: &mut f64, asked: Option<f64>, needed_s: f64| {
        if asked.is_none() && needed_s > *value {
            *value = fitting(needed_s).min(LONGEST_S);
            chosen.push(format!("{flag} {value}"));
        }
    };
    let ready_s = JOIN_FACTOR * join_s + BOOT_S;
    set(
        "--ready-deadline",
        &mut experiment.ready_deadline_s,
        settings.ready_deadline_s,
        ready_s,
    );
    let round = ROUND_FACTOR * round_s;
    set(
        "--deadline",
        &mut experiment.round_deadline_s,
        settings.round_deadline_s,
        round,
    );
    let watchdog = UPDATE_FACTOR * update_s;
    set(
        "--watchdog",
        &mut experiment.watchdog_s,
        settings.watchdog_s,
        watchdog,
    );
    (!chosen.is_empty()).then(|| {
        format!(
            "over {names} the data of a device take about {}, a round about {}: taking {}",
            seconds(join_s),
            seconds(round_s),
            chosen.join(" ")
        )
    })
}

/// Whether the quorum can be had by a deadline that was set; a line if only some devices are too slow.
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
        slow.link
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

/// What helps against data that take too long.
fn cure_of_data(slow: &Linked, experiment: &Experiment, set_s: f64) -> String {
    let ready = |examples| JOIN_FACTOR * join_s(experiment, &slow.wire, examples) + BOOT_S;
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
        let (wire, client) = (&group.wire, first_client);
        first_client += group.count;
        if wire.is_perfect() {
            continue;
        }
        let model = experiment.message_bytes();
        found.push(Linked {
            link: group.link.clone().unwrap_or_else(|| "its link".to_owned()),
            wire: *wire,
            count: group.count,
            first_client: client,
            examples: group.examples,
            join_s: join_s(experiment, wire, group.examples),
            start_s: exchange_s(wire, HEAD_BYTES, model),
            update_s: exchange_s(wire, model, HEAD_BYTES),
        });
    }
    found
}

/// Joining, and fetching so many examples.
fn join_s(experiment: &Experiment, wire: &Link, examples: u32) -> f64 {
    let (examples, inputs) = (u64::from(examples), u64::from(experiment.layers[0]));
    let id = exchange_s(wire, HEAD_BYTES, HEAD_BYTES);
    let data = exchange_s(wire, HEAD_BYTES, examples * inputs);
    let labels = exchange_s(wire, HEAD_BYTES, examples);
    id + data + labels
}

/// One request with its answer.
fn exchange_s(wire: &Link, up: u64, down: u64) -> f64 {
    let (up, down) = wire.transfer_time(up, down, ROUND_TRIPS_PER_EXCHANGE);
    up.as_secs_f64() + down.as_secs_f64()
}

/// The `/start`s of a cohort, of which only so many are under way at once.
fn all_starts_s(experiment: &Experiment, groups: &[Linked]) -> f64 {
    let ends = groups.iter().filter(|one| one.start_s <= LONGEST_S);
    let all: f64 = ends.map(|one| one.start_s * f64::from(one.count)).sum();
    let cohort = experiment.clients_per_round + experiment.over_commit;
    all * f64::from(cohort) / f64::from(experiment.clients) / STARTS_AT_ONCE
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
    let mut names: Vec<&str> = groups.iter().map(|one| one.link.as_str()).collect();
    names.sort();
    names.dedup();
    names.join(", ")
}
