//! `cargo xtask ci`: all that is checked besides tests.

use crate::{
    advisories, licences, links, miri, process, project, setup, toolchain::Toolchain, words,
};
use anyhow::{Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// A target with no operating system and no standard library: whatever builds for it is `no_std`.
const NO_STD_TARGET: &str = "x86_64-unknown-none";

/// The crates without the standard library, and their features without `std`, each of which has to build
/// alone.
const NO_STD_CRATES: [(&str, &[&str]); 12] = [
    ("fl-rng", &[]),
    ("tcp-track", &[]),
    ("zfl-text", &[]),
    ("fl-nn", &[]),
    ("fl-proto", &["alloc"]),
    ("fl-shell", &[]),
    ("fl-round", &[]),
    ("fl-client", &[]),
    ("fl-radio", &["alloc"]),
    ("fl-exchange", &[]),
    ("fl-edge", &[]),
    ("fl-node", &[]),
];

/// Formatting, lints, documentation, links, words, licences, the device's crates without the standard
/// library; advisories where their database is there, and Miri where it is there.
///
/// # Errors
/// If a check fails; the others are made all the same.
pub fn check() -> Result<()> {
    let guest = Guest::bare()?;
    let manifests = [
        project::root().join("Cargo.toml"),
        guest.folder.join("Cargo.toml"),
    ];
    let mut checks = vec![
        ("formatting", formatting(&guest)),
        ("lints", lints(&guest)),
        ("documentation", documentation()),
        ("links", links::check()),
        ("words", words::check()),
        ("licences", licences::check(&manifests)),
        ("no_std", without_std()),
    ];
    let mut not_run = String::new();
    for (name, outcome) in [
        ("advisories", advisories::check(&locks())),
        ("miri", miri::check()),
    ] {
        match outcome {
            Ok(Outcome::Passed) => checks.push((name, Ok(()))),
            Ok(Outcome::NotRun(reason)) => {
                not_run.push_str(&format!("; not run: {name} ({reason})"));
            }
            Err(error) => checks.push((name, Err(error))),
        }
    }
    let failed = checks
        .iter()
        .filter_map(|(name, result)| Some((name, result.as_ref().err()?)));
    let lines: Vec<_> = failed
        .map(|(name, error)| format!("  {name}: {error:#}"))
        .collect();
    if !lines.is_empty() {
        bail!(
            "{} of {} checks failed:\n{}",
            lines.len(),
            checks.len(),
            lines.join("\n")
        );
    }
    let names: Vec<_> = checks.iter().map(|(name, _)| *name).collect();
    println!(
        "\nall {} checks passed: {}{not_run}",
        checks.len(),
        names.join(", ")
    );
    Ok(())
}

/// Outcome of a check that not every machine can make.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// The reason, and the way to a check.
    NotRun(String),
}

/// Lock files of the repository's workspaces.
fn locks() -> Vec<PathBuf> {
    [
        "Cargo.lock",
        "guest/bare/Cargo.lock",
        "guest/zephyr/Cargo.lock",
    ]
    .map(|lock| project::root().join(lock))
    .into()
}

/// A guest's workspace and the toolchain for it.
struct Guest {
    folder: PathBuf,
    toolchain: Toolchain,
}

impl Guest {
    fn bare() -> Result<Self> {
        let toolchain = setup::toolchain(setup::GUEST_TARGET)?;
        Ok(Self {
            folder: project::root().join("guest/bare"),
            toolchain,
        })
    }
}

fn formatting(guest: &Guest) -> Result<()> {
    // The Zephyr guest as well: its text can be read where it cannot be built.
    let zephyr = project::root().join("guest/zephyr");
    for folder in [project::root(), &guest.folder, &zephyr] {
        step(
            project::cargo()
                .current_dir(folder)
                .args(["fmt", "--all", "--check"]),
        )?;
    }
    Ok(())
}

fn lints(guest: &Guest) -> Result<()> {
    let deny = ["--", "-D", "warnings"];
    let workspace = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--locked",
    ];
    step(project::cargo().args(workspace).args(deny))?;
    if !guest.toolchain.has_clippy() {
        // Debian's Rust comes without clippy, and the clippy of another Rust cannot be used with
        // its libraries. The firmware's build is then the check: its warnings are errors too.
        println!(
            "no clippy for the firmware in {}",
            guest.toolchain.describe()
        );
        return Ok(());
    }
    let mut clippy = guest.toolchain.cargo("clippy");
    clippy
        .current_dir(&guest.folder)
        .args(["--release", "--locked", "--target-dir"]);
    step(clippy.arg(guest.folder.join("target")).args(deny))
}

fn documentation() -> Result<()> {
    let doc = [
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--locked",
    ];
    step(
        project::cargo()
            .args(doc)
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

fn without_std() -> Result<()> {
    let toolchain = setup::toolchain(NO_STD_TARGET)?;
    for (name, features) in NO_STD_CRATES {
        step(&mut check_alone(&toolchain, name, None))?;
        for feature in features {
            step(&mut check_alone(&toolchain, name, Some(feature)))?;
        }
    }
    Ok(())
}

fn check_alone(toolchain: &Toolchain, name: &str, feature: Option<&str>) -> Command {
    let mut check = toolchain.cargo("check");
    check.args(["--locked", "--no-default-features", "--package", name]);
    check.args(feature.iter().flat_map(|feature| ["--features", feature]));
    // Apart from the host's: another Rust would build all anew at every turn.
    check
        .arg("--target-dir")
        .arg(project::target_dir().join("no-std"));
    check
}

fn step(command: &mut Command) -> Result<()> {
    println!("\n$ {}", process::line(command));
    process::run(command)
}
