//! The switch of `zfl-netsim` between a tap for the aggregator and a socket for each machine, in the
//! network namespace of this process.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};

use futures::FutureExt;
use futures::future::BoxFuture;
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::{Handle, LinkUnspec};
use zfl_machine::Card;
use zfl_netsim::{Mac, Rate, Switch, SwitchHandle};

use super::bridge::{self, HARDWARE_ADDRESS, NAME, failed, netlink};
use super::guard::{self, Owner};
use super::{
    Attachment, DEVICE_PORT, Fabric, GuestAddress, LinkChange, Outlet, Subnet, mac, mac_bytes,
};

/// Frames that wait for the switch: a burst of all devices at once, 12 windows of 16 KiB each for
/// 80 of them. The kernel's own 500 would lose frames that nobody asked to lose.
const TAP_QUEUE_FRAMES: u32 = 10_000;

/// The switch, running, and the tap, up, with the aggregator's address on it.
#[derive(Debug)]
pub(crate) struct Switchboard {
    subnet: Subnet,
    switch: SwitchHandle,
}

impl Switchboard {
    /// Makes the tap in the network namespace of the caller and starts the switch.
    pub(crate) async fn start(subnet: Subnet, seed: u64, outlets: &[Outlet]) -> io::Result<Self> {
        let netlink = netlink()?;
        let (tap, tap_index) = host_tap(&netlink, subnet).await?;
        let mut builder = Switch::builder(seed).host(tap);
        for outlet in outlets {
            let owner = Owner {
                mac: address(outlet.index).0,
                ip: subnet.device(outlet.index),
            };
            let known = guard::know(&netlink, tap_index, owner).await;
            known.map_err(failed("write a device's hardware address down"))?;
            builder = builder.vacant_port(outlet.client, address(outlet.index), outlet.link);
            if let Some(kbit_per_s) = outlet.max_kbit_per_s {
                builder = builder.pace(Rate::pace(u64::from(kbit_per_s) * 1000));
            }
        }
        let switch = builder.spawn().map_err(io::Error::other)?;
        Ok(Self { subnet, switch })
    }

    /// Makes the tap once and lets it go.
    pub(crate) async fn try_tap(subnet: Subnet) -> io::Result<()> {
        host_tap(&netlink()?, subnet).await.map(drop)
    }

    /// Makes a new socket for the next machine of this device.
    fn plug(&self, outlet: Outlet, server: SocketAddrV4) -> io::Result<Attachment> {
        let socket = self.switch.plug(outlet.client).map_err(io::Error::other)?;
        let ip = self.subnet.device(outlet.index);
        let fd = socket.as_raw_fd();
        Ok(Attachment {
            card: Card {
                netdev: format!("dgram,id=n0,local.type=fd,local.str={fd}"),
                inherited: Some(socket),
                mac: mac(outlet.index),
            },
            guest: GuestAddress {
                ip,
                prefix: self.subnet.prefix,
                server,
                reached_at: SocketAddrV4::new(ip, DEVICE_PORT),
            },
        })
    }
}

impl Fabric for Switchboard {
    fn server_ip(&self) -> Ipv4Addr {
        self.subnet.server()
    }

    fn own_address(&self, index: usize) -> Option<Ipv4Addr> {
        Some(self.subnet.device(index))
    }

    fn attach(
        &self,
        outlet: Outlet,
        server: SocketAddrV4,
    ) -> BoxFuture<'_, io::Result<Attachment>> {
        async move { self.plug(outlet, server) }.boxed()
    }

    fn can_cut(&self) -> bool {
        true
    }

    fn change_link(&self, client: u32, change: LinkChange) -> BoxFuture<'_, Result<(), String>> {
        async move {
            let changed = match change {
                LinkChange::Cut => self.switch.cut(client),
                LinkChange::Heal => self.switch.heal(client),
                LinkChange::Set(link) => self.switch.set_link(client, *link),
            };
            changed.map_err(|error| error.to_string())
        }
        .boxed()
    }

    fn switch(&self) -> Option<&SwitchHandle> {
        Some(&self.switch)
    }

    fn can_pace(&self) -> BoxFuture<'_, Result<(), String>> {
        async { Ok(()) }.boxed()
    }
}

/// The aggregator's tap, up and with its address, and its index.
async fn host_tap(netlink: &Handle, subnet: Subnet) -> io::Result<(OwnedFd, u32)> {
    bridge::up(netlink, "lo").await?;
    let tap = bridge::open_tap(NAME, false).await?;
    let index = if_nametoindex(NAME)?;
    let link = LinkUnspec::new_with_index(index)
        .address(HARDWARE_ADDRESS.to_vec())
        .append_extra_attribute(LinkAttribute::TxQueueLen(TAP_QUEUE_FRAMES))
        .up()
        .build();
    let set = netlink.link().set(link).execute().await;
    set.map_err(failed("bring up the tap"))?;
    let address = netlink
        .address()
        .add(index, subnet.server().into(), subnet.prefix);
    let added = address.execute().await;
    added.map_err(failed("give the tap its address"))?;
    Ok((tap, index))
}

/// The hardware address of device `index`.
fn address(index: usize) -> Mac {
    Mac(mac_bytes(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_the_address_of_its_devices_card() {
        let expected = Mac([0x52, 0x54, 0, 1, 2, 3]);
        assert_eq!(address(0x01_02_03), expected);
    }
}
