//! The gateway's IP side of one leaf: requests of the leaf to the aggregator, and of the aggregator to it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use fl_proto::{DeviceState, ErrorReply, Ready, json, path};
use zfl_netsim::radio::{MESSAGE_BYTES, Mesh};

use crate::http;
use crate::port::FROM_AGGREGATOR;

/// Time that the aggregator may take to answer.
const PATIENCE: Duration = Duration::from_secs(90);

/// Streams of the aggregator to one leaf at a time; a device has room for as many.
const MAX_INCOMING: usize = 3;

/// One leaf as its gateway knows it.
pub(crate) struct Proxy {
    pub server: SocketAddr,
    pub listener: TcpListener,
    incoming: Vec<Incoming>,
    label: u8,
    /// Word that the leaf gave with its request to join.
    word: Option<String>,
    /// Request of the leaf whose answer is on its way down.
    asked: Option<Asked>,
    ready: Option<Ready>,
}

/// A request of the aggregator.
pub(crate) struct Incoming {
    pub stream: TcpStream,
    request: Vec<u8>,
    /// Label under which it was sent down.
    label: Option<u8>,
    is_over: bool,
}

/// A request of the leaf.
struct Asked {
    label: u8,
    what: What,
    answer: Vec<u8>,
    is_sent: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// The last of what a device fetches before it is ready, and its ID.
    Labels(u32),
    Results,
    Other,
}

impl Proxy {
    pub fn new(server: SocketAddr, listener: TcpListener) -> Self {
        Self {
            server,
            listener,
            incoming: Vec::new(),
            label: 0,
            word: None,
            asked: None,
            ready: None,
        }
    }

    /// Streams to watch.
    pub fn streams(&self) -> impl Iterator<Item = &TcpStream> {
        self.incoming
            .iter()
            .filter(|one| one.label.is_none())
            .map(|one| &one.stream)
    }

    /// Takes in what the aggregator sends; true if the request of a round or the like has come as a whole.
    pub fn listen(&mut self) -> bool {
        while self.incoming.len() < MAX_INCOMING {
            let Ok((stream, _)) = self.listener.accept() else {
                break;
            };
            if stream.set_nonblocking(true).is_ok() {
                self.incoming.push(Incoming {
                    stream,
                    request: Vec::new(),
                    label: None,
                    is_over: false,
                });
            }
        }
        let (word, ready) = (self.word.as_deref(), self.ready.as_ref());
        let mut came = false;
        for one in &mut self.incoming {
            came |= one.label.is_none() && one.take(word, ready);
        }
        self.incoming.retain(|one| !one.is_over);
        came
    }

    /// Carries messages between mesh and aggregator. What a leaf asks is answered at once; what the aggregator
    /// asks waits while it `holds`.
    pub fn run(&mut self, leaf: usize, mesh: &mut Mesh, holds: bool) {
        if let Some((label, message)) = mesh.take_up(leaf) {
            match label >= FROM_AGGREGATOR {
                true => self.answered(label, &message),
                false => self.ask(label, &message),
            }
        }
        if self.drop_gone() {
            mesh.cancel_down(leaf);
        }
        if !mesh.is_sending_down(leaf) {
            self.send_down(leaf, mesh, holds);
        }
        mesh.expect(leaf, self.asked.is_some());
    }

    /// Drops requests that nobody waits for any more; true if one was on its way.
    fn drop_gone(&mut self) -> bool {
        let is_gone =
            |one: &Incoming| one.label.is_some() && matches!(one.stream.peek(&mut [0]), Ok(0));
        let before = self.incoming.len();
        self.incoming.retain(|one| !is_gone(one));
        before > self.incoming.len() && self.asked.is_none()
    }

    fn send_down(&mut self, leaf: usize, mesh: &mut Mesh, holds: bool) {
        if let Some(asked) = self.asked.take_if(|asked| asked.is_sent) {
            self.delivered(&asked);
        }
        if let Some(asked) = &mut self.asked {
            asked.is_sent = true;
            if mesh.send_down(leaf, asked.label, &asked.answer).is_err() {
                let length = asked.answer.len();
                asked.answer = refusal(
                    507,
                    format_args!(
                        "{length} octets, a leaf takes {MESSAGE_BYTES}: give it fewer examples"
                    ),
                );
                // Short enough.
                let _ = mesh.send_down(leaf, asked.label, &asked.answer);
            }
            return;
        }
        let is_waiting = self.incoming.iter().any(|one| one.label.is_some());
        let next = self.incoming.iter_mut().find(|one| one.is_whole());
        let Some(next) = next.filter(|_| !is_waiting && !holds) else {
            return;
        };
        self.label = self.label.wrapping_add(1) % FROM_AGGREGATOR;
        let label = FROM_AGGREGATOR | self.label;
        match mesh.send_down(leaf, label, &next.request) {
            Ok(()) => next.label = Some(label),
            Err(_) => next.reply(&refusal(
                413,
                format_args!("a leaf takes {MESSAGE_BYTES} octets: send a smaller model"),
            )),
        }
    }

