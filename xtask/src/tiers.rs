//! The test tiers, and how many tests ran.
//!
//! A tier that is asked for runs or fails: where QEMU or a toolchain is missing it is installed, and
//! if that is impossible the failure says why. Tests in a browser, tests of Zephyr and a test that
//! needs tshark are counted as skipped where what they need cannot be had, and the reason is said. What
//! `zfl`'s manifest lists with `test = false` is left out by a plain `cargo test` and named here.

use crate::zephyr::{self, Zephyr};
use crate::{GuestBody, guest, process, project, setup};
use anyhow::{Context, Result, bail};
use std::ops::AddAssign;
use std::process::Command;

/// Test targets that run whole fleets, and break them.
const FLEET_TESTS: [&str; 4] = ["pinned", "fleet", "chaos", "realistic"];

/// The test that takes tshark to read a capture of the switch.
const TSHARK_TEST: &str = "switch::tests::tshark_reads_a_capture";

/// Set-up, then every tier.
///
/// # Errors
/// If a test fails, or a tier cannot run.
pub fn all() -> Result<()> {
    prepare()?;
    browser();
    let mut tally = host()?;
    tally.have_now_run(tshark()?);
    tally += consoles()?;
    tally += fleets()?;
    tally += zephyr()?;
    tally.conclude()
}

/// The firmware's tests.
///
/// # Errors
/// As [`all`].
pub fn qemu() -> Result<()> {
    prepare()?;
    consoles()?.conclude()
}

/// The fleets' tests.
///
/// # Errors
/// As [`all`].
pub fn fleet() -> Result<()> {
    prepare()?;
    fleets()?.conclude()
}

/// The tests of the Zephyr guest, which are skipped by [`all`] where there is no Zephyr.
///
/// # Errors
/// If there is no Zephyr or something to build it with is missing; as [`all`].
pub fn zephyr_alone() -> Result<()> {
    zephyr::check()?;
    prepare()?;
    zephyr()?.conclude()
}

fn prepare() -> Result<()> {
    setup::all()?;
    guest::build(Some(GuestBody::Bare), None)
}

/// Installs what the dashboard's tests in a browser need. Where that is impossible they are reported
/// as ignored, by their names, and counted as skipped.
fn browser() {
    match setup::browser() {
        Ok(()) => println!("setup: a browser is there"),
        Err(error) => println!("not run: the dashboard's tests in a browser: {error:#}"),
    }
}

/// Tests that need nothing but Cargo, with documentation examples, and those of the dashboard in a
/// browser.
fn host() -> Result<Tally> {
    let mut cargo = project::cargo();
    count(cargo.args(["test", "--workspace", "--locked", "--no-fail-fast"]))
}

/// The test that needs tshark, where there is one: [`host`] has counted it as skipped.
fn tshark() -> Result<Tally> {
    if !setup::in_path("tshark") {
        println!("\nnot run: no tshark (Debian's package of that name): {TSHARK_TEST}");
        return Ok(Tally::default());
    }
    let mut cargo = project::cargo();
    cargo.args(["test", "--locked", "--package", "zfl-orchestrator", "--lib"]);
    let tally = count(cargo.args(["--", "--ignored", "--exact", TSHARK_TEST]))?;
    if tally == Tally::default() {
        bail!("no test has the name {TSHARK_TEST}: give its new one here");
    }
    Ok(tally)
}

/// The firmware on every board, its console against the transcripts in `tests/expected`.
fn consoles() -> Result<Tally> {
    let folder = project::root().join("guest/bare");
    let mut cargo = project::cargo();
    // An alias of that folder, which knows the target of the host.
    cargo
        .current_dir(&folder)
        .args(["host-test", "--locked", "--no-fail-fast", "--target-dir"]);
    count(cargo.arg(folder.join("target")))
}

/// Optimised, as users run it; one test at a time, since each starts a fleet of its own.
fn fleets() -> Result<Tally> {
    let mut cargo = project::cargo();
    cargo.args([
        "test",
        "--release",
        "--locked",
        "--package",
        "zfl",
        "--no-fail-fast",
    ]);
    cargo.args(FLEET_TESTS.iter().flat_map(|target| ["--test", target]));
    count(cargo.args(["--", "--test-threads=1"]))
}

