//! The device on its machine, whatever that is.

pub mod counter;
#[cfg(not(any(feature = "radio", feature = "gateway")))]
pub mod device;
#[cfg(feature = "gateway")]
#[path = "gateway.rs"]
pub mod device;
#[cfg(feature = "radio")]
#[path = "radio.rs"]
pub mod device;
mod net;
mod own;
#[cfg(not(feature = "radio"))]
mod port;
pub mod shell;

/// Next step after a device was polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Poll again.
    Poll,
    /// Sleep until an interrupt or this time.
    Sleep { wake_at_us: Option<u64> },
}

/// Memory of the TCP connections, which each machine sizes.
pub struct Tcp {
    /// Sockets at most: those that listen, those in use, and a few that linger.
    pub sockets: usize,
    /// Receive window: no more than the card's frames hold.
    pub receive_bytes: usize,
    /// Send window: bytes in flight before an acknowledgement.
    pub send_bytes: usize,
}
