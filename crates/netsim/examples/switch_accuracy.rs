//! Measures the switch against what it was asked for, on a host that is busy with something else.
//!
//! ```text
//! cargo run --release -p zfl-netsim --example switch_accuracy
//! cargo run --release -p zfl-netsim --example switch_accuracy -- \
//!     --ports 20 --seconds 10 --frames-per-second 100 --frame-bytes 500 --burners 2
//! ```
//!
//! Every device sends and gets `--frames-per-second` frames over a link that is the same in both
//! directions, while `--burners` threads (as many as there are processors, if not given) keep the
//! processors busy. A frame carries the time at which it was sent. It has arrived when the switch
//! hands it to the host's hook, or when the kernel puts it into the device's socket, so the time
//! until the receiver of this program runs does not count; the time until the switch runs does.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use nix::cmsg_space;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use zfl_netsim::{Impairment, Link, Loss, Mac, Rate, Switch, SwitchHandle};

const HOST: Mac = Mac([2, 0, 0, 0, 0xff, 0xfe]);
/// Offset of the time of sending in a frame: behind the Ethernet header.
const STAMP: std::ops::Range<usize> = 14..22;

fn main() -> Result<()> {
    let options = Options::from_args()?;
    let burning = Burners::start(options.burners);
    println!(
        "{} devices, each {} frames of {} bytes a second in both directions for {} s; {} busy threads on {} \
         processors\n",
        options.ports,
        options.frames_per_second,
        options.frame_bytes,
        options.seconds,
        options.burners,
        processors()
    );
    println!(
        "| asked | way | loss % | delay ms: mean | median | 99 % | worst | kbit/s | switch: late > 1 ms | CPU |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for (name, impairment) in scenarios() {
        measure(&options, name, impairment)?;
    }
    drop(burning);
    Ok(())
}

/// The request.
fn scenarios() -> Vec<(&'static str, Impairment)> {
    let ms = Duration::from_millis;
    let plain = Impairment::default();
    let lossy = |percent: f64, delay| Impairment {
        loss: Loss::independent(percent / 100.0),
        delay,
        ..plain
    };
    vec![
        ("nothing", plain),
        ("loss 1 %", lossy(1.0, ms(0))),
        ("delay 20 ms", lossy(0.0, ms(20))),
        ("delay 100 ms", lossy(0.0, ms(100))),
        ("loss 1 %, delay 20 ms", lossy(1.0, ms(20))),
        ("loss 5 %, delay 20 ms", lossy(5.0, ms(20))),
        ("loss 10 %, delay 100 ms", lossy(10.0, ms(100))),
        (
            "loss 5 % in bursts of 4, delay 20 ms",
            Impairment {
                loss: Loss::bursts(0.05, 4.0),
                ..lossy(0.0, ms(20))
            },
        ),
        (
            "delay 20 ± 5 ms, reordering allowed",
            Impairment {
                jitter: ms(5),
                reorder: true,
                ..lossy(0.0, ms(20))
            },
        ),
        (
            "rate 200 kbit/s",
            Impairment {
                rate: Some(Rate::new(200_000)),
                ..plain
            },
        ),
    ]
}

struct Options {
    ports: u16,
    seconds: u64,
    frames_per_second: u64,
    frame_bytes: usize,
    burners: usize,
}

