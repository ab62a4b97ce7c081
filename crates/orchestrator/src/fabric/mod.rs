//! Fabrics: networks that a machine's card is plugged into, with the addresses of all who are on them.
//!
//! | fabric   | aggregator       | a device                  | seen by the aggregator at |
//! |----------|------------------|---------------------------|---------------------------|
//! | bridge, switch | 192.0.2.1  | 192.0.2.2 and up, port 80 | the device's own address  |
//! | user     | 127.0.0.1 (for devices 10.0.2.2) | 10.0.2.15, port 80 | a port on an address of its own, 127.1.0.0 and up |
//! | loopback | 127.0.0.1        | native devices only       | a port on 127.0.0.1       |

mod bridge;
mod guard;
mod netem;
mod pace;
mod probe;
mod queue;
mod subnet;
mod switch;
mod user;

use std::fmt::Debug;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use futures::FutureExt;
use futures::future::BoxFuture;
use zfl_machine::Card;
use zfl_netsim::{Link, SwitchHandle};

pub(crate) use bridge::Bridge;
pub(crate) use netem::check as check_netem;
pub use probe::probe;
pub(crate) use subnet::Subnet;
pub(crate) use switch::Switchboard;
pub(crate) use user::UserNet;

/// Port on which a device serves.
pub(crate) const DEVICE_PORT: u16 = 80;

/// Network of a fleet that is up. A fabric without links of its own takes the defaults.
pub(crate) trait Fabric: Debug + Send + Sync {
    /// Address on which the aggregator listens.
    fn server_ip(&self) -> Ipv4Addr {
        Ipv4Addr::LOCALHOST
    }

    /// Plugs in the next machine of a device, in place of its last one.
    fn attach(&self, outlet: Outlet, server: SocketAddrV4)
    -> BoxFuture<'_, io::Result<Attachment>>;

    /// Address that device `index` alone has; `None` where devices share one.
    fn own_address(&self, _index: usize) -> Option<Ipv4Addr> {
        None
    }

    /// Protection of devices from each other that this network lacks, and the reason.
    fn lack(&self) -> Option<String> {
        None
    }

    /// Tells if links can be cut here.
    fn can_cut(&self) -> bool {
        false
    }

    /// Changes a client's link. In force when it returns, and for its next machine.
    fn change_link(&self, _client: u32, _change: LinkChange) -> BoxFuture<'_, Result<(), String>> {
        refused(NO_LINKS)
    }

    /// The switch that counts and captures, where there is one.
    fn switch(&self) -> Option<&SwitchHandle> {
        None
    }

    /// Tells if a guest can be held to its `max_kbit_per_s` here; if not, why.
    fn can_pace(&self) -> BoxFuture<'_, Result<(), String>> {
        refused("the user network cannot pace")
    }
}

/// Change of a device's link.
#[derive(Debug)]
pub(crate) enum LinkChange {
    /// Nothing passes from now on.
    Cut,
    /// It passes again.
    Heal,
    /// Another link for the frames to come.
    Set(Box<Link>),
}

/// Place of a device in the network, known before it has a machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outlet {
    /// Its number in the fleet; decides on its addresses.
    pub(crate) index: usize,
    pub(crate) client: u32,
    pub(crate) link: Link,
    /// The most that the guest can take without losing frames.
    pub(crate) max_kbit_per_s: Option<u32>,
    /// Its machine knows no header of virtio's before a frame.
    pub(crate) has_bare_frames: bool,
    /// It is met by the devices of its cluster.
    pub(crate) is_gateway: bool,
}

/// Connection of a machine to the network, good for one boot.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) card: Card,
    pub(crate) guest: GuestAddress,
}

/// Addresses that a guest is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GuestAddress {
    pub(crate) ip: Ipv4Addr,
    pub(crate) prefix: u8,
    /// The aggregator, as the guest sees it.
    pub(crate) server: SocketAddrV4,
    /// The guest, as the aggregator sees it.
    pub(crate) reached_at: SocketAddrV4,
}

/// Fabric of native devices only: the host's loopback, which needs no plugging in.
#[derive(Debug)]
pub(crate) struct Loopback;

impl Fabric for Loopback {
    fn attach(&self, _: Outlet, _: SocketAddrV4) -> BoxFuture<'_, io::Result<Attachment>> {
        let no = "loopback is for native devices; choose bridge, switch or user";
        async move { Err(io::Error::other(no)) }.boxed()
    }
}

/// Refusal of link changes by a fabric without links.
pub(crate) const NO_LINKS: &str = "this network has no links of its own; take `--network switch` \
                                   with emulated devices";

/// Refusal of captures by a fabric without a switch.
pub(crate) const NO_CAPTURES: &str = "only the network `switch` captures; take `--network switch`";

fn refused(why: &'static str) -> BoxFuture<'static, Result<(), String>> {
    async move { Err(why.to_owned()) }.boxed()
}

/// The hardware address of device `index`: locally administered, in QEMU's range.
fn mac_bytes(index: usize) -> [u8; 6] {
    let [.., a, b, c] = index.to_be_bytes();
    [0x52, 0x54, 0, a, b, c]
}

fn mac(index: usize) -> String {
    mac_bytes(index).map(|byte| format!("{byte:02x}")).join(":")
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
