//! Whole runs on native devices: what a run leaves behind, that it can be repeated, and what it does
//! when it cannot go on.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::{Live, Page, Run, SMALL, finish, folder, signal, wait_until, zfl};

fn small<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SMALL, more].concat()
}

/// The first word that a shell command prints, run where the workspace is.
fn first_word(command: &str) -> String {
    let mut shell = Command::new("sh");
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let said = finish(shell.args(["-c", command]).current_dir(root));
    let word = said.out.split_whitespace().next();
    word.expect("it prints something").to_owned()
}

fn rows(path: &Path) -> usize {
    fs::read_to_string(path).unwrap().lines().count() - 1
}

#[test]
fn half_precision_takes_half_the_bytes() {
    let flags = "--clients 3 --rounds 2 --dashboard off";
    let flags: Vec<&str> = flags.split(' ').collect();
    let bytes = |run: &Run| {
        let file = fs::read_to_string(run.out().join("summary.json")).unwrap();
        let summary: serde_json::Value = serde_json::from_str(&file).unwrap();
        ["bytes_up", "bytes_down"].map(|key| summary[key].as_f64().unwrap())
    };
    let full = Run::succeeds(&small(&flags));
    let up = Run::succeeds(&small(&[&flags[..], &["--encoding-up", "f16"]].concat()));
    let both = ["--encoding-up", "f16", "--encoding-down", "f16"];
    let both = Run::succeeds(&small(&[&flags[..], &both].concat()));
    let [full_up, full_down] = bytes(&full);
    let [up_up, _] = bytes(&up);
    let [_, both_down] = bytes(&both);
    assert!(up_up < 0.6 * full_up, "{up_up} of {full_up}");
    // The training data come down as well, and are what they are.
    let models = 3.0 * 2.0 * 2.0 * 12_730.0;
    assert!(
        full_down - both_down > 0.9 * models,
        "{both_down} of {full_down}"
    );
    assert_ne!(full.model(), up.model());
    let config = fs::read_to_string(both.out().join("config.toml")).unwrap();
    assert!(config.contains("encoding_up = \"f16\"\n"), "{config}");
}

/// Each encoding of updates, and the part of f32's bytes that it may take of the model.
const ENCODINGS: [(&str, f64); 6] = [
    ("f16", 0.51),
    ("int8", 0.28),
    ("qsgd", 0.14),
    ("topk", 0.01),
    ("topk --encoding-arg k=0.1", 0.08),
    ("sign", 0.04),
];

#[test]
fn an_update_has_the_bytes_that_were_told_before_the_run() {
    let flags = "--clients 3 --rounds 2 --dashboard off --encoding-up";
    for (encoding, part) in ENCODINGS {
        let flags: Vec<&str> = flags.split(' ').chain(encoding.split(' ')).collect();
        let dry = small(&[&flags[..], &["--dry-run"]].concat());
        let told = finish(zfl().arg("run").args(dry)).out;
        let of = |text: &str, words: &str| {
            let (before, _) = text.split_once(words).unwrap();
            let number = before.rsplit(' ').next().unwrap();
            number.parse::<f64>().unwrap()
        };
        let told_up = of(told.as_ref(), " up and ");
        let run = Run::succeeds(&small(&flags));
        let rows = fs::read_to_string(run.out().join("clients.csv")).unwrap();
        let at = rows
            .lines()
            .next()
            .unwrap()
            .split(',')
            .position(|name| name == "bytes_up")
            .unwrap();
        for row in rows.lines().skip(1) {
            let measured: f64 = row.split(',').nth(at).unwrap().parse().unwrap();
            // HTTP's heads and the control message are estimated; with them go the answers to `/ready`.
            let rest = measured - told_up;
            assert!(
                (-100.0..1200.0).contains(&rest),
                "{encoding}: {measured} of {told_up}"
            );
        }
        assert!(
            told_up - 400.0 < part * 4.0 * 12_730.0,
            "{encoding}: {told_up}"
        );
    }
}

#[test]
fn topk_of_everything_is_f32_to_the_bit() {
    let flags = "--clients 3 --rounds 2 --dashboard off";
    let flags: Vec<&str> = flags.split(' ').collect();
    let all = ["--encoding-up", "topk", "--encoding-arg", "k=1"];
    let all = Run::succeeds(&small(&[&flags[..], &all].concat()));
    assert_eq!(all.model(), Run::succeeds(&small(&flags)).model());
}

