//! `cargo xtask setup` on machines where nothing is there: what it installs, and what it says where
//! it may not.
//!
//! A machine is a `PATH` of a few scripts. What the real one has outside its `PATH` may differ
//! (Debian's Rust at its fixed place), so that only packages are looked at that are always missing.

mod support;

use std::fs;
use std::process::{Command, Output};
use support::install;

/// A package manager that notes what it is asked for.
const APT: &str = "echo \"$0 $*\" >> \"$CALLS\"";
const ROOT: &str = "echo 0";
const USER: &str = "echo 1000";
const REFUSES: &str = "exit 1";
/// Takes its own flag and `env` with its assignment away and runs the rest.
const SUDO: &str = "echo sudo >> \"$CALLS\"; shift; exec \"$@\"";

struct Said {
    success: bool,
    err: String,
    calls: String,
}

/// Runs `cargo xtask setup` where these programs and no others are.
fn setup(programs: &[(&str, &str)]) -> Said {
    call(&["setup"], programs)
}

/// Calls `cargo xtask` where these programs and no others are.
fn call(arguments: &[&str], programs: &[(&str, &str)]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    for (name, script) in programs {
        install(&folder.path().join(name), &format!("#!/bin/sh\n{script}\n"));
    }
    let calls = folder.path().join("calls");
    let Output { status, stderr, .. } = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(arguments)
        .env_clear()
        .env("PATH", folder.path())
        .env("CALLS", &calls)
        .output()
        .unwrap();
    Said {
        success: status.success(),
        err: String::from_utf8(stderr).unwrap(),
        calls: fs::read_to_string(calls).unwrap_or_default(),
    }
}

#[test]
fn a_user_without_rights_is_told_the_command() {
    let said = setup(&[
        ("apt-get", APT),
        ("apt-cache", APT),
        ("id", USER),
        ("sudo", REFUSES),
    ]);
    assert!(!said.success);
    let command = "\n    sudo apt-get update && sudo apt-get install -y qemu-system-x86 binutils";
    assert!(said.err.contains(command), "{}", said.err);
    assert!(!said.calls.contains("install"), "{}", said.calls);
}

#[test]
fn where_there_is_no_sudo_the_command_has_none() {
    let said = setup(&[("apt-get", APT), ("apt-cache", APT), ("id", USER)]);
    assert!(!said.success);
    let command = "\n    su -c 'apt-get update && apt-get install -y qemu-system-x86 binutils";
    assert!(said.err.contains(command), "{}", said.err);
}

#[test]
fn without_apt_the_packages_are_named() {
    let said = setup(&[("id", ROOT)]);
    assert!(!said.success);
    assert!(
        said.err.contains("qemu-system-x86 binutils") && said.err.contains("no apt"),
        "{}",
        said.err
    );
}

#[test]
fn root_and_sudo_install_what_is_missing() {
    let env = "shift; exec \"$@\"";
    for (id, sudo) in [(ROOT, REFUSES), (USER, SUDO)] {
        let said = setup(&[
            ("apt-get", APT),
            ("apt-cache", APT),
            ("env", env),
            ("id", id),
            ("sudo", sudo),
            // What sudo is asked first: whether it would.
            ("true", ""),
        ]);
        let install = said.calls.lines().find(|call| call.contains(" install "));
        let install = install.unwrap_or_else(|| panic!("{}\n{}", said.calls, said.err));
        assert!(
            install.contains("-y"),
            "it would wait for an answer: {install}"
        );
        assert!(install.contains("qemu-system-x86 binutils"), "{install}");
        assert_eq!(said.calls.contains("sudo"), id == USER, "{}", said.calls);
    }
}

#[test]
fn a_python_that_zephyr_does_not_take_is_told_of_before_anything_is_fetched() {
    let said = call(
        &["setup", "--zephyr"],
        &[
            ("apt-get", APT),
            ("apt-cache", APT),
            ("id", ROOT),
            ("python3", "echo 3.8 1"),
            // One that its name promises and that is not there, as pyenv leaves it.
            ("python3.13", "exit 127"),
        ],
    );
    assert!(!said.success);
    assert!(said.err.contains("here is 3.8"), "{}", said.err);
    assert!(said.err.contains("uv python install 3."), "{}", said.err);
    assert_eq!(said.calls, "");
}
