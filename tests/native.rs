//! Whole runs on native devices: what a run leaves behind, that it can be repeated, and what it does
//! when it cannot go on.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::{Live, Run, SMALL, finish, folder, signal, wait_until, zfl};

fn small<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SMALL, more].concat()
}

fn rows(path: &Path) -> usize {
    fs::read_to_string(path).unwrap().lines().count() - 1
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
    let mut client = zfl();
    client.args([
        "client", "-c", "3", "-e", "2", "-b", "77", "--server", &address,
    ]);
    let client = Live::start_as(&mut client).finish();
    let server = server.finish();
    assert_eq!(client.said.status, Some(0), "{client:?}");
    assert_eq!(server.said.status, Some(0), "{server:?}");
    assert_eq!(server.summary()["rounds_completed"], 2);
    assert!(!server.said.out.contains("dashboard"), "{server:?}");
    let log = fs::read_to_string(client.out().join("serial/0.log")).unwrap();
    assert!(
        log.contains("training 2 epochs") && log.contains("batch 77"),
        "{log}"
    );
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

/// What a server's page answers at a path.
fn answer(page: &str, path: &str) -> String {
    let host = page.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(host).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
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
    assert_eq!(said.status, Some(1), "{said:?}");
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
    assert_eq!(said.status, Some(1), "{said:?}");
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
    assert_eq!(said.status, Some(1), "{said:?}");
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