#[test]
fn clients_may_hold_different_kinds_of_data() {
    let flags =
        "--clients 4 --rounds 1 --dashboard off --partition dirichlet --partition-arg alpha=0.2";
    let flags: Vec<&str> = flags.split(' ').collect();
    let run = Run::succeeds(&small(&flags));
    let table = fs::read_to_string(run.out().join("partition.csv")).unwrap();
    let mut lines = table.lines();
    assert!(
        lines
            .next()
            .unwrap()
            .starts_with("client,examples,label_0,")
    );
    let rows: Vec<Vec<u32>> = lines
        .map(|line| line.split(',').map(|cell| cell.parse().unwrap()).collect())
        .collect();
    assert_eq!(rows.len(), 4);
    let sizes = rows.iter().map(|row| row[1]);
    assert_eq!(sizes.clone().sum::<u32>(), 4 * 120, "{table}");
    assert!(sizes.clone().max() > sizes.min(), "{table}");
    for row in &rows {
        assert_eq!(row[1], row[2..].iter().sum::<u32>(), "{table}");
        assert!(
            row[2..].iter().max() > Some(&(row[1] / 4)),
            "no class prevails in {table}"
        );
    }
    assert_eq!(run.model(), Run::succeeds(&small(&flags)).model());
}

#[test]
fn a_run_leaves_its_directory() {
    let more = [
        "--clients",
        "3",
        "--rounds",
        "2",
        "--seed",
        "9",
        "--dashboard",
        "off",
    ];
    let run = Run::succeeds(&small(&more));
    let out = run.out();
    assert_eq!(
        rows(&out.join("rounds.csv")),
        3,
        "the initial model and two rounds"
    );
    assert_eq!(rows(&out.join("clients.csv")), 6);
    for client in 0..3 {
        let log = fs::read_to_string(out.join(format!("serial/{client}.log"))).unwrap();
        assert!(log.contains("round 2"), "{log}");
    }
    let config = fs::read_to_string(out.join("config.toml")).unwrap();
    for line in [
        "clients = 3",
        "rounds = 2",
        "seed = 9",
        "examples_per_client = 120",
    ] {
        assert!(config.lines().any(|l| l == line), "no {line:?} in {config}");
    }
    assert!(out.join("model.safetensors").exists());
    // For reports, whether or not there was a dashboard.
    let meta = fs::read_to_string(out.join("meta.json")).unwrap();
    let meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
    assert!(
        meta["command"].as_str().unwrap().contains("--seed 9"),
        "{meta}"
    );
    assert_eq!(meta["split"].as_array().unwrap().len(), 3);
    assert!(meta["versions"]["linux"].is_string(), "{meta}");
    let data = meta["versions"]["data"].as_str().unwrap_or_default();
    let by_hand = "cat data/mnist/t*-ubyte.gz | sha256sum";
    assert_eq!(data, format!("mnist sha256:{}", first_word(by_hand)));
    let summary = run.summary();
    for key in [
        "body",
        "clients",
        "rounds_completed",
        "final_accuracy",
        "final_loss",
        "best_accuracy",
        "bytes_up",
        "bytes_down",
        "wall_s",
        "boot_s",
        "train_s",
        "model_sha256",
        "seed",
        "failures",
    ] {
        assert!(!summary[key].is_null(), "no {key} in {summary}");
    }
    assert_eq!(summary["body"], "native");
    assert_eq!(summary["rounds_completed"], 2);
    assert_eq!(summary["seed"], 9);
    assert_eq!(summary["failures"].as_array().unwrap().len(), 0);
    let events = run.events();
    let end = events
        .iter()
        .find(|event| event["event"] == "run_finished")
        .unwrap();
    assert_eq!(end["success"], true);
    for line in [
        "[ROUND 1/2]",
        "[ROUND 2/2]",
        "received 3 results and 0 failures",
    ] {
        assert!(
            run.said.out.contains(line),
            "no {line:?} in {}",
            run.said.out
        );
    }
}

#[test]
fn the_seed_decides_the_model() {
    let with_seed = |seed| {
        let more = [
            "--clients",
            "4",
            "--clients-per-round",
            "2",
            "--rounds",
            "3",
            "--seed",
            seed,
        ];
        Run::succeeds(&small(&more)).model()
    };
    assert_eq!(with_seed("5"), with_seed("5"));
    assert_ne!(with_seed("5"), with_seed("6"));
}

/// Runs whose devices keep something from round to round, hold examples out, or share them.
const KEEPING: [&str; 3] = [
    "--strategy scaffold",
    "--strategy fedper --holdout 0.2",
    "--partition overlapping --encoding-up topk --encoding-arg k=0.1",
];

/// The model of a run with these flags beside, and its exchange.
fn in_some_exchange(more: &str) -> (String, serde_json::Value) {
    let flags = "--clients 9 --rounds 4 --clients-per-round 3 --dashboard off";
    let flags: Vec<&str> = flags.split(' ').chain(more.split_whitespace()).collect();
    let run = Run::succeeds(&small(&flags));
    (run.model(), run.summary()["network"].clone())
}

