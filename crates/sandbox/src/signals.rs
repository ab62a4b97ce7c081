//! Signals as the process that started zfl left them.
//!
//! Who starts a program with a signal ignored wants it to go on when that signal comes: nohup ignores
//! SIGHUP, and a shell ignores SIGINT and SIGQUIT for what a script puts into the background. zfl leaves
//! such signals alone, in all of its processes. SIGHUP tells that the terminal is gone: it is ignored as
//! well where there is none, since a program between nohup and zfl (`timeout`) may have set it back.

use std::io::{self, IsTerminal};

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::getppid;

use crate::sys;

/// Sets signals as zfl needs them, at the start of the program: a limit of a file's size is an error of
/// the write, not the end of the process; the end of a child is told, whoever did not want to hear of it
/// before; and without a terminal nothing hangs up.
///
/// # Errors
/// If the system refuses.
pub fn prepare() -> io::Result<()> {
    let terminals = [
        io::stdin().is_terminal(),
        io::stdout().is_terminal(),
        io::stderr().is_terminal(),
    ];
    if !terminals.contains(&true) {
        sys::ignore(Signal::SIGHUP)?;
    }
    sys::ignore(Signal::SIGXFSZ)?;
    sys::usual(Signal::SIGCHLD)
}

/// Makes this process one that its parent alone ends: by SIGTERM, or by its own end, with which this one is killed.
/// Ctrl-C and a hang-up, which a terminal tells both, are the parent's.
///
/// # Errors
/// If the parent is another by now, or the system refuses.
pub fn belong_to(parent: u32) -> io::Result<()> {
    sys::ignore(Signal::SIGINT)?;
    sys::ignore(Signal::SIGHUP)?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    match getppid().as_raw().cast_unsigned() == parent {
        true => Ok(()),
        false => Err(io::Error::other("its process is gone")),
    }
}

/// Has this process killed when its parent ends, whatever ends that.
///
/// # Errors
/// If the system refuses.
pub fn end_with_parent() -> io::Result<()> {
    Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)
}

/// Tells whether a signal is ignored by this process.
pub fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status");
    status.is_ok_and(|status| ignored_by(&status) >> (signal as u32 - 1) & 1 == 1)
}

/// Those of these signals that are not ignored.
pub fn heeded(signals: impl IntoIterator<Item = Signal>) -> SigSet {
    let heeded = signals.into_iter().filter(|signal| !is_ignored(*signal));
    heeded.collect()
}

/// The mask of ignored signals in `/proc/PID/status`.
fn ignored_by(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_kernels_mask() {
        let mask = ignored_by("Name:\tx\nSigBlk:\t00000000ffffffff\nSigIgn:\t0000000000001003\n");
        assert_eq!(mask, 0x1003, "SIGHUP, SIGINT and SIGPIPE");
        assert_eq!(ignored_by("SigIgn:\tno number"), 0);
    }

    #[test]
    fn a_limit_of_a_files_size_is_no_signal() {
        prepare().unwrap();
        assert!(is_ignored(Signal::SIGXFSZ) && !is_ignored(Signal::SIGCHLD));
        let both = heeded([Signal::SIGXFSZ, Signal::SIGCHLD]);
        assert!(both.contains(Signal::SIGCHLD) && !both.contains(Signal::SIGXFSZ));
    }
}
