//! Frames through a real switch, over socket pairs: no machine, no privilege.

use super::*;
use crate::link::{Impairment, Loss};
use crate::switch::frame::testing::{ethernet, tcp};
use std::os::unix::net::UnixDatagram;
use std::process::Command as Program;
use std::sync::mpsc;
use std::time::Duration;

const HOST: Mac = Mac([2, 0, 0, 0, 0, 0xfe]);

fn mac(client: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, client])
}

/// A socket pair; reading from this side gives up after a while, which fails the test.
fn pair() -> (UnixDatagram, UnixDatagram) {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    (ours, theirs)
}

fn receive(socket: &UnixDatagram) -> Vec<u8> {
    let mut frame = vec![0; 2000];
    let len = socket.recv(&mut frame).expect("a frame arrives");
    frame.truncate(len);
    frame
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !done() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "it does not happen"
        );
        std::thread::yield_now();
    }
}

/// A switch with a host and the clients 1 to `clients`, each behind `link`, and their far ends.
fn network(clients: u8, link: Link) -> (SwitchHandle, UnixDatagram, Vec<UnixDatagram>) {
    let (host, end) = pair();
    let mut builder = Switch::builder(1).host(end);
    let mut devices = Vec::new();
    for client in 1..=clients {
        let (device, end) = pair();
        builder = builder.port(client.into(), mac(client), end, link);
        devices.push(device);
    }
    (builder.spawn().unwrap(), host, devices)
}

#[test]
fn frames_pass_both_ways() {
    let (switch, host, devices) = network(2, Link::default());
    let up = ethernet(HOST, mac(2), 60);
    devices[1].send(&up).unwrap();
    assert_eq!(receive(&host), up);
    let down = ethernet(mac(1), HOST, 1500);
    host.send(&down).unwrap();
    assert_eq!(receive(&devices[0]), down);
    let stats = switch.stats();
    assert_eq!(stats.clients[&2].uplink.delivered_frames, 1);
    assert_eq!(stats.clients[&1].downlink.bytes, 1500);
    switch.stop().unwrap();
}

#[test]
fn two_hundred_devices_are_served() {
    let (switch, host, devices) = network(200, Link::default());
    for (n, device) in (1..=200).zip(&devices) {
        device.send(&ethernet(HOST, mac(n), 60)).unwrap();
        assert_eq!(receive(&host)[11], n);
        host.send(&ethernet(mac(n), HOST, 60)).unwrap();
        assert_eq!(receive(device)[5], n);
    }
    assert_eq!(switch.stats().clients.len(), 200);
}

#[test]
fn a_delayed_frame_does_not_come_early() {
    let way = Impairment {
        delay: Duration::from_millis(30),
        ..Impairment::default()
    };
    let (_switch, host, devices) = network(
        1,
        Link {
            uplink: way,
            ..Link::default()
        },
    );
    let sent = std::time::Instant::now();
    devices[0].send(&ethernet(HOST, mac(1), 60)).unwrap();
    receive(&host);
    assert!(sent.elapsed() >= Duration::from_millis(30));
}

#[test]
fn a_link_is_cut_healed_and_changed_while_the_switch_runs() {
    let (switch, host, devices) = network(1, Link::default());
    let numbered = |n: u8| {
        let mut frame = ethernet(HOST, mac(1), 60);
        frame[20] = n;
        devices[0].send(&frame).unwrap();
    };
    let stats = || switch.stats().clients[&1].uplink;
    switch.cut(1).unwrap();
    numbered(1);
    wait_until(|| stats().cut_drops > 0);
    switch.heal(1).unwrap();
    numbered(2);
    assert_eq!(receive(&host)[20], 2);
    let loss = Loss::independent(1.0);
    let deaf = Link::symmetric(Impairment {
        loss,
        ..Impairment::default()
    });
    switch.set_link(1, deaf).unwrap();
    numbered(3);
    wait_until(|| stats().lost > 0);
    switch.set_link(1, Link::default()).unwrap();
    numbered(4);
    assert_eq!(receive(&host)[20], 4);
}

#[test]
fn retransmissions_are_counted_at_their_sender() {
    let (switch, host, devices) = network(1, Link::default());
    for sequence in [100, 200, 100] {
        devices[0]
            .send(&tcp(HOST, mac(1), sequence, 0x10, 100))
            .unwrap();
        receive(&host);
    }
    let stats = switch.stats().clients[&1];
    assert_eq!(
        (stats.uplink.tcp_segments, stats.uplink.tcp_retransmissions),
        (3, 1)
    );
    assert_eq!(stats.downlink.tcp_segments, 0);
}