#[test]
fn the_model_depends_neither_on_the_exchange_nor_on_the_number_of_threads() {
    for flags in KEEPING {
        let (model, network) = in_some_exchange(flags);
        assert_eq!(network, "in process (no sockets)");
        // There devices never rest, and have their examples sent.
        let (of_sockets, network) = in_some_exchange(&format!("{flags} --network loopback"));
        assert_eq!(of_sockets, model, "{flags}");
        assert_eq!(network, "loopback (a socket per stream)");
    }
    let [scaffold, ..] = KEEPING;
    let of_threads = |threads| in_some_exchange(&format!("{scaffold} --threads {threads}")).0;
    assert_eq!(of_threads(1), of_threads(5));
    // Lists of images that are kept from round to round, and made by whoever comes first.
    let flags = "--body native --clients 9 --rounds 3 --examples 60 --epochs 2 --dashboard off";
    let kept = |more: &str| {
        let flags: Vec<&str> = flags.split(' ').chain(more.split(' ')).collect();
        Run::succeeds(&flags).model()
    };
    let sockets = kept("--network loopback");
    for threads in ["1", "2", "7"] {
        assert_eq!(kept(&format!("--threads {threads}")), sockets, "{threads}");
    }
}

#[test]
fn it_learns() {
    let run = Run::succeeds(&["--body", "native", "--clients", "4", "--rounds", "4"]);
    let accuracy = run.summary()["final_accuracy"].as_f64().unwrap();
    // Guessing gives 0.1; this reaches 0.87.
    assert!(accuracy > 0.8, "{accuracy}");
}

#[test]
fn a_deep_network_with_sigmoid_trains() {
    let more = [
        "--hidden",
        "200,200",
        "--activation",
        "sigmoid",
        "--clients",
        "2",
        "--rounds",
        "1",
    ];
    Run::succeeds(&small(&more));
}

#[test]
fn server_and_client_are_two_processes() {
    let mut server = zfl();
    server.args(["server", "-r", "2", "-c", "3", "--listen", "127.0.0.1:0"]);
    let server = Live::start_as(server.args(["--dashboard", "off"]));
    let address = said_at(&server, "listening on ");
    let mark = server.out().join("pid");
    assert!(mark.is_file(), "by which zfl ps, stop and report find it");
    let mut client = zfl();
    client.args([
        "client", "-c", "3", "-e", "2", "-b", "77", "--server", &address,
    ]);
    let client = Live::start_as(&mut client).finish();
    let server = server.finish();
    assert_eq!(client.said.status, Some(0), "{client:?}");
    assert_eq!(server.said.status, Some(0), "{server:?}");
    assert_eq!(server.summary()["rounds_completed"], 2);
    assert!(!mark.exists());
    assert!(!server.said.out.contains("dashboard"), "{server:?}");
    let log = fs::read_to_string(client.out().join("serial/0.log")).unwrap();
    assert!(
        log.contains("training 2 epochs") && log.contains("batch 77"),
        "{log}"
    );
}

/// A stranger on this machine comes before the devices do, and after them, for the ID of each.
#[test]
fn nobody_joins_in_place_of_a_device_of_the_run() {
    let flags = "--clients 3 --rounds 6 --dashboard off --network loopback";
    let flags: Vec<&str> = flags.split(' ').collect();
    let run = Live::start(&small(&flags));
    let address = wait_until("the aggregator's address", Duration::from_secs(60), || {
        let events = fs::read_to_string(run.out().join("events.jsonl")).ok()?;
        let started = events.lines().find(|line| line.contains("run_started"))?;
        let event: serde_json::Value = serde_json::from_str(started).ok()?;
        Some(event["address"].as_str()?.to_owned())
    });
    let mut refused = 0;
    while let Ok(mut stream) = TcpStream::connect(&address) {
        let client = refused % 4;
        let word = "Zfl-Secret: 0123456789abcdef0123456789abcdef\r\n";
        let head = format!("GET /id?client={client}&port=9 HTTP/1.1\r\n{word}\r\n");
        let mut answer = String::new();
        let sent = stream.write_all(head.as_bytes());
        if sent
            .and_then(|()| stream.read_to_string(&mut answer))
            .is_err()
            || answer.is_empty()
        {
            break;
        }
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        refused += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(refused > 3, "the run was over at once");
    let run = run.finish();
    assert_eq!(run.said.status, Some(0), "{run:?}");
    assert_eq!(run.summary()["rounds_completed"], 6);
    assert_eq!(run.summary()["failures"].as_array().map(Vec::len), Some(0));
}

/// A join secret in a file, or in the environment; it is in no file of the run.
#[test]
fn a_join_secret_is_for_devices_and_for_no_file() {
    const SECRET: &str = "correct-horse-battery";
    let folder = folder();
    let file = folder.path().join("secret");
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    let mut server = zfl();
    server.args("server -r 1 -c 2 --clients 2 --listen 127.0.0.1:0 --dashboard off".split(' '));
    let server = Live::start_as(server.arg("--join-secret").arg(&file));
    let address = said_at(&server, "listening on ");
    let client = |count: &str| {
        let mut client = zfl();
        client.args([
            "client", "-c", count, "-e", "1", "-b", "77", "--server", &address,
        ]);
        client
    };
    let stranger = Live::start_as(&mut client("1")).finish();
    assert_eq!(stranger.said.status, Some(1), "{stranger:?}");
    let advice = "cannot join: the join secret is missing or wrong";
    assert!(stranger.said.err.contains(advice), "{stranger:?}");
    let mut known = client("2");
    let known = Live::start_as(known.env("ZFL_JOIN_SECRET", SECRET)).finish();
    assert_eq!(known.said.status, Some(0), "{known:?}");
    let server = server.finish();
    assert_eq!(server.said.status, Some(0), "{server:?}");
    for run in [&server, &known] {
        assert!(!format!("{:?}", run.said).contains(SECRET), "{run:?}");
        let mut folders = vec![run.out().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let bytes = fs::read(&path).unwrap();
                let is_there = bytes
                    .windows(SECRET.len())
                    .any(|part| part == SECRET.as_bytes());
                assert!(!is_there, "{}", path.display());
            }
        }
    }
}

