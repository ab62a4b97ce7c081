//! The fleet, with a shell script in place of QEMU: booting, typing, dying, and being told of it.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt as _;
use rtnetlink::packet_route::tc::{TcAttribute, TcMessage, TcStats};
use support::{Stage, board, fleet, stage, test};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use zfl_orchestrator::admission::Capacity;
use zfl_orchestrator::board::Guest;
use zfl_orchestrator::sandbox::{Needs, NetworkMode, Sandbox, enter, probe};
use zfl_orchestrator::switch::{Impairment, LaneStats, Link, Loss};
use zfl_orchestrator::{
    BootReport, DeviceBody, DeviceSpec, Fleet, FleetConfig, FleetError, FleetEvent, PcapConfig,
    Speed,
};

/// What the kernel says of a queue of this kind at a link, if there is one.
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

macro_rules! roles {
    ($($network:ident $needs:expr => $($name:ident),* $(,)?;)*) => {
        fn main() {
            support::main(
                &[$($((stringify!($name), || play(NetworkMode::$network, $needs, $name))),*),*],
                vec![$($(test(stringify!($name), || passes(stringify!($name)))),*),*],
            );
        }
    };
}

roles!(
    Auto NOTHING =>
        devices_boot_and_are_measured,
        a_device_is_killed_and_boots_again,
        a_device_that_dies_is_told_with_its_last_lines,
        a_frozen_device_stands_still,
        a_device_that_dies_at_boot_is_tried_twice,
        a_second_attempt_can_succeed,
        a_silent_device_is_given_up,
        lost_characters_are_typed_again,
        a_guest_that_reports_its_end_is_ended,
        a_fleet_can_be_stopped_while_it_boots,
        a_fleet_that_cannot_work_is_refused,
        a_fleet_that_does_not_fit_is_refused,
        a_poor_card_is_paced,
        a_tap_that_is_still_held_is_waited_for;
    Bridge NOTHING =>
        a_tap_is_taken_down_and_up;
    Bridge LINKS =>
        a_bridge_impairs_links_or_the_switch_does,
        on_a_bridge_a_poor_card_is_paced_behind_its_link;
    Switch NOTHING =>
        a_machine_gets_what_its_device_has_of_its_own,
        a_guest_is_told_its_speed,
        frames_are_counted_and_captured,
        a_link_is_cut_and_healed_and_changed,
        on_the_switch_a_poor_card_is_paced;
    User NOTHING =>
        without_links_none_is_cut_or_spoilt;
);

/// Runs the role and expects it to succeed.
fn passes(role: &str) {
    let stage = Stage::new();
    let output = stage.role(role).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}\n{text}", output.status);
    stage.check_empty(&[]);
}

const NOTHING: Needs = Needs {
    links: false,
    cuts: false,
    pcap: false,
};
const LINKS: Needs = Needs {
    links: true,
    ..NOTHING
};

fn play<F: Future<Output = ()>>(network: NetworkMode, needs: Needs, role: fn(Sandbox) -> F) -> u8 {
    let plan = probe(network, needs).unwrap();
    enter(&plan, |sandbox| {
        tokio::runtime::Runtime::new()
            .unwrap()
            .block_on(role(sandbox));
        0
    })
    .unwrap()
}

type Events = UnboundedReceiver<FleetEvent>;

async fn start(sandbox: Sandbox, config: FleetConfig) -> (Fleet, SocketAddr, Events) {
    let (tell, events) = unbounded_channel();
    let fleet = Fleet::start(sandbox, config, tell).await.unwrap();
    let server = (fleet.server_ip(), 8080).into();
    (fleet, server, events)
}

async fn booted(sandbox: Sandbox, script: &str, count: u32) -> (Fleet, BootReport, Events) {
    let (fleet, server, events) = start(sandbox, fleet(board(script), count)).await;
    let report = fleet.boot(server).await;
    (fleet, report, events)
}

