//! Trouble on purpose, experiment files, and runs that go on: on native devices, whose rounds are short.

mod support;

use serde_json::Value;
use std::fs;
use std::path::Path;
use support::{Live, Run, SMALL, finish, folder, signal, wait_until, zfl};

fn small<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SMALL[..], &["--dashboard", "off"], more].concat()
}

/// The columns of a table that do not tell the time.
fn timeless(table: &Path, columns: usize) -> Vec<String> {
    let text = fs::read_to_string(table).unwrap();
    let cut = |line: &str| {
        line.splitn(columns + 1, ',')
            .take(columns)
            .collect::<Vec<_>>()
            .join(",")
    };
    text.lines().map(cut).collect()
}

/// Columns of `rounds.csv` from `round` to `late`.
const COUNTS: usize = 6;

/// How often each kind of fault was put among the events.
fn faults(run: &Run) -> Vec<(u64, u64, String)> {
    let events = run.events().into_iter();
    let faults = events.filter(|event| event["what"] == "fault");
    let mut faults: Vec<_> = faults
        .map(|event| {
            let detail = &event["detail"];
            let kind = detail["fault"].as_str().unwrap().to_owned();
            (
                detail["round"].as_u64().unwrap(),
                event["client"].as_u64().unwrap(),
                kind,
            )
        })
        .collect();
    faults.sort();
    faults
}

#[test]
fn the_same_seed_brings_the_same_trouble() {
    let run = |seed| {
        Run::succeeds(&small(&[
            "--clients",
            "12",
            "--rounds",
            "6",
            "--drop-out",
            "30%",
            "--crash",
            "0.1",
            "--reboot",
            "--seed",
            seed,
        ]))
    };
    let (one, two, other) = (run("3"), run("3"), run("4"));
    assert_eq!(faults(&one), faults(&two));
    assert_eq!(one.summary()["failures"], two.summary()["failures"]);
    assert_eq!(one.model(), two.model());
    assert_ne!(faults(&one), faults(&other));
    let summary = one.summary();
    assert!(
        summary["faults"]["drop-out"].as_u64().unwrap() > 5,
        "{summary}"
    );
    let crashes = summary["faults"]["crash"].as_u64().unwrap();
    assert_eq!(
        one.failures("no_update").len() as u64,
        crashes,
        "a crash, an update"
    );
    assert!(crashes > 0 && one.failures("died").is_empty(), "{summary}");
    for failure in one.failures("no_update") {
        assert_eq!(failure["reason"], "crash on purpose");
    }
}

#[test]
fn what_crashes_without_a_reboot_is_gone() {
    let file = folder();
    let path = file.path().join("crash.toml");
    let text = "rounds = 4\n[[fleet]]\ncount = 4\n[[faults.schedule]]\nround = 2\nclient = 1\nfault = \"crash\"\n";
    fs::write(&path, text).unwrap();
    let run = Run::succeeds(&small(&[path.to_str().unwrap()]));
    let finished = run
        .events()
        .into_iter()
        .filter(|event| event["event"] == "round_finished");
    let results: Vec<_> = finished
        .map(|event| event["results"].as_u64().unwrap())
        .collect();
    assert_eq!(results, [0, 4, 3, 3, 3]);
    assert_eq!(faults(&run), [(2, 1, "crash".to_owned())]);
}

#[test]
fn every_fault_that_native_devices_can_have() {
    let file = folder();
    let entry = |round: u32, client: u32, fault: &str| {
        format!("[[faults.schedule]]\nround = {round}\nclient = {client}\nfault = \"{fault}\"\n")
    };
    let text = [
        "rounds = 3\n[[fleet]]\ncount = 3\n".to_owned(),
        entry(1, 0, "drop-out"),
        entry(2, 1, "corrupt"),
        entry(3, 2, "freeze"),
        "for_ms = 300\n".to_owned(),
    ];
    let path = file.path().join("faults.toml");
    fs::write(&path, text.concat()).unwrap();
    let run = Run::succeeds(&small(&[path.to_str().unwrap()]));
    let kinds: Vec<_> = faults(&run).into_iter().map(|(_, _, kind)| kind).collect();
    // Whether the frozen one is frozen before it is done is a matter of time.
    assert_eq!(kinds[..2], ["drop-out", "corrupt"]);
    let failures = run.failures("no_update");
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!(
        (&failures[0]["round"], &failures[0]["client"]),
        (&2.into(), &1.into())
    );
    assert!(
        failures[0]["reason"].as_str().unwrap().contains("damaged"),
        "{failures:?}"
    );
    let rounds = run
        .events()
        .into_iter()
        .filter(|event| event["event"] == "round_started");
    let cohorts: Vec<Value> = rounds.map(|event| event["cohort"].clone()).collect();
    assert_eq!(
        cohorts,
        [vec![1, 2], vec![0, 1, 2], vec![0, 1, 2]].map(Value::from)
    );
}

