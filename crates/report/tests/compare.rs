//! Comparisons of hand-made runs, whose numbers are known.

#[path = "../../dashboard/tests/support/mod.rs"]
mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use support::Script;
use zfl_report::{COMPARISON, Comparison};
use zfl_run_dir::{ClientRecord, Event, HostCost, Meta, RoundRecord};

/// A run of one device with this accuracy after each round, from the initial model on. Each round takes a million
/// bytes, two seconds of simulated time, and three joules.
fn run(root: &Path, seed: u64, learning_rate: f64, accuracies: &[f64]) -> PathBuf {
    let path = root.join(format!("{learning_rate}-{seed}"));
    let mut script = Script::new(&path, 1, accuracies.len() as u32 - 1);
    for (round, &test_accuracy) in (0..).zip(accuracies) {
        let trains = round > 0;
        if trains {
            let host = HostCost {
                energy_j: Some(3.0),
                ..HostCost::default()
            };
            let record = ClientRecord {
                chosen: None,
                round,
                client: 0,
                outcome: "received".into(),
                num_examples: 1,
                loss: None,
                round_s: None,
                bytes_up: 600_000,
                bytes_down: 400_000,
                cost: None,
                host: Some(host),
            };
            script.emit(Event::ResultReceived { record });
        }
        let record = RoundRecord {
            round,
            test_accuracy: Some(test_accuracy),
            bytes_up: if trains { 600_000 } else { 0 },
            bytes_down: if trains { 400_000 } else { 0 },
            simulated_s: trains.then_some(2.0),
            simulated_elapsed_s: trains.then_some(2.0 * f64::from(round)),
            ..RoundRecord::default()
        };
        script.emit(Event::RoundFinished { record });
    }
    script.finish();
    let file = path.join(Meta::FILE);
    let mut meta: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    meta["config"]["seed"] = json!(seed);
    meta["config"]["learning_rate"] = json!(learning_rate);
    fs::write(file, meta.to_string()).unwrap();
    path
}

fn runs(root: &Path) -> Vec<PathBuf> {
    vec![
        run(root, 1, 0.1, &[0.1, 0.5, 0.9]),
        run(root, 2, 0.1, &[0.1, 0.7, 0.8]),
        run(root, 1, 0.5, &[0.1, 0.2, 0.3]),
    ]
}

fn rows(csv: &str) -> Vec<BTreeMap<String, String>> {
    let mut lines = csv.lines().map(|line| line.split(',').map(str::to_owned));
    let head: Vec<String> = lines.next().unwrap().collect();
    lines
        .map(|cells| head.iter().cloned().zip(cells).collect())
        .collect()
}

#[test]
fn a_row_has_the_mean_and_the_spread_over_seeds_and_what_it_took_to_the_target() {
    let dir = tempfile::tempdir().unwrap();
    let comparison = Comparison::of(&runs(dir.path()), Some(0.7)).unwrap();
    let rows = rows(&comparison.csv());
    assert_eq!(rows.len(), 2, "{rows:?}");
    let number = |row: usize, name: &str| -> f64 { rows[row][name].parse().unwrap() };
    let near = |row: usize, name: &str, expected: f64| {
        assert!(
            (number(row, name) - expected).abs() < 1e-9,
            "{name}: {rows:?}"
        );
    };
    assert_eq!(
        (rows[0]["learning_rate"].as_str(), rows[0]["runs"].as_str()),
        ("0.1", "2")
    );
    near(0, "accuracy_mean", 85.0);
    // Of a sample of two, half the difference times the root of two.
    near(0, "accuracy_std", 5.0 * 2.0_f64.sqrt());
    near(0, "best_accuracy_mean", 85.0);
    near(0, "megabytes_mean", 2.0);
    near(0, "simulated_s_mean", 4.0);
    near(0, "energy_j_mean", 6.0);
    // One reaches it in round 2, the other in round 1.
    near(0, "reached", 2.0);
    near(0, "rounds_to_target_mean", 1.5);
    near(0, "megabytes_to_target_mean", 1.5);
    near(0, "simulated_s_to_target_mean", 3.0);
    near(0, "energy_j_to_target_mean", 4.5);
    near(1, "reached", 0.0);
    assert_eq!(
        (
            rows[1]["rounds_to_target_mean"].as_str(),
            rows[1]["accuracy_std"].as_str()
        ),
        ("", "")
    );
}

#[test]
fn people_read_the_same_in_columns() {
    let dir = tempfile::tempdir().unwrap();
    let text = Comparison::of(&runs(dir.path()), Some(0.7)).unwrap().text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("learning_rate  runs"), "{text}");
    assert!(lines[0].contains("reach 70 %"), "{text}");
    assert!(
        lines[1].contains("85.00 ± 7.07") && lines[1].contains("2 of 2"),
        "{text}"
    );
    assert!(
        lines[2].contains("30.00 ") && lines[2].contains("0 of 1"),
        "{text}"
    );
}

#[test]
fn a_folder_has_table_page_and_figures_over_all_that_was_measured() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let comparison = Comparison::of(&runs(dir.path()), Some(0.7)).unwrap();
    assert_eq!(comparison.write(&out).unwrap(), out.join(COMPARISON));
    assert_eq!(
        fs::read_to_string(out.join("compare.csv")).unwrap(),
        comparison.csv()
    );
    let page = fs::read_to_string(out.join(COMPARISON)).unwrap();
    assert!(
        page.contains("learning_rate") && page.contains("85.00 ± 7.07"),
        "{page}"
    );
    for name in [
        "accuracy-rounds",
        "accuracy-bytes",
        "accuracy-simulated-time",
        "accuracy-energy",
    ] {
        for kind in ["svg", "png"] {
            assert!(
                out.join(format!("figures/{name}.{kind}")).is_file(),
                "{name}.{kind}"
            );
        }
    }
}

#[test]
fn nothing_is_no_comparison() {
    let error = Comparison::of(&[], None).unwrap_err().to_string();
    assert!(error.contains("zfl") || error.contains("sweep"), "{error}");
}
