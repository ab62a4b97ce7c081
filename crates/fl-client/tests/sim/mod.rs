//! A device on a simulated link, and an aggregator that a test scripts.
//!
//! Time is simulated and everything is derived from one seed: streams deliver in pieces of random
//! length, stall, and break with a given probability.

#![allow(dead_code, reason = "each test file uses its part")]

use fl_client::{Activity, Config, Device, Port, PortError};
use fl_proto::Word;
use fl_rng::Pcg32;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

/// One direction of a stream.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    closed: bool,
    broken: bool,
    /// More bytes come behind those that are there, without end.
    endless: bool,
}

/// One end of a stream.
pub struct Stream {
    rx: Rc<RefCell<Pipe>>,
    tx: Rc<RefCell<Pipe>>,
}

fn pair() -> (Stream, Stream) {
    let (a, b) = (Rc::new(RefCell::default()), Rc::new(RefCell::default()));
    (
        Stream {
            rx: Rc::clone(&a),
            tx: Rc::clone(&b),
        },
        Stream { rx: b, tx: a },
    )
}

impl Stream {
    fn take_all(&self, into: &mut Vec<u8>) {
        into.extend(self.rx.borrow_mut().bytes.drain(..));
    }

    /// Sends bytes.
    pub fn put(&self, bytes: &[u8]) {
        self.tx.borrow_mut().bytes.extend(bytes);
    }

    /// Sends bytes without end.
    pub fn flood(&self) {
        self.tx.borrow_mut().endless = true;
    }

    /// True once the other side has closed it, whatever is still to be read.
    pub fn is_closed(&self) -> bool {
        let rx = self.rx.borrow();
        rx.broken || rx.closed
    }

    fn close(&self) {
        self.tx.borrow_mut().closed = true;
    }

    fn is_over(&self) -> bool {
        let rx = self.rx.borrow();
        rx.broken || (rx.closed && rx.bytes.is_empty())
    }
}

/// Random bytes from which the word of every device here is made.
const WORD_BYTES: [u8; 16] = [0x5a; 16];

/// The header line with which the aggregator shows a device's word.
pub fn word_line() -> String {
    format!("{}: {}\r\n", Word::HEADER, Word::random(WORD_BYTES).text())
}

/// Impairments of the link, in per mille.
#[derive(Clone, Copy, Default)]
pub struct Link {
    /// Share of reads and writes that find nothing to do at first.
    pub stall: u32,
    /// Share of reads and writes that break their stream.
    pub reset: u32,
}

/// The simulated machine under a device.
pub struct SimPort {
    pub now_us: u64,
    pub lines: Vec<String>,
    pub link: Link,
    random: Pcg32,
    incoming: VecDeque<Stream>,
    outgoing: VecDeque<Stream>,
}

impl SimPort {
    fn trouble(&mut self, stream: &Stream) -> Result<(), PortError> {
        if stream.rx.borrow().broken {
            return Err(PortError::Reset);
        }
        if self.random.below(1000) < self.link.reset {
            stream.rx.borrow_mut().broken = true;
            stream.tx.borrow_mut().broken = true;
            return Err(PortError::Reset);
        }
        if self.random.below(1000) < self.link.stall {
            return Err(PortError::WouldBlock);
        }
        Ok(())
    }

    fn piece(&mut self, most: usize) -> usize {
        if self.link.stall == 0 {
            most
        } else {
            1 + self.random.below(most as u32) as usize
        }
    }
}

impl Port for SimPort {
    type Connection = Stream;

    fn accept(&mut self) -> Option<Stream> {
        self.incoming.pop_front()
    }

    fn connect(&mut self) -> Result<Stream, PortError> {
        let (ours, theirs) = pair();
        self.outgoing.push_back(theirs);
        Ok(ours)
    }

    fn read(&mut self, stream: &mut Stream, buffer: &mut [u8]) -> Result<usize, PortError> {
        self.trouble(stream)?;
        let available = stream.rx.borrow().bytes.len().min(buffer.len());
        if available == 0 && stream.rx.borrow().endless {
            buffer.fill(b'x');
            return Ok(buffer.len());
        }
        if available == 0 {
            let closed = stream.rx.borrow().closed;
            return if closed {
                Ok(0)
            } else {
                Err(PortError::WouldBlock)
            };
        }
        let n = self.piece(available);
        for (slot, byte) in buffer
            .iter_mut()
            .zip(stream.rx.borrow_mut().bytes.drain(..n))
        {
            *slot = byte;
        }
        Ok(n)
    }

    fn write(&mut self, stream: &mut Stream, bytes: &[u8]) -> Result<usize, PortError> {
        self.trouble(stream)?;
        let n = self.piece(bytes.len());
        stream.put(&bytes[..n]);
        Ok(n)
    }

    fn close(&mut self, stream: Stream) {
        stream.close();
    }

    fn now_us(&mut self) -> u64 {
        self.now_us
    }

    fn random(&mut self) -> [u8; 16] {
        WORD_BYTES
    }

    fn log(&mut self, line: fmt::Arguments<'_>) {
        self.lines.push(line.to_string());
    }
}

/// A whole HTTP message: its head as text, and its body.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub head: String,
    pub body: Vec<u8>,
}

