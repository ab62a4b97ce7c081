//! The figures of a report.

use crate::devices::devices;
use crate::draw::{Axes, Figure, area, color, companion, curve, curve_at, stacks};
use crate::evaluation;
use crate::group::Group;
use crate::mesh;
use crate::numbers::Mean;
use crate::run::Run;
use kuva::render::plots::Plot;
use std::collections::BTreeMap;
use zfl_run_dir::RoundRecord;
use zfl_run_dir::fold::{Fault, RoundRow};

/// Cells of a split beyond which its figure would be too large to look at.
const MAX_CELLS: usize = 50_000;

const BAND: &str = "Lines are means over the runs of a group, bands one standard deviation of the \
                    sample each way.";

/// Every figure that these groups have the numbers for.
pub fn all(groups: &[Group]) -> Vec<Figure> {
    let mut figures = learning(groups);
    figures.extend(evaluation::all(groups));
    figures.extend(evaluation::numbers(groups));
    figures.extend(time(groups));
    figures.extend(simulated_time(groups));
    figures.extend(traffic(groups));
    figures.extend(mesh::all(groups));
    figures.extend(devices(groups));
    figures.extend(faults(groups));
    figures.extend(splits(groups));
    figures
}

/// Accuracy against what it took: rounds, bytes, simulated time, energy.
pub fn compared(groups: &[Group]) -> Vec<Figure> {
    const SHOWN: [&str; 3] = [
        "accuracy-rounds",
        "accuracy-bytes",
        "accuracy-simulated-time",
    ];
    let mut figures = learning(groups);
    figures.retain(|figure| SHOWN.contains(&figure.name.as_str()));
    figures.extend(energy(groups));
    figures
}

fn energy(groups: &[Group]) -> Option<Figure> {
    let joules = |run: &Run, row: &RoundRow| run.energy_j(row.record.round);
    let of = |(at, group): (usize, &Group)| {
        let points = group.curve_of(joules, accuracy);
        match points.iter().any(|point| point.x > 0.0) {
            true => curve_at(&points, &group.label, at),
            false => Vec::new(),
        }
    };
    figure(
        groups,
        "accuracy-energy",
        "The same against the energy of all devices so far, an estimate by their boards' models."
            .to_owned(),
        groups.iter().enumerate().flat_map(of).collect(),
        &Axes::new("Energy (J)", "Test accuracy (%)"),
    )
}

pub fn round(row: &RoundRow) -> Option<f64> {
    Some(f64::from(row.record.round))
}

pub fn last_round(groups: &[Group]) -> u32 {
    let rounds = groups
        .iter()
        .flat_map(|group| &group.runs)
        .flat_map(Run::trained);
    rounds.map(|record| record.round).max().unwrap_or(0)
}

/// Simulated time up to the end of a round, of a run that knows it.
fn simulated(row: &RoundRow) -> Option<f64> {
    if row.record.round == 0 {
        Some(0.0)
    } else {
        row.record.simulated_elapsed_s
    }
}

/// Test accuracy in per cent.
fn accuracy(row: &RoundRow) -> Option<f64> {
    Some(100.0 * row.record.test_accuracy?)
}

/// One curve of each group.
fn curves(
    groups: &[Group],
    x: fn(&RoundRow) -> Option<f64>,
    y: fn(&RoundRow) -> Option<f64>,
) -> Vec<Plot> {
    let of = |(at, group): (usize, &Group)| {
        let points = group.curve(x, y);
        // Where only the initial model has a place, there is nothing to see.
        let placed = points.iter().any(|point| point.x > 0.0);
        if !placed {
            Vec::new()
        } else {
            curve_at(&points, &group.label, at)
        }
    };
    groups.iter().enumerate().flat_map(of).collect()
}

fn figure(
    groups: &[Group],
    name: &'static str,
    caption: String,
    plots: Vec<Plot>,
    axes: &Axes<'_>,
) -> Option<Figure> {
    (!plots.is_empty()).then(|| Figure::new(name, caption, plots, axes, groups.len()))
}

