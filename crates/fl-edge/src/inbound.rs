//! One connection that somebody opened to an edge: a device of its cluster, or the aggregator above.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use fl_client::http::{self, Empty, HeadBuffer, MAX_HEAD, Refusal, Reply};
use fl_client::{Port, PortError};
use fl_proto::{Word, path};
use serde::Serialize;

use crate::cluster::Cluster;
use crate::edge::Core;
use crate::intake::Intake;
use crate::requests;
use crate::route::{self, Request, Route};

/// Time for a head as a whole, and for the next bytes of a body or an answer, in microseconds.
const STALLED_US: u64 = 15_000_000;

/// Time in which bytes behind a refused request are read and dropped, in microseconds.
const LINGER_US: u64 = 2_000_000;

/// Octets of data under way from where they are dealt out to a device.
const PIPE: usize = 4096;

/// A connection under way.
pub(crate) struct Inbound<C> {
    connection: C,
    peer: Option<Ipv4Addr>,
    stage: Stage<C>,
    /// Place of the device, once it is known, and bytes from and to it that are not counted.
    place: Option<u32>,
    bytes: (u64, u64),
    deadline_us: u64,
}

enum Stage<C> {
    Head(HeadBuffer),
    /// The body of an order comes, so many octets more.
    Order(u64),
    /// An update waits for its turn: octets that came behind its head, and the length of it.
    Queue(HeadBuffer, u64),
    Update(Box<Intake>),
    Relay(Box<Relay<C>>),
    Reply {
        reply: Reply,
        sent: usize,
        linger: bool,
    },
    Linger,
}

/// Data on their way to a device.
struct Relay<C> {
    dealer: C,
    request: Vec<u8>,
    asked: usize,
    piece: Vec<u8>,
    sent: usize,
    is_labels: bool,
    ended: bool,
}

/// Outcome of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Moved,
    Waiting,
    Over,
}

impl<C> Inbound<C> {
    pub fn new(connection: C, peer: Option<Ipv4Addr>, now_us: u64) -> Self {
        Self {
            connection,
            peer,
            stage: Stage::Head(HeadBuffer::new()),
            place: None,
            bytes: (0, 0),
            deadline_us: now_us.saturating_add(STALLED_US),
        }
    }

    pub fn deadline_us(&self) -> u64 {
        self.deadline_us
    }

    /// Closes it, and lets go of what it had.
    pub fn close<P: Port<Connection = C>>(self, core: &mut Core, port: &mut P) {
        if let Some(cluster) = &mut core.cluster {
            match &self.stage {
                Stage::Order(_) => cluster.is_body_coming = false,
                Stage::Update(_) => cluster.is_update_coming = false,
                _ => {}
            }
        }
        if let Stage::Relay(relay) = self.stage {
            port.close(relay.dealer);
        }
        port.close(self.connection);
    }

    /// Does what can be done without waiting.
    pub fn poll<P: Port<Connection = C>>(
        &mut self,
        io: &mut [u8],
        core: &mut Core,
        port: &mut P,
        now_us: u64,
    ) -> Progress {
        let progress = match self.advance(io, core, port, now_us) {
            Ok(progress) => progress,
            Err(PortError::WouldBlock) => Progress::Waiting,
            Err(_) => Progress::Over,
        };
        self.count(core);
        let is_bounded = matches!(self.stage, Stage::Head(_) | Stage::Linger);
        match progress {
            Progress::Moved if !is_bounded => self.deadline_us = now_us.saturating_add(STALLED_US),
            Progress::Moved | Progress::Waiting if now_us >= self.deadline_us => {
                // An update whose turn has not come has not been read: its device is not late.
                if !matches!(self.stage, Stage::Queue(..)) {
                    return Progress::Over;
                }
                self.deadline_us = now_us.saturating_add(STALLED_US);
            }
            _ => {}
        }
        progress
    }

    /// Counts bytes for the device that they are of.
    fn count(&mut self, core: &mut Core) {
        let Some(place) = self.place else { return };
        let device = core
            .cluster
            .as_mut()
            .and_then(|cluster| cluster.device_mut(place));
        if let Some(device) = device {
            device.bytes.0 += self.bytes.0;
            device.bytes.1 += self.bytes.1;
        }
        self.bytes = (0, 0);
    }

    fn read<P: Port<Connection = C>>(
        &mut self,
        into: &mut [u8],
        port: &mut P,
    ) -> Result<usize, PortError> {
        let octets = port.read(&mut self.connection, into)?;
        self.bytes.0 += octets as u64;
        Ok(octets)
    }

