//! A Linux bridge `zfl` and a tap per device, in the network namespace of this process.
//!
//! A tap belongs to the descriptor that its QEMU inherits, so it goes with its QEMU. Taps are
//! isolated ports: devices reach the aggregator and not each other, which spares each one the ARP
//! requests of all others (a third of the cost of booting a large fleet).

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkUnspec};

use super::{Attachment, DEVICE_PORT, GuestAddress, Subnet, mac, pace};
use crate::sys;

pub(super) const NAME: &str = "zfl";

/// Without one of its own, a bridge takes the lowest of its ports' and changes it as ports come; a
/// device that has asked for the aggregator's before (and Zephyr asks once) then sends into the void.
pub(super) const HARDWARE_ADDRESS: [u8; 6] = [0x52, 0x54, 0x00, 0xff, 0xff, 0xff];

/// A Linux bridge has 1,024 port numbers, and 0 is none.
pub(crate) const MAX_DEVICES: usize = 1023;

/// The bridge, up, with the aggregator's address on it.
#[derive(Debug)]
pub(crate) struct Bridge {
    netlink: Handle,
    index: u32,
    subnet: Subnet,
    /// The clients whose links are cut, whether they have a machine or not.
    cut: Mutex<BTreeSet<u32>>,
}

impl Bridge {
    /// Makes the bridge in the network namespace of the caller.
    pub(crate) async fn start(subnet: Subnet) -> io::Result<Self> {
        let netlink = netlink()?;
        up(&netlink, "lo").await?;
        let bridge = LinkBridge::new(NAME)
            .address(HARDWARE_ADDRESS.to_vec())
            .build();
        netlink
            .link()
            .add(bridge)
            .execute()
            .await
            .map_err(failed("make the bridge"))?;
        let index = if_nametoindex(NAME)?;
        let server = subnet.server().into();
        let address = netlink.address().add(index, server, subnet.prefix);
        address
            .execute()
            .await
            .map_err(failed("give the bridge its address"))?;
        Ok(Self {
            netlink,
            index,
            subnet,
            cut: Mutex::default(),
        })
    }

    pub(super) fn server_ip(&self) -> Ipv4Addr {
        self.subnet.server()
    }

    pub(super) async fn attach(
        &self,
        index: usize,
        client: u32,
        max_kbit_per_s: Option<u32>,
        server: SocketAddrV4,
    ) -> io::Result<Attachment> {
        let name = tap_name(client);
        let tap = self.add_tap(&name).await?;
        if lock(&self.cut).contains(&client) {
            self.set_up(client, false).await?;
        }
        if let Some(kbit_per_s) = max_kbit_per_s {
            pace::limit(&self.netlink, if_nametoindex(name.as_str())?, kbit_per_s)
                .await
                .map_err(failed("pace the tap"))?;
        }
        let ip = self.subnet.device(index);
        let guest = GuestAddress {
            ip,
            prefix: self.subnet.prefix,
            server,
            reached_at: SocketAddrV4::new(ip, DEVICE_PORT),
        };
        let netdev = format!("tap,id=n0,fd={},vhost=off", tap.as_raw_fd());
        Ok(Attachment {
            netdev,
            inherited: Some(tap),
            mac: mac(index),
            guest,
        })
    }

    /// Takes a device's tap down, and that of its next machine, until [`Bridge::heal`].
    pub(super) async fn cut(&self, client: u32) -> io::Result<()> {
        lock(&self.cut).insert(client);
        self.set_up(client, false).await
    }

    pub(super) async fn heal(&self, client: u32) -> io::Result<()> {
        lock(&self.cut).remove(&client);
        self.set_up(client, true).await
    }

    /// Takes a tap up or down. A device without a machine has none, and that is no error.
    async fn set_up(&self, client: u32, up: bool) -> io::Result<()> {
        let Ok(index) = if_nametoindex(tap_name(client).as_str()) else {
            return Ok(());
        };
        let link = LinkUnspec::new_with_index(index);
        let link = if up { link.up() } else { link.down() };
        let set = self.netlink.link().set(link.build()).execute().await;
        set.map_err(failed("take a tap up or down"))
    }

    /// Whether links can lose and delay here; if not, why.
    pub(crate) async fn can_impair(&self) -> Result<(), String> {
        Err("a bridge does not impair links yet".into())
    }

    /// A tap that is an isolated port of the bridge, up.
    pub(crate) async fn add_tap(&self, name: &str) -> io::Result<OwnedFd> {
        let tap = open_tap(name, true).await?;
        let index = if_nametoindex(name)?;
        let plug = LinkUnspec::new_with_index(index)
            .controller(self.index)
            .up()
            .build();
        self.netlink
            .link()
            .set(plug)
            .execute()
            .await
            .map_err(failed("plug in a tap"))?;
        let isolate = LinkBridgePort::new(index).isolated(true).build();
        self.netlink
            .link()
            .set_port(isolate)
            .execute()
            .await
            .map_err(failed("isolate a tap"))?;
        Ok(tap)
    }

    /// Tries the queue that paces on the bridge itself, where it does no harm.
    pub(super) async fn can_pace(&self) -> Result<(), String> {
        let tried = pace::limit(&self.netlink, self.index, 1_000_000).await;
        let _ = pace::unlimit(&self.netlink, self.index).await;
        tried.map_err(|error| format!("this kernel has no token bucket (sch_tbf): {error}"))
    }
}

fn tap_name(client: u32) -> String {
    format!("{NAME}{client}")
}

fn lock(cut: &Mutex<BTreeSet<u32>>) -> MutexGuard<'_, BTreeSet<u32>> {
    cut.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A new tap. One of the same name that is about to go is waited for: a descendant of a machine that
/// was killed can hold it a moment longer than the machine itself.
pub(super) async fn open_tap(name: &str, vnet_header: bool) -> io::Result<OwnedFd> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let start = Instant::now();
    loop {
        match sys::open_tap(name, vnet_header) {
            Err(error)
                if error.kind() == io::ErrorKind::ResourceBusy && start.elapsed() < PATIENCE =>
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => {
                let text = format!("/dev/net/tun cannot be used: {error}");
                return Err(io::Error::new(error.kind(), text));
            }
            Ok(tap) => return Ok(tap),
        }
    }
}

/// Brings up the loopback of a new network namespace.
pub(super) async fn loopback_up() -> io::Result<()> {
    up(&netlink()?, "lo").await
}

pub(super) fn netlink() -> io::Result<Handle> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    Ok(handle)
}

pub(super) async fn up(netlink: &Handle, name: &str) -> io::Result<()> {
    let link = LinkUnspec::new_with_index(if_nametoindex(name)?)
        .up()
        .build();
    netlink
        .link()
        .set(link)
        .execute()
        .await
        .map_err(failed("bring up a link"))
}

pub(super) fn failed(what: &'static str) -> impl Fn(rtnetlink::Error) -> io::Error {
    move |error| match &error {
        // Its Display has the error twice.
        rtnetlink::Error::NetlinkError(message) => {
            let error = message.to_io();
            io::Error::new(error.kind(), format!("cannot {what}: {error}"))
        }
        other => io::Error::other(format!("cannot {what}: {other}")),
    }
}
