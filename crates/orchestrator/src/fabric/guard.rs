//! Guard of a bridge's port: what a device sends under another's address is dropped, and what is for one
//! device goes nowhere else.
//!
//! The second part is of the bridge and the host: the port of each hardware address and the hardware address
//! of each device stand fast, and nobody is asked. The first part is of the kernel's classifier (`tc filter …
//! u32`), on what comes in at the tap: IPv4 and ARP from the device's own addresses pass, and all else is
//! redirected to a tap that nobody reads.

use std::net::Ipv4Addr;

use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourState};
use rtnetlink::packet_route::tc::{
    TcAction, TcActionAttribute, TcActionGeneric, TcActionMirror, TcActionMirrorOption,
    TcActionOption, TcActionType, TcFilterU32Option, TcMirror, TcMirrorActionType, TcU32Key,
    TcU32Selector, TcU32SelectorFlags,
};
use rtnetlink::{Error, Handle, LinkBridgePort};

// Of <linux/if_ether.h>.
const ETH_P_ALL: u16 = 0x0003;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_ARP: u16 = 0x0806;

/// Place of filters on what comes in at a link (`ffff:`).
const INGRESS: u32 = 0xffff_0000;

/// Addresses of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) mac: [u8; 6],
    pub(super) ip: Ipv4Addr,
}

/// Others that a device meets on its bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meets {
    /// The aggregator alone.
    Aggregator,
    /// The aggregator and gateways, whose ARP requests it hears.
    Gateways,
    /// Everybody, as a gateway does.
    All,
}

/// Way of what a device sends under its own addresses.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// Into the bridge.
    Straight,
    /// Through this link, which impairs it.
    Through(u32),
}

/// Ties the addresses of a device to a port of a bridge.
pub(super) async fn tie(
    netlink: &Handle,
    bridge: u32,
    port: u32,
    owner: Owner,
    meets: Meets,
) -> Result<(), Error> {
    let fast = LinkBridgePort::new(port)
        .isolated(meets != Meets::All)
        .learning(false)
        .flood(false)
        .mcast_flood(false)
        .bcast_flood(meets != Meets::Aggregator)
        .build();
    netlink.link().set_port(fast).execute().await?;
    // Sticky: another port on which the address is seen does not take it over.
    let forward = netlink.neighbours().add_bridge(port, &owner.mac);
    forward
        .state(NeighbourState::Noarp)
        .flags(NeighbourFlags::Controller | NeighbourFlags::Sticky)
        .replace()
        .execute()
        .await?;
    know(netlink, bridge, owner).await
}

/// Tells the host the hardware address of a device that is behind a link.
///
/// Permanent, so that no ARP changes it. The kernel does not count such entries, of which it else has room
/// for 512 to 1,024 in all namespaces together (`gc_thresh2`, `gc_thresh3`): with more devices than that,
/// connections to them would wait for answers that were thrown away.
pub(super) async fn know(netlink: &Handle, link: u32, owner: Owner) -> Result<(), Error> {
    let neighbour = netlink.neighbours().add(link, owner.ip.into());
    let neighbour = neighbour.link_layer_address(&owner.mac).replace();
    neighbour.execute().await
}

/// Lets in at a link what has the addresses of `owner`, and sends all else to `sink`.
pub(super) async fn shut(
    netlink: &Handle,
    link: u32,
    owner: Owner,
    sink: u32,
) -> Result<(), Error> {
    ingress(netlink, link).await?;
    add(netlink, link, 5, ETH_P_ALL, &[ANY], Way::Through(sink)).await?;
    let Owner { mac, ip } = owner;
    add(netlink, link, 3, ETH_P_IP, &from_ip(mac, ip), Way::Straight).await?;
    add(
        netlink,
        link,
        4,
        ETH_P_ARP,
        &from_arp(mac, ip),
        Way::Straight,
    )
    .await
}

/// Sends through another link what comes in at one that is shut, from now on.
pub(super) async fn divert(
    netlink: &Handle,
    link: u32,
    owner: Owner,
    through: u32,
) -> Result<(), Error> {
    let (Owner { mac, ip }, way) = (owner, Way::Through(through));
    add(netlink, link, 1, ETH_P_IP, &from_ip(mac, ip), way).await?;
    add(netlink, link, 2, ETH_P_ARP, &from_arp(mac, ip), way).await
}

/// Sends through another link all that comes in at one.
pub(super) async fn divert_all(netlink: &Handle, link: u32, through: u32) -> Result<(), Error> {
    ingress(netlink, link).await?;
    add(netlink, link, 1, ETH_P_ALL, &[ANY], Way::Through(through)).await
}

/// Makes the place of filters on what comes in at a link, unless it is there.
async fn ingress(netlink: &Handle, link: u32) -> Result<(), Error> {
    let ingress = netlink.qdisc().add(link.cast_signed()).ingress().execute();
    match ingress.await {
        Err(Error::NetlinkError(error)) if error.raw_code() == -nix::libc::EEXIST => Ok(()),
        other => other,
    }
}

/// Four bytes of a frame, counted from the header behind Ethernet's: a value, and the bits that count.
type Key = (i32, u32, u32);

