//! TCP sockets that never block, over Zephyr's zsock calls.

use crate::glue::{self, POLLIN, PollFd, errno};
use core::ffi::c_int;
use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};

/// Answer of Zephyr as a negated errno value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub c_int);

impl Errno {
    /// True if the call may succeed later, and all is well.
    pub fn is_transient(self) -> bool {
        [errno::EAGAIN, errno::EINPROGRESS, errno::EALREADY].contains(&self.0)
            || self.is_out_of_buffers()
    }

    /// True if a stream found no network buffer; they come back as the other side acknowledges.
    pub fn is_out_of_buffers(self) -> bool {
        [errno::ENOMEM, errno::ENOBUFS].contains(&self.0)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "errno {}", self.0)
    }
}

impl core::error::Error for Errno {}

fn check(result: c_int) -> Result<c_int, Errno> {
    if result < 0 {
        Err(Errno(-result))
    } else {
        Ok(result)
    }
}

/// An open socket; dropping it closes it.
#[derive(Debug)]
pub struct Socket {
    fd: c_int,
}

impl Socket {
    /// A socket that listens on all addresses.
    pub fn listen(port: u16, backlog: u8) -> Result<Self, Errno> {
        // SAFETY: takes plain values.
        let fd = check(unsafe { glue::zfl_tcp_listen(port, c_int::from(backlog)) })?;
        Ok(Self { fd })
    }

    /// A socket that is not connected.
    pub fn open() -> Result<Self, Errno> {
        // SAFETY: takes nothing.
        let fd = check(unsafe { glue::zfl_tcp_open() })?;
        Ok(Self { fd })
    }

    /// Starts to connect, or tells how far that is: `Ok` when the stream is up.
    ///
    /// # Errors
    /// A transient one while it goes on, another one when it has failed.
    pub fn connect(&self, peer: SocketAddrV4) -> Result<(), Errno> {
        let octets = peer.ip().octets();
        // SAFETY: `octets` has the four bytes that the call reads.
        check(unsafe { glue::zfl_tcp_connect(self.fd, octets.as_ptr(), peer.port()) })?;
        Ok(())
    }

    /// The next stream that somebody opened to this listening socket, and who did.
    pub fn accept(&self) -> Result<(Self, Ipv4Addr), Errno> {
        let mut octets = [0; 4];
        // SAFETY: `octets` has room for the four bytes that the call writes.
        let fd = check(unsafe { glue::zfl_tcp_accept(self.fd, octets.as_mut_ptr()) })?;
        Ok((Self { fd }, octets.into()))
    }

    /// Reads what has arrived; 0 is the end of the stream.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        // SAFETY: the call writes at most `len` bytes into `buffer`.
        let len = check(unsafe {
            glue::zfl_tcp_read(self.fd, buffer.as_mut_ptr().cast(), buffer.len())
        })?;
        Ok(len as usize)
    }

    /// Octets that [`Socket::read`] would give, one at most; 0 at the end of the stream.
    #[cfg(zfl_radio)]
    pub fn peek(&self) -> Result<usize, Errno> {
        // SAFETY: takes a plain value.
        let len = check(unsafe { glue::zfl_tcp_peek(self.fd) })?;
        Ok(len as usize)
    }

    /// Writes what there is room for.
    pub fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        // SAFETY: the call reads at most `len` bytes of `bytes`.
        let len =
            check(unsafe { glue::zfl_tcp_write(self.fd, bytes.as_ptr().cast(), bytes.len()) })?;
        Ok(len as usize)
    }

    /// This socket for [`wait`].
    pub fn poll_fd(&self) -> PollFd {
        PollFd {
            fd: self.fd,
            events: POLLIN,
            revents: 0,
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: the descriptor is this socket's own. An error would leave nothing to do.
        unsafe { glue::zfl_tcp_close(self.fd) };
    }
}

/// Waits until there is something to read or accept on one of the sockets, or until `timeout_ms`
/// have passed; below zero is for ever.
///
/// There is no waiting for room to write: what Zephyr would wait for is a semaphore in the TCP
/// connection, which goes away under the waiter when the other side resets the connection.
///
/// # Errors
/// Zephyr has no room to watch that many sockets (`CONFIG_ZVFS_POLL_MAX`).
pub fn wait(fds: &mut [PollFd], timeout_ms: i32) -> Result<bool, Errno> {
    // SAFETY: the call reads and writes `len` entries of the layout that glue.c asserts.
    let ready =
        check(unsafe { glue::zfl_tcp_poll(fds.as_mut_ptr(), fds.len() as c_int, timeout_ms) })?;
    Ok(ready > 0)
}
