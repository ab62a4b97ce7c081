//! `cargo xtask responsiveness`: how soon a device answers while it trains, and how long its
//! training data takes to reach it.
//!
//! One device on each board, alone, over QEMU's user network: what is measured is the guest, not
//! the fleet's network. The aggregator is `zfl server`.

use crate::project::{self, Board};
use crate::run::build_zfl;
use crate::setup;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Answers that are timed.
const SAMPLES: usize = 200;

/// More training than the samples take; the device is ended before.
const EPOCHS: u32 = 1_000_000;

/// Ends what hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Times what each board whose firmware is built does, or only one.
///
/// # Errors
/// If there is no such firmware, or a device does not boot, join and train.
pub fn all(only: Option<&str>) -> Result<()> {
    let mut boards = project::boards()?;
    boards.retain(|board| only.is_none_or(|name| name == board.name));
    boards.retain(|board| project::root().join(&board.kernel.image).is_file());
    if boards.is_empty() {
        bail!("no such firmware is built: cargo xtask build-guest --body all");
    }
    setup::qemu()?;
    let zfl = build_zfl()?;
    println!(
        "{:<12}{:>20}{:>40}",
        "board", "470 KB of data, ms", "/ready while it trains, ms"
    );
    for board in &boards {
        let measured = one(&zfl, board).with_context(|| format!("a device on {}", board.name))?;
        println!("{}", row(&board.name, &measured));
    }
    Ok(())
}

/// Measurements of one device.
struct Measured {
    /// From joining to being ready: 600 examples of MNIST, and their labels.
    data_ms: u64,
    /// Sorted.
    answers: Vec<Duration>,
}

fn row(name: &str, measured: &Measured) -> String {
    let answers = &measured.answers;
    let at = |share: usize| {
        let index = (answers.len() - 1) * share / 100;
        format!("{:.1}", answers[index].as_secs_f64() * 1e3)
    };
    let spread = format!("median {}, 95 % {}, most {}", at(50), at(95), at(100));
    format!("{name:<12}{:>20}{spread:>40}", measured.data_ms)
}

fn one(zfl: &Path, board: &Board) -> Result<Measured> {
    let out = project::target_dir()
        .join("responsiveness")
        .join(&board.name);
    if out.exists() {
        std::fs::remove_dir_all(&out)?;
    }
    let mut server = Command::new(zfl);
    let arguments = "server -r 1 -c 1 --clients 100 --listen 127.0.0.1:0 -e";
    server
        .current_dir(project::root())
        .args(arguments.split(' '))
        .args([&EPOCHS.to_string(), "--out"]);
    let mut server = Running::start(server.arg(&out).stdin(Stdio::null()))?;
    let said = server.wait_for("for 1 devices")?;
    let address = said.split("listening on ").nth(1);
    let address: SocketAddr = address
        .and_then(|rest| rest.split(' ').next()?.parse().ok())
        .context("zfl server does not say where it listens")?;
    // Free again at once, for QEMU to take.
    let device = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let file = project::root().join(format!("boards/{}/board.toml", board.name));
    let table: toml::Table = toml::from_str(&std::fs::read_to_string(file)?)?;
    let mut qemu = machine(&table, device).context("its board.toml lacks something")?;
    let mut qemu = Running::start(qemu.stdin(Stdio::piped()))?;
    let prompt = table["shell"]["prompt"].as_str().unwrap_or_default();
    qemu.wait_for(prompt)?;
    let (ip, port) = ("10.0.2.15", address.port());
    qemu.type_line(&format!(
        "run {ip} server=10.0.2.2:{port} address={device} client=0"
    ))?;
    qemu.wait_for("round 1: training")?;
    let mut answers = Vec::new();
    while answers.len() < SAMPLES {
        answers.push(ask(device)?);
        // Not in step with anything that the device does.
        std::thread::sleep(Duration::from_millis(3 + answers.len() as u64 % 7));
    }
    answers.sort();
    Ok(Measured {
        data_ms: data_ms(&out)?,
        answers,
    })
}

/// QEMU as the board says, with the device's port 80 at `device` of the host.
fn machine(board: &toml::Table, device: SocketAddr) -> Option<Command> {
    let (machine, nic) = (board.get("machine")?, board.get("nic")?);
    let mut card = format!("{},netdev=n0", nic.get("model")?.as_str()?);
    for (key, value) in nic.get("options").and_then(toml::Value::as_table)? {
        card += &format!(",{key}={}", value.as_str()?);
    }
    let word = |name: &str| machine.get(name)?.as_str();
    let mut qemu = Command::new(word("qemu")?);
    qemu.current_dir(project::root());
    qemu.args(["-machine", word("machine")?, "-cpu", word("cpu")?]);
    let memory_mib = machine.get("memory_mib")?.as_integer()?;
    qemu.args(["-m", &format!("{memory_mib}M")]);
    let more = machine.get("extra_args")?.as_array()?;
    qemu.args(more.iter().filter_map(toml::Value::as_str));
    qemu.args(["-kernel", board.get("kernel")?.get("image")?.as_str()?]);
    let network = format!("user,id=n0,hostfwd=tcp:{device}-10.0.2.15:80");
    qemu.args(["-netdev", &network, "-device", &card, "-serial", "stdio"]);
    Some(qemu)
}

/// Times one answer of a device that trains.
fn ask(device: SocketAddr) -> Result<Duration> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(device)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /ready HTTP/1.1\r\nHost: device\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let took = start.elapsed();
    if !answer.contains("\"training\"") {
        bail!("the device does not say that it trains: {answer}");
    }
    Ok(took)
}

/// Time from a device's joining to its having the data, from the aggregator's events.
fn data_ms(out: &Path) -> Result<u64> {
    let events = std::fs::read_to_string(out.join("events.jsonl"))?;
    let time = |wanted: &str| {
        let mut events = events
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        events.find(|event| event["event"] == wanted)?["time_ms"].as_u64()
    };
    let (joined, ready) = (time("client_joined"), time("client_ready"));
    let both = joined.zip(ready).context("no device joined")?;
    Ok(both.1.saturating_sub(both.0))
}

/// A program whose output is read along. It is killed when dropped.
struct Running {
    child: Child,
    output: Receiver<u8>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Either may fail only because it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("its output is piped")?;
        let (sender, output) = channel();
        // It goes on reading to the end, so that nothing ever waits for room in the pipe.
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            while let Ok(bytes @ [_, ..]) = stdout.fill_buf() {
                let len = bytes.len();
                for &byte in bytes {
                    let _ = sender.send(byte);
                }
                stdout.consume(len);
            }
        });
        Ok(Self { child, output })
    }

    /// Waits until it has written this, and returns all since the last time.
    fn wait_for(&mut self, text: &str) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut said = String::new();
        while !said.ends_with(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            let byte = self.output.recv_timeout(left);
            let byte = byte.with_context(|| format!("no sign of {text:?} in {said:?}"))?;
            said.push(char::from(byte));
        }
        Ok(said)
    }

    fn type_line(&mut self, line: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("its input is piped")?;
        Ok(writeln!(stdin, "{line}")?)
    }
}
