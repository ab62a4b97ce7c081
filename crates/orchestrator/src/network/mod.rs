//! The fleet's network: what a machine's card is plugged into, and who has which address.
//!
//! | network  | aggregator       | a device                  | seen by the aggregator at |
//! |----------|------------------|---------------------------|---------------------------|
//! | bridge, switch | 192.0.2.1  | 192.0.2.2 and up, port 80 | the device's own address  |
//! | user     | 127.0.0.1 (for devices 10.0.2.2) | 10.0.2.15, port 80 | a port on 127.0.0.1 |
//! | loopback | 127.0.0.1        | native devices only       | a port on 127.0.0.1       |

mod bridge;
mod netem;
mod pace;
mod queue;
mod subnet;
mod switchboard;
mod user;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::path::Path;

pub(crate) use bridge::{Bridge, MAX_DEVICES as MAX_BRIDGE_PORTS};
pub(crate) use netem::check as check_netem;
pub(crate) use subnet::Subnet;
pub(crate) use switchboard::Switchboard;
pub(crate) use user::UserNet;

use crate::switch::{ClientStats, Link, SwitchStats};

/// The port on which a device serves.
pub(crate) const DEVICE_PORT: u16 = 80;

/// A network that is up.
#[derive(Debug)]
pub(crate) enum Network {
    Bridge(Bridge),
    Switch(Switchboard),
    User(UserNet),
    Loopback,
}

/// A device's place in the network, known before it has a machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outlet {
    pub(crate) index: usize,
    pub(crate) client: u32,
    pub(crate) link: Link,
    /// The most that the guest can take without losing frames.
    pub(crate) max_kbit_per_s: Option<u32>,
}

/// One machine's connection to the network, good for one boot.
#[derive(Debug)]
pub(crate) struct Attachment {
    /// The value of `-netdev`, with the ID `n0`.
    pub(crate) netdev: String,
    /// A descriptor that `netdev` names; QEMU inherits it, and it closes here after that.
    pub(crate) inherited: Option<OwnedFd>,
    /// The card's address.
    pub(crate) mac: String,
    /// What the guest is told.
    pub(crate) guest: GuestAddress,
}

/// What a guest is told about its place in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GuestAddress {
    pub(crate) ip: Ipv4Addr,
    pub(crate) prefix: u8,
    /// The aggregator, as the guest sees it.
    pub(crate) server: SocketAddrV4,
    /// The guest, as the aggregator sees it.
    pub(crate) reached_at: SocketAddrV4,
}

impl Network {
    /// The address on which the aggregator listens.
    pub(crate) fn server_ip(&self) -> Ipv4Addr {
        match self {
            Self::Bridge(bridge) => bridge.server_ip(),
            Self::Switch(switch) => switch.server_ip(),
            Self::User(_) | Self::Loopback => Ipv4Addr::LOCALHOST,
        }
    }

    /// Plugs in the device that is number `index` of the fleet.
    ///
    /// `max_kbit_per_s`: the most that the guest can take without losing frames.
    pub(crate) async fn attach(
        &self,
        index: usize,
        client: u32,
        max_kbit_per_s: Option<u32>,
        server: SocketAddr,
    ) -> io::Result<Attachment> {
        let IpAddr::V4(server_ip) = server.ip() else {
            return Err(io::Error::other("the fleet's network has IPv4 only"));
        };
        let server = SocketAddrV4::new(server_ip, server.port());
        match self {
            Self::Bridge(bridge) => bridge.attach(index, client, max_kbit_per_s, server).await,
            Self::Switch(switch) => switch.attach(index, client, server),
            Self::User(user) => user.attach(index, server.port()),
            Self::Loopback => Err(io::Error::other(
                "loopback is for native devices; choose bridge, switch or user",
            )),
        }
    }

    /// Whether links can be cut here.
    pub(crate) fn can_cut(&self) -> bool {
        matches!(self, Self::Bridge(_) | Self::Switch(_))
    }

    pub(crate) async fn cut(&self, client: u32) -> Result<(), String> {
        match self {
            Self::Bridge(bridge) => bridge.cut(client).await.map_err(text),
            Self::Switch(switch) => switch.cut(client).map_err(text),
            Self::User(_) | Self::Loopback => Err(NO_LINKS.into()),
        }
    }

    pub(crate) async fn heal(&self, client: u32) -> Result<(), String> {
        match self {
            Self::Bridge(bridge) => bridge.heal(client).await.map_err(text),
            Self::Switch(switch) => switch.heal(client).map_err(text),
            Self::User(_) | Self::Loopback => Err(NO_LINKS.into()),
        }
    }

    pub(crate) async fn set_link(&self, client: u32, link: Link) -> Result<(), String> {
        match self {
            Self::Bridge(bridge) => bridge.set_link(client, link).await.map_err(text),
            Self::Switch(switch) => switch.set_link(client, link).map_err(text),
            Self::User(_) | Self::Loopback => Err(NO_LINKS.into()),
        }
    }

    /// What the switch has counted of a client, where there is a switch.
    pub(crate) fn link_stats(&self, client: u32) -> Option<ClientStats> {
        match self {
            Self::Switch(switch) => switch.client_stats(client),
            Self::Bridge(_) | Self::User(_) | Self::Loopback => None,
        }
    }

    pub(crate) fn switch_stats(&self) -> Option<SwitchStats> {
        match self {
            Self::Switch(switch) => Some(switch.stats()),
            Self::Bridge(_) | Self::User(_) | Self::Loopback => None,
        }
    }

    /// Begins the capture of a client.
    pub(crate) fn capture(&self, client: u32, folder: &Path) -> Result<(), String> {
        match self {
            Self::Switch(switch) => switch.capture(client, folder).map_err(text),
            Self::Bridge(_) | Self::User(_) | Self::Loopback => Err(NO_CAPTURES.into()),
        }
    }

    /// Completes the capture of a client, if it has one.
    pub(crate) fn stop_capture(&self, client: u32) -> Result<(), String> {
        match self {
            Self::Switch(switch) => switch.stop_capture(client).map_err(text),
            Self::Bridge(_) | Self::User(_) | Self::Loopback => Ok(()),
        }
    }

    /// Whether a guest can be held to its `max_kbit_per_s` here; if not, why.
    pub(crate) async fn can_pace(&self) -> Result<(), String> {
        match self {
            Self::Bridge(bridge) => bridge.can_pace().await,
            Self::Switch(_) => Ok(()),
            Self::User(_) | Self::Loopback => Err("QEMU's user-mode network cannot pace".into()),
        }
    }
}

const NO_LINKS: &str = "this network has no links of its own; take `--network switch` with \
                        emulated devices";
const NO_CAPTURES: &str = "only the network `switch` captures; take `--network switch`";

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The hardware address of device `index`: locally administered, in QEMU's range.
fn mac(index: usize) -> String {
    let [.., a, b, c] = index.to_be_bytes();
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_distinct_hardware_addresses() {
        assert_eq!(mac(1), "52:54:00:00:00:01");
        assert_eq!(mac(0x01_02_03), "52:54:00:01:02:03");
    }
}