impl Exchange {
    /// `None` while bytes are missing.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let at = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(bytes[..at].to_vec()).ok()?;
        let length = head
            .lines()
            .find_map(|l| {
                l.to_ascii_lowercase()
                    .strip_prefix("content-length:")
                    .map(str::to_owned)
            })
            .map_or(0, |v| v.trim().parse().unwrap());
        let body = bytes.get(at..at + length)?;
        Some(Self {
            head,
            body: body.to_vec(),
        })
    }

    pub fn status(&self) -> u16 {
        self.head
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .unwrap_or(0)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A device, its link, and the requests it made that are not answered yet.
pub struct Sim {
    pub device: Device<SimPort>,
    pub port: SimPort,
    pub stopped: bool,
    serving: Vec<(Stream, Vec<u8>)>,
    asking: Vec<(usize, Stream, Vec<u8>)>,
    answers: Vec<(usize, Option<Exchange>)>,
    next_ask: usize,
}

impl Sim {
    pub fn new(config: Config, link: Link, seed: u64) -> Self {
        let port = SimPort {
            now_us: 0,
            lines: Vec::new(),
            link,
            random: Pcg32::on_stream(seed, 7),
            incoming: VecDeque::new(),
            outgoing: VecDeque::new(),
        };
        Self {
            device: Device::new(config),
            port,
            stopped: false,
            serving: Vec::new(),
            asking: Vec::new(),
            answers: Vec::new(),
            next_ask: 0,
        }
    }

    /// One turn of the device's loop; `aggregator` answers its requests with status and body.
    pub fn turn(&mut self, train: bool, aggregator: &mut dyn FnMut(&Exchange) -> (u16, Vec<u8>)) {
        self.port.now_us += 50;
        match self.device.poll(&mut self.port) {
            Activity::Stopped => self.stopped = true,
            Activity::Idle {
                wake_at_us: Some(at),
            } if self.device.job().is_none() => {
                // Nothing moves by itself here, so the clock may jump, though not past what a stall
                // of the link alone would explain.
                self.port.now_us = at.clamp(self.port.now_us, self.port.now_us + 20_000);
            }
            _ => {}
        }
        if train && let Some(job) = self.device.job() {
            job.step(7);
        }
        self.serve(aggregator);
        self.listen();
    }

    fn serve(&mut self, aggregator: &mut dyn FnMut(&Exchange) -> (u16, Vec<u8>)) {
        self.serving.extend(
            self.port
                .outgoing
                .drain(..)
                .map(|stream| (stream, Vec::new())),
        );
        self.serving.retain_mut(|(stream, bytes)| {
            stream.take_all(bytes);
            if let Some(request) = Exchange::parse(bytes) {
                let (status, body) = aggregator(&request);
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                stream.put(head.as_bytes());
                stream.put(&body);
                stream.close();
                return false;
            }
            !stream.is_over()
        });
    }

    fn listen(&mut self) {
        let answers = &mut self.answers;
        self.asking.retain_mut(|(ask, stream, bytes)| {
            stream.take_all(bytes);
            if let Some(answer) = Exchange::parse(bytes) {
                stream.close();
                answers.push((*ask, Some(answer)));
                return false;
            }
            if stream.is_over() {
                answers.push((*ask, None));
                return false;
            }
            true
        });
    }

    /// Sends a request to the device as its aggregator does, to be answered later.
    pub fn send(&mut self, request: &[u8]) -> usize {
        let lines = request.windows(2).position(|w| w == b"\r\n");
        let (first, rest) = request.split_at(lines.map_or(0, |at| at + 2));
        let word = if lines.is_some() {
            word_line()
        } else {
            String::new()
        };
        self.send_as_is(&[first, word.as_bytes(), rest].concat())
    }

    /// A stream to the device with these bytes on it, which the test goes on with.
    pub fn open(&mut self, bytes: &[u8]) -> Stream {
        let (ours, theirs) = pair();
        ours.put(bytes);
        self.port.incoming.push_back(theirs);
        ours
    }

    /// Sends bytes to the device, as anybody can.
    pub fn send_as_is(&mut self, request: &[u8]) -> usize {
        let ours = self.open(request);
        self.next_ask += 1;
        self.asking.push((self.next_ask, ours, Vec::new()));
        self.next_ask
    }

    /// The answer to a request that was sent, once it is there; `Some(None)` if the stream broke.
    pub fn answer(&mut self, ask: usize) -> Option<Option<Exchange>> {
        let at = self.answers.iter().position(|(a, _)| *a == ask)?;
        Some(self.answers.swap_remove(at).1)
    }

    /// Sends a request and waits for its answer.
    pub fn ask(
        &mut self,
        request: &[u8],
        train: bool,
        aggregator: &mut dyn FnMut(&Exchange) -> (u16, Vec<u8>),
    ) -> Option<Exchange> {
        let ask = self.send(request);
        self.wait_for(ask, train, aggregator)
    }

    /// Waits for the answer to a request that was sent.
    pub fn wait_for(
        &mut self,
        ask: usize,
        train: bool,
        aggregator: &mut dyn FnMut(&Exchange) -> (u16, Vec<u8>),
    ) -> Option<Exchange> {
        for _ in 0..100_000 {
            if let Some(answer) = self.answer(ask) {
                return answer;
            }
            self.turn(train, aggregator);
        }
        panic!("no answer; the device's log: {:#?}", self.port.lines);
    }

    /// Turns until `done` says so.
    pub fn run_until(
        &mut self,
        aggregator: &mut dyn FnMut(&Exchange) -> (u16, Vec<u8>),
        done: impl Fn(&Sim) -> bool,
    ) {
        for _ in 0..1_000_000 {
            if done(self) {
                return;
            }
            self.turn(true, aggregator);
        }
        panic!("never done; the device's log: {:#?}", self.port.lines);
    }

    pub fn logged(&self, part: &str) -> bool {
        self.port.lines.iter().any(|line| line.contains(part))
    }
}
