//! The test tiers; a closing table has the tests and the seconds of each.
//!
//! A tier that is asked for runs or fails: where QEMU or a toolchain is missing it is installed, and
//! if that is impossible the failure says why. Tests in a browser, tests of Zephyr and tests that need
//! tshark or python3 are counted as skipped where what they need cannot be had, and the reason is said. What
//! `zfl`'s manifest lists with `test = false` is left out by a plain `cargo test` and named here.

use crate::tally::{Tally, Tiers};
use crate::zephyr::{self, Zephyr};
use crate::{GuestBody, guest, process, project, setup};
use anyhow::{Context, Result, bail};
use std::process::Command;
use std::time::Duration;

/// Test targets that run whole fleets, and break them.
const FLEET_TESTS: [&str; 6] = ["pinned", "fleet", "boards", "chaos", "realistic", "seeds"];

/// The program of Slurm's controller, whose cluster is made of namespaces.
const SLURM: &str = "slurmctld";

/// Time limit of making namespaces.
const NAMESPACES: Duration = Duration::from_secs(20);

/// A test that needs a program of the host, and is ignored by a plain `cargo test` for that.
struct Needy {
    program: &'static str,
    /// Debian's packages of it.
    packages: &'static str,
    package: &'static str,
    target: &'static [&'static str],
    test: &'static str,
}

/// Every such test but that of a fleet.
const NEEDY: [Needy; 3] = [
    Needy {
        program: "tshark",
        packages: "tshark",
        package: "zfl-netsim",
        target: &["--lib"],
        test: "switch::tests::tshark_reads_a_capture",
    },
    Needy {
        program: "python3",
        packages: "python3",
        package: "zfl-aggregator",
        target: &["--test", "python"],
        test: "a_client_in_python_makes_the_model_that_a_device_makes",
    },
    Needy {
        program: SLURM,
        packages: "slurmctld slurmd slurm-client munge",
        package: "zfl",
        target: &["--test", "launch"],
        test: "a_job_of_slurm_goes_on_without_a_node_that_is_killed_in_round_4",
    },
];

/// A fleet's test that needs one.
const DEBUGGED: Needy = Needy {
    program: setup::GDB,
    packages: setup::GDB,
    package: "zfl",
    target: &["--release", "--test", "fleet"],
    test: "gdb_stops_a_device_and_reads_its_firmware_by_name_and_the_run_goes_on",
};

/// Tests of the consoles of microcontrollers.
const MICROCONTROLLERS: [&str; 3] = [
    "riscv_virt",
    "nrf52840",
    "every_microcontroller_computes_the_bits_of_the_host",
];

/// Test target of fleets of them.
const FLEETS_OF_MICROCONTROLLERS: &str = "boards";

/// Boards of Zephyr besides the PC, and the test of each.
const OTHER_ZEPHYRS: [(&str, &str); 2] = [
    (
        "native_sim",
        "native_sim_makes_the_model_of_native_devices_and_comes_back_when_it_was_killed",
    ),
    (
        "mps2_an385",
        "a_cortex_m3_makes_the_model_of_native_devices",
    ),
];

/// Set-up, then every tier.
///
/// # Errors
/// If a test fails, or a tier cannot run.
pub fn all() -> Result<()> {
    prepare()?;
    browser();
    if let Err(error) = setup::slurm() {
        println!("not run: the test on a cluster of Slurm: {error:#}");
    }
    let mut tiers = Tiers::default();
    tiers.run("host", || {
        let mut tally = host()?;
        for test in &NEEDY {
            tally.have_now_run(test.run()?);
        }
        Ok(tally)
    })?;
    tiers.run("firmware", consoles)?;
    tiers.run("fleets", fleets)?;
    tiers.run("zephyr", zephyr)?;
    tiers.conclude()
}

/// The firmware's tests.
///
/// # Errors
/// As [`all`].
pub fn qemu() -> Result<()> {
    prepare()?;
    alone("firmware", consoles)
}

/// The fleets' tests.
///
/// # Errors
/// As [`all`].
pub fn fleet() -> Result<()> {
    prepare()?;
    alone("fleets", fleets)
}

/// The tests of the Zephyr guest, which are skipped by [`all`] where there is no Zephyr.
///
/// # Errors
/// If there is no Zephyr or something to build it with is missing; as [`all`].
pub fn zephyr_alone() -> Result<()> {
    zephyr::check()?;
    prepare()?;
    alone("zephyr", zephyr)
}

