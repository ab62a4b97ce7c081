//! The gateway's IP side of one leaf: requests of the leaf to the aggregator, and of the aggregator to it.

use alloc::string::String;
use alloc::vec::Vec;

use fl_proto::{DeviceState, ErrorReply, Ready, json, path};
use fl_radio::{Gateway, MAX_MESSAGE_BYTES};

use crate::{FROM_AGGREGATOR, http};

/// Requests of the aggregator to one leaf at a time; a device has room for as many.
const MAX_INCOMING: usize = 3;

/// Octets of an answer of the aggregator that are read at most; what no leaf takes is not wanted.
const MAX_ANSWER: usize = 64 * 1024;

/// Octets read at a time.
const READ_BYTES: usize = 1024;

/// Connections of a gateway. Nothing here blocks.
pub trait Net {
    /// One connection.
    type Stream;

    /// The next connection of the aggregator to this leaf.
    fn accept(&mut self, leaf: usize) -> Option<Self::Stream>;

    /// Opens a connection to the aggregator for this leaf; until it is there nothing can be written.
    fn connect(&mut self, leaf: usize) -> Option<Self::Stream>;

    /// Reads what has arrived; 0 at the end.
    ///
    /// # Errors
    /// [`NetError`] if nothing has arrived.
    fn read(&mut self, stream: &mut Self::Stream, buffer: &mut [u8]) -> Result<usize, NetError>;

    /// Writes a part of `bytes`.
    ///
    /// # Errors
    /// [`NetError`] if nothing can be written.
    fn write(&mut self, stream: &mut Self::Stream, bytes: &[u8]) -> Result<usize, NetError>;

    /// Tells if the other side has closed its half of a connection from which all was read.
    fn is_gone(&mut self, stream: &mut Self::Stream) -> bool;

    /// Closes a connection; what was written still goes out.
    fn close(&mut self, stream: Self::Stream);

    /// Sends what was written on its way, where that does not happen by itself.
    fn flush(&mut self) {}
}

/// Reason why a connection gives or takes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetError {
    /// Nothing can be done now.
    WouldBlock,
    /// It broke, or nobody listens.
    Broken,
}

/// One leaf as its gateway knows it.
#[derive(Debug)]
pub struct Relay<S> {
    leaf: usize,
    incoming: Vec<Incoming<S>>,
    label: u8,
    /// Word that the leaf gave with its request to join.
    word: Option<String>,
    /// Request of the leaf that is carried, or whose answer is on its way down.
    asked: Option<Asked<S>>,
    ready: Option<Ready>,
}

/// A request of the aggregator.
#[derive(Debug)]
struct Incoming<S> {
    stream: S,
    request: Vec<u8>,
    /// Label under which it was sent down.
    label: Option<u8>,
    answer: Option<(Vec<u8>, usize)>,
    is_over: bool,
}

/// A request of the leaf.
#[derive(Debug)]
struct Asked<S> {
    label: u8,
    what: What,
    request: Vec<u8>,
    written: usize,
    /// `None` once the answer is there.
    stream: Option<S>,
    answer: Vec<u8>,
    is_sent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// The last of what a device fetches before it is ready, and its ID.
    Labels(u32),
    Results,
    Other,
}

impl<S> Relay<S> {
    /// The relay of a leaf that nobody has heard of.
    pub fn new(leaf: usize) -> Self {
        Self {
            leaf,
            incoming: Vec::new(),
            label: 0,
            word: None,
            asked: None,
            ready: None,
        }
    }

    /// Connections to watch.
    pub fn streams(&self) -> impl Iterator<Item = &S> {
        let incoming = self.incoming.iter().filter(|one| !one.waits_for_leaf());
        let asking = self.asked.iter().filter_map(|asked| asked.stream.as_ref());
        incoming.map(|one| &one.stream).chain(asking)
    }

    /// True while it waits for the aggregator's answer to a request of the leaf.
    pub fn is_asking(&self) -> bool {
        self.asked
            .as_ref()
            .is_some_and(|asked| asked.stream.is_some())
    }

    /// True while something is on its way.
    pub fn is_busy(&self) -> bool {
        self.asked.is_some() || self.incoming.iter().any(|one| one.label.is_some())
    }

    /// True while a request of the aggregator is there and was not sent down.
    pub fn is_waiting(&self) -> bool {
        self.incoming.iter().any(Incoming::is_waiting)
    }

    /// Takes in what the aggregator sends; true if the request of a round or the like has come as a whole.
    pub fn listen(&mut self, net: &mut impl Net<Stream = S>) -> bool {
        while self.incoming.len() < MAX_INCOMING
            && let Some(stream) = net.accept(self.leaf)
        {
            self.incoming.push(Incoming {
                stream,
                request: Vec::new(),
                label: None,
                answer: None,
                is_over: false,
            });
        }
        let (word, ready) = (self.word.as_deref(), self.ready.as_ref());
        let mut came = false;
        for one in &mut self.incoming {
            came |= one.take(net, word, ready);
            one.give(net);
        }
        self.sweep(net);
        if let Some(asked) = &mut self.asked {
            asked.exchange(net);
        }
        came
    }

