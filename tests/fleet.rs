//! Fleets of emulated devices, each a QEMU that boots: they train, and to the bit what native devices
//! do.
//!
//! Run by `cargo xtask test-fleet`.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::{
    LIMIT, Live, Pty, Run, by_sh, choosing, descendants, encodings, finish, folder, is_stopped,
    signal, wait_until, zfl,
};

/// The model of a run.
#[track_caller]
fn model(body: &[&str], arguments: &[&str]) -> String {
    Run::succeeds(&[body, arguments].concat()).model()
}

#[test]
fn leaves_behind_a_gateway_in_firmware_learn_what_native_ones_do_and_one_seed_gives_one_air() {
    let folder = folder();
    let path = folder.path().join("two.toml");
    let text = fs::read_to_string(support::root().join("experiments/mesh.toml")).unwrap();
    fs::write(&path, text.replace("count = 12", "count = 2")).unwrap();
    let small = [path.to_str().unwrap(), "--rounds", "1", "--examples", "20"];
    let run = |body| Run::succeeds(&[&small[..], &["--seed", "3", "--body", body]].concat());
    let (native, bare, again) = (run("native"), run("bare"), run("bare"));
    assert_eq!(bare.model(), native.model());
    let air = |run: &Run| {
        let text = fs::read_to_string(run.out().join("clients.csv")).unwrap();
        let mut table = csv::Reader::from_reader(text.as_bytes());
        let head = table.headers().unwrap().clone();
        let is_radio = |at: &usize| head[*at].starts_with("radio_");
        let at: Vec<usize> = (0..head.len()).filter(is_radio).collect();
        let hops = head.iter().position(|name| name == "radio_hops").unwrap();
        let rows = table.records().map(|row| {
            let row = row.unwrap();
            assert!(row[hops].parse::<f64>().unwrap() >= 1.0, "{row:?}");
            at.iter().map(|&at| row[at].to_owned()).collect::<Vec<_>>()
        });
        rows.collect::<Vec<_>>()
    };
    assert_eq!(air(&bare).len(), 2);
    assert_eq!(air(&bare), air(&again));
}

#[test]
fn three_gateways_in_firmware_make_the_model_of_a_flat_fleet_and_one_that_is_killed_comes_back() {
    let folder = folder();
    let with = |name: &str, faults: &str, flags: &[&str]| {
        let file = folder.path().join(name);
        fs::write(&file, faults).unwrap();
        let six = ["--clients", "6", "--rounds", "3", "--examples", "120"];
        let more = [
            "--strategy",
            "fedadam",
            "--encoding-up",
            "int8",
            "--dashboard",
            "off",
        ];
        let file = file.to_str().unwrap();
        Run::succeeds(&[&[file][..], &six, &more, flags].concat())
    };
    let crash = |client| {
        format!(
            "[[faults.schedule]]\nround = 2\nclient = {client}\nfault = \"crash\"\nreboot = true\n"
        )
    };
    let flat = with("flat.toml", &[2, 3].map(crash).concat(), &NATIVE);
    let lost = "[[faults.edges]]\nround = 2\nedge = 1\nreboot = true\n";
    let gateways = [&BARE[..], &["--edges", "3", "--edge-body", "bare"]].concat();
    let run = with("gateways.toml", lost, &gateways);
    assert_eq!(run.results(), [0, 6, 4, 6]);
    assert_eq!(run.model(), flat.model());
    let bytes = |run: &Run| {
        let text = fs::read_to_string(run.out().join("summary.json")).unwrap();
        let summary: serde_json::Value = serde_json::from_str(&text).unwrap();
        ["bytes_up", "bytes_down"].map(|name| summary[name].as_u64().unwrap())
    };
    let ([up, down], [flat_up, flat_down]) = (bytes(&run), bytes(&flat));
    // Two devices behind each: with ten it is less than a third.
    assert!(up + down < flat_up + flat_down, "{up} {down}");
}

const NATIVE: [&str; 2] = ["--body", "native"];
const BARE: [&str; 2] = ["--body", "bare"];

