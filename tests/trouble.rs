//! Trouble on purpose, experiment files, and runs that go on: on native devices, whose rounds are short.

mod support;

use serde_json::Value;
use std::fs;
use std::path::Path;
use support::{Live, Pty, Run, SMALL, finish, folder, signal, wait_until, zfl};
use zfl_run_dir::Checkpoint;

fn small<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SMALL[..], &["--dashboard", "off"], more].concat()
}

/// These columns of a table, row by row.
fn columns(table: &Path, names: &[&str]) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_path(table).unwrap();
    let head = reader.headers().unwrap().clone();
    let place = |name: &&str| head.iter().position(|column| column == *name).expect(name);
    let places: Vec<usize> = names.iter().map(place).collect();
    let rows = reader.records().map(|row| row.unwrap());
    rows.map(|row| places.iter().map(|&at| row[at].to_owned()).collect())
        .collect()
}

/// Columns of a round that the seed decides. The number of refused messages is left out: a
/// device may send its update before it crashes.
const OF_ROUNDS: [&str; 5] = ["round", "cohort_size", "results", "failures", "late"];
const OF_CLIENTS: [&str; 4] = ["round", "client", "outcome", "num_examples"];

/// Number of each kind of fault among the events.
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
    let examples = columns(&run.out().join("clients.csv"), &["num_examples"]).concat();
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
        (
            "cleints = 3",
            "line 1, column 1: there is no key `cleints` here: did you mean `clients`?",
        ),
        ("rounds = 0", "`rounds` is 0: give a whole number from 1"),
        ("[[fleet]]\ncount = 2\nlink = \"string\"", "string"),
        (
            "[faults]\ndrop_out = 2",
            "line 2, column 12: `drop_out` is 2: give a number from 0 to 1",
        ),
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

/// Waits until so many rounds of a run are in its table, and ends it without warning. The run must
/// have far more before it than rounds pass from one look at the table to the next.
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
    let broken = live.finish();
    let summary = broken.out().join("summary.json");
    assert!(!summary.exists(), "it was over before it was killed");
    broken
}

/// Goes on with a run to its end, and expects that every round completes.
fn go_on(run: Run) -> Run {
    let run = Live::resume(run, &["--dashboard", "off"]).finish();
    assert_eq!(run.said.status, Some(0), "{run:?}");
    run
}

/// Flags of a run with trouble and rounds long enough to be broken off in.
const LONG: [&str; 17] = [
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
    "40",
    "--epochs",
    "20",
    "--drop-out",
    "0.2",
    "--quorum=1",
];

