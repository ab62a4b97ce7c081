//! Fleets in QEMU with the real world's trouble: links that lose, slow devices, faults, a machine that
//! hangs, a run that is killed.
//!
//! Run by `cargo xtask test-fleet`.

mod support;

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::{Live, Run, finish, folder, root, signal, wait_until, zfl};

const LIMIT: std::time::Duration = std::time::Duration::from_secs(300);

/// Cost of each update, in the order of round and client.
fn updates(run: &Run) -> Vec<Value> {
    let events = run.events().into_iter();
    let mut updates: Vec<_> = events
        .filter(|event| event["event"] == "result_received")
        .collect();
    updates.sort_by_key(|update| (update["round"].as_u64(), update["client"].as_u64()));
    updates
}

fn sum(updates: &[Value], field: &str) -> u64 {
    updates
        .iter()
        .map(|update| {
            update["host"][field]
                .as_u64()
                .unwrap_or_else(|| panic!("no {field} in {update}"))
        })
        .sum()
}

#[test]
fn a_lossy_link_costs_time_and_changes_nothing() {
    let arguments = [
        "--clients",
        "3",
        "--rounds",
        "3",
        "--examples",
        "300",
        "--seed",
        "6",
    ];
    let native = Run::succeeds(&[&["--body", "native"], &arguments[..]].concat());
    let trouble = ["--loss", "5%", "--delay", "20", "--pcap", "1"];
    let run = Run::succeeds(&[&arguments[..], &trouble].concat());
    assert_eq!(run.model(), native.model());
    assert!(run.said.out.contains("network switch"), "{}", run.said.out);
    let updates = updates(&run);
    assert_eq!(updates.len(), 9);
    assert!(sum(&updates, "link_dropped") > 0, "{updates:?}");
    assert!(sum(&updates, "link_retransmissions") > 0, "{updates:?}");
    // Four round trips of 40 ms, at the least.
    for update in &updates {
        assert!(
            update["host"]["link_s"].as_f64().unwrap() > 0.16,
            "{update}"
        );
        assert!(
            update["host"]["private_bytes"].as_u64().unwrap() > 1 << 20,
            "{update}"
        );
        assert!(update["host"]["boot_ms"].is_u64(), "{update}");
    }
    let capture = fs::read(run.out().join("pcap/1.pcapng")).unwrap();
    assert_eq!(
        capture[..4],
        [0x0a, 0x0d, 0x0d, 0x0a],
        "pcapng's magic number"
    );
    assert!(
        capture.len() > 200_000,
        "its data are 300 images: {}",
        capture.len()
    );
    assert!(!run.out().join("pcap/0.pcapng").exists());
}

/// Keeps the processors busy until it is dropped.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..4 {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(stop)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn counted_instructions_do_not_depend_on_the_host() {
    let file = folder();
    let path = file.path().join("speeds.toml");
    let text = "rounds = 2\ntime = \"icount\"\n[[fleet]]\ncount = 2\nexamples = 200\n\
                [[fleet]]\ncount = 1\nmips = 31.25\nexamples = 100\nboard = \"q35\"\n";
    fs::write(&path, text).unwrap();
    let flags = [path.to_str().unwrap(), "--body", "bare"];
    let idle = Run::succeeds(&flags);
    let busy = Busy::start();
    let loaded = Run::succeeds(&flags);
    drop(busy);
    let paid = |run: &Run| -> Vec<(u64, f64, f64)> {
        let updates = updates(run);
        let paid = updates.iter().map(|update| {
            let instructions = update["cost"]["instructions"]
                .as_u64()
                .expect("they are counted");
            let host = &update["host"];
            (
                instructions,
                host["virtual_s"].as_f64().unwrap(),
                host["energy_j"].as_f64().unwrap(),
            )
        });
        paid.collect()
    };
    assert_eq!(paid(&idle), paid(&loaded));
    assert_eq!(paid(&idle).len(), 6);
    let simulated = |run: &Run| -> Vec<f64> {
        let events = run.events().into_iter();
        events
            .filter_map(|event| event["simulated_s"].as_f64())
            .collect()
    };
    assert_eq!(simulated(&idle), simulated(&loaded));
    assert_eq!(simulated(&idle).len(), 2);
    // 100 examples at a quarter of the speed take longer than 200.
    let first_round = &paid(&idle)[..3];
    assert!(first_round[2].1 > first_round[0].1, "{first_round:?}");
    assert!(first_round[2].0 < first_round[0].0, "{first_round:?}");
    let native = Run::succeeds(&[flags[0], "--body", "native"]);
    assert_eq!(idle.model(), native.model());
}