#[test]
fn two_devices_agree_on_every_body_and_board() {
    let arguments = ["--clients", "2", "--rounds", "3", "--seed", "4"];
    let native = model(&NATIVE, &arguments);
    assert_eq!(model(&NATIVE, &arguments), native, "native, again");
    assert_eq!(model(&BARE, &arguments), native, "bare");
    assert_eq!(model(&BARE, &arguments), native, "bare, again");
    assert_eq!(
        model(&["--board", "q35"], &arguments),
        native,
        "bare on q35"
    );
}

#[test]
fn a_board_that_computes_wrong_is_named() {
    let check = |more: &[&str]| {
        let arguments = [&["selfcheck", "--board", "microvm"], more].concat();
        let output = zfl().args(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (status, table, said) = check(&[]);
    assert_eq!(status, Some(0), "{table}{said}");
    assert!(
        table
            .lines()
            .any(|line| line.starts_with("microvm") && line.ends_with("the same")),
        "{table}"
    );
    let (status, table, said) = check(&["--spoil", "microvm"]);
    assert_eq!(status, Some(1), "{table}{said}");
    assert!(
        table.contains("ANOTHER MODEL") && said.contains("not as the host: microvm"),
        "{table}{said}"
    );
}

#[test]
#[ignore = "needs gdb-multiarch: cargo xtask test"]
fn gdb_stops_a_device_and_reads_its_firmware_by_name_and_the_run_goes_on() {
    let mut run = Live::start(&["--clients", "1", "--rounds", "3", "--gdb"]);
    run.wait_for_start(0, 1);
    let mut gdb = zfl();
    gdb.args(["gdb", "0", "--run"]).arg(run.out());
    gdb.args(["--", "-batch", "-ex", "info symbol $pc"]);
    // The device's memory against the file that the names are from.
    gdb.args(["-ex", "compare-sections .text", "-ex", "detach"]);
    let said = finish(&mut gdb);
    assert_eq!(said.status, Some(0), "{said:?}");
    let lines = || said.out.lines();
    assert!(
        lines().any(|line| line.contains("in section .text")),
        "{said:?}"
    );
    let is_same = |line: &str| line.starts_with("Section .text") && line.ends_with("matched.");
    assert!(lines().any(is_same), "{said:?}");
    let ended = run.finish();
    assert_eq!(ended.said.status, Some(0), "{:?}", ended.said);
    assert_eq!(ended.results().iter().sum::<u64>(), 3);
}

/// Of a host's KVM nothing is known before it is tried: it agrees, or is refused before there is a run.
#[test]
fn kvm_agrees_or_is_refused_with_what_to_do() {
    let arguments = ["--clients", "2", "--rounds", "1", "--seed", "4"];
    let temp = folder();
    let out = temp.path().join("run");
    let mut command = zfl();
    command
        .args(["run", "--accel", "kvm"])
        .args(BARE)
        .args(arguments);
    let said = finish(command.arg("--out").arg(&out));
    match said.status {
        Some(0) => {
            let summary = fs::read_to_string(out.join("summary.json")).unwrap();
            assert!(summary.contains(&model(&NATIVE, &arguments)), "{summary}");
            assert!(said.out.contains("(KVM)"), "{said:?}");
        }
        status => {
            assert_eq!(status, Some(2), "{said:?}");
            assert!(
                said.err.contains("kvm: ") && said.err.contains("leave --accel out"),
                "{said:?}"
            );
            assert!(!out.exists());
        }
    }
    let counted = ["--accel", "kvm", "--time", "icount"];
    let said = finish(zfl().arg("run").args(BARE).args(arguments).args(counted));
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.err.contains("nothing counts instructions"), "{said:?}");
}

#[test]
fn every_encoding_agrees_on_native_and_bare_devices() {
    let mut models = BTreeSet::new();
    for (name, flags) in encodings() {
        let sizes = ["--clients", "4", "--rounds", "3", "--data", "zfl:digits"];
        let flags = [&flags[..], &sizes].concat();
        let native = model(&NATIVE, &flags);
        assert_eq!(model(&BARE, &flags), native, "{name}");
        assert!(models.insert(native), "{name} is like another");
    }
}

#[test]
fn every_algorithm_agrees_on_native_and_bare_devices() {
    let sizes = "--data zfl:digits --clients 4 --rounds 2 --examples 60 --epochs 2 --batch-size 20";
    let sizes: Vec<_> = sizes.split(' ').collect();
    let mut models = BTreeMap::new();
    for name in fl_algo::ALGORITHMS.iter().map(|known| known.name) {
        let arguments = [choosing(name), sizes.clone()].concat();
        let native = model(&NATIVE, &arguments);
        assert_eq!(model(&BARE, &arguments), native, "{name}");
        models.insert(name, native);
    }
    // A buffer for the whole cohort is none, and Bulyan without anyone to fear is a mean of equals.
    for name in ["fedbuff", "bulyan", "trimmed-mean"] {
        assert_eq!(models[name], models["fedavg"], "{name}");
    }
    for name in ["fedprox", "scaffold", "fednova", "qfedavg", "multi-krum"] {
        assert_ne!(models[name], models["fedavg"], "{name}");
    }
}

/// These columns of a table of a run, row by row.
fn columns(run: &Run, file: &str, names: &[&str]) -> Vec<Vec<String>> {
    let mut table = csv::Reader::from_path(run.out().join(file)).unwrap();
    let head = table.headers().unwrap().clone();
    let place = |name: &&str| head.iter().position(|column| column == *name).expect(name);
    let places: Vec<usize> = names.iter().map(place).collect();
    let rows = table.records().map(|row| row.unwrap());
    rows.map(|row| places.iter().map(|&at| row[at].to_owned()).collect())
        .collect()
}

#[test]
fn what_devices_find_on_their_holdouts_agrees_on_native_and_bare_devices() {
    let flags = "--data zfl:digits --clients 4 --rounds 2 --examples 60 --epochs 2 --batch-size 20 --holdout 0.25 \
                 --evaluate-fraction 1 --strategy ditto";
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let found = |body: &[&str]| {
        let run = Run::succeeds(&[body, &flags].concat());
        let names = [
            "round",
            "client",
            "outcome",
            "num_evaluated",
            "correct",
            "loss",
            "personal_correct",
            "personal_loss",
        ];
        columns(&run, "evaluations.csv", &names)
    };
    let native = found(&NATIVE);
    assert_eq!(native.len(), 8, "{native:?}");
    assert_eq!(found(&BARE), native);
}

#[test]
fn fedasync_has_one_trace_on_native_and_bare_devices() {
    let folder = folder();
    let path = folder.path().join("fedasync.toml");
    let text = "rounds = 6\nseed = 3\ntime = \"estimate\"\ndata = \"zfl:digits\"\nhidden = [3]\nquorum = 1\n\
                [strategy]\nname = \"fedasync\"\nmixing = 0.9\nhinge_a = 10\n\
                [[fleet]]\ncount = 2\nexamples = 40\nmips = 500\nlink = \"wifi\"\n\
                [[fleet]]\ncount = 2\nexamples = 40\nmips = 31.25\nlink = \"lte-m\"\n";
    fs::write(&path, text).unwrap();
    let path = path.to_str().expect("the path is text");
    let trace = |body: &[&str]| {
        let run = Run::succeeds(&[&[path], body].concat());
        assert!(run.summary().get("depends_on_time").is_none());
        let rounds = ["round", "results", "simulated_elapsed_s", "metrics"];
        let clients = ["round", "client", "outcome", "virtual_s", "link_s"];
        let tables = [
            columns(&run, "rounds.csv", &rounds),
            columns(&run, "clients.csv", &clients),
        ];
        (run.model(), tables)
    };
    assert_eq!(trace(&BARE), trace(&NATIVE));
}

#[test]
fn a_bare_device_that_crashed_gets_its_variate_back() {
    let folder = folder();
    let path = folder.path().join("crash.toml");
    let text = "rounds = 4\nquorum = 1\n[strategy]\nname = \"scaffold\"\n\
                [[fleet]]\ncount = 2\nexamples = 120\n\
                [[faults.schedule]]\nround = 2\nclient = 1\nfault = \"crash\"\nreboot = true\n";
    fs::write(&path, text).unwrap();
    let path = path.to_str().expect("the path is text");
    let bare = Run::succeeds(&[path, "--body", "bare"]);
    let results = bare.results();
    assert!(
        results.contains(&1) && results.last() == Some(&2),
        "{results:?}"
    );
    assert_eq!(bare.model(), model(&NATIVE, &[path]));
}

/// Algorithms with something on the device: a vector, the end of the model, all of it.
const PERSONAL: [&[&str]; 4] = [
    &["--strategy", "ditto"],
    &[
        "--strategy",
        "fedrep",
        "--strategy-arg",
        "personal_epochs=2",
    ],
    &["--strategy", "feddyn"],
    &["--strategy", "distillation"],
];

#[test]
fn what_only_a_device_has_agrees_on_native_and_bare_devices_over_a_crash() {
    let folder = folder();
    let path = folder.path().join("crash.toml");
    let text = "data = \"zfl:digits\"\nclients = 4\nrounds = 3\nquorum = 1\nbatch_size = 32\n\
                [[faults.schedule]]\nround = 2\nclient = 1\nfault = \"crash\"\nreboot = true\n";
    fs::write(&path, text).unwrap();
    let path = path.to_str().expect("the path is text");
    for strategy in PERSONAL {
        let of = |body: &[&str]| Run::succeeds(&[&[path], body, strategy].concat());
        let native = of(&NATIVE);
        let kept = native.kept_on_devices();
        assert_eq!(kept.len(), 4);
        let mut boards = vec!["microvm"];
        // All of them are the same firmware.
        boards.extend((strategy == PERSONAL[0]).then_some("q35"));
        for board in boards {
            let bare = of(&["--board", board]);
            assert_eq!(bare.model(), native.model(), "{strategy:?} on {board}");
            assert!(bare.kept_on_devices() == kept, "{strategy:?} on {board}");
            let log = fs::read_to_string(bare.out().join("serial/1.log")).unwrap();
            assert!(log.contains("kept state of round 1 loaded"), "{log}");
        }
    }
}

#[test]
fn the_firmware_is_on_record() {
    let run = Run::succeeds(&[&BARE[..], &["--clients", "1", "--rounds", "1"]].concat());
    let meta = std::fs::read_to_string(run.out().join("meta.json")).unwrap();
    let meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let by_hand =
        "sha256sum $(sed -n 's/^image = \"\\(.*\\)\"/\\1/p' boards/microvm/board.toml | tail -1)";
    let said = finish(Command::new("sh").args(["-c", by_hand]).current_dir(root));
    let hash = said.out.split_whitespace().next().expect("one hash");
    let recorded = &meta["versions"]["firmware microvm"];
    assert_eq!(*recorded, format!("sha256:{hash}"), "{meta}");
}

/// `cargo xtask` has built the firmware before the program.
#[test]
fn a_program_alone_boots_the_firmware_that_is_built_in() {
    let away = tempfile::tempdir().expect("a temporary folder can be made");
    let program = away.path().join("zfl");
    fs::copy(env!("CARGO_BIN_EXE_zfl"), &program).expect("the program is built");
    let model = |body: &str| {
        let mut zfl = Command::new(&program);
        let path = std::env::var_os("PATH").unwrap_or_default();
        zfl.current_dir(away.path()).env_clear().env("PATH", path);
        zfl.env("HOME", away.path().join("home"));
        zfl.args("run --clients 2 --rounds 2 --examples 100 --body".split(' '));
        let said = finish(zfl.args([body, "--name", body]));
        assert_eq!(said.status, Some(0), "{said:?}");
        fs::read(
            away.path()
                .join("runs")
                .join(body)
                .join("model.safetensors"),
        )
        .unwrap()
    };
    assert_eq!(model("bare"), model("native"));
    let kept = fs::read_dir(away.path().join("home/.cache/zfl")).unwrap();
    // That of a device, that of a node of a mesh, and that of a gateway.
    assert_eq!(kept.count(), 3);
}

#[test]
fn all_of_the_arithmetic_agrees() {
    for arguments in [
        [
            "--arithmetic",
            "float",
            "--hidden",
            "20,12",
            "--activation",
            "sigmoid",
        ],
        [
            "--arithmetic",
            "fixed",
            "--hidden",
            "33,7",
            "--activation",
            "relu",
        ],
        [
            "--arithmetic",
            "integer",
            "--hidden",
            "20,12",
            "--activation",
            "sigmoid",
        ],
    ] {
        let sizes = [
            "--clients",
            "2",
            "--rounds",
            "2",
            "--examples",
            "300",
            "--batch-size",
            "70",
        ];
        let arguments = [&arguments[..], &sizes].concat();
        assert_eq!(
            model(&NATIVE, &arguments),
            model(&BARE, &arguments),
            "{arguments:?}"
        );
    }
}

#[test]
fn the_user_network_gives_the_same_model() {
    let arguments = ["--clients", "3", "--rounds", "2"];
    let native = model(&NATIVE, &arguments);
    assert_eq!(model(&["--network", "user"], &arguments), native);
}

/// A machine works without what its user's shell and this host have, on every network, and QEMU filters its
/// system calls.
#[test]
fn a_machine_is_in_a_jail() {
    let arguments = ["--clients", "2", "--rounds", "100000", "--examples", "120"];
    for network in ["user", "bridge", "switch"] {
        let mut zfl = zfl();
        zfl.args(["run", "--body", "bare", "--network", network])
            .args(arguments)
            .env("ZFL_TEST_SECRET", "hush");
        let mut live = Live::start_as(&mut zfl);
        live.wait_for("a finished round", |event| {
            event["event"] == "round_finished" && event["round"] == 1
        });
        let mut processes = descendants(live.pid());
        processes.retain(|process| process.command_line.contains("qemu-system-"));
        assert_eq!(processes.len(), 2, "{network}: {processes:?}");
        for process in processes {
            let environment = fs::read(format!("/proc/{}/environ", process.pid)).unwrap();
            let environment = String::from_utf8_lossy(&environment);
            // What else is in it is nothing for the log of a test.
            assert!(!environment.contains("ZFL_TEST_SECRET"), "{network}");
            is_in_a_jail(process.pid, network);
        }
        signal(live.pid(), "INT");
        assert_eq!(live.finish().said.status, Some(130), "{network}");
    }
}

fn is_in_a_jail(pid: u32, network: &str) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let none = "0000000000000000";
    for (name, value) in [
        ("NoNewPrivs:", "1"),
        ("Seccomp:", "2"),
        ("CapPrm:", none),
        ("CapEff:", none),
        ("CapBnd:", none),
    ] {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        assert_eq!(
            line.map(str::trim),
            Some(value),
            "{network}: {name} {status}"
        );
    }
    let root = Path::new("/proc").join(pid.to_string()).join("root");
    for path in ["etc/passwd", "proc", "dev", "home", "root", "bin/sh"] {
        assert!(!root.join(path).exists(), "{network}: {path}");
    }
    // Whoever enters from outside, as root or not, has no program to start there.
    let mut enter = Command::new("nsenter");
    enter.args(["--target", &pid.to_string(), "--mount", "--net", "--pid"]);
    let entered = enter.args(["/bin/sh", "-c", "true"]).output().unwrap();
    assert!(!entered.status.success(), "{network}: {entered:?}");
    let interfaces = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap();
    // Two lines above, and the loopback.
    assert_eq!(interfaces.lines().count(), 3, "{network}: {interfaces}");
}

