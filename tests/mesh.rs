//! Devices behind a radio: runs over a mesh in simulated time.

mod support;

use serde_json::Value;
use std::fs;
use support::{Live, Page, Run, finish, folder, zfl};

const MESH: [&str; 9] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments/mesh.toml"),
    "--rounds",
    "2",
    "--dashboard",
    "off",
    "--seed",
    "3",
    "--body",
    "native",
];

fn run(more: &[&str]) -> Run {
    Run::succeeds(&[&MESH, more].concat())
}

/// Columns of `clients.csv` that the air has a say in.
fn air(run: &Run) -> Vec<Vec<String>> {
    let text = fs::read_to_string(run.out().join("clients.csv")).unwrap();
    let mut table = csv::Reader::from_reader(text.as_bytes());
    let head = table.headers().unwrap().clone();
    let is_air = |name: &str| name.starts_with("radio_") || name == "round" || name == "client";
    let at: Vec<usize> = (0..head.len()).filter(|&at| is_air(&head[at])).collect();
    assert_eq!(at.len(), 9, "{head:?}");
    let row = |row: csv::Result<csv::StringRecord>| {
        let row = row.unwrap();
        at.iter().map(|&at| row[at].to_owned()).collect()
    };
    table.records().map(row).collect()
}

#[test]
fn a_mesh_gives_one_model_whatever_it_loses_and_says_what_it_cost() {
    let first = run(&[]);
    let again = run(&[]);
    assert_eq!(first.model(), again.model());
    assert_eq!(air(&first).len(), 24);
    assert_eq!(
        air(&first),
        air(&again),
        "the moments of the host have no part in it"
    );
    let lossy = run(&["--radio-loss", "0.15"]);
    assert_eq!(lossy.model(), first.model());
    assert_ne!(air(&lossy), air(&first));
}

/// Runs four leaves, of which a relay is killed in the second of three rounds; returns the outcome of each leaf in each round, by round and leaf.
fn outcomes_with_a_killed_relay(client: u32, reboot: bool, topology: &str) -> (Run, Vec<String>) {
    let folder = folder();
    let path = folder.path().join("killed.toml");
    let text = fs::read_to_string(MESH[0]).unwrap();
    let fault = format!(
        "[[faults.schedule]]\nround = 2\nclient = {client}\nfault = \"crash\"\nreboot = {reboot}\n"
    );
    let text = text
        .replace("count = 12", "count = 4")
        .replace("\"grid\"", topology);
    fs::write(&path, text + &fault).unwrap();
    let path = path.to_str().unwrap();
    let small = ["--examples", "20", "--quorum", "1", "--body", "native"];
    let run = Run::succeeds(&[&[path, "--rounds", "3", "--seed", "3"], &small[..]].concat());
    let text = fs::read_to_string(run.out().join("clients.csv")).unwrap();
    let mut table = csv::Reader::from_reader(text.as_bytes());
    let head = table.headers().unwrap().clone();
    let at =
        ["round", "client", "outcome"].map(|name| head.iter().position(|it| it == name).unwrap());
    let mut outcomes: Vec<String> = table
        .records()
        .map(|row| {
            let row = row.unwrap();
            at.map(|at| row[at].to_owned()).join(" ")
        })
        .collect();
    outcomes.sort();
    (run, outcomes)
}

#[test]
fn a_killed_relay_takes_its_subtree_along_which_joins_anew_with_it() {
    let (run, outcomes) = outcomes_with_a_killed_relay(1, true, "\"line\"");
    let behind = "no way to the gateway without client 1";
    let there = |round: u32, clients: &[u32]| {
        let row = |client: &u32| format!("{round} {client} received");
        clients.iter().map(row).collect::<Vec<_>>()
    };
    let second = vec![
        "2 0 received".to_owned(),
        "2 1 crash on purpose".to_owned(),
        format!("2 2 {behind}"),
        format!("2 3 {behind}"),
    ];
    let all = [0, 1, 2, 3];
    let expected = [there(1, &all), second.clone(), there(3, &all)].concat();
    assert_eq!(outcomes, expected);
    let (again, _) = outcomes_with_a_killed_relay(1, true, "\"line\"");
    assert_eq!(again.model(), run.model());
    // For good, so is the subtree; and in a grid there is a way around.
    let (_, outcomes) = outcomes_with_a_killed_relay(1, false, "\"line\"");
    let expected = [there(1, &all), second, there(3, &[0])].concat();
    assert_eq!(outcomes, expected);
    let (_, outcomes) = outcomes_with_a_killed_relay(0, false, "\"grid\"");
    let killed = vec!["2 0 crash on purpose".to_owned()];
    let around = [1, 2, 3];
    let expected = [there(1, &all), killed, there(2, &around), there(3, &around)].concat();
    assert_eq!(outcomes, expected);
}

