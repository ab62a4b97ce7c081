//! Figures of what devices found about the models, and of what the algorithm tells of its rounds.

use crate::draw::{Axes, Figure, class_stacks, color, companion, curve, filled, stacks};
use crate::figures::{last_round, round};
use crate::group::Group;
use std::collections::BTreeSet;
use zfl_run_dir::fold::RoundRow;
use zfl_run_dir::{BINS, Confusion, ModelEvaluation, RoundEvaluation, RoundRecord};

/// Most figures of numbers of algorithms, and most letters of a name.
const MAX_NUMBERS: usize = 12;
const MAX_LETTERS: usize = 40;

/// Most clients with a bar each.
const MAX_BARS: usize = 60;

/// A number of a round.
type Column = fn(&RoundRecord) -> Option<f64>;

/// Figures of the accuracy over devices: round by round, and of the last evaluation.
pub fn all(groups: &[Group]) -> Vec<Figure> {
    let mut figures = Vec::new();
    figures.extend(means(groups));
    if let [group] = groups
        && let [run] = &group.runs[..]
    {
        figures.extend(fan(
            group,
            "device-accuracy-spread",
            "the global model",
            GLOBAL,
        ));
        figures.extend(fan(
            group,
            "personal-accuracy-spread",
            "personal models",
            PERSONAL,
        ));
        if let Some(evaluation) = run.fold.evaluation() {
            figures.extend(histogram(evaluation));
            figures.extend(of_devices(evaluation));
        }
        if let Some(test) = run.fold.tested() {
            let caption = "Classes of the test set, and what the last model takes them for.";
            figures.extend(heat("confusion-test", caption.to_owned(), test));
        }
    }
    figures
}

/// Least, first quartile, median, third quartile, greatest, mean of the worst tenth.
const GLOBAL: [Column; 6] = [
    |r| r.device_accuracy_min,
    |r| r.device_accuracy_q1,
    |r| r.device_accuracy_median,
    |r| r.device_accuracy_q3,
    |r| r.device_accuracy_max,
    |r| r.device_accuracy_worst_decile,
];

const PERSONAL: [Column; 6] = [
    |r| r.personal_accuracy_min,
    |r| r.personal_accuracy_q1,
    |r| r.personal_accuracy_median,
    |r| r.personal_accuracy_q3,
    |r| r.personal_accuracy_max,
    |r| r.personal_accuracy_worst_decile,
];

/// Mean and worst tenth of each group.
fn means(groups: &[Group]) -> Option<Figure> {
    let per_cent = |of: Column| move |row: &RoundRow| of(&row.record).map(|share| 100.0 * share);
    let alone = groups.len() == 1;
    let mut plots = Vec::new();
    for (at, group) in groups.iter().enumerate() {
        let mean = group.curve(round, per_cent(|r| r.device_accuracy_mean));
        let worst = group.curve(round, per_cent(|r| r.device_accuracy_worst_decile));
        let label = if alone { "mean" } else { &group.label };
        if mean.is_empty() {
            continue;
        }
        plots.extend(curve(&mean, label, color(at)));
        let beside = if alone { color(at + 1) } else { color(at) };
        plots.extend(companion(&worst, alone.then_some("worst tenth"), beside));
    }
    let caption = "Accuracy of the global model on the examples that devices hold out: the mean over devices \
                   (solid), and that of the worst tenth of them (dashed, thinner).";
    let axes = Axes::rounds("Accuracy on devices (%)", 0, last_round(groups));
    (!plots.is_empty()).then(|| {
        Figure::new(
            "device-accuracy-rounds",
            caption.to_owned(),
            plots,
            &axes,
            groups.len(),
        )
    })
}

/// The distribution over devices, round by round.
fn fan(group: &Group, name: &'static str, what: &str, columns: [Column; 6]) -> Option<Figure> {
    let rows = |of: Column| -> Vec<(f64, f64)> {
        let points = group.curve(round, |row| of(&row.record).map(|share| 100.0 * share));
        points.iter().map(|point| (point.x, point.y.mean)).collect()
    };
    let [min, q1, median, q3, max, worst] = columns.map(rows);
    if median.len() < 2 {
        return None;
    }
    let x: Vec<f64> = median.iter().map(|point| point.0).collect();
    let y = |points: &[(f64, f64)]| points.iter().map(|point| point.1).collect::<Vec<f64>>();
    let mut plots = vec![
        filled(&x, &y(&min), &y(&max), color(4)),
        filled(&x, &y(&q1), &y(&q3), color(0)),
    ];
    let of = |column: Column| group.curve(round, move |row| column(&row.record).map(|s| 100.0 * s));
    plots.extend(curve(&of(columns[2]), "median", color(0)));
    if !worst.is_empty() {
        plots.extend(curve(&of(columns[5]), "worst tenth", color(1)));
    }
    let caption = format!(
        "Accuracy of {what} over devices, on the examples that they hold out: all of them (light), the \
         middle half (dark), the median, and the mean of the worst tenth."
    );
    let axes = Axes::rounds(
        "Accuracy on devices (%)",
        0,
        last_round(std::slice::from_ref(group)),
    );
    Some(Figure::new(name, caption, plots, &axes, 2))
}

