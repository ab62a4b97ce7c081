//! Runs whose devices are behind edges: the model of a run without them, bytes at the root, what is refused.

mod support;

use serde_json::Value;
use std::fs;
use support::{Live, Page, Run, SMALL, finish, zfl};

fn small<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let flags = ["--clients", "7", "--rounds", "3", "--dashboard", "off"];
    [&SMALL, &flags[..], more].concat()
}

fn summary(run: &Run) -> Value {
    let text = fs::read_to_string(run.out().join("summary.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn flat_and_hierarchical_models_are_equal_to_the_bit() {
    let algorithms: [&[&str]; 4] = [
        &["--strategy", "fedavg", "--clients-per-round", "5"],
        &["--strategy", "fedprox", "--strategy-arg", "proximal_mu=0.1"],
        &["--strategy", "scaffold", "--clients-per-round", "5"],
        &[
            "--strategy",
            "fedadam",
            "--strategy-arg",
            "eta=0.01",
            "--encoding-up",
            "int8",
        ],
    ];
    for (algorithm, edges) in algorithms.into_iter().zip(["3x2", "1", "2x2", "7"]) {
        let flat = Run::succeeds(&small(algorithm));
        let edges = ["--edges", edges];
        let run = Run::succeeds(&small(&[algorithm, &edges].concat()));
        assert_eq!(flat.model(), run.model(), "{algorithm:?}");
    }
}

#[test]
fn the_root_of_three_edges_moves_a_third_of_the_bytes_at_most_and_knows_every_device() {
    let flags = ["--clients", "12", "--rounds", "2", "--dashboard", "off"];
    let flags = [&SMALL[..], &flags].concat();
    let flat = Run::succeeds(&flags);
    let run = Run::succeeds(&[&flags[..], &["--edges", "3"]].concat());
    let (flat, summed) = (summary(&flat), summary(&run));
    let bytes = |of: &Value| [&of["bytes_up"], &of["bytes_down"]].map(|it| it.as_f64().unwrap());
    let ([up, down], [flat_up, flat_down]) = (bytes(&summed), bytes(&flat));
    assert!(up < flat_up / 2.0, "{up} of {flat_up}");
    assert!(
        up + down < (flat_up + flat_down) / 3.0,
        "{down} of {flat_down}"
    );
    // Every device has its row in every round, with its own bytes.
    let rows = fs::read_to_string(run.out().join("clients.csv")).unwrap();
    assert_eq!(rows.lines().count(), 1 + 2 * 12, "{rows}");
    assert!(
        rows.lines().skip(1).all(|row| row.contains(",received,")),
        "{rows}"
    );
}

/// A run of six devices whose edges, or whose devices, have this trouble.
fn with_faults(faults: &str, more: &[&str]) -> Run {
    let folder = support::folder();
    let file = folder.path().join("faults.toml");
    fs::write(&file, faults).unwrap();
    let six = ["--clients", "6", "--rounds", "4", "--ready-deadline", "30"];
    let more = [&["--dashboard", "off"], more].concat();
    let file = file.to_str().unwrap();
    Run::succeeds(&[&[file][..], &SMALL, &six, &more].concat())
}

/// Rounds and clients of the updates that are missing.
fn missed(run: &Run) -> Vec<(u64, u64)> {
    let number = |of: &Value, name: &str| of[name].as_u64().unwrap();
    let all = run.failures("no_update").into_iter();
    all.map(|one| (number(&one, "round"), number(&one, "client")))
        .collect()
}

#[test]
fn a_lost_edge_costs_its_cluster_one_round_and_comes_back_or_its_devices_go_to_another() {
    let crash = |client: u32| {
        let place = format!("round = 2\nclient = {client}");
        format!("[[faults.schedule]]\n{place}\nfault = \"crash\"\nreboot = true\n")
    };
    let flat = |clients: [u32; 2]| with_faults(&clients.map(crash).concat(), &[]).model();
    let lost = |edge: u32| format!("[[faults.edges]]\nround = 2\nedge = {edge}\n");
    let back = |edge: u32| lost(edge) + "reboot = true\n";
    let cases: [(String, &[&str], &str); 3] = [
        (back(1), &["--edges", "3"], "edge_back"),
        (lost(1), &["--edges", "3", "--edge-handover"], "edge_given"),
        // Edges below it find it again.
        (back(1), &["--edges", "3x2"], "edge_back"),
    ];
    let flat = flat([2, 3]);
    for (faults, more, event) in cases {
        let run = with_faults(&faults, more);
        let all = run.events();
        assert!(all.iter().any(|one| one["what"] == event), "{more:?}");
        assert_eq!(missed(&run), [(2, 2), (2, 3)], "{more:?}");
        assert_eq!(run.results(), [0, 6, 4, 6, 6], "{more:?}");
        assert_eq!(run.model(), flat, "{more:?}");
    }
    // Else its devices are lost with it.
    let run = with_faults(&lost(4), &["--edges", "3x2"]);
    assert_eq!(run.results(), [0, 6, 5, 5, 5]);
}

const TOKEN: &str = "correct-horse-battery";

#[test]
fn an_edge_that_is_killed_by_hand_takes_its_cluster_along_and_brings_it_back() {
    let token = format!("--dashboard-token={TOKEN}");
    // It has no end of its own.
    let flags = ["--clients", "6", "--edges", "3", "--rounds", "1000000"];
    let mut live = Live::start(&[&SMALL[..], &flags, &[&token]].concat());
    let page = Page::of(&live);
    let asks = |action: &str, answer: &str| {
        let body = format!(r#"{{"action":"{action}"}}"#);
        let told = page.control("edges/1", TOKEN, &body);
        assert!(told.contains(answer), "{action}: no {answer:?} in {told}");
    };
    let results = |results: u64, after: u64| {
        move |event: &Value| {
            event["event"] == "round_finished"
                && event["results"] == results
                && event["round"].as_u64() > Some(after)
        }
    };
    live.wait_for_round(2);
    asks("kill", "edge 1 is killed");
    let without = live.wait_for("a round without its cluster", results(4, 1));
    asks("kill", "edge 1 does not run");
    asks("freeze", "and nothing else");
    asks("reboot", "edge 1 starts again");
    let round = without["round"].as_u64().unwrap();
    let again = live.wait_for("a round of all again", results(6, round));
    asks("reboot", "edge 1 is killed and starts again");
    live.wait_for("its second return", |event| {
        event["what"] == "edge_back" && event["detail"].get("by").is_none()
    });
    let round = again["round"].as_u64().unwrap();
    live.wait_for("all are there once more", results(6, round + 1));
    page.control("stop", TOKEN, "{}");
    let run = live.finish();
    assert_eq!(run.said.status, Some(1), "{run:?}");
    let by_hand = serde_json::json!({"kill": 1, "reboot": 2, "stop": 1});
    assert_eq!(run.summary()["by_hand"], by_hand);
    let failures = run.failures("no_update");
    let is_its = |one: &Value| matches!(one["client"].as_u64(), Some(2 | 3));
    assert!(!failures.is_empty());
    assert!(failures.iter().all(is_its), "{failures:?}");
    // What each level took is told.
    let levels = &summary(&run)["levels"];
    for level in 0..2 {
        let held = levels[level]["held_bytes"].as_u64();
        assert!(held > Some(0), "{levels}");
    }
    assert!(levels[1]["add_us"].as_u64() > Some(0), "{levels}");
}

#[test]
fn rounded_means_and_rounds_of_a_cluster_make_a_model_of_their_own_that_repeats() {
    let flat = Run::succeeds(&small(&[])).model();
    for more in [["--edge-sums", "rounded"], ["--edge-rounds", "2"]] {
        let flags = small(&[&["--edges", "2"], &more[..]].concat());
        let [one, other] = [(); 2].map(|()| Run::succeeds(&flags).model());
        assert_eq!(one, other, "{more:?}");
        assert_ne!(one, flat, "{more:?}");
    }
}

#[test]
fn what_an_edge_cannot_do_is_refused_before_a_folder_is_made() {
    let edges = ["--edges", "2"];
    let cases: [(&[&str], &str); 7] = [
        (&["--strategy", "median"], "median needs each update"),
        (&["--strategy", "krum"], "krum needs each update"),
        (
            &["--strategy", "scaffold", "--edge-rounds", "2"],
            "leave --edge-rounds out",
        ),
        (
            &["--over-commit", "1", "--clients-per-round", "3"],
            "--over-commit",
        ),
        (
            &["--edge-body", "bare"],
            "gateways are machines, and no device of this fleet is one",
        ),
        (
            &["--edge-body", "bare", "--strategy", "scaffold"],
            "gateways keep nothing of their clients",
        ),
        (
            &["--edge-body", "bare", "--edge-rounds", "2"],
            "gateways go without --edge-rounds",
        ),
    ];
    let handover: (&[&str], &str) = (&["--edge-handover"], "--edge-handover gives");
    let cases = cases.map(|case| (&edges, case));
    for (edges, (flags, why)) in cases.into_iter().chain([(&["--edges", "2x2"], handover)]) {
        let said = finish(zfl().arg("run").args(small(&[&edges[..], flags].concat())));
        assert_eq!(said.status, Some(2), "{flags:?}: {}", said.err);
        assert!(said.err.contains(why), "{flags:?}: {}", said.err);
    }
}
