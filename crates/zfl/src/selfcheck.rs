//! `zfl selfcheck`: one small job on every board at hand, and on the host; one table of the models that came out.

use crate::output;
use anyhow::{Context, Result};
use clap::Args;
use std::path::Path;
use std::process::{Command, Stdio};
use zfl_experiment::Root;
use zfl_run_dir::metric::Id;
use zfl_run_dir::{ClientRow, RunSummary};

/// Examples in the help.
pub const EXAMPLES: &str = "\
Examples:
  zfl selfcheck                           every board whose firmware and emulator are there
  zfl selfcheck --board mps2-an386        one of them, beside the host

The exit status is 0 only if every board that ran made the host's model.";

#[derive(Args)]
pub struct SelfcheckArgs {
    /// Only this board, and again for more [default: all]
    #[arg(long, value_name = "NAME")]
    pub board: Vec<String>,

    /// Let a lane compute something else, to see that it is found
    #[arg(long, value_name = "NAME", hide = true)]
    pub spoil: Option<String>,
}

/// Lane of the host itself, with which the others are compared.
const HOST: &str = "native";

/// Job of each lane: two epochs over 100 examples, one of them with a batch that is not full.
const JOB: [&str; 14] = [
    "--clients",
    "1",
    "--rounds",
    "1",
    "--examples",
    "100",
    "--epochs",
    "2",
    "--batch-size",
    "32",
    "--seed",
    "1",
    "--dashboard",
    "off",
];

/// Result of a lane.
#[derive(Clone, Debug, PartialEq)]
struct Made {
    hash: String,
    /// Counted instructions of the training.
    instructions: Option<u64>,
    /// Cycles of them, where something counts those.
    cycles: Option<u64>,
}

/// Carries `zfl selfcheck` out, and returns the exit status.
///
/// # Errors
/// If the host's own lane cannot run, or a board does not exist.
pub fn selfcheck(args: &SelfcheckArgs, root: &Root) -> Result<u8> {
    let folder = tempfile::tempdir().context("cannot make a folder for the runs")?;
    let lane = |name: &str| {
        run(
            root,
            folder.path(),
            name,
            args.spoil.as_deref() == Some(name),
        )
    };
    let host = lane(HOST)
        .map_err(|(Failure::Refused(text) | Failure::Failed(text))| anyhow::anyhow!(text))?;
    output::line(&format!(
        "{:<14}{:<18}{:>14}{:>14}",
        "board", "model", "instructions", "cycles"
    ))?;
    output::line(&row(HOST, &host, "the host"))?;
    let named = !args.board.is_empty();
    let boards = match named {
        true => args.board.clone(),
        false => root.boards(),
    };
    let mut wrong = Vec::new();
    for name in boards {
        let made = match missing(root, &name)? {
            Some(reason) => Err(Failure::Refused(reason)),
            None => lane(&name),
        };
        let (line, is_right) = match made {
            Ok(made) if made.hash == host.hash => (row(&name, &made, "the same"), true),
            Ok(made) => (row(&name, &made, "ANOTHER MODEL"), false),
            // A board that was asked for has to run.
            Err(Failure::Refused(reason)) => (format!("{name:<14}not run: {reason}"), !named),
            Err(Failure::Failed(reason)) => (format!("{name:<14}failed: {reason}"), false),
        };
        output::line(&line)?;
        if !is_right {
            wrong.push(name);
        }
    }
    if wrong.is_empty() {
        return Ok(0);
    }
    output::note(&format!("error: not as the host: {}", wrong.join(", ")));
    Ok(1)
}

/// Reason for a lane without a model.
enum Failure {
    /// Something that it needs is not there.
    Refused(String),
    /// It broke.
    Failed(String),
}

/// Reason for which a board has no firmware here, if there is one.
fn missing(root: &Root, name: &str) -> Result<Option<String>> {
    let is_there = root.board(name)?.kernel.image.is_file();
    let reason = || format!("its firmware is not built: cargo xtask build-guest --board {name}");
    Ok((!is_there).then(reason))
}

/// Runs the job on one lane: a process of its own, as each run has.
fn run(root: &Root, folder: &Path, name: &str, spoil: bool) -> Result<Made, Failure> {
    let out = folder.join(name);
    let mut zfl = command(root, name).map_err(|error| Failure::Failed(error.to_string()))?;
    zfl.arg("--out").arg(&out);
    if spoil {
        zfl.args(["--lr", "0.0625"]);
    }
    let output = zfl.stdin(Stdio::null()).output();
    let output = output.map_err(|error| Failure::Failed(format!("cannot start a run: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or("no word of it").trim();
        let last = last.strip_prefix("error: ").unwrap_or(last).to_owned();
        return Err(match output.status.code() {
            Some(2) => Failure::Refused(last),
            _ => Failure::Failed(last),
        });
    }
    made(&out).map_err(|error| Failure::Failed(format!("{error:#}")))
}

/// The command of a lane's run.
fn command(root: &Root, name: &str) -> Result<Command> {
    let program = std::env::current_exe().context("cannot find zfl itself")?;
    let mut zfl = Command::new(program);
    if let Some(tree) = root.tree() {
        zfl.arg("--root").arg(tree);
    }
    zfl.arg("run").args(JOB).arg("--quiet");
    match name {
        HOST => zfl.args(["--body", HOST]),
        // Of a program of the host nothing counts instructions.
        board if root.board(board)?.is_program() => zfl.args(["--board", board]),
        board => zfl.args(["--board", board, "--time", "icount"]),
    };
    Ok(zfl)
}

/// Result that a run has written down.
fn made(out: &Path) -> Result<Made> {
    let (rows, _) = ClientRow::read(out)?;
    let counted = |id| Some(rows.first()?.values.get(id)? as u64);
    Ok(Made {
        hash: RunSummary::load(out)?.training.model_sha256,
        instructions: counted(const { Id::of("instructions") }),
        cycles: counted(const { Id::of("cycles") }),
    })
}

fn row(name: &str, made: &Made, verdict: &str) -> String {
    let hash = made.hash.get(..16).unwrap_or(&made.hash);
    let count = |count: Option<u64>| count.map_or("-".to_owned(), |n| n.to_string());
    let (instructions, cycles) = (count(made.instructions), count(made.cycles));
    format!("{name:<14}{hash:<18}{instructions:>14}{cycles:>14}  {verdict}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_hash_and_the_count() {
        let made = Made {
            hash: "0123456789abcdef0123".to_owned(),
            instructions: Some(7),
            cycles: None,
        };
        let line = row("toaster", &made, "the same");
        assert_eq!(
            line,
            "toaster       0123456789abcdef               7             -  the same"
        );
    }
}
