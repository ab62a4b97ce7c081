//! HTTP on the device's side: requests that it is sent, and answers that it is given, in pieces.

use crate::Verdict;
use fl_client::{Activity, Config, Device, Port, PortError};
use fl_proto::message::{self, Kind, MODEL, Outgoing};
use fl_proto::{Params, Welcome, codec, json};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

/// Layers of the model, and examples of the device.
const LAYERS: [u32; 2] = [2, 2];
const EXAMPLES: usize = 3;

/// A question of the aggregator, which knows the word of a machine without randomness.
const READY: &[u8] = b"GET /ready HTTP/1.1\r\nZfl-Word: 00000000000000000000000000000000\r\n\r\n";

/// Turns of a device within which every exchange here ends.
const TURNS: u32 = 20_000;

/// Checks the requests that an aggregator could send: the answer is the same however they are cut into
/// pieces, and the device goes on answering.
pub(crate) fn check_request(input: &[u8]) -> Verdict {
    let whole = answer_to(input, usize::MAX);
    for piece in [1, 7, 100] {
        let in_pieces = answer_to(input, piece);
        // A device that has read the body so far does not look for octets behind it.
        let is_alike = in_pieces == whole || whole.contains("behind the body");
        assert!(
            is_alike,
            "whole: {whole}\nin pieces of {piece}: {in_pieces}"
        );
    }
    let taken = whole.starts_with("HTTP/1.1 2");
    if taken {
        Verdict::Accepted
    } else {
        Verdict::Refused
    }
}

/// Checks the answers that an aggregator could give to a device that joins and fetches its data: the
/// device asks on or stops.
pub(crate) fn check_answer(input: &[u8]) -> Verdict {
    let [whole, ..] = [usize::MAX, 1, 7].map(|piece| {
        let mut device = Device::new(Config::default());
        let mut wire = Wire::new(piece, Answers::Raw(input.to_vec()));
        let asked_again = |wire: &Wire| wire.asked > 3;
        turn_until(&mut device, &mut wire, asked_again);
        device.id().is_some()
    });
    if whole {
        Verdict::Accepted
    } else {
        Verdict::Refused
    }
}

/// Answer of a device that is ready to a request in pieces of at most so many octets.
fn answer_to(request: &[u8], piece: usize) -> String {
    let mut device = Device::new(Config::default());
    let mut wire = Wire::new(piece, Answers::Genuine);
    let ready = ask(&mut device, &mut wire, READY, |answer| {
        answer.starts_with("HTTP/1.1 200")
    });
    assert!(ready.contains("\"ready\""), "{ready}");
    let answer = ask(&mut device, &mut wire, request, |_| true);
    let still = ask(&mut device, &mut wire, READY, |_| true);
    assert!(still.is_empty() == wire.is_stopped, "{still}");
    answer
}

/// Sends a request again and again until its answer is the wanted one.
fn ask(
    device: &mut Device<Wire>,
    wire: &mut Wire,
    request: &[u8],
    is_wanted: impl Fn(&str) -> bool,
) -> String {
    for _ in 0..TURNS {
        let said = wire.send(request);
        turn_until(device, wire, |wire| wire.is_closed);
        let answer = String::from_utf8_lossy(&said.borrow()).into_owned();
        if wire.is_stopped || is_wanted(&answer) {
            return answer;
        }
    }
    panic!("no answer: {:?}", wire.log);
}

fn turn_until(device: &mut Device<Wire>, wire: &mut Wire, is_over: impl Fn(&Wire) -> bool) {
    for _ in 0..TURNS {
        if is_over(wire) || wire.is_stopped {
            return;
        }
        match device.poll(wire) {
            Activity::Busy => {}
            Activity::Idle { wake_at_us } => {
                wire.now_us = wake_at_us.unwrap_or(0).max(wire.now_us + 1);
            }
            Activity::Stopped => wire.is_stopped = true,
        }
    }
}

/// Answers of the aggregator to the device's own requests.
enum Answers {
    /// Those of a real one.
    Genuine,
    /// These octets, whatever is asked.
    Raw(Vec<u8>),
}

/// A machine whose streams deliver in pieces of at most so many octets.
struct Wire {
    now_us: u64,
    piece: usize,
    answers: Answers,
    incoming: Option<Stream>,
    /// Connections that the device has opened.
    asked: u32,
    is_closed: bool,
    is_stopped: bool,
    log: Vec<String>,
}

