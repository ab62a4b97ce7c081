//! Jail of the machines: what a guest that breaks out of its emulator finds, which is next to nothing.
//!
//! | | in namespaces | without |
//! |---|---|---|
//! | capabilities, privileges to gain, core dumps, other descriptors | none | none |
//! | files | a root with the emulator, its libraries and the image, read-only | Landlock: those, to read |
//! | processes | it alone | Landlock, from Linux 6.12 on: no signals |
//! | network | an empty one | Landlock, from Linux 6.7 on: no TCP |
//! | user, where zfl runs as root | one of its own | one of its own |
//!
//! The emulator's own filter of system calls comes on top of it (`-sandbox`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::geteuid;

use crate::plan::Isolation;
use crate::room::Room;
use crate::sys::{self, Confinement};

/// Files of the host that a machine finds.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Files and folders, by absolute paths.
    pub paths: BTreeSet<PathBuf>,
    /// Files that are copied when the jail is made, with what is in them.
    pub copies: BTreeMap<PathBuf, Vec<u8>>,
    /// Devices, to read, to write and to control.
    pub devices: BTreeSet<PathBuf>,
}

impl Contents {
    /// Takes in what other machines of the same jail need.
    pub fn add(&mut self, other: Self) {
        self.paths.extend(other.paths);
        self.copies.extend(other.copies);
        self.devices.extend(other.devices);
    }

    /// Paths that lie in no other; nothing must be made inside a folder of the host.
    pub(crate) fn outermost(&self) -> impl Iterator<Item = &Path> {
        let paths = self.paths.iter().map(PathBuf::as_path);
        paths.filter(|path| !self.is_inside(path) && !self.copies.contains_key(*path))
    }

    /// Copies that lie in none of the paths.
    pub(crate) fn copied(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        let copies = self.copies.iter();
        let copies = copies.map(|(path, bytes)| (path.as_path(), &bytes[..]));
        copies.filter(|(path, _)| !self.is_inside(path))
    }

    /// Group that may use the devices.
    fn group(&self) -> Option<u32> {
        let device = self.devices.first()?;
        Some(std::fs::metadata(device).ok()?.gid())
    }

    fn is_inside(&self, path: &Path) -> bool {
        let mut above = path.ancestors().skip(1);
        above.any(|above| self.paths.contains(above))
    }
}

/// Confinement that the machines of a fleet share.
#[derive(Debug, Default)]
pub struct Jail {
    /// Namespaces of mounts and the network, and the PID namespace that this process is in.
    apart: Option<(Room, OwnedFd)>,
    /// Rules of Landlock.
    rules: Option<OwnedFd>,
    users: Option<Users>,
    /// Group that a machine is in besides its own.
    group: Option<u32>,
    merges: bool,
}

impl Jail {
    /// Jail with a root of its own and PID namespaces.
    ///
    /// # Errors
    /// Reason why it cannot be had.
    pub fn apart(contents: &Contents) -> io::Result<Self> {
        let pids = File::open("/proc/self/ns/pid")?;
        Ok(Self {
            apart: Some((Room::of(contents)?, pids.into())),
            users: Users::own(),
            group: contents.group(),
            ..Self::default()
        })
    }

    /// Jail in which Landlock keeps a machine from files, TCP and other processes, as far as this kernel can.
    ///
    /// # Errors
    /// Reason why it cannot be had.
    pub fn by_rules(contents: &Contents) -> io::Result<Self> {
        Ok(Self {
            rules: Some(crate::rules::of(contents)?),
            users: Users::own(),
            group: contents.group(),
            ..Self::default()
        })
    }

