//! The gateway of a mesh between its leaf and the aggregator: messages that the leaf sends, requests of the aggregator
//! to it, and answers to the leaf's own.

use crate::Verdict;
use fl_exchange::{Net, NetError, Relay};
use fl_radio::{Gateway, Leaf, Pace, Times};
use std::collections::VecDeque;

const MOST: usize = 2048;
/// Label of a message that answers or carries a request of the aggregator.
const FROM_AGGREGATOR: u8 = 0x80;
const PACE: Pace = Pace {
    packet_us: 1_000,
    reply_us: 10_000,
    poll_us: 100_000,
    credit: 16,
    tries: 4,
};
/// Looks at both ends within which every message here has come.
const LOOKS: u32 = 2_000;

/// Kinds of records: a message of the leaf, an answer of the aggregator; else a request of the aggregator.
const OF_LEAF: u8 = 1;
const ANSWER: u8 = 2;

/// The input is records: kind, label, length (2, big endian), octets.
pub(crate) fn check(input: &[u8]) -> Verdict {
    let mut mesh = Mesh::new();
    let mut rest = input;
    while let Some((&[kind, label, high, low], behind)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low])).min(behind.len());
        let (octets, behind) = behind.split_at(length);
        rest = behind;
        match kind & 3 {
            OF_LEAF => mesh.say(label, octets),
            ANSWER => mesh.net.answers.push_back(octets.to_vec()),
            _ => mesh.net.waiting.push_back(octets.to_vec()),
        }
        mesh.settle();
    }
    let carried = mesh.net.carried + mesh.came;
    mesh.relay.reset(&mut mesh.net);
    assert!(!mesh.relay.is_busy() && !mesh.relay.is_waiting() && !mesh.relay.is_asking());
    match carried {
        0 => Verdict::Refused,
        _ => Verdict::Accepted,
    }
}

/// A leaf, its gateway and the aggregator, between which nothing is lost.
struct Mesh {
    leaf: Leaf<MOST>,
    gateway: Gateway<MOST>,
    relay: Relay<Stream>,
    net: Lan,
    now_us: u64,
    /// Messages that have come to the leaf.
    came: u32,
}

impl Mesh {
    fn new() -> Self {
        let times = Times {
            listen_ms: 1,
            spread_us: 1,
            hops: 1,
            pace: PACE,
        };
        Self {
            leaf: Leaf::new(1, PACE, 0),
            gateway: Gateway::new(1, times),
            relay: Relay::new(0),
            net: Lan::default(),
            now_us: 0,
            came: 0,
        }
    }

    fn say(&mut self, label: u8, octets: &[u8]) {
        // One that is empty or too long is refused here.
        _ = self.leaf.send(label, octets, self.now_us);
    }

    /// Lets everything go on that can.
    fn settle(&mut self) {
        for _ in 0..LOOKS {
            self.now_us += PACE.packet_us;
            if let Some(packet) = self.leaf.poll(self.now_us) {
                self.gateway.on_packet(0, 1, &packet, self.now_us);
            }
            self.relay.listen(&mut self.net);
            self.relay.run(&mut self.gateway, &mut self.net, false);
            while let Some((_, packet)) = self.gateway.poll(self.now_us) {
                self.leaf.on_packet(&packet, self.now_us);
            }
            if let Some((label, message)) = self.leaf.receive() {
                assert!(!message.is_empty() && message.len() <= MOST);
                self.came += u32::from(label >= FROM_AGGREGATOR || self.net.carried > 0);
                self.leaf.release();
            }
            let is_still = !self.leaf.is_sending() && !self.gateway.station(0).is_sending();
            if is_still && !self.relay.is_asking() {
                return;
            }
        }
    }
}

/// Connections between gateway and aggregator.
#[derive(Default)]
struct Lan {
    /// Requests of the aggregator, and its answers to those of the leaf.
    waiting: VecDeque<Vec<u8>>,
    answers: VecDeque<Vec<u8>>,
    /// Requests of the leaf that the aggregator got.
    carried: u32,
}