/// The next event that `pick` takes.
async fn next<T>(events: &mut Events, pick: impl Fn(FleetEvent) -> Option<T>) -> T {
    loop {
        let event = tokio::time::timeout(support::PATIENCE, events.recv()).await;
        if let Some(picked) = pick(event.expect("an event in time").expect("a fleet")) {
            return picked;
        }
    }
}

fn log_of(client: u32) -> String {
    std::fs::read_to_string(stage().join(format!("serial/{client}.log"))).unwrap()
}

async fn devices_boot_and_are_measured(sandbox: Sandbox) {
    let (fleet, report, mut events) = booted(sandbox, "good", 20).await;
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    let clients: Vec<u32> = report.booted.iter().map(|booted| booted.client).collect();
    assert_eq!(clients, (1..=20).collect::<Vec<_>>());
    assert!(report.booted.iter().all(|booted| booted.attempts == 1));
    let address = |event| match event {
        FleetEvent::Running {
            client: 7, address, ..
        } => Some(address),
        _ => None,
    };
    let address = next(&mut events, address).await;
    assert_eq!(fleet.pids().len(), 20);
    assert!(fleet.usage(7).is_some_and(|usage| usage.private_bytes > 0));
    assert_eq!(fleet.usage(21), None);
    let log = log_of(7);
    assert!(log.contains("] booting\n"), "without colours: {log}");
    let server = match fleet.server_ip().to_string().as_str() {
        "127.0.0.1" => "10.0.2.2".to_owned(),
        bridge => bridge.to_owned(),
    };
    let typed = format!("server={server}:8080 mask=24 client=7");
    assert!(log.contains(&typed) && log.contains("] running\n"), "{log}");
    let told = if address.port() == 80 {
        address.ip().to_string()
    } else {
        address.to_string()
    };
    assert!(log.contains(&told), "{address} is not in {log}");
    fleet.stop().await;
}

async fn a_device_is_killed_and_boots_again(sandbox: Sandbox) {
    let (fleet, server, mut events) = start(sandbox, fleet(board("good"), 2)).await;
    fleet.boot(server).await;
    let before = fleet.pids();
    fleet.kill(1).await.unwrap();
    assert_eq!(fleet.pids().into_keys().collect::<Vec<_>>(), [2]);
    let stopped = |event| matches!(event, FleetEvent::Stopped { client: 1 }).then_some(());
    next(&mut events, stopped).await;
    fleet.kill(1).await.expect("dead already: no harm");
    fleet.boot_one(1, server).await.unwrap().unwrap();
    assert_ne!(fleet.pids()[&1], before[&1]);
    assert_eq!(fleet.pids()[&2], before[&2]);
    assert!(fleet.boot_one(2, server).await.is_err(), "it runs");
    assert!(fleet.kill(3).await.is_err(), "there is no such device");
    fleet.stop().await;
}

async fn a_device_that_dies_is_told_with_its_last_lines(sandbox: Sandbox) {
    let (fleet, _, mut events) = booted(sandbox, "good", 2).await;
    let pid = fleet.pids()[&2].cast_signed();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGSEGV).unwrap();
    let death = next(&mut events, |event| match event {
        FleetEvent::Died(death) => Some(death),
        _ => None,
    });
    let death = death.await;
    assert_eq!(
        (death.client, death.reason.as_str()),
        (2, "its machine was killed by SIGSEGV")
    );
    assert!(
        death.last_lines.contains(&"running".to_owned()),
        "{:?}",
        death.last_lines
    );
    assert!(
        log_of(2).ends_with("-- its machine was killed by SIGSEGV\n"),
        "{}",
        log_of(2)
    );
    assert_eq!(fleet.pids().into_keys().collect::<Vec<_>>(), [1]);
    fleet.stop().await;
}

async fn a_frozen_device_stands_still(sandbox: Sandbox) {
    let (fleet, _, _events) = booted(sandbox, "good", 1).await;
    let pid = fleet.pids()[&1];
    let is_stopped = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.contains(") T ")
    };
    fleet.freeze(1).await.unwrap();
    support::wait_until("it is stopped", is_stopped);
    fleet.thaw(1).await.unwrap();
    support::wait_until("it goes on", || !is_stopped());
    fleet.freeze(1).await.unwrap();
    fleet.stop().await;
}