struct Stream {
    to_device: VecDeque<u8>,
    from_device: Rc<RefCell<Vec<u8>>>,
    is_incoming: bool,
    is_answered: bool,
}

impl Wire {
    fn new(piece: usize, answers: Answers) -> Self {
        Self {
            now_us: 0,
            piece,
            answers,
            incoming: None,
            asked: 0,
            is_closed: false,
            is_stopped: false,
            log: Vec::new(),
        }
    }

    /// Opens a stream to the device with a request in it; the answer appears in the buffer.
    fn send(&mut self, request: &[u8]) -> Rc<RefCell<Vec<u8>>> {
        let stream = Stream {
            to_device: request.iter().copied().collect(),
            from_device: Rc::default(),
            is_incoming: true,
            is_answered: true,
        };
        let said = stream.from_device.clone();
        self.is_closed = false;
        self.incoming = Some(stream);
        said
    }

    fn answer(&self, request: &[u8]) -> Vec<u8> {
        let Answers::Genuine = &self.answers else {
            let Answers::Raw(octets) = &self.answers else {
                unreachable!()
            };
            return octets.clone();
        };
        let path = String::from_utf8_lossy(request);
        let body = match path.split([' ', '?']).nth(1) {
            Some("/id") => welcome(),
            Some("/training-data") => vec![7; EXAMPLES * LAYERS[0] as usize],
            Some("/training-labels") => vec![1; EXAMPLES],
            _ => Vec::new(),
        };
        response(&body)
    }
}

impl Port for Wire {
    type Connection = Stream;

    fn accept(&mut self) -> Option<Stream> {
        self.incoming.take()
    }

    fn connect(&mut self) -> Result<Stream, PortError> {
        self.asked += 1;
        Ok(Stream {
            to_device: VecDeque::new(),
            from_device: Rc::default(),
            is_incoming: false,
            is_answered: false,
        })
    }

    fn read(&mut self, stream: &mut Stream, buffer: &mut [u8]) -> Result<usize, PortError> {
        if !stream.is_answered {
            let request = stream.from_device.borrow();
            if !request.windows(4).any(|end| end == b"\r\n\r\n") {
                return Err(PortError::WouldBlock);
            }
            stream.to_device = self.answer(&request).into();
            stream.is_answered = true;
        }
        let n = stream.to_device.len().min(self.piece).min(buffer.len());
        for (slot, octet) in buffer.iter_mut().zip(stream.to_device.drain(..n)) {
            *slot = octet;
        }
        Ok(n)
    }

    fn write(&mut self, stream: &mut Stream, octets: &[u8]) -> Result<usize, PortError> {
        let n = octets.len().min(self.piece);
        stream.from_device.borrow_mut().extend(&octets[..n]);
        Ok(n)
    }

    fn close(&mut self, stream: Stream) {
        self.is_closed |= stream.is_incoming;
    }

    fn now_us(&mut self) -> u64 {
        self.now_us
    }

    fn random(&mut self) -> [u8; 16] {
        [0; 16]
    }

    fn log(&mut self, line: fmt::Arguments<'_>) {
        self.log.push(line.to_string());
    }
}