#[test]
fn fifty_devices_agree_and_are_small() {
    let arguments = ["--clients", "50", "--rounds", "2", "--epochs", "1"];
    let native = model(&NATIVE, &arguments);
    for _ in 0..2 {
        let run = Run::succeeds(&arguments);
        assert_eq!(run.model(), native);
        let memory = &run.summary()["memory"];
        assert_eq!(memory["devices"], 50);
        // In a jail with a root of its own (boards/microvm/README.md); without one 16 MB.
        assert!(
            memory["private_bytes_max"].as_u64().unwrap() <= 12_300_000,
            "{memory}"
        );
    }
}

#[test]
fn some_of_the_fleet_in_each_round() {
    let arguments = [
        "--clients",
        "6",
        "--clients-per-round",
        "2",
        "--rounds",
        "4",
        "--epochs",
        "1",
    ];
    assert_eq!(model(&BARE, &arguments), model(&NATIVE, &arguments));
}

/// The fleet's process is in the terminal's background: what works natively may not work there.
#[test]
fn a_full_screen_shows_an_emulated_run_and_q_stops_it() {
    let (mut pty, _folder) = on_screen();
    pty.wait_for("[ROUND");
    pty.press("2l");
    pty.wait_for("update delivered");
    pty.press("q");
    assert_eq!(pty.finish(), 130);
    pty.wait_until_restored();
    pty.wait_for("interrupted by SIGINT");
}

