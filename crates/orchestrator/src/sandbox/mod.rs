//! The sandbox (skeleton: types only, for now).

use std::net::IpAddr;

/// The networks that can be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkMode {
    /// The best that this machine allows.
    #[default]
    Auto,
    /// A Linux bridge and a tap per device, inside namespaces.
    Bridge,
    /// QEMU's user-mode network (slirp) with a forwarded port per device.
    User,
}

/// What this machine allows, and why; its `Display` is one line for people.
#[derive(Clone, Debug)]
pub struct Plan {
    _private: (),
}

/// The inside of the sandbox; proof that [`enter`] was called.
#[derive(Debug)]
pub struct Sandbox {
    _private: (),
}

/// Why the sandbox could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SandboxError(String);

/// Finds out, by trying it in a child process, which network this machine allows.
pub fn probe(_requested: NetworkMode) -> Result<Plan, SandboxError> {
    Err(SandboxError("not built yet".into()))
}

impl Plan {
    /// The plan for a fleet of native devices only: loopback, no namespaces, no extra processes.
    pub fn native() -> Self {
        Self { _private: () }
    }
}

/// Runs `inner` inside the sandbox and returns its exit status, in the outer process.
///
/// The outer process stays in the host's namespaces, forwards SIGINT, SIGTERM and SIGHUP, and
/// waits. Sockets opened before stay in the host's network namespace and can be used by `inner`.
/// For [`Plan::native`], `inner` runs in this process.
pub fn enter(_plan: &Plan, inner: impl FnOnce(Sandbox) -> u8) -> Result<u8, SandboxError> {
    Ok(inner(Sandbox { _private: () }))
}

/// Where the aggregator listens.
pub type ServerIp = IpAddr;
