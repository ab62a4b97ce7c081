//! Devices that are Zephyr applications: they train to the bit what native devices do, count their
//! instructions exactly, and die readably.
//!
//! Run by `cargo xtask test` where there is a Zephyr, after it has built the guest.

mod support;

use rustix::process::{PidfdFlags, PidfdGetfdFlags};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::time::Duration;
use support::{Live, Run, folder, root, wait_until, zfl};

const BOARD: &str = "qemu_x86";
const PROMPT: &str = "uart:~$ ";

/// A small job.
const SMALL: [&str; 6] = ["--clients", "2", "--rounds", "2", "--examples", "120"];

/// Ways to die, and what the device's last line says of each.
const DEATHS: [(&str, &str); 4] = [
    ("panic", "panic"),
    ("fault", "CPU exception"),
    ("stack", "stack overflow"),
    ("heap", "10485760 more refused"),
];

#[test]
fn zephyr_devices_agree_with_native_and_bare_ones() {
    let arguments = ["--clients", "2", "--rounds", "2", "--seed", "4"];
    let model = |body: &str| Run::succeeds(&[&["--body", body], &arguments[..]].concat()).model();
    let native = model("native");
    assert_eq!(model("zephyr"), native, "zephyr");
    assert_eq!(model("bare"), native, "bare");
}

#[test]
fn zephyr_devices_run_the_rules_of_algorithms() {
    for strategy in [
        &["--strategy", "fedprox", "--strategy-arg", "proximal_mu=0.1"][..],
        &["--strategy", "scaffold"],
    ] {
        let sizes = ["--clients", "2", "--rounds", "3", "--examples", "120"];
        let model =
            |body| Run::succeeds(&[&["--body", body], &sizes[..], strategy].concat()).model();
        assert_eq!(model("zephyr"), model("native"), "{strategy:?}");
    }
}

#[test]
fn gateways_on_zephyr_make_the_model_of_a_flat_fleet_for_devices_of_either_body() {
    let sizes = [
        "--clients",
        "6",
        "--rounds",
        "2",
        "--examples",
        "120",
        "--encoding-up",
        "int8",
    ];
    let run = |more: &[&str]| Run::succeeds(&[&sizes[..], more].concat());
    let flat = run(&["--body", "native"]).model();
    let edges = ["--edges", "3", "--edge-body"];
    // Without --body the devices are Zephyr's, as it is built here: gateways of either body go with them.
    for (body, gateway) in [("auto", "zephyr"), ("bare", "zephyr"), ("auto", "bare")] {
        let run = run(&[&["--body", body][..], &edges, &[gateway]].concat());
        assert_eq!(run.results(), [0, 6, 6], "{body} behind {gateway}");
        assert_eq!(run.model(), flat, "{body} behind {gateway}");
    }
}

#[test]
fn a_gateway_on_zephyr_that_is_killed_comes_back_with_its_devices() {
    let folder = folder();
    let path = folder.path().join("lost.toml");
    let text = "rounds = 3\nedges = 2\nedge_body = \"zephyr\"\nbody = \"zephyr\"\nclients = 4\n\
                examples_per_client = 120\n[[faults.edges]]\nround = 2\nedge = 1\nreboot = true\n";
    fs::write(&path, text).unwrap();
    let run = Run::succeeds(&[path.to_str().unwrap()]);
    assert_eq!(run.results(), [0, 4, 2, 4]);
}

#[test]
fn two_leaves_behind_a_gateway_on_zephyr_learn_what_native_ones_do() {
    let folder = folder();
    let path = folder.path().join("two.toml");
    let text = fs::read_to_string(root().join("experiments/mesh.toml")).unwrap();
    fs::write(&path, text.replace("count = 12", "count = 2")).unwrap();
    let small = [path.to_str().unwrap(), "--rounds", "1", "--examples", "20"];
    let run = |body| Run::succeeds(&[&small[..], &["--seed", "3", "--body", body]].concat());
    let (native, zephyr) = (run("native"), run("zephyr"));
    assert_eq!(zephyr.results(), [0, 2]);
    assert_eq!(zephyr.model(), native.model());
}