/// A solid curve of each group and a dashed one beside it; of one group, each with its own name.
fn pairs(
    groups: &[Group],
    solid: (&str, fn(&RoundRow) -> Option<f64>),
    dashed: (&str, fn(&RoundRow) -> Option<f64>),
) -> Vec<Plot> {
    let alone = groups.len() == 1;
    let mut plots = Vec::new();
    for (at, group) in groups.iter().enumerate() {
        let (first, second) = (group.curve(round, solid.1), group.curve(round, dashed.1));
        if !first.is_empty() {
            let label = if alone { solid.0 } else { &group.label };
            plots.extend(curve(&first, label, color(at)));
        }
        if !second.is_empty() {
            let beside = if alone { color(at + 1) } else { color(at) };
            plots.extend(companion(&second, alone.then_some(dashed.0), beside));
        }
    }
    plots
}

fn learning(groups: &[Group]) -> Vec<Figure> {
    let (rounds, share) = (last_round(groups), "Test accuracy (%)");
    let against = |x| Axes::new(x, share);
    let mut figures = Vec::new();
    figures.extend(figure(
        groups,
        "accuracy-rounds",
        format!("Accuracy of the global model on the test set after each round. {BAND}"),
        curves(groups, round, accuracy),
        &Axes::rounds(share, 0, rounds),
    ));
    figures.extend(figure(
        groups,
        "accuracy-bytes",
        "The same against the HTTP bytes that had been sent both ways.".to_owned(),
        curves(groups, |row| Some(row.total_bytes as f64 / 1e6), accuracy),
        &against("Bytes sent, both ways (MB)"),
    ));
    figures.extend(figure(
        groups,
        "accuracy-time",
        "The same against the time on the wall, emulation and all; of a run that was resumed, without \
         what was broken off and done again."
            .to_owned(),
        curves(groups, |row| Some(row.record.elapsed_s), accuracy),
        &against("Wall time (s)"),
    ));
    figures.extend(figure(
        groups,
        "accuracy-simulated-time",
        "The same against simulated time: what the rounds would take on the devices themselves, of each \
         round the slowest device's computing at its board's clock and its link."
            .to_owned(),
        curves(groups, simulated, accuracy),
        &against("Simulated time (s)"),
    ));
    figures.extend(figure(
        groups,
        "accuracy-device-time",
        "The same against the slowest device's training time of every round, summed, by the devices' \
         own clocks."
            .to_owned(),
        curves(groups, |row| row.device_elapsed_s, accuracy),
        &against("Training time of the slowest devices (s)"),
    ));
    figures.extend(loss(groups));
    figures
}

fn loss(groups: &[Group]) -> Option<Figure> {
    let test = |row: &RoundRow| row.record.test_loss;
    let plots = pairs(
        groups,
        ("test", test),
        ("training", |row| row.record.train_loss),
    );
    let caption = format!(
        "Mean cross-entropy of the global model on the test set (solid), and of the devices on their \
         own data in their last local epoch, weighted by examples (dashed, thinner). {BAND}"
    );
    let axes = Axes::rounds("Cross-entropy (nats)", 0, last_round(groups)).with_zero();
    figure(groups, "loss-rounds", caption, plots, &axes)
}

const PARTS: [&str; 4] = [
    "slowest device's training",
    "network and the rest",
    "waiting for devices",
    "aggregator",
];

/// Parts of a round's time in seconds, as [`PARTS`].
fn parts(record: &RoundRecord) -> [f64; 4] {
    let compute = record.slowest_train_s.unwrap_or(0.0).min(record.train_s);
    let waiting = record.wait_s;
    let rest = (record.round_s - record.train_s - waiting).max(0.0);
    [compute, record.train_s - compute, waiting, rest]
}

