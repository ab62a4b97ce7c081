//! `cargo xtask run` hands everything on to zfl, which is a script here that notes how it is called.

mod support;

use std::fs;
use std::process::Command;
use support::install;

/// A zfl whose devices need nothing: it refuses 0 clients and ends with status 7 otherwise.
const ZFL: &str = r#"#!/bin/sh
printf '%s|' "$@" >> "$CALLS"
echo >> "$CALLS"
case "$*" in
*"--clients 0"*) exit 2 ;;
"run --dry-run "*) printf '[[fleet]]\nbody = "native"\n' ;;
*) exit 7 ;;
esac
"#;

/// The status of `cargo xtask run` with these arguments, and how zfl was called.
fn run(arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let zfl = folder.path().join("release/zfl");
    fs::create_dir(folder.path().join("release")).unwrap();
    install(&zfl, ZFL);
    let calls = folder.path().join("calls");
    let status = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("run")
        .args(arguments)
        // Cargo, which would build zfl.
        .env("CARGO", "true")
        .env("CARGO_TARGET_DIR", folder.path())
        .env("CALLS", &calls)
        .status()
        .unwrap();
    let calls = fs::read_to_string(calls).unwrap();
    (status.code(), calls.lines().map(str::to_owned).collect())
}

#[test]
fn arguments_and_status_are_handed_through() {
    let (status, calls) = run(&[
        "--clients",
        "3",
        "--hidden",
        "20,10",
        "an experiment.toml",
        "-q",
    ]);
    assert_eq!(status, Some(7));
    let given = "--clients|3|--hidden|20,10|an experiment.toml|-q|";
    assert_eq!(
        calls,
        [format!("run|--dry-run|{given}"), format!("run|{given}")]
    );
}

#[test]
fn what_zfl_refuses_is_not_started() {
    let (status, calls) = run(&["--clients", "0"]);
    assert_eq!((status, calls.len()), (Some(2), 1), "{calls:?}");
}

#[test]
fn help_and_dry_runs_need_no_plan() {
    for flag in ["--help", "-h", "--dry-run"] {
        let (_, calls) = run(&[flag]);
        assert_eq!(calls, [format!("run|{flag}|")]);
    }
}
