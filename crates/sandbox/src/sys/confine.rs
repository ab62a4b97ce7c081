//! Steps of a process on its way from fork to exec, after which it can do next to nothing.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Gid, Pid, Uid, getpid, getppid, setgroups, setpgid, setresgid, setresuid};

/// Confinement of one process. Whoever makes it keeps its descriptors open until the process is spawned.
#[derive(Debug, Default)]
pub(crate) struct Confinement {
    /// Descriptors that the process has, under the same numbers; it has no others but 0, 1 and 2. Files among
    /// them become no longer than the longest of them is.
    pub(crate) given: Vec<RawFd>,
    /// Namespaces to be in: of mounts and of the network.
    pub(crate) rooms: Option<[RawFd; 2]>,
    /// It is the first process of a PID namespace, and so sees no parent.
    pub(crate) is_first: bool,
    /// User and group of its own.
    pub(crate) user: Option<u32>,
    /// Group that such a user is in besides its own.
    pub(crate) group: Option<u32>,
    /// Rules of Landlock.
    pub(crate) rules: Option<RawFd>,
    /// Its memory is merged with that of others, for which it lies where theirs does.
    pub(crate) merges: bool,
}

/// Confines a process on its way to exec.
///
/// It dies with the thread that spawns it; a Ctrl-C on the terminal does not reach it (it is a
/// process group of its own); it has no transparent huge pages, which would cost 3 MB a guest; it runs in
/// [long slices](run_long); it has no capability and can gain none; it leaves no core dump.
pub(crate) fn confine(command: &mut Command, confinement: Confinement) {
    let parent = getpid();
    let longest = longest_file(&confinement.given);
    let confine = move || {
        setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
        prctl::set_thp_disable(true)?;
        run_long();
        if confinement.merges {
            merge()?;
        }
        setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
        longest.map_or(Ok(()), |octets| {
            setrlimit(Resource::RLIMIT_FSIZE, octets, octets)
        })?;
        enter(confinement.rooms)?;
        drop_privileges(confinement.user, confinement.group)?;
        confinement.rules.map_or(Ok(()), restrict)?;
        // After the change of user, which would take it back.
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        if !confinement.is_first && getppid() != parent {
            return Err(io::ErrorKind::NotFound.into());
        }
        keep_only(&confinement.given)
    };
    // SAFETY: between fork and exec only system calls are made; nothing is allocated and no lock
    // is taken (the vector was made before, errors carry a number).
    unsafe { command.pre_exec(confine) };
}