fn time(groups: &[Group]) -> Vec<Figure> {
    let caption = "What a round's time went to: the slowest device's training by its own clock; the \
                   rest of the time from choosing the cohort to the last update, which is sending, \
                   starting, and the host's own slowness where it emulates more devices than it has \
                   cores; waiting until devices are ready; adding up and testing.";
    let mut figures = Vec::new();
    if let [group] = groups {
        let mean = |record_part: usize| {
            let points = group.curve(round, |row| {
                (row.record.round > 0).then(|| parts(&row.record)[record_part])
            });
            points
                .iter()
                .map(|point| point.y.mean)
                .collect::<Vec<f64>>()
        };
        let points = group.curve(round, |row| (row.record.round > 0).then_some(0.0));
        let x: Vec<f64> = points.iter().map(|point| point.x).collect();
        if x.len() > 1 {
            let series: Vec<_> = PARTS
                .iter()
                .enumerate()
                .map(|(at, part)| (*part, mean(at)))
                .collect();
            let axes = Axes::rounds("Time (s)", 1, last_round(groups)).with_zero();
            let plots = vec![area(&x, &series)];
            figures.push(Figure::new(
                "time-rounds",
                caption.to_owned(),
                plots,
                &axes,
                PARTS.len(),
            ));
        }
    }
    let bar = |group: &Group| {
        let rounds: Vec<[f64; 4]> = group
            .runs
            .iter()
            .flat_map(Run::trained)
            .map(parts)
            .collect();
        let mean =
            |at: usize| Mean::of(rounds.iter().map(|parts| parts[at])).map_or(0.0, |m| m.mean);
        (!rounds.is_empty()).then(|| (group.label.clone(), (0..4).map(mean).collect()))
    };
    let bars: Vec<(String, Vec<f64>)> = groups.iter().filter_map(bar).collect();
    if !bars.is_empty() {
        let axes = Axes::new("", "Mean time of a round (s)").with_zero();
        let caption = if figures.is_empty() {
            caption.to_owned()
        } else {
            "The same, as the mean over all rounds.".to_owned()
        };
        figures.push(Figure::new(
            "time-mean",
            caption,
            vec![stacks(&bars, &PARTS)],
            &axes,
            PARTS.len(),
        ));
    }
    figures
}

const SIMULATED_PARTS: [&str; 3] = ["computing", "its link", "waiting for the slowest"];

/// Parts of a round's simulated time on a device.
fn simulated_time(groups: &[Group]) -> Vec<Figure> {
    let caption = "What a round's simulated time goes to, as the mean over devices: computing at the \
                   board's clock, the link, and waiting for the slowest device of the round.";
    let mut figures = Vec::new();
    if let [group] = groups {
        let mut rounds = BTreeMap::<u32, Vec<[f64; 3]>>::new();
        for (round, parts) in group.runs.iter().flat_map(Run::simulated_parts) {
            rounds.entry(round).or_default().push(parts);
        }
        let x: Vec<f64> = rounds.keys().copied().map(f64::from).collect();
        let series = |at: usize| -> Vec<f64> {
            let mean = |runs: &Vec<[f64; 3]>| Mean::of(runs.iter().map(|parts| parts[at]));
            let means = rounds
                .values()
                .map(|runs| mean(runs).map_or(0.0, |m| m.mean));
            means.collect()
        };
        let parts = [0, 1, 2].map(|at| (SIMULATED_PARTS[at], series(at)));
        if x.len() > 1 {
            figures.push(Figure::new(
                "simulated-time-rounds",
                caption.to_owned(),
                vec![area(&x, &parts)],
                &Axes::rounds("Simulated time (s)", 1, last_round(groups)).with_zero(),
                SIMULATED_PARTS.len(),
            ));
        }
    }
    let bar = |group: &Group| {
        let parts: Vec<[f64; 3]> = group
            .runs
            .iter()
            .flat_map(Run::simulated_parts)
            .map(|(_, parts)| parts)
            .collect();
        let mean =
            |at: usize| Mean::of(parts.iter().map(|parts| parts[at])).map_or(0.0, |m| m.mean);
        (!parts.is_empty()).then(|| (group.label.clone(), (0..3).map(mean).collect()))
    };
    let bars: Vec<(String, Vec<f64>)> = groups.iter().filter_map(bar).collect();
    if !bars.is_empty() {
        let caption = if figures.is_empty() {
            caption.to_owned()
        } else {
            "The same, as the mean over all rounds.".to_owned()
        };
        figures.push(Figure::new(
            "simulated-time-mean",
            caption,
            vec![stacks(&bars, &SIMULATED_PARTS)],
            &Axes::new("", "Mean simulated time of a round (s)").with_zero(),
            SIMULATED_PARTS.len(),
        ));
    }
    figures
}

fn traffic(groups: &[Group]) -> Option<Figure> {
    let plots = pairs(
        groups,
        ("up", |row| {
            (row.record.round > 0).then_some(row.record.bytes_up as f64 / 1e6)
        }),
        ("down", |row| {
            (row.record.round > 0).then_some(row.record.bytes_down as f64 / 1e6)
        }),
    );
    let caption = "HTTP bytes of each round from devices (up, solid) and to them (down, dashed, \
                   thinner); the first round has the training data in it.";
    let axes = Axes::rounds("Bytes per round (MB)", 1, last_round(groups)).with_zero();
    figure(groups, "bytes-rounds", caption.to_owned(), plots, &axes)
}