const ANY: Key = (0, 0, 0);

/// Keys of an IPv4 packet from these addresses.
fn from_ip(mac: [u8; 6], ip: Ipv4Addr) -> Vec<Key> {
    let mut keys = from_mac(mac);
    keys.push((12, ip.to_bits(), u32::MAX));
    keys
}

/// Keys of an ARP packet from these addresses, which it names again.
fn from_arp(mac: [u8; 6], ip: Ipv4Addr) -> Vec<Key> {
    let mut keys = from_mac(mac);
    let [a, b, c, d] = ip.octets();
    let [m0, m1, m2, m3, m4, m5] = mac;
    keys.extend([
        (8, u32::from_be_bytes([m0, m1, m2, m3]), u32::MAX),
        (12, u32::from_be_bytes([m4, m5, a, b]), u32::MAX),
        (16, u32::from_be_bytes([c, d, 0, 0]), 0xffff_0000),
    ]);
    keys
}

/// Keys of a frame from this address, the second of Ethernet's header.
fn from_mac(mac: [u8; 6]) -> Vec<Key> {
    let [a, b, c, d, e, f] = mac;
    vec![
        (-8, u32::from_be_bytes([a, b, c, d]), u32::MAX),
        (-4, u32::from_be_bytes([e, f, 0, 0]), 0xffff_0000),
    ]
}

async fn add(
    netlink: &Handle,
    link: u32,
    priority: u16,
    protocol: u16,
    keys: &[Key],
    way: Way,
) -> Result<(), Error> {
    let mut options = vec![TcFilterU32Option::Selector(selector(keys))];
    if let Way::Through(other) = way {
        options.push(TcFilterU32Option::Action(vec![redirect(other)]));
    }
    let filter = netlink.traffic_filter(link.cast_signed()).add();
    let filter = filter.parent(INGRESS).priority(priority);
    filter
        .protocol(protocol.to_be())
        .u32(&options)?
        .execute()
        .await
}

/// The first filter whose keys all match decides.
fn selector(keys: &[Key]) -> TcU32Selector {
    let mut selector = TcU32Selector::default();
    selector.flags = TcU32SelectorFlags::Terminal;
    selector.nkeys = u8::try_from(keys.len()).expect("a few keys");
    selector.keys = keys
        .iter()
        .map(|&(offset, value, mask)| {
            let mut key = TcU32Key::default();
            (key.off, key.val, key.mask) = (offset, value, mask);
            key
        })
        .collect();
    selector
}

fn redirect(link: u32) -> TcAction {
    let mut mirror = TcMirror::default();
    mirror.generic = TcActionGeneric::default();
    mirror.generic.action = TcActionType::Stolen;
    mirror.eaction = TcMirrorActionType::EgressRedir;
    mirror.ifindex = link;
    let mut action = TcAction::default();
    action.attributes = vec![
        TcActionAttribute::Kind(TcActionMirror::KIND.to_owned()),
        TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(
            mirror,
        ))]),
    ];
    action
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];
    const IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

    /// A frame from its header on, as the kernel's classifier reads it.
    fn matches(keys: &[Key], frame: &[u8]) -> bool {
        const HEADER: i32 = 14;
        keys.iter().all(|&(offset, value, mask)| {
            let at = usize::try_from(HEADER + offset).unwrap();
            let word = frame.get(at..at + 4).map(|word| word.try_into().unwrap());
            word.is_some_and(|word| u32::from_be_bytes(word) & mask == value)
        })
    }

    fn ip_frame(mac: [u8; 6], ip: Ipv4Addr) -> Vec<u8> {
        let mut frame = [&[0xff; 6][..], &mac, &[8, 0], &[0; 20]].concat();
        frame[14 + 12..14 + 16].copy_from_slice(&ip.octets());
        frame
    }

    fn arp_frame(mac: [u8; 6], told: [u8; 6], ip: Ipv4Addr) -> Vec<u8> {
        let head = [0, 1, 8, 0, 6, 4, 0, 1];
        let rest = [0; 10];
        [
            &[0xff; 6][..],
            &mac,
            &[8, 6],
            &head,
            &told,
            &ip.octets(),
            &rest,
        ]
        .concat()
    }

    #[test]
    fn only_a_devices_own_addresses_pass() {
        let (other, stranger) = ([0x52, 0x54, 0, 1, 2, 4], Ipv4Addr::new(192, 0, 2, 8));
        let ip = from_ip(MAC, IP);
        assert!(matches(&ip, &ip_frame(MAC, IP)));
        assert!(!matches(&ip, &ip_frame(other, IP)));
        assert!(!matches(&ip, &ip_frame(MAC, stranger)));
        let arp = from_arp(MAC, IP);
        assert!(matches(&arp, &arp_frame(MAC, MAC, IP)));
        for forged in [(other, MAC, IP), (MAC, other, IP), (MAC, MAC, stranger)] {
            assert!(
                !matches(&arp, &arp_frame(forged.0, forged.1, forged.2)),
                "{forged:?}"
            );
        }
    }
}
