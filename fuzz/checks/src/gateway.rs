//! HTTP on the side of a gateway in firmware: requests that devices and the aggregator above send it, and answers that
//! these give it, in pieces.

use crate::Verdict;
use fl_algo::MODEL;
use fl_client::{Activity, Port, PortError};
use fl_edge::{Config, Edge};
use fl_proto::cluster::{Brief, COHORT, LOCAL};
use fl_proto::codec::{F32, Plan};
use fl_proto::message::{self, Kind, Outgoing};
use fl_proto::{Params, Welcome, Word};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;

/// Numbers of the model, clients of the cluster, and examples of each.
const NUMBERS: usize = 6;
const CLIENTS: u32 = 2;
const EXAMPLES: u32 = 3;

const ROOT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 8000);
const DEALER: u16 = 9000;
/// Address of whoever asks the gateway.
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

/// Word of a machine without randomness.
const WORD: &str = "Zfl-Word: 00000000000000000000000000000000\r\n";
const READY: &[u8] = b"GET /ready HTTP/1.1\r\nZfl-Word: 00000000000000000000000000000000\r\n\r\n";

/// Turns of a gateway within which every exchange here ends.
const TURNS: u32 = 20_000;

/// Checks a request to a gateway that has joined: the answer is the same however the request is cut into pieces, and
/// the gateway goes on answering.
pub(crate) fn check_request(input: &[u8]) -> Verdict {
    let whole = answer_to(input, usize::MAX);
    for piece in [1, 7, 100] {
        let in_pieces = answer_to(input, piece);
        // Octets behind a body are looked for in what has come with it.
        let is_alike = in_pieces == whole || whole.contains("behind the body");
        assert!(
            is_alike,
            "whole: {whole}\nin pieces of {piece}: {in_pieces}"
        );
    }
    assert!(!whole.starts_with("HTTP/1.1 500"), "{whole}");
    match whole.starts_with("HTTP/1.1 2") {
        true => Verdict::Accepted,
        false => Verdict::Refused,
    }
}

/// Checks an answer to whatever a gateway asks while it joins: it has joined, asks on, or stops. The input is the
/// answer to `/id`, two zeros, and the answer to all else.
pub(crate) fn check_answer(input: &[u8]) -> Verdict {
    let at = input.windows(2).position(|two| two == [0, 0]);
    let (welcome, brief) = match at {
        Some(at) => (&input[..at], &input[at + 2..]),
        None => (input, &b""[..]),
    };
    let [whole, ..] = [usize::MAX, 1, 7].map(|piece| {
        let mut lan = Lan::new(piece);
        (lan.welcome, lan.brief) = (welcome.to_vec(), brief.to_vec());
        let mut edge = edge();
        turn_until(&mut edge, &mut lan, |lan| lan.asked > 6);
        lan.has_reported
    });
    match whole {
        true => Verdict::Accepted,
        false => Verdict::Refused,
    }
}

fn edge() -> Edge<Lan> {
    Edge::new(Config {
        id: CLIENTS,
        http_port: 80,
        server: ROOT,
        secret: None,
    })
}

/// Answer of a gateway that has joined, and one of whose devices has, to a request in pieces of at most so many octets.
fn answer_to(request: &[u8], piece: usize) -> String {
    let mut lan = Lan::new(piece);
    let mut edge = edge();
    turn_until(&mut edge, &mut lan, |lan| lan.has_reported);
    assert!(lan.has_reported, "{:?}", lan.log);
    let join = format!("GET /id?client=0&port=80 HTTP/1.1\r\n{WORD}\r\n");
    let joined = ask(&mut edge, &mut lan, join.as_bytes());
    assert!(joined.starts_with("HTTP/1.1 200"), "{joined}");
    let answer = ask(&mut edge, &mut lan, request);
    let still = ask(&mut edge, &mut lan, READY);
    assert!(
        lan.is_stopped || still.starts_with("HTTP/1.1 200"),
        "{still}"
    );
    answer
}

fn ask(edge: &mut Edge<Lan>, lan: &mut Lan, request: &[u8]) -> String {
    let said = lan.send(request);
    turn_until(edge, lan, |lan| lan.is_closed);
    String::from_utf8_lossy(&said.borrow()).into_owned()
}

fn turn_until(edge: &mut Edge<Lan>, lan: &mut Lan, is_over: impl Fn(&Lan) -> bool) {
    for _ in 0..TURNS {
        if lan.is_stopped || is_over(lan) {
            return;
        }
        match edge.poll(lan) {
            Activity::Busy => {}
            Activity::Idle { wake_at_us } => {
                lan.now_us = wake_at_us.unwrap_or(0).max(lan.now_us + 1);
            }
            Activity::Stopped => lan.is_stopped = true,
        }
    }
}

