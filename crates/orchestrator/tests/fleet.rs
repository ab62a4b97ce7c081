//! The fleet, with a shell script in place of QEMU: booting, typing, dying, and being told of it.

mod support;

use std::sync::{Arc, Barrier};
use std::time::Duration;

use support::play::{NOTHING, booted, log_of, next, start};
use support::{board, fleet, program, stage};
use tokio::sync::mpsc::unbounded_channel;
use zfl_machine::Guest;
use zfl_machine::Speed;
use zfl_orchestrator::admission::Capacity;
use zfl_orchestrator::{DeviceBody, DeviceSpec, Fleet, FleetEvent};
use zfl_sandbox::Sandbox;

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
        a_guest_that_reports_its_end_and_ends_is_told_by_it,
        a_fleet_can_be_stopped_while_it_boots,
        a_fleet_that_cannot_work_is_refused,
        a_fleet_that_does_not_fit_is_refused;
    Bridge NOTHING =>
        on_the_bridge_a_machine_knows_nothing_of_its_owner,
        on_the_bridge_a_program_of_the_host_is_a_device;
    User NOTHING =>
        on_the_user_network_a_machine_knows_nothing_of_its_owner,
        on_the_user_network_a_program_of_the_host_is_a_device;
    Switch NOTHING =>
        on_the_switch_a_machine_knows_nothing_of_its_owner,
        on_the_switch_a_program_of_the_host_is_a_device,
        a_machine_gets_what_its_device_has_of_its_own,
        a_guest_is_told_its_speed;
);

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
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
    let death = next(&mut events, |event| match event {
        FleetEvent::Died(death) => Some(death),
        _ => None,
    });
    let death = death.await;
    assert_eq!(
        (death.client, death.reason.as_str()),
        (2, "its machine was killed by SIGKILL")
    );
    assert!(
        death.last_lines.contains(&"running".to_owned()),
        "{:?}",
        death.last_lines
    );
    assert!(
        log_of(2).ends_with("-- its machine was killed by SIGKILL\n"),
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
        "its machine exited with status 35 while it booted: no such card"
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
    let mut config = fleet(board("dies-once"), 1);
    // It may be tried a few times more before it sees that it may live.
    config.boot.attempts = 100;
    let (fleet, server, mut events) = start(sandbox, config).await;
    let let_live = async {
        let again = |event| matches!(event, FleetEvent::Booting { attempt: 2, .. }).then_some(());
        next(&mut events, again).await;
        std::fs::write(stage().join("died"), "").unwrap();
    };
    let (report, ()) = tokio::join!(fleet.boot(server), let_live);
    assert!(report.booted[0].attempts > 1, "{report:?}");
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
    assert_eq!(report.booted.len(), 1, "{:?}", report.failed);
    std::fs::write(stage().join("fail"), "").unwrap();
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

/// Nothing is read before it has ended: all that it wrote counts all the same.
async fn a_guest_that_reports_its_end_and_ends_is_told_by_it(sandbox: Sandbox) {
    let (fleet, report, mut events) = booted(sandbox, "falls", 2).await;
    assert_eq!(report.booted.len(), 2);
    let go_on = hold_the_runtime();
    std::fs::write(stage().join("fail"), "").unwrap();
    support::wait_until("the machines have ended", || children().is_empty());
    go_on();
    for _ in 0..2 {
        let death = next(&mut events, |event| match event {
            FleetEvent::Died(death) => Some(death),
            _ => None,
        });
        let death = death.await;
        assert_eq!(death.reason, "the guest failed: FATAL: stack overflow");
        for line in ["FATAL: stack overflow", "qemu: no such page"] {
            let told = death.last_lines.iter().any(|told| told.ends_with(line));
            assert!(told, "{line}: {death:?}");
        }
    }
    fleet.stop().await;
}

/// Keeps every thread of the runtime busy; what is returned lets them go on.
fn hold_the_runtime() -> impl FnOnce() {
    let workers = tokio::runtime::Handle::current().metrics().num_workers();
    let barrier = || Arc::new(Barrier::new(workers + 1));
    let (held, go_on) = (barrier(), barrier());
    for _ in 0..workers {
        let (held, go_on) = (Arc::clone(&held), Arc::clone(&go_on));
        tokio::spawn(async move {
            held.wait();
            go_on.wait();
        });
    }
    held.wait();
    move || _ = go_on.wait()
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
    support::wait_until("a machine boots", || !children().is_empty());
    fleet.stop().await;
    assert_eq!(children(), "");
}

/// The processes that threads of this one have started and not waited for.
fn children() -> String {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let children = threads.map(|thread| thread.path().join("children"));
    // A thread that has ended since has none.
    children
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .collect()
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
        text.contains("2 devices of about 4096.0 GiB") && text.contains("0 fit"),
        "{text}"
    );
}