#[test]
#[ignore = "needs its image: cargo xtask build-guest --board mps2_an385"]
fn a_cortex_m3_makes_the_model_of_native_devices() {
    let run = |kind: &[&str]| Run::succeeds(&[kind, &["--seed", "11"], &SMALL].concat());
    let native = run(&["--body", "native"]).model();
    assert_eq!(run(&["--board", "mps2_an385"]).model(), native);
}

#[test]
#[ignore = "needs its image: cargo xtask build-guest --board native_sim"]
fn native_sim_makes_the_model_of_native_devices_and_comes_back_when_it_was_killed() {
    let run = |kind: &[&str]| Run::succeeds(&[kind, &["--seed", "11"], &SMALL].concat());
    let native = run(&["--body", "native"]).model();
    for network in ["bridge", "switch", "user"] {
        let run = run(&["--board", "native_sim", "--network", network]);
        assert_eq!(run.model(), native, "{network}");
        assert!(
            run.said
                .out
                .contains("native_sim is a program of this host"),
            "{run:?}"
        );
        // Its stack is the host's, and nothing counts its instructions.
        let table = fs::read_to_string(run.out().join("clients.csv")).unwrap();
        let mut lines = table
            .lines()
            .map(|line| line.split(',').collect::<Vec<_>>());
        let head = lines.next().unwrap();
        let at = |name: &str| head.iter().position(|column| *column == name).unwrap();
        for line in lines {
            assert_eq!(line[at("stack_peak_bytes")], "", "{line:?}");
            assert_eq!(line[at("instructions")], "", "{line:?}");
            assert_ne!(line[at("heap_peak_bytes")], "", "{line:?}");
        }
    }
    // The same faults take the same devices out of the same rounds, whatever the devices are.
    let folder = folder();
    let path = folder.path().join("faulty.toml");
    let text = "clients = 4\nrounds = 4\nseed = 11\nexamples_per_client = 120\n[faults]\n\
                crash = { probability = 0.3, reboot = true }\n";
    fs::write(&path, text).unwrap();
    let faulty = |kind: &[&str]| Run::succeeds(&[&[path.to_str().unwrap()], kind].concat());
    let (bare, simulated) = (
        faulty(&["--body", "bare"]),
        faulty(&["--board", "native_sim"]),
    );
    assert!(
        bare.results().iter().any(|&results| results < 4),
        "nobody crashed"
    );
    assert_eq!(simulated.results(), bare.results());
    assert_eq!(simulated.model(), bare.model());
}

#[test]
fn a_device_computes_the_bits_of_the_host() {
    let mut device = Device::boot(&[], "restrict=on");
    device.type_line("selftest");
    let console = device.wait_for(PROMPT);
    assert!(console.contains("selftest: ok"), "{console}");
}

#[test]
fn every_fatal_error_ends_the_machine_with_a_line_that_says_so() {
    for (how, what) in DEATHS {
        let mut device = Device::boot(&[], "restrict=on");
        device.type_line(&format!("crash {how}"));
        let console = device.read_to_the_end();
        let fatal = console.lines().rfind(|line| line.contains("zfl: fatal: "));
        assert!(
            fatal.is_some_and(|line| line.contains(what)),
            "crash {how}: {console}"
        );
        let status = device.qemu.wait().unwrap();
        assert!(!status.success(), "crash {how}: QEMU ended with {status}");
    }
}