/// Length of the longest file among these descriptors, in bytes; `None` if none is a file.
fn longest_file(given: &[RawFd]) -> Option<u64> {
    let files = given.iter().filter_map(|&fd| fstat(borrow(fd)).ok());
    let files = files
        .filter(|file| SFlag::from_bits_truncate(file.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG);
    files
        .filter_map(|file| u64::try_from(file.st_size).ok())
        .max()
}

fn enter(rooms: Option<[RawFd; 2]>) -> io::Result<()> {
    let Some([mounts, network]) = rooms else {
        return Ok(());
    };
    // Nobody else shares its memory or its semaphores.
    unshare(CloneFlags::CLONE_NEWIPC)?;
    setns(borrow(network), CloneFlags::CLONE_NEWNET)?;
    Ok(setns(borrow(mounts), CloneFlags::CLONE_NEWNS)?)
}

fn drop_privileges(user: Option<u32>, group: Option<u32>) -> io::Result<()> {
    /// More than any kernel has.
    const CAPABILITIES: libc::c_ulong = 64;
    for capability in 0..CAPABILITIES {
        // SAFETY: prctl takes integers. It fails for numbers that this kernel lacks, and for whoever may not
        // drop any; that process has none and, below, can gain none.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    }
    if let Some(user) = user {
        let more = group.map(Gid::from_raw);
        setgroups(more.as_slice())?;
        let own = Gid::from_raw(user);
        setresgid(own, own, own)?;
        let user = Uid::from_raw(user);
        setresuid(user, user, user)?;
    }
    no_capabilities()?;
    Ok(prctl::set_no_new_privs()?)
}

/// Gives up the permitted, effective, inheritable and ambient capabilities.
fn no_capabilities() -> io::Result<()> {
    /// `_LINUX_CAPABILITY_VERSION_3` of <linux/capability.h>.
    const VERSION: u32 = 0x2008_0522;
    let header = [VERSION, 0];
    // The effective, permitted and inheritable ones, twice 32 of each.
    let none = [0u32; 6];
    // SAFETY: capset reads a header of two words and, by its version, data of six; both outlive the call.
    // What is not inheritable is no longer ambient either.
    let done = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    succeeded(done)
}

/// Nanoseconds of a [long slice](run_long): the most that the kernel takes.
const SLICE_NS: u64 = 100_000_000;

/// `struct sched_attr` of <linux/sched/types.h>, its first version.
#[repr(C)]
#[derive(Default)]
struct Scheduling {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Asks for long slices of processor time: where many machines train at once, each change between them costs the
/// caches of the one that goes on.
///
/// Linux before 6.12 knows none, and what is refused is no harm.
fn run_long() {
    // SAFETY: getpriority takes integers. An error is -1, which is a level as well.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let scheduling = Scheduling {
        size: size_of::<Scheduling>() as u32,
        policy: libc::SCHED_OTHER as u32,
        nice,
        runtime: SLICE_NS,
        ..Scheduling::default()
    };
    // SAFETY: sched_setattr reads so many bytes of attributes, which outlive the call.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const scheduling, 0) };
}

/// Asks for the merging of equal pages, from exec on, and for a layout of memory that is the same each time.
fn merge() -> io::Result<()> {
    const PR_SET_MEMORY_MERGE: libc::c_int = 67;
    // SAFETY: prctl takes integers.
    succeeded(unsafe { libc::prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0) }.into())?;
    // SAFETY: personality takes an integer, and changes nothing but how exec lays out this process.
    succeeded(unsafe { libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong) }.into())
}

fn restrict(rules: RawFd) -> io::Result<()> {
    // SAFETY: landlock_restrict_self takes a descriptor and flags.
    succeeded(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules, 0) })
}

/// Closes at exec every descriptor but the standard ones and these, whoever opened it.
fn keep_only(given: &[RawFd]) -> io::Result<()> {
    // SAFETY: close_range takes three integers, and here only marks what is open.
    let marked = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    succeeded(marked).or_else(|_| mark_each())?;
    for &fd in given {
        fcntl(borrow(fd), FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    Ok(())
}

/// Marks one descriptor after the other, before Linux 5.11.
fn mark_each() -> io::Result<()> {
    let (_, most) = nix::sys::resource::getrlimit(Resource::RLIMIT_NOFILE)?;
    let most = RawFd::try_from(most).unwrap_or(RawFd::MAX);
    for fd in 3..most {
        // SAFETY: fcntl takes integers; it fails for what is not open, and that is no harm.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: who made the confinement keeps its descriptors open until the process is spawned, and here
    // is that process.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

fn succeeded(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_slice_is_asked_for_and_the_level_stays() {
        let level = |thread: libc::id_t| {
            // SAFETY: getpriority takes integers.
            unsafe { libc::getpriority(libc::PRIO_PROCESS, thread) }
        };
        // Of a thread that nobody needs.
        let asked = std::thread::spawn(move || {
            let before = level(0);
            run_long();
            let mut found = Scheduling::default();
            let size = size_of::<Scheduling>();
            // SAFETY: sched_getattr writes so many bytes of attributes.
            let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut found, size, 0) };
            assert_eq!((got, level(0)), (0, before));
            found.runtime
        });
        // Linux before 6.12 tells no slice.
        let runtime = asked.join().unwrap();
        assert!([0, SLICE_NS].contains(&runtime), "{runtime}");
    }
}
