//! User-mode network, which needs no privileges: each guest alone behind a relay of this process.
//!
//! A guest reaches the aggregator at 10.0.2.2, and nothing else: there is no router, no other address, and
//! no other port. The aggregator reaches the guest at a port of the loopback, on an address that the device
//! has for itself; from there, too, come the device's own connections. With namespaces, that loopback is
//! the fleet's own.

mod frames;
mod relay;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};

use futures::FutureExt;
use futures::future::BoxFuture;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use tokio::net::{TcpListener, UnixStream};
use zfl_machine::Card;

use super::{Attachment, DEVICE_PORT, Fabric, GuestAddress, Outlet, mac};
use frames::Frames;
use relay::Relay;

/// The relay and the guest, as the guest sees them.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const PREFIX: u8 = 24;

/// Network of relays, one for each machine.
#[derive(Debug)]
pub(crate) struct UserNet {
    own_loopback: bool,
}

impl UserNet {
    /// `own_loopback`: in a network namespace of our own, where it is not up yet.
    pub(crate) async fn start(own_loopback: bool) -> io::Result<Self> {
        if own_loopback {
            super::bridge::loopback_up().await?;
        }
        Ok(Self { own_loopback })
    }

    /// Starts a relay, which ends with the machine.
    async fn plug(
        &self,
        index: usize,
        has_bare_frames: bool,
        server: SocketAddrV4,
    ) -> io::Result<Attachment> {
        let source = source(index)?;
        let listener = TcpListener::bind((source, 0)).await?;
        let reached_at = SocketAddrV4::new(source, listener.local_addr()?.port());
        let (frames, machines) = if has_bare_frames {
            let (ours, machines) = packets()?;
            (Frames::in_packets(ours), machines)
        } else {
            let (ours, machines) = UnixStream::pair()?;
            (Frames::of(ours), OwnedFd::from(machines.into_std()?))
        };
        let relay = Relay::new(frames, listener, source, server);
        tokio::spawn(relay.run());
        let card = Card {
            netdev: format!("socket,id=n0,fd={}", machines.as_raw_fd()),
            inherited: Some(machines),
            mac: mac(index),
        };
        let guest = GuestAddress {
            ip: GUEST,
            prefix: PREFIX,
            server: SocketAddrV4::new(HOST, server.port()),
            reached_at,
        };
        Ok(Attachment { card, guest })
    }
}

impl Fabric for UserNet {
    fn attach(
        &self,
        outlet: Outlet,
        server: SocketAddrV4,
    ) -> BoxFuture<'_, io::Result<Attachment>> {
        self.plug(outlet.index, outlet.has_bare_frames, server)
            .boxed()
    }

    /// On the host's own loopback any program may take the address.
    fn own_address(&self, index: usize) -> Option<Ipv4Addr> {
        source(index).ok().filter(|_| self.own_loopback)
    }
}

/// Two ends of a socket that keeps packets apart: ours, and that of a machine which reads and writes a frame at a time.
fn packets() -> io::Result<(UnixStream, OwnedFd)> {
    let kind = SockType::SeqPacket;
    let (ours, machines) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?;
    let ours = std::os::unix::net::UnixStream::from(ours);
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, machines))
}

/// Address of a device on the loopback, by which the aggregator knows it: 127.1.0.0 and up.
fn source(index: usize) -> io::Result<Ipv4Addr> {
    const FIRST: u32 = Ipv4Addr::new(127, 1, 0, 0).to_bits();
    const COUNT: u32 = 1 << 16;
    let number = u32::try_from(index).ok().filter(|&number| number < COUNT);
    let number = number.ok_or_else(|| {
        io::Error::other(format!(
            "the user network has addresses for {COUNT} devices"
        ))
    })?;
    Ok(Ipv4Addr::from_bits(FIRST + number))
}

#[cfg(test)]
mod tests;
