//! The edge: its connections, and what it asks whom next.

use alloc::vec::Vec;
use core::net::SocketAddrV4;

use fl_client::{Activity, Port, PortError};
use fl_proto::token::word;
use fl_proto::{DeviceState, ErrorReply, Welcome, Word, json, path};

use crate::ask::{Ask, Body, Purpose, WhyReady};
use crate::cluster::{AT_ONCE, Cluster};
use crate::devices::is_asked;
use crate::inbound::{Inbound, Progress};
use crate::requests::{self, head, join_line};

/// Octets read at a time.
const IO_BYTES: usize = 4096;

/// Connections beyond those of its devices.
const OWN_CONNECTIONS: usize = 4;

/// Looks at one connection before the next has its turn.
const LOOKS_AT_ONCE: u32 = 16;

/// Pauses between two tries of a request to the aggregator above, in microseconds.
const PAUSES_US: [u64; 2] = [100_000, 2_000_000];

/// Longest waits for the answers of the aggregator above, of a device, of one before a round, and of one at the end.
const ANSWER_US: u64 = 60_000_000;
const READY_WITHIN_US: u64 = 5_000_000;
const PROBE_WITHIN_US: u64 = 1_000_000;
const STOP_WITHIN_US: u64 = 2_000_000;

/// Settings of an edge.
#[derive(Clone, Debug)]
pub struct Config {
    /// ID by which the aggregator above knows it: behind those of all clients.
    pub id: u32,
    /// Port at which it listens.
    pub http_port: u16,
    /// The aggregator above.
    pub server: SocketAddrV4,
    /// Secret that it shows when it joins.
    pub secret: Option<Word>,
}

/// An edge without its connections.
pub(crate) struct Core {
    pub config: Config,
    pub word: Option<Word>,
    pub cluster: Option<Cluster>,
    pub is_stopped: bool,
}

/// An edge on a [`Port`].
pub struct Edge<P: Port> {
    core: Core,
    welcome: Option<Welcome>,
    inbound: Vec<Inbound<P::Connection>>,
    asks: Vec<Ask<P::Connection>>,
    io: Vec<u8>,
    /// Time of the next request to the aggregator above, and the pause that a failure makes.
    up_next_us: u64,
    up_pause_us: u64,
    /// Report that was taken.
    reported: Option<alloc::string::String>,
    /// Devices still to be told that all is over, and the time for it.
    goodbye: Option<(Vec<u32>, u64)>,
}

impl<P: Port> Edge<P> {
    /// An edge that has not joined yet.
    pub fn new(config: Config) -> Self {
        Self {
            core: Core {
                config,
                word: None,
                cluster: None,
                is_stopped: false,
            },
            welcome: None,
            inbound: Vec::new(),
            asks: Vec::new(),
            io: Vec::new(),
            up_next_us: 0,
            up_pause_us: PAUSES_US[0],
            reported: None,
            goodbye: None,
        }
    }

    /// Moves everything along; never blocks.
    pub fn poll(&mut self, port: &mut P) -> Activity {
        if self.io.is_empty() {
            if self.io.try_reserve_exact(IO_BYTES).is_err() {
                port.log(format_args!(
                    "no memory for {IO_BYTES} bytes: give the board more"
                ));
                return Activity::Stopped;
            }
            self.io.resize(IO_BYTES, 0);
        }
        if self.core.word.is_none() {
            self.core.word = Some(Word::random(port.random()));
        }
        let now_us = port.now_us();
        let mut moved = self.poll_inbound(port, now_us);
        moved |= self.poll_asks(port, now_us);
        if let Some(cluster) = &mut self.core.cluster {
            cluster.drive(now_us);
            if let Some(reason) = cluster.failure.take() {
                port.log(format_args!("the rounds end: {reason}"));
                self.core.is_stopped = true;
            }
        }
        if self.core.is_stopped {
            return self.wind_down(port, now_us, moved);
        }
        moved |= self.ask_above(port, now_us);
        moved |= self.ask_devices(port, now_us);
        match moved {
            true => Activity::Busy,
            false => Activity::Idle {
                wake_at_us: self.wake_us(),
            },
        }
    }

    fn wake_us(&self) -> Option<u64> {
        let inbound = self.inbound.iter().map(Inbound::deadline_us);
        let asks = self.asks.iter().map(Ask::deadline_us);
        let above = (!self.is_asking_above()).then_some(self.up_next_us);
        // Without room an answer comes first.
        let has_room = self.has_room();
        let devices = self.core.cluster.iter().flat_map(|cluster| {
            let those = cluster.devices.iter().zip(0..);
            let next = those.filter(move |(device, place)| {
                has_room && !device.is_asked && is_asked(cluster, *place).is_some()
            });
            next.map(|(device, _)| device.next_us)
                .chain(cluster.machine.deadline())
        });
        inbound
            .chain(asks)
            .chain(above.filter(|_| self.wish_above().is_some()))
            .chain(devices)
            .min()
    }

