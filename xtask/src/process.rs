//! Running other programs.

use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Runs a command to its end with its output on the terminal.
///
/// # Errors
/// If it cannot be started or ends with anything but success; the message has the command.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", line(command)))?;
    succeeded(command, status)
}

/// Runs a command to its end and returns what it wrote on standard output.
///
/// # Errors
/// As [`run`].
pub fn output(command: &mut Command) -> Result<String> {
    quiet_output(command.stderr(Stdio::inherit()))
}

/// As [`output`], with the command's complaints kept from the terminal: for a question that may well
/// be answered with no.
///
/// # Errors
/// As [`run`].
pub fn quiet_output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", line(command)))?;
    succeeded(command, output.status)?;
    String::from_utf8(output.stdout).with_context(|| format!("{} wrote no UTF-8", line(command)))
}

/// Runs a command to its end, passes its standard output on, and shows each line to `see`.
///
/// Returns whether it succeeded: a failed test run still has results to count.
///
/// # Errors
/// If it cannot be started or its output cannot be read.
pub fn watch(command: &mut Command, mut see: impl FnMut(&str)) -> Result<bool> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", line(command)))?;
    let out = child.stdout.take().context("no pipe to the program")?;
    for text in BufReader::new(out).lines() {
        let text = text.with_context(|| format!("cannot read from {}", line(command)))?;
        writeln!(std::io::stdout(), "{text}")?;
        see(&text);
    }
    Ok(child.wait()?.success())
}

/// Runs a command silently; `true` if it succeeds within `limit`, after which it is killed.
pub fn succeeds_within(command: &mut Command, limit: Duration) -> bool {
    let silent = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let Ok(mut child) = silent.spawn() else {
        return false;
    };
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            _ => {
                // Either may fail only because the process has just ended by itself.
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}

/// The file that a program's name stands for in the `PATH`.
pub fn which(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let mut files = std::env::split_paths(&folders).map(|folder| folder.join(program));
    files.find(|file| file.is_file())
}

/// True if a program can be started.
pub fn exists(program: &str) -> bool {
    succeeds_within(
        Command::new(program).arg("--version"),
        Duration::from_secs(20),
    )
}

/// The command as one would type it.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

fn succeeded(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("`{}` failed ({status})", line(command));
    }
    Ok(())
}
