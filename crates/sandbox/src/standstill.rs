//! Standstill: a fleet stops with the process that the user started, and goes on with it.
//!
//! ^Z and a batch system stop that process alone: the fleet is in a process group and namespaces of its
//! own. Nothing that is stopped can tell of it, so `init` looks at the state of the outer process, several
//! times in the blink of an eye. It stops `inner` first, which from then on starts and ends nothing, and
//! then whatever `inner` has started; a machine that was frozen on purpose is left as it is, and stays
//! frozen afterwards.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Interval at which the outer process is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The state of the outer process, from wherever it is read.
#[derive(Debug)]
pub(crate) struct Outer(File);

impl Outer {
    /// This process, for those that it forks.
    pub fn this() -> io::Result<Self> {
        File::open("/proc/self/stat").map(Self)
    }

    fn is_stopped(&self) -> bool {
        let mut stat = [0; 512];
        // It is gone if this fails; that ends the fleet in another way.
        let read = self.0.read_at(&mut stat, 0).unwrap_or(0);
        state(&String::from_utf8_lossy(&stat[..read])) == Some('T')
    }
}

/// A fleet that stands still whenever the outer process does.
#[derive(Debug)]
pub(crate) struct Standstill {
    outer: Outer,
    inner: Pid,
    /// Processes that were stopped here, `inner` last.
    stopped: BTreeSet<Pid>,
    inner_stopped: bool,
}

impl Standstill {
    pub fn new(outer: Outer, inner: Pid) -> Self {
        Self {
            outer,
            inner,
            stopped: BTreeSet::new(),
            inner_stopped: false,
        }
    }

    /// Does to the fleet what was done to the outer process.
    pub fn follow(&mut self) {
        match (self.outer.is_stopped(), state_of(self.inner)) {
            (true, Some('T')) => self.stop_machines(),
            (true, _) => {
                self.inner_stopped = true;
                send(self.inner, Signal::SIGSTOP);
            }
            (false, _) => self.resume(),
        }
    }

    /// Stops what runs below `inner`, which stands still.
    fn stop_machines(&mut self) {
        for machine in below(self.inner) {
            if !matches!(state_of(machine), Some('T' | 't' | 'Z' | 'X') | None) {
                send(machine, Signal::SIGSTOP);
                self.stopped.insert(machine);
            }
        }
    }

    fn resume(&mut self) {
        if !self.stopped.is_empty() {
            let there = below(self.inner);
            let stopped = std::mem::take(&mut self.stopped);
            // One that was killed meanwhile may have left its number to another process.
            for &machine in stopped.intersection(&there) {
                send(machine, Signal::SIGCONT);
            }
        }
        if std::mem::take(&mut self.inner_stopped) {
            send(self.inner, Signal::SIGCONT);
        }
    }
}

fn send(to: Pid, signal: Signal) {
    // It may have ended just now.
    let _ = kill(to, signal);
}

/// Processes below one, at any depth.
fn below(ancestor: Pid) -> BTreeSet<Pid> {
    let (mut found, mut open) = (BTreeSet::new(), vec![ancestor]);
    while let Some(parent) = open.pop() {
        for child in children(parent) {
            if found.insert(child) {
                open.push(child);
            }
        }
    }
    found
}

/// Children of all threads of a process; none if it is gone.
fn children(parent: Pid) -> Vec<Pid> {
    let threads = fs::read_dir(format!("/proc/{parent}/task"));
    let threads = threads.into_iter().flatten().flatten();
    let lists = threads.map(|thread| fs::read_to_string(thread.path().join("children")));
    let lists: Vec<String> = lists.filter_map(Result::ok).collect();
    let numbers = lists.iter().flat_map(|list| list.split_whitespace());
    numbers
        .filter_map(|pid| pid.parse().ok().map(Pid::from_raw))
        .collect()
}

fn state_of(pid: Pid) -> Option<char> {
    state(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The third field of `/proc/PID/stat`. The second, a name in parentheses, may hold anything.
fn state(stat: &str) -> Option<char> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.trim_start().chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    struct Ended(Child);

    impl Drop for Ended {
        fn drop(&mut self) {
            let _ = self.0.kill().and_then(|()| self.0.wait());
        }
    }

    /// A process with two children of its own.
    fn family() -> (Ended, Pid) {
        let script = "sleep 1000 & sleep 1000 & wait";
        let child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        (Ended(child), pid)
    }

    fn until(mut done: impl FnMut() -> bool) {
        while !done() {
            std::thread::yield_now();
        }
    }

    fn is_stopped(pid: Pid) -> bool {
        state_of(pid) == Some('T')
    }

    #[test]
    fn a_fleet_stops_and_goes_on_with_the_outer_process_but_for_the_frozen() {
        let mut outer = Command::new("sleep").arg("1000").spawn().unwrap();
        let outer_pid = Pid::from_raw(outer.id().cast_signed());
        let stat = File::open(format!("/proc/{outer_pid}/stat")).unwrap();
        let (_family, inner) = family();
        until(|| below(inner).len() == 2);
        let machines: Vec<Pid> = below(inner).into_iter().collect();
        kill(machines[0], Signal::SIGSTOP).unwrap();
        until(|| is_stopped(machines[0]));
        let mut fleet = Standstill::new(Outer(stat), inner);
        fleet.follow();
        assert!(!is_stopped(machines[1]) && fleet.stopped.is_empty());

        kill(outer_pid, Signal::SIGSTOP).unwrap();
        until(|| {
            fleet.follow();
            is_stopped(inner) && machines.iter().all(|&machine| is_stopped(machine))
        });
        assert_eq!(fleet.stopped, BTreeSet::from([machines[1]]));

        kill(outer_pid, Signal::SIGCONT).unwrap();
        until(|| {
            fleet.follow();
            !is_stopped(inner) && !is_stopped(machines[1])
        });
        assert!(is_stopped(machines[0]), "it was frozen on purpose");
        for machine in machines {
            kill(machine, Signal::SIGKILL).unwrap();
        }
        let _ = outer.kill().and_then(|()| outer.wait());
    }

    #[test]
    fn a_state_is_read_behind_any_name() {
        assert_eq!(state("7 (a) T b) S 1 2"), Some('S'));
        assert_eq!(state(""), None);
    }
}