struct Stream {
    /// `None` until there is an answer.
    come: Option<VecDeque<u8>>,
    /// The aggregator still wants the answer.
    is_open: bool,
}

impl Net for Lan {
    type Stream = Stream;

    fn accept(&mut self, _leaf: usize) -> Option<Stream> {
        let come = self.waiting.pop_front()?;
        Some(Stream {
            come: Some(come.into()),
            is_open: true,
        })
    }

    fn connect(&mut self, _leaf: usize) -> Option<Stream> {
        Some(Stream {
            come: None,
            is_open: false,
        })
    }

    fn read(&mut self, stream: &mut Stream, buffer: &mut [u8]) -> Result<usize, NetError> {
        if stream.come.is_none() {
            // An aggregator without an answer closes.
            stream.come = Some(self.answers.pop_front().unwrap_or_default().into());
        }
        let come = stream.come.as_mut().into_iter().flatten();
        let mut n = 0;
        for (slot, octet) in buffer.iter_mut().zip(come) {
            *slot = *octet;
            n += 1;
        }
        stream
            .come
            .iter_mut()
            .for_each(|come| drop(come.drain(..n)));
        match n {
            0 if stream.is_open => Err(NetError::WouldBlock),
            n => Ok(n),
        }
    }

    fn write(&mut self, stream: &mut Stream, bytes: &[u8]) -> Result<usize, NetError> {
        self.carried += u32::from(!stream.is_open);
        Ok(bytes.len())
    }

    fn is_gone(&mut self, _stream: &mut Stream) -> bool {
        false
    }

    fn close(&mut self, _stream: Stream) {}
}

/// Seeds: exchanges both ways, and those that are none.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let record = |kind: u8, label: u8, octets: &[u8]| {
        let length = u16::try_from(octets.len()).expect("a short message");
        [&[kind, label][..], &length.to_be_bytes(), octets].concat()
    };
    let word = "Zfl-Word: 00000000000000000000000000000000\r\n";
    let id = format!("GET /id?client=0 HTTP/1.1\r\n{word}\r\n");
    let welcome = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    let start = format!("POST /start HTTP/1.1\r\n{word}Content-Length: 4\r\n\r\nabcd");
    let ready = format!("GET /ready HTTP/1.1\r\n{word}\r\n");
    let labels = "GET /training-labels?id=7 HTTP/1.1\r\n\r\n";
    let joined = [
        record(ANSWER, 0, welcome),
        record(OF_LEAF, 1, id.as_bytes()),
    ]
    .concat();
    let fetched = [
        record(
            ANSWER,
            0,
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        ),
        record(OF_LEAF, 2, labels.as_bytes()),
        record(0, 0, ready.as_bytes()),
    ]
    .concat();
    let answered = [
        record(0, 0, start.as_bytes()),
        record(
            OF_LEAF,
            FROM_AGGREGATOR | 1,
            b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
        ),
    ]
    .concat();
    let torn = joined[..joined.len() - 9].to_vec();
    vec![
        ("valid-round", [&joined[..], &fetched, &answered].concat()),
        ("valid-join", joined.clone()),
        ("torn-join", torn),
        (
            "hostile-length",
            record(
                0,
                0,
                b"POST /start HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
            ),
        ),
        (
            "hostile-long-answer",
            [
                record(
                    ANSWER,
                    0,
                    b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\nabc",
                ),
                record(OF_LEAF, 1, id.as_bytes()),
            ]
            .concat(),
        ),
        (
            "hostile-answer-nobody-asked-for",
            [
                joined,
                record(OF_LEAF, 255, b"HTTP/1.1 \xff\xff\xff\r\n\r\n"),
            ]
            .concat(),
        ),
        ("hostile-octets", record(0, 0, &[0xff; 300])),
    ]
}
