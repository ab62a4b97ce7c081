//! The plugin of QEMU that counts instructions by class, and the calibration of what is made of its counts.

use crate::{guest, process, project};
use anyhow::{Context, Result};
use std::fs;

/// Its place in the tree, where zfl looks for it.
const PLACE: &str = "build/plugin/libtcg_cost.so";

/// Builds the plugin and puts it where zfl looks for it.
///
/// # Errors
/// If it does not build.
pub fn build() -> Result<()> {
    let mut cargo = project::cargo();
    cargo.args(["build", "--release", "--locked", "-p", "tcg-cost"]);
    process::run(&mut cargo).context("the plugin does not build")?;
    let built = project::target_dir().join("release/libtcg_cost.so");
    let place = project::root().join(PLACE);
    // By rename: a QEMU that has loaded the one before keeps it.
    let fresh = place.with_extension("new");
    place
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::copy(&built, &fresh))
        .and_then(|_| fs::rename(&fresh, &place))
        .with_context(|| format!("cannot copy {} to {}", built.display(), place.display()))?;
    println!("plugin: {PLACE}");
    Ok(())
}

/// Benchmarks of the calibration: the board on whose core they run, their target, and the programs. A Cortex-M3 runs
/// the code of a Cortex-M0+.
const BENCHMARKS: [(&str, &str, &[&str]); 2] = [
    (
        "mps2-an386",
        "thumbv7em-none-eabihf",
        &["zfl-ad-plain", "zfl-ad-pairs", "zfl-train"],
    ),
    ("mps2-an385", "thumbv6m-none-eabi", &["zfl-ad-plain"]),
];

/// Counts the benchmarks, and writes `profiles/counts.toml` and `docs/calibration.md`.
///
/// # Errors
/// If something does not build or run.
pub fn calibrate() -> Result<()> {
    build()?;
    for (board, target, names) in BENCHMARKS {
        guest::build_benchmarks(board, target, names)?;
    }
    let mut cargo = project::cargo();
    cargo.args([
        "run",
        "--locked",
        "-p",
        "zfl-twin",
        "--example",
        "calibrate",
        "--",
    ]);
    cargo.arg(project::root()).arg(project::root().join(PLACE));
    process::run(&mut cargo).context("the calibration failed")
}