#[test]
fn fatal_errors_in_a_run_are_failures_of_their_devices_and_not_of_the_run() {
    let folder = folder();
    let path = folder.path().join("fatal.toml");
    // Who is to die trains for hours, and so is in the middle of the first round when it does.
    let text = format!(
        "rounds = 3\nquorum = 1\n[[fleet]]\nname = \"mortal\"\ncount = {}\nexamples = 600\n\
         local_epochs = 1000000\n[[fleet]]\nname = \"sound\"\ncount = 1\nexamples = 600\n",
        DEATHS.len()
    );
    fs::write(&path, text).unwrap();
    let mut live = Live::start(&[path.to_str().unwrap(), "--body", "zephyr"]);
    for client in (0..).take(DEATHS.len()) {
        live.wait_for_start(client, 1);
    }
    for (client, (how, _)) in (0..).zip(DEATHS) {
        let mut shell = serial_input(live.machine(client).pid);
        writeln!(shell, "crash {how}").unwrap();
    }
    let run = live.finish();
    assert_eq!(run.said.status, Some(0), "{run:?}");
    assert_eq!(run.summary()["rounds_completed"], 3);
    assert_eq!(run.results(), [0, 1, 1, 1]);
    let deaths = run.failures("died");
    assert_eq!(deaths.len(), DEATHS.len(), "{deaths:?}");
    for (client, (how, what)) in (0_u32..).zip(DEATHS) {
        let death = deaths.iter().find(|death| death["client"] == client);
        let reason = death.expect("it died")["reason"].as_str().unwrap();
        assert!(reason.contains(what), "crash {how}: {reason}");
        let log = run.out().join(format!("serial/{client}.log"));
        let log = fs::read_to_string(log).unwrap();
        for expected in ["call trace:", "ZEPHYR FATAL ERROR", "zfl: fatal: "] {
            assert!(log.contains(expected), "crash {how}: {expected}: {log}");
        }
    }
}

#[test]
fn instructions_do_not_depend_on_what_the_host_does() {
    let quiet = instructions(3, Host::Quiet);
    assert_eq!(quiet.len(), 2, "{quiet:?}");
    assert!(quiet.iter().all(|&count| count > 1_000_000), "{quiet:?}");
    assert_eq!(instructions(3, Host::Busy), quiet, "on a busy host");
    assert_eq!(instructions(5, Host::Quiet), quiet, "with a slower clock");
}

#[test]
fn without_memory_a_round_is_refused_and_the_device_lives_on() {
    let (mut server, port) = serve("-r 1 -c 2");
    let (mut device, forwarded) = Device::boot_reachable(&[]);
    device.type_line(&format!(
        "run 10.0.2.15 server=10.0.2.2:{port} address={forwarded} client=1"
    ));
    server.wait_for("the device is ready", |event| {
        event["event"] == "client_ready" && event["client"] == 1
    });
    device.type_line("hog all");
    device.wait_for(" KiB left");
    let mut other = zfl();
    let arguments = format!("client -c 1 -e 1 -b 100 --server 127.0.0.1:{port}");
    let other = Live::start_as(other.args(arguments.split(' ')));
    let run = server.finish();
    other.finish();
    assert_eq!(run.said.status, Some(0), "{run:?}");
    let missing = run.failures("no_update");
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert_eq!(missing[0]["client"], 1);
    let reason = missing[0]["reason"].as_str().unwrap();
    assert!(reason.contains("training needs"), "{reason}");
    device.wait_for("refused: training needs");
    device.type_line("hog 0");
    device.wait_for("0 KiB taken");
}

/// The end of a machine's serial line that zfl has, from the descriptor that the machine has of its own end: the two
/// ends of a pair of sockets are made one after the other, and so have neighbouring numbers.
#[track_caller]
fn serial_input(machine: u32) -> File {
    let command = fs::read(format!("/proc/{machine}/cmdline")).expect("the machine runs");
    let command = String::from_utf8_lossy(&command).into_owned();
    let serial = command.split('\0').find(|word| word.starts_with("socket,"));
    let number = serial.and_then(|word| word.split("fd=").nth(1)?.split(',').next());
    let own = format!("/proc/{machine}/fd/{}", number.expect("a line"));
    let own = socket(Path::new(&own)).expect("a socket");
    let is_other_end = |at: &Path| socket(at).is_some_and(|at| at.abs_diff(own) == 1);
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let name = process.file_name().into_string().unwrap();
        let Ok(pid) = name.parse::<i32>() else {
            continue;
        };
        let is_zfl =
            fs::read_link(process.path().join("exe")).is_ok_and(|exe| exe.ends_with("zfl"));
        let files = fs::read_dir(process.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        let mut files = files.map(|file| file.path());
        if is_zfl && let Some(file) = files.find(|file| is_other_end(file)) {
            let number = file.file_name().unwrap().to_str().unwrap().parse().unwrap();
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            let pid = rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap();
            return rustix::process::pidfd_getfd(pid, number, PidfdGetfdFlags::empty())
                .unwrap()
                .into();
        }
    }
    panic!("nobody has the other end of the line of machine {machine}");
}

