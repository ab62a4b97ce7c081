//! Evaluation on devices in whole runs: against arithmetic of its own, over a kill, and with personal models.

mod support;

use fl_data::Dataset;
use fl_nn::{Activation, Model, Shape};
use std::fs;
use std::path::Path;
use support::{Live, Run, SMALL, signal};
use zfl_run_dir::RunDir;

const EVALUATING: [&str; 12] = [
    "--data",
    "zfl:digits",
    "--clients",
    "6",
    "--holdout",
    "0.25",
    "--batch-size",
    "20",
    "--arithmetic",
    "float",
    "--dashboard",
    "off",
];

fn evaluating<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SMALL[..6], &EVALUATING, more].concat()
}

/// Columns of a table of a run, by name.
fn table(run: &Path, name: &str, columns: &[&str]) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_path(run.join(name)).unwrap();
    let head = reader.headers().unwrap().clone();
    let place = |name: &&str| head.iter().position(|column| column == *name);
    let places: Vec<usize> = columns
        .iter()
        .map(|name| place(name).expect(name))
        .collect();
    let rows = reader.records().map(|row| row.unwrap());
    rows.map(|row| places.iter().map(|&at| row[at].to_owned()).collect())
        .collect()
}

/// Verdict of a model of one hidden layer on an example, in plain loops in double precision: class and loss.
fn predict(
    params: &[f32],
    pixels: &[u8],
    label: u8,
    [inputs, hidden, classes]: [usize; 3],
) -> (usize, f64) {
    let number = |at: usize| f64::from(params[at]);
    let second = inputs * hidden + hidden;
    let hidden_of = |unit: usize| {
        let weight =
            |input: usize| number(input * hidden + unit) * f64::from(pixels[input]) / 255.0;
        let sum = (0..inputs).map(weight).sum::<f64>() + number(inputs * hidden + unit);
        sum.max(0.0)
    };
    let outputs: Vec<f64> = (0..hidden).map(hidden_of).collect();
    let logit = |class: usize| {
        let weight = |unit: usize| outputs[unit] * number(second + unit * classes + class);
        (0..hidden).map(weight).sum::<f64>() + number(second + hidden * classes + class)
    };
    let logits: Vec<f64> = (0..classes).map(logit).collect();
    let most = logits.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - most).exp()).sum();
    let class = logits.iter().position(|logit| *logit == most).unwrap();
    (class, most + sum.ln() - logits[usize::from(label)])
}

fn right_and_loss(params: &[f32], data: &Dataset, indices: &[u32]) -> (usize, f64) {
    let layers = [64, 16, 10];
    let each = indices.iter().map(|&index| {
        let index = index as usize;
        let pixels = &data.inputs[index * 64..][..64];
        let label = data.labels[index];
        let (class, loss) = predict(params, pixels, label, layers);
        (class == usize::from(label), loss)
    });
    let each: Vec<(bool, f64)> = each.collect();
    let right = each.iter().filter(|(is_right, _)| *is_right).count();
    let loss = each.iter().map(|(_, loss)| loss).sum::<f64>() / each.len() as f64;
    (right, loss)
}