    fn advance<P: Port<Connection = C>>(
        &mut self,
        io: &mut [u8],
        core: &mut Core,
        port: &mut P,
        now_us: u64,
    ) -> Result<Progress, PortError> {
        match &mut self.stage {
            Stage::Head(head) => {
                let room = (MAX_HEAD - head.len()).min(io.len());
                let octets = port.read(&mut self.connection, &mut io[..room])?;
                self.bytes.0 += octets as u64;
                if octets == 0 {
                    return Ok(Progress::Over);
                }
                // Never fails: no more was read than there is room.
                let _ = head.extend_from_slice(&io[..octets]);
                if let Some(length) = http::head_len(head) {
                    let head = core::mem::take(head);
                    let (head, behind) = head.split_at(length);
                    let routed = self.route(head, behind, core, port, now_us);
                    routed.unwrap_or_else(|refusal| self.refuse(&refusal));
                } else if head.len() == MAX_HEAD {
                    self.refuse(&Refusal::new(431, "the head is too long"));
                }
            }
            Stage::Order(remaining) => {
                let room = (*remaining).min(io.len() as u64) as usize;
                let octets = port.read(&mut self.connection, &mut io[..room])?;
                if octets == 0 {
                    return Ok(Progress::Over);
                }
                *remaining -= octets as u64;
                self.push_order(&io[..octets], core);
            }
            Stage::Queue(behind, length) => {
                let cluster = core
                    .cluster
                    .as_mut()
                    .filter(|cluster| !cluster.is_update_coming);
                let (Some(cluster), Some(place)) = (cluster, self.place) else {
                    return Ok(Progress::Waiting);
                };
                let (behind, length) = (core::mem::take(behind), *length);
                cluster.is_update_coming = true;
                self.stage = Stage::Update(Intake::new(place, length));
                self.push_update(&behind, cluster, now_us);
            }
            Stage::Update(intake) => {
                let room = intake.remaining().min(io.len() as u64) as usize;
                let octets = self.read(&mut io[..room], port)?;
                let Some(cluster) = core.cluster.as_mut().filter(|_| octets > 0) else {
                    return Ok(Progress::Over);
                };
                self.push_update(&io[..octets], cluster, now_us);
            }
            Stage::Relay(_) => return self.relay(core, port, now_us),
            Stage::Reply {
                reply,
                sent,
                linger,
            } => {
                let octets = port.write(&mut self.connection, &reply[*sent..])?;
                *sent += octets;
                self.bytes.1 += octets as u64;
                if *sent == reply.len() {
                    if !*linger {
                        return Ok(Progress::Over);
                    }
                    self.stage = Stage::Linger;
                    self.deadline_us = now_us.saturating_add(LINGER_US);
                }
            }
            Stage::Linger => {
                if self.read(io, port)? == 0 {
                    return Ok(Progress::Over);
                }
            }
        }
        Ok(Progress::Moved)
    }

    /// Answers a whole head, or begins on the body behind it.
    #[inline(never)]
    fn route<P: Port<Connection = C>>(
        &mut self,
        head: &[u8],
        behind: &[u8],
        core: &mut Core,
        port: &mut P,
        now_us: u64,
    ) -> Result<(), Refusal> {
        let request = route::parse(head, core.word.as_ref())?;
        if behind.len() as u64 > request.length {
            return Err(Refusal::new(400, "bytes behind the body"));
        }
        let id = core.config.id;
        if request.route == Route::Stop {
            core.is_stopped = true;
            self.answer(200, &Empty {});
            return Ok(());
        }
        let cluster = core.cluster.as_mut();
        let cluster = cluster.ok_or_else(|| Refusal::new(503, "this edge is still joining"))?;
        match request.route {
            Route::Ready => self.answer(200, &cluster.ready(id)),
            Route::Start => {
                if !request.is_message {
                    return Err(Refusal::new(415, "send a message of octets"));
                }
                cluster.begin_order(request.length)?;
                self.stage = Stage::Order(request.length - behind.len() as u64);
                self.push_order(behind, core);
            }
            Route::Join => {
                let (place, welcome) =
                    cluster.join(&request.query, self.peer, request.word, now_us)?;
                self.place = Some(place);
                self.answer(200, &welcome);
            }
            Route::Inputs | Route::Labels => {
                let place = cluster.sender(&request.query, self.peer, request.word.as_ref())?;
                self.place = Some(place);
                let relay = open(&request, cluster.client(place), core, port)?;
                self.stage = Stage::Relay(Box::new(relay));
            }
            Route::Results => {
                let place = cluster.sender(&request.query, self.peer, request.word.as_ref())?;
                self.place = Some(place);
                if !request.is_message {
                    return Err(Refusal::new(415, "send a message of octets"));
                }
                let behind = HeadBuffer::from_slice(behind);
                let behind = behind.map_err(|_| Refusal::new(431, "the head is too long"))?;
                cluster.machine.heard(place);
                self.stage = Stage::Queue(behind, request.length);
            }
            Route::Lost | Route::Back => {
                let place = request
                    .query
                    .client
                    .and_then(|client| cluster.place(client));
                let place = place.ok_or_else(|| Refusal::new(400, "no client of this cluster"))?;
                cluster.lose(place, request.route == Route::Back, now_us);
                self.answer(200, &Empty {});
            }
            Route::Stop => {}
        }
        Ok(())
    }