async fn a_device_that_dies_at_boot_is_tried_twice(sandbox: Sandbox) {
    let (fleet, report, mut events) = booted(sandbox, "dies", 2).await;
    assert!(report.booted.is_empty());
    assert_eq!(report.failed.len(), 2);
    let death = &report.failed[0];
    assert_eq!(
        death.reason,
        "its machine exited with status 35 while it booted"
    );
    for line in ["panic at the disco", "  1: main", "qemu: no such card"] {
        assert!(
            death.last_lines.contains(&line.to_owned()),
            "{:?}",
            death.last_lines
        );
    }
    let again = |event| {
        matches!(
            event,
            FleetEvent::Booting {
                client: 1,
                attempt: 2
            }
        )
        .then_some(())
    };
    next(&mut events, again).await;
    let died = |event| matches!(event, FleetEvent::Died(death) if death.client == 1).then_some(());
    next(&mut events, died).await;
    assert!(fleet.pids().is_empty());
    fleet.stop().await;
}

async fn a_second_attempt_can_succeed(sandbox: Sandbox) {
    let (fleet, report, _events) = booted(sandbox, "dies-once", 1).await;
    assert_eq!(report.booted[0].attempts, 2);
    fleet.stop().await;
}

async fn a_silent_device_is_given_up(sandbox: Sandbox) {
    let mut config = fleet(board("silent"), 2);
    config.boot.prompt_timeout = Duration::from_millis(300);
    let (fleet, server, _events) = start(sandbox, config).await;
    let report = fleet.boot(server).await;
    assert_eq!(report.failed.len(), 2);
    assert_eq!(report.failed[0].reason, "no prompt in 0.3 s");
    assert!(
        log_of(1).contains("-- no prompt in 0.3 s; booting again\n"),
        "{}",
        log_of(1)
    );
    assert!(fleet.pids().is_empty());
    fleet.stop().await;
}

async fn lost_characters_are_typed_again(sandbox: Sandbox) {
    let (fleet, report, _events) = booted(sandbox, "loses", 1).await;
    assert_eq!(
        report.booted[0].attempts, 1,
        "it was typed again, not booted again"
    );
    assert!(log_of(1).contains("] running\n"), "{}", log_of(1));
    fleet.stop().await;
}

async fn a_guest_that_reports_its_end_is_ended(sandbox: Sandbox) {
    let (fleet, report, mut events) = booted(sandbox, "fails", 1).await;
    assert_eq!(report.booted.len(), 1);
    let death = next(&mut events, |event| match event {
        FleetEvent::Died(death) => Some(death),
        _ => None,
    });
    let death = death.await;
    assert_eq!(death.reason, "the guest failed: FATAL: stack overflow");
    assert_eq!(death.last_lines.last().unwrap(), "  in thread 3");
    assert!(fleet.pids().is_empty());
    fleet.stop().await;
}

async fn a_fleet_can_be_stopped_while_it_boots(sandbox: Sandbox) {
    let (fleet, server, mut events) = start(sandbox, fleet(board("silent"), 3)).await;
    let booting = async { fleet.boot(server).await };
    let first = next(&mut events, |event| {
        matches!(event, FleetEvent::Booting { .. }).then_some(())
    });
    tokio::select! {
        report = booting => panic!("{report:?}"),
        () = first => {}
    }
    fleet.stop().await;
    let children = std::fs::read_to_string("/proc/self/task/2/children").unwrap();
    assert_eq!(children, "");
}

async fn a_fleet_that_cannot_work_is_refused(sandbox: Sandbox) {
    let (tell, _) = unbounded_channel();
    let mut board = board("good");
    board.kernel.image = "/nowhere/firmware.elf".into();
    let error = Fleet::start(sandbox, fleet(board, 1), tell)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/nowhere/firmware.elf is not there"),
        "{error}"
    );
    assert!(
        error.contains("cargo xtask build-guest --body bare"),
        "{error}"
    );
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

