//! The sandbox: what gets in, what gets out, and that nothing stays behind.

mod support;

use std::io::Write;
use std::process::Command;

use nix::sys::signal::{SigSet, Signal, raise};
use support::{Actor, Namespace, Stage, board, fleet, stage, test};
use zfl_orchestrator::{Fleet, FleetEvent, probe};
use zfl_sandbox::{Needs, NetworkMode, Plan, enter};

fn main() {
    support::main(
        &[
            ("status", role_status),
            ("signal", role_signal),
            ("panic", role_panic),
            ("signals", role_signals),
            ("plan", role_plan),
            ("refused", role_refused),
            ("links_refused", role_links_refused),
            ("inside", role_inside),
            ("fleet", role_fleet),
        ],
        vec![
            test("the_status_comes_up", the_status_comes_up),
            test("a_signal_goes_down_once", a_signal_goes_down_once),
            test("an_ordinary_user_gets_the_user_network", an_ordinary_user),
            test(
                "without_namespaces_there_is_still_a_network",
                without_namespaces,
            ),
            test("without_a_tun_there_is_still_a_network", without_tun),
            test("inside_it_is_another_world", inside_it_is_another_world),
            test(
                "a_fleet_that_is_stopped_leaves_nothing",
                a_fleet_that_is_stopped,
            ),
            test(
                "a_fleet_that_is_killed_leaves_nothing",
                a_fleet_that_is_killed,
            ),
            test(
                "a_fleet_whose_inner_process_is_killed_leaves_nothing",
                inner_killed,
            ),
            test(
                "without_namespaces_a_stopped_fleet_leaves_nothing",
                plain_stopped,
            ),
            test(
                "without_namespaces_a_killed_fleet_leaves_nothing",
                plain_killed,
            ),
            test("the_user_network_of_a_killed_fleet_is_gone", user_killed),
            test("the_switch_of_a_killed_fleet_is_gone", switch_killed),
            test(
                "without_a_tun_an_ordinary_users_fleet_runs",
                without_tun_a_fleet_runs,
            ),
            test(
                "an_ordinary_users_killed_fleet_leaves_nothing",
                nobody_killed,
            ),
        ],
    );
}

fn say(line: impl std::fmt::Display) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
}

/// The best plan of this machine.
fn plan() -> Plan {
    let mode = match std::env::var("ZFL_TEST_NETWORK").as_deref() {
        Ok("user") => NetworkMode::User,
        Ok("bridge") => NetworkMode::Bridge,
        Ok("switch") => NetworkMode::Switch,
        _ => NetworkMode::Auto,
    };
    probe(mode, Needs::default()).unwrap()
}

fn role_status() -> u8 {
    enter(&plan(), |_| 35).unwrap()
}

fn role_signal() -> u8 {
    enter(&plan(), |_| {
        raise(Signal::SIGKILL).unwrap();
        0
    })
    .unwrap()
}

fn role_panic() -> u8 {
    enter(&plan(), |_| panic!("on purpose")).unwrap()
}

fn the_status_comes_up() {
    let stage = Stage::new();
    for (role, status) in [("status", 35), ("signal", 128 + 9), ("panic", 101)] {
        let output = stage.role(role).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{role}: {output:?}");
    }
    stage.check_empty(&[]);
}

/// Counts the signals that arrive until SIGTERM does.
fn role_signals() -> u8 {
    enter(&plan(), |_| {
        let signals: SigSet = [Signal::SIGINT, Signal::SIGHUP, Signal::SIGTERM]
            .into_iter()
            .collect();
        signals.thread_block().unwrap();
        say("ready");
        let mut count = 0;
        loop {
            match signals.wait().unwrap() {
                Signal::SIGTERM => return count,
                signal => {
                    count += 1;
                    say(signal);
                }
            }
        }
    })
    .unwrap()
}

fn a_signal_goes_down_once() {
    use std::os::unix::process::CommandExt;
    let stage = Stage::new();
    let mut command = stage.role("signals");
    let mut actor = Actor::start({
        command.process_group(0);
        command
    });
    assert_eq!(actor.line(), "ready");
    // As a terminal does it: to the whole foreground group.
    let group = nix::unistd::Pid::from_raw(actor.child.id().cast_signed());
    nix::sys::signal::killpg(group, Signal::SIGINT).unwrap();
    assert_eq!(actor.line(), "SIGINT");
    actor.signal(Signal::SIGHUP);
    assert_eq!(actor.line(), "SIGHUP");
    actor.signal(Signal::SIGTERM);
    assert_eq!(
        actor.end().1.code(),
        Some(2),
        "how many came before the last"
    );
    stage.check_empty(&[]);
}

fn role_plan() -> u8 {
    let Plan {
        network,
        isolation,
        reason,
    } = plan();
    say(format!("{network:?} {isolation:?} {reason}"));
    0
}

