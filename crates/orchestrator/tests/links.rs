//! The links of a fleet, with a shell script in place of QEMU: paced, cut, spoilt, counted, captured.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt as _;
use rtnetlink::packet_route::tc::{TcAttribute, TcMessage, TcStats};
use support::play::{LINKS, NOTHING, next, start};
use support::{board, fleet, stage};
use zfl_netsim::{Impairment, LaneStats, Link, Loss};
use zfl_orchestrator::{DeviceBody, Fleet, FleetError, FleetEvent, PcapConfig};
use zfl_sandbox::Sandbox;

roles!(
    Auto NOTHING =>
        a_poor_card_is_paced,
        a_tap_that_is_still_held_is_waited_for;
    Bridge NOTHING =>
        a_device_on_a_further_bridge_is_reached,
        a_tap_is_taken_down_and_up,
        what_a_device_forges_is_dropped;
    Bridge LINKS =>
        a_bridge_impairs_links_or_the_switch_does,
        on_a_bridge_a_poor_card_is_paced_behind_its_link;
    Switch NOTHING =>
        frames_are_counted_and_captured,
        a_link_is_cut_and_healed_and_changed,
        nobody_is_asked_where_a_device_is,
        one_seed_loses_the_same_frames,
        on_the_switch_a_poor_card_is_paced;
    User NOTHING =>
        without_links_none_is_cut_or_spoilt;
);

/// Reads the kernel's line about a queue of this kind at a link.
async fn queue(link: &str, kind: &str) -> Option<TcStats> {
    let (connection, netlink, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    let index = nix::net::if_::if_nametoindex(link).unwrap().cast_signed();
    let queues: Vec<_> = netlink.qdisc().get().index(index).execute().collect().await;
    // The kernel tells of all links, whatever it was asked.
    let of_link = |queue: &TcMessage| queue.header.index == index;
    queues
        .into_iter()
        .flatten()
        .filter(of_link)
        .find_map(|queue| {
            let is_it =
                |attribute: &_| matches!(attribute, TcAttribute::Kind(name) if name == kind);
            queue.attributes.iter().find(|attribute| is_it(attribute))?;
            queue
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    TcAttribute::Stats(stats) => Some(*stats),
                    _ => None,
                })
        })
}