async fn a_tap_that_is_still_held_is_waited_for(sandbox: Sandbox) {
    let (fleet, report, _events) = booted(sandbox, "holds", 1).await;
    let attempts: Vec<u32> = report.booted.iter().map(|booted| booted.attempts).collect();
    assert_eq!(attempts, [2], "{:?}", report.failed);
    fleet.stop().await;
}

async fn a_fleet_that_does_not_fit_is_refused(sandbox: Sandbox) {
    let mut board = board("good");
    // 4 TiB.
    board.limits.insert("host_private_kib".into(), u32::MAX);
    let (tell, _events) = unbounded_channel();
    let mut config = fleet(board, 2);
    let capacity = Capacity::of(&config.devices).unwrap();
    assert!(!capacity.suffices(), "{capacity}");
    config.oversubscribe = true;
    Fleet::start(sandbox, config.clone(), tell.clone())
        .await
        .unwrap()
        .stop()
        .await;
    config.oversubscribe = false;
    let error = Fleet::start(Sandbox::loopback(), config, tell)
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("2 devices of about 4194304 MiB") && text.contains("0 fit"),
        "{text}"
    );
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

/// What the first device's link has let through, and what its cut and its losses have taken.
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

async fn a_machine_gets_what_its_device_has_of_its_own(sandbox: Sandbox) {
    let mut config = fleet(board("tells"), 1);
    config.devices[0].memory_mib = Some(3);
    let (fleet, server, _events) = start(sandbox, config).await;
    let report = fleet.boot(server).await;
    assert_eq!(report.booted.len(), 1, "{:?}", report.failed);
    let log = log_of(1);
    assert!(log.contains(" -m 3M "), "{log}");
    assert!(
        log.contains(" -netdev dgram,id=n0,local.type=fd,local.str="),
        "{log}"
    );
    assert!(log.contains(",mac=52:54:00:00:00:00 "), "{log}");
    assert!(
        log.contains("run 192.0.2.2 server=192.0.2.1:8080 mask=24 client=1"),
        "{log}"
    );
    fleet.stop().await;
}

async fn a_guest_is_told_its_speed(sandbox: Sandbox) {
    let mut config = fleet(board("tells"), 1);
    let mut zephyr = board("tells");
    zephyr.name = "zephyr".into();
    zephyr.body = Guest::Zephyr;
    config
        .devices
        .push(DeviceSpec::new(2, DeviceBody::Emulated(zephyr.into())));
    for spec in &mut config.devices {
        spec.speed = Some(Speed::of_mips(125.0, false).unwrap());
    }
    let (fleet, server, _events) = start(sandbox, config).await;
    let report = fleet.boot(server).await;
    assert_eq!(report.booted.len(), 2, "{:?}", report.failed);
    // The stand-in takes the bare firmware's words for another script and stays silent.
    assert!(log_of(1).contains("mask=24 client=1\n"), "{}", log_of(1));
    let log = log_of(2);
    assert!(log.contains(" -icount shift=3,sleep=on "), "{log}");
    assert!(log.contains(" -append tells "), "{log}");
    assert!(log.contains("mask=24 client=2 icount=3\n"), "{log}");
    fleet.stop().await;
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
    board.nic.max_kbit_per_s = Some(100);
    let (fleet, server, _events) = start(sandbox, fleet(board, 1)).await;
    fleet.boot(server).await;
    assert_eq!(fleet.warnings(), [""; 0]);
    // At that rate they take six seconds: a short frame costs such a card as much as a full one.
    send(&fleet, 50).await;
    let offered = || fleet.link_stats(1).unwrap().downlink.frames;
    support::wait_until("all are in the switch", || offered() >= 50);
    let delivered = fleet.link_stats(1).unwrap().downlink.delivered_frames;
    assert!(delivered < 50, "nothing waits");
    fleet.stop().await;
}

/// Whether the link is taken up, as `ip link` has it.
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

/// Where the kernel has netem it loses the frames; where it has not, the plan took the switch.
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
