//! One request of an edge, from connecting to the end of the answer.

use alloc::vec::Vec;
use core::ops::Range;

use fl_client::http::{self, HeadBuffer, MAX_HEAD};
use fl_client::{Port, PortError};

use crate::cluster::Cluster;

/// An exchange that moves no byte for so long is given up, in microseconds.
const STALLED_US: u64 = 60_000_000;

/// Purpose of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To the aggregator above.
    Join,
    Brief,
    Report(alloc::string::String),
    /// Sums of a round.
    Sums(u32),
    /// To the device of a place.
    Ready(u32, WhyReady),
    Start(fl_round::Start),
    Stop(u32),
}

/// Reason for which a device is asked whether it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhyReady {
    /// It may have become ready.
    Waiting,
    /// A round is about to begin.
    BeforeRound,
    /// It refused a `/start` which it may have begun.
    HasBegun(fl_round::Start),
    /// It may have given its round up.
    AtWork(u32),
}

impl Purpose {
    /// Place of the device that is asked.
    pub fn place(&self) -> Option<u32> {
        match self {
            Self::Ready(place, _) | Self::Stop(place) => Some(*place),
            Self::Start(start) => Some(start.client),
            _ => None,
        }
    }
}

/// Octets of a body that lie elsewhere.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Nothing,
    /// Parts of the order.
    Order(heapless::Vec<Range<usize>, { fl_proto::message::MAX_SECTIONS }>),
    Sums,
}

/// A request under way.
pub(crate) struct Ask<C> {
    pub purpose: Purpose,
    connection: C,
    /// Head, and what of the body is its own.
    own: Vec<u8>,
    sent: usize,
    body: Body,
    /// Octets sent of the part of the order that is being sent.
    part: usize,
    head: HeadBuffer,
    /// Status, and octets of the answer to come; `None` before its head was read.
    answer: Option<(u16, u64)>,
    pub text: Vec<u8>,
    most: usize,
    has_asked: bool,
    deadline_us: u64,
    /// Time after which the answer counts no more.
    until_us: u64,
}

impl<C> Ask<C> {
    pub fn new(
        purpose: Purpose,
        connection: C,
        own: Vec<u8>,
        body: Body,
        now_us: u64,
        within_us: u64,
    ) -> Self {
        Self {
            most: if purpose == Purpose::Brief {
                64 << 10
            } else {
                2048
            },
            purpose,
            connection,
            own,
            sent: 0,
            body,
            part: 0,
            head: HeadBuffer::new(),
            answer: None,
            text: Vec::new(),
            has_asked: false,
            deadline_us: now_us.saturating_add(STALLED_US),
            until_us: now_us.saturating_add(within_us),
        }
    }

    pub fn deadline_us(&self) -> u64 {
        self.deadline_us.min(self.until_us)
    }

    pub fn into_connection(self) -> C {
        self.connection
    }

    /// Does what can be done without waiting: `None` while it is under way; then the status of the answer, or the
    /// reason for which there is none. Octets from and to the other side are counted.
    pub fn poll<P: Port<Connection = C>>(
        &mut self,
        io: &mut [u8],
        cluster: Option<&mut Cluster>,
        port: &mut P,
        now_us: u64,
        (from, to): (&mut u64, &mut u64),
    ) -> Option<Result<u16, PortError>> {
        let mut cluster = cluster;
        loop {
            let counter = if self.has_asked { &mut *from } else { &mut *to };
            match self.advance(io, cluster.as_deref_mut(), port) {
                Ok((octets, ended)) => {
                    *counter += octets;
                    self.deadline_us = now_us.saturating_add(STALLED_US);
                    if ended && let Some((status, _)) = self.answer {
                        return Some(Ok(status));
                    }
                }
                Err(PortError::WouldBlock) if now_us < self.deadline_us() => return None,
                Err(PortError::WouldBlock) => return Some(Err(PortError::Reset)),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// One read or write: octets, and whether that was all.
    fn advance<P: Port<Connection = C>>(
        &mut self,
        io: &mut [u8],
        cluster: Option<&mut Cluster>,
        port: &mut P,
    ) -> Result<(u64, bool), PortError> {
        if !self.has_asked {
            return self.send(cluster, port).map(|octets| (octets, false));
        }
        let Some((status, remaining)) = self.answer else {
            let room = (MAX_HEAD - self.head.len()).min(io.len());
            let octets = port.read(&mut self.connection, &mut io[..room])?;
            if octets == 0 || self.head.extend_from_slice(&io[..octets]).is_err() {
                return Err(PortError::Reset);
            }
            let Some(length) = http::head_len(&self.head) else {
                let is_full = self.head.len() == MAX_HEAD;
                return if is_full {
                    Err(PortError::Reset)
                } else {
                    Ok((octets as u64, false))
                };
            };
            let (head, rest) = self.head.split_at(length);
            let answer = http::parse_response(head).ok_or(PortError::Reset)?;
            let fits = answer.content_length <= self.most as u64
                && rest.len() as u64 <= answer.content_length;
            if !fits
                || self
                    .text
                    .try_reserve_exact(answer.content_length as usize)
                    .is_err()
            {
                return Err(PortError::Reset);
            }
            self.text.extend_from_slice(rest);
            let remaining = answer.content_length - rest.len() as u64;
            self.answer = Some((answer.status, remaining));
            return Ok((octets as u64, remaining == 0));
        };
        let room = remaining.min(io.len() as u64) as usize;
        let octets = port.read(&mut self.connection, &mut io[..room])?;
        if octets == 0 {
            return Err(PortError::Reset);
        }
        self.text.extend_from_slice(&io[..octets]);
        let remaining = remaining - octets as u64;
        self.answer = Some((status, remaining));
        Ok((octets as u64, remaining == 0))
    }

    /// Sends some of the request.
    fn send<P: Port<Connection = C>>(
        &mut self,
        cluster: Option<&mut Cluster>,
        port: &mut P,
    ) -> Result<u64, PortError> {
        if self.sent < self.own.len() {
            let octets = port.write(&mut self.connection, &self.own[self.sent..])?;
            self.sent += octets;
            return Ok(octets as u64);
        }
        if let (Purpose::Sums(round), Some(cluster)) = (&self.purpose, &cluster)
            && *round != cluster.last_round
        {
            // Those of another round are in their place.
            return Err(PortError::Reset);
        }
        let written = match (&mut self.body, cluster) {
            (Body::Order(parts), Some(cluster)) if !parts.is_empty() => {
                let whole = cluster.body.get(parts[0].clone()).ok_or(PortError::Reset)?;
                let written = port.write(&mut self.connection, &whole[self.part..]);
                if let Ok(octets) = written {
                    self.part += octets;
                    if self.part == whole.len() {
                        parts.remove(0);
                        self.part = 0;
                    }
                }
                written
            }
            (Body::Sums, Some(cluster)) => {
                let body = cluster.sending.as_mut().ok_or(PortError::Reset)?;
                let chunk = body.chunk(&cluster.sums);
                if chunk.is_empty() {
                    Ok(0)
                } else {
                    let written = port.write(&mut self.connection, chunk);
                    written.inspect(|octets| body.consume(*octets))
                }
            }
            _ => Ok(0),
        };
        match written {
            Err(PortError::WouldBlock) => Err(PortError::WouldBlock),
            Ok(octets) if octets > 0 => Ok(octets as u64),
            // All is sent, or whoever refuses early has stopped reading: that answer may be there.
            _ => {
                self.has_asked = true;
                Ok(0)
            }
        }
    }
}