    fn poll_inbound(&mut self, port: &mut P, now_us: u64) -> bool {
        let clients = self
            .core
            .cluster
            .as_ref()
            .map_or(0, |cluster| cluster.devices.len());
        let mut moved = false;
        while self.inbound.len() < OWN_CONNECTIONS + clients && self.inbound.try_reserve(1).is_ok()
        {
            let Some(connection) = port.accept() else {
                break;
            };
            let peer = port.peer(&connection);
            self.inbound.push(Inbound::new(connection, peer, now_us));
            moved = true;
        }
        let mut at = 0;
        while let Some(one) = self.inbound.get_mut(at) {
            let mut progress = Progress::Moved;
            for _ in 0..LOOKS_AT_ONCE {
                progress = one.poll(&mut self.io, &mut self.core, port, now_us);
                if progress != Progress::Moved {
                    break;
                }
                moved = true;
            }
            if progress == Progress::Over {
                self.inbound.swap_remove(at).close(&mut self.core, port);
                moved = true;
            } else {
                at += 1;
            }
        }
        moved
    }

    fn poll_asks(&mut self, port: &mut P, now_us: u64) -> bool {
        let (mut at, mut any) = (0, false);
        while let Some(ask) = self.asks.get_mut(at) {
            let (mut from, mut to) = (0, 0);
            let cluster = self.core.cluster.as_mut();
            let ended = ask.poll(&mut self.io, cluster, port, now_us, (&mut from, &mut to));
            any |= from + to > 0;
            let place = ask.purpose.place();
            let device = self.core.cluster.as_mut().zip(place);
            if let Some(device) = device.and_then(|(cluster, place)| cluster.device_mut(place)) {
                device.bytes.0 += from;
                device.bytes.1 += to;
            }
            let Some(ended) = ended else {
                at += 1;
                continue;
            };
            any = true;
            let mut ask = self.asks.swap_remove(at);
            let text = core::mem::take(&mut ask.text);
            let purpose = ask.purpose.clone();
            port.close(ask.into_connection());
            match purpose.place() {
                Some(place) => self.device_answered(place, &purpose, ended, &text, now_us),
                None => self.above_answered(purpose, ended, &text, port, now_us),
            }
        }
        any
    }

    fn is_asking_above(&self) -> bool {
        self.asks.iter().any(|ask| ask.purpose.place().is_none())
    }

    /// The next request to the aggregator above.
    fn wish_above(&self) -> Option<Purpose> {
        let Some(cluster) = &self.core.cluster else {
            return Some(match self.welcome {
                None => Purpose::Join,
                Some(_) => Purpose::Brief,
            });
        };
        if self.welcome.is_none() {
            return Some(Purpose::Join);
        }
        if cluster.sending.is_some() {
            return Some(Purpose::Sums(cluster.last_round));
        }
        let report = cluster.report();
        let is_news =
            cluster.state == DeviceState::Ready && self.reported.as_ref() != Some(&report);
        is_news.then_some(Purpose::Report(report))
    }

    fn ask_above(&mut self, port: &mut P, now_us: u64) -> bool {
        if now_us < self.up_next_us || self.is_asking_above() {
            return false;
        }
        let Some(purpose) = self.wish_above() else {
            return false;
        };
        let Config {
            id, server, secret, ..
        } = &self.core.config;
        let words = [
            (Word::HEADER, self.core.word.as_ref()),
            (Word::SECRET_HEADER, secret.as_ref()),
        ];
        let (own, body) = match &purpose {
            Purpose::Join => {
                let line = join_line(&self.core.config, port.free_bytes());
                (head(line, server, &words, None), Body::Nothing)
            }
            Purpose::Brief => {
                let line = format_args!("GET {}?id={id}", path::CLUSTER);
                (head(line, server, &words, None), Body::Nothing)
            }
            Purpose::Report(report) => {
                let line = format_args!("POST {}?id={id}", path::CLUSTER);
                let body = Some((requests::REPORT, report.len() as u64));
                let head = head(line, server, &words, body);
                ([&head, report.as_bytes()].concat(), Body::Nothing)
            }
            _ => {
                let Some(cluster) = &mut self.core.cluster else {
                    return false;
                };
                let Some(sums) = &mut cluster.sending else {
                    return false;
                };
                sums.rewind(&cluster.sums);
                let line = format_args!("POST {}?id={id}", path::RESULTS);
                (
                    head(line, server, &words, Some((requests::SUMS, sums.len()))),
                    Body::Sums,
                )
            }
        };
        match port.connect() {
            Ok(connection) => self
                .asks
                .push(Ask::new(purpose, connection, own, body, now_us, ANSWER_US)),
            Err(_) => self.pause(now_us),
        }
        true
    }

