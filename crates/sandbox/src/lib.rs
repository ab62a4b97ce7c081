//! Sandbox of a fleet: namespaces of its own, supervision that leaves nothing behind, and a jail for its
//! machines.
//!
//! Three processes, each made by a fork of the one before:
//!
//! ```text
//! outer   the process that the user started, in the host's namespaces; forwards signals, waits
//! init    process 1 of new network, PID and mount namespaces (and a user namespace, unless root)
//! inner   the rest of the program: aggregator, runtime, machines
//! ```
//!
//! When `outer` is stopped (^Z), `init` stops everything until it goes on.
//!
//! When `inner` ends, in whatever way, `init` ends, and with process 1 the kernel kills everything
//! in the namespace before `outer` learns of it. When `outer` ends, `init` gets SIGKILL. Bridge and
//! taps hang on the namespaces and on descriptors of these processes: nothing of them has a name on
//! the host that could stay behind.
//!
//! On a machine that allows no namespaces the same three processes are made without them. `init`
//! is then a subreaper: it survives `outer` and kills whatever `inner` left.
//!
//! All three are this program, with the environment that it was started in, and so are native devices,
//! which are threads of `inner`. Machines are not: each is put into a [`Jail`].
//!
//! `init` exists because process 1 of a namespace is not like others (it ignores signals that it
//! does not handle, it inherits every orphan): a runtime should not have to live with that.

#[cfg(not(target_os = "linux"))]
compile_error!("the sandbox runs on Linux: it is made of namespaces and /proc");

mod enter;
mod error;
mod jail;
mod merging;
mod namespaces;
mod outside;
mod plan;
mod probe;
mod room;
mod rules;
pub mod signals;
mod standstill;
mod supervise;
mod sys;

pub use enter::{Sandbox, enter};
pub use error::SandboxError;
pub use jail::{Contents, Jail};
pub use merging::merges_memory;
pub use outside::{Outside, keep_alive};
pub use plan::{Isolation, Needs, NetworkKind, NetworkMode, Plan};
pub use probe::{NetworkTrial, probe};
pub use sys::pidfd;
