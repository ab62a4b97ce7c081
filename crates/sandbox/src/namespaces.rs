//! Entering the namespaces, in two steps: before and after the fork of `init`.

use std::io;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

/// The children of this process will be in a new PID namespace; this process itself stays.
///
/// With `user`, this process moves to a new user namespace, in which it keeps its own user and
/// group. It needs that to be allowed the rest, and it stays in the host's network.
pub(crate) fn unshare_pid(user: bool) -> io::Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    let mut flags = CloneFlags::CLONE_NEWPID;
    flags.set(CloneFlags::CLONE_NEWUSER, user);
    unshare(flags).map_err(|error| named("new PID namespace", error))?;
    if user {
        // An unprivileged process may map its group only after giving up setgroups.
        write_own("setgroups", "deny")?;
        write_own("uid_map", &format!("{uid} {uid} 1"))?;
        write_own("gid_map", &format!("{gid} {gid} 1"))?;
    }
    Ok(())
}

/// Moves process 1 of the new PID namespace to new network and mount namespaces.
pub(crate) fn unshare_rest() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .map_err(|error| named("new network and mount namespaces", error))?;
    let nothing = None::<&str>;
    mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        nothing,
    )
    .map_err(|error| named("private mounts", error))?;
    // /proc then shows the processes of the fleet by the numbers that they have here.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, nothing)
        .map_err(|error| named("own /proc", error))
}

fn write_own(file: &str, text: &str) -> io::Result<()> {
    std::fs::write(format!("/proc/self/{file}"), text)
        .map_err(|error| io::Error::new(error.kind(), format!("/proc/self/{file}: {error}")))
}

fn named(what: &str, error: nix::Error) -> io::Error {
    io::Error::new(
        io::Error::from(error).kind(),
        format!("{what}: {}", error.desc()),
    )
}
