//! Waiting for a child as a good parent does: signals go down, the status comes up.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::signals;
use crate::standstill::{LOOK_EVERY, Outer, Standstill};

const FORWARDED: [Signal; 4] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
];

fn watched() -> SigSet {
    signals::heeded(FORWARDED.into_iter().chain([Signal::SIGCHLD]))
}

/// Blocks the signals that [`supervise`] reads, so that none is lost on the way there, and returns
/// the mask as it was.
pub(crate) fn block_signals() -> nix::Result<SigSet> {
    watched().thread_swap_mask(SigmaskHow::SIG_BLOCK)
}

/// The ends that `init` has of the outer process.
#[derive(Debug)]
pub(crate) struct Lifeline {
    /// A pipe; when its other end is closed, that process is gone.
    pub alive: OwnedFd,
    /// Its state.
    pub outer: Outer,
}

/// Forwards signals to `child` until it ends, reaps every orphan meanwhile, and returns its status.
///
/// With a lifeline, `child` and all below it stand still while the outer process does, and are killed
/// when that is gone.
pub(crate) fn supervise(child: Pid, line: Option<Lifeline>) -> io::Result<u8> {
    let (alive, outer) = line.map(|line| (line.alive, line.outer)).unzip();
    let mut standstill = outer.map(|outer| Standstill::new(outer, child));
    let look_every = match standstill {
        Some(_) => PollTimeout::try_from(LOOK_EVERY).unwrap_or(PollTimeout::NONE),
        None => PollTimeout::NONE,
    };
    let signals = SignalFd::with_flags(&watched(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    loop {
        if let Some(status) = reap(child)? {
            return Ok(status);
        }
        let mut sources = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let alive = alive.as_ref().map(AsFd::as_fd);
        sources.extend(alive.map(|alive| PollFd::new(alive, PollFlags::POLLIN)));
        match poll(&mut sources, look_every) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        if let Some(standstill) = &mut standstill {
            standstill.follow();
        }
        if sources
            .get(1)
            .is_some_and(|alive| alive.any() == Some(true))
        {
            // ESRCH means that it is dead already, which is what is wanted.
            let _ = kill(child, Signal::SIGKILL);
            return Ok(reap_until(child));
        }
        while let Some(signal) = signals.read_signal()? {
            let signal = i32::try_from(signal.ssi_signo).map(Signal::try_from);
            if let Ok(Ok(signal)) = signal
                && FORWARDED.contains(&signal)
            {
                let _ = kill(child, signal);
            }
        }
    }
}

/// Reaps whatever has ended; the status of `child` if it was among them.
fn reap(child: Pid) -> nix::Result<Option<u8>> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return Ok(None),
            Ok(ended) if ended.pid() == Some(child) => return Ok(Some(status(ended))),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn reap_until(child: Pid) -> u8 {
    loop {
        match waitpid(child, None) {
            Ok(ended) => return status(ended),
            Err(Errno::EINTR) => {}
            Err(_) => return 1,
        }
    }
}

/// The status as a shell would give it.
fn status(ended: WaitStatus) -> u8 {
    match ended {
        WaitStatus::Exited(_, code) => u8::try_from(code).unwrap_or(1),
        WaitStatus::Signaled(_, signal, _) => 128 + signal as u8,
        _ => 1,
    }
}

/// Tells if the other end of the pipe is closed.
pub(crate) fn hung_up(pipe: &OwnedFd) -> nix::Result<bool> {
    let mut source = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut source, PollTimeout::ZERO)? > 0)
}

/// Kills every child, those that became children by losing their parent included, and waits.
pub(crate) fn kill_children() {
    while let Ok(children) = std::fs::read_to_string("/proc/thread-self/children") {
        let pids = children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok());
        pids.for_each(|pid| _ = kill(Pid::from_raw(pid), Signal::SIGKILL));
        // ECHILD: none is left.
        if waitpid(None, None) == Err(Errno::ECHILD) {
            return;
        }
    }
}