/// Tells the host where a guest is that answers no ARP.
async fn introduce(ip: std::net::IpAddr) {
    let (connection, netlink, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    let bridge = nix::net::if_::if_nametoindex("zfl").unwrap();
    let neighbour = netlink.neighbours().add(bridge, ip).replace();
    let mac = [0x52, 0x54, 0, 0, 0, 0];
    neighbour.link_layer_address(&mac).execute().await.unwrap();
}

async fn a_poor_card_is_paced(sandbox: Sandbox) {
    let mut board = board("good");
    board.nic.max_kbit_per_s = Some(100);
    let (fleet, server, mut events) = start(sandbox, fleet(board, 1)).await;
    fleet.boot(server).await;
    let address = |event| match event {
        FleetEvent::Running { address, .. } => Some(address),
        _ => None,
    };
    let address = next(&mut events, address).await;
    if address.ip().is_loopback() {
        assert!(
            fleet.warnings()[0].contains("cannot pace"),
            "{:?}",
            fleet.warnings()
        );
    } else {
        assert_eq!(fleet.warnings(), [""; 0]);
        introduce(address.ip()).await;
        let socket = tokio::net::UdpSocket::bind((fleet.server_ip(), 0))
            .await
            .unwrap();
        // At that rate they take five seconds. A bridge whose first port has just come up may drop
        // the first frames, so they are sent until some wait.
        let start = std::time::Instant::now();
        while queue("zfl1", "tbf").await.expect("a token bucket").backlog == 0 {
            assert!(start.elapsed() < support::PATIENCE, "nothing waits");
            for _ in 0..50 {
                socket.send_to(&[0; 1400], address).await.unwrap();
            }
        }
    }
    fleet.stop().await;
}

/// Of a fleet that is too large for one bridge, boots the last device, and waits until frames for it are at
/// its tap. Nobody has told the host where it is.
async fn a_device_on_a_further_bridge_is_reached(sandbox: Sandbox) {
    let mut board = board("good");
    board.nic.max_kbit_per_s = Some(100);
    let mut config = fleet(board, 300);
    config.oversubscribe = true;
    let (fleet, server, mut events) = start(sandbox, config).await;
    fleet.boot_one(300, server).await.unwrap().unwrap();
    let address = |event| match event {
        FleetEvent::Running { address, .. } => Some(address),
        _ => None,
    };
    let address = next(&mut events, address).await;
    assert_eq!(address, SocketAddr::from(([198, 18, 1, 45], 80)));
    let socket = tokio::net::UdpSocket::bind((fleet.server_ip(), 0))
        .await
        .unwrap();
    let began = std::time::Instant::now();
    while queue("zfl300", "tbf")
        .await
        .expect("a token bucket")
        .backlog
        == 0
    {
        assert!(began.elapsed() < support::PATIENCE, "nothing arrives");
        for _ in 0..50 {
            socket.send_to(&[0; 1400], address).await.unwrap();
        }
    }
    fleet.stop().await;
}

/// The switch's side has the hardware address of every device before any has booted.
async fn nobody_is_asked_where_a_device_is(sandbox: Sandbox) {
    let (fleet, _, _events) = start(sandbox, fleet(board("good"), 3)).await;
    let known = neighbour([192, 0, 2, 4].into()).await;
    assert_eq!(known, Some(vec![0x52, 0x54, 0, 0, 0, 2]));
    fleet.stop().await;
}

/// Boots a device whose tap somebody has not let go of yet.
async fn a_tap_that_is_still_held_is_waited_for(sandbox: Sandbox) {
    let (fleet, server, mut events) = start(sandbox, fleet(board("good"), 1)).await;
    let held = (!fleet.server_ip().is_loopback()).then(|| hold_tap("zfl1"));
    let let_go = async {
        let booting = |event| matches!(event, FleetEvent::Booting { .. }).then_some(());
        next(&mut events, booting).await;
        drop(held);
    };
    let (report, ()) = tokio::join!(fleet.boot(server), let_go);
    let attempts: Vec<u32> = report.booted.iter().map(|booted| booted.attempts).collect();
    assert_eq!(attempts, [1], "{:?}", report.failed);
    fleet.stop().await;
}

fn hold_tap(name: &str) -> std::fs::File {
    use nix::libc;
    use std::os::fd::AsRawFd;
    nix::ioctl_write_int!(tun_set_iff, b'T', 202);
    let mut options = std::fs::File::options();
    let file = options.read(true).write(true).open("/dev/net/tun").unwrap();
    // SAFETY: all fields of ifreq are integers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads one ifreq, which outlives the call.
    unsafe { tun_set_iff(file.as_raw_fd(), &raw const request as libc::c_ulong) }.unwrap();
    file
}

const OWN: ([u8; 6], [u8; 4]) = ([0x52, 0x54, 0, 0, 0, 0], [192, 0, 2, 2]);
const OTHERS: ([u8; 6], [u8; 4]) = ([0x52, 0x54, 0, 0, 0, 1], [192, 0, 2, 3]);

/// A datagram with this payload to the aggregator's address, as the bridge gets it.
fn datagram(mac: [u8; 6], ip: [u8; 4], payload: u8) -> Vec<u8> {
    let mut header = [
        0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1,
    ];
    header[12..16].copy_from_slice(&ip);
    let words = header
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    let bridge = [0x52, 0x54, 0, 0xff, 0xff, 0xff];
    let udp = [0, 9, 0, 9, 0, 9, 0, 0, payload];
    [&bridge[..], &mac, &[8, 0], &header, &udp].concat()
}

/// An ARP packet that tells everybody where an address is.
fn announcement(mac: [u8; 6], told: [u8; 6], ip: [u8; 4]) -> Vec<u8> {
    let head = [8, 6, 0, 1, 8, 0, 6, 4, 0, 1];
    [&[0xff; 6][..], &mac, &head, &told, &ip, &[0; 6], &ip].concat()
}

/// A device sends under the addresses of another, and only what it sends under its own gets in.
async fn what_a_device_forges_is_dropped(sandbox: Sandbox) {
    let frames = [
        datagram(OWN.0, OTHERS.1, b'i'),
        datagram(OTHERS.0, OTHERS.1, b'b'),
        datagram(OTHERS.0, OWN.1, b'm'),
        datagram(OWN.0, [192, 0, 2, 1], b'a'),
        announcement(OWN.0, OWN.0, OTHERS.1),
        announcement(OTHERS.0, OWN.0, OTHERS.1),
        datagram(OWN.0, OWN.1, b'.'),
    ];
    let escaped = |frame: &Vec<u8>| frame.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    let lines: Vec<String> = frames.iter().map(escaped).collect();
    std::fs::write(stage().join("frames"), lines.join("\n") + "\n").unwrap();
    let mut config = fleet(board("forges"), 2);
    config.devices[1].body = DeviceBody::Emulated(board("good").into());
    config.boot.attempts = 1;
    let (fleet, server, _events) = start(sandbox, config).await;
    assert_eq!(fleet.warnings(), [""; 0]);
    let aggregator = tokio::net::UdpSocket::bind((fleet.server_ip(), 9))
        .await
        .unwrap();
    let got = async {
        let mut got = Vec::new();
        while got.len() < 20 {
            let mut payload = [0; 1];
            let (_, from) = aggregator.recv_from(&mut payload).await.unwrap();
            got.push((payload[0] as char, from.ip().to_string()));
        }
        got
    };
    // The one that forges shows no prompt; the other runs all the while.
    fleet.boot_one(2, server).await.unwrap().unwrap();
    let got = tokio::select! {
        booted = fleet.boot_one(1, server) => panic!("{booted:?}"),
        got = got => got,
    };
    let own = ('.', "192.0.2.2".to_owned());
    assert!(got.iter().all(|datagram| *datagram == own), "{got:?}");
    let neighbour = neighbour([192, 0, 2, 3].into()).await;
    assert_eq!(neighbour, Some(OTHERS.0.to_vec()));
    fleet.stop().await;
}

/// Hardware address at which the host believes this address to be.
async fn neighbour(ip: std::net::Ipv4Addr) -> Option<Vec<u8>> {
    use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute};
    let (connection, netlink, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    let all: Vec<_> = netlink.neighbours().get().execute().collect().await;
    let is_it = NeighbourAttribute::Destination(NeighbourAddress::Inet(ip));
    let found = all
        .into_iter()
        .flatten()
        .find(|one| one.attributes.contains(&is_it))?;
    found
        .attributes
        .into_iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(address) => Some(address),
            _ => None,
        })
}

