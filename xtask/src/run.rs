//! `cargo xtask run`: `zfl run` on a machine where nothing is prepared.

use crate::{GuestBody, guest, process, project, setup, zephyr};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

/// The part of `zfl run --dry-run`'s answer that decides what is to be prepared.
#[derive(Deserialize)]
struct Plan {
    body: String,
    board: Option<String>,
}

/// Prepares what `zfl run` with these arguments needs, and becomes it.
///
/// # Errors
/// If the arguments are refused, or something cannot be set up or built.
pub fn run(args: &[OsString]) -> Result<ExitCode> {
    let zfl = build_zfl()?;
    let args = &with_body(args);
    let mut command = Command::new(&zfl);
    command.arg("run").args(args);
    if !args.iter().any(|arg| arg == "--help" || arg == "-h") {
        // Arguments are checked before anything is installed for them.
        let plan = Command::new(&zfl)
            .args(["run", "--dry-run"])
            .args(args)
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot start {}", zfl.display()))?;
        if !plan.status.success() {
            let code = plan.status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
        }
        prepare(&String::from_utf8_lossy(&plan.stdout))?;
    }
    // Replaces this process, so that signals reach zfl and its exit status is this command's.
    let error = command.exec();
    bail!("cannot start {}: {error}", process::line(&command))
}

fn prepare(plan: &str) -> Result<()> {
    let plan: Plan = toml::from_str(plan).context("`zfl run --dry-run` did not print its plan")?;
    match plan.body.as_str() {
        "native" => Ok(()),
        "bare" => {
            setup::qemu()?;
            guest::build(Some(GuestBody::Bare), plan.board.as_deref())
        }
        "zephyr" => {
            setup::qemu()?;
            prepare_zephyr(&plan)
        }
        body => bail!("no firmware is built for body {body:?}"),
    }
}

/// The arguments, with `--body zephyr` where nothing is said and a Zephyr guest can be built.
fn with_body(args: &[OsString]) -> Vec<OsString> {
    let says = |arg: &OsString| {
        let arg = arg.to_string_lossy();
        let flag = arg.split('=').next().unwrap_or_default().to_owned();
        matches!(flag.as_str(), "--body" | "--board" | "--help" | "-h")
    };
    let mut args = args.to_vec();
    if !args.iter().any(says) && zephyr::check().is_ok() {
        println!("Zephyr is here, so devices are Zephyr's; --body bare takes the other");
        args.extend(["--body", "zephyr"].map(OsString::from));
    }
    args
}

/// Builds the Zephyr guest, or takes the image that is there where nothing can be built.
fn prepare_zephyr(plan: &Plan) -> Result<()> {
    let Err(missing) = zephyr::check() else {
        return guest::build(Some(GuestBody::Zephyr), plan.board.as_deref());
    };
    let boards = project::boards()?;
    let image = boards
        .iter()
        .find(|board| Some(&board.name) == plan.board.as_ref());
    if !image.is_some_and(|board| project::root().join(&board.kernel.image).is_file()) {
        return Err(missing);
    }
    println!("the Zephyr firmware is taken as it is: it cannot be built again here");
    Ok(())
}

/// Builds the command line as it is used, optimised, and returns its path.
///
/// # Errors
/// If it does not build.
pub fn build_zfl() -> Result<PathBuf> {
    let mut cargo = project::cargo();
    process::run(cargo.args(["build", "--release", "--locked", "--package", "zfl"]))
        .context("zfl does not build")?;
    Ok(project::target_dir().join("release/zfl"))
}