#[test]
fn a_relay_that_is_rebooted_by_hand_boots_before_its_subtree() {
    const TOKEN: &str = "correct-horse-battery";
    let folder = folder();
    let path = folder.path().join("line.toml");
    let text = fs::read_to_string(MESH[0]).unwrap();
    let text = text.replace("count = 12", "count = 4");
    fs::write(&path, text.replace("\"grid\"", "\"line\"")).unwrap();
    let token = format!("--dashboard-token={TOKEN}");
    // It has no end of its own.
    let flags = [
        "--rounds",
        "1000000",
        "--examples",
        "20",
        "--quorum",
        "1",
        "--body",
        "native",
    ];
    let mut live = Live::start(&[&[path.to_str().unwrap(), &token], &flags[..]].concat());
    let page = Page::of(&live);
    live.wait_for_round(2);
    page.act(1, TOKEN, "reboot", "device 1 is killed and boots again");
    let runs_again = |of: u64| {
        move |event: &Value| {
            event["event"] == "result_received"
                && event["client"] == of
                && event["round"].as_u64() > Some(2)
        }
    };
    let later = live.wait_for("the relay is back", runs_again(1));
    let round = later["round"].as_u64().unwrap();
    for leaf in [2, 3] {
        live.wait_for("its subtree is back", |event| {
            runs_again(leaf)(event) && event["round"].as_u64() >= Some(round)
        });
    }
    page.control("stop", TOKEN, "{}");
    let run = live.finish();
    let is_boot = |event: &Value| event["what"] == "running";
    let boots = run.events().into_iter().filter(is_boot);
    let boots: Vec<u64> = boots.filter_map(|one| one["client"].as_u64()).collect();
    let mut again = boots[4..].to_vec();
    again[1..].sort_unstable();
    assert_eq!(again, [1, 2, 3], "{boots:?}");
}

#[test]
fn flipped_bits_cost_packets_and_no_model_and_places_may_come_from_a_file() {
    let folder = folder();
    let experiment = folder.path().join("three.toml");
    let text = fs::read_to_string(MESH[0]).unwrap();
    fs::write(&experiment, text.replace("count = 12", "count = 3")).unwrap();
    let small = [
        experiment.to_str().unwrap(),
        "--examples",
        "20",
        "--radio-loss",
        "0",
    ];
    let run = |more: &[&str]| Run::succeeds(&[&small, &MESH[1..], more].concat());
    let line = run(&["--topology", "line"]);
    let path = folder.path().join("places");
    let range_m = 300.0;
    let places =
        (0..4).map(|node| format!("{} 0 # node {node}\n", f64::from(node) * 0.9 * range_m));
    fs::write(&path, places.collect::<String>()).unwrap();
    let file = [
        "--topology",
        "file",
        "--topology-file",
        path.to_str().unwrap(),
    ];
    let read = run(&file);
    assert_eq!(air(&read), air(&line));
    let config = fs::read_to_string(read.out().join("config.toml")).unwrap();
    assert!(
        config.contains("topology_file = \"inputs/places\""),
        "{config}"
    );
    let flipped = run(&[&file[..], &["--bit-error-rate", "0.001"]].concat());
    assert_eq!(flipped.model(), line.model());
    assert_ne!(air(&flipped), air(&line));
}

#[test]
fn what_no_leaf_can_take_is_refused_before_the_run() {
    let folder = folder();
    let refused = |more: &[&str], part: &str| {
        let said = finish(zfl().arg("run").args(&MESH[..7]).args(more));
        assert_eq!(said.status, Some(2), "{}", said.err);
        assert!(said.err.contains(part), "{}", said.err);
    };
    refused(&["--examples", "400"], "lower --examples");
    refused(&["--hidden", "400"], "lower --hidden");
    refused(&["--radio", "smoke"], "lora-sf7");
    refused(&["--radio-loss", "0.95"], "lower radio_loss");
    refused(
        &["--bit-error-rate", "1%"],
        "lower radio_loss or bit_error_rate",
    );
    refused(&["--topology", "file"], "--topology-file");
    let path = folder.path().join("places");
    for (text, part) in [
        ("0 0\n1 x\n", "line 2 is no place"),
        (
            "0 0\n1 1\n",
            "2 places for a gateway and 12 leaves: give 13 lines",
        ),
    ] {
        fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        refused(&["--topology-file", path], "--topology file");
        refused(&["--topology", "file", "--topology-file", path], part);
    }
    refused(&["--body", "bare", "--board", "q35"], "--body native");
}