/// A machine among others, whose streams deliver in pieces of at most so many octets.
struct Lan {
    now_us: u64,
    piece: usize,
    /// Answers of the aggregator above to `/id`, and to `/cluster`.
    welcome: Vec<u8>,
    brief: Vec<u8>,
    incoming: Option<Stream>,
    /// Connections that the gateway has opened.
    asked: u32,
    has_reported: bool,
    is_closed: bool,
    is_stopped: bool,
    log: Vec<String>,
}

struct Stream {
    to_gateway: VecDeque<u8>,
    from_gateway: Rc<RefCell<Vec<u8>>>,
    /// Far end of one that was opened here.
    to: Option<SocketAddrV4>,
    is_answered: bool,
}

impl Lan {
    fn new(piece: usize) -> Self {
        Self {
            now_us: 0,
            piece,
            welcome: response(&serde_json::to_vec(&welcome()).expect("a welcome")),
            brief: response(&serde_json::to_vec(&brief()).expect("a brief")),
            incoming: None,
            asked: 0,
            has_reported: false,
            is_closed: false,
            is_stopped: false,
            log: Vec::new(),
        }
    }

    /// Opens a stream to the gateway with a request in it; the answer appears in the buffer.
    fn send(&mut self, request: &[u8]) -> Rc<RefCell<Vec<u8>>> {
        let stream = Stream {
            to_gateway: request.iter().copied().collect(),
            from_gateway: Rc::default(),
            to: None,
            is_answered: true,
        };
        let said = stream.from_gateway.clone();
        self.is_closed = false;
        self.incoming = Some(stream);
        said
    }

    fn answer(&mut self, to: SocketAddrV4, request: &[u8]) -> Vec<u8> {
        if to.port() == DEALER {
            return response(&[1; EXAMPLES as usize]);
        }
        let head = String::from_utf8_lossy(request);
        let mut words = head.split([' ', '?']);
        match (words.next(), words.next()) {
            (Some("GET"), Some("/id")) => self.welcome.clone(),
            (Some("GET"), Some("/cluster")) => self.brief.clone(),
            (Some("POST"), Some("/cluster")) => {
                self.has_reported = true;
                response(b"{}")
            }
            _ => response(b"{}"),
        }
    }
}

impl Port for Lan {
    type Connection = Stream;

    fn accept(&mut self) -> Option<Stream> {
        self.incoming.take()
    }

    fn connect(&mut self) -> Result<Stream, PortError> {
        self.connect_to(ROOT)
    }

    fn connect_to(&mut self, to: SocketAddrV4) -> Result<Stream, PortError> {
        self.asked += 1;
        Ok(Stream {
            to_gateway: VecDeque::new(),
            from_gateway: Rc::default(),
            to: Some(to),
            is_answered: false,
        })
    }

    fn peer(&mut self, stream: &Stream) -> Option<Ipv4Addr> {
        Some(stream.to.map_or(PEER, |to| *to.ip()))
    }

    fn read(&mut self, stream: &mut Stream, buffer: &mut [u8]) -> Result<usize, PortError> {
        if let Some(to) = stream.to.filter(|_| !stream.is_answered) {
            let request = stream.from_gateway.borrow().clone();
            if !request.windows(4).any(|end| end == b"\r\n\r\n") {
                return Err(PortError::WouldBlock);
            }
            stream.to_gateway = self.answer(to, &request).into();
            stream.is_answered = true;
        }
        let n = stream.to_gateway.len().min(self.piece).min(buffer.len());
        for (slot, octet) in buffer.iter_mut().zip(stream.to_gateway.drain(..n)) {
            *slot = octet;
        }
        Ok(n)
    }

    fn write(&mut self, stream: &mut Stream, octets: &[u8]) -> Result<usize, PortError> {
        let n = octets.len().min(self.piece);
        stream.from_gateway.borrow_mut().extend(&octets[..n]);
        Ok(n)
    }

    fn close(&mut self, stream: Stream) {
        self.is_closed |= stream.to.is_none();
    }

    fn now_us(&mut self) -> u64 {
        self.now_us
    }

    fn random(&mut self) -> [u8; Word::RANDOM_BYTES] {
        [0; Word::RANDOM_BYTES]
    }

    fn log(&mut self, line: fmt::Arguments<'_>) {
        self.log.push(line.to_string());
    }
}