#[test]
fn a_full_screen_that_is_killed_ends_no_emulated_run() {
    let (mut pty, _folder) = on_screen();
    pty.wait_for("[ROUND");
    let processes = pty.processes();
    let display = processes
        .iter()
        .find(|process| process.command_line.contains("follow"));
    signal(display.expect("it is shown").pid, "KILL");
    pty.wait_until_restored();
    pty.wait_for("the full screen is gone");
    pty.press("\x03");
    assert_eq!(pty.finish(), 130);
    pty.wait_for("interrupted by SIGINT");
}

fn on_screen() -> (Pty, tempfile::TempDir) {
    let folder = folder();
    let mut zfl = zfl();
    zfl.args(["run", "--tui", "--body", "bare", "--clients", "2"]);
    zfl.args(["--rounds", "100000", "--examples", "120", "--out"]);
    zfl.arg(folder.path().join("run"));
    (Pty::start(&zfl), folder)
}

/// Longest wait for an update in a run that is stopped for longer.
const DEADLINE: Duration = Duration::from_secs(10);

#[test]
fn a_fleet_stands_still_with_the_process_that_was_stopped_and_goes_on_to_the_same_model() {
    let seconds = DEADLINE.as_secs().to_string();
    let sizes = ["--clients", "2", "--rounds", "3", "--epochs", "20"];
    let more = ["--deadline", &seconds, "--dashboard", "off"];
    let mut live = Live::start(&[&BARE[..], &sizes, &more].concat());
    live.wait_for_round(1);
    signal(live.pid(), "STOP");
    // The first is the one that looks after the others.
    let fleet = descendants(live.pid()).split_off(1);
    assert!(fleet.len() > 2, "{fleet:?}");
    wait_until("the fleet stands still", LIMIT, || {
        let mut each = fleet.iter().map(|process| is_stopped(process.pid));
        each.all(|stopped| stopped).then_some(())
    });
    let events = || fs::read_to_string(live.out().join("events.jsonl")).unwrap();
    let before = events();
    // Only time makes a deadline pass.
    std::thread::sleep(DEADLINE + Duration::from_secs(1));
    assert_eq!(events(), before, "it went on while it was stopped");
    signal(live.pid(), "CONT");
    let stopped = live.finish();
    assert_eq!(stopped.said.status, Some(0), "{stopped:?}");
    assert_eq!(stopped.results(), [0, 2, 2, 2], "{stopped:?}");
    assert_eq!(stopped.model(), model(&NATIVE, &sizes));
}

#[test]
fn a_fleet_that_was_started_with_a_signal_ignored_goes_on_when_it_comes() {
    let mut command = zfl();
    command
        .args(["run", "--clients", "2", "--rounds", "3"])
        .args(BARE);
    let mut live = Live::start_as(&mut by_sh(r#"trap '' HUP INT; exec "$@""#, &command));
    live.wait_for_round(1);
    signal(live.pid(), "HUP");
    signal(live.pid(), "INT");
    let run = live.finish();
    assert_eq!(run.said.status, Some(0), "{run:?}");
}
