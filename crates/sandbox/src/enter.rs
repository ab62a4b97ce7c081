//! Entry into the sandbox: three processes by two forks, and what each of them does.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getppid, setpgid};

use crate::error::SandboxError;
use crate::plan::{Isolation, NetworkKind, Plan};
use crate::standstill::Outer;
use crate::supervise::Lifeline;
use crate::{namespaces, supervise, sys};

/// Inside of the sandbox; proof that [`enter`] was called.
#[derive(Debug)]
pub struct Sandbox {
    network: NetworkKind,
    isolation: Isolation,
}

impl Sandbox {
    /// Sandbox of native devices, which need no confinement.
    pub fn loopback() -> Self {
        Self {
            network: NetworkKind::Loopback,
            isolation: Isolation::None,
        }
    }

    /// Sandbox of native devices that share a process with their aggregator.
    pub fn in_process() -> Self {
        Self {
            network: NetworkKind::InProcess,
            isolation: Isolation::None,
        }
    }

    /// Network that the fleet is to have.
    pub fn network(&self) -> NetworkKind {
        self.network
    }

    /// Isolation from the host.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }
}

/// Runs `inner` inside the sandbox and returns its exit status, in the outer process.
///
/// The process must have a single thread. It stays in the host's namespaces, forwards SIGINT,
/// SIGTERM, SIGHUP and SIGQUIT unless they were ignored before, and waits; a status above 128 is a signal's number plus 128.
/// Sockets opened before stay in the host's network namespace and can be used by `inner`.
/// With [`Plan::native`] or [`Plan::in_process`] there is nothing to confine, and `inner` runs in this process.
///
/// # Errors
/// If there are threads already, or the machine refuses what [`probe`](crate::probe()) found possible.
pub fn enter(plan: &Plan, inner: impl FnOnce(Sandbox) -> u8) -> Result<u8, SandboxError> {
    match plan.network {
        NetworkKind::Loopback => return Ok(inner(Sandbox::loopback())),
        NetworkKind::InProcess => return Ok(inner(Sandbox::in_process())),
        NetworkKind::Bridge | NetworkKind::Switch | NetworkKind::User => {}
    }
    // What is buffered would be printed by each copy of this process. Whoever reads there may be gone.
    let _ = io::stdout().flush();
    let mask = supervise::block_signals()?;
    let result = enter_as_outer(plan, &mask, inner);
    mask.thread_set_mask()?;
    result
}

fn enter_as_outer(
    plan: &Plan,
    mask: &SigSet,
    inner: impl FnOnce(Sandbox) -> u8,
) -> Result<u8, SandboxError> {
    if let Isolation::Namespaces { user } = plan.isolation {
        // Everything but the PID namespace waits until `init`: this process stays on the host.
        namespaces::unshare_pid(user)?;
    }
    let (alive, alive_there) = io::pipe()?;
    let (mut ready_here, ready) = io::pipe()?;
    let mut outers_ends = Some((alive_there, ready_here.try_clone()?));
    let mut inits_ends = Some((alive, Outer::this()?, ready));
    let init = sys::fork(|| {
        // The copies of the outer process's ends: held here, they would outlive that process.
        outers_ends.take();
        let Some((alive, outer, ready)) = inits_ends.take() else {
            return 1;
        };
        let alive = alive.into();
        init(plan, Lifeline { alive, outer }, ready, mask, inner)
    })?;
    drop(inits_ends.take());
    let mut problem = String::new();
    ready_here.read_to_string(&mut problem)?;
    let status = supervise::supervise(init, None)?;
    if problem.is_empty() {
        Ok(status)
    } else {
        Err(SandboxError::System(problem))
    }
}

/// The life of `init`: makes the namespaces, forks `inner`, and cleans up after it.
///
/// A reason why that fails goes down the pipe `ready`, which is closed when `inner` runs.
fn init(
    plan: &Plan,
    line: Lifeline,
    ready: io::PipeWriter,
    mask: &SigSet,
    inner: impl FnOnce(Sandbox) -> u8,
) -> u8 {
    let mut ready = Some(ready);
    let me = nix::unistd::getpid();
    let child = settle(plan.isolation, &line.alive).and_then(|()| {
        let sandbox = Sandbox {
            network: plan.network,
            isolation: plan.isolation,
        };
        let child = sys::fork(|| {
            ready.take();
            become_inner(me, mask).map_or(1, |()| inner(sandbox))
        });
        Ok(child?)
    });
    let status = match child {
        Ok(child) => {
            ready.take();
            supervise::supervise(child, Some(line)).unwrap_or(1)
        }
        Err(error) => {
            // If the outer process is gone, nobody is left to hear of it.
            let _ = ready.take().map(|mut ready| write!(ready, "{error}"));
            1
        }
    };
    if plan.isolation == Isolation::None {
        supervise::kill_children();
    }
    status
}

/// Prepares `init` for its fork: cuts it off from the host and from the terminal.
fn settle(isolation: Isolation, alive: &OwnedFd) -> Result<(), SandboxError> {
    // Ctrl-C then reaches the outer process only, which forwards it: once, not twice.
    setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    // In the terminal's background, where `stty tostop` would stop whoever prints.
    sys::ignore(Signal::SIGTTOU)?;
    match isolation {
        Isolation::Namespaces { .. } => {
            namespaces::unshare_rest()?;
            prctl::set_pdeathsig(Signal::SIGKILL)?;
        }
        Isolation::None => prctl::set_child_subreaper(true)?,
    }
    if supervise::hung_up(alive)? {
        return Err(SandboxError::System("the outer process is gone".into()));
    }
    Ok(())
}

/// The last steps to an ordinary process that dies with `init`.
fn become_inner(init: Pid, mask: &SigSet) -> Result<(), SandboxError> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != init {
        return Err(SandboxError::System("the parent is gone".into()));
    }
    mask.thread_set_mask()?;
    Ok(())
}