/// Sends so many datagrams to a device from the aggregator's address.
async fn send(fleet: &Fleet, count: u32) {
    let device = SocketAddr::from(([192, 0, 2, 2], 9));
    introduce(device.ip()).await;
    let socket = tokio::net::UdpSocket::bind((fleet.server_ip(), 0))
        .await
        .unwrap();
    for _ in 0..count {
        socket.send_to(&[7; 100], device).await.unwrap();
    }
}

/// Frames that the first device's link delivered, and frames taken by its cut and its losses.
async fn downlink(fleet: &Fleet, frames: u64) -> (u64, u64, u64) {
    let link = || fleet.link_stats(1).unwrap().downlink;
    let done = |link: LaneStats| link.delivered_frames + link.cut_drops + link.lost;
    support::wait_until("the frames are accounted for", || done(link()) >= frames);
    let LaneStats {
        delivered_frames,
        cut_drops,
        lost,
        ..
    } = link();
    (delivered_frames, cut_drops, lost)
}

/// The lengths of the frames in a pcapng file, or how its blocks do not fit.
fn frames_in(file: &std::path::Path) -> Vec<u32> {
    const ENHANCED_PACKET: u32 = 6;
    let bytes = std::fs::read(file).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (mut at, mut frames) = (0, Vec::new());
    while at < bytes.len() {
        let length = word(at + 4);
        if word(at) == ENHANCED_PACKET {
            frames.push(word(at + 20));
        }
        at += length as usize;
        assert_eq!(word(at - 4), length, "a block ends with its length");
    }
    frames
}