fn role_refused() -> u8 {
    say(probe(NetworkMode::Bridge, Needs::default()).unwrap_err());
    0
}

fn role_links_refused() -> u8 {
    let links = Needs {
        links: true,
        ..Needs::default()
    };
    say(probe(NetworkMode::Auto, links).unwrap_err());
    0
}

/// A command that runs another as an ordinary user.
fn as_nobody() -> Command {
    if !nix::unistd::geteuid().is_root() {
        return Command::new("env");
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command
}

/// The same where no namespaces can be made, not even by who is called root there.
fn without_any_namespaces() -> Command {
    let script = "for kind in user net pid mnt; do \
                  echo 0 >/proc/sys/user/max_${kind}_namespaces || exit 1; done; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", script, "sh"]);
    command
}

/// The same where there is no /dev/net/tun, as an ordinary user (or as a user who only seems to be
/// root, where this program is none: to hide a file one must be allowed to mount).
fn without_tun_command() -> Command {
    let script = "mount -t tmpfs none /dev/net && exec \"$@\"";
    let mut command = Command::new("unshare");
    if nix::unistd::geteuid().is_root() {
        command.args(["--mount", "sh", "-c", script, "sh"]);
        let ordinary = as_nobody();
        command
            .arg(ordinary.get_program())
            .args(ordinary.get_args());
    } else {
        command.args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
        ]);
    }
    command
}

fn without_tun() {
    let stage = Stage::new();
    let output = stage
        .role_through(without_tun_command(), "plan")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("User Namespaces")
            && text.contains("/dev/net/tun cannot be used: No such"),
        "{text}"
    );
    let output = stage
        .role_through(without_tun_command(), "links_refused")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("impaired links need the network `switch`") && text.contains("mknod"),
        "{text}"
    );
}

fn an_ordinary_user() {
    let stage = Stage::new();
    let output = stage.role_through(as_nobody(), "plan").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let tun = std::fs::metadata("/dev/net/tun").map(|tun| tun.permissions());
    let open_to_all = tun.is_ok_and(|tun| {
        use std::os::unix::fs::PermissionsExt;
        tun.mode() & 0o006 == 0o006
    });
    let expected = if open_to_all { "Bridge" } else { "User" };
    assert!(
        text.starts_with(&format!("{expected} Namespaces {{ user: true }}")),
        "{text}"
    );
    if !open_to_all {
        assert!(
            text.contains("/dev/net/tun cannot be used: Permission denied"),
            "{text}"
        );
        let output = stage.role_through(as_nobody(), "refused").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("--network user"), "{text}");
    }
}

fn without_namespaces() {
    let stage = Stage::new();
    let output = stage
        .role_through(without_any_namespaces(), "plan")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("User None this machine allows no namespaces (new PID"),
        "{text}"
    );
}

/// Checks what it sees from within, with a network that is up.
fn role_inside() -> u8 {
    let host_network = std::fs::read_link("/proc/self/ns/net").unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    enter(&plan(), |sandbox| {
        assert_eq!(std::process::id(), 2, "init is 1");
        assert_eq!(processes(), ["1", "2"]);
        assert_ne!(
            std::fs::read_link("/proc/self/ns/net").unwrap(),
            host_network
        );
        in_runtime(async {
            let (events, _) = tokio::sync::mpsc::unbounded_channel();
            let fleet = Fleet::start(sandbox, fleet(board("good"), 1), events)
                .await
                .unwrap();
            let server = tokio::net::TcpListener::bind((fleet.server_ip(), 0))
                .await
                .unwrap();
            tokio::net::TcpStream::connect(server.local_addr().unwrap())
                .await
                .unwrap();
            // The host's loopback is not this one, but a socket made there still works.
            assert!(tokio::net::TcpStream::connect(address).await.is_err());
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            say(address);
            listener.accept().await.unwrap();
            fleet.stop().await;
        })
    })
    .unwrap()
}

fn processes() -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let names = all.map(|entry| entry.file_name().into_string().unwrap());
    names
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .collect()
}

fn in_runtime(work: impl Future<Output = ()>) -> u8 {
    tokio::runtime::Runtime::new().unwrap().block_on(work);
    0
}

fn inside_it_is_another_world() {
    let stage = Stage::new();
    let mut actor = Actor::start(stage.role("inside"));
    let address = actor.line();
    assert_eq!(links_of_the_fleet(), [""; 0]);
    std::net::TcpStream::connect(address).unwrap();
    let (rest, status) = actor.end();
    assert!(status.success(), "{rest}");
    stage.check_empty(&[]);
}

/// Links in the network namespace of this process that could be of a fleet.
fn links_of_the_fleet() -> Vec<String> {
    let links = nix::ifaddrs::getifaddrs()
        .unwrap()
        .map(|link| link.interface_name);
    links.filter(|name| name.starts_with("zfl")).collect()
}

