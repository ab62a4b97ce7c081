//! Seeds of the corpora that are no plain text: `examples/seeds.rs` writes them.

use crate::archive::pack;
use crate::idx::{IMAGES, LABELS};
use crate::{
    aggregator, device, gateway, hub, message, model, radio, radio_line, relay, run_dir, sums,
};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use zfl_run_dir::{
    ClientRecord, Event, EventLog, PARTITION, Record, RoundEnd, RoundPhase, RoundRecord, RunDir,
    StatePart, Traffic,
};

/// Seeds as (target, file, content).
pub fn all() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let of = |target: &'static str, seeds: Vec<(&'static str, Vec<u8>)>| {
        seeds
            .into_iter()
            .map(move |(name, content)| (target, name, content))
    };
    let mut seeds = idx();
    seeds.extend(run_dirs());
    seeds.extend(of("aggregator-request", aggregator::seeds()));
    seeds.extend(of("device-request", device::requests()));
    seeds.extend(of("device-answer", device::answers()));
    seeds.extend(of("gateway-answer", gateway::answers()));
    seeds.extend(of("gateway-request", gateway::requests()));
    seeds.extend(of("hub", hub::seeds()));
    seeds.extend(of("message", message::seeds()));
    seeds.extend(of("model", model::seeds()));
    seeds.extend(of("radio", radio::seeds()));
    seeds.extend(of("radio-line", radio_line::seeds()));
    seeds.extend(of("relay", relay::seeds()));
    seeds.extend(of("sums", sums::seeds()));
    seeds
}

fn idx() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let bomb = gzip(&[&IMAGES[..4], &[0xff; 12], &[0; 1 << 16]].concat());
    let huge = [&IMAGES[..4], &[0xff; 12]].concat();
    let doubled = [gzip(&IMAGES[..10]), gzip(&IMAGES[10..])].concat();
    vec![
        ("idx", "valid-images", IMAGES.to_vec()),
        ("idx", "valid-labels", LABELS.to_vec()),
        ("idx", "valid-images-gzip", gzip(IMAGES)),
        ("idx", "valid-images-gzip-in-two-members", doubled),
        ("idx", "valid-labels-gzip", gzip(LABELS)),
        ("idx", "torn-images", IMAGES[..19].to_vec()),
        ("idx", "torn-header", IMAGES[..9].to_vec()),
        ("idx", "torn-gzip", gzip(IMAGES)[..20].to_vec()),
        ("idx", "hostile-sizes", huge),
        ("idx", "hostile-gzip-of-huge-sizes", bomb),
        ("idx", "hostile-one-too-many", [IMAGES, &[0]].concat()),
        (
            "idx",
            "hostile-floats",
            [&[0, 0, 0x0d, 1], &LABELS[4..]].concat(),
        ),
    ]
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(content).and_then(|()| encoder.finish());
    written.expect("memory takes what is written")
}

fn run_dirs() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let files = run();
    let file = |name: &str| {
        let found = files.iter().find(|(of, _)| *of == name);
        found.map_or(&[][..], |(_, content)| content)
    };
    let with = |changed: &str, content: &[u8]| {
        pack(files.iter().map(|(name, own)| match *name == changed {
            true => (*name, content),
            false => (*name, &own[..]),
        }))
    };
    let cut = |name: &str, octets: usize| {
        let content = file(name);
        with(name, &content[..content.len() - octets])
    };
    let without_model = files.iter().filter(|(name, _)| !name.starts_with("model"));
    let without_checkpoint = files.iter().filter(|(name, _)| *name != "checkpoint.json");
    let ahead = [file("rounds.csv"), b"4294967295,1,1,1,0,1,1,1,1,1\n"].concat();
    let quoted = [file("clients.csv"), b"2,0,\"\n"].concat();
    let not_finite = String::from_utf8_lossy(file("rounds.csv")).replace("0.5", "inf");
    vec![
        ("run-dir", "valid-broken-off", with("", b"")),
        ("run-dir", "valid-torn-event", cut("events.jsonl", 9)),
        ("run-dir", "torn-row-of-a-round", cut("rounds.csv", 9)),
        ("run-dir", "torn-row-of-a-client", cut("clients.csv", 5)),
        ("run-dir", "torn-model", cut("model.safetensors", 3)),
        ("run-dir", "torn-state", cut("state/rule-1.safetensors", 3)),
        ("run-dir", "torn-no-events", with("events.jsonl", b"")),
        (
            "run-dir",
            "torn-no-model",
            pack(without_model.map(|(name, content)| (*name, &content[..]))),
        ),
        (
            "run-dir",
            "torn-no-checkpoint",
            pack(without_checkpoint.map(|(name, content)| (*name, &content[..]))),
        ),
        ("run-dir", "hostile-round-ahead", with("rounds.csv", &ahead)),
        ("run-dir", "hostile-quote", with("clients.csv", &quoted)),
        (
            "run-dir",
            "hostile-infinite-time",
            with("rounds.csv", not_finite.as_bytes()),
        ),
        (
            "run-dir",
            "hostile-meta",
            with("meta.json", b"{\"clients\":4294967295}"),
        ),
        (
            "run-dir",
            "hostile-octets",
            with("events.jsonl", &[0xff; 64]),
        ),
    ]
}

