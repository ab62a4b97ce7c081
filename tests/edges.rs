//! Runs whose devices are behind edges: the model of a run without them, bytes at the root, what is refused.

mod support;

use serde_json::Value;
use std::fs;
use support::{Run, SMALL, finish, zfl};

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
    for (algorithm, edges) in algorithms.into_iter().zip(["3", "1", "2", "7"]) {
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
    let cases: [(&[&str], &str); 4] = [
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
    ];
    for (flags, why) in cases {
        let said = finish(zfl().arg("run").args(small(&[&edges[..], flags].concat())));
        assert_eq!(said.status, Some(2), "{flags:?}: {}", said.err);
        assert!(said.err.contains(why), "{flags:?}: {}", said.err);
    }
}