    /// Carries messages between mesh and aggregator: [`Relay::rise`], then [`Relay::fall`].
    pub fn run<const N: usize>(
        &mut self,
        gateway: &mut Gateway<N>,
        net: &mut impl Net<Stream = S>,
        holds: bool,
    ) {
        self.rise(gateway, net);
        self.fall(gateway, net, holds);
    }

    /// Takes up what came from the leaf: asks the aggregator, or answers it.
    pub fn rise<const N: usize>(
        &mut self,
        gateway: &mut Gateway<N>,
        net: &mut impl Net<Stream = S>,
    ) {
        let is_free = self.asked.as_ref().is_none_or(|asked| asked.is_sent);
        let station = gateway.station(self.leaf);
        if is_free || station.receive().is_some_and(is_answer) {
            self.take_up(gateway, net);
        }
    }

    /// Sends down what there is for the leaf. What it asked goes at once; what the aggregator asks waits while it
    /// `holds`.
    pub fn fall<const N: usize>(
        &mut self,
        gateway: &mut Gateway<N>,
        net: &mut impl Net<Stream = S>,
        holds: bool,
    ) {
        let leaf = self.leaf;
        if self.drop_gone(net) {
            gateway.station_mut(leaf).cancel();
        }
        if !gateway.station(leaf).is_sending() {
            self.send_down(gateway, net, holds);
        }
        gateway.expect(leaf, self.asked.is_some());
    }

    fn take_up<const N: usize>(
        &mut self,
        gateway: &mut Gateway<N>,
        net: &mut impl Net<Stream = S>,
    ) {
        let station = gateway.station_mut(self.leaf);
        let Some((label, message)) = station.receive() else {
            return;
        };
        let message = message.to_vec();
        station.release();
        match label >= FROM_AGGREGATOR {
            true => self.answered(net, label, &message),
            false => self.ask(net, label, message),
        }
    }

    /// Drops requests that nobody waits for any more; true if one was on its way.
    fn drop_gone(&mut self, net: &mut impl Net<Stream = S>) -> bool {
        let before = self.incoming.len();
        for one in &mut self.incoming {
            one.is_over |= one.waits_for_leaf() && net.is_gone(&mut one.stream);
        }
        self.sweep(net);
        before > self.incoming.len() && self.asked.is_none()
    }

    fn sweep(&mut self, net: &mut impl Net<Stream = S>) {
        let over = self.incoming.extract_if(.., |one| one.is_over);
        over.for_each(|one| net.close(one.stream));
    }

    fn send_down<const N: usize>(
        &mut self,
        gateway: &mut Gateway<N>,
        net: &mut impl Net<Stream = S>,
        holds: bool,
    ) {
        let station = gateway.station_mut(self.leaf);
        if let Some(asked) = self.asked.take_if(|asked| asked.is_sent) {
            self.delivered(&asked);
        }
        if let Some(asked) = &mut self.asked {
            if asked.stream.is_some() {
                return;
            }
            asked.is_sent = true;
            if station.send(asked.label, &asked.answer).is_err() {
                let length = asked.answer.len();
                let reason =
                    format_args!("{length} octets, a leaf takes {N}: give it fewer examples");
                asked.answer = refusal(507, reason);
                // Short enough.
                let _ = station.send(asked.label, &asked.answer);
            }
            return;
        }
        let is_on_its_way = self.incoming.iter().any(Incoming::waits_for_leaf);
        let next = self.incoming.iter_mut().find(|one| one.is_waiting());
        let Some(next) = next.filter(|_| !is_on_its_way && !holds) else {
            return;
        };
        self.label = self.label.wrapping_add(1) % FROM_AGGREGATOR;
        let label = FROM_AGGREGATOR | self.label;
        match station.send(label, &next.request) {
            Ok(()) => next.label = Some(label),
            Err(_) => {
                let reason = format_args!("a leaf takes {N} octets: send a smaller model");
                next.reply(net, refusal(413, reason));
            }
        }
    }