    fn push_order(&mut self, octets: &[u8], core: &mut Core) {
        let (Stage::Order(remaining), Some(cluster)) = (&self.stage, &mut core.cluster) else {
            return;
        };
        let is_whole = *remaining == 0;
        // Within its capacity: the length was checked.
        cluster.body.extend_from_slice(octets);
        if !is_whole {
            return;
        }
        match cluster.take_order() {
            Ok(()) => {
                let ready = cluster.ready(core.config.id);
                self.answer(202, &ready);
            }
            Err(refusal) => self.refuse(&refusal),
        }
    }

    fn push_update(&mut self, octets: &[u8], cluster: &mut Cluster, now_us: u64) {
        let Stage::Update(intake) = &mut self.stage else {
            return;
        };
        let pushed = intake.push(octets, cluster, now_us);
        if pushed.is_ok() && intake.remaining() > 0 {
            return;
        }
        let Stage::Update(intake) = core::mem::replace(&mut self.stage, Stage::Linger) else {
            return;
        };
        cluster.is_update_coming = false;
        match pushed.and_then(|()| intake.finish(cluster, now_us)) {
            Ok(()) => self.answer(200, &Empty {}),
            Err(refusal) => self.refuse(&refusal),
        }
    }

    /// Passes on what comes from where data are dealt out.
    fn relay<P: Port<Connection = C>>(
        &mut self,
        core: &mut Core,
        port: &mut P,
        now_us: u64,
    ) -> Result<Progress, PortError> {
        let Stage::Relay(relay) = &mut self.stage else {
            return Ok(Progress::Over);
        };
        if relay.asked < relay.request.len() {
            relay.asked += port.write(&mut relay.dealer, &relay.request[relay.asked..])?;
            return Ok(Progress::Moved);
        }
        if relay.sent == relay.piece.len() && !relay.ended {
            relay.piece.resize(PIPE, 0);
            let got = port.read(&mut relay.dealer, &mut relay.piece);
            relay.piece.truncate(got.unwrap_or(0));
            relay.sent = 0;
            relay.ended = got? == 0;
            return Ok(Progress::Moved);
        }
        if relay.sent < relay.piece.len() {
            let octets = port.write(&mut self.connection, &relay.piece[relay.sent..])?;
            relay.sent += octets;
            self.bytes.1 += octets as u64;
            return Ok(Progress::Moved);
        }
        if let (true, Some(cluster), Some(place)) = (relay.is_labels, &mut core.cluster, self.place)
        {
            cluster.machine.fetched(now_us, place);
        }
        Ok(Progress::Over)
    }

    fn answer<T: Serialize>(&mut self, status: u16, body: &T) {
        self.stage = Stage::Reply {
            reply: reply(status, body),
            sent: 0,
            linger: false,
        };
    }

    fn refuse(&mut self, refusal: &Refusal) {
        self.stage = Stage::Reply {
            reply: reply(refusal.status, &refusal.reason),
            sent: 0,
            linger: true,
        };
    }
}

fn reply<T: Serialize>(status: u16, body: &T) -> Reply {
    let mut reply = Reply::new();
    http::write_reply(&mut reply, status, body);
    reply
}

/// Opens the way to where data are dealt out, for a device.
fn open<P: Port>(
    request: &Request,
    client: u32,
    core: &Core,
    port: &mut P,
) -> Result<Relay<P::Connection>, Refusal> {
    let busy = |_| Refusal::new(503, "no way to the data now");
    let data_port = core
        .cluster
        .as_ref()
        .map_or(0, |cluster| cluster.brief.data_port);
    let at = SocketAddrV4::new(*core.config.server.ip(), data_port);
    let is_labels = request.route == Route::Labels;
    let path = match is_labels {
        true => path::TRAINING_LABELS,
        false => path::TRAINING_DATA,
    };
    let words = [(Word::SECRET_HEADER, core.config.secret.as_ref())];
    let request = requests::head(format_args!("GET {path}?id={client}"), at, &words, None);
    let mut piece = Vec::new();
    piece
        .try_reserve_exact(PIPE)
        .map_err(|_| Refusal::new(503, "no memory for data now"))?;
    Ok(Relay {
        dealer: port.connect_to(at).map_err(busy)?,
        request,
        asked: 0,
        piece,
        sent: 0,
        is_labels,
        ended: false,
    })
}
