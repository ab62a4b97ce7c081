//! Unsafe calls of this crate, each behind a safe function of few lines.

use std::ffi::CStr;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::unistd::{ForkResult, Pid};

mod confine;

pub(crate) use confine::{Confinement, confine};

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

/// Makes everything mounted at and below `root` read-only, without devices and set-user-ID programs.
///
/// # Errors
/// Before Linux 5.12, and if `root` is no mount.
pub(crate) fn seal(root: &CStr) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: mount_setattr reads a path with its terminator and so many bytes of attributes; both
    // outlive the call.
    let sealed = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            root.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if sealed < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Tries if a process may ask for the merging of its memory.
///
/// # Errors
/// Before Linux 6.4.
pub(crate) fn can_merge() -> io::Result<()> {
    const PR_GET_MEMORY_MERGE: libc::c_int = 68;
    // SAFETY: prctl takes integers, and here returns one.
    match unsafe { libc::prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Version of the kernel's Landlock; below 1: there is none.
pub(crate) fn landlock_version() -> libc::c_long {
    const CREATE_RULESET_VERSION: libc::c_uint = 1;
    const NOTHING: *const libc::c_void = std::ptr::null();
    // SAFETY: with this flag landlock_create_ruleset takes no attributes, and returns a number.
    unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            NOTHING,
            0,
            CREATE_RULESET_VERSION,
        )
    }
}

/// Passes a descriptor to the process at the other end, with one octet.
pub(crate) fn send_fd(line: &UnixStream, fd: &OwnedFd) -> io::Result<()> {
    let fds = [fd.as_raw_fd()];
    let message = [ControlMessage::ScmRights(&fds)];
    let octets = [IoSlice::new(b"+")];
    sendmsg::<()>(
        line.as_raw_fd(),
        &octets,
        &message,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}

/// The descriptor that comes with the next octet; none if none does.
///
/// # Errors
/// If nothing can come any more.
pub(crate) fn receive_fd(line: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut octet = [0];
    let mut room = nix::cmsg_space!([RawFd; 1]);
    let mut octets = [IoSliceMut::new(&mut octet)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(line.as_raw_fd(), &mut octets, Some(&mut room), flags)?;
    if message.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let passed = message.cmsgs()?.find_map(|one| match one {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    // SAFETY: the kernel has just made this descriptor for this process, and nobody else has it.
    Ok(passed.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }))
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
