//! The switch of this crate between a tap for the aggregator and a socket for each machine, in the
//! network namespace of this process.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::net::if_::if_nametoindex;
use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::link::LinkAttribute;

use super::bridge::{self, HARDWARE_ADDRESS, NAME, failed, netlink};
use super::{Attachment, DEVICE_PORT, GuestAddress, Outlet, Subnet, mac};
use crate::switch::{ClientStats, Link, Mac, Rate, Switch, SwitchError, SwitchHandle, SwitchStats};

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
        let tap = host_tap(subnet).await?;
        let mut builder = Switch::builder(seed).host(tap);
        for outlet in outlets {
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
        host_tap(subnet).await.map(drop)
    }

    pub(super) fn server_ip(&self) -> Ipv4Addr {
        self.subnet.server()
    }

    /// A new socket for the next machine of this device, in place of its last one's.
    pub(super) fn attach(
        &self,
        index: usize,
        client: u32,
        server: SocketAddrV4,
    ) -> io::Result<Attachment> {
        let socket = self.switch.plug(client).map_err(io::Error::other)?;
        let ip = self.subnet.device(index);
        let guest = GuestAddress {
            ip,
            prefix: self.subnet.prefix,
            server,
            reached_at: SocketAddrV4::new(ip, DEVICE_PORT),
        };
        let fd = socket.as_raw_fd();
        Ok(Attachment {
            netdev: format!("dgram,id=n0,local.type=fd,local.str={fd}"),
            inherited: Some(socket),
            mac: mac(index),
            guest,
        })
    }

    pub(super) fn cut(&self, client: u32) -> Result<(), SwitchError> {
        self.switch.cut(client)
    }

    pub(super) fn heal(&self, client: u32) -> Result<(), SwitchError> {
        self.switch.heal(client)
    }

    pub(super) fn set_link(&self, client: u32, link: Link) -> Result<(), SwitchError> {
        self.switch.set_link(client, link)
    }

    pub(super) fn stats(&self) -> SwitchStats {
        self.switch.stats()
    }

    pub(super) fn client_stats(&self, client: u32) -> Option<ClientStats> {
        self.switch.client_stats(client)
    }

    /// Begins `<client>.pcapng` in `folder`.
    pub(super) fn capture(&self, client: u32, folder: &Path) -> Result<(), SwitchError> {
        let path = folder.join(format!("{client}.pcapng"));
        fs::create_dir_all(folder)?;
        self.switch.capture(client, &path)
    }

    /// Completes a client's capture, if it has one.
    pub(super) fn stop_capture(&self, client: u32) -> Result<(), SwitchError> {
        self.switch.stop_capture(client)
    }
}

/// The aggregator's tap, up and with its address.
async fn host_tap(subnet: Subnet) -> io::Result<OwnedFd> {
    let netlink = netlink()?;
    bridge::up(&netlink, "lo").await?;
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
    Ok(tap)
}

/// The hardware address of device `index`, as [`mac`] writes it.
fn address(index: usize) -> Mac {
    mac(index).parse().expect("six bytes in hexadecimal")
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
