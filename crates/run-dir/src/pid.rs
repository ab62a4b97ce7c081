//! The process that makes a run.
//!
//! A run under way has a file [`PID_FILE`] in its directory, with the number of its outermost process and
//! the time at which that was started, so that a number that the system has given to another process
//! since is told apart.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The file in a run directory that tells which process makes it.
pub const PID_FILE: &str = "pid";

/// The pid file of a run of this process: marks its directory as under way until it is dropped.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes the file into `run`.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn write(run: &Path) -> Result<Self> {
        let path = run.join(PID_FILE);
        let pid = std::process::id();
        let started = started(pid).context("read this process's own /proc/PID/stat")?;
        fs::write(&path, format!("{pid} {started}\n"))
            .with_context(|| format!("write {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // A directory that was removed meanwhile needs no mark taken away.
        let _ = fs::remove_file(&self.0);
    }
}

/// The process that makes the run in a directory, if one does.
pub fn process_of(run: &Path) -> Option<u32> {
    let text = fs::read_to_string(run.join(PID_FILE)).ok()?;
    let (pid, since) = text.trim().split_once(' ')?;
    let (pid, since) = (pid.parse().ok()?, since.parse().ok()?);
    (started(pid) == Some(since)).then_some(pid)
}

/// Start of a process in ticks since the system's boot; none if it is gone.
pub fn started(pid: u32) -> Option<u64> {
    started_by(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Fields 3 and 22 of `/proc/PID/stat`: the state, and the start.
fn started_by(stat: &str) -> Option<u64> {
    // The name, in parentheses, may hold anything; behind it the fields count from 3.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    // What has ended and was not waited for yet runs nothing any more.
    let alive = !matches!(fields.next()?, "Z" | "X");
    fields.nth(22 - 4)?.parse().ok().filter(|_| alive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_nobody_waits_for_runs_nothing() {
        let stat = |state: &str| {
            format!("7 (a) b) {state} 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20\n")
        };
        assert_eq!(started_by(&stat("S")), Some(4711));
        assert_eq!(started_by(&stat("Z")), None);
        assert!(started(std::process::id()).is_some());
    }

    #[test]
    fn a_number_given_to_another_process_is_told_apart() {
        let run = tempfile::tempdir().unwrap();
        let pid = std::process::id();
        let write = |since: u64| fs::write(run.path().join(PID_FILE), format!("{pid} {since}\n"));
        write(1).unwrap();
        assert_eq!(process_of(run.path()), None);
        write(started(pid).unwrap()).unwrap();
        assert_eq!(process_of(run.path()), Some(pid));
    }
}
