//! The fleet: devices in their bodies, on the network between them, supervised.
//!
//! A *fleet* is the devices of one run. A device is either a real firmware image on an emulated
//! machine (a QEMU process) or, for debugging and for scale, a thread of this process. The
//! orchestrator makes the network between them, boots the machines, types `run …` into each one's
//! shell through its serial line, keeps its log, and reports its death with its last lines.
//!
//! The way through this crate, in the order in which a caller goes it:
//!
//! 1. [`probe()`] finds out what this machine allows and says why; [`zfl_sandbox::enter`] runs
//!    the rest of the program inside namespaces of its own. Both need a single-threaded process,
//!    so they come before any runtime is started.
//! 2. [`Fleet::start`] makes the network. The aggregator then listens on [`Fleet::server_ip`].
//! 3. [`Fleet::boot`] boots every device and starts its client; [`FleetEvent`]s tell what happens.
//! 4. [`Fleet::stop`] kills every device *and* waits for it.
//!
//! Invariants
//! - Nothing of an emulated fleet appears in the host's network namespace (as long as the machine
//!   lets this process make one of its own).
//! - When `zfl` ends in whatever way, SIGKILL included, no process, namespace, tap or
//!   temporary file of it stays. See [`zfl_sandbox`] for how.
//! - This crate parses no message of the federated-learning protocol, and what it reads from a
//!   device is data: a guest that floods its serial line or lies in it costs its own run only.

#[cfg(not(target_os = "linux"))]
compile_error!("zfl runs on Linux: it is made of namespaces, taps and /proc");

pub mod admission;
mod body;
mod doors;
mod event;
mod fabric;
pub mod faults;
mod fleet;
mod log;
mod preflight;
mod spec;
mod storage;
mod sys;

pub use body::SharedExamples;
pub use doors::{LOCK, door_name};
pub use event::{BootReport, Booted, Death, FleetEvent};
pub use fabric::probe;
pub use fl_client::storage::{Owner, octets as storage_octets};
pub use fl_client::{Overrides, Word};
pub use fleet::{Fleet, FleetConfig, FleetError, PcapConfig, Resumption};
pub use preflight::{BLOCKING_THREADS, preflight};
pub use spec::{BootPolicy, DeviceBody, DeviceSpec, Proof};
pub use storage::{StorageConfig, stored_rounds};