/// Faults by round and kind, as the mean over runs.
fn faults(groups: &[Group]) -> Option<Figure> {
    let [group] = groups else {
        return totals(groups);
    };
    let mut counts = BTreeMap::<(&str, u32), f64>::new();
    let all = group.runs.iter().flat_map(|run| run.fold.faults());
    for fault in all {
        *counts.entry((&fault.kind, fault.round)).or_default() += 1.0 / group.runs.len() as f64;
    }
    let mut kinds: Vec<&str> = counts.keys().map(|&(kind, _)| kind).collect();
    kinds.dedup();
    let last = group.runs.iter().map(|run| run.view.round).max()?;
    if kinds.is_empty() {
        return None;
    }
    // Only some rounds are named where there are many.
    let step = (last / 20 + 1).max(1);
    let bar = |round: u32| {
        let label = if round.is_multiple_of(step) {
            round.to_string()
        } else {
            String::new()
        };
        let values = kinds
            .iter()
            .map(|kind| counts.get(&(*kind, round)).copied().unwrap_or(0.0));
        (label, values.collect())
    };
    let bars: Vec<(String, Vec<f64>)> = (0..=last).map(bar).collect();
    let axes = Axes::new("Round", "Failures and faults per run").with_zero();
    let axes = if group.runs.len() == 1 {
        axes.in_wholes()
    } else {
        axes
    };
    let caption =
        "Failures and injected faults by round; before the first round they count as 0's.";
    Some(Figure::new(
        "faults-rounds",
        caption.to_owned(),
        vec![stacks(&bars, &kinds)],
        &axes,
        kinds.len(),
    ))
}

/// Faults by group and kind, as the mean over runs.
fn totals(groups: &[Group]) -> Option<Figure> {
    let kind = |fault: &Fault| fault.kind.clone();
    let runs = groups.iter().flat_map(|group| &group.runs);
    let mut kinds: Vec<String> = runs.flat_map(|run| run.fold.faults().map(kind)).collect();
    kinds.sort();
    kinds.dedup();
    if kinds.is_empty() {
        return None;
    }
    let bar = |group: &Group| {
        let mean = |kind: &String| {
            let counts = group
                .runs
                .iter()
                .map(|run| run.fold.fault_counts().get(kind).copied().unwrap_or(0) as f64);
            Mean::of(counts).map_or(0.0, |mean| mean.mean)
        };
        (group.label.clone(), kinds.iter().map(mean).collect())
    };
    let bars: Vec<(String, Vec<f64>)> = groups.iter().map(bar).collect();
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    let axes = Axes::new("", "Failures and faults per run")
        .with_zero()
        .in_wholes();
    let caption = "Failures and injected faults by kind, as the mean over the runs of a group.";
    Some(Figure::new(
        "faults-total",
        caption.to_owned(),
        vec![stacks(&bars, &kinds)],
        &axes,
        kinds.len(),
    ))
}

/// The split of each group, where it is another than that of those before it.
fn splits(groups: &[Group]) -> Vec<Figure> {
    let mut drawn: Vec<&Vec<Vec<u32>>> = Vec::new();
    let mut figures = Vec::new();
    for group in groups {
        let splits = group.runs.iter().map(|run| &run.fold.meta().split);
        let Some(split) = splits.into_iter().find(|split| !split.is_empty()) else {
            continue;
        };
        if drawn.contains(&split) {
            continue;
        }
        drawn.push(split);
        let name = match drawn.len() {
            1 => "split".to_owned(),
            n => format!("split-{n}"),
        };
        figures.extend(heat(&name, &group.label, split));
        let shares = format!("{name}-clients");
        figures.extend(evaluation::shares(&shares, &group.label, split));
    }
    figures
}

fn heat(name: &str, label: &str, split: &[Vec<u32>]) -> Option<Figure> {
    let classes = split.iter().map(Vec::len).max()?;
    if classes == 0 || classes * split.len() > MAX_CELLS {
        return None;
    }
    let row = |label: usize| {
        split
            .iter()
            .map(|row| row.get(label).copied().unwrap_or(0))
            .collect()
    };
    let cells: Vec<Vec<u32>> = (0..classes).map(row).collect();
    let caption = format!("How many examples of each label each client has, in {label}.");
    let words = ("Client", "Label", "Number of examples");
    Some(Figure::heat(name, caption, &cells, words))
}