/// The number of a socket, by the link that a process has to it.
fn socket(file: &Path) -> Option<u64> {
    let to = fs::read_link(file).ok()?;
    to.to_str()?
        .strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

/// Load of the host while a device trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    /// It waits.
    Quiet,
    /// It computes, asks `/ready` all the time, and types into the shell.
    Busy,
}

/// `zfl server` with these arguments besides, and the port that it listens on.
fn serve(more: &str) -> (Live, u16) {
    let mut server = zfl();
    let arguments = "server --clients 100 --listen 127.0.0.1:0";
    server.args(arguments.split(' ')).args(more.split(' '));
    let server = Live::start_as(&mut server);
    let port = wait_until("the server's port", Duration::from_secs(60), || {
        let said = server.said_so_far();
        let address = said.split("listening on 127.0.0.1:").nth(1)?;
        address.split(' ').next()?.parse::<u16>().ok()
    });
    (server, port)
}

/// Instructions of two rounds of a device alone, whose emulator counts them.
fn instructions(shift: u8, host: Host) -> Vec<u64> {
    let (mut server, port) = serve("-r 2 -c 1 --epochs 30");
    let (mut device, forwarded) =
        Device::boot_reachable(&["-icount", &format!("shift={shift},sleep=on")]);
    device.type_line(&format!(
        "run 10.0.2.15 server=10.0.2.2:{port} address={forwarded} client=0 icount={shift}"
    ));
    let (mut console, input) = device.take_pipes();
    // A pipe that nobody reads would stop the machine in the end.
    std::thread::spawn(move || io::copy(&mut console, &mut io::sink()));
    // Before the training begins, but not before the device has read what was typed.
    let disturbance = (host == Host::Busy).then(|| {
        server.wait_for("the device has joined", |event| {
            event["event"] == "client_joined"
        });
        Disturbance::start(input, forwarded)
    });
    let run = server.finish();
    assert_eq!(run.said.status, Some(0), "{run:?}");
    if let Some(disturbance) = disturbance {
        let times = disturbance.times.load(Ordering::Relaxed);
        assert!(times > 0, "the training was over before it was disturbed");
    }
    let table = fs::read_to_string(run.out().join("clients.csv")).unwrap();
    let mut lines = table.lines().map(|line| line.split(','));
    let at = lines
        .next()
        .unwrap()
        .position(|name| name == "instructions");
    let column = lines.map(|mut line| line.nth(at.unwrap()).unwrap().to_owned());
    column
        .map(|count| count.parse().expect("it is counted"))
        .collect()
}

/// Threads that keep the host and a device busy, until this is dropped.
struct Disturbance {
    is_over: Arc<AtomicBool>,
    /// Number of answers of the device since it has joined.
    times: Arc<AtomicU32>,
}

impl Drop for Disturbance {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

impl Disturbance {
    fn start(mut shell: ChildStdin, device: SocketAddr) -> Self {
        let (is_over, times) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let done = Arc::clone(&is_over);
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let (done, answered) = (Arc::clone(&is_over), Arc::clone(&times));
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                // It fails once the machine is gone.
                let _ = writeln!(shell, "stat");
                answered.fetch_add(u32::from(answers(device)), Ordering::Relaxed);
            }
        });
        Self { is_over, times }
    }
}

/// Asks a device how it is, which it tells only its aggregator; true if it answers.
fn answers(device: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(device)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.write_all(b"GET /ready HTTP/1.1\r\nHost: device\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    // It fails once the machine is gone.
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 403"))
}

/// A Zephyr device alone, its shell on this test's pipes. It ends with the test.
struct Device {
    qemu: Child,
    pipes: Option<(BufReader<ChildStdout>, ChildStdin)>,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.end();
    }
}