    /// The best jail for machines of a fleet in this isolation that `works`, and what it lacks, each with the
    /// reason.
    pub fn best(
        isolation: Isolation,
        contents: &Contents,
        works: impl Fn(&Self) -> io::Result<()>,
    ) -> (Self, Vec<(&'static str, String)>) {
        let mut lacks = Vec::new();
        type Make = fn(&Contents) -> io::Result<Jail>;
        let kinds: [(&str, Make); 2] = [
            ("a root and namespaces of its own", Self::apart),
            ("rules about files (Landlock)", Self::by_rules),
        ];
        let first = usize::from(isolation == Isolation::None);
        for (without, make) in kinds.into_iter().skip(first) {
            match make(contents).and_then(|jail| works(&jail).map(|()| jail)) {
                Ok(jail) => {
                    lacks.extend(crate::rules::lacks().filter(|_| jail.rules.is_some()));
                    return (jail, lacks);
                }
                Err(why) => lacks.push((without, why.to_string())),
            }
        }
        (Self::default(), lacks)
    }

    /// The same with the memory of the machines merged where it is equal, at the price of its random layout: see
    /// [`merges_memory`](crate::merges_memory).
    #[must_use]
    pub fn merging(mut self, merges: bool) -> Self {
        self.merges = merges;
        self
    }

    /// Starts a machine, which dies with the thread that calls this.
    ///
    /// It has the descriptors `given`, under the same numbers, and no others. `number` tells the machines
    /// of a fleet apart.
    pub fn spawn(&self, command: &mut Command, given: &[RawFd], number: u32) -> io::Result<Child> {
        let confinement = Confinement {
            given: given.to_vec(),
            rooms: self.apart.as_ref().map(|(room, _)| room.fds()),
            is_first: self.apart.is_some(),
            user: self.users.map(|users| users.of(number)),
            group: self.group,
            rules: self.rules.as_ref().map(AsRawFd::as_raw_fd),
            merges: self.merges,
        };
        sys::confine(command, confinement);
        match &self.apart {
            None => command.spawn(),
            Some((_, own_pids)) => {
                // For the next process that this thread starts; from one such namespace there is no way
                // to another but through its own.
                unshare(CloneFlags::CLONE_NEWPID)?;
                let child = command.spawn();
                setns(own_pids, CloneFlags::CLONE_NEWPID)?;
                child
            }
        }
    }
}

/// Users that machines run as, where zfl is root.
#[derive(Clone, Copy, Debug)]
enum Users {
    /// One for each, from this number on.
    From(u32),
    /// One for all.
    Nobody,
}

impl Users {
    /// First number, above all that systems give to people, services and containers.
    const FIRST: u32 = 1_900_000_000;
    const COUNT: u32 = 100_000_000;
    const NOBODY: u32 = 65_534;

    fn own() -> Option<Self> {
        let maps = ["uid_map", "gid_map"]
            .map(|file| std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default());
        let has = |first, count| maps.iter().all(|map| is_mapped(map, first, count));
        if !geteuid().is_root() {
            None
        } else if has(Self::FIRST, Self::COUNT) {
            Some(Self::From(Self::FIRST))
        } else {
            has(Self::NOBODY, 1).then_some(Self::Nobody)
        }
    }

    fn of(self, number: u32) -> u32 {
        match self {
            Self::From(first) => first + number % Self::COUNT,
            Self::Nobody => Self::NOBODY,
        }
    }
}

/// Tells if a user namespace has these numbers, by its `uid_map` or `gid_map`.
fn is_mapped(map: &str, first: u32, count: u32) -> bool {
    let last = u64::from(first) + u64::from(count) - 1;
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(from)), Some(Ok(_)), Some(Ok(length))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return false;
        };
        from <= u64::from(first) && last < from + length
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_made_inside_a_folder_of_the_host() {
        let paths = ["/usr/share/qemu", "/usr/share/qemu/bios.bin", "/usr/lib/x"];
        let mut contents = Contents {
            paths: paths.iter().map(PathBuf::from).collect(),
            ..Contents::default()
        };
        for path in ["/usr/lib/x/image", "/home/image"] {
            contents.copies.insert(path.into(), vec![]);
        }
        let copied: Vec<&Path> = contents.copied().map(|(path, _)| path).collect();
        assert_eq!(copied, [Path::new("/home/image")]);
        let outermost: Vec<&Path> = contents.outermost().collect();
        assert_eq!(
            outermost,
            [Path::new("/usr/lib/x"), Path::new("/usr/share/qemu")]
        );
    }

    #[test]
    fn numbers_of_users_are_looked_up_in_the_map() {
        let all = "         0          0 4294967295\n";
        assert!(is_mapped(all, Users::FIRST, Users::COUNT));
        let container = "0 100000 65536\n";
        assert!(!is_mapped(container, Users::FIRST, 1));
        assert!(is_mapped(container, Users::NOBODY, 1));
        assert!(!is_mapped("1000 1000 1\n", Users::NOBODY, 1));
        assert!(!is_mapped("nonsense\n", 0, 1));
    }
}
