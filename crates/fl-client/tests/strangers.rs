//! The device among strangers: it obeys its aggregator alone, and nobody holds its places for ever.

mod sim;

use fl_client::Config;
use fl_proto::{Params, Welcome, Word, json};
use sim::{Exchange, Link, Sim, Stream, word_line};

const READY: &str = "GET /ready HTTP/1.1\r\n\r\n";

/// An aggregator that gives two examples of one octet.
fn aggregator(request: &Exchange) -> (u16, Vec<u8>) {
    let target = request.head.split(' ').nth(1).unwrap();
    match target.split('?').next().unwrap() {
        "/id" => {
            let mut buffer = [0; 1024];
            let n = json::encode(&welcome(), &mut buffer).unwrap();
            (200, buffer[..n].to_vec())
        }
        "/training-data" | "/training-labels" => (200, vec![0, 1]),
        other => panic!("the device asked for {other}"),
    }
}

fn welcome() -> Welcome {
    Welcome {
        protocol: fl_proto::PROTOCOL_VERSION,
        id: 0,
        num_examples: 2,
        layers: [1, 2].into_iter().collect(),
        activation: fl_proto::Activation::Relu,
        seed: 1,
        rule: "fedavg".try_into().unwrap(),
        params: Params::new(),
        encoding_up: "f32".try_into().unwrap(),
        encoding_down: "f32".try_into().unwrap(),
        encoding_args: fl_proto::Params::new(),
        holdout: 0,
    }
}

fn joined() -> Sim {
    let mut sim = Sim::new(Config::default(), Link::default(), 1);
    sim.run_until(&mut aggregator, |sim| sim.logged("ready"));
    sim
}

/// The status of the answer to a request as anybody can send it.
fn status(sim: &mut Sim, request: &str) -> u16 {
    let ask = sim.send_as_is(request.as_bytes());
    let answer = sim.wait_for(ask, false, &mut aggregator);
    answer.expect("an answer").status()
}

/// A request with these header lines.
fn with(first: &str, lines: &str) -> String {
    format!("{first} HTTP/1.1\r\n{lines}Content-Length: 0\r\n\r\n")
}

#[test]
fn nobody_but_the_aggregator_is_obeyed() {
    let mut sim = joined();
    let other = format!("{}: {}\r\n", Word::HEADER, Word::random([1; 16]).text());
    for order in ["GET /ready", "POST /start", "POST /stop", "GET /secret"] {
        for lines in ["", &other] {
            let request = with(order, lines);
            assert_eq!(status(&mut sim, &request), 403, "{request}");
        }
    }
    // A page of a browser, even one that knew the word.
    for line in [
        "Origin: http://evil.example\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Host: evil.example\r\n",
    ] {
        let request = with("POST /stop", &(line.to_owned() + &word_line()));
        assert_eq!(status(&mut sim, &request), 403, "{request}");
    }
    assert!(!sim.stopped);
    let host = format!("Host: 127.0.0.1:10003\r\n{}", word_line());
    assert_eq!(status(&mut sim, &with("GET /ready", &host)), 200);
    assert_eq!(status(&mut sim, &with("POST /stop", &host)), 200);
    sim.run_until(&mut aggregator, |sim| sim.stopped);
}

#[test]
fn a_device_that_has_not_joined_is_stopped_by_nobody() {
    let mut sim = Sim::new(Config::default(), Link::default(), 1);
    let mut busy = |_: &Exchange| (503, b"{\"error\":\"later\"}".to_vec());
    let ask = sim.send_as_is(with("POST /stop", "").as_bytes());
    let answer = sim.wait_for(ask, false, &mut busy).unwrap();
    assert_eq!(answer.status(), 503);
    sim.run_until(&mut aggregator, |sim| sim.logged("ready"));
}

#[test]
fn the_word_and_the_secret_travel_in_header_lines_and_never_in_the_url() {
    let secret: Word = "correct-horse-battery".parse().unwrap();
    let config = Config {
        secret: Some(secret),
        ..Config::default()
    };
    let mut sim = Sim::new(config, Link::default(), 1);
    let mut heads = Vec::new();
    let mut keeping = |request: &Exchange| {
        heads.push(request.head.clone());
        aggregator(request)
    };
    sim.run_until(&mut keeping, |sim| sim.logged("ready"));
    let (join, rest) = heads.split_first().unwrap();
    assert!(join.contains(&word_line()), "{join}");
    let line = format!("{}: {}\r\n", Word::SECRET_HEADER, secret.text());
    assert!(join.contains(&line), "{join}");
    let (url, _) = join.split_once("\r\n").unwrap();
    assert!(
        !url.contains(secret.text()) && !url.contains("5a5a"),
        "{url}"
    );
    // The requests that follow have the word, by which they are known to be of the same device.
    for head in rest {
        assert!(
            head.contains(&word_line()) && !head.contains(secret.text()),
            "{head}"
        );
    }
    assert!(!sim.logged(secret.text()) && !sim.logged("5a5a"));
}

