//! The sandbox: what this machine allows a fleet to have of its own, and how it is cleaned up.
//!
//! Three processes, each made by a fork of the one before:
//!
//! ```text
//! outer   the process that the user started, in the host's namespaces; forwards signals, waits
//! init    process 1 of new network, PID and mount namespaces (and a user namespace, unless root)
//! inner   the rest of the program: aggregator, runtime, machines
//! ```
//!
//! When `inner` ends, in whatever way, `init` ends, and with process 1 the kernel kills everything
//! in the namespace before `outer` learns of it. When `outer` ends, `init` gets SIGKILL. Bridge,
//! taps and FIFOs hang on the namespaces and on descriptors of these processes: nothing of them
//! has a name on the host that could stay behind.
//!
//! On a machine that allows no namespaces the same three processes are made without them. `init`
//! is then a subreaper: it survives `outer`, kills whatever `inner` left, and removes the folder
//! of the FIFOs.
//!
//! All three are this program, with the environment that it was started in, and so are native devices,
//! which are threads of `inner`. Machines are not: they get next to nothing of it, and in a user
//! namespace the kernel lets them read none of these processes' own, since those have more capabilities.
//!
//! `init` exists because process 1 of a namespace is not like others (it ignores signals that it
//! does not handle, it inherits every orphan): a runtime should not have to live with that.

mod namespaces;
mod plan;
mod scratch;
mod supervise;

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getppid, setpgid};

pub use plan::{Isolation, Needs, Network, NetworkMode, Plan, probe};
pub(crate) use scratch::Scratch;

use crate::sys;

/// The inside of the sandbox; proof that [`enter`] was called.
#[derive(Debug)]
pub struct Sandbox {
    pub(crate) network: Network,
    pub(crate) isolation: Isolation,
    pub(crate) scratch: Scratch,
}

impl Sandbox {
    /// For native devices, which need no confinement.
    pub fn loopback() -> Self {
        Self {
            network: Network::Loopback,
            isolation: Isolation::None,
            scratch: Scratch::absent(),
        }
    }
}

/// Why the sandbox could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The network that was asked for cannot be had here.
    #[error("{0}")]
    Unavailable(String),
    /// A system call failed that should not have.
    #[error("cannot make the sandbox: {0}")]
    System(String),
}

impl From<io::Error> for SandboxError {
    fn from(error: io::Error) -> Self {
        Self::System(error.to_string())
    }
}

impl From<nix::Error> for SandboxError {
    fn from(error: nix::Error) -> Self {
        io::Error::from(error).into()
    }
}

/// Runs `inner` inside the sandbox and returns its exit status, in the outer process.
///
/// The process must have a single thread. It stays in the host's namespaces, forwards SIGINT,
/// SIGTERM, SIGHUP and SIGQUIT, and waits; a status above 128 is a signal's number plus 128.
/// Sockets opened before stay in the host's network namespace and can be used by `inner`.
/// With [`Plan::native`] there is nothing to confine, and `inner` runs in this process.
///
/// # Errors
/// If there are threads already, or the machine refuses what [`probe`] found possible.
pub fn enter(plan: &Plan, inner: impl FnOnce(Sandbox) -> u8) -> Result<u8, SandboxError> {
    if plan.network == Network::Loopback {
        return Ok(inner(Sandbox::loopback()));
    }
    // What is buffered would be printed by each copy of this process.
    io::stdout().flush()?;
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
    let folder = scratch::folder(plan.isolation);
    if let Isolation::Namespaces { user } = plan.isolation {
        // Everything but the PID namespace waits until `init`: this process stays on the host.
        namespaces::unshare_pid(user)?;
    }
    let (alive, alive_there) = io::pipe()?;
    let (mut ready_here, ready) = io::pipe()?;
    let mut outers_ends = Some((alive_there, ready_here.try_clone()?));
    let mut ready = Some(ready);
    let init = sys::fork(|| {
        // The copies of the outer process's ends: held here, they would outlive that process.
        outers_ends.take();
        init(
            plan,
            folder.as_deref(),
            &alive.into(),
            ready.take(),
            mask,
            inner,
        )
    })?;
    drop(ready.take());
    let mut problem = String::new();
    ready_here.read_to_string(&mut problem)?;
    let status = supervise::supervise(init, None)?;
    if let Some(folder) = &folder {
        scratch::remove(folder);
    }
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
    folder: Option<&Path>,
    alive: &OwnedFd,
    mut ready: Option<io::PipeWriter>,
    mask: &SigSet,
    inner: impl FnOnce(Sandbox) -> u8,
) -> u8 {
    let me = nix::unistd::getpid();
    let child = settle(plan.isolation, folder, alive).and_then(|scratch| {
        let sandbox = Sandbox {
            network: plan.network,
            isolation: plan.isolation,
            scratch,
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
            supervise::supervise(child, Some(alive)).unwrap_or(1)
        }
        Err(error) => {
            // If the outer process is gone, nobody is left to hear of it.
            let _ = ready.take().map(|mut ready| write!(ready, "{error}"));
            1
        }
    };
    if let Some(folder) = folder {
        supervise::kill_children();
        scratch::remove(folder);
    }
    status
}

/// What `init` does before it forks: it cuts itself off from the host and from the terminal.
fn settle(
    isolation: Isolation,
    folder: Option<&Path>,
    alive: &OwnedFd,
) -> Result<Scratch, SandboxError> {
    // Ctrl-C then reaches the outer process only, which forwards it: once, not twice.
    setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
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
    Ok(match folder {
        Some(folder) => Scratch::in_folder(folder)?,
        None => Scratch::detached()?,
    })
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