/// Whoever has no place is told so, and does not wait for ever.
#[test]
fn devices_that_the_server_has_no_place_for_end_with_the_others() {
    let mut server = zfl();
    server.args("server -r 2 -c 1 --clients 1 --listen 127.0.0.1:0 --dashboard off".split(' '));
    let server = Live::start_as(&mut server);
    let address = said_at(&server, "listening on ");
    let mut client = zfl();
    client
        .args("client -c 3 -e 1 -b 77 --server".split(' '))
        .arg(&address);
    let client = Live::start_as(&mut client).finish();
    assert_eq!(client.said.status, Some(1), "{client:?}");
    let refused = "cannot join: all 1 clients have joined";
    assert_eq!(client.said.err.matches(refused).count(), 2, "{client:?}");
    for part in ["over for 1 of 3 devices", "2 never joined"] {
        assert!(client.said.out.contains(part), "no {part:?} in {client:?}");
    }
    assert_eq!(server.finish().said.status, Some(0));
}

/// The address that a server says behind these words.
#[track_caller]
fn said_at(server: &Live, words: &str) -> String {
    wait_until(words, Duration::from_secs(60), || {
        let said = server.said_so_far();
        let address = said.lines().find_map(|line| line.strip_prefix(words))?;
        Some(address.split(' ').next()?.to_owned())
    })
}

/// Fetches a path of a server.
fn answer(page: &str, path: &str) -> String {
    let host = page.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(host).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_server_has_a_page_too() {
    let mut server = zfl();
    server.args([
        "server",
        "-r",
        "100000",
        "-c",
        "3",
        "--listen",
        "127.0.0.1:0",
    ]);
    let mut server = Live::start_as(&mut server);
    // By default on this machine alone, at a free port.
    let page = said_at(&server, "dashboard: ");
    assert!(page.starts_with("http://127.0.0.1:"), "{page}");
    let address = said_at(&server, "listening on ");
    let mut client = zfl();
    client.args([
        "client", "-c", "3", "-e", "1", "-b", "600", "--server", &address,
    ]);
    let _client = Live::start_as(&mut client);
    server.wait_for("a finished round", |event| {
        event["event"] == "round_finished" && event["round"] == 1
    });
    // Rounds go on meanwhile: each device is in some round, and not all in the same.
    let devices = || {
        let answer = answer(&page, "/api/devices");
        let (_, body) = answer.split_once("\r\n\r\n")?;
        let devices: serde_json::Value = serde_json::from_str(body).ok()?;
        let devices = devices.as_array()?.iter();
        let trained = devices.filter(|device| device["round"].as_u64() > Some(0));
        (trained.count() == 3).then_some(())
    };
    wait_until("the three that came", Duration::from_secs(60), devices);
    let run = answer(&page, "/api/run");
    assert!(run.starts_with("HTTP/1.1 200"), "{run}");
    for part in ["\"command\":\"zfl server -r", "\"split\":[["] {
        assert!(run.contains(part), "no {part} in {run}");
    }
    // Nothing that runs elsewhere prints here.
    let log = answer(&page, "/api/devices/0/log");
    assert!(log.starts_with("HTTP/1.1 404"), "{log}");
    signal(server.pid(), "INT");
    let run = server.finish();
    assert_eq!(run.said.status, Some(130), "{run:?}");
    assert!(run.out().join("meta.json").exists(), "for reports");
}

#[test]
fn a_port_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let temp = folder();
    let out = temp.path().join("run");
    let said = finish(
        zfl()
            .args([
                "server", "-r", "1", "-c", "1", "--listen", &address, "--out",
            ])
            .arg(&out),
    );
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(
        said.err.contains(&address) && said.err.contains("another port"),
        "{said:?}"
    );
    assert!(!out.exists());
}