#[test]
fn what_devices_find_is_what_plain_arithmetic_finds_on_what_they_hold_out() {
    let run = Run::succeeds(&evaluating(&["--rounds", "3"]));
    let data = fl_data::digits().unwrap().splits.train;
    let dealt = fl_data::iid(data.labels.len(), &[120; 6], 1).unwrap();
    let (trained, holdout) = dealt.hold_out(&data, 0.25, 1);
    let model = Model::new(Shape::new(&[64, 16, 10]).unwrap(), Activation::Relu);
    let (params, round) = RunDir::read_model(&run.out(), &model).unwrap();
    assert_eq!(round, 3);
    let columns = ["round", "outcome", "num_evaluated", "correct", "loss"];
    let rows = table(&run.out(), "evaluations.csv", &columns);
    let last: Vec<_> = rows.iter().filter(|row| row[0] == "3").collect();
    assert_eq!((rows.len(), last.len()), (18, 6));
    let mut accuracies = Vec::new();
    for (client, row) in last.iter().enumerate() {
        assert_eq!((&*row[1], &*row[2]), ("received", "30"));
        let (right, loss) = right_and_loss(&params, &data, holdout.indices(client));
        assert_eq!(row[3], right.to_string(), "client {client}");
        let told: f64 = row[4].parse().unwrap();
        assert!(
            (told - loss).abs() < 1e-4 * loss.max(1.0),
            "{told} and {loss}"
        );
        accuracies.push(right as f64 / 30.0);
    }
    let mean = accuracies.iter().sum::<f64>() / 6.0;
    let least = accuracies.iter().copied().fold(1.0, f64::min);
    let columns = ["device_accuracy_mean", "device_accuracy_worst_decile"];
    let rounds = table(&run.out(), "rounds.csv", &columns);
    let [told_mean, told_worst] = [0, 1].map(|at| rounds[3][at].parse::<f64>().unwrap());
    assert!((told_mean - mean).abs() < 1e-12 && told_worst == least);
    assert!(run.said.out.contains("on devices"), "{}", run.said.out);
    let partition = table(&run.out(), "partition.csv", &["examples", "holdout"]);
    let expected = trained.sizes().zip(holdout.sizes());
    let expected: Vec<Vec<String>> = expected
        .map(|(a, b)| vec![a.to_string(), b.to_string()])
        .collect();
    assert_eq!(partition, expected);
}

#[test]
fn no_model_depends_on_who_evaluates() {
    let model = |more: &[&str]| {
        let run = Run::succeeds(&evaluating(
            &[&["--rounds", "2", "--clients-per-round", "3"], more].concat(),
        ));
        let evaluations = run.out().join("evaluations.csv");
        let rows = fs::read_to_string(evaluations).map_or(0, |text| text.lines().count() - 1);
        (run.model(), rows)
    };
    let (cohort, of_cohort) = model(&[]);
    let (all, of_all) = model(&["--evaluate-fraction", "1"]);
    let (some, of_some) = model(&["--evaluate-fraction", "0.34", "--evaluate-every", "2"]);
    let (none, of_none) = model(&["--evaluate-fraction", "0"]);
    assert_eq!([&all, &some, &none], [&cohort; 3]);
    assert_eq!([of_cohort, of_all, of_some, of_none], [6, 12, 2, 0]);
}

#[test]
fn personal_models_are_evaluated_beside_the_global_one() {
    let run = Run::succeeds(&evaluating(&["--rounds", "2", "--strategy", "ditto"]));
    let columns = ["correct", "personal_correct", "personal_loss"];
    let rows = table(&run.out(), "evaluations.csv", &columns);
    assert_eq!(rows.len(), 12);
    assert!(
        rows.iter()
            .all(|row| row.iter().all(|cell| !cell.is_empty())),
        "{rows:?}"
    );
    assert!(
        rows.iter().any(|row| row[0] != row[1]),
        "two models: {rows:?}"
    );
    assert!(run.said.out.contains("personal models"), "{}", run.said.out);
}

#[test]
fn a_run_that_is_killed_and_resumed_has_the_same_evaluations() {
    let flags = evaluating(&["--rounds", "6"]);
    let whole = Run::succeeds(&flags);
    let mut live = Live::start(&flags);
    live.wait_for_round(3);
    signal(live.pid(), "INT");
    let resumed = Live::resume(live.finish(), &["--dashboard", "off"]).finish();
    assert_eq!(resumed.said.status, Some(0), "{resumed:?}");
    let columns = ["round", "client", "outcome", "correct", "loss"];
    let of = |run: &Run| table(&run.out(), "evaluations.csv", &columns);
    assert_eq!(of(&resumed), of(&whole));
    assert_eq!(resumed.model(), whole.model());
}

#[test]
fn what_cannot_be_evaluated_is_refused_before_a_run_directory_is_made() {
    for (flags, word) in [
        (&["--holdout", "1"][..], "none to train on"),
        (
            &["--holdout", "0", "--evaluate-fraction", "0.5"],
            "give --holdout",
        ),
    ] {
        let run = Run::of(
            &[
                &SMALL[..6],
                &["--data", "zfl:digits", "--clients", "6"],
                flags,
            ]
            .concat(),
        );
        assert_eq!(run.said.status, Some(2), "{run:?}");
        assert!(run.said.err.contains(word), "{run:?}");
        assert!(!run.out().exists());
    }
}