#[test]
fn what_an_algorithm_keeps_survives_the_end_of_its_run() {
    let flags = [&LONG[..12], &["--epochs", "2", "--seed", "3"]].concat();
    for strategy in [
        &[
            "--strategy",
            "scaffold",
            "--strategy-arg",
            "server_learning_rate=0.9",
        ][..],
        &["--strategy", "fedprox", "--strategy-arg", "proximal_mu=0.2"],
    ] {
        let flags = [&flags[..], strategy].concat();
        let whole = Run::succeeds(&flags);
        let broken = go_on(break_off(Live::start(&flags), 4));
        assert_eq!(broken.model(), whole.model(), "{strategy:?}");
        let columns = |run: &Run| columns(&run.out().join("rounds.csv"), &["round", "metrics"]);
        assert_eq!(columns(&broken), columns(&whole));
        // Of each client there is the last state, and no other.
        let state = |run: &Run| {
            let entries = fs::read_dir(run.out().join("state"));
            let entries = entries.into_iter().flatten();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(state(&broken), state(&whole));
        let expected = if strategy.contains(&"scaffold") { 7 } else { 0 };
        assert_eq!(state(&whole).len(), expected);
    }
}

#[test]
fn a_run_that_was_killed_goes_on_to_the_same_model() {
    let folder = folder();
    let path = folder.path().join("long.toml");
    // Crashes for good are the hard part: who is gone must stay gone. One is before the run is broken
    // off, one after.
    let text = "rounds = 40\n[[fleet]]\ncount = 6\nexamples = 120\n\
                [[faults.schedule]]\nround = 2\nclient = 1\nfault = \"crash\"\n\
                [[faults.schedule]]\nround = 38\nclient = 4\nfault = \"crash\"\n";
    fs::write(&path, text).unwrap();
    let flags = [
        path.to_str().unwrap(),
        "--body",
        "native",
        "--batch-size",
        "60",
        "--dashboard",
        "off",
        "--epochs",
        "2",
        "--seed",
        "2",
        "--drop-out",
        "0.2",
        "--quorum",
        "1",
    ];
    let whole = Run::succeeds(&flags);
    assert_eq!(whole.summary()["faults"]["crash"], 2);
    let broken = break_off(Live::start(&flags), 4);
    let broken = go_on(broken);
    let out = broken.out();
    assert_eq!(broken.model(), whole.model());
    let summary = broken.summary();
    // The last row of the table may be that of a round whose model was not in place yet.
    assert!(
        summary["resumed_from"][0].as_u64().unwrap() >= 3,
        "{summary}"
    );
    assert_eq!(summary["failures"], whole.summary()["failures"]);
    for (table, names) in [
        ("rounds.csv", &OF_ROUNDS[..]),
        ("clients.csv", &OF_CLIENTS[..]),
    ] {
        let [of, to] = [&out, &whole.out()].map(|run| columns(&run.join(table), names));
        assert_eq!(of, to, "{table}");
    }
    assert_eq!(finished(&broken), (0..=40).collect::<Vec<_>>(), "each once");
}

/// The rounds whose end is told, in that order.
fn finished(run: &Run) -> Vec<u64> {
    let events = run.events().into_iter();
    let finished = events.filter(|event| event["event"] == "round_finished");
    finished
        .map(|event| event["round"].as_u64().unwrap())
        .collect()
}

#[test]
fn a_round_that_was_complete_and_not_told_of_is_told_of() {
    let mut live = Live::start(&LONG);
    live.wait_for_round(3);
    signal(live.pid(), "KILL");
    live.wait_for_end();
    let broken = live.finish();
    // As a kill between the model and the event leaves it.
    let events = broken.out().join("events.jsonl");
    let text = fs::read_to_string(&events).unwrap();
    let last = text.rfind(r#""event":"round_finished""#).unwrap();
    let end = text[..last].rfind('\n').unwrap() + 1;
    fs::write(&events, &text[..end]).unwrap();
    let run = go_on(broken);
    assert_eq!(finished(&run), (0..=40).collect::<Vec<_>>(), "each once");
}

/// Failures and faults of a run as its page and its report have them.
fn shown(run: &Run) -> Vec<(u32, Option<u32>, String)> {
    let model = zfl_run_dir::replay(&run.out()).unwrap();
    let faults = model.faults();
    // Who was stopped on purpose may be told of by two, in either order, and has sent its update or not.
    let of_time = ["stopped", "lost", "rejected"];
    let faults = faults.filter(|fault| !of_time.contains(&fault.kind.as_str()));
    let mut faults: Vec<_> = faults
        .map(|fault| (fault.round, fault.client, fault.kind.clone()))
        .collect();
    faults.sort();
    faults
}

#[test]
fn what_a_resumed_run_tells_is_of_all_of_it() {
    let flags = [&LONG[..], &["--seed", "3", "--crash", "0.1", "--reboot"]].concat();
    let whole = Run::succeeds(&flags);
    let broken = break_off(Live::start(&flags), 3);
    let resumed = Live::resume(broken, &["--dashboard", "off"]);
    let twice = go_on(break_off(resumed, 7));

    assert_eq!(twice.model(), whole.model());
    let (of, to) = (twice.summary(), whole.summary());
    for field in ["faults", "failures", "rounds_completed", "best_accuracy"] {
        assert_eq!(of[field], to[field], "{field}");
    }
    assert!(of["faults"]["crash"].as_u64().unwrap() > 1, "{of}");
    assert_eq!(faults(&twice), faults(&whole), "each once");
    assert_eq!(shown(&twice), shown(&whole));

    let seams = of["resumed_from"].as_array().unwrap();
    assert_eq!(seams.len(), 2, "{of}");
    assert!(seams[1].as_u64() > seams[0].as_u64(), "{of}");
    let events = twice.events();
    let last = |of: &str| {
        let mut times = events.iter().filter(|event| event["event"] == of);
        times.next_back().unwrap()["time_ms"].as_f64().unwrap() / 1e3
    };
    let number = |field: &str| of[field].as_f64().unwrap();
    assert!(number("lost_s") >= 0.0 && number("boot_s") > 0.0, "{of}");
    assert!(
        number("wall_s") >= last("run_finished") + number("lost_s"),
        "{of}"
    );
    // All of the run but what each part took to start; events are told to the millisecond.
    let (mut starting, mut part, mut before) = (0.0, 0.0, 0.0);
    for event in &events {
        let time_s = event["time_ms"].as_f64().unwrap() / 1e3;
        match event["event"].as_str().unwrap() {
            "run_resumed" => part = before,
            "run_started" => starting += time_s - part,
            _ => {}
        }
        before = time_s;
    }
    let train_s = number("train_s");
    assert!(
        train_s > last("round_finished") - starting - 0.01,
        "{starting}: {of}"
    );
    assert!(train_s < last("run_finished") + 0.01, "{of}");
    let times: Vec<_> = events
        .iter()
        .map(|event| event["time_ms"].as_u64())
        .collect();
    assert!(times.is_sorted(), "time goes on over the seams");
    assert!(
        to.get("resumed_from").is_none() && to.get("lost_s").is_none(),
        "{to}"
    );

    for client in 0..6 {
        let log = fs::read_to_string(twice.out().join(format!("serial/{client}.log"))).unwrap();
        let marks: Vec<_> = log
            .lines()
            .filter(|line| line.contains("-- resumed after round"))
            .collect();
        assert_eq!(marks.len(), 2, "client {client}: {log}");
        assert!(!log.starts_with(marks[0]), "client {client}: {log}");
        let said = finish(
            zfl()
                .args(["logs", &client.to_string(), "--run"])
                .arg(twice.out()),
        );
        assert_eq!(said.out, log);
    }
    let meta: Value =
        serde_json::from_slice(&fs::read(twice.out().join("meta.json")).unwrap()).unwrap();
    let command = meta["command"].as_str().unwrap();
    assert!(
        command.contains("--seed 3") && !command.contains("--resume"),
        "{command}"
    );
}

#[test]
fn a_screen_that_is_open_when_the_run_is_resumed_shows_it_to_the_end() {
    let broken = break_off(Live::start(&LONG), 3);
    let mut view = zfl();
    view.arg("view").arg(broken.out()).arg("--tui");
    let mut screen = Pty::start(&view);
    screen.wait_for("broken off");
    let run = go_on(broken);
    screen.wait_for("finished");
    screen.wait_for("[ROUND 40/40]");
    screen.press("q");
    assert_eq!(screen.finish(), 0);
    drop(run);
}

#[test]
fn a_run_that_was_stopped_goes_on_without_its_old_summary() {
    let flags = [&LONG[..], &["--seed", "3"]].concat();
    let mut live = Live::start(&flags);
    live.wait_for_round(3);
    signal(live.pid(), "INT");
    let stopped = live.finish();
    assert_eq!(stopped.summary()["interrupted_by"], "SIGINT");
    let mut resumed = Live::resume(stopped, &["--dashboard", "off"]);
    resumed.wait_for("it goes on", |event| event["event"] == "run_resumed");
    assert!(!resumed.out().join("summary.json").exists());
    let run = resumed.finish();
    let summary = run.summary();
    assert_eq!(summary["rounds_completed"], 40, "{summary}");
    assert!(summary.get("interrupted_by").is_none(), "{summary}");
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
    assert!(resume(&over.out(), &["--seed", "77"]).contains("other settings (seed)"));
    fs::remove_file(over.out().join("model.safetensors")).unwrap();
    assert!(resume(&over.out(), &[]).contains("no complete round"));
    let said = finish(zfl().args(["run", "--resume", "never-was"]));
    assert!(said.err.contains("no run directory"), "{said:?}");
}

/// Makes a broken-off run whose first part had more rounds than a test waits for.
fn broken_off_of_many() -> Run {
    let many = ["--clients", "3", "--rounds", "100000"];
    break_off(Live::start(&small(&many)), 3)
}

/// The last complete round of a run that was broken off.
fn complete(run: &Run) -> u32 {
    let checkpoint = Checkpoint::verified(&run.out()).unwrap();
    checkpoint.round
}

#[test]
fn a_configuration_that_was_edited_is_noticed_and_more_rounds_are_none_of_it() {
    let broken = broken_off_of_many();
    let config = broken.out().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let meta = fs::read(broken.out().join("meta.json")).unwrap();
    let refused = |more: &[&str]| {
        let said = finish(zfl().args(["run", "--resume"]).arg(broken.out()).args(more));
        assert_eq!(said.status, Some(2), "{said:?}");
        said.err
    };
    let edited = text.replace("learning_rate = 0.5", "learning_rate = 0.01");
    let edited = edited.replace("rounds = 100000", "rounds = 9");
    assert_ne!(edited, text);
    fs::write(&config, edited).unwrap();
    assert!(refused(&[]).contains("begun with (learning_rate)"));
    fs::write(
        &config,
        format!("{text}\n[faults.crash]\nprobability = 0.5\n"),
    )
    .unwrap();
    assert!(refused(&[]).contains("(faults"));
    fs::write(
        &config,
        text.replace("zfl_version = \"", "zfl_version = \"0."),
    )
    .unwrap();
    assert!(refused(&[]).contains("was begun by zfl 0."));
    fs::write(&config, &text).unwrap();
    let other = String::from_utf8_lossy(&meta).replace("100000", "100001");
    fs::write(broken.out().join("meta.json"), other).unwrap();
    assert!(refused(&[]).contains("meta.json is damaged"));
    fs::write(broken.out().join("meta.json"), meta).unwrap();
    assert!(refused(&["--rounds", "1"]).contains("give at least as many"));

    let rounds = (complete(&broken) + 3).to_string();
    let run = Live::resume(broken, &["--rounds", &rounds, "--dashboard", "off"]).finish();
    assert_eq!(run.said.status, Some(0), "{run:?}");
    let note = format!("{rounds} rounds instead of 100000");
    assert!(run.said.err.contains(&note), "{run:?}");
    assert_eq!(run.summary()["rounds"].to_string(), rounds);
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains(&format!("rounds = {rounds}\n")), "{text}");
    let again = Run::succeeds(&[
        config.to_str().unwrap(),
        "--dashboard",
        "off",
        "--body",
        "native",
    ]);
    assert_eq!(again.model(), run.model());
    // Even more, of a run that was over.
    let more = Live::resume(run, &["--rounds", "100000"]);
    let _ = break_off(more, rounds.parse::<usize>().unwrap() + 1);
}

#[test]
fn a_run_that_was_killed_before_its_summary_gets_it_and_no_device() {
    let broken = broken_off_of_many();
    let done = complete(&broken).to_string();
    let run = Live::resume(broken, &["--rounds", &done, "--dashboard", "off"]).finish();
    assert_eq!(run.said.status, Some(0), "{run:?}");
    let summary = run.summary();
    assert_eq!(summary["rounds_completed"].to_string(), done, "{summary}");
    assert_eq!(summary["success"], true, "{summary}");
    let booted = run.events().into_iter().rev();
    let booted = booted.take_while(|event| event["event"] != "run_resumed");
    assert!(
        booted
            .into_iter()
            .all(|event| event["event"] != "client_joined")
    );
    assert_eq!(finished(&run).len(), done.parse::<usize>().unwrap() + 1);
    let config = run.out().join("config.toml");
    let whole = Run::succeeds(&[
        config.to_str().unwrap(),
        "--dashboard",
        "off",
        "--body",
        "native",
    ]);
    assert_eq!(run.model(), whole.model());
    let again = finish(zfl().args(["run", "--resume"]).arg(run.out()));
    assert_eq!(again.status, Some(2), "{again:?}");
    assert!(again.err.contains("is over"), "{again:?}");
}

#[test]
fn a_damaged_file_is_named_before_anything_goes_on() {
    let broken = broken_off_of_many();
    for name in [
        "model.safetensors",
        "checkpoint.json",
        "rounds.csv",
        "clients.csv",
        "traffic.csv",
        "events.jsonl",
        "partition.csv",
        "meta.json",
    ] {
        let file = broken.out().join(name);
        let bytes = fs::read(&file).unwrap();
        let mut other = bytes.clone();
        other[bytes.len() / 9] ^= 4;
        fs::write(&file, other).unwrap();
        let said = finish(zfl().args(["run", "--resume"]).arg(broken.out()));
        assert_eq!(said.status, Some(2), "{name}: {said:?}");
        let damaged = format!("{name} is damaged");
        assert!(said.err.contains(&damaged), "{said:?}");
        assert!(said.err.contains("anew: zfl run "), "{said:?}");
        fs::write(&file, bytes).unwrap();
    }
    let done = complete(&broken).to_string();
    let run = Live::resume(broken, &["--rounds", &done]).finish();
    assert_eq!(run.said.status, Some(0), "{run:?}");
}

#[test]
fn a_run_has_what_it_depends_on_and_says_what_has_changed() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let trace = "{\"unit\":\"rounds\",\"devices\":[{\"client\":0,\"on\":[[2,99]]}]}";
    fs::write(at("phones.json"), trace).unwrap();
    let text = "rounds = 100000\n[[fleet]]\ncount = 3\n[faults]\ntrace = \"phones.json\"\n";
    fs::write(at("away.toml"), text).unwrap();
    let broken = break_off(Live::start(&small(&[at("away.toml").to_str().unwrap()])), 3);
    fs::remove_file(at("phones.json")).unwrap();
    let config = broken.out().join("config.toml");
    assert!(
        fs::read_to_string(&config)
            .unwrap()
            .contains("trace = \"inputs/phones.json\"")
    );
    let copy = broken.out().join("inputs/phones.json");
    let other = trace.replace("[2,", "[1,");
    fs::write(&copy, &other).unwrap();
    let refused = finish(zfl().args(["run", "--resume"]).arg(broken.out()));
    assert_eq!(refused.status, Some(2), "{refused:?}");
    assert!(
        refused.err.contains("phones.json is damaged"),
        "{refused:?}"
    );
    fs::write(&copy, trace).unwrap();
    let rounds = (complete(&broken) + 2).to_string();
    let run = Live::resume(broken, &["--rounds", &rounds, "--dashboard", "off"]).finish();
    assert_eq!(run.said.status, Some(0), "{run:?}");
    let repeat = || {
        Run::succeeds(&[
            config.to_str().unwrap(),
            "--dashboard",
            "off",
            "--body",
            "native",
        ])
    };
    let again = repeat();
    assert_eq!(again.model(), run.model());
    assert!(!again.said.err.contains("other inputs"), "{again:?}");
    assert!(again.out().join("inputs/phones.json").is_file());
    fs::write(&copy, &other).unwrap();
    let again = repeat();
    assert_ne!(again.model(), run.model());
    assert!(again.said.err.contains("other inputs (trace)"), "{again:?}");
}