#[test]
fn faults_happen_to_real_machines() {
    let file = folder();
    let entry = |round: u32, client: u32, fault: &str| {
        format!("[[faults.schedule]]\nround = {round}\nclient = {client}\nfault = {fault}\n")
    };
    let text = [
        "rounds = 4\n[[fleet]]\ncount = 4\nexamples = 300\n".to_owned(),
        entry(1, 0, "\"out-of-memory\""),
        entry(2, 1, "\"crash\"\nreboot = true"),
        entry(2, 2, "\"drop-out\""),
        entry(3, 3, "\"corrupt\""),
        entry(4, 0, "\"cut\"\nfor_ms = 300"),
        entry(4, 1, "\"freeze\"\nfor_ms = 300"),
    ];
    let path = file.path().join("faults.toml");
    fs::write(&path, text.concat()).unwrap();
    let run = Run::succeeds(&[path.to_str().unwrap(), "--body", "bare"]);
    assert!(run.failures("died").is_empty(), "{run:?}");
    let failures = run.failures("no_update");
    let failed: Vec<_> = failures
        .iter()
        .map(|f| (f["round"].as_u64().unwrap(), f["client"].as_u64().unwrap()))
        .collect();
    assert_eq!(failed, [(1, 0), (2, 1), (3, 3)]);
    let reason = |at: usize| failures[at]["reason"].as_str().unwrap();
    assert!(
        reason(0).contains("training needs"),
        "the device's own words: {}",
        reason(0)
    );
    let events = run.events();
    let failed = events.iter().find(|event| event["what"] == "fault_failed");
    assert!(failed.is_none(), "{failed:?}");
    let boots = events
        .iter()
        .filter(|e| e["what"] == "running" && e["client"] == 1);
    assert_eq!(boots.count(), 2, "client 1 came back");
    let results = events
        .iter()
        .filter(|event| event["event"] == "round_finished");
    let results: Vec<_> = results
        .map(|event| event["results"].as_u64().unwrap())
        .collect();
    assert_eq!(results, [0, 3, 2, 3, 4]);
}

/// Stops the machine of client 1 at an event, and waits until the watchdog has brought it back.
fn hangs_at(what: &str, event: impl Fn(&Value) -> bool) {
    // More rounds than there is time for: the run must not be over before.
    let mut live = Live::start(&[
        "--clients",
        "3",
        "--rounds",
        "100000",
        "--examples",
        "600",
        "--epochs",
        "100",
        "--ready-deadline",
        "20",
        "--deadline",
        "600",
        "--watchdog",
        "10",
        "--dashboard",
        "off",
    ]);
    live.wait_for(what, event);
    signal(live.machine(1).pid, "STOP");
    let killed = live.wait_for("the watchdog has seen it", |event| {
        event["what"] == "watchdog" && event["client"] == 1
    });
    live.wait_for("it has joined again and trained", |event| {
        let later = event["time_ms"].as_u64() > killed["time_ms"].as_u64();
        later && event["event"] == "result_received" && event["client"] == 1
    });
    signal(live.pid(), "INT");
    let run = live.finish();
    assert_eq!(run.said.status, Some(130), "{run:?}");
    let deaths = run.failures("died");
    let [death] = &deaths[..] else {
        panic!("{deaths:?}")
    };
    assert_eq!(death["client"], 1);
    let reason = death["reason"].as_str().unwrap();
    assert!(
        reason.ends_with("for 10 s: killed by the watchdog"),
        "{reason}"
    );
}

#[test]
fn a_machine_that_hangs_in_training_is_killed_and_comes_back() {
    hangs_at("client 1 trains in round 2", |event| {
        event["event"] == "client_started" && event["client"] == 1 && event["round"] == 2
    });
}