fn alone(name: &'static str, tier: fn() -> Result<Tally>) -> Result<()> {
    let mut tiers = Tiers::default();
    tiers.run(name, tier)?;
    tiers.conclude()
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

/// A program in the namespaces of a cluster, with which it is found out if they can be made.
fn cluster_namespaces() -> Command {
    let mut command = Command::new("unshare");
    let kinds = ["--net", "--mount", "--pid", "--uts", "--fork"];
    command
        .args(kinds)
        .args(["--mount-proc", "mount", "-t", "tmpfs", "none", "/run"]);
    command
}

impl Needy {
    /// Runs the test where its program is; [`host`] has counted it as skipped.
    fn run(&self) -> Result<Tally> {
        let Self {
            program,
            packages,
            package,
            target,
            test,
        } = self;
        if !setup::in_path(program) {
            println!("\nnot run: no {program} (of Debian's {packages}): {test}");
            return Ok(Tally::default());
        }
        if *program == SLURM && !process::succeeds_within(&mut cluster_namespaces(), NAMESPACES) {
            println!("\nnot run: no namespaces can be made here (it takes root): {test}");
            return Ok(Tally::default());
        }
        let mut cargo = project::cargo();
        cargo.args(["test", "--locked", "--package", package]);
        let tally = count(
            cargo
                .args(*target)
                .args(["--", "--ignored", "--exact", test]),
        )?;
        if tally == Tally::default() {
            bail!("no test has the name {test}: give its new one here");
        }
        Ok(tally)
    }
}

/// The firmware on every board, its console against the transcripts in `tests/expected`.
fn consoles() -> Result<Tally> {
    let folder = project::root().join("guest/bare");
    let mut cargo = project::cargo();
    // An alias of that folder, which knows the target of the host.
    cargo
        .current_dir(&folder)
        .args(["host-test", "--locked", "--no-fail-fast", "--target-dir"]);
    let mut tally = count(cargo.arg(folder.join("target")))?;
    if let Err(error) = build_microcontrollers() {
        println!("\nnot run: consoles of microcontrollers: {error:#}");
        return Ok(tally);
    }
    for test in MICROCONTROLLERS {
        let mut cargo = project::cargo();
        cargo
            .current_dir(&folder)
            .args(["host-test", "--locked", "--target-dir"])
            .arg(folder.join("target"))
            .args(["--test", "console", "--", "--ignored", "--exact", test]);
        tally.have_now_run(count(&mut cargo)?);
    }
    Ok(tally)
}

/// Builds the firmware of every microcontroller, with set-up of what it needs.
fn build_microcontrollers() -> Result<()> {
    let boards = project::boards()?;
    for board in boards.iter().filter(|board| board.firmware.is_some()) {
        guest::prepare(&board.name)?;
        guest::build(None, Some(&board.name))?;
    }
    Ok(())
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
    let mut tally = count(cargo.args(["--", "--test-threads=1"]))?;
    match setup::gdb() {
        Ok(()) => tally.have_now_run(DEBUGGED.run()?),
        Err(error) => println!("not run: {}: {error:#}", DEBUGGED.test),
    }
    // Built already, if their consoles were tested.
    if let Err(error) = build_microcontrollers() {
        println!("\nnot run: {FLEETS_OF_MICROCONTROLLERS}: {error:#}");
        return Ok(tally);
    }
    let mut cargo = project::cargo();
    cargo.args(["test", "--release", "--locked", "--package", "zfl"]);
    cargo.args(["--test", FLEETS_OF_MICROCONTROLLERS]);
    cargo.args(["--", "--ignored", "--test-threads=1"]);
    tally.have_now_run(count(&mut cargo)?);
    Ok(tally)
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
    let mut tally = count(cargo.args(["--", "--test-threads=1"]))?;
    for (board, test) in OTHER_ZEPHYRS {
        if let Err(error) = guest::build(None, Some(board)) {
            println!("\nnot run: {test}, of board {board}: {error:#}");
            continue;
        }
        let mut cargo = project::cargo();
        cargo.args(["test", "--release", "--locked", "--package", "zfl"]);
        cargo.args(["--test", "zephyr", "--", "--ignored", "--exact", test]);
        tally.have_now_run(count(&mut cargo)?);
    }
    Ok(tally)
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