#[test]
fn a_device_that_reads_nothing_harms_only_itself() {
    let (switch, host, devices) = network(2, Link::default());
    host.set_nonblocking(true).unwrap();
    let unread = || switch.stats().clients[&1].port.unread;
    let down = ethernet(mac(1), HOST, 60);
    while unread() == 0 {
        // The host's socket is full from time to time: the switch has not come to read it yet.
        let _ = host.send(&down);
    }
    host.set_nonblocking(false).unwrap();
    host.send(&ethernet(mac(2), HOST, 60)).unwrap();
    receive(&devices[1]);
    // What waited is still there, in order, and there is room again.
    (0..100).for_each(|_| assert_eq!(receive(&devices[0]), down));
}

/// Sends to client 1 until the switch notices that nobody is there. That need not be at once: while
/// another test starts a program, its process holds a copy of every socket for a moment.
/// All that was sent has come to the switch when this returns.
fn send_until_unread(switch: &SwitchHandle, host: &UnixDatagram) {
    let (stats, mut sent) = (|| switch.stats().clients[&1], 0);
    wait_until(|| {
        host.send(&ethernet(mac(1), HOST, 60)).unwrap();
        sent += 1;
        stats().port.unread > 0
    });
    wait_until(|| stats().downlink.frames == sent);
}

#[test]
fn a_machine_that_is_gone_can_come_back() {
    let (switch, host, mut devices) = network(1, Link::default());
    drop(devices.remove(0));
    send_until_unread(&switch, &host);
    let device = UnixDatagram::from(switch.plug(1).unwrap());
    let down = ethernet(mac(1), HOST, 61);
    host.send(&down).unwrap();
    assert_eq!(receive(&device), down);
    device.send(&ethernet(HOST, mac(1), 62)).unwrap();
    assert_eq!(receive(&host).len(), 62);
}

#[test]
fn a_vacant_port_waits_for_its_machine() {
    let (host, end) = pair();
    let switch = Switch::builder(1)
        .host(end)
        .vacant_port(1, mac(1), Link::default());
    let switch = switch.spawn().unwrap();
    send_until_unread(&switch, &host);
    let device = UnixDatagram::from(switch.plug(1).unwrap());
    device.send(&ethernet(HOST, mac(1), 60)).unwrap();
    assert_eq!(receive(&host).len(), 60);
}

#[test]
fn a_closed_port_does_not_keep_the_switch_awake() {
    let (switch, host, devices) = network(1, Link::default());
    drop(devices);
    send_until_unread(&switch, &host);
    let turns = || switch.ask(|pump| pump.turns()).unwrap();
    let before = turns();
    std::thread::sleep(Duration::from_millis(50));
    // One for each question and a few for what the kernel reports late; a busy loop makes thousands.
    assert!(turns() - before < 20);
}

#[test]
fn the_host_can_be_a_function() {
    let (device, end) = pair();
    let (frames, received) = mpsc::channel();
    let switch = Switch::builder(1)
        .host_hook(move |frame| frames.send(frame.to_vec()).unwrap())
        .port(1, mac(1), end, Link::default())
        .spawn()
        .unwrap();
    let up = ethernet(HOST, mac(1), 60);
    device.send(&up).unwrap();
    assert_eq!(received.recv_timeout(Duration::from_secs(20)).unwrap(), up);
    let down = ethernet(mac(1), HOST, 60);
    switch.inject(&down).unwrap();
    assert_eq!(receive(&device), down);
}

#[test]
fn ports_that_cannot_be_are_refused() {
    let builder = || Switch::builder(1).port(1, mac(1), pair().1, Link::default());
    let refused = |builder: SwitchBuilder| builder.spawn().err().unwrap().to_string();
    let twice = refused(builder().port(1, mac(2), pair().1, Link::default()));
    assert!(twice.contains("client 1"), "{twice}");
    let twice = refused(builder().port(2, mac(1), pair().1, Link::default()));
    assert!(twice.contains("02:00:00:00:00:01"), "{twice}");
    let group = refused(builder().port(2, Mac::BROADCAST, pair().1, Link::default()));
    assert!(group.contains("group"), "{group}");
    let (stream, _) = std::os::unix::net::UnixStream::pair().unwrap();
    let stream = refused(builder().port(2, mac(2), stream, Link::default()));
    assert!(
        stream.contains("client 2: give one end of a Unix datagram"),
        "{stream}"
    );
    let null = refused(builder().host(std::fs::File::open("/dev/null").unwrap()));
    assert!(null.contains("give a tap"), "{null}");
    let slow = Link::symmetric(Impairment {
        rate: Some(Rate::new(1)),
        ..Impairment::default()
    });
    let slow = refused(builder().port(2, mac(2), pair().1, slow));
    assert!(
        slow.contains("client 2: uplink: a rate of 1 bit/s"),
        "{slow}"
    );
}

