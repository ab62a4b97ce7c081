//! Sockets of the host's network for what runs inside of the sandbox.
//!
//! A socket belongs to the network namespace in which it was made. A small process that stays outside makes them, and
//! passes them in over a pair of sockets. It connects nothing and reads nothing.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::error::SandboxError;
use crate::sys;

/// Requests for a socket of each family, and the answer where there is none.
const OF_IPV4: u8 = b'4';
const OF_IPV6: u8 = b'6';
const NONE: u8 = b'-';

/// The way to sockets of the network in which it was opened.
#[derive(Debug)]
pub struct Outside(Mutex<UnixStream>);

impl Outside {
    /// Starts the process that makes the sockets. It ends with the last copy of this value, and with this process.
    ///
    /// # Errors
    /// If there are threads already, or no process can be made.
    pub fn open() -> Result<Self, SandboxError> {
        let (here, there) = UnixStream::pair()?;
        let mut ends = Some((here, there));
        let mut kept = None;
        sys::fork(|| match ends.take() {
            Some((here, there)) => {
                drop(here);
                u8::from(serve(there).is_err())
            }
            None => 1,
        })?;
        if let Some((here, _)) = ends.take() {
            kept = Some(here);
        }
        let line = kept.ok_or_else(|| io::Error::other("the pair of sockets is gone"))?;
        Ok(Self(Mutex::new(line)))
    }

    /// A socket that is not connected yet.
    ///
    /// # Errors
    /// If the process outside is gone, or cannot make one.
    pub fn socket(&self, ipv6: bool) -> io::Result<TcpStream> {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        line.write_all(&[if ipv6 { OF_IPV6 } else { OF_IPV4 }])?;
        let passed = sys::receive_fd(&line)?;
        let none = || io::Error::other("no socket could be made outside of the sandbox");
        Ok(passed.ok_or_else(none)?.into())
    }
}

/// Answers each request with a socket until nobody can ask any more.
fn serve(mut line: UnixStream) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // A signal to the group is for those who can end in order; this process ends after them.
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        sys::ignore(signal)?;
    }
    let mut asked = [0];
    while line.read(&mut asked)? > 0 {
        let family = match asked {
            [OF_IPV6] => AddressFamily::Inet6,
            _ => AddressFamily::Inet,
        };
        let flags = SockFlag::SOCK_CLOEXEC;
        match socket(family, SockType::Stream, flags, SockProtocol::Tcp) {
            Ok(made) => sys::send_fd(&line, &made)?,
            Err(_) => line.write_all(&[NONE])?,
        }
    }
    Ok(())
}

/// Has the kernel find out that the peer of a connection is gone, also where its machine has lost its power: within half
/// a minute.
///
/// # Errors
/// If the system refuses.
pub fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &10)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &5)?;
    setsockopt(stream, sockopt::TcpKeepCount, &4)?;
    Ok(())
}
