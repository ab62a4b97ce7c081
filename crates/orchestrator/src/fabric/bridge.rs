//! A Linux bridge `zfl` and a tap per device, in the network namespace of this process.
//!
//! A bridge has 1,023 ports, so a large fleet has several, each with a part of the addresses and a route to
//! it. The aggregator's address is on the first and answers on all.
//!
//! A tap belongs to the descriptor that its QEMU inherits, so it goes with its QEMU. Taps are
//! isolated ports: devices reach the aggregator, and gateways if there are any, and not each other, which spares each one the ARP
//! requests of all others (a third of the cost of booting a large fleet). No device can take the
//! addresses of another ([`guard`]).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use zfl_clock::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::packet_route::tc::TcHandle;
use rtnetlink::{Error, Handle, LinkBridge, LinkUnspec, RouteMessageBuilder};
use zfl_machine::Card;
use zfl_netsim::{Impairment, Link};

use super::guard::{self, Meets, Owner};
use super::{
    Attachment, DEVICE_PORT, Fabric, GuestAddress, LinkChange, Outlet, Subnet, mac, mac_bytes,
    netem, pace, queue,
};
use crate::sys;

pub(super) const NAME: &str = "zfl";

/// Without one of its own, a bridge takes the lowest of its ports' and changes it as ports come; a
/// device that has asked for the aggregator's before (and Zephyr asks once) then sends into the void.
pub(super) const HARDWARE_ADDRESS: [u8; 6] = [0x52, 0x54, 0x00, 0xff, 0xff, 0xff];

/// The bridges, up, with the aggregator's address on the first.
#[derive(Debug)]
pub(crate) struct Bridge {
    netlink: Handle,
    /// One for each part of the addresses.
    bridges: Vec<u32>,
    subnet: Subnet,
    seed: u64,
    /// Numbers in the fleet of those that devices meet.
    gateways: BTreeSet<usize>,
    /// Links by client, with and without a machine.
    states: Mutex<BTreeMap<u32, TapState>>,
    /// A tap that takes in what devices forge, or the reason for which they can.
    sink: Result<Sink, String>,
}

/// A tap that nobody reads.
#[derive(Debug)]
struct Sink {
    index: u32,
    /// It is up as long as this is open.
    _tap: OwnedFd,
}

/// Demands on a device's tap, and on that of its next machine.
#[derive(Clone, Copy, Debug, Default)]
struct TapState {
    cut: bool,
    /// `None`: nobody ever asked for impairments.
    link: Option<Link>,
    max_kbit_per_s: Option<u32>,
    /// Addresses of its device, once it has had a machine.
    owner: Option<Owner>,
    /// Diversion of what comes in at the tap through another link.
    diverted: bool,
}

impl Bridge {
    /// Makes the bridge in the network namespace of the caller.
    ///
    /// `seed`: of the chance in links, as far as the kernel takes one.
    pub(crate) async fn start(subnet: Subnet, seed: u64, outlets: &[Outlet]) -> io::Result<Self> {
        let netlink = netlink()?;
        up(&netlink, "lo").await?;
        let last = outlets.iter().map(|outlet| subnet.part_of(outlet.index));
        let mut bridges = vec![add_bridge(&netlink, NAME).await?];
        let server = subnet.server().into();
        let address = netlink.address().add(bridges[0], server, subnet.prefix);
        address
            .execute()
            .await
            .map_err(failed("give the bridge its address"))?;
        for part in 1..=last.max().unwrap_or(0) {
            let bridge = add_bridge(&netlink, &format!("zfb{part}")).await?;
            let routed = route(&netlink, subnet, part, bridge).await;
            routed.map_err(failed("route to a bridge"))?;
            bridges.push(bridge);
        }
        let sink = sink(&netlink).await.map_err(|error| error.to_string());
        Ok(Self {
            netlink,
            bridges,
            subnet,
            seed,
            gateways: outlets
                .iter()
                .filter(|outlet| outlet.is_gateway)
                .map(|outlet| outlet.index)
                .collect(),
            states: Mutex::new(outlets.iter().map(of_outlet).collect()),
            sink,
        })
    }

    async fn plug(&self, outlet: Outlet, server: SocketAddrV4) -> io::Result<Attachment> {
        let Outlet { index, client, .. } = outlet;
        let ip = self.subnet.device(index);
        let owner = Owner {
            mac: mac_bytes(index),
            ip,
        };
        let bridge = self.bridges[self.subnet.part_of(index)];
        // A link loses, delays and spoils frames of Ethernet, one by one. With a header before it, a machine may send a
        // frame of many segments, which nothing on this host cuts.
        let has_link = self.state(client, |_| ()).link.is_some();
        let vnet_header = !outlet.has_bare_frames && !has_link;
        let tap = open_tap(&tap_name(client), vnet_header).await?;
        self.add_tap(&tap_name(client), bridge, owner, self.meets(index))
            .await?;
        let state = self.state(client, |state| {
            state.max_kbit_per_s = outlet.max_kbit_per_s;
            state.owner = Some(owner);
            state.diverted = false;
        });
        self.apply(client, state).await?;
        Ok(Attachment {
            card: Card {
                netdev: format!("tap,id=n0,fd={},vhost=off", tap.as_raw_fd()),
                inherited: Some(tap),
                mac: mac(index),
            },
            guest: GuestAddress {
                ip,
                prefix: self.subnet.prefix,
                server,
                reached_at: SocketAddrV4::new(ip, DEVICE_PORT),
            },
        })
    }

