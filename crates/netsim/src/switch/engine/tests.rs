use super::*;
use crate::link::{Impairment, Loss};
use crate::switch::frame::testing::{ethernet, tcp};
use crate::switch::stats::{ClientStats, PortStats};
use expect_test::expect;
use proptest::prelude::*;

const HOST: Mac = Mac([2, 0, 0, 0, 0, 0xfe]);

fn mac(client: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, client])
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn device(client: u8, link: Link) -> SwitchPort {
    SwitchPort {
        client: client.into(),
        mac: mac(client),
        link,
        pace: None,
    }
}

/// Clients 1 to 3, at the places 0 to 2, behind perfect links.
fn three() -> Engine {
    let devices: Vec<_> = (1..=3)
        .map(|client| device(client, Link::default()))
        .collect();
    Engine::new(1, &devices)
}

/// One client, 1, behind `link`.
fn one(link: Link) -> Engine {
    Engine::new(1, &[device(1, link)])
}

/// Ports that frames reach until `now`.
fn ports(engine: &mut Engine, now: Duration) -> Vec<Port> {
    std::iter::from_fn(|| engine.egress(now))
        .map(|delivery| delivery.port)
        .collect()
}

/// Ports that a frame from `from` reaches at once, in order.
fn reaches(engine: &mut Engine, from: Port, frame: &[u8]) -> Vec<Port> {
    engine.ingress(ms(0), from, frame);
    let mut ports = ports(engine, ms(0));
    ports.sort_by_key(|port| match port {
        Port::Host => 0,
        Port::Device(device) => device + 1,
    });
    ports
}

fn stats(engine: &Engine, client: u32) -> ClientStats {
    engine.counters().snapshot().clients[&client]
}

fn arp(source: Mac) -> Vec<u8> {
    let mut frame = ethernet(Mac::BROADCAST, source, 42);
    frame[12..14].copy_from_slice(&[0x08, 0x06]);
    frame
}

#[test]
fn frames_go_where_their_address_is() {
    let mut engine = three();
    let up = ethernet(HOST, mac(1), 60);
    assert_eq!(reaches(&mut engine, Port::Device(0), &up), [Port::Host]);
    let down = ethernet(mac(2), HOST, 60);
    assert_eq!(reaches(&mut engine, Port::Host, &down), [Port::Device(1)]);
}

#[test]
fn a_frame_arrives_as_it_was_sent() {
    let mut engine = three();
    let frame: Vec<u8> = ethernet(HOST, mac(1), 14)
        .into_iter()
        .chain(0..=255)
        .collect();
    engine.ingress(ms(0), Port::Device(0), &frame);
    assert_eq!(engine.egress(ms(0)).unwrap().frame.bytes(), frame);
}

#[test]
fn isolated_devices_reach_the_host_only() {
    let mut engine = three();
    assert_eq!(
        reaches(&mut engine, Port::Device(0), &arp(mac(1))),
        [Port::Host]
    );
    assert_eq!(
        reaches(&mut engine, Port::Device(0), &ethernet(mac(2), mac(1), 60)),
        []
    );
    assert_eq!(
        reaches(&mut engine, Port::Device(0), &ethernet(mac(1), mac(1), 60)),
        []
    );
    assert_eq!(
        stats(&engine, 1).port,
        PortStats {
            misaddressed: 2,
            ..PortStats::default()
        }
    );
}

#[test]
fn a_broadcast_of_the_host_reaches_every_device() {
    let mut engine = three();
    let all = [Port::Device(0), Port::Device(1), Port::Device(2)];
    assert_eq!(reaches(&mut engine, Port::Host, &arp(HOST)), all);
}

#[test]
fn other_groups_and_unknown_addresses_reach_nobody() {
    let mut engine = three();
    let all_routers = Mac([0x33, 0x33, 0, 0, 0, 2]);
    let frames = [
        ethernet(all_routers, HOST, 60),
        ethernet(Mac::BROADCAST, HOST, 60),
        ethernet(mac(9), HOST, 60),
    ];
    for frame in frames {
        assert_eq!(reaches(&mut engine, Port::Host, &frame), []);
    }
    let host = engine.counters().snapshot().host;
    assert_eq!(
        host,
        PortStats {
            group_drops: 2,
            misaddressed: 1,
            ..PortStats::default()
        }
    );
}

#[test]
fn a_forged_source_is_dropped_and_counted() {
    let mut engine = three();
    for forged in [mac(2), HOST, mac(9), Mac::BROADCAST] {
        assert_eq!(
            reaches(&mut engine, Port::Device(0), &ethernet(HOST, forged, 60)),
            []
        );
    }
    assert_eq!(
        reaches(&mut engine, Port::Host, &ethernet(mac(2), mac(1), 60)),
        []
    );
    assert_eq!(
        stats(&engine, 1).port,
        PortStats {
            forged: 4,
            ..PortStats::default()
        }
    );
    let host = engine.counters().snapshot().host;
    assert_eq!(
        host,
        PortStats {
            forged: 1,
            ..PortStats::default()
        }
    );
}