#[test]
fn what_native_devices_cannot_have_is_refused() {
    let refused = |flags: &[&str], advice: &str| {
        let said = finish(zfl().arg("run").args(small(flags)));
        assert_eq!(said.status, Some(2), "{flags:?}: {said:?}");
        assert!(said.err.contains(advice), "{flags:?}: {said:?}");
    };
    refused(&["--link", "wifi"], "leave --link");
    refused(&["--loss", "5%"], "--body bare");
    refused(&["--mips", "125"], "leave --mips");
    refused(&["--pcap", "all"], "leave --pcap out");
    refused(&["--loss", "30"], "a probability");
    let folder = folder();
    for (fault, advice) in [
        ("freeze\"\nfor_ms = 90000", "--watchdog"),
        ("cut\"\nfor_ms = 5", "links"),
        ("out-of-memory\"", "memory"),
    ] {
        let path = folder.path().join("f.toml");
        let text = format!("[[faults.schedule]]\nround = 1\nclient = 0\nfault = \"{fault}\n");
        fs::write(&path, text).unwrap();
        refused(&[path.to_str().unwrap()], advice);
    }
}

#[test]
fn a_run_can_be_repeated_from_its_own_configuration() {
    let first = Run::succeeds(&small(&[
        "--clients",
        "5",
        "--rounds",
        "3",
        "--seed",
        "8",
        "--drop-out",
        "0.2",
    ]));
    let config = first.out().join("config.toml");
    let again = Run::succeeds(&[
        config.to_str().unwrap(),
        "--body",
        "native",
        "--dashboard",
        "off",
    ]);
    assert_eq!(first.model(), again.model());
    assert_eq!(faults(&first), faults(&again));
}

#[test]
fn groups_have_what_they_ask_for() {
    let folder = folder();
    let path = folder.path().join("groups.toml");
    let text = "rounds = 1\n[[fleet]]\nname = \"rich\"\ncount = 2\nexamples = 300\n\
                [[fleet]]\nname = \"poor\"\ncount = 3\nexamples = 40\nlocal_epochs = 1\n";
    fs::write(&path, text).unwrap();
    let run = Run::succeeds(&[
        path.to_str().unwrap(),
        "--body",
        "native",
        "--dashboard",
        "off",
    ]);
    let rows = timeless(&run.out().join("clients.csv"), 4);
    let examples: Vec<_> = rows[1..]
        .iter()
        .map(|row| row.rsplit(',').next().unwrap())
        .collect();
    assert_eq!(examples, ["300", "300", "40", "40", "40"]);
    assert!(
        run.said.out.contains("2 rich on native, 3 poor on native"),
        "{}",
        run.said.out
    );
}

/// The original's unweighted mean is another model as soon as devices have unlike amounts of data.
#[test]
fn weighting_is_by_examples_or_uniform() {
    let folder = folder();
    let path = folder.path().join("groups.toml");
    let with = |poor: u32, weighting: &str| {
        let text = format!(
            "rounds = 1\n[[fleet]]\nname = \"rich\"\ncount = 1\nexamples = 300\n\
             [[fleet]]\nname = \"poor\"\ncount = 2\nexamples = {poor}\n"
        );
        fs::write(&path, text).unwrap();
        let flags = ["--body", "native", "--dashboard", "off", "--weighting"];
        Run::succeeds(&[&[path.to_str().unwrap()], &flags[..], &[weighting]].concat()).model()
    };
    assert_ne!(with(40, "uniform"), with(40, "num-examples"));
    assert_eq!(with(300, "uniform"), with(300, "num-examples"));
}

#[test]
fn mistakes_in_a_file_are_named() {
    let folder = folder();
    let path = folder.path().join("bad.toml");
    for (text, advice) in [
        ("cleints = 3", "unknown field `cleints`"),
        ("rounds = 0", "rounds: give at least 1"),
        ("[[fleet]]\ncount = 2\nlink = \"string\"", "string"),
        ("[faults]\ndrop_out = 2", "drop_out = 2 is no probability"),
        ("clients = 3\n[[fleet]]\ncount = 2", "leave `clients` out"),
    ] {
        fs::write(&path, text).unwrap();
        let said = finish(zfl().arg("run").arg(&path).arg("--dry-run"));
        assert_eq!(said.status, Some(2), "{text}: {said:?}");
        assert!(said.err.contains(advice), "{text}: {said:?}");
    }
    let said = finish(zfl().args(["run", "no/such.toml"]));
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.err.contains("no/such.toml"), "{said:?}");
}