    fn pause(&mut self, now_us: u64) {
        self.up_next_us = now_us.saturating_add(self.up_pause_us);
        self.up_pause_us = (2 * self.up_pause_us).min(PAUSES_US[1]);
    }

    fn above_answered(
        &mut self,
        purpose: Purpose,
        ended: Result<u16, PortError>,
        text: &[u8],
        port: &mut P,
        now_us: u64,
    ) {
        match (&purpose, ended) {
            (_, Ok(200..300)) => {
                self.up_pause_us = PAUSES_US[0];
                self.up_next_us = now_us;
                self.above_did(purpose, text, port, now_us);
            }
            (Purpose::Join, Ok(422)) => {
                let reply: Option<ErrorReply> = json::decode(text);
                let why = reply
                    .as_ref()
                    .map_or("no reason given", |reply| reply.error.as_str());
                port.log(format_args!("cannot join: {why}"));
                self.core.is_stopped = true;
            }
            // Of no use there: it is not asked again.
            (Purpose::Sums(round), Ok(status))
                if !matches!(status, 404 | 408 | 425 | 429 | 500..) =>
            {
                port.log(format_args!(
                    "the sums of round {round} are refused with {status}"
                ));
                self.end_sums(*round);
            }
            // The aggregator above has begun anew.
            (Purpose::Report(_), Ok(403 | 404)) | (Purpose::Sums(_), Ok(404)) => {
                self.welcome = None;
                self.pause(now_us);
            }
            _ => self.pause(now_us),
        }
    }

    fn above_did(&mut self, purpose: Purpose, text: &[u8], port: &mut P, now_us: u64) {
        match purpose {
            Purpose::Join => match json::decode::<Welcome>(text) {
                Some(welcome) if welcome.protocol == fl_proto::PROTOCOL_VERSION => {
                    self.welcome = Some(welcome);
                    self.reported = None;
                }
                _ => {
                    port.log(format_args!(
                        "cannot join: the aggregator is of another version"
                    ));
                    self.core.is_stopped = true;
                }
            },
            Purpose::Brief => self.briefed(text, port, now_us),
            Purpose::Report(report) => self.reported = Some(report),
            Purpose::Sums(round) => {
                if let Some(updates) = self.end_sums(round) {
                    let usage = port.usage();
                    let [heap, stack] = [usage.heap_peak_bytes, usage.stack_peak_bytes]
                        .map(Option::unwrap_or_default);
                    // `cargo xtask sizes` reads the peaks.
                    port.log(format_args!(
                        "round {round}: sums of {updates} updates delivered; heap {heap}, stack {stack} bytes at most"
                    ));
                }
            }
            Purpose::Ready(..) | Purpose::Start(_) | Purpose::Stop(_) => {}
        }
    }

    /// Lets go of the sums of a round, if no other has begun; the number of updates in them.
    fn end_sums(&mut self, round: u32) -> Option<usize> {
        let cluster = self.core.cluster.as_mut();
        let cluster = cluster.filter(|cluster| cluster.last_round == round)?;
        cluster.sent();
        Some(cluster.counted.len())
    }

    #[inline(never)]
    fn briefed(&mut self, text: &[u8], port: &mut P, now_us: u64) {
        let brief = json::decode(text).zip(self.welcome.clone());
        let made = match brief {
            Some((brief, welcome)) => Cluster::new(brief, welcome, port.random()),
            None => Err("the brief is malformed".into()),
        };
        match made {
            Ok(mut cluster) => {
                let clients = cluster.clients();
                let (numbers, last) = (cluster.brief.numbers, clients.end - 1);
                port.log(format_args!(
                    "edge of clients {} to {last}: sums of {numbers} numbers",
                    clients.start
                ));
                cluster.machine.begin(now_us);
                self.core.cluster = Some(cluster);
            }
            Err(why) => {
                port.log(format_args!("cannot join: {why}"));
                self.core.is_stopped = true;
            }
        }
    }

    /// Tells if one more device may be asked.
    fn has_room(&self) -> bool {
        let of_devices = self.asks.iter().filter(|ask| ask.purpose.place().is_some());
        of_devices.count() < AT_ONCE
    }