#[test]
fn lengths_that_ethernet_has_not_are_malformed() {
    let mut engine = three();
    for len in [0, 13, MAX_FRAME_BYTES + 1, 65_536] {
        let mut frame = ethernet(HOST, mac(1), len);
        frame.truncate(len);
        assert_eq!(reaches(&mut engine, Port::Device(0), &frame), []);
    }
    let longest = ethernet(HOST, mac(1), MAX_FRAME_BYTES);
    assert_eq!(
        reaches(&mut engine, Port::Device(0), &longest),
        [Port::Host]
    );
    assert_eq!(
        stats(&engine, 1).port,
        PortStats {
            malformed: 4,
            ..PortStats::default()
        }
    );
}

#[test]
fn frames_leave_in_the_order_of_their_times_and_then_of_their_coming() {
    let way = |delay| Impairment {
        delay,
        ..Impairment::default()
    };
    let slow = Link {
        uplink: way(ms(3)),
        ..Link::default()
    };
    let mut engine = Engine::new(1, &[device(1, slow), device(2, Link::default())]);
    engine.ingress(ms(0), Port::Device(0), &ethernet(HOST, mac(1), 60));
    for n in 0..3u8 {
        let mut frame = ethernet(HOST, mac(2), 60);
        frame[20] = n;
        engine.ingress(ms(1), Port::Device(1), &frame);
    }
    let order: Vec<_> = std::iter::from_fn(|| engine.egress(ms(9)))
        .map(|delivery| (delivery.frame.bytes()[11], delivery.frame.bytes()[20]))
        .collect();
    assert_eq!(order, [(2, 0), (2, 1), (2, 2), (1, 0)]);
}

#[test]
fn a_cut_link_loses_what_is_under_way_and_a_healed_one_carries_again() {
    let mut engine = one(Link::symmetric(Impairment {
        delay: ms(10),
        ..Impairment::default()
    }));
    let frame = tcp(HOST, mac(1), 1, 0x10, 10);
    engine.ingress(ms(0), Port::Device(0), &frame);
    engine.cut(0);
    engine.ingress(ms(1), Port::Device(0), &frame);
    engine.ingress(ms(1), Port::Host, &ethernet(mac(1), HOST, 60));
    engine.heal(0);
    engine.ingress(ms(2), Port::Device(0), &frame);
    assert_eq!(ports(&mut engine, ms(11)), []);
    assert_eq!(ports(&mut engine, ms(12)), [Port::Host]);
    let stats = stats(&engine, 1);
    assert_eq!((stats.uplink.cut_drops, stats.downlink.cut_drops), (2, 1));
    assert_eq!(
        (stats.uplink.tcp_segments, stats.uplink.tcp_retransmissions),
        (3, 2)
    );
    assert_eq!(
        (stats.uplink.tcp_dropped, stats.uplink.delivered_frames),
        (2, 1)
    );
}

#[test]
fn a_link_can_be_changed_while_frames_are_under_way() {
    let mut engine = one(Link::symmetric(Impairment {
        delay: ms(10),
        ..Impairment::default()
    }));
    engine.ingress(ms(0), Port::Host, &ethernet(mac(1), HOST, 60));
    engine.set_link(0, &Link::default());
    engine.ingress(ms(1), Port::Host, &ethernet(mac(1), HOST, 60));
    // The second frame does not overtake the first.
    assert_eq!(ports(&mut engine, ms(9)), []);
    assert_eq!(ports(&mut engine, ms(10)).len(), 2);
    engine.ingress(ms(11), Port::Host, &ethernet(mac(1), HOST, 60));
    assert_eq!(ports(&mut engine, ms(11)).len(), 1);
}

/// The fates of 64 frames: `.` arrives, `L` is lost, `2` arrives twice, `x` arrives damaged.
fn fates(seed: u64, client: u8, busy: bool) -> String {
    let impairment = Impairment {
        loss: Loss::independent(0.2),
        duplicate: 0.1,
        corrupt: 0.1,
        ..Impairment::default()
    };
    let devices: Vec<_> = (1..=3)
        .map(|client| device(client, Link::symmetric(impairment)))
        .collect();
    let mut engine = Engine::new(seed, &devices);
    let place = usize::from(client) - 1;
    let frame = ethernet(HOST, mac(client), 60);
    (0..64)
        .map(|n| {
            if busy {
                engine.ingress(ms(n), Port::Device(2), &ethernet(HOST, mac(3), 60));
                engine.ingress(ms(n), Port::Host, &ethernet(mac(client), HOST, 60));
            }
            engine.ingress(ms(n), Port::Device(place), &frame);
            let arrived: Vec<_> = std::iter::from_fn(|| engine.egress(ms(n)))
                .map(|delivery| delivery.frame.bytes().to_vec())
                .filter(|bytes| bytes[6..12] == mac(client).0)
                .collect();
            match &arrived[..] {
                [] => 'L',
                [_, _] => '2',
                [bytes] if *bytes == frame => '.',
                _ => 'x',
            }
        })
        .collect()
}

