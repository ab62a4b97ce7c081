//! The sandbox: what gets in, what gets out, and that nothing stays behind.

mod support;

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::unistd::Pid;
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
            ("break_out", role_break_out),
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
            test(
                "without_namespaces_a_fleet_of_which_only_machines_live_leaves_nothing",
                plain_both_killed,
            ),
            test(
                "a_guest_that_breaks_out_finds_nothing_on_the_bridge",
                breaks_out_on_the_bridge,
            ),
            test(
                "a_guest_that_breaks_out_finds_nothing_on_the_switch",
                breaks_out_on_the_switch,
            ),
            test(
                "a_guest_that_breaks_out_finds_nothing_on_the_user_network",
                breaks_out_on_the_user_network,
            ),
            test(
                "a_guest_that_breaks_out_finds_nothing_of_an_ordinary_user",
                breaks_out_of_an_ordinary_user,
            ),
            test(
                "a_guest_that_breaks_out_finds_nothing_without_namespaces",
                breaks_out_without_namespaces,
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

fn child_of(pid: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    children.unwrap().trim().parse().unwrap()
}

/// Kills the process that has the runtime: the one whose parent's parent is the actor.
fn inner_killed() {
    let stage = Stage::new();
    let (actor, namespaces) = running_fleet(&stage, stage.role("fleet"), 3);
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

/// Kills the two processes that could still clean up, at once.
fn plain_both_killed() {
    let stage = Stage::new();
    let command = stage.role_through(without_any_namespaces(), "fleet");
    let (mut actor, namespaces) = running_fleet(&stage, command, 3);
    let init = Pid::from_raw(child_of(actor.child.id()).cast_signed());
    kill(init, Signal::SIGSTOP).unwrap();
    actor.kill();
    kill(init, Signal::SIGKILL).unwrap();
    stage.check_empty(&namespaces);
}

/// Two machines whose guests break out: what they find they tell in their logs.
fn role_break_out() -> u8 {
    enter(&plan(), |sandbox| {
        in_runtime(async {
            use tokio::signal::unix::{SignalKind, signal};
            let mut end = signal(SignalKind::terminate()).unwrap();
            let (events, _) = tokio::sync::mpsc::unbounded_channel();
            let config = fleet(board("breaks-out"), 2);
            let fleet = Fleet::start(sandbox, config, events).await.unwrap();
            let server = std::net::TcpListener::bind((fleet.server_ip(), 0)).unwrap();
            let report = fleet.boot(server.local_addr().unwrap()).await;
            assert_eq!(report.booted.len(), 2, "{:?}", report.failed);
            // The stand-in itself has no filter; every other lack is told.
            say(format!("{:?}", fleet.warnings()));
            end.recv().await;
            fleet.stop().await;
        })
    })
    .unwrap()
}

fn breaks_out_on_the_bridge() {
    breaks_out(Command::new("env"), "bridge", Finds::Nothing);
}

fn breaks_out_on_the_switch() {
    breaks_out(Command::new("env"), "switch", Finds::Nothing);
}

fn breaks_out_on_the_user_network() {
    breaks_out(Command::new("env"), "user", Finds::Nothing);
}

fn breaks_out_of_an_ordinary_user() {
    breaks_out(as_nobody(), "", Finds::Nothing);
}

/// Landlock leaves it to see that files are there, and takes what it could do with them.
fn breaks_out_without_namespaces() {
    breaks_out(without_any_namespaces(), "", Finds::Names);
}

/// Finds that a guest that breaks out may make, beside what it needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Finds {
    Nothing,
    Names,
}

fn breaks_out(through: Command, network: &str, finds: Finds) {
    let stage = Stage::new();
    // A shell that starts zfl may have left a descriptor open to it.
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 9</etc/passwd; exec \"$@\"", "sh"]);
    shell.arg(through.get_program()).args(through.get_args());
    let mut command = stage.role_through(shell, "break_out");
    command.env("ZFL_TEST_NETWORK", network);
    let mut actor = Actor::start(command);
    assert_eq!(actor.line(), "[]", "what the jail lacks");
    for client in [1, 2] {
        let log = stage.path(&format!("serial/{client}.log"));
        let read = || std::fs::read_to_string(&log).unwrap();
        support::wait_until("it has tried all", || read().contains("tried all"));
        let found: Vec<String> = read()
            .lines()
            .filter_map(|line| Some(line.split_once("found: ")?.1.to_owned()))
            .filter(|found| !is_needed(found, &stage))
            .collect();
        assert_eq!(found, [""; 0], "client {client}");
    }
    let machines: Vec<u32> = stage
        .processes()
        .into_iter()
        .filter(|&pid| is_machine(pid))
        .collect();
    assert_eq!(machines.len(), 2);
    machines.iter().for_each(|&pid| has_nothing(pid));
    if finds == Finds::Nothing {
        let user = |&pid: &u32| std::fs::metadata(format!("/proc/{pid}")).unwrap().uid();
        assert!(!machines.iter().map(user).any(|user| user == 0));
        let pids = machines
            .iter()
            .map(|pid| std::fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap());
        let distinct: std::collections::BTreeSet<_> = pids.collect();
        assert_eq!(distinct.len(), 2, "each is alone");
    }
    actor.signal(Signal::SIGTERM);
    let (rest, status) = actor.end();
    assert!(status.success(), "{rest}");
    stage.check_empty(&[]);
}

/// Folders of the root that hold the emulator and its libraries, and the stage, which its arguments name.
fn is_needed(found: &str, stage: &Stage) -> bool {
    let Some(path) = found.strip_prefix("path ") else {
        return false;
    };
    let top = stage
        .path("")
        .components()
        .nth(1)
        .map(|top| Path::new("/").join(top));
    let needed = ["/bin", "/etc", "/etc/ld.so.cache", "/lib", "/lib64", "/usr"];
    needed.contains(&path) || top.is_some_and(|top| Path::new(path) == top)
}

fn is_machine(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains("qemu-system-standin")
}

/// Checks from outside that a machine has no privilege, no environment and no descriptor beyond its own.
fn has_nothing(pid: u32) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} in {status}"))
            .trim()
            .to_owned()
    };
    assert_eq!(value("NoNewPrivs:"), "1");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(value(set), "0000000000000000", "{set}");
    }
    let names = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let names = String::from_utf8_lossy(&names).into_owned();
    // The C library cuts its tunables apart where they stand.
    let kept = ["GLIBC_TUNABLES", "LD_LIBRARY_PATH", "QEMU_MODULE_DIR"];
    let is_kept = |variable: &str| {
        let name = variable.split('=').next().unwrap();
        kept.contains(&name) || name.starts_with("glibc.malloc.")
    };
    assert!(names.split_terminator('\0').all(is_kept), "{names:?}");
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten();
    let fds: Vec<_> = fds
        .map(|fd| std::fs::read_link(fd.path()).unwrap())
        .collect();
    let of_the_host = |fd: &&PathBuf| fd.is_absolute() && !fd.starts_with("/dev/null");
    let files: Vec<_> = fds.iter().filter(of_the_host).collect();
    assert!(
        files
            .iter()
            .all(|fd| fd.ends_with("qemu-system-standin") || fd.ends_with("tun")),
        "{fds:?}"
    );
    assert!(
        fds.len() <= 6,
        "standard ones, the script, line and card: {fds:?}"
    );
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