/// Files of a run of two clients that was broken off in round 2.
fn run() -> Vec<(&'static str, Vec<u8>)> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut run = RunDir::create(folder.path()).expect("a run directory");
    let partition = b"client,examples,0,1\n0,10,5,5\n1,10,10,0\n";
    run.keep(PARTITION, partition).expect("a file");
    let mut events = run.events().expect("a file");
    let mut number = 0;
    let mut log = |events: &mut EventLog, event| {
        let record = Record {
            time_ms: 100 * number,
            at: "2026-11-26T12:00:00.000Z".into(),
            event,
        };
        events.append(&record);
        number += 1;
    };
    let started = Event::RunStarted {
        attackers: Vec::new(),
        clients: 2,
        rounds: 3,
        address: "192.0.2.1:8080".into(),
    };
    log(&mut events, started);
    for client in 0..2 {
        let joined = Event::ClientJoined {
            client,
            address: format!("192.0.2.{}:80", 2 + client),
            again: false,
        };
        log(&mut events, joined);
        log(&mut events, Event::ClientReady { client });
    }
    for number in 0..=1 {
        let phase = RoundPhase::Training;
        let entered = Event::PhaseEntered {
            round: number,
            phase,
        };
        log(&mut events, entered);
        let record = complete(&mut run, number, &events);
        log(&mut events, Event::RoundFinished { record });
    }
    let phase = RoundPhase::Training;
    log(&mut events, Event::PhaseEntered { round: 2, phase });
    let lost = Event::ClientLost {
        client: 1,
        reason: "killed".into(),
        comes_back: false,
    };
    log(&mut events, lost);
    let meta = b"{\"name\":\"seed\",\"clients\":2,\"rounds\":3}\n";
    run.replace("meta.json", meta).expect("a file");
    let names = [
        "checkpoint.json",
        "clients.csv",
        "events.jsonl",
        "meta.json",
        PARTITION,
        "rounds.csv",
        "traffic.csv",
        "state/client-0-1.safetensors",
        "state/rule-1.safetensors",
        RunDir::MODEL,
    ];
    let read = |name| std::fs::read(folder.path().join(name)).expect("a file of the run");
    names.map(|name| (name, read(name))).into()
}

/// Makes a round complete of which the last event is not written yet.
pub(crate) fn complete(run: &mut RunDir, number: u32, events: &EventLog) -> RoundRecord {
    let record = round(number);
    let failed = ClientRecord::without_update(number, 1, 10, "lost: it crashed".into());
    run.round(&record, &[failed]).expect("a row");
    let traffic = Traffic {
        round: number,
        client: 0,
        bytes_up: 4711,
        bytes_down: 512,
    };
    run.traffic(&[traffic]).expect("a row");
    let mut state = run.state().clone();
    for name in ["rule", "client-0"] {
        let part = StatePart {
            text: String::new(),
            round: number,
            numbers: [("weight".to_owned(), 0.5)].into(),
            vectors: [("variate".to_owned(), vec![0.5, -1.0])].into(),
        };
        state.write(name, &part).expect("a part of the state");
    }
    let end = RoundEnd {
        round: number,
        gone: [(1, "it crashed".to_owned())].into(),
        events: events.seal(),
        state,
    };
    let params = [0.25, -1.0, 0.0, 1e-40, 3.5, f32::MAX];
    run.complete(end, &run_dir::model(), &params)
        .expect("a round");
    record
}

/// A row of `rounds.csv`; columns that are added later may be left out.
fn round(round: u32) -> RoundRecord {
    let record = serde_json::json!({
        "round": round, "cohort_size": 2, "results": 1, "failures": 1, "rejected": 0, "late": 0,
        "train_loss": 0.5, "test_loss": 0.5, "test_accuracy": 0.5, "bytes_up": 4711, "bytes_down": 512,
        "wait_s": 0.5, "start_s": 0.5, "train_s": 0.5, "slowest_train_s": 0.5, "aggregate_s": 0.5,
        "eval_s": 0.5, "round_s": 0.5, "elapsed_s": 0.5,
    });
    serde_json::from_value(record).expect("a row")
}