#[test]
fn a_port_that_is_taken_from_the_dashboard() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let temp = folder();
    let out = temp.path().join("run");
    let more = ["--clients", "2", "--dashboard", &address];
    let said = finish(zfl().arg("run").args(small(&more)).arg("--out").arg(&out));
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(
        said.err.contains(&address) && said.err.contains("another --dashboard"),
        "{said:?}"
    );
    assert!(!out.exists());
}

#[test]
fn a_port_that_is_taken_from_a_servers_dashboard() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let temp = folder();
    let out = temp.path().join("run");
    let mut server = zfl();
    server.args(["server", "-r", "1", "-c", "1", "--listen", "127.0.0.1:0"]);
    server.args(["--dashboard", &address, "--out"]).arg(&out);
    let said = finish(&mut server);
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(
        said.err.contains(&address) && said.err.contains("another --dashboard"),
        "{said:?}"
    );
    assert!(!out.exists());
}

#[test]
fn a_server_that_nobody_joins_gives_up() {
    let mut server = zfl();
    server.args(["server", "-r", "1", "-c", "2", "--listen", "127.0.0.1:0"]);
    let run = Live::start_as(server.args(["--ready-deadline", "0.3"])).finish();
    assert_eq!(run.said.status, Some(1), "{run:?}");
    let summary = run.summary();
    assert_eq!(
        (&summary["success"], &summary["rounds_completed"]),
        (&false.into(), &0.into())
    );
    assert!(
        summary["reason"].as_str().unwrap().contains("quorum"),
        "{summary}"
    );
}

#[test]
fn ctrl_c_ends_a_run_cleanly() {
    let mut live = Live::start(&small(&["--clients", "2", "--rounds", "100000"]));
    live.wait_for("a finished round", |event| {
        event["event"] == "round_finished" && event["round"] == 2
    });
    signal(live.pid(), "INT");
    let run = live.finish();
    assert_eq!(run.said.status, Some(130), "{run:?}");
    let summary = run.summary();
    assert_eq!(summary["interrupted_by"], "SIGINT");
    assert_eq!(summary["success"], false);
    assert!(
        summary["rounds_completed"].as_u64().unwrap() >= 2,
        "{summary}"
    );
}

/// A file system of 200 KB, in a mount namespace of the test's own: it takes the first models and
/// tables, and then no more.
#[test]
fn a_disk_that_fills_up_ends_the_run() {
    let temp = folder();
    let disk = temp.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let script = "mount -t tmpfs -o size=200k tmpfs \"$1\" && shift && exec \"$@\"";
    let mut unshare = Command::new("unshare");
    unshare
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .arg(&disk);
    let zfl = zfl();
    unshare
        .current_dir(support::root())
        .arg(zfl.get_program())
        .arg("run");
    unshare
        .args(small(&["--clients", "2", "--rounds", "100000"]))
        .arg("--out")
        .arg(disk.join("run"));
    let said = finish(&mut unshare);
    assert_eq!(said.status, Some(1), "{said:?}");
    let all = [&*said.out, &*said.err].concat();
    assert!(all.contains("No space left on device"), "{said:?}");
    assert!(all.contains("disk/run/"), "the file is not named: {said:?}");
}

#[test]
fn a_log_cannot_steer_the_terminal() {
    let folder = folder();
    let run = folder.path().join("run");
    fs::create_dir_all(run.join("serial")).unwrap();
    fs::write(run.join("config.toml"), "").unwrap();
    let log = b"red \xc2\x9b31m \x1b[2J\x9b \xe2\x80\xaetxt\nnext\xe2\x80";
    fs::write(run.join("serial/3.log"), log).unwrap();
    let said = finish(zfl().args(["logs", "3", "--run"]).arg(&run));
    assert_eq!(said.out, "red 31m [2J\u{fffd} txt\nnext\u{fffd}");
}