/// Waits until so many rounds of a run are in its table, and ends it without warning.
fn break_off(mut live: Live, rounds: usize) -> Run {
    let table = live.out().join("rounds.csv");
    wait_until(
        "some rounds are complete",
        std::time::Duration::from_secs(300),
        || {
            let text = fs::read_to_string(&table).unwrap_or_default();
            (text.lines().count() > rounds + 1).then_some(())
        },
    );
    signal(live.pid(), "KILL");
    live.wait_for_end();
    live.finish()
}

#[test]
fn a_run_that_was_killed_goes_on_to_the_same_model() {
    // Crashes for good are the hard part: who is gone must stay gone.
    let flags = [
        "--body",
        "native",
        "--examples",
        "120",
        "--batch-size",
        "60",
        "--dashboard",
        "off",
        "--clients",
        "6",
        "--rounds",
        "12",
        "--epochs",
        "20",
        "--seed",
        "2",
        "--drop-out",
        "0.2",
        "--quorum",
        "1",
        "--crash",
        "0.05",
    ];
    let whole = Run::succeeds(&flags);
    let broken = break_off(Live::start(&flags), 4);
    assert!(!broken.out().join("summary.json").exists());
    let out = broken.out();
    let said = finish(
        zfl()
            .args(["run", "--dashboard", "off", "--resume"])
            .arg(&out),
    );
    assert_eq!(said.status, Some(0), "{said:?}");
    assert_eq!(broken.model(), whole.model());
    let summary = broken.summary();
    // The last row of the table may be that of a round whose model was not in place yet.
    assert!(summary["resumed_from"].as_u64().unwrap() >= 3, "{summary}");
    assert_eq!(summary["failures"], whole.summary()["failures"]);
    for table in ["rounds.csv", "clients.csv"] {
        let (of, to) = (out.join(table), whole.out().join(table));
        let columns = if table == "rounds.csv" { COUNTS } else { 4 };
        assert_eq!(timeless(&of, columns), timeless(&to, columns), "{table}");
    }
    let finished = broken.events().into_iter();
    let finished = finished.filter(|event| event["event"] == "round_finished");
    let rounds: Vec<_> = finished
        .map(|event| event["round"].as_u64().unwrap())
        .collect();
    assert_eq!(rounds, (0..=12).collect::<Vec<_>>(), "each round once");
}

#[test]
fn what_cannot_go_on_says_so() {
    let resume = |run: &Path, more: &[&str]| {
        let said = finish(zfl().args(["run", "--resume"]).arg(run).args(more));
        assert_eq!(said.status, Some(2), "{said:?}");
        said.err
    };
    let over = Run::succeeds(&small(&["--clients", "2", "--rounds", "1"]));
    assert!(resume(&over.out(), &[]).contains("is over"));
    assert!(resume(&over.out(), &["--seed", "77"]).contains("other settings"));
    fs::remove_file(over.out().join("model.safetensors")).unwrap();
    assert!(resume(&over.out(), &[]).contains("no complete round"));
    let said = finish(zfl().args(["run", "--resume", "never-was"]));
    assert!(said.err.contains("no run directory"), "{said:?}");
}

#[test]
fn a_configuration_read_again_says_the_same() {
    let folder = folder();
    let trace = "{\"unit\":\"rounds\",\"devices\":[{\"client\":0,\"on\":[[2,9]]}]}";
    fs::write(folder.path().join("phones.json"), trace).unwrap();
    let dry = |file: &str, flags: &[&str]| {
        let mut zfl = zfl();
        let said = finish(
            zfl.current_dir(folder.path())
                .args(["run", "--dry-run", file])
                .args(flags),
        );
        assert_eq!(said.status, Some(0), "{said:?}");
        // Not where the results would go, which is another place for each.
        let (config, _) = said.out.rsplit_once("# ").expect("a last line says where");
        config.to_owned()
    };
    let text = "out = \"x\"\n[[fleet]]\ncount = 1\nbody = \"bare\"\nmips = 1000\n\
                [[fleet]]\ncount = 1\nbody = \"bare\"\n[[fleet]]\ncount = 1\nbody = \"native\"\n\
                [faults]\ntrace = \"phones.json\"\n";
    fs::write(folder.path().join("mixed.toml"), text).unwrap();
    let first = dry("mixed.toml", &["--name", "n", "--network", "switch"]);
    let run = folder.path().join("run");
    fs::create_dir(&run).unwrap();
    fs::write(run.join("config.toml"), &first).unwrap();
    assert_eq!(dry("run/config.toml", &[]), first);
}