    /// Asks the aggregator what the leaf asks.
    fn ask(&mut self, net: &mut impl Net<Stream = S>, label: u8, request: Vec<u8>) {
        let target = http::target(&request);
        let what = match target.split('?').next() {
            Some(path::ID) => {
                self.word = http::header(&request, fl_proto::Word::HEADER).map(String::from);
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
        let stream = net.connect(self.leaf);
        let answer = match stream {
            Some(_) => Vec::new(),
            None => refusal(503, format_args!("the gateway has no connection left")),
        };
        let mut asked = Asked {
            label,
            what,
            request,
            written: 0,
            stream,
            answer,
            is_sent: false,
        };
        asked.exchange(net);
        self.asked = Some(asked);
    }

    /// Notes what the answer that a leaf has got means for it.
    fn delivered(&mut self, asked: &Asked<S>) {
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
    fn answered(&mut self, net: &mut impl Net<Stream = S>, label: u8, answer: &[u8]) {
        if let Some(ready) = json::decode::<Ready>(http::body(answer)) {
            self.ready = Some(ready);
        }
        let mut waiting = self.incoming.iter_mut();
        if let Some(one) = waiting.find(|one| one.label == Some(label)) {
            one.reply(net, answer.to_vec());
        }
        self.sweep(net);
    }

    /// Drops what was on its way for a leaf that is gone.
    pub fn reset(&mut self, net: &mut impl Net<Stream = S>) {
        self.incoming
            .drain(..)
            .for_each(|one| net.close(one.stream));
        let asked = self.asked.take().and_then(|asked| asked.stream);
        asked.into_iter().for_each(|stream| net.close(stream));
        (self.ready, self.word) = (None, None);
    }
}

impl<S> Asked<S> {
    /// Goes on with the exchange with the aggregator.
    fn exchange(&mut self, net: &mut impl Net<Stream = S>) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        let ended = match self.written < self.request.len() {
            true => send(net, stream, &self.request, &mut self.written),
            false => Ok(()),
        };
        let ended = ended.and_then(|()| receive(net, stream, &mut self.answer, MAX_ANSWER));
        let is_whole = |answer: &[u8]| match http::whole_len(answer) {
            Ok(whole) => whole.is_some_and(|length| answer.len() >= length),
            Err(()) => true,
        };
        if ended != Err(NetError::WouldBlock) || is_whole(&self.answer) {
            if !is_whole(&self.answer) || http::status(&self.answer) == 0 {
                self.answer = refusal(
                    503,
                    format_args!("the aggregator does not answer its gateway"),
                );
            }
            self.stream
                .take()
                .into_iter()
                .for_each(|stream| net.close(stream));
        }
    }
}

/// Writes what is left to write.
fn send<S>(
    net: &mut impl Net<Stream = S>,
    stream: &mut S,
    bytes: &[u8],
    written: &mut usize,
) -> Result<(), NetError> {
    while *written < bytes.len() {
        *written += net.write(stream, &bytes[*written..])?;
    }
    Ok(())
}

/// Reads until the other side has closed its half; `Ok` then.
fn receive<S>(
    net: &mut impl Net<Stream = S>,
    stream: &mut S,
    into: &mut Vec<u8>,
    most: usize,
) -> Result<(), NetError> {
    let mut buffer = [0; READ_BYTES];
    while into.len() <= most {
        match net.read(stream, &mut buffer)? {
            0 => return Ok(()),
            length => into.extend_from_slice(&buffer[..length]),
        }
    }
    Ok(())
}

impl<S> Incoming<S> {
    /// True if it was sent down and its answer has not come.
    fn waits_for_leaf(&self) -> bool {
        self.label.is_some() && self.answer.is_none()
    }

    fn is_whole(&self) -> bool {
        let whole = http::whole_len(&self.request).ok().flatten();
        whole.is_some_and(|length| self.request.len() >= length)
    }

    fn is_waiting(&self) -> bool {
        self.label.is_none() && self.answer.is_none() && !self.is_over && self.is_whole()
    }

    /// Reads what has come; true if that makes a request for the leaf whole.
    fn take(
        &mut self,
        net: &mut impl Net<Stream = S>,
        word: Option<&str>,
        ready: Option<&Ready>,
    ) -> bool {
        if self.is_whole() || self.answer.is_some() {
            return false;
        }
        let end = receive(net, &mut self.stream, &mut self.request, MAX_MESSAGE_BYTES);
        if !self.is_whole() {
            // Closed, broken, too long or none.
            self.is_over =
                end != Err(NetError::WouldBlock) || http::whole_len(&self.request).is_err();
            return false;
        }
        let shown = http::header(&self.request, fl_proto::Word::HEADER);
        // A gateway that was started anew knows nothing yet: the leaf itself looks at the word.
        if word.is_some() && shown != word {
            self.reply(net, refusal(403, format_args!("another word")));
            return false;
        }
        if word.is_none() || http::target(&self.request) != path::READY {
            return true;
        }
        let answer = match ready.and_then(text) {
            Some(ready) => http::answer(200, &ready),
            None => refusal(503, format_args!("the leaf fetches its data")),
        };
        self.reply(net, answer);
        false
    }

    fn reply(&mut self, net: &mut impl Net<Stream = S>, answer: Vec<u8>) {
        self.answer = Some((answer, 0));
        self.give(net);
    }

    /// Writes what is left of its answer.
    fn give(&mut self, net: &mut impl Net<Stream = S>) {
        if let Some((answer, written)) = &mut self.answer {
            let sent = send(net, &mut self.stream, answer, written);
            self.is_over = sent != Err(NetError::WouldBlock);
        }
    }
}

fn is_answer((label, _): (u8, &[u8])) -> bool {
    label >= FROM_AGGREGATOR
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

fn refusal(status: u16, reason: core::fmt::Arguments<'_>) -> Vec<u8> {
    http::answer(status, &text(&ErrorReply::new(reason)).unwrap_or_default())
}