async fn frames_are_counted_and_captured(sandbox: Sandbox) {
    let mut config = fleet(board("speaks"), 2);
    let dir = stage().join("pcap");
    config.pcap = Some(PcapConfig {
        dir: dir.clone(),
        clients: Some(vec![1]),
    });
    let (fleet, server, _events) = start(sandbox, config).await;
    let report = fleet.boot(server).await;
    assert_eq!(report.booted.len(), 2, "{:?}", report.failed);
    send(&fleet, 10).await;
    // The answer to its question, and what was sent.
    let (delivered, ..) = downlink(&fleet, 11).await;
    assert_eq!(delivered, 11);
    assert_eq!(fleet.link_stats(1).unwrap().uplink.delivered_frames, 1);
    // The second device asked under the address of the first.
    let stats = fleet.switch_stats().unwrap();
    assert_eq!(stats.clients[&2].port.forged, 1);
    assert_eq!(fleet.link_stats(3), None);
    fleet.stop().await;
    let frames = frames_in(&dir.join("1.pcapng"));
    assert_eq!(
        frames.iter().filter(|&&length| length == 42).count(),
        2,
        "{frames:?}"
    );
    assert_eq!(
        frames.iter().filter(|&&length| length == 142).count(),
        10,
        "{frames:?}"
    );
    assert!(!dir.join("2.pcapng").exists());
}

async fn a_link_is_cut_and_healed_and_changed(sandbox: Sandbox) {
    let (fleet, server, _events) = start(sandbox, fleet(board("good"), 1)).await;
    fleet.boot(server).await;
    assert!(fleet.can_cut());
    send(&fleet, 3).await;
    assert_eq!(downlink(&fleet, 3).await, (3, 0, 0));
    fleet.cut(1).await.unwrap();
    send(&fleet, 4).await;
    assert_eq!(downlink(&fleet, 7).await, (3, 4, 0));
    fleet.kill(1).await.unwrap();
    fleet.boot_one(1, server).await.unwrap().unwrap();
    send(&fleet, 1).await;
    assert_eq!(
        downlink(&fleet, 8).await,
        (3, 5, 0),
        "a reboot heals nothing"
    );
    fleet.heal(1).await.unwrap();
    send(&fleet, 2).await;
    assert_eq!(downlink(&fleet, 10).await, (5, 5, 0));
    let all_lost = Impairment {
        loss: Loss::independent(1.0),
        ..Impairment::default()
    };
    fleet.set_link(1, Link::symmetric(all_lost)).await.unwrap();
    send(&fleet, 6).await;
    assert_eq!(downlink(&fleet, 16).await, (5, 5, 6));
    let impossible = Impairment {
        loss: Loss::independent(2.0),
        ..Impairment::default()
    };
    assert!(
        fleet
            .set_link(1, Link::symmetric(impossible))
            .await
            .is_err()
    );
    assert!(matches!(fleet.cut(9).await, Err(FleetError::Unknown(9))));
    fleet.stop().await;
}

async fn on_the_switch_a_poor_card_is_paced(sandbox: Sandbox) {
    let mut board = board("good");
    board.nic.max_kbit_per_s = Some(10);
    let (fleet, server, _events) = start(sandbox, fleet(board, 1)).await;
    fleet.boot(server).await;
    assert_eq!(fleet.warnings(), [""; 0]);
    // At that rate they take a minute: a short frame costs such a card as much as a full one.
    send(&fleet, 50).await;
    let offered = || fleet.link_stats(1).unwrap().downlink.frames;
    support::wait_until("all are in the switch", || offered() >= 50);
    let delivered = fleet.link_stats(1).unwrap().downlink.delivered_frames;
    assert!(delivered < 50, "nothing waits");
    fleet.stop().await;
}

/// The fate of each frame comes from the fleet's seed, the same in this run and every other.
async fn one_seed_loses_the_same_frames(sandbox: Sandbox) {
    let mut config = fleet(board("good"), 2);
    config.seed = 7;
    for spec in &mut config.devices {
        spec.link.downlink.loss = Loss::independent(0.5);
    }
    let (fleet, server, _events) = start(sandbox, config).await;
    fleet.boot(server).await;
    let mut fates = String::new();
    let mut lost_before = 0;
    for frames in 1..=32 {
        send(&fleet, 1).await;
        let (_, _, lost) = downlink(&fleet, frames).await;
        fates.push(if lost > lost_before { '-' } else { '+' });
        lost_before = lost;
    }
    // Another seed, client or direction has others; these are the first device's for good.
    expect_test::expect!["++++++-++++-+--+---+-+++-+-+-++-"].assert_eq(&fates);
    fleet.stop().await;
}

/// True if the link is up, as `ip link` has it.
async fn is_up(link: &str) -> bool {
    let flags = nix::ifaddrs::getifaddrs().unwrap();
    let of_link = |address: nix::ifaddrs::InterfaceAddress| {
        (address.interface_name == link).then_some(address.flags)
    };
    let flags = flags
        .into_iter()
        .find_map(of_link)
        .expect("the link is there");
    flags.contains(nix::net::if_::InterfaceFlags::IFF_UP)
}