impl Options {
    fn from_args() -> Result<Self> {
        let mut given = BTreeMap::new();
        let mut args = std::env::args().skip(1);
        while let Some(key) = args.next() {
            let value = args
                .next()
                .with_context(|| format!("{key} needs a number"))?;
            given.insert(key, value.parse::<u64>().with_context(|| value)?);
        }
        let mut take = |key: &str, default| given.remove(key).unwrap_or(default);
        let options = Self {
            ports: u16::try_from(take("--ports", 20))?,
            seconds: take("--seconds", 10),
            frames_per_second: take("--frames-per-second", 100),
            frame_bytes: usize::try_from(take("--frame-bytes", 500))?,
            burners: usize::try_from(take("--burners", processors() as u64))?,
        };
        if let Some(key) = given.keys().next() {
            bail!(
                "{key}: give --ports, --seconds, --frames-per-second, --frame-bytes or --burners"
            );
        }
        ensure!(options.frames_per_second > 0, "--frames-per-second is 0");
        ensure!(
            (60..=1514).contains(&options.frame_bytes),
            "--frame-bytes: give 60 to 1514"
        );
        Ok(options)
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Threads that do nothing, at full speed.
struct Burners {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Burners {
    fn start(count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let burn = |stop: Arc<AtomicBool>| move || while !stop.load(Ordering::Relaxed) {};
        let threads = (0..count)
            .map(|_| std::thread::spawn(burn(Arc::clone(&stop))))
            .collect();
        Self { stop, threads }
    }
}

impl Drop for Burners {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Delay of each frame, and time of its arrival.
#[derive(Clone, Default)]
struct Arrivals(Arc<Mutex<Vec<(Duration, Duration)>>>);

impl Arrivals {
    fn add(&self, frame: &[u8], at: Duration) {
        let Some(stamp) = frame.get(STAMP).and_then(|bytes| bytes.try_into().ok()) else {
            return;
        };
        let sent = Duration::from_nanos(u64::from_le_bytes(stamp));
        let mut arrivals = self.0.lock().expect("nobody panics");
        arrivals.push((at.saturating_sub(sent), at));
    }

    fn take(&self) -> Vec<(Duration, Duration)> {
        std::mem::take(&mut *self.0.lock().expect("nobody panics"))
    }
}

fn measure(options: &Options, name: &str, impairment: Impairment) -> Result<()> {
    let (up, down) = (Arrivals::default(), Arrivals::default());
    let hook = {
        let up = up.clone();
        move |frame: &[u8]| up.add(frame, now())
    };
    let mut builder = Switch::builder(1).host_hook(hook);
    let mut devices = Vec::new();
    for place in 0..options.ports {
        let (device, end) = UnixDatagram::pair()?;
        setsockopt(&device, sockopt::ReceiveTimestampns, &true)?;
        device.set_nonblocking(true)?;
        builder = builder.port(place.into(), mac(place), end, Link::symmetric(impairment));
        devices.push(device);
    }
    let switch = builder.spawn()?;
    let stop = AtomicBool::new(false);
    let cpu_before = switch_cpu();
    let start = Instant::now();
    let sent = std::thread::scope(|scope| {
        scope.spawn(|| receive(&devices, &down, &stop));
        let sent = send(options, &switch, &devices);
        std::thread::sleep(impairment.delay + impairment.jitter + Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        sent
    })?;
    let cpu = (switch_cpu() - cpu_before).as_secs_f64() / start.elapsed().as_secs_f64();
    let stats = switch.stats();
    switch.stop()?;
    let class = if stats.real_time {
        "real-time"
    } else {
        "normal"
    };
    let late = format!(
        "{} of {} ({class})",
        stats.punctuality.late_frames,
        2 * sent
    );
    for (way, arrivals) in [("up", up), ("down", down)] {
        let row = Row::new(options, &arrivals.take(), sent);
        println!("| {name} | {way} | {row} | {late} | {:.1} % |", 100.0 * cpu);
    }
    Ok(())
}

/// Sends to and from every device, and returns how many frames each way.
fn send(options: &Options, switch: &SwitchHandle, devices: &[UnixDatagram]) -> Result<u64> {
    let rounds = options.seconds * options.frames_per_second;
    let start = Instant::now();
    let mut sent = 0;
    for round in 0..rounds {
        // Devices do not send all at once.
        for (place, device) in (0..).zip(devices) {
            let share = (u64::from(place) * 1_000_000) / u64::from(options.ports);
            let micros = (round * 1_000_000 + share) / options.frames_per_second;
            let at = start + Duration::from_micros(micros);
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            send_whole(device, &frame(HOST, mac(place), options.frame_bytes))?;
            switch.inject(&frame(mac(place), HOST, options.frame_bytes))?;
            sent += 1;
        }
    }
    Ok(sent)
}

/// Sends a frame, even if the switch has not yet read those before it.
fn send_whole(device: &UnixDatagram, frame: &[u8]) -> Result<()> {
    loop {
        match device.send(frame) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_micros(100));
            }
            sent => return Ok(sent.map(drop)?),
        }
    }
}

fn receive(devices: &[UnixDatagram], arrivals: &Arrivals, stop: &AtomicBool) {
    let mut buffer = vec![0; 2000];
    while !stop.load(Ordering::Relaxed) {
        let mut fds: Vec<_> = devices
            .iter()
            .map(|device| PollFd::new(std::os::fd::AsFd::as_fd(device), PollFlags::POLLIN))
            .collect();
        if poll(&mut fds, PollTimeout::from(100u8)).is_err() {
            continue;
        }
        for device in devices {
            while let Some((len, at)) = receive_one(device, &mut buffer) {
                arrivals.add(&buffer[..len], at);
            }
        }
    }
}

/// A frame's length and when the kernel took it.
fn receive_one(device: &UnixDatagram, buffer: &mut [u8]) -> Option<(usize, Duration)> {
    let mut space = cmsg_space!(TimeSpec);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(
        device.as_raw_fd(),
        &mut slices,
        Some(&mut space),
        MsgFlags::MSG_DONTWAIT,
    )
    .ok()?;
    let stamp = message.cmsgs().ok()?.find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(at) => Some(Duration::from(at)),
        _ => None,
    });
    Some((message.bytes, stamp.unwrap_or_else(now)))
}