#[test]
fn a_run_is_not_resumed_with_other_data() {
    let folder = folder();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let digits = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/digits");
    for entry in fs::read_dir(digits).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().ends_with(".gz") {
            fs::copy(entry.path(), data.join(entry.file_name())).unwrap();
        }
    }
    let flags = [
        "--data",
        data.to_str().unwrap(),
        "--clients",
        "3",
        "--rounds",
        "100000",
    ];
    let broken = break_off(Live::start(&small(&flags)), 3);
    // The same images and labels in another file.
    let labels = data.join("t10k-labels-idx1-ubyte.gz");
    let other = fs::read(&labels).unwrap();
    fs::write(&labels, [&other[..], &[0; 16]].concat()).unwrap();
    let said = finish(zfl().args(["run", "--resume"]).arg(broken.out()));
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(
        said.err.contains("begun with other inputs (data)"),
        "{said:?}"
    );
    assert!(said.err.contains("anew: zfl run"), "{said:?}");
}

#[test]
fn what_a_damaged_file_makes_doubtful_is_said_to_whoever_looks() {
    let run = Run::succeeds(&small(&["--clients", "2", "--rounds", "2"]));
    let said = |arguments: &[&str]| {
        let said = finish(zfl().arg(arguments[0]).arg(run.out()).args(&arguments[1..]));
        assert_eq!(said.status, Some(0), "{said:?}");
        said.err
    };
    let report = run.out().join("../report");
    let report_to = ["report", "--out", report.to_str().unwrap()];
    assert_eq!(said(&["devices"]), "");
    assert!(!said(&report_to).contains("damaged"));
    let table = run.out().join("clients.csv");
    let text = fs::read_to_string(&table).unwrap();
    fs::write(&table, text.replacen(",120,", ",121,", 1)).unwrap();
    assert!(said(&["devices"]).contains("clients.csv is damaged"));
    assert!(said(&report_to).contains("clients.csv is damaged"));
    let page = fs::read_to_string(report.join("report.html")).unwrap();
    assert!(page.contains("clients.csv is damaged"));
    let summary = run.out().join("summary.json");
    let text = fs::read_to_string(&summary).unwrap();
    fs::write(&summary, text.replacen("\"rounds\": 2", "\"rounds\": 3", 1)).unwrap();
    assert!(said(&report_to).contains("summary.json is damaged"));
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
        let (config, _) = said.out.split_once("# The results").expect("it says where");
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
