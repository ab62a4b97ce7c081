//! Jobs of Slurm: their script, and handing it in.

use crate::agent::TOKEN;
use crate::{command, output};
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};
use zfl_experiment::{Refusal, require};

/// Flags of `zfl launch` that its nodes have not; those with a value in the next argument first.
const WITH_VALUE: [&str; 3] = ["-N", "--nodes", "--sbatch"];
const ALONE: [&str; 1] = ["--print"];

/// Arguments of this program but the word `launch`. Those before it are global, such as --root.
///
/// # Errors
/// A [`Refusal`] if one is no text, which alone a script takes.
fn given() -> Result<Vec<String>, Refusal> {
    let given = std::env::args_os().skip(1).map(OsString::into_string);
    let given: Result<Vec<_>, _> = given.collect();
    let mut given = given.map_err(|argument| {
        let shown = argument.display();
        Refusal(format!(
            "{shown}: a job's script takes text alone: rename it"
        ))
    })?;
    if let Some(at) = given.iter().position(|argument| argument == "launch") {
        given.remove(at);
    }
    Ok(given)
}

/// The script of a job on so many nodes.
///
/// # Errors
/// A [`Refusal`] if an option of sbatch is none.
pub fn script(name: &str, nodes: u32, options: &[String]) -> Result<String> {
    let program = std::env::current_exe().context("the path of this program")?;
    let program = command::quoted_path(&program);
    let arguments = arguments(given()?.into_iter());
    let mut lines = String::new();
    for option in options {
        let is_plain = option.starts_with('-') && !option.contains(char::is_control);
        require(is_plain, || {
            format!("--sbatch {option}: give an option of sbatch, such as --sbatch=--time=1:00:00")
        })?;
        lines += &format!("#SBATCH {option}\n");
    }
    let name: String = name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c))
        .collect();
    Ok(format!(
        "#!/bin/sh
#SBATCH --job-name=zfl-{name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks={nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --output=zfl-%j.log
# The run goes on when a node is lost.
#SBATCH --no-kill
# All of each node. On a share of it instead: --cpus-per-task=8 and --mem=8G.
#SBATCH --exclusive
{lines}
# A secret of this job's own, which no file has.
{TOKEN}=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \\n')
export {TOKEN}

# A node of zfl on each node of the job, and the root beside the first.
srun --ntasks={nodes} --ntasks-per-node=1 --no-kill --kill-on-bad-exit=0 \\
    {program} agent --only node &
{program} agent --only root {arguments}
status=$?
# All nodes have ended by now but lost ones, for which Slurm would wait.
kill $! 2> /dev/null
exit $status
"
    ))
}

/// The arguments of `zfl launch` that are those of its nodes, as a shell takes them.
fn arguments(given: impl Iterator<Item = String>) -> String {
    let mut kept = Vec::new();
    let mut given = given.peekable();
    while let Some(argument) = given.next() {
        let name = argument.split('=').next().unwrap_or_default();
        let is_short = argument.starts_with("-N");
        if WITH_VALUE.contains(&name) || is_short {
            if argument == name && WITH_VALUE.contains(&name) {
                given.next();
            }
            continue;
        }
        if !ALONE.contains(&name) {
            kept.push(command::quoted(&argument));
        }
    }
    kept.join(" ")
}

/// Hands a job in, and says which number it has.
///
/// # Errors
/// A [`Refusal`] if there is no Slurm here, or it takes no such job.
pub fn submit(script: &str) -> Result<()> {
    let mut sbatch = Command::new("sbatch");
    let sbatch = sbatch
        .arg("--parsable")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = match sbatch.spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let why = "no sbatch here: start it where Slurm is, take the script of --print there, or give --local N for \
                       nodes on this machine";
            return Err(Refusal(why.to_owned()).into());
        }
        child => child.context("start sbatch")?,
    };
    let mut to = child.stdin.take().context("sbatch takes no script")?;
    to.write_all(script.as_bytes())
        .context("hand the script to sbatch")?;
    drop(to);
    let answer = child.wait_with_output().context("sbatch")?;
    if !answer.status.success() {
        bail!("sbatch did not take the job: the reason is above");
    }
    let number = String::from_utf8_lossy(&answer.stdout);
    let number = number
        .trim()
        .split(';')
        .next()
        .unwrap_or_default()
        .to_owned();
    output::line(&format!(
        "job {number}; follow it with: tail -F zfl-{number}.log, end it with: scancel {number}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_get_the_experiment_and_its_flags_alone() {
        let given = [
            "-N",
            "3",
            "my experiment.toml",
            "--print",
            "--seed",
            "7",
            "--sbatch=--time=1",
            "--sbatch",
            "-p x",
            "-N4",
            "--nodes=5",
        ];
        let kept = arguments(given.map(str::to_owned).into_iter());
        assert_eq!(kept, "'my experiment.toml' --seed 7");
    }
}