    /// Changes a device's tap, and that of its next machine.
    async fn change(&self, client: u32, change: LinkChange) -> io::Result<()> {
        if let LinkChange::Set(link) = &change {
            netem::check(link).map_err(io::Error::other)?;
        }
        let state = self.state(client, |state| match change {
            LinkChange::Cut => state.cut = true,
            LinkChange::Heal => state.cut = false,
            LinkChange::Set(link) => state.link = Some(*link),
        });
        self.apply(client, state).await
    }

    /// Changes the demands on a device's tap, and returns all of them.
    fn state(&self, client: u32, change: impl FnOnce(&mut TapState)) -> TapState {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let state = states.entry(client).or_default();
        change(state);
        *state
    }

    /// Makes a device's tap as it is to be. Without a machine it has none, and that is no error.
    async fn apply(&self, client: u32, state: TapState) -> io::Result<()> {
        let Ok(tap) = if_nametoindex(tap_name(client).as_str()) else {
            return Ok(());
        };
        if let Some(link) = state.link {
            let impaired = self.impair(client, tap, &link, state).await;
            impaired.map_err(failed(
                "impair a link by netem (`--network switch` needs none)",
            ))?;
        }
        if let Some(kbit_per_s) = state.max_kbit_per_s {
            let parent = state.link.map_or(TcHandle::ROOT, |_| netem::BELOW);
            let paced = pace::limit(&self.netlink, tap, parent, kbit_per_s).await;
            paced.map_err(failed("pace the tap"))?;
        }
        let link = LinkUnspec::new_with_index(tap);
        let link = if state.cut { link.down() } else { link.up() };
        let set = self.netlink.link().set(link.build()).execute().await;
        set.map_err(failed("take a tap up or down"))
    }

    async fn impair(
        &self,
        client: u32,
        tap: u32,
        link: &Link,
        state: TapState,
    ) -> Result<(), rtnetlink::Error> {
        let netlink = &self.netlink;
        for &bridge in &self.bridges {
            netem::single_segments(netlink, bridge).await?;
        }
        // Two directions of many devices must not share their chance.
        let seed = self.seed ^ (u64::from(client) << 32);
        netem::impair(netlink, tap, &link.downlink, seed).await?;
        let ifb = netem::ifb(netlink, &format!("zfi{client}")).await?;
        netem::impair(netlink, ifb, &link.uplink, seed ^ 1).await?;
        match state.owner.filter(|_| !state.diverted) {
            None => return Ok(()),
            Some(owner) if self.sink.is_ok() => guard::divert(netlink, tap, owner, ifb).await?,
            Some(_) => guard::divert_all(netlink, tap, ifb).await?,
        }
        self.state(client, |state| state.diverted = true);
        Ok(())
    }

    /// Tries on the bridge itself if links can lose and delay here; if not, says why.
    pub(crate) async fn has_netem(&self) -> Result<(), String> {
        let tried = netem::impair(&self.netlink, self.bridges[0], &Impairment::default(), 0).await;
        let _ = queue::remove(&self.netlink, self.bridges[0]).await;
        tried.map_err(|error| {
            let error = plain(error);
            format!("this kernel has no netem (sch_netem): {error}")
        })
    }

    /// The same for both directions; the bridge is of no use after that.
    pub(crate) async fn can_impair(self) -> Result<(), String> {
        self.has_netem().await?;
        let tried = match netem::ifb(&self.netlink, "zfi").await {
            Ok(ifb) => guard::divert_all(&self.netlink, self.bridges[0], ifb).await,
            Err(error) => Err(error),
        };
        let parts = "ifb, sch_ingress, cls_u32, act_mirred";
        tried.map_err(|error| {
            let error = plain(error);
            format!("this kernel cannot redirect what a device sends ({parts}): {error}")
        })
    }

    /// Makes the tap of a device once and lets it go.
    pub(crate) async fn try_tap(&self) -> io::Result<()> {
        let owner = Owner {
            mac: mac_bytes(0),
            ip: self.subnet.device(0),
        };
        let _tap = open_tap(&tap_name(0), true).await?;
        self.add_tap(&tap_name(0), self.bridges[0], owner, self.meets(0))
            .await
    }

