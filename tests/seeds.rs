//! One seed, one model: whatever the link, the faults and the load of the host, and across kills.
//!
//! Run by `cargo xtask test-fleet`. `cargo xtask soak` does the same with settings drawn at random.

mod support;

#[path = "../xtask/src/soak/digits.rs"]
mod digits;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;
use support::{Live, Run, folder, root, signal};

/// Faults of every kind that meets a link.
const FAULTS: &str = "[faults]\ndrop_out = 0.25\ncrash = { probability = 0.2, reboot = true }\n\
                      cut = { probability = 0.4, for_ms = 400 }\n\
                      freeze = { probability = 0.3, for_ms = 300 }\ncorrupt = 0.1\n";

/// Links over which a round takes the longest; they have fewer devices and rounds.
const SLOW: [&str; 2] = ["nb-iot", "lorawan-like"];

/// An experiment on small data, and the arguments of its run.
fn experiment(folder: &Path, name: &str, text: &str) -> Vec<String> {
    // Each has data of its own: another may be reading its own just now.
    let (file, data) = (
        folder.join(format!("{name}.toml")),
        folder.join(format!("{name}-digits")),
    );
    digits::write(&data).unwrap();
    let common = "hidden = [3]\nexamples_per_client = 8\nlocal_epochs = 3\nbatch_size = 4\n\
                  learning_rate = 0.05\nquorum = 1\n";
    fs::write(&file, format!("{common}{text}")).unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    vec![path(&file), "--data".to_owned(), path(&data)]
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// Does something while so many threads keep the processors busy.
fn busy<T>(threads: u32, work: impl FnOnce() -> T) -> T {
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let over = AtomicBool::new(false);
    scope(|scope| {
        // Also if the work panics.
        let _over = Over(&over);
        for _ in 0..threads {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        work()
    })
}

/// The outcome of a run: its model, the rounds that completed, and who failed when.
fn outcome(run: &Run) -> (String, u64, BTreeSet<(u64, u64)>) {
    let summary = run.summary();
    assert!(
        summary.get("depends_on_time").is_none(),
        "no deadline is missed: {summary:#}"
    );
    let failed = run.failures("no_update");
    let place = |one: &serde_json::Value| (one["round"].as_u64(), one["client"].as_u64());
    let failed = failed.iter().map(place);
    let failed = failed.filter_map(|(round, client)| Some((round?, client?)));
    let rounds = summary["rounds_completed"].as_u64().unwrap();
    (run.model(), rounds, failed.collect())
}

/// The links that there are.
fn links() -> Vec<String> {
    let entries = fs::read_dir(root().join("links")).unwrap();
    let names = entries.filter_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        Some(name.strip_suffix(".toml")?.to_owned())
    });
    names.collect()
}

#[test]
fn a_seed_has_one_model_over_every_link_under_any_load() {
    let folder = folder();
    let check = |link: &str, seed: u32| {
        let (clients, rounds) = if SLOW.contains(&link) { (2, 2) } else { (4, 4) };
        let text = format!(
            "clients = {clients}\nrounds = {rounds}\nseed = {seed}\nlink = \"{link}\"\nbody = \"bare\"\n\
             {FAULTS}"
        );
        let arguments = experiment(folder.path(), &format!("{link}-{seed}"), &text);
        let run = |threads| busy(threads, || outcome(&Run::of(&words(&arguments))));
        let first = run(0);
        for threads in [2, 4] {
            assert_eq!(run(threads), first, "{link}, seed {seed}");
        }
    };
    scope(|scope| {
        for link in links() {
            let check = &check;
            scope.spawn(move || {
                let seeds = if SLOW.contains(&link.as_str()) {
                    5..6
                } else {
                    5..8
                };
                seeds.for_each(|seed| check(&link, seed));
            });
        }
    });
}

/// Rounds by simulated time, and whose updates were in them.
fn trace(run: &Run) -> Vec<Vec<String>> {
    let tables = [
        ("rounds.csv", &["round", "results", "simulated_s"][..]),
        (
            "clients.csv",
            &["round", "client", "instructions", "energy_j"],
        ),
    ];
    let rows = tables.into_iter().flat_map(|(file, names)| {
        let mut table = csv::Reader::from_path(run.out().join(file)).unwrap();
        let head = table.headers().unwrap().clone();
        let at = |name: &&str| head.iter().position(|column| column == *name).expect(name);
        let at: Vec<usize> = names.iter().map(at).collect();
        let row = |row: csv::Result<csv::StringRecord>| {
            let row = row.unwrap();
            at.iter().map(|&at| row[at].to_owned()).collect()
        };
        table.records().map(row).collect::<Vec<Vec<String>>>()
    });
    rows.collect()
}

#[test]
fn an_asynchronous_run_on_counted_instructions_has_one_trace_under_any_load() {
    let folder = folder();
    let text = format!(
        "rounds = 6\nseed = 3\nclients_per_round = 4\nbody = \"bare\"\ntime = \"icount\"\n\
         [strategy]\nname = \"fedbuff\"\nbuffer_size = 2\n\
         [[fleet]]\nname = \"fast\"\ncount = 3\nlink = \"wifi\"\nmips = 1000\n\
         [[fleet]]\nname = \"slow\"\ncount = 2\nlink = \"lte-m\"\nmips = 31.25\n{FAULTS}"
    );
    let arguments = experiment(folder.path(), "asynchronous", &text);
    let run = |threads| {
        busy(threads, || {
            let run = Run::of(&words(&arguments));
            (outcome(&run), trace(&run))
        })
    };
    let first = run(0);
    for threads in [2, 4] {
        assert_eq!(run(threads), first);
    }
}

#[test]
fn a_run_that_is_killed_again_and_again_comes_to_the_model_of_one_that_is_not() {
    let folder = folder();
    let check = |name: &str, body: &str, strategy: &str, kills: [u64; 2]| {
        let text = format!(
            "clients = 4\nrounds = 8\nseed = 9\nstrategy = \"{strategy}\"\n{body}\n{FAULTS}"
        );
        // Native devices have no link to cut.
        let text = match body.contains("native") {
            true => text.replace("cut = ", "# cut = "),
            false => text,
        };
        let arguments = experiment(folder.path(), name, &text);
        let whole = outcome(&Run::of(&words(&arguments)));
        let mut live = Live::start(&words(&arguments));
        for round in kills {
            live.wait_for_round(round);
            signal(live.pid(), "KILL");
            live.wait_for_end();
            live = Live::resume(live.finish(), &[]);
        }
        assert_eq!(outcome(&live.finish()), whole, "{name}");
    };
    let bare = |link: &str| format!("body = \"bare\"\nlink = \"{link}\"");
    check("native-fedavg", "body = \"native\"", "fedavg", [2, 6]);
    check("native-scaffold", "body = \"native\"", "scaffold", [4, 5]);
    check("wifi-fedavg", &bare("wifi"), "fedavg", [3, 4]);
    check("lte-m-scaffold", &bare("lte-m"), "scaffold", [2, 7]);
}