impl Device {
    /// Boots a device up to its prompt, with more arguments for QEMU and its user network.
    fn boot(more: &[&str], network: &str) -> Self {
        let mut qemu = machine();
        qemu.args(more)
            .args(["-netdev", &format!("user,id=n0,{network}")]);
        let qemu = qemu
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut qemu = qemu.spawn().expect("QEMU starts");
        let console = BufReader::new(qemu.stdout.take().unwrap());
        let input = qemu.stdin.take().unwrap();
        let mut device = Self {
            qemu,
            pipes: Some((console, input)),
        };
        device.wait_for(PROMPT);
        device
    }

    /// Boots a device whose HTTP port is one of the host's loopback, which is returned too.
    fn boot_reachable(more: &[&str]) -> (Self, SocketAddr) {
        let address = own_address();
        let device = Self::boot(more, &format!("hostfwd=tcp:{address}-10.0.2.15:80"));
        (device, address)
    }

    /// Reads on until the device has written this, and returns all that it wrote.
    #[track_caller]
    fn wait_for(&mut self, text: &str) -> String {
        let (console, _) = self.pipes.as_mut().expect("they are still here");
        let (mut seen, last) = (Vec::new(), *text.as_bytes().last().unwrap());
        while !seen.ends_with(text.as_bytes()) {
            let more = console.read_until(last, &mut seen).unwrap();
            let seen = String::from_utf8_lossy(&seen);
            assert_ne!(more, 0, "it ended before {text:?}: {seen}");
        }
        String::from_utf8_lossy(&seen).into_owned()
    }

    /// Types a line into the shell.
    fn type_line(&mut self, line: &str) {
        let (_, input) = self.pipes.as_mut().expect("they are still here");
        writeln!(input, "{line}").unwrap();
    }

    /// All that the device writes until the machine ends, and the pipe with it.
    fn read_to_the_end(&mut self) -> String {
        let (mut console, _input) = self.take_pipes();
        let mut text = Vec::new();
        console.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }

    fn take_pipes(&mut self) -> (BufReader<ChildStdout>, ChildStdin) {
        self.pipes.take().expect("they are taken once")
    }

    fn end(&mut self) {
        // Either may fail only because it has ended already.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// An address that no other socket of this machine gets: a loopback address of this process's own, and
/// a port below those that the system picks.
fn own_address() -> SocketAddr {
    static PORT: AtomicU16 = AtomicU16::new(10_000);
    let [_, a, b, c] = std::process::id().to_be_bytes();
    // Apart from 127.0.0.1, at which most programs are.
    let ip = [127, a | 0x80, b, c];
    SocketAddr::from((ip, PORT.fetch_add(1, Ordering::Relaxed)))
}

/// QEMU as the board says, but for the network behind its card.
fn machine() -> Command {
    let text = fs::read_to_string(root().join(format!("boards/{BOARD}/board.toml"))).unwrap();
    let board: toml::Table = toml::from_str(&text).unwrap();
    let (machine, nic) = (&board["machine"], &board["nic"]);
    let word = |value: &toml::Value| value.as_str().unwrap().to_owned();
    let mut card = format!("{},netdev=n0", word(&nic["model"]));
    for (key, value) in nic["options"].as_table().unwrap() {
        card += &format!(",{key}={}", word(value));
    }
    let memory_mib = machine["memory_mib"].as_integer().unwrap().to_string();
    let mut qemu = Command::new(word(&machine["qemu"]));
    qemu.current_dir(root());
    qemu.args(["-machine", &word(&machine["machine"])]);
    qemu.args(["-cpu", &word(&machine["cpu"]), "-m", &memory_mib]);
    qemu.args(machine["extra_args"].as_array().unwrap().iter().map(word));
    qemu.args(["-kernel", &word(&board["kernel"]["image"])]);
    qemu.args(["-serial", "stdio", "-device", &card]);
    qemu
}