/// Devices that are Zephyr applications, where there is a Zephyr to build them against.
fn zephyr() -> Result<Tally> {
    if Zephyr::find().is_none() {
        let skipped = tests_in("tests/zephyr.rs")?;
        println!(
            "\nnot run: no Zephyr: tests/zephyr.rs, {skipped} tests ({} brings one, or set \
             ZEPHYR_BASE)",
            zephyr::SETUP
        );
        return Ok(Tally {
            skipped,
            ..Tally::default()
        });
    }
    guest::build(Some(GuestBody::Zephyr), None)?;
    let mut cargo = project::cargo();
    cargo.args([
        "test",
        "--release",
        "--locked",
        "--package",
        "zfl",
        "--test",
        "zephyr",
    ]);
    count(cargo.args(["--", "--test-threads=1"]))
}

/// Counts the tests in a file that is not run.
fn tests_in(file: &str) -> Result<u32> {
    let text = std::fs::read_to_string(project::root().join(file))
        .with_context(|| format!("cannot read {file}"))?;
    let tests = text.lines().filter(|line| line.trim() == "#[test]").count();
    Ok(u32::try_from(tests)?)
}

fn count(command: &mut Command) -> Result<Tally> {
    println!("\n$ {}", process::line(command));
    let mut tally = Tally::default();
    let succeeded = process::watch(command, |line| {
        if let Some(result) = Tally::parse(line) {
            tally += result;
        }
    })?;
    if !succeeded && tally.failed == 0 {
        bail!(
            "`{}` failed before its tests could run",
            process::line(command)
        );
    }
    Ok(tally)
}

/// Results of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Tally {
    /// Reads libtest's line `test result: ok. 5 passed; 0 failed; 1 ignored; …`.
    fn parse(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let mut tally = Self::default();
        for part in counts.split("; ") {
            let (number, what) = part.split_once(' ')?;
            match what {
                "passed" => tally.passed = number.parse().ok()?,
                "failed" => tally.failed = number.parse().ok()?,
                "ignored" => tally.skipped = number.parse().ok()?,
                _ => {}
            }
        }
        Some(tally)
    }

    /// Adds tests that were counted as skipped before.
    fn have_now_run(&mut self, tests: Self) {
        self.skipped = self.skipped.saturating_sub(tests.passed + tests.failed);
        *self += tests;
    }

    fn conclude(self) -> Result<()> {
        println!(
            "\n{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        );
        if self.failed > 0 {
            bail!("{} tests failed", self.failed);
        }
        if self.passed == 0 {
            bail!("no test ran");
        }
        Ok(())
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn reads_libtest() {
        let line = "test result: FAILED. 5 passed; 2 failed; 1 ignored; 0 measured; 3 filtered \
                    out; finished in 0.01s";
        assert_eq!(
            Tally::parse(line),
            Some(Tally {
                passed: 5,
                failed: 2,
                skipped: 1
            })
        );
        assert_eq!(Tally::parse("test tests::reads_libtest ... ok"), None);
    }

    #[test]
    fn a_test_that_ran_after_all_is_counted_once() {
        let tally = |passed, failed, skipped| Tally {
            passed,
            failed,
            skipped,
        };
        let mut all = tally(5, 0, 2);
        all.have_now_run(tally(1, 0, 0));
        assert_eq!(all, tally(6, 0, 1));
        all.have_now_run(tally(0, 1, 0));
        assert_eq!(all, tally(6, 1, 0));
    }

    #[test]
    fn failures_and_silence_are_failures() {
        assert!(
            Tally {
                passed: 3,
                ..Tally::default()
            }
            .conclude()
            .is_ok()
        );
        assert!(
            Tally {
                passed: 3,
                failed: 1,
                skipped: 0
            }
            .conclude()
            .is_err()
        );
        assert!(Tally::default().conclude().is_err());
    }
}
