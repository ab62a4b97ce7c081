//! Devices behind a radio: runs over a mesh in simulated time.

mod support;

use std::fs;
use support::{Run, finish, folder, zfl};

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