/// Devices by accuracy.
fn histogram(evaluation: &RoundEvaluation) -> Option<Figure> {
    let personal = evaluation.personal.as_ref();
    let counts = |of: &ModelEvaluation, bin: usize| {
        let histogram = &of.distribution.histogram;
        f64::from(histogram.get(bin).copied().unwrap_or(0))
    };
    if evaluation.devices == 0 {
        return None;
    }
    let bar = |bin: usize| {
        let from = 100 * bin / BINS;
        let label = if bin.is_multiple_of(4) {
            from.to_string()
        } else {
            String::new()
        };
        (label, vec![counts(&evaluation.global, bin)])
    };
    let bars: Vec<(String, Vec<f64>)> = (0..BINS).map(bar).collect();
    let own = personal.map_or_else(String::new, |own| {
        let mean = 100.0 * own.distribution.mean;
        format!(" The mean of personal models is {mean:.1} %.")
    });
    let caption = format!(
        "Devices by the accuracy of the global model on the examples that they hold out, in steps of 5 per cent, \
         at the last evaluation (round {}).{own}",
        evaluation.round
    );
    let axes = Axes::new("Accuracy on a device (%), from", "Devices")
        .with_zero()
        .in_wholes();
    let plots = vec![stacks(&bars, &["devices"])];
    Some(Figure::new(
        "device-accuracy-histogram",
        caption,
        plots,
        &axes,
        1,
    ))
}

/// Confusion of the global and of the personal models on devices.
fn of_devices(evaluation: &RoundEvaluation) -> Vec<Figure> {
    let caption = |what: &str| {
        format!(
            "Classes of the examples that devices hold out, and what {what} took them for, at the last \
             evaluation (round {}).",
            evaluation.round
        )
    };
    let global = &evaluation.global.confusion;
    let global = heat("confusion-devices", caption("the global model"), global);
    let own = evaluation.personal.as_ref();
    let own = own.and_then(|own| {
        heat(
            "confusion-personal",
            caption("personal models"),
            &own.confusion,
        )
    });
    global.into_iter().chain(own).collect()
}

fn heat(name: &str, caption: String, confusion: &Confusion) -> Option<Figure> {
    let cells = &confusion.taken_for;
    let words = ("Taken for", "Class", "Number of examples");
    (!cells.is_empty()).then(|| Figure::heat(name, caption, cells, words))
}

/// Numbers that the algorithms tell of their rounds, whatever their names.
pub fn numbers(groups: &[Group]) -> Vec<Figure> {
    let rounds = groups.iter().flat_map(|group| &group.runs);
    let rounds = rounds.flat_map(|run| run.fold.rounds());
    let names: BTreeSet<&String> = rounds.flat_map(|row| row.record.metrics.keys()).collect();
    let figure = |(number, name): (usize, &String)| {
        let of = |row: &RoundRow| {
            let value = row.record.metrics.get(name).copied();
            value.filter(|value| value.is_finite())
        };
        let curves = groups.iter().enumerate().flat_map(|(at, group)| {
            let points = group.curve(round, of);
            match points.len() {
                0 | 1 => Vec::new(),
                _ => curve(&points, &group.label, color(at)),
            }
        });
        let plots: Vec<_> = curves.collect();
        let name: String = name.chars().take(MAX_LETTERS).collect();
        let caption = format!("The number {name} that the algorithm tells of each round.");
        let axes = Axes::rounds(&name, 0, last_round(groups));
        let file = format!("algorithm-{}", number + 1);
        (!plots.is_empty()).then(|| Figure::new(&file, caption, plots, &axes, groups.len()))
    };
    let shown = names.into_iter().take(MAX_NUMBERS).enumerate();
    shown.filter_map(figure).collect()
}

/// Share of every client of a split, a bar for each.
pub fn shares(name: &str, label: &str, split: &[Vec<u32>]) -> Option<Figure> {
    let classes = split.iter().map(Vec::len).max()?;
    if split.len() > MAX_BARS || classes == 0 {
        return None;
    }
    let step = (split.len() / 15 + 1).max(1);
    let bar = |(client, row): (usize, &Vec<u32>)| {
        let label = match client % step {
            0 => client.to_string(),
            _ => String::new(),
        };
        let of = |class: usize| f64::from(row.get(class).copied().unwrap_or(0));
        (label, (0..classes).map(of).collect())
    };
    let bars: Vec<(String, Vec<f64>)> = split.iter().enumerate().map(bar).collect();
    let names: Vec<String> = (0..classes).map(|class| class.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let caption = format!("Examples that each client trains on, by label, in {label}.");
    let axes = Axes::new("Client", "Examples").with_zero().in_wholes();
    let plots = vec![class_stacks(&bars, &names)];
    Some(Figure::new(name, caption, plots, &axes, classes))
}
