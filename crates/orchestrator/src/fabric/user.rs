//! QEMU's user-mode network (slirp): each guest alone behind a NAT inside its QEMU.
//!
//! The guest reaches the host's loopback at 10.0.2.2; the host reaches the guest at a port of its
//! loopback that QEMU forwards. With namespaces, that loopback is the fleet's own.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

use futures::FutureExt;
use futures::future::BoxFuture;
use zfl_machine::Card;

use super::{Attachment, DEVICE_PORT, Fabric, GuestAddress, Outlet, mac};

/// Slirp's addresses.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const PREFIX: u8 = 24;

/// The first forwarded port on a loopback of our own: below the range from which Linux picks ports,
/// above those that people choose for an aggregator.
const FIRST_PORT: u16 = 10_000;

/// Linux picks ports from here on.
const EPHEMERAL: u16 = 32_768;

/// The forwarded ports.
#[derive(Debug)]
pub(crate) struct UserNet {
    own_loopback: bool,
}

impl UserNet {
    /// `own_loopback`: in a network namespace of our own, where every port is free.
    pub(crate) async fn start(own_loopback: bool) -> io::Result<Self> {
        if own_loopback {
            super::bridge::loopback_up().await?;
        }
        Ok(Self { own_loopback })
    }

    fn plug(&self, index: usize, server_port: u16) -> io::Result<Attachment> {
        let port = if self.own_loopback {
            own_port(index)?
        } else {
            free_port()?
        };
        let netdev = format!(
            "user,id=n0,ipv6=off,hostfwd=tcp:{}:{port}-{GUEST}:{DEVICE_PORT}",
            Ipv4Addr::LOCALHOST
        );
        let guest = GuestAddress {
            ip: GUEST,
            prefix: PREFIX,
            server: SocketAddrV4::new(HOST, server_port),
            reached_at: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
        };
        let card = Card {
            netdev,
            inherited: None,
            mac: mac(index),
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
        async move { self.plug(outlet.index, server.port()) }.boxed()
    }
}

fn own_port(index: usize) -> io::Result<u16> {
    let port = u16::try_from(index)
        .ok()
        .and_then(|index| FIRST_PORT.checked_add(index));
    port.filter(|&port| port < EPHEMERAL).ok_or_else(|| {
        let most = EPHEMERAL - FIRST_PORT;
        io::Error::other(format!(
            "the user-mode network has ports for {most} devices"
        ))
    })
}

/// A port that is free now. Somebody else may take it before QEMU does; QEMU then ends, and the
/// next attempt to boot gets another one.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_reaches_the_aggregator_through_slirp() {
        let attachment = UserNet { own_loopback: true }.plug(3, 8080).unwrap();
        assert_eq!(
            attachment.card.netdev,
            "user,id=n0,ipv6=off,hostfwd=tcp:127.0.0.1:10003-10.0.2.15:80"
        );
        assert_eq!(attachment.guest.server.to_string(), "10.0.2.2:8080");
        assert_eq!(attachment.guest.reached_at.to_string(), "127.0.0.1:10003");
    }

    #[test]
    fn ports_do_not_run_into_the_ephemeral_range() {
        assert_eq!(own_port(22_767).unwrap(), 32_767);
        for index in [22_768, 70_000] {
            assert!(
                own_port(index)
                    .unwrap_err()
                    .to_string()
                    .contains("22768 devices")
            );
        }
    }

    #[test]
    fn on_the_hosts_loopback_a_port_is_free() {
        // Somebody else may take one in between; nobody takes all.
        let mut ports = (0..20).map(|_| free_port().unwrap());
        assert!(ports.any(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()));
    }
}
