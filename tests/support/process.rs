//! Processes, as /proc and kill(1) see them.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// Far more than any run of these tests takes, also on a machine that is busy.
pub const LIMIT: Duration = Duration::from_secs(900);

/// A process: its ID and the time of its start, which tells it from a later one with the same ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub command_line: String,
    started: u64,
}

/// A child that is killed when the test ends.
#[derive(Debug)]
pub struct Guarded(Child);

impl Guarded {
    /// Starts a command.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let started = command.spawn();
        Self(started.unwrap_or_else(|error| panic!("{command:?} does not start: {error}")))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Its exit status, once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("the child is ours")
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it hangs.
    #[track_caller]
    pub fn finish(&mut self) -> ExitStatus {
        wait_until("the program ends", LIMIT, || self.ended())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.ended().is_none() {
            // Either may fail only because it has just ended by itself.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// All processes that descend from `ancestor`, whatever namespaces they are in, parents before their
/// children.
pub fn descendants(ancestor: u32) -> Vec<Process> {
    let mut children = BTreeMap::<u32, Vec<Process>>::new();
    for entry in fs::read_dir("/proc").expect("/proc is there").flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A process that has ended since is none.
        if let Some((parent, process)) = look(pid) {
            children.entry(parent).or_default().push(process);
        }
    }
    let mut found = Vec::new();
    let mut pending = vec![ancestor];
    while let Some(parent) = pending.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            pending.push(child.pid);
            found.push(child);
        }
    }
    found
}

/// True while the process runs. A process that has ended and waits to be collected counts as ended.
pub fn is_alive(process: &Process) -> bool {
    look(process.pid).is_some_and(|(_, now)| now.started == process.started)
}

/// True while the process is stopped by a signal.
pub fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, fields)| fields.starts_with('T'))
}

/// Sends a signal: `KILL`, `STOP`, `INT` …
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "no process {pid} to send {name} to"
    );
}

/// Waits until `done` gives something.
///
/// # Panics
/// If that takes longer than the limit.
#[track_caller]
pub fn wait_until<T>(what: &str, limit: Duration, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(result) = done() {
            return result;
        }
        assert!(
            Instant::now() < deadline,
            "no sign of this within {limit:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The parent of a process, and the process; `None` if it has ended.
fn look(pid: u32) -> Option<(u32, Process)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the name, may have anything in it, but the last bracket is its end.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let (state, parent, started) = (fields.first()?, fields.get(1)?, fields.get(19)?);
    if matches!(*state, "Z" | "X") {
        return None;
    }
    let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command_line = String::from_utf8_lossy(&words).replace('\0', " ");
    Some((
        parent.parse().ok()?,
        Process {
            pid,
            command_line,
            started: started.parse().ok()?,
        },
    ))
}