#[test]
fn a_machine_that_hangs_before_it_trains_is_killed_and_comes_back() {
    hangs_at("client 1 has joined", |event| {
        event["event"] == "client_joined" && event["client"] == 1
    });
}

#[test]
fn more_devices_than_memory_are_refused() {
    let text = fs::read_to_string(root().join("boards/microvm/board.toml")).unwrap();
    let budget = text
        .lines()
        .find(|line| line.starts_with("host_private_kib"))
        .unwrap();
    let folder = folder();
    let board = folder.path().join("board.toml");
    fs::write(
        &board,
        text.replace(budget, "host_private_kib = 4000000000"),
    )
    .unwrap();
    let out = folder.path().join("run");
    let mut command = zfl();
    command
        .args(["run", "--clients", "2", "--allow-board", "--board"])
        .arg(&board)
        .arg("--out")
        .arg(&out);
    let said = finish(&mut command);
    assert_eq!(said.status, Some(2), "{said:?}");
    for part in ["2 devices of about", "0 fit", "--oversubscribe"] {
        assert!(said.err.contains(part), "{said:?}");
    }
    assert!(!out.exists());
}

#[test]
fn a_network_that_cannot_is_not_taken() {
    let said = finish(zfl().args(["run", "--body", "bare", "--network", "user", "--loss", "5%"]));
    assert_ne!(said.status, Some(0), "{said:?}");
    assert!(said.err.contains("switch"), "{said:?}");
}

#[test]
fn a_killed_run_goes_on_to_the_same_model() {
    let flags = [
        "--clients",
        "6",
        // Far more than pass from one look at the table to the next.
        "--rounds",
        "30",
        "--examples",
        "600",
        "--epochs",
        "5",
        "--seed",
        "5",
        "--crash",
        "0.05",
        "--drop-out",
        "0.2",
        "--reboot",
        "--quorum",
        "1",
    ];
    let whole = Run::succeeds(&flags);
    assert!(
        !whole.failures("no_update").is_empty(),
        "a device has crashed"
    );
    let mut live = Live::start(&[&flags[..], &["--pcap", "1"]].concat());
    let table = live.out().join("rounds.csv");
    let complete = |table: &Path| {
        fs::read_to_string(table)
            .unwrap_or_default()
            .lines()
            .count()
    };
    wait_until("two rounds are complete", LIMIT, || {
        (complete(&table) > 3).then_some(())
    });
    signal(live.pid(), "KILL");
    live.wait_for_end();
    let broken = live.finish();
    let summary = broken.out().join("summary.json");
    assert!(!summary.exists(), "it was over before it was killed");
    let run = Live::resume(broken, &["--pcap", "1"]).finish();
    assert_eq!(run.said.status, Some(0), "{run:?}");
    assert_eq!(run.model(), whole.model());
    let (of, to) = (run.summary(), whole.summary());
    for field in ["failures", "faults"] {
        assert_eq!(of[field], to[field], "{field}");
    }
    let seam = of["resumed_from"][0].as_u64().unwrap();
    // What the switch had counted before is gone, and the summary does not hide it.
    assert_eq!(of["network_stats"]["since_round"], seam + 1, "{of}");
    let capture = fs::read(run.out().join("pcap/1.pcapng")).unwrap();
    assert_eq!(sections(&capture), 2);
    let log = fs::read_to_string(run.out().join("serial/1.log")).unwrap();
    let (before, after) = log.split_once("-- resumed after round").unwrap();
    for part in [before, after] {
        assert!(part.contains("run "), "its client was started: {log}");
    }
}

/// Sections of a capture, every block of which is whole.
fn sections(capture: &[u8]) -> usize {
    let word = |at: usize| u32::from_le_bytes(capture[at..at + 4].try_into().unwrap());
    let (mut at, mut sections) = (0, 0);
    while at < capture.len() {
        sections += usize::from(word(at) == 0x0a0d_0d0a);
        at += word(at + 4) as usize;
    }
    assert_eq!(at, capture.len());
    sections
}
