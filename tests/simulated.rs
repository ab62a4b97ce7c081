//! Asynchronous runs in simulated time: one trace and one model, whatever the load of the host and the order in
//! which devices really finish, on every body, and across kills.

mod support;

use std::fs;
use std::path::Path;
use std::thread::scope;
use support::{Live, Run, folder, signal};

/// A mixed fleet whose slow devices take many rounds.
fn experiment(folder: &Path, name: &str, text: &str) -> String {
    let common = "rounds = 8\nseed = 5\nclients_per_round = 4\nhidden = [3]\ndata = \"zfl:digits\"\nquorum = 1\n";
    let fleet = "[[fleet]]\nname = \"fast\"\ncount = 3\nexamples = 40\nlink = \"wifi\"\nmips = 500\n\
                 [[fleet]]\nname = \"slow\"\ncount = 3\nexamples = 40\nlink = \"lte-m\"\nmips = 31.25\n\
                 [faults]\ndrop_out = 0.1\ncrash = { probability = 0.1, reboot = true }\n\
                 freeze = { probability = 0.2, for_ms = 300 }\n";
    let file = folder.join(format!("{name}.toml"));
    fs::write(&file, format!("{common}{text}{fleet}")).unwrap();
    file.to_str().unwrap().to_owned()
}

const FEDBUFF: &str = "[strategy]\nname = \"fedbuff\"\nbuffer_size = 2\n";

/// Columns of a table that no clock has a say in; missing ones are left out.
fn columns(run: &Run, file: &str, names: &[&str]) -> Vec<Vec<String>> {
    let text = fs::read_to_string(run.out().join(file)).unwrap();
    let mut table = csv::Reader::from_reader(text.as_bytes());
    let head = table.headers().unwrap().clone();
    let at = |name: &&str| head.iter().position(|column| column == *name).expect(name);
    let at: Vec<usize> = names.iter().map(at).collect();
    let row = |row: csv::Result<csv::StringRecord>| {
        let row = row.unwrap();
        at.iter().map(|&at| row[at].to_owned()).collect()
    };
    table.records().map(row).collect()
}

/// The model, the course of the rounds, and whose updates were in them.
fn trace(run: &Run) -> (String, [Vec<Vec<String>>; 2]) {
    let summary = run.summary();
    assert!(summary.get("depends_on_time").is_none(), "{summary:#}");
    let rounds = [
        "round",
        "cohort_size",
        "results",
        "failures",
        "test_loss",
        "simulated_s",
        "simulated_elapsed_s",
        "metrics",
    ];
    let clients = [
        "round",
        "client",
        "outcome",
        "loss",
        "virtual_s",
        "link_s",
        "energy_j",
        "selection_score",
        "times_chosen",
    ];
    let tables = [
        columns(run, "rounds.csv", &rounds),
        columns(run, "clients.csv", &clients),
    ];
    (run.model(), tables)
}

#[test]
fn fedbuff_has_one_trace_natively_whatever_comes_first() {
    let folder = folder();
    let text = format!("time = \"estimate\"\nbody = \"native\"\n{FEDBUFF}");
    let file = experiment(folder.path(), "native", &text);
    let one = trace(&Run::of(&[&file]));
    assert_eq!(trace(&Run::of(&[&file])), one);
    let stale = one.1[0]
        .iter()
        .filter(|round| !round[7].contains("\"max_staleness\":0"));
    assert!(stale.count() > 3, "{:?}", one.1[0]);
}

#[test]
fn a_killed_run_in_simulated_time_goes_on_with_what_was_under_way() {
    let folder = folder();
    let folder = folder.path();
    let check = |selection: &str, kills: [u64; 2]| {
        let text = format!(
            "time = \"estimate\"\nbody = \"native\"\nselection = \"{selection}\"\n{FEDBUFF}"
        );
        let file = experiment(folder, selection, &text);
        let whole = trace(&Run::of(&[&file]));
        let mut live = Live::start(&[&file]);
        for round in kills {
            live.wait_for_round(round);
            signal(live.pid(), "KILL");
            live.wait_for_end();
            live = Live::resume(live.finish(), &[]);
        }
        assert_eq!(trace(&live.finish()), whole, "{selection}");
    };
    scope(|scope| {
        let check = &check;
        for (selection, kills) in [
            ("uniform", [2, 6]),
            ("round-robin", [3, 4]),
            ("power-of-choice", [4, 7]),
            ("oort", [2, 5]),
            ("energy", [5, 6]),
        ] {
            scope.spawn(move || check(selection, kills));
        }
    });
}

#[test]
fn synchronous_rounds_take_as_long_as_their_slowest_device() {
    let folder = folder();
    let file = experiment(
        folder.path(),
        "synchronous",
        "time = \"estimate\"\nbody = \"native\"\n",
    );
    let run = Run::of(&[&file, "--crash", "0", "--drop-out", "0"]);
    let of = |round: &str| {
        let rows = columns(&run, "clients.csv", &["round", "virtual_s", "link_s"]);
        let rows = rows
            .into_iter()
            .filter(move |row| row[0] == round && !row[1].is_empty());
        let time =
            |row: Vec<String>| row[1].parse::<f64>().unwrap() + row[2].parse::<f64>().unwrap();
        rows.map(time).fold(0.0, f64::max)
    };
    for row in &columns(&run, "rounds.csv", &["round", "simulated_s"])[1..] {
        let simulated_s: f64 = row[1].parse().unwrap();
        // A device that is frozen takes 0.3 s more.
        let slowest = of(&row[0]);
        assert!(
            (slowest - 1e-6..slowest + 0.31).contains(&simulated_s),
            "{row:?}, {slowest}"
        );
    }
}