/// A device that refuses every `/start`, in these words.
fn refuse_all(device: TcpListener, words: &str) {
    let ready = r#"{"id":0,"state":"ready","round":0,"done_examples":0,"total_examples":1}"#;
    let refusal = serde_json::json!({ "error": words }).to_string();
    std::thread::spawn(move || {
        for mut stream in device.incoming().flatten() {
            // The line tells it all; what else comes is read so that the connection ends in order.
            let mut line = [0; 12];
            let _ = stream.read_exact(&mut line);
            let (status, body) = match &line {
                b"POST /start " => ("400 Bad Request", &*refusal),
                _ => ("200 OK", ready),
            };
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
}

#[test]
fn a_device_cannot_forge_a_line_on_the_terminal() {
    let mut server = zfl();
    server.args(["server", "-r", "1", "-c", "1", "--listen", "127.0.0.1:0"]);
    let server = Live::start_as(server.args(["--dashboard", "off"]));
    let address = said_at(&server, "listening on ");
    let device = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = device.local_addr().unwrap();
    refuse_all(
        device,
        "\u{1b}[2J\u{1b}]0;pwned\u{7}\u{9b}31m\u{202e}\nwarning: fake",
    );
    for path in [
        &format!("/id?address={at}"),
        "/training-data?id=0",
        "/training-labels?id=0",
    ] {
        answer(&address, path);
    }
    let stderr = server.out().with_file_name("stderr");
    let said = wait_until("it is warned of", Duration::from_secs(60), || {
        let said = fs::read_to_string(&stderr).unwrap_or_default();
        said.contains("fake").then_some(said)
    });
    let lines: Vec<_> = said.lines().filter(|line| line.contains("fake")).collect();
    assert!(
        !lines.iter().any(|l| l.starts_with("warning: fake")),
        "{said}"
    );
    let steers = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    assert!(!said.contains(steers), "{said:?}");
}

const TOKEN: &str = "correct-horse-battery";

#[test]
fn a_token_in_the_environment_opens_the_run_and_is_shown_nowhere() {
    let mut command = zfl();
    let more = ["--clients", "4", "--rounds", "100000"];
    command.arg("run").args(small(&more));
    command.env("ZFL_DASHBOARD_TOKEN", TOKEN);
    let mut live = Live::start_as(&mut command);
    let page = Page::of(&live);
    live.wait_for_round(2);
    page.act(3, "another-token-than-that", "kill", "HTTP/1.1 401 ");
    page.act(3, TOKEN, "kill", "device 3 is killed");
    live.wait_for("the device is lost", |event| {
        event["event"] == "client_lost" && event["client"] == 3
    });
    page.act(3, TOKEN, "freeze", "device 3 does not run");
    page.act(2, TOKEN, "cut", "a native device has none");
    let stopped = page.control("stop", TOKEN, "{}");
    assert!(stopped.starts_with("HTTP/1.1 200 "), "{stopped}");
    let run = live.finish();
    assert_eq!(run.said.status, Some(1), "{run:?}");
    let by_hand = serde_json::json!({"kill": 1, "stop": 1});
    assert_eq!(run.summary()["by_hand"], by_hand);
    let told = run.events();
    let told = told.iter().find(|event| event["what"] == "fault").unwrap();
    assert_eq!(told["client"], 3);
    assert_eq!(told["detail"]["by"], "dashboard");
    let said = format!("{}{}", run.said.out, run.said.err);
    assert!(
        said.contains("ZFL_DASHBOARD_TOKEN") && !said.contains(TOKEN),
        "{said}"
    );
    let mut grep = Command::new("grep");
    let found = grep.args(["-rlF", TOKEN]).arg(run.out()).output().unwrap();
    assert!(found.stdout.is_empty(), "{found:?}");
}

#[test]
fn a_run_without_a_token_is_not_controlled() {
    let mut live = Live::start(&small(&["--clients", "2", "--rounds", "100000"]));
    let page = Page::of(&live);
    live.wait_for_round(1);
    for refused in [
        page.control("stop", TOKEN, "{}"),
        page.control("devices/1", TOKEN, r#"{"action":"kill"}"#),
    ] {
        assert!(refused.starts_with("HTTP/1.1 404 "), "{refused}");
        assert!(refused.contains("--dashboard-token"), "{refused}");
    }
    signal(live.pid(), "INT");
    let run = live.finish();
    assert!(run.summary()["by_hand"].is_null(), "{run:?}");
}

#[test]
fn the_algorithm_is_chosen_by_flags_or_by_a_file() {
    let sizes = [
        "--body",
        "native",
        "--clients",
        "3",
        "--rounds",
        "2",
        "--examples",
        "60",
    ];
    let of = |more: &[&str]| Run::succeeds(&[&sizes[..], more].concat());
    let usual = of(&[]).model();
    assert_eq!(of(&["--strategy", "fedprox"]).model(), usual, "mu is 0");
    let flags = ["--strategy", "fedprox", "--strategy-arg", "proximal_mu=0.5"];
    let prox = of(&flags);
    assert_ne!(prox.model(), usual);
    assert!(
        prox.said
            .out
            .contains("2 rounds of fedprox (proximal_mu 0.5)"),
        "{prox:?}"
    );
    let config = fs::read_to_string(prox.out().join("config.toml")).unwrap();
    let table = "[strategy]\nname = \"fedprox\"\nproximal_mu = 0.5\n";
    assert!(config.contains(table), "{config}");
    let folder = folder();
    let file = folder.path().join("prox.toml");
    fs::write(&file, table).unwrap();
    assert_eq!(of(&[file.to_str().unwrap()]).model(), prox.model());
    let weaker = [file.to_str().unwrap(), "--strategy-arg", "proximal_mu=0.1"];
    assert_ne!(of(&weaker).model(), prox.model());
    assert_eq!(
        of(&[file.to_str().unwrap(), "--strategy", "fedavg"]).model(),
        usual
    );
}

/// An experiment of six devices, two of which attack.
fn with_attackers(folder: &Path, attack: &str) -> String {
    let file = folder.join("attacked.toml");
    let text = format!(
        "body = \"native\"\nrounds = 8\nexamples_per_client = 120\nbatch_size = 60\n\
         [[fleet]]\nname = \"honest\"\ncount = 4\n\
         [[fleet]]\nname = \"hostile\"\ncount = 2\nattack = {attack}\n"
    );
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

const FLIP: &str = "{ name = \"sign-flip\", scale = 3 }";

const KRUM: [&str; 8] = [
    "--strategy",
    "multi-krum",
    "--strategy-arg",
    "num_malicious_nodes=1",
    "--strategy-arg",
    "num_nodes_to_select=4",
    "--dashboard",
    "off",
];

#[test]
fn a_robust_rule_withstands_attackers_and_a_mean_does_not() {
    let folder = folder();
    let file = with_attackers(folder.path(), FLIP);
    let plain = Run::succeeds(&[&file]);
    let robust = Run::succeeds(&[&[file.as_str()], &KRUM[..]].concat());
    let accuracy = |run: &Run| run.summary()["final_accuracy"].as_f64().unwrap();
    let (mean, krum) = (accuracy(&plain), accuracy(&robust));
    assert!(krum > 0.5, "{krum}");
    assert!(krum > mean + 0.2, "{krum} of Multi-Krum, {mean} of FedAvg");

    let said = "2 hostile attack by sign-flip (scale 3)";
    assert!(robust.said.out.contains(said), "{robust:?}");
    let config = fs::read_to_string(robust.out().join("config.toml")).unwrap();
    let table = "[fleet.attack]\nname = \"sign-flip\"\nscale = 3.0\n";
    assert!(config.contains(table), "{config}");
    let events = robust.events();
    let started = |event: &&serde_json::Value| event["event"] == "run_started";
    let attackers = &events.iter().find(started).unwrap()["attackers"];
    assert_eq!(*attackers, serde_json::json!([4, 5]));
    let last = events
        .iter()
        .rfind(|event| event["event"] == "round_finished");
    let metrics = &last.unwrap()["metrics"];
    assert_eq!(metrics["attacking_updates"], 2.0, "{metrics}");
}

#[test]
fn a_run_under_attack_resumes_to_the_same_model() {
    let folder = folder();
    let file = with_attackers(folder.path(), FLIP);
    let arguments = [&[file.as_str()], &KRUM[..]].concat();
    let whole = Run::succeeds(&arguments).model();
    let mut live = Live::start(&arguments);
    live.wait_for_round(2);
    signal(live.pid(), "INT");
    let resumed = Live::resume(live.finish(), &["--dashboard", "off"]).finish();
    assert_eq!(resumed.said.status, Some(0), "{resumed:?}");
    assert_eq!(resumed.model(), whole);
}

#[test]
fn every_attack_harms_and_repeats() {
    let folder = folder();
    let model = |attack: &str| {
        let file = with_attackers(folder.path(), attack);
        let flags = ["--rounds", "2", "--data", "zfl:digits", "--seed", "3"];
        Run::succeeds(&[&[file.as_str()][..], &flags].concat()).model()
    };
    // One that goes as far as it trained is none.
    let honest = model("{ name = \"scaled\", factor = 1 }");
    for name in fl_algo::ATTACKS.iter().map(|attack| attack.name()) {
        let attack = match name {
            // Of six clients two need the support of two: the fourth of four is at no deviation.
            "lie" => "{ name = \"lie\", z = 1 }".to_owned(),
            name => format!("\"{name}\""),
        };
        let harmed = model(&attack);
        assert_ne!(harmed, honest, "{name}");
        assert_eq!(model(&attack), harmed, "{name}");
    }
}

#[test]
fn labels_are_flipped_for_attackers_alone() {
    let folder = folder();
    let of = |attack| Run::succeeds(&[&with_attackers(folder.path(), attack)]);
    let flipped = of("\"label-flip\"");
    let honest = of("{ name = \"sign-flip\", scale = 0 }");
    let losses = |run: &Run| -> Vec<(u64, String)> {
        let events = run.events().into_iter();
        let first = events.filter(|e| e["event"] == "result_received" && e["round"] == 1);
        let mut losses: Vec<_> = first
            .map(|e| (e["client"].as_u64().unwrap(), e["loss"].to_string()))
            .collect();
        losses.sort();
        losses
    };
    let (flipped, honest) = (losses(&flipped), losses(&honest));
    assert_eq!(flipped[..4], honest[..4], "honest devices train as ever");
    for client in 4..6 {
        assert_ne!(flipped[client], honest[client]);
    }
}

#[test]
fn an_attack_that_is_unknown_is_refused() {
    let folder = folder();
    let run = Run::of(&[&with_attackers(folder.path(), "\"sign-flap\"")]);
    assert_eq!(run.said.status, Some(2), "{run:?}");
    let why = "`attack` is \"sign-flap\": did you mean \"sign-flip\"?";
    assert!(run.said.err.contains(why), "{run:?}");
}

#[test]
fn a_run_whose_model_depends_on_time_says_so_before_it_starts() {
    let arguments = [
        "--body",
        "native",
        "--clients",
        "4",
        "--rounds",
        "3",
        "--examples",
        "60",
        "--strategy",
        "fedbuff",
        "--strategy-arg",
        "buffer_size=2",
    ];
    let run = Run::succeeds(&arguments);
    assert!(
        run.said
            .err
            .contains("model depends on time: fedbuff: a round takes the first updates that come"),
        "{run:?}"
    );
    for event in run
        .events()
        .iter()
        .filter(|event| event["event"] == "round_finished")
    {
        if event["round"] != 0 {
            assert!(event["results"].as_u64() >= Some(2), "{event}");
            assert!(event["metrics"]["mean_staleness"].is_number(), "{event}");
        }
    }
    let all = [&arguments[..11], &["buffer_size=4"]].concat();
    assert!(!Run::succeeds(&all).said.err.contains("depends"));
}

#[test]
fn an_algorithm_that_does_not_fit_is_refused_before_a_folder_is_made() {
    for (flags, why) in [
        (
            &["--strategy", "fedbuff"][..],
            "buffer_size is 10, and 4 clients train at a time",
        ),
        (
            &["--strategy", "fedprox", "--strategy-arg", "proximal=1"],
            "there is no `proximal`",
        ),
        (
            &[
                "--strategy",
                "multi-krum",
                "--strategy-arg",
                "num_malicious_nodes=1",
            ],
            "Krum needs rounds of at least 5 updates",
        ),
        (
            &[
                "--strategy",
                "fedbuff",
                "--strategy-arg",
                "buffer_size=2",
                "--quorum",
                "3",
            ],
            "a quorum of 3 can never be met where 2 updates end a round",
        ),
    ] {
        let run = Run::of(&[&["--body", "native", "--clients", "4"], flags].concat());
        assert_eq!(run.said.status, Some(2), "{run:?}");
        assert!(run.said.err.contains(why), "{run:?}");
        assert!(!run.out().exists());
    }
}

#[test]
fn what_was_done_by_hand_is_still_told_after_a_resume() {
    let mut command = zfl();
    let token = format!("--dashboard-token={TOKEN}");
    let more = ["--clients", "4", "--rounds", "100000", &token];
    command.arg("run").args(small(&more));
    let mut live = Live::start_as(&mut command);
    let page = Page::of(&live);
    live.wait_for_round(2);
    page.act(1, TOKEN, "kill", "device 1 is killed");
    let event = live.wait_for("the kill", |event| event["what"] == "fault");
    let round = event["detail"]["round"].as_u64().unwrap();
    // Complete rounds are what a resumed run has of the one before.
    live.wait_for_round(round + 2);
    signal(live.pid(), "INT");
    let run = live.finish();
    let rounds = run.summary()["rounds_completed"].as_u64().unwrap() + 1;
    let rounds = ["--rounds", &rounds.to_string()];
    let resumed = finish(zfl().args(["run", "--resume"]).arg(run.out()).args(rounds));
    assert_eq!(resumed.status, Some(0), "{resumed:?}");
    assert!(
        resumed.out.contains("1 kill, from the dashboard"),
        "{resumed:?}"
    );
    assert_eq!(run.summary()["by_hand"], serde_json::json!({"kill": 1}));
}