    /// Asks the aggregator what the leaf asks, and keeps the answer.
    fn ask(&mut self, label: u8, request: &[u8]) {
        let target = http::target(request);
        let what = match target.split('?').next() {
            Some(path::ID) => {
                self.word = http::header(request, fl_proto::Word::HEADER).map(str::to_owned);
                self.ready = None;
                What::Other
            }
            Some(path::TRAINING_LABELS) => {
                let id = http::query(target, "id").and_then(|id| id.parse().ok());
                What::Labels(id.unwrap_or(0))
            }
            Some(path::RESULTS) => What::Results,
            _ => What::Other,
        };
        let answer = exchange(self.server, request)
            .unwrap_or_else(|error| refusal(503, format_args!("the gateway: {error}")));
        self.asked = Some(Asked {
            label,
            what,
            answer,
            is_sent: false,
        });
    }

    /// Notes what the answer that a leaf has got means for it.
    fn delivered(&mut self, asked: &Asked) {
        let is_success = (200..300).contains(&http::status(&asked.answer));
        match asked.what {
            What::Labels(id) if is_success => self.ready = Some(idle(id, 0)),
            What::Results => {
                self.ready = self.ready.take().map(|ready| idle(ready.id, ready.round));
            }
            _ => {}
        }
    }

    /// Hands on the answer of a leaf.
    fn answered(&mut self, label: u8, answer: &[u8]) {
        if let Some(ready) = json::decode::<Ready>(http::body(answer)) {
            self.ready = Some(ready);
        }
        let mut waiting = self
            .incoming
            .iter_mut()
            .filter(|one| one.label == Some(label));
        if let Some(one) = waiting.next() {
            one.reply(answer);
        }
        self.incoming.retain(|one| !one.is_over);
    }

    /// True while something is on its way.
    pub fn is_busy(&self) -> bool {
        self.asked.is_some() || self.incoming.iter().any(|one| one.label.is_some())
    }

    /// Drops what was on its way for a leaf that is gone.
    pub fn reset(&mut self) {
        self.incoming.clear();
        (self.asked, self.ready, self.word) = (None, None, None);
    }
}

impl Incoming {
    fn is_whole(&self) -> bool {
        let whole = http::whole_len(&self.request).ok().flatten();
        self.label.is_none() && whole.is_some_and(|length| self.request.len() >= length)
    }

    /// Reads what has come; true if that makes a request for the leaf whole.
    fn take(&mut self, word: Option<&str>, ready: Option<&Ready>) -> bool {
        if self.is_whole() {
            return false;
        }
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.is_over = true,
                Ok(length) => self.request.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.is_over = true,
            }
            let is_long = self.request.len() > 2 * MESSAGE_BYTES;
            if is_long || http::whole_len(&self.request).is_err() {
                self.reply(&refusal(
                    413,
                    format_args!("a leaf takes {MESSAGE_BYTES} octets"),
                ));
            }
            if self.is_over || self.is_whole() {
                break;
            }
        }
        if self.is_over || !self.is_whole() {
            return false;
        }
        let shown = http::header(&self.request, fl_proto::Word::HEADER);
        if shown != word {
            self.reply(&refusal(403, format_args!("another word")));
            return false;
        }
        if http::target(&self.request) != path::READY {
            return true;
        }
        let answer = match ready.and_then(text) {
            Some(ready) => http::answer(200, &ready),
            None => refusal(503, format_args!("the leaf fetches its data")),
        };
        self.reply(&answer);
        false
    }

    fn reply(&mut self, answer: &[u8]) {
        // An answer of a leaf is shorter than the buffers of a socket; who does not take it misses it.
        let _ = self.stream.set_nonblocking(false);
        let _ = self.stream.set_write_timeout(Some(Duration::from_secs(1)));
        let _ = self.stream.write_all(answer);
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        self.is_over = true;
    }
}

/// One exchange with the aggregator. Simulated time stands still meanwhile.
fn exchange(server: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    // The rest of an answer that no leaf takes is not wanted.
    stream
        .take(64 * MESSAGE_BYTES as u64)
        .read_to_end(&mut answer)?;
    Ok(answer)
}

fn idle(id: u32, round: u32) -> Ready {
    Ready {
        id,
        state: DeviceState::Ready,
        round,
        done_examples: 0,
        total_examples: 0,
        error: None,
    }
}

fn text<T: serde::Serialize>(body: &T) -> Option<String> {
    let mut buffer = [0; fl_proto::MAX_CONTROL_BYTES];
    let length = json::encode(body, &mut buffer)?;
    String::from_utf8(buffer[..length].to_vec()).ok()
}

fn refusal(status: u16, reason: std::fmt::Arguments<'_>) -> Vec<u8> {
    http::answer(status, &text(&ErrorReply::new(reason)).unwrap_or_default())
}
