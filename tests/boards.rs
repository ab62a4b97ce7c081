//! Fleets of microcontrollers: a small job on all but the smallest, and more on one Cortex-M, with the memory of a real part, and one RISC-V.
//!
//! Run by `cargo xtask test-fleet`, which builds their firmware.

mod support;

use std::fs;
use std::path::Path;
use support::{Live, Run, choosing, encodings, finish, folder, zfl};

/// Microcontrollers, each of which a small job runs on: all but `stm32f103`, whose 64 KB have no room for 784 inputs.
const ALL: [&str; 9] = [
    "mps2-an385",
    "mps2-an386",
    "mps2-an500",
    "mps2-an505",
    "nrf52840",
    "riscv-virt",
    "rp2350",
    "stm32f746",
    "stm32l4r5",
];
/// One of each kind of processor.
const BOARDS: [&str; 2] = ["nrf52840", "riscv-virt"];

#[test]
#[ignore = "needs the firmware of all: cargo xtask test"]
fn microcontrollers_join_and_make_the_model_of_the_host() {
    let boards = ALL.map(|name| format!("--board={name}"));
    let said = finish(zfl().arg("selfcheck").args(boards));
    assert_eq!(said.status, Some(0), "{said:?}");
    for board in ALL {
        let mut lines = said.out.lines();
        let line = lines.find(|line| line.starts_with(board));
        assert!(
            line.is_some_and(|line| line.ends_with("the same")),
            "{said:?}"
        );
    }
}

/// The RAM of 256 KB has room for a quarter of their lists.
#[test]
#[ignore = "needs the firmware of both boards: cargo xtask test"]
fn more_examples_than_the_ram_holds_lie_in_flash_and_make_the_model_of_the_host() {
    let job = "--clients 1 --rounds 2 --examples 600 --epochs 1 --batch-size 20 --seed 6";
    let job: Vec<_> = job.split(' ').collect();
    let native = Run::succeeds(&[&["--body", "native"], &job[..]].concat());
    let run = Run::succeeds(&[&["--board", "nrf52840"], &job[..]].concat());
    assert_eq!(run.model(), native.model());
    let note = "nrf52840: the examples of a device lie in its flash, 470400 of 524288 bytes";
    assert!(run.said.err.contains(note), "{:?}", run.said);
    let said = finish(zfl().args(["devices", "--memory"]).arg(run.out()));
    let row = |name: &str| {
        let mut lines = said.out.lines();
        lines.find_map(|line| line.trim().strip_prefix(name)?.trim().parse().ok())
    };
    assert_eq!(row("examples in flash"), Some(470_400), "{said:?}");
    let (in_ram, peak) = (row("examples "), row("peak of the heap"));
    assert!(in_ram < Some(8 << 10) && peak < Some(256 << 10), "{said:?}");
}

/// Instructions of each round and client, as they were told.
fn instructions(run: &Run) -> Vec<[String; 3]> {
    let mut table = csv::Reader::from_path(run.out().join("clients.csv")).unwrap();
    let head = table.headers().unwrap().clone();
    let places = ["round", "client", "instructions"]
        .map(|name| head.iter().position(|column| column == name).unwrap());
    let rows = table.records().map(Result::unwrap);
    let mut rows: Vec<_> = rows
        .map(|row| places.map(|at| row[at].to_owned()))
        .collect();
    // In the order of arrival until here.
    rows.sort();
    rows
}

/// A run of a file whose groups have boards.
#[track_caller]
fn run(file: &Path, flags: &[&str]) -> Run {
    // No body on the command line, but for native devices: it would go before that of each group.
    let mut command = zfl();
    command
        .arg("run")
        .arg(file)
        .args(["--dashboard", "off"])
        .args(flags);
    let run = Live::start_as(&mut command).finish();
    assert_eq!(run.said.status, Some(0), "{flags:?}: {run:?}");
    run
}

/// Two devices of each kind of processor, and the same on the host.
#[track_caller]
fn agree(flags: &[&str]) {
    let folder = folder();
    let file = folder.path().join("both.toml");
    let mut text = String::from(
        "data = \"zfl:digits\"\nrounds = 2\nexamples_per_client = 40\nlocal_epochs = 1\n\
         batch_size = 20\nhidden = [8]\n",
    );
    for board in BOARDS {
        text += &format!("[[fleet]]\ncount = 2\nboard = \"{board}\"\n");
    }
    fs::write(&file, text).unwrap();
    let native = run(&file, &[&["--body", "native"], flags].concat());
    assert_eq!(run(&file, flags).model(), native.model(), "{flags:?}");
}

#[test]
#[ignore = "needs the firmware of both boards: cargo xtask test"]
fn every_encoding_agrees_on_microcontrollers() {
    encodings().iter().for_each(|(_, flags)| agree(flags));
}

#[test]
#[ignore = "needs the firmware of both boards: cargo xtask test"]
fn every_algorithm_agrees_on_microcontrollers() {
    for known in fl_algo::ALGORITHMS {
        agree(&choosing(known.name));
    }
}

#[test]
#[ignore = "needs the firmware of both boards: cargo xtask test"]
fn every_arithmetic_agrees_on_microcontrollers() {
    for arithmetic in ["fixed", "float", "integer"] {
        for activation in ["relu", "sigmoid"] {
            agree(&["--arithmetic", arithmetic, "--activation", activation]);
        }
    }
}

#[test]
#[ignore = "needs the firmware of both boards: cargo xtask test"]
fn instructions_of_a_mixed_fleet_repeat_to_the_unit() {
    let folder = folder();
    let file = folder.path().join("mixed.toml");
    let mut text = String::from(
        "data = \"zfl:digits\"\nrounds = 2\nexamples_per_client = 50\nlocal_epochs = 2\n\
         batch_size = 10\nseed = 5\ntime = \"icount\"\n",
    );
    for board in [&["microvm"], &BOARDS[..]].concat() {
        text += &format!("[[fleet]]\nname = \"{board}\"\ncount = 1\nboard = \"{board}\"\n");
    }
    text += "[[fleet]]\nname = \"host\"\ncount = 1\nbody = \"native\"\n";
    fs::write(&file, text).unwrap();
    let (one, other) = (run(&file, &[]), run(&file, &[]));
    assert_eq!(one.model(), other.model());
    let (one, other) = (instructions(&one), instructions(&other));
    assert_eq!(one, other);
    assert_eq!(one.len(), 8, "{one:?}");
    // Nothing counts those of the host.
    let (counted, host): (Vec<_>, Vec<_>) = one.iter().partition(|row| row[1] != "3");
    assert!(host.iter().all(|row| row[2].is_empty()), "{host:?}");
    let counts = counted.iter().map(|row| row[2].parse().unwrap_or(0));
    assert!(counts.min() > Some(100_000), "{counted:?}");
}