    /// Those whom a device of the fleet meets.
    fn meets(&self, index: usize) -> Meets {
        match (self.gateways.is_empty(), self.gateways.contains(&index)) {
            (true, _) => Meets::Aggregator,
            (false, false) => Meets::Gateways,
            (false, true) => Meets::All,
        }
    }

    /// Makes a tap a port of a bridge for this device alone, and brings it up.
    async fn add_tap(&self, name: &str, bridge: u32, owner: Owner, meets: Meets) -> io::Result<()> {
        let index = if_nametoindex(name)?;
        let links = || self.netlink.link();
        let plug = LinkUnspec::new_with_index(index).controller(bridge);
        let plugged = links().set(plug.build()).execute().await;
        plugged.map_err(failed("plug in a tap"))?;
        let tied = guard::tie(&self.netlink, bridge, index, owner, meets).await;
        tied.map_err(failed("tie a tap to its device"))?;
        if let Ok(sink) = &self.sink {
            let shut = guard::shut(&self.netlink, index, owner, sink.index).await;
            shut.map_err(failed("shut a tap to forged addresses"))?;
        }
        let up = LinkUnspec::new_with_index(index).up().build();
        let up = links().set(up).execute().await;
        up.map_err(failed("bring up a tap"))
    }
}

impl Fabric for Bridge {
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
        self.plug(outlet, server).boxed()
    }

    fn lack(&self) -> Option<String> {
        let why = self.sink.as_ref().err()?;
        Some(format!(
            "on this bridge a device can send under the address of another, though the answers go to the \
             other ({why}); `--network switch` drops such frames"
        ))
    }

    fn can_cut(&self) -> bool {
        true
    }

    fn change_link(&self, client: u32, change: LinkChange) -> BoxFuture<'_, Result<(), String>> {
        let changed = self.change(client, change);
        changed
            .map(|result| result.map_err(|error| error.to_string()))
            .boxed()
    }

    /// Tries the queue that paces on the bridge itself, where it does no harm.
    fn can_pace(&self) -> BoxFuture<'_, Result<(), String>> {
        async {
            let tried =
                pace::limit(&self.netlink, self.bridges[0], TcHandle::ROOT, 1_000_000).await;
            let _ = queue::remove(&self.netlink, self.bridges[0]).await;
            tried.map_err(|error| format!("this kernel has no token bucket (sch_tbf): {error}"))
        }
        .boxed()
    }
}

/// Makes a bridge and brings it up.
async fn add_bridge(netlink: &Handle, name: &str) -> io::Result<u32> {
    let bridge = LinkBridge::new(name).address(HARDWARE_ADDRESS.to_vec());
    let added = netlink.link().add(bridge.build()).execute().await;
    added.map_err(failed("make the bridge"))?;
    up(netlink, name).await?;
    Ok(if_nametoindex(name)?)
}

/// Sends what is for a part of the addresses to its bridge.
async fn route(netlink: &Handle, subnet: Subnet, part: usize, bridge: u32) -> Result<(), Error> {
    let (first, prefix) = subnet.part(part);
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(first, prefix)
        .output_interface(bridge)
        .scope(RouteScope::Link)
        .pref_source(subnet.server());
    netlink.route().add(route.build()).execute().await
}

/// Makes the tap for what devices forge, and tries on it what keeps that out of the bridge.
async fn sink(netlink: &Handle) -> io::Result<Sink> {
    const NAME: &str = "zfx";
    let tap = open_tap(NAME, false).await?;
    let index = if_nametoindex(NAME)?;
    let link = LinkUnspec::new_with_index(index)
        .append_extra_attribute(LinkAttribute::TxQueueLen(1))
        .up()
        .build();
    let set = netlink.link().set(link).execute().await;
    set.map_err(failed("bring up a tap"))?;
    let owner = Owner {
        mac: HARDWARE_ADDRESS,
        ip: Ipv4Addr::UNSPECIFIED,
    };
    let shut = guard::shut(netlink, index, owner, index).await;
    shut.map_err(failed(
        "filter what comes in at a link (sch_ingress, cls_u32, act_mirred)",
    ))?;
    Ok(Sink { index, _tap: tap })
}

fn tap_name(client: u32) -> String {
    format!("{NAME}{client}")
}

fn of_outlet(outlet: &Outlet) -> (u32, TapState) {
    let state = TapState {
        link: Some(outlet.link).filter(|link| !link.is_perfect()),
        ..TapState::default()
    };
    (outlet.client, state)
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
                zfl_clock::sleep(Duration::from_millis(10)).await;
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
    move |error| {
        let error = plain(error);
        io::Error::new(error.kind(), format!("cannot {what}: {error}"))
    }
}

/// Error of the system, without its envelope of netlink.
fn plain(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}
