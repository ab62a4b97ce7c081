//! Resources that a run holds of the system, from `/proc`.

use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

/// The namespaces that zfl makes.
const NAMESPACES: [&str; 4] = ["net", "pid", "mnt", "user"];

/// A process: its ID and the time of its start, which tells it from a later one with the same ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub pid: u32,
    started: u64,
}

/// Everything that a run holds while it goes on and that nothing may hold behind it.
#[derive(Debug, Default)]
pub struct Footprint {
    pub processes: BTreeSet<Process>,
    /// As `/proc` names them: `net:[4026532000]`.
    pub namespaces: BTreeSet<String>,
    /// Open FIFOs, pipes and sockets: name, device and inode, for names alone are not unique.
    pub channels: BTreeSet<String>,
    /// State of the host before the run.
    before: Visible,
}

/// Traces of a run that are visible outside its namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Visible {
    interfaces: BTreeSet<String>,
    folders: BTreeSet<PathBuf>,
}

impl Footprint {
    /// Reads the resources of a process and its descendants.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn of(pid: u32) -> Result<Self> {
        let own = std::process::id();
        let (namespaces_here, channels_here) = (namespaces(own), channels(own));
        let mut print = Self {
            processes: descendants(pid)?,
            before: Visible::now()?,
            ..Self::default()
        };
        print
            .processes
            .extend(look(pid).map(|(_, process)| process));
        for process in &print.processes {
            print.namespaces.extend(namespaces(process.pid));
            print.channels.extend(channels(process.pid));
        }
        // What was handed down from here is not the run's.
        print
            .namespaces
            .retain(|name| !namespaces_here.contains(name));
        print.channels.retain(|name| !channels_here.contains(name));
        Ok(print)
    }

    /// Description of the remains, in words.
    ///
    /// Taps and the switch's sockets are in the network namespace, FIFOs in the mount namespace: they
    /// have no name elsewhere, and are gone when no process, descriptor or mount holds those.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn left(&self) -> Result<Vec<String>> {
        let mut left: Vec<String> = self
            .processes
            .iter()
            .filter(|process| is_alive(**process))
            .map(|process| format!("process {}", process.pid))
            .collect();
        if !left.is_empty() {
            // Looking at every descriptor takes a while, and is of no use yet.
            return Ok(left);
        }
        // A namespace of processes is kept by one that has ended and was not collected, too.
        for pid in pids()?.into_iter().filter(|pid| look(*pid).is_some()) {
            let held = namespaces(pid).into_iter().chain(channels(pid));
            let held =
                held.filter(|name| self.namespaces.contains(name) || self.channels.contains(name));
            left.extend(held.map(|name| format!("{name} in process {pid}")));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
        let mounted = self.namespaces.iter().filter(|name| mounts.contains(*name));
        left.extend(mounted.map(|name| format!("{name}, mounted")));
        left.extend(Visible::now()?.beyond(&self.before));
        Ok(left)
    }

    /// True while the system lists an ended process of the run that its parent,
    /// by now the system's process 1, has not asked for yet.
    pub fn is_listed(&self) -> bool {
        let listed =
            |process: &Process| stat(process.pid).is_some_and(|now| now.started == process.started);
        self.processes.iter().any(listed)
    }
}

impl Visible {
    fn now() -> Result<Self> {
        let devices = fs::read_to_string("/proc/net/dev").context("/proc/net/dev")?;
        let entries =
            fs::read_dir(std::env::temp_dir()).context("the folder of temporary files")?;
        let ours = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            name.starts_with(b"zfl-")
        };
        Ok(Self {
            interfaces: interfaces(&devices),
            folders: entries
                .flatten()
                .map(|entry| entry.path())
                .filter(ours)
                .collect(),
        })
    }

    fn beyond(&self, before: &Self) -> Vec<String> {
        let interfaces = self.interfaces.difference(&before.interfaces);
        let folders = self.folders.difference(&before.folders);
        interfaces
            .map(|name| format!("interface {name}"))
            .chain(folders.map(|path| path.display().to_string()))
            .collect()
    }
}

/// The names in `/proc/net/dev`.
fn interfaces(devices: &str) -> BTreeSet<String> {
    let names = devices.lines().filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.trim().to_owned()).collect()
}

fn pids() -> Result<Vec<u32>> {
    let entries = fs::read_dir("/proc").context("cannot list /proc")?;
    let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    Ok(entries.flatten().filter_map(pid).collect())
}

/// All processes that descend from `ancestor`, whatever namespaces they are in.
///
/// # Errors
/// If `/proc` cannot be read.
fn descendants(ancestor: u32) -> Result<BTreeSet<Process>> {
    let mut children = BTreeMap::<u32, Vec<Process>>::new();
    // A process that has ended since is none.
    for (parent, process) in pids()?.into_iter().filter_map(look) {
        children.entry(parent).or_default().push(process);
    }
    let (mut found, mut pending) = (BTreeSet::new(), vec![ancestor]);
    while let Some(parent) = pending.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            pending.push(child.pid);
            found.insert(child);
        }
    }
    Ok(found)
}