#[test]
fn the_fate_of_every_frame_is_that_of_its_seed_and_number() {
    expect![[".x.2L..L....x.2.xL.L...x...x...x..........2.Lx.2x22.x2.L2x.L..2."]]
        .assert_eq(&fates(1, 1, false));
    assert_eq!(
        fates(1, 1, true),
        fates(1, 1, false),
        "the other devices and ways do not matter"
    );
    assert_ne!(fates(2, 1, false), fates(1, 1, false));
    assert_ne!(fates(1, 2, false), fates(1, 1, false));
}

#[test]
fn every_frame_is_accounted_for() {
    let impairment = Impairment {
        loss: Loss::bursts(0.1, 3.0),
        delay: ms(5),
        jitter: ms(2),
        rate: Some(Rate::new(200_000)),
        duplicate: 0.05,
        ..Impairment::default()
    };
    let mut engine = one(Link::symmetric(impairment));
    for n in 0..4000 {
        engine.ingress(ms(n), Port::Device(0), &ethernet(HOST, mac(1), 60));
        match n % 500 {
            100 => engine.cut(0),
            150 => engine.heal(0),
            _ => {}
        }
        ports(&mut engine, ms(n));
    }
    ports(&mut engine, ms(100_000));
    let way = stats(&engine, 1).uplink;
    assert_eq!(way.frames, 4000);
    let dropped = [way.lost, way.queue_drops, way.cut_drops];
    assert!(dropped.iter().all(|reason| *reason > 0), "{way:?}");
    let delivered = way.delivered_frames - way.duplicated;
    assert_eq!(
        delivered + dropped.iter().sum::<u64>(),
        way.frames,
        "{way:?}"
    );
    assert_eq!(way.delivered_bytes, 60 * way.delivered_frames);
    assert_eq!(engine.next_deadline(), None);
}

#[test]
fn what_is_held_is_bounded_over_all_devices() {
    let far = Link::symmetric(Impairment {
        delay: ms(1000),
        ..Impairment::default()
    });
    let devices: Vec<_> = (1..=100).map(|client| device(client, far)).collect();
    let mut engine = Engine::new(1, &devices);
    for _ in 0..1000 {
        engine.ingress(ms(0), Port::Host, &arp(HOST));
    }
    assert_eq!(engine.held.len(), MAX_HELD);
    let drops = |stats: &ClientStats| stats.downlink.queue_drops;
    let dropped: u64 = engine
        .counters()
        .snapshot()
        .clients
        .values()
        .map(drops)
        .sum();
    assert_eq!(dropped, 100_000 - MAX_HELD as u64);
}

#[test]
fn buffers_are_used_again() {
    let mut engine = three();
    for n in 0..1000 {
        engine.ingress(ms(n), Port::Device(0), &ethernet(HOST, mac(1), 60));
        let delivery = engine.egress(ms(n)).unwrap();
        engine.recycle(delivery.frame);
    }
    assert_eq!(engine.spare.len(), 1);
}

proptest! {
    #[test]
    fn no_frames_panic(
        frames in prop::collection::vec(
            (0..4usize, prop::collection::vec(any::<u8>(), 0..100), 0..3usize, 0..3usize, 0..8u64),
            0..60,
        ),
    ) {
        let impairment = Impairment {
            loss: Loss::bursts(0.1, 2.0),
            delay: ms(3),
            jitter: ms(3),
            reorder: true,
            rate: Some(Rate::new(1_000_000)),
            duplicate: 0.2,
            corrupt: 0.5,
        };
        let link = Link::symmetric(impairment);
        let devices = [device(1, link), device(2, link), device(3, Link::default())];
        let mut engine = Engine::new(5, &devices);
        let addresses = [mac(1).0, mac(2).0, Mac::BROADCAST.0];
        let mut now = ms(0);
        for (port, mut frame, to, from, pause) in frames {
            // Noise is forged; true addresses let some of it through.
            if frame.len() > 12 && frame[12] & 1 == 0 {
                frame[..6].copy_from_slice(&addresses[to]);
                frame[6..12].copy_from_slice(&addresses[from]);
            }
            let port = if port == 3 { Port::Host } else { Port::Device(port) };
            engine.ingress(now, port, &frame);
            now += ms(pause);
            while let Some(delivery) = engine.egress(now) {
                engine.recycle(delivery.frame);
            }
        }
    }
}