#[test]
fn a_device_that_joins_again_gives_its_word_again() {
    let mut sim = joined();
    let mut joins = Vec::new();
    // The aggregator was started anew: it knows nobody.
    let mut anew = |request: &Exchange| {
        if request.head.starts_with("POST /results") {
            return (404, b"{\"error\":\"who is that\"}".to_vec());
        }
        if request.head.starts_with("GET /id") {
            joins.push(request.head.clone());
        }
        aggregator(request)
    };
    let start = br#"{"round":1,"token":"abc","local_epochs":1,"batch_size":1,"learning_rate":0.5}"#;
    let model = fl_proto::message::Outgoing {
        name: fl_proto::message::MODEL,
        codec: &fl_proto::codec::F32,
        plan: fl_proto::codec::Plan::default(),
        numbers: &[0.0; 4],
    };
    let kind = fl_proto::message::Kind::Start;
    let body = fl_proto::message::encode(kind, start, &[model]).unwrap();
    let mut request = format!(
        "POST /start HTTP/1.1\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
        fl_proto::OCTET_STREAM,
        body.len()
    )
    .into_bytes();
    request.extend(body);
    let answer = sim.ask(&request, false, &mut anew).unwrap();
    assert_eq!(answer.status(), 202, "{}", answer.text());
    let has_joined_again = |sim: &Sim| {
        let ready = sim
            .port
            .lines
            .iter()
            .filter(|line| line.as_str() == "ready");
        ready.count() == 2
    };
    sim.run_until(&mut anew, has_joined_again);
    let [join] = &joins[..] else {
        panic!("{joins:?}")
    };
    assert!(join.contains(&word_line()), "{join}");
}

/// Opens streams with these bytes on them, and lets the device look at them.
fn opened(sim: &mut Sim, bytes: &str) -> Vec<Stream> {
    let streams = (0..3).map(|_| sim.open(bytes.as_bytes())).collect();
    for _ in 0..5 {
        sim.turn(false, &mut aggregator);
    }
    streams
}

/// Asks as the aggregator does, and asserts that the device answers at once.
fn is_answered_at_once(sim: &mut Sim) {
    let began_us = sim.port.now_us;
    let answer = sim.ask(READY.as_bytes(), false, &mut aggregator).unwrap();
    assert_eq!(answer.status(), 200);
    assert!(sim.port.now_us < began_us + 1_000_000, "it waited");
}

#[test]
fn half_requests_make_room_for_whole_ones() {
    let mut sim = joined();
    let halves = opened(&mut sim, "GET /re");
    is_answered_at_once(&mut sim);
    // It was the oldest that went, and only that one.
    let closed: Vec<bool> = halves.iter().map(Stream::is_closed).collect();
    assert_eq!(closed, [true, false, false]);
}

#[test]
fn refused_requests_that_linger_make_room_too() {
    let mut sim = joined();
    let refused = opened(&mut sim, &with("POST /stop", ""));
    assert!(!refused.iter().any(Stream::is_closed));
    is_answered_at_once(&mut sim);
}

#[test]
fn a_head_that_drips_is_given_up() {
    let mut sim = joined();
    let drips = opened(&mut sim, "GET /ready HTTP/1.1\r\nX: ");
    let began_us = sim.port.now_us;
    while !drips.iter().all(Stream::is_closed) {
        // A byte now and then, too few to fill the head in time.
        drips.iter().for_each(|drip| drip.put(b"y"));
        sim.port.now_us += 150_000;
        sim.turn(false, &mut aggregator);
        assert!(sim.port.now_us < began_us + 60_000_000, "it waits for ever");
    }
}

#[test]
fn bytes_without_end_behind_a_request_hold_up_nobody() {
    let mut sim = joined();
    let floods = opened(&mut sim, &with("POST /stop", ""));
    floods.iter().for_each(Stream::flood);
    is_answered_at_once(&mut sim);
    let began_us = sim.port.now_us;
    while !floods.iter().all(Stream::is_closed) {
        sim.turn(false, &mut aggregator);
        assert!(sim.port.now_us < began_us + 10_000_000, "it reads for ever");
    }
}