async fn on_the_bridge_a_machine_knows_nothing_of_its_owner(sandbox: Sandbox) {
    knows_nothing_of_its_owner(sandbox).await;
}

async fn on_the_user_network_a_machine_knows_nothing_of_its_owner(sandbox: Sandbox) {
    knows_nothing_of_its_owner(sandbox).await;
}

async fn on_the_switch_a_machine_knows_nothing_of_its_owner(sandbox: Sandbox) {
    knows_nothing_of_its_owner(sandbox).await;
}

/// The variable that tells this process of its stage must not reach a machine, as no other does that
/// a user's shell may hold.
async fn knows_nothing_of_its_owner(sandbox: Sandbox) {
    assert!(std::env::var_os("ZFL_TEST_STAGE").is_some());
    let (fleet, report, _events) = booted(sandbox, "good", 1).await;
    assert_eq!(report.booted.len(), 1, "{:?}", report.failed);
    let environment = std::fs::read(format!("/proc/{}/environ", fleet.pids()[&1])).unwrap();
    let environment = String::from_utf8(environment).unwrap();
    let name = |variable: &str| variable.split('=').next().unwrap().to_owned();
    let names: Vec<String> = environment.split_terminator('\0').map(name).collect();
    // The C library cuts its tunables apart where they stand.
    let harmless = ["GLIBC_TUNABLES", "LD_LIBRARY_PATH", "QEMU_MODULE_DIR"];
    let is_harmless =
        |name: &String| harmless.contains(&name.as_str()) || name.starts_with("glibc.malloc.");
    assert!(names.iter().all(is_harmless), "{names:?}");
    fleet.stop().await;
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

async fn on_the_bridge_a_program_of_the_host_is_a_device(sandbox: Sandbox) {
    a_program_is_a_device(sandbox).await;
}

async fn on_the_switch_a_program_of_the_host_is_a_device(sandbox: Sandbox) {
    a_program_is_a_device(sandbox).await;
}

async fn on_the_user_network_a_program_of_the_host_is_a_device(sandbox: Sandbox) {
    a_program_is_a_device(sandbox).await;
}

/// It is told its network and its address, talks over both of its lines, is killed, and boots again.
async fn a_program_is_a_device(sandbox: Sandbox) {
    let (fleet, server, mut events) = start(sandbox, fleet(program(), 1)).await;
    let report = fleet.boot(server).await;
    assert_eq!(report.booted.len(), 1, "{:?}", report.failed);
    let warnings = fleet.warnings().join("\n");
    assert!(warnings.contains("a filter of system calls"), "{warnings}");
    fleet.kill(1).await.unwrap();
    assert!(fleet.pids().is_empty());
    let again = fleet.boot_one(1, server).await.unwrap();
    assert!(again.is_ok(), "{again:?}");
    fleet.type_line(1, "die").await.unwrap_err();
    let died = |event| match event {
        FleetEvent::Died(death) => Some(death.reason),
        _ => None,
    };
    assert_eq!(
        next(&mut events, died).await,
        "its machine exited with status 3"
    );
    let log = log_of(1);
    for expected in [
        "program: no warning of an emulator\n",
        " mac=52:54:00:00:00:00\n",
        ":8080 mask=24 client=1",
    ] {
        assert_eq!(log.matches(expected).count(), 2, "{expected}: {log}");
    }
    let answers = if log.contains("run 192.0.2.2 ") { 2 } else { 0 };
    assert_eq!(log.matches("answered\n").count(), answers, "{log}");
    fleet.stop().await;
}
