//! The fleet, with a shell script in place of QEMU: booting, typing, dying, and being told of it.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt as _;
use rtnetlink::packet_route::tc::TcAttribute;
use support::{Stage, board, fleet, stage, test};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use zfl_orchestrator::sandbox::{Needs, NetworkMode, Sandbox, enter, probe};
use zfl_orchestrator::{BootReport, Fleet, FleetConfig, FleetEvent};

/// Frames that a link lets through slowly wait in its queue; the length of it, in bytes.
async fn waiting_bytes(link: &str) -> Option<u32> {
    let (connection, netlink, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    let index = nix::net::if_::if_nametoindex(link).unwrap().cast_signed();
    let queues: Vec<_> = netlink.qdisc().get().index(index).execute().collect().await;
    queues.into_iter().flatten().find_map(|queue| {
        let is_tbf = |attribute: &_| matches!(attribute, TcAttribute::Kind(kind) if kind == "tbf");
        queue
            .attributes
            .iter()
            .find(|attribute| is_tbf(attribute))?;
        queue
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                TcAttribute::Stats(stats) => Some(stats.backlog),
                _ => None,
            })
    })
}

/// Tells the host where a guest is that answers no ARP.
async fn introduce(ip: std::net::IpAddr) {
    let (connection, netlink, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    let bridge = nix::net::if_::if_nametoindex("zfl").unwrap();
    let neighbour = netlink.neighbours().add(bridge, ip);
    let mac = [0x52, 0x54, 0, 0, 0, 0];
    neighbour.link_layer_address(&mac).execute().await.unwrap();
}

macro_rules! roles {
    ($($name:ident),* $(,)?) => {
        fn main() {
            support::main(
                &[$((stringify!($name), || play($name))),*],
                vec![$(test(stringify!($name), || passes(stringify!($name)))),*],
            );
        }
    };
}

roles!(
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
    a_poor_card_is_paced,
);

/// Runs the role and expects it to succeed.
fn passes(role: &str) {
    let stage = Stage::new();
    let output = stage.role(role).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}\n{text}", output.status);
    stage.check_empty(&[]);
}

fn play<F: Future<Output = ()>>(role: fn(Sandbox) -> F) -> u8 {
    let plan = probe(NetworkMode::Auto, Needs::default()).unwrap();
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
        // At that rate they take five seconds.
        for _ in 0..50 {
            socket.send_to(&[0; 1400], address).await.unwrap();
        }
        let waiting = waiting_bytes("zfl1").await.expect("a token bucket");
        assert!(waiting > 0, "nothing waits");
    }
    fleet.stop().await;
}
