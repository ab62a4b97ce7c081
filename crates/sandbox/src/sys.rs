//! Unsafe calls of this crate, each behind a safe function of few lines.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, Pid, getpid, getppid, setpgid};

/// Runs `child` in a new process, which ends with the returned status.
///
/// # Errors
/// If this process has more than one thread: the others would vanish in the child with whatever
/// locks they hold.
pub(crate) fn fork(child: impl FnOnce() -> u8) -> io::Result<Pid> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other(
            "the process has several threads already; the sandbox comes before any of them",
        ));
    }
    // SAFETY: this process has a single thread (checked above), so the child is a whole copy of it
    // and no lock is held by a thread that it does not have.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let run = std::panic::AssertUnwindSafe(child);
            let status = std::panic::catch_unwind(run).unwrap_or(101);
            std::process::exit(status.into())
        }
    }
}

/// Confines a machine on its way to exec.
///
/// It dies with the thread that spawns it; a Ctrl-C on the terminal does not reach it (it is a
/// process group of its own); it has no transparent huge pages, which would cost 3 MB a guest; and
/// it keeps the descriptors `inherited`, under the same numbers.
pub fn confine(command: &mut Command, inherited: Vec<RawFd>) {
    let parent = getpid();
    let confine = move || {
        setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
        prctl::set_thp_disable(true)?;
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        if getppid() != parent {
            return Err(io::ErrorKind::NotFound.into());
        }
        for &fd in &inherited {
            // SAFETY: the caller keeps `fd` open until the machine is spawned.
            let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made; nothing is allocated and no lock
    // is taken (the vector was made before, errors carry a number).
    unsafe { command.pre_exec(confine) };
}

/// Ignores a signal, also in the programs that this process starts.
pub(crate) fn ignore(which: Signal) -> io::Result<()> {
    // SAFETY: no function of this process becomes a handler.
    unsafe { signal(which, SigHandler::SigIgn) }?;
    Ok(())
}

/// Lets a signal do what it usually does.
pub(crate) fn usual(which: Signal) -> io::Result<()> {
    // SAFETY: no function of this process becomes a handler.
    unsafe { signal(which, SigHandler::SigDfl) }?;
    Ok(())
}

/// A descriptor that becomes readable when the process ends.
pub fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and returns a descriptor or -1.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// A tmpfs that is mounted nowhere and lives as long as the descriptor of its root.
pub(crate) fn detached_tmpfs() -> io::Result<OwnedFd> {
    // Of <linux/mount.h>; the libc crate does not have them.
    const FSOPEN_CLOEXEC: libc::c_uint = 1;
    const FSMOUNT_CLOEXEC: libc::c_uint = 1;
    const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
    const NOTHING: *const libc::c_char = std::ptr::null();
    const TMPFS: &CStr = c"tmpfs";
    // SAFETY: fsopen reads a string with its terminator and returns a descriptor or -1.
    let context =
        owned(unsafe { libc::syscall(libc::SYS_fsopen, TMPFS.as_ptr(), FSOPEN_CLOEXEC) })?;
    let fd = context.as_raw_fd();
    // SAFETY: the command `create` takes no key and no value; null is what it wants for them.
    let created = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            fd,
            FSCONFIG_CMD_CREATE,
            NOTHING,
            NOTHING,
            0,
        )
    };
    if created < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fsmount takes three integers and returns a descriptor or -1.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, fd, FSMOUNT_CLOEXEC, 0) })
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(result) {
        // SAFETY: a system call has just returned this descriptor, and nobody else has it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fork_refuses_a_process_with_threads() {
        // The test harness has threads, so this process is one of those.
        let handle = std::thread::spawn(|| fork(|| 0).unwrap_err().to_string());
        assert!(handle.join().unwrap().contains("threads"));
    }
}