fn response(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn welcome() -> Welcome {
    Welcome {
        protocol: fl_proto::PROTOCOL_VERSION,
        id: CLIENTS,
        num_examples: CLIENTS * EXAMPLES,
        layers: [2, 2].into_iter().collect(),
        activation: fl_proto::Activation::Relu,
        seed: 42,
        rule: "fedavg".try_into().expect("a name"),
        params: Params::new(),
        encoding_up: "f32".try_into().expect("a name"),
        encoding_down: "f32".try_into().expect("a name"),
        encoding_args: Params::new(),
        holdout: 0,
    }
}

fn brief() -> Brief {
    Brief {
        first: 0,
        examples: vec![EXAMPLES; CLIENTS as usize],
        addresses: Vec::new(),
        numbers: NUMBERS as u32,
        uniform: false,
        data_port: DEALER,
        ready_ms: 1_000,
        round_ms: 5_000,
        start_ms: 500,
    }
}

fn section<'a>(name: &'a str, numbers: &'a [f32]) -> Outgoing<'a> {
    Outgoing {
        name,
        codec: &F32,
        plan: Plan::default(),
        numbers,
    }
}

/// Seeds of [`check_request`].
pub(crate) fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let with_word =
        |first: &str, rest: &str| format!("{first} HTTP/1.1\r\n{WORD}{rest}\r\n").into_bytes();
    let posted = |target: &str, body: &[u8]| {
        let head = format!(
            "POST {target} HTTP/1.1\r\n{WORD}Content-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let control =
        br#"{"round":1,"token":"k7Qw2xA9","local_epochs":1,"batch_size":2,"learning_rate":0.5}"#;
    let order = |model: &[f32], cohort: &[f32], local: &[f32]| {
        let sections = [
            section(MODEL, model),
            section(COHORT, cohort),
            section(LOCAL, local),
        ];
        posted(
            "/start",
            &message::encode(Kind::Start, control, &sections).expect("a message"),
        )
    };
    let (model, cohort) = ([0.25; NUMBERS], [0.0, 0.0, 1.0, 0.0]);
    let local = [0.5, 1.0, 2.0, 0.5, 1.0, 2.0];
    let whole = order(&model, &cohort, &local);
    let results = br#"{"round":1,"token":"k7Qw2xA9","num_examples":3,"steps":2,"loss":0.5}"#;
    let update = message::encode(Kind::Results, results, &[section(MODEL, &model)]);
    vec![
        (
            "valid-ready",
            with_word("GET /ready", "Host: 192.0.2.2\r\n"),
        ),
        ("valid-join", with_word("GET /id?client=1&port=80", "")),
        ("valid-labels", with_word("GET /training-labels?id=0", "")),
        ("valid-lost", with_word("POST /lost?client=1", "")),
        (
            "valid-stop",
            with_word("POST /stop", "Content-Length: 0\r\n"),
        ),
        ("torn-order", whole[..whole.len() - 9].to_vec()),
        ("valid-order", whole),
        (
            "hostile-order-without-end",
            order(&model, &[f32::INFINITY; 4], &[f32::NAN; 6]),
        ),
        (
            "hostile-order-of-others",
            order(&model, &[9.0, 0.0], &local),
        ),
        ("hostile-order-too-long", order(&[0.5; 7], &cohort, &local)),
        (
            "hostile-update-nobody-asked-for",
            posted("/results?id=0", &update.expect("a message")),
        ),
        (
            "hostile-lost-stranger",
            b"POST /lost?client=1 HTTP/1.1\r\n\r\n".to_vec(),
        ),
        (
            "hostile-lost-of-others",
            with_word("POST /lost?client=4294967295", ""),
        ),
        (
            "hostile-join-of-others",
            with_word("GET /id?client=4294967295&port=0", ""),
        ),
        (
            "hostile-length",
            with_word("POST /start", "Content-Length: 18446744073709551615\r\n"),
        ),
        (
            "hostile-chunks",
            with_word("POST /results?id=0", "Transfer-Encoding: chunked\r\n"),
        ),
        ("torn-head", b"GET /id?client=1&po".to_vec()),
    ]
}

/// Seeds of [`check_answer`].
pub(crate) fn answers() -> Vec<(&'static str, Vec<u8>)> {
    let text = |brief: &Brief| serde_json::to_vec(brief).expect("a brief");
    let welcome = response(&serde_json::to_vec(&welcome()).expect("a welcome"));
    let with = |brief: Vec<u8>| [&welcome[..], &[0, 0], &response(&brief)].concat();
    let changed = |change: fn(&mut Brief)| {
        let mut brief = brief();
        change(&mut brief);
        with(text(&brief))
    };
    let whole = with(text(&brief()));
    vec![
        ("torn-welcome", welcome[..40].to_vec()),
        ("torn-brief", whole[..whole.len() - 7].to_vec()),
        ("valid-brief", whole),
        ("hostile-numbers", changed(|brief| brief.numbers = u32::MAX)),
        ("hostile-first", changed(|brief| brief.first = u32::MAX)),
        (
            "hostile-examples",
            changed(|brief| brief.examples = vec![u32::MAX; 3]),
        ),
        (
            "hostile-nobody",
            changed(|brief| brief.examples = Vec::new()),
        ),
        (
            "hostile-address",
            changed(|brief| brief.addresses = vec!["999.0.0.1".try_into().expect("short")]),
        ),
        ("hostile-brief", with(b"[[[[[[[[".to_vec())),
    ]
}
