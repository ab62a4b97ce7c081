//! `cargo xtask miri`: tests of the device's crates under Miri, which finds undefined behaviour.
//!
//! The crates forbid `unsafe`; what is checked is their use of the crates below them that do not.

use crate::ci::Outcome;
use crate::{process, project};
use anyhow::{Result, bail};
use std::process::Command;

/// Crates whose unit tests run. Miri is some hundred times slower than the machine, so tests that train
/// for long leave themselves out or do less (`cfg!(miri)`).
const CRATES: [&str; 5] = ["fl-rng", "fl-nn", "fl-proto", "fl-algo", "fl-client"];

/// The command that brings Miri.
const SETUP: &str = "rustup toolchain install nightly --component miri,rust-src";

/// Runs the tests, where there is a nightly Rust with Miri.
///
/// # Errors
/// If a test fails.
pub fn check() -> Result<Outcome> {
    if process::quiet_output(cargo().arg("--version")).is_err() {
        let reason = format!("no nightly Rust with Miri: {SETUP}");
        println!("\nnot run: Miri: {reason}");
        return Ok(Outcome::NotRun(reason));
    }
    let mut miri = cargo();
    miri.args(["test", "--locked", "--lib", "--target-dir"]);
    // Apart from the host's: another Rust would build all anew at every turn.
    miri.arg(project::target_dir().join("miri"));
    miri.args(CRATES.iter().flat_map(|name| ["--package", name]));
    println!("\n$ {}", process::line(&miri));
    process::run(&mut miri).map(|()| Outcome::Passed)
}

/// As [`check`], for a caller who asks for nothing else.
///
/// # Errors
/// If a test fails, or there is no Miri.
pub fn demand() -> Result<()> {
    match check()? {
        Outcome::Passed => Ok(()),
        Outcome::NotRun(reason) => bail!("{reason}"),
    }
}

/// `cargo miri` of the nightly Rust.
fn cargo() -> Command {
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(project::root())
        .args(["+nightly", "miri"]);
    // Set by the Cargo that runs xtask, and in the way of another.
    for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        cargo.env_remove(name);
    }
    cargo
}