async fn a_tap_is_taken_down_and_up(sandbox: Sandbox) {
    let (fleet, server, _events) = start(sandbox, fleet(board("good"), 2)).await;
    fleet.boot(server).await;
    assert!(fleet.can_cut() && is_up("zfl1").await);
    fleet.cut(1).await.unwrap();
    assert!(!is_up("zfl1").await && is_up("zfl2").await);
    fleet.kill(1).await.unwrap();
    fleet.boot_one(1, server).await.unwrap().unwrap();
    assert!(!is_up("zfl1").await, "a reboot heals nothing");
    fleet.heal(1).await.unwrap();
    assert!(is_up("zfl1").await);
    fleet.kill(1).await.unwrap();
    fleet
        .cut(1)
        .await
        .expect("it has no tap now, and gets none that is up");
    fleet.boot_one(1, server).await.unwrap().unwrap();
    assert!(!is_up("zfl1").await);
    assert_eq!(fleet.link_stats(1), None);
    fleet.stop().await;
}

/// A link that loses everything that the device gets.
fn deaf() -> Link {
    let mut link = Link::default();
    link.downlink.loss = Loss::independent(1.0);
    link
}

/// Frames are lost by netem if the kernel has it; otherwise the plan takes the switch.
async fn a_bridge_impairs_links_or_the_switch_does(sandbox: Sandbox) {
    let mut config = fleet(board("good"), 2);
    config.devices[0].link = deaf();
    let (fleet, server, _events) = start(sandbox, config).await;
    let report = fleet.boot(server).await;
    assert_eq!(report.booted.len(), 2, "{:?}", report.failed);
    if fleet.switch_stats().is_some() {
        send(&fleet, 10).await;
        assert_eq!(downlink(&fleet, 10).await, (0, 0, 10));
        return fleet.stop().await;
    }
    wait_for_drops(&fleet, 10).await;
    assert!(queue("zfi1", "netem").await.is_some(), "its uplink");
    assert!(
        queue("zfl2", "netem").await.is_none(),
        "no link was asked for"
    );
    fleet.kill(1).await.unwrap();
    fleet.boot_one(1, server).await.unwrap().unwrap();
    wait_for_drops(&fleet, 10).await;
    fleet.set_link(1, Link::default()).await.unwrap();
    let before = queue("zfl1", "netem").await.unwrap().drops;
    send(&fleet, 10).await;
    assert_eq!(queue("zfl1", "netem").await.unwrap().drops, before);
    fleet.set_link(2, deaf()).await.unwrap();
    assert!(queue("zfl2", "netem").await.is_some());
    fleet.stop().await;
}

/// Sends to the first device until netem has lost so many frames.
async fn wait_for_drops(fleet: &Fleet, count: u32) {
    let start = std::time::Instant::now();
    while queue("zfl1", "netem")
        .await
        .expect("netem on the tap")
        .drops
        < count
    {
        assert!(start.elapsed() < support::PATIENCE, "nothing is lost");
        send(fleet, 10).await;
    }
}

async fn on_a_bridge_a_poor_card_is_paced_behind_its_link(sandbox: Sandbox) {
    let mut board = board("good");
    board.nic.max_kbit_per_s = Some(100);
    let mut config = fleet(board, 1);
    config.devices[0].link.downlink.delay = Duration::from_millis(1);
    let (fleet, server, _events) = start(sandbox, config).await;
    let report = fleet.boot(server).await;
    assert_eq!(report.booted.len(), 1, "{:?}", report.failed);
    assert_eq!(fleet.warnings(), [""; 0]);
    if fleet.switch_stats().is_none() {
        assert!(queue("zfl1", "netem").await.is_some());
        assert!(queue("zfl1", "tbf").await.is_some());
    }
    fleet.stop().await;
}

async fn without_links_none_is_cut_or_spoilt(sandbox: Sandbox) {
    let (fleet, _, _events) = start(sandbox, fleet(board("good"), 1)).await;
    assert!(!fleet.can_cut());
    for done in [
        fleet.cut(1).await,
        fleet.heal(1).await,
        fleet.set_link(1, Link::default()).await,
    ] {
        let error = done.unwrap_err().to_string();
        assert!(error.contains("--network switch"), "{error}");
    }
    fleet.stop().await;
}