    fn ask_devices(&mut self, port: &mut P, now_us: u64) -> bool {
        let mut any = false;
        while self.has_room() {
            let wish = self.core.cluster.as_mut();
            let Some(purpose) = wish.and_then(|cluster| cluster.wish_of_devices(now_us)) else {
                break;
            };
            let (place, within_us) = match &purpose {
                Purpose::Start(start) => (start.client, start.within_us),
                Purpose::Ready(place, WhyReady::BeforeRound) => (*place, PROBE_WITHIN_US),
                Purpose::Ready(place, _) => (*place, READY_WITHIN_US),
                _ => break,
            };
            any = true;
            if !self.ask_device(place, purpose.clone(), within_us, port, now_us) {
                self.device_answered(place, &purpose, Err(PortError::Exhausted), &[], now_us);
            }
        }
        any
    }

    /// Opens a request to a device; false if that cannot be.
    fn ask_device(
        &mut self,
        place: u32,
        purpose: Purpose,
        within_us: u64,
        port: &mut P,
        now_us: u64,
    ) -> bool {
        let Some(cluster) = &mut self.core.cluster else {
            return false;
        };
        let Some(device) = cluster.devices.get_mut(place as usize) else {
            return false;
        };
        let Some(address) = device.address else {
            return false;
        };
        let words = [(Word::HEADER, device.word.as_ref())];
        let (own, body) = match &purpose {
            Purpose::Start(start) => {
                let order = cluster.order.as_ref();
                let part = order.and_then(|order| order.cohort.get(&start.client).zip(Some(order)));
                let made = part
                    .zip(word(start.token))
                    .and_then(|((part, order), token)| {
                        Some((order.head(part, token)?, order.sections.clone()))
                    });
                let Some((control, sections)) = made else {
                    return false;
                };
                let length =
                    control.len() + sections.iter().map(ExactSizeIterator::len).sum::<usize>();
                let body = Some((requests::START, length as u64));
                let head = head(format_args!("POST {}", path::START), address, &words, body);
                ([head, control].concat(), Body::Order(sections))
            }
            Purpose::Stop(_) => {
                let body = Some((requests::REPORT, 0));
                (
                    head(format_args!("POST {}", path::STOP), address, &words, body),
                    Body::Nothing,
                )
            }
            _ => (
                head(format_args!("GET {}", path::READY), address, &words, None),
                Body::Nothing,
            ),
        };
        let Ok(connection) = port.connect_to(address) else {
            return false;
        };
        device.is_asked = true;
        self.asks
            .push(Ask::new(purpose, connection, own, body, now_us, within_us));
        true
    }

    #[inline(never)]
    fn device_answered(
        &mut self,
        place: u32,
        purpose: &Purpose,
        ended: Result<u16, PortError>,
        text: &[u8],
        now_us: u64,
    ) {
        let Some(cluster) = &mut self.core.cluster else {
            return;
        };
        if let Some(device) = cluster.device_mut(place) {
            device.is_asked = false;
        }
        match purpose {
            Purpose::Ready(_, why) => cluster.ready_answered(place, *why, ended, text, now_us),
            Purpose::Start(start) => cluster.start_answered(*start, ended, text, now_us),
            _ => {}
        }
    }

    /// Tells the devices that all is over, and then ends.
    fn wind_down(&mut self, port: &mut P, now_us: u64, moved: bool) -> Activity {
        let (mut left, until_us) = self.goodbye.take().unwrap_or_else(|| {
            let known = self
                .core
                .cluster
                .iter()
                .flat_map(|cluster| (0..).zip(&cluster.devices));
            let known = known.filter(|(_, device)| device.address.is_some());
            let places = known.map(|(place, _)| place).collect();
            // What is still under way is of no use any more.
            self.asks
                .drain(..)
                .for_each(|ask| port.close(ask.into_connection()));
            (places, now_us.saturating_add(2 * STOP_WITHIN_US))
        });
        while self.asks.len() < AT_ONCE
            && let Some(place) = left.pop()
        {
            self.ask_device(place, Purpose::Stop(place), STOP_WITHIN_US, port, now_us);
        }
        let is_over = left.is_empty() && self.asks.is_empty() && self.inbound.is_empty();
        self.goodbye = Some((left, until_us));
        if is_over || now_us >= until_us {
            return Activity::Stopped;
        }
        match moved {
            true => Activity::Busy,
            false => Activity::Idle {
                wake_at_us: Some(until_us),
            },
        }
    }
}