struct Row {
    loss_percent: f64,
    mean: Duration,
    median: Duration,
    late: Duration,
    worst: Duration,
    kbit_per_s: f64,
}

impl Row {
    fn new(options: &Options, arrivals: &[(Duration, Duration)], sent: u64) -> Self {
        let (mut delays, mut times): (Vec<_>, Vec<_>) = arrivals.iter().copied().unzip();
        delays.sort();
        times.sort();
        let first = times.first().copied().unwrap_or_default();
        let span = times.last().copied().unwrap_or_default() - first;
        let quantile = |q: f64| {
            let place = (delays.len() as f64 * q) as usize;
            delays
                .get(place.min(delays.len().saturating_sub(1)))
                .copied()
                .unwrap_or_default()
        };
        let count = delays.len() as f64;
        let bits = count * options.frame_bytes as f64 * 8.0;
        Self {
            loss_percent: 100.0 * (1.0 - count / sent as f64),
            mean: delays.iter().sum::<Duration>().div_f64(count.max(1.0)),
            median: quantile(0.5),
            late: quantile(0.99),
            worst: quantile(1.0),
            // Of one device.
            kbit_per_s: bits / 1000.0 / span.as_secs_f64() / f64::from(options.ports),
        }
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        write!(
            f,
            "{:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.1}",
            self.loss_percent,
            ms(self.mean),
            ms(self.median),
            ms(self.late),
            ms(self.worst),
            self.kbit_per_s
        )
    }
}

fn frame(destination: Mac, source: Mac, len: usize) -> Vec<u8> {
    let mut frame = [destination.0, source.0].concat();
    // An Ethertype for experiments, IEEE 802.
    frame.extend([0x88, 0xb5]);
    frame.extend((now().as_nanos() as u64).to_le_bytes());
    frame.resize(len, 0);
    frame
}

fn mac(place: u16) -> Mac {
    let [high, low] = place.to_be_bytes();
    Mac([2, 0, 0, 0, high, low])
}

/// Since the Unix epoch: the clock of the kernel's stamps.
fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// The processor time of the switch's thread so far; zero where the kernel does not tell.
fn switch_cpu() -> Duration {
    let of_task = |folder: std::path::PathBuf| {
        let name = std::fs::read_to_string(folder.join("comm")).ok()?;
        let times = std::fs::read_to_string(folder.join("schedstat")).ok()?;
        let nanos = times.split(' ').next()?.parse().ok()?;
        (name.trim() == "zfl-switch").then(|| Duration::from_nanos(nanos))
    };
    let tasks = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    tasks.filter_map(|task| of_task(task.path())).sum()
}