#[test]
fn a_client_without_a_port_is_unknown() {
    let (switch, _host, _devices) = network(1, Link::default());
    let unknown = |result: Result<(), SwitchError>| {
        assert!(matches!(result, Err(SwitchError::UnknownClient(7))));
    };
    unknown(switch.cut(7));
    unknown(switch.set_link(7, Link::default()));
    unknown(switch.capture(7, Path::new("/nowhere")));
    unknown(switch.stop_capture(7));
}

#[test]
fn dropping_the_handle_closes_the_ports() {
    let (switch, host, devices) = network(1, Link::default());
    drop(switch);
    for socket in [&host, &devices[0]] {
        socket.set_nonblocking(true).unwrap();
        // A program that another test starts may hold a copy for a moment.
        let closed = |error: std::io::Error| error.kind() != std::io::ErrorKind::WouldBlock;
        wait_until(|| socket.send(&[0; 60]).is_err_and(closed));
    }
}

/// Three frames: one that the device sends and the link loses, one that it sends, one that it gets.
fn captured() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("client-1.pcapng");
    capture_to(&path);
    (dir, path)
}

fn capture_to(path: &Path) {
    let (switch, host, devices) = network(1, Link::default());
    switch.capture(1, path).unwrap();
    switch.cut(1).unwrap();
    devices[0].send(&tcp(HOST, mac(1), 1, 0x02, 0)).unwrap();
    wait_until(|| switch.stats().clients[&1].uplink.cut_drops > 0);
    switch.heal(1).unwrap();
    devices[0].send(&tcp(HOST, mac(1), 1, 0x02, 0)).unwrap();
    receive(&host);
    host.send(&ethernet(mac(1), HOST, 99)).unwrap();
    receive(&devices[0]);
    switch.stop_capture(1).unwrap();
    assert_eq!(switch.stats().clients[&1].port.capture_misses, 0);
}

#[test]
fn a_capture_has_what_the_device_sees() {
    let (_dir, path) = captured();
    let file = std::fs::read(path).unwrap();
    let frames = [tcp(HOST, mac(1), 1, 0x02, 0), ethernet(mac(1), HOST, 99)];
    let count = |frame: &[u8]| {
        file.windows(frame.len())
            .filter(|bytes| *bytes == frame)
            .count()
    };
    assert_eq!([count(&frames[0]), count(&frames[1])], [2, 1]);
}

/// Needs tshark, so it does not count as passed where that is not there: run it with `--ignored`.
#[test]
#[ignore = "needs tshark"]
fn tshark_reads_a_capture() {
    let (_dir, path) = captured();
    // A part whose last frame was not written to its end, and one that goes on behind it.
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(length - 5).unwrap();
    capture_to(&path);
    let fields = [
        "frame.time_epoch",
        "frame.len",
        "frame.packet_flags_direction",
        "eth.src",
    ];
    let mut tshark = Program::new("tshark");
    tshark.arg("-r").arg(&path).args(["-T", "fields"]);
    for field in fields {
        tshark.args(["-e", field]);
    }
    let output = tshark.output().expect("tshark is installed");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    let rest: Vec<_> = rows.iter().map(|row| row[1..].join(" ")).collect();
    assert_eq!(
        rest,
        [
            "54 0x00000002 02:00:00:00:00:01",
            "54 0x00000002 02:00:00:00:00:01",
            "54 0x00000002 02:00:00:00:00:01",
            "54 0x00000002 02:00:00:00:00:01",
            "99 0x00000001 02:00:00:00:00:fe"
        ]
    );
    let times: Vec<f64> = rows.iter().map(|row| row[0].parse().unwrap()).collect();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    assert!(
        times.is_sorted() && (now.as_secs_f64() - times[0]).abs() < 60.0,
        "{times:?}"
    );
    assert!(
        rows.iter()
            .all(|row| row[0].split('.').nth(1).unwrap().len() == 9),
        "{rows:?}"
    );
}