/// Runs a fleet until SIGTERM, and stops it then.
fn role_fleet() -> u8 {
    let plan = plan();
    enter(&plan, |sandbox| {
        in_runtime(async {
            use tokio::signal::unix::{SignalKind, signal};
            let mut end = signal(SignalKind::terminate()).unwrap();
            let (events, mut told) = tokio::sync::mpsc::unbounded_channel();
            let fleet = Fleet::start(sandbox, fleet(board("good"), 8), events)
                .await
                .unwrap();
            let report = fleet.boot((fleet.server_ip(), 8080).into()).await;
            assert_eq!(report.booted.len(), 8, "{:?}", report.failed);
            say(stage().display());
            end.recv().await;
            fleet.stop().await;
            let mut stopped = 0;
            while let Ok(event) = told.try_recv() {
                stopped += u8::from(matches!(event, FleetEvent::Stopped { .. }));
            }
            assert_eq!(stopped, 8);
        })
    })
    .unwrap()
}

/// A fleet of eight that runs: the actor, and what must be gone after it.
fn running_fleet(
    stage: &Stage,
    command: Command,
    inner_processes: usize,
) -> (Actor, Vec<Namespace>) {
    let mut actor = Actor::start(command);
    actor.line();
    let processes = stage.processes();
    assert_eq!(processes.len(), 8 + inner_processes, "{processes:?}");
    assert_eq!(links_of_the_fleet(), [""; 0]);
    (actor, stage.namespaces())
}

fn a_fleet_that_is_stopped() {
    let stage = Stage::new();
    let (actor, namespaces) = running_fleet(&stage, stage.role("fleet"), 3);
    assert!(namespaces.len() >= 3, "{namespaces:?}");
    actor.signal(Signal::SIGTERM);
    let (rest, status) = actor.end();
    assert!(status.success(), "{rest}");
    stage.check_empty(&namespaces);
}

fn a_fleet_that_is_killed() {
    let stage = Stage::new();
    let (mut actor, namespaces) = running_fleet(&stage, stage.role("fleet"), 3);
    actor.kill();
    stage.check_empty(&namespaces);
}

/// Kills the process that has the runtime: the one whose parent's parent is the actor.
fn inner_killed() {
    let stage = Stage::new();
    let (actor, namespaces) = running_fleet(&stage, stage.role("fleet"), 3);
    let child_of = |pid: u32| {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        children.unwrap().trim().parse::<u32>().unwrap()
    };
    let inner = child_of(child_of(actor.child.id())).cast_signed();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(inner), Signal::SIGKILL).unwrap();
    let (_, status) = actor.end();
    assert_eq!(status.code(), Some(128 + 9));
    stage.check_empty(&namespaces);
}

fn plain_stopped() {
    let stage = Stage::new();
    let command = stage.role_through(without_any_namespaces(), "fleet");
    let (actor, namespaces) = running_fleet(&stage, command, 3);
    assert_eq!(stage.temporary_files().len(), 1, "the folder of the FIFOs");
    actor.signal(Signal::SIGTERM);
    let (rest, status) = actor.end();
    assert!(status.success(), "{rest}");
    stage.check_empty(&namespaces);
}

fn plain_killed() {
    let stage = Stage::new();
    let command = stage.role_through(without_any_namespaces(), "fleet");
    let (mut actor, namespaces) = running_fleet(&stage, command, 3);
    actor.kill();
    stage.check_empty(&namespaces);
}

fn user_killed() {
    let stage = Stage::new();
    let mut command = stage.role("fleet");
    command.env("ZFL_TEST_NETWORK", "user");
    let (mut actor, namespaces) = running_fleet(&stage, command, 3);
    actor.kill();
    stage.check_empty(&namespaces);
}

fn nobody_killed() {
    let stage = Stage::new();
    let command = stage.role_through(as_nobody(), "fleet");
    let (mut actor, namespaces) = running_fleet(&stage, command, 3);
    assert!(
        namespaces.len() >= 4,
        "with a user namespace: {namespaces:?}"
    );
    actor.kill();
    stage.check_empty(&namespaces);
}

fn switch_killed() {
    let stage = Stage::new();
    let mut command = stage.role("fleet");
    command.env("ZFL_TEST_NETWORK", "switch");
    let (mut actor, namespaces) = running_fleet(&stage, command, 3);
    actor.kill();
    stage.check_empty(&namespaces);
}

fn without_tun_a_fleet_runs() {
    let stage = Stage::new();
    let command = stage.role_through(without_tun_command(), "fleet");
    let (actor, namespaces) = running_fleet(&stage, command, 3);
    actor.signal(Signal::SIGTERM);
    let (rest, status) = actor.end();
    assert!(status.success(), "{rest}");
    stage.check_empty(&namespaces);
}