fn response(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn welcome() -> Vec<u8> {
    let welcome = Welcome {
        protocol: fl_proto::PROTOCOL_VERSION,
        id: 3,
        num_examples: EXAMPLES as u32,
        layers: LAYERS.into_iter().collect(),
        activation: fl_proto::Activation::Relu,
        seed: 42,
        rule: "fedavg".try_into().expect("a name"),
        params: Params::new(),
        encoding_up: "f32".try_into().expect("a name"),
        encoding_down: "f32".try_into().expect("a name"),
        encoding_args: fl_proto::Params::new(),
        holdout: 0,
    };
    let mut buffer = [0; fl_proto::MAX_CONTROL_BYTES];
    let len = json::encode(&welcome, &mut buffer).expect("a welcome fits");
    buffer[..len].to_vec()
}

/// Seeds of [`check_request`].
pub(crate) fn requests() -> Vec<(&'static str, Vec<u8>)> {
    const WORD: &str = "Zfl-Word: 00000000000000000000000000000000\r\n";
    let with_word =
        |first: &str, rest: &str| format!("{first} HTTP/1.1\r\n{WORD}{rest}").into_bytes();
    let control =
        br#"{"round":1,"token":"k7Qw2xA9","local_epochs":1,"batch_size":2,"learning_rate":0.5}"#;
    let start = |numbers: &[f32], codec: &str| {
        let codec = codec::by_name(codec).expect("a codec");
        let section = Outgoing {
            name: MODEL,
            codec,
            plan: codec::Encoding::new(codec).plan(&[], 1),
            numbers,
        };
        message::encode(Kind::Start, control, &[section]).expect("a message")
    };
    let post = |length: usize, body: &[u8]| {
        let head = format!(
            "POST /start HTTP/1.1\r\nHost: 192.0.2.2\r\n{WORD}Content-Type: application/octet-stream\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        [head.as_bytes(), body].concat()
    };
    let body = start(&[0.25; 6], "f32");
    let len = body.len();
    let halves = start(&[0.25; 6], "f16");
    let not_finite = start(&[f32::NAN; 6], "f32");
    let too_many = start(&[0.25; 7], "f32");
    let long_head = [b"GET /ready HTTP/1.1\r\nX: ", &[b'a'; 4000][..]].concat();
    vec![
        (
            "valid-ready",
            with_word("GET /ready", "Host: 127.0.0.1:10003\r\n\r\n"),
        ),
        (
            "valid-stop",
            with_word("POST /stop", "Content-Length: 0\r\n\r\n"),
        ),
        ("valid-start", post(len, &body)),
        ("valid-start-in-halves", post(halves.len(), &halves)),
        ("hostile-no-word", b"POST /stop HTTP/1.1\r\n\r\n".to_vec()),
        (
            "hostile-other-word",
            b"POST /stop HTTP/1.1\r\nZfl-Word: 0000000000000000000000000000000\r\n\r\n".to_vec(),
        ),
        (
            "hostile-page",
            with_word("POST /stop", "Origin: http://evil.example\r\n\r\n"),
        ),
        (
            "hostile-host",
            with_word("POST /stop", "Host: [::1]evil.example:80:80\r\n\r\n"),
        ),
        ("torn-head", b"GET /ready HTTP/1.1\r\nHo".to_vec()),
        ("torn-start", post(len, &body[..len - 3])),
        ("hostile-length", post(usize::MAX, &body)),
        (
            "hostile-octets-behind",
            post(len, &[&body[..], b"more"].concat()),
        ),
        ("hostile-not-finite", post(not_finite.len(), &not_finite)),
        ("hostile-too-many-numbers", post(too_many.len(), &too_many)),
        ("hostile-long-head", long_head),
        (
            "hostile-two-lengths",
            with_word(
                "POST /start",
                "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            ),
        ),
        (
            "hostile-chunks",
            with_word(
                "POST /start",
                "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            ),
        ),
        (
            "hostile-bare-line-feeds",
            b"GET /ready HTTP/1.1\n\n\r\n\r\n".to_vec(),
        ),
    ]
}

/// Seeds of [`check_answer`].
pub(crate) fn answers() -> Vec<(&'static str, Vec<u8>)> {
    let welcome = response(&welcome());
    let text = String::from_utf8_lossy(&welcome).into_owned();
    let changed = |from: &str, to: &str| text.replace(from, to).into_bytes();
    vec![
        ("torn-head", welcome[..20].to_vec()),
        ("torn-body", welcome[..welcome.len() - 5].to_vec()),
        (
            "hostile-examples",
            changed("\"num_examples\":3", "\"num_examples\":4294967295"),
        ),
        (
            "hostile-layers",
            changed("[2,2]", "[4294967295,4294967295]"),
        ),
        (
            "hostile-length",
            changed("Content-Length: ", "Content-Length: 99999999999999999999"),
        ),
        ("hostile-no-length", b"HTTP/1.1 200 OK\r\n\r\n{}".to_vec()),
        (
            "hostile-refusal",
            b"HTTP/1.1 409 Conflict\r\nContent-Length: 13\r\n\r\n{\"error\":\"\x1b\"}".to_vec(),
        ),
        (
            "hostile-status",
            b"HTTP/1.1 99999 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
        ),
        ("valid-welcome", welcome),
    ]
}
