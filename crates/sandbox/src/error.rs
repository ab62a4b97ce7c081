//! Errors of the sandbox.

use std::io;

/// Failure to make the sandbox.
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