/// A process and all that descend from it, if it is there.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn family(pid: u32) -> Result<Vec<u32>> {
    let Some((_, process)) = look(pid) else {
        return Ok(Vec::new());
    };
    let mut family = vec![process.pid];
    family.extend(descendants(pid)?.into_iter().map(|process| process.pid));
    Ok(family)
}

fn is_alive(process: Process) -> bool {
    look(process.pid).is_some_and(|(_, now)| now == process)
}

/// The parent of a process, and the process; `None` if it has ended.
fn look(pid: u32) -> Option<(u32, Process)> {
    let stat = stat(pid)?;
    let started = stat.started;
    (!stat.ended).then_some((stat.parent, Process { pid, started }))
}

/// Contents of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// True for a process that has ended and waits for its parent. It holds nothing.
    ended: bool,
    parent: u32,
    started: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Processor time of all children that have ended and were waited for, and of theirs, in seconds.
///
/// # Errors
/// If `/proc` does not tell.
pub fn cpu_of_children() -> Result<f64> {
    /// Of a clock tick, the unit of `/proc` on every Linux.
    const SECONDS: f64 = 0.01;
    let text = fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    let ticks = children_ticks(&text).context("/proc/self/stat has no times of children")?;
    Ok(ticks as f64 * SECONDS)
}

fn children_ticks(stat: &str) -> Option<u64> {
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    Some(fields.get(13)?.parse::<u64>().ok()? + fields.get(14)?.parse::<u64>().ok()?)
}

fn parse_stat(stat: &str) -> Option<Stat> {
    // The second field, the name, may have anything in it, but the last bracket is its end.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    Some(Stat {
        ended: matches!(*fields.first()?, "Z" | "X"),
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

/// The namespaces that a process is in or holds open. What cannot be read has ended.
fn namespaces(pid: u32) -> BTreeSet<String> {
    let link = |kind: &&str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    let within = NAMESPACES.iter().filter_map(link);
    let held = descriptors(pid).into_iter().filter(|name| {
        let name = name.to_string_lossy();
        NAMESPACES
            .iter()
            .any(|kind| name.starts_with(&format!("{kind}:[")))
    });
    within
        .chain(held)
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

/// The FIFOs, pipes and sockets that a process has open.
fn channels(pid: u32) -> BTreeSet<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"));
    let channel = |entry: fs::DirEntry| {
        // Through the link, to what is open.
        let open = fs::metadata(entry.path()).ok()?;
        let kind = open.file_type();
        let name = fs::read_link(entry.path()).ok()?;
        // Each run has FIFOs of the same names, in a file system of its own.
        let name = format!("{} ({}:{})", name.display(), open.dev(), open.ino());
        (kind.is_fifo() || kind.is_socket()).then_some(name)
    };
    entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(channel)
        .collect()
}

fn descriptors(pid: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"));
    let entries = entries.into_iter().flatten().flatten();
    entries
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::process::{Command, Stdio};

    #[test]
    fn reads_a_process() {
        let stat = |state: &str| format!("7 (a) b) {state} 1 {}4711 20\n", "0 ".repeat(17));
        let expected = |ended| Stat {
            ended,
            parent: 1,
            started: 4711,
        };
        assert_eq!(parse_stat(&stat("S")), Some(expected(false)));
        assert_eq!(parse_stat(&stat("Z")), Some(expected(true)));
        assert_eq!(parse_stat(""), None);
        let numbered: Vec<String> = (3..53).map(|n| n.to_string()).collect();
        let text = format!("7 (a) b) {}", numbered.join(" "));
        assert_eq!(
            children_ticks(&text),
            Some(16 + 17),
            "fields 16 and 17 of proc(5)"
        );
    }

    #[test]
    fn reads_interfaces() {
        let text = "Inter-| Receive\n face |bytes\n    lo: 1 2\nzfl0: 3 4\n";
        let names: Vec<_> = interfaces(text).into_iter().collect();
        assert_eq!(names, ["lo", "zfl0"]);
    }

    #[test]
    fn a_footprint_is_there_until_its_processes_are_gone() {
        let child = Command::new("cat").stdin(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let print = Footprint::of(child.id()).unwrap();
        assert_eq!(print.processes.len(), 1);
        assert_eq!(print.left().unwrap(), [format!("process {}", child.id())]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            !print
                .left()
                .unwrap()
                .iter()
                .any(|what| what.starts_with("process"))
        );
    }

    #[test]
    fn who_holds_a_pipe_is_named() {
        let (_here, there) = std::io::pipe().unwrap();
        let own = std::process::id();
        let link = fs::read_link(format!("/proc/self/fd/{}", there.as_raw_fd())).unwrap();
        let link = link.to_string_lossy();
        let mut open = channels(own).into_iter();
        let name = open.find(|name| name.starts_with(&*link)).unwrap();
        let print = Footprint {
            channels: [name.clone()].into(),
            before: Visible::now().unwrap(),
            ..Footprint::default()
        };
        let expected = format!("{name} in process {own}");
        assert!(print.left().unwrap().contains(&expected));
        drop(there);
    }
}
