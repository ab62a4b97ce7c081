//! One request of the device to the aggregator, from connecting to the end of the answer.

use crate::buffers::Buffers;
use crate::examples::InputStore;
use crate::http::{self, HeadBuffer};
use crate::meter::Metered;
use crate::port::{Port, PortError};
use crate::update::Upload;
use alloc::vec::Vec;
use core::fmt;
use fl_proto::MAX_CONTROL_BYTES;

/// An exchange that moves no byte for so long is given up, in microseconds. A large fleet on a busy
/// host can take seconds to be served.
const STALLED_US: u64 = 60_000_000;

/// Longest request head, in bytes: that of a join, with the names of all codecs and rules.
pub(crate) const MAX_REQUEST_HEAD: usize = 512;

/// A request head.
pub(crate) type RequestHead = heapless::Vec<u8, MAX_REQUEST_HEAD>;

/// The short body of an answer; what is longer is cut.
pub(crate) type ShortBody = heapless::Vec<u8, MAX_CONTROL_BYTES>;

/// A request under way.
pub(crate) struct Outbound<C> {
    connection: Option<C>,
    stage: Stage,
    deadline_us: u64,
}

enum Stage {
    Head {
        head: RequestHead,
        sent: usize,
        upload: Option<Upload>,
    },
    Upload(Upload),
    AnswerHead(HeadBuffer),
    Answer {
        status: u16,
        remaining: u64,
        short: ShortBody,
    },
}

/// The answer to a request: its status, and its body if that did not go to the large buffer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub body: ShortBody,
}

/// Reason why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExchangeError {
    Connection(PortError),
    HeadTooLong,
    Malformed,
    Length { got: u64, want: usize },
    Flash,
    TimedOut,
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => write!(f, "{error}"),
            Self::HeadTooLong => write!(f, "the request's head is over {MAX_REQUEST_HEAD} bytes"),
            Self::Malformed => write!(f, "the answer is no HTTP with a Content-Length"),
            Self::Length { got, want } => write!(f, "the answer has {got} bytes, not {want}"),
            Self::Flash => write!(f, "the flash does not take them"),
            Self::TimedOut => write!(f, "no answer"),
        }
    }
}

impl From<PortError> for ExchangeError {
    fn from(error: PortError) -> Self {
        Self::Connection(error)
    }
}

/// Taker of the body of a successful answer.
pub(crate) trait Download {
    /// Begins on a body of that length.
    fn begin(&mut self, length: u64) -> Result<(), ExchangeError>;

    /// Takes in the next piece.
    fn take(&mut self, bytes: &[u8]) -> Result<(), ExchangeError>;
}

/// A buffer for a body of known length.
pub(crate) struct Octets<'a> {
    pub into: Place<'a>,
    pub want: usize,
}

/// Place of octets.
pub(crate) enum Place<'a> {
    Inputs(&'a mut InputStore),
    Labels(&'a mut Vec<u8>),
}

impl Download for Octets<'_> {
    fn begin(&mut self, length: u64) -> Result<(), ExchangeError> {
        let (got, want) = (length, self.want);
        match got == want as u64 {
            true => Ok(()),
            false => Err(ExchangeError::Length { got, want }),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), ExchangeError> {
        // Never grows: the caller reserved `want` bytes, and the length was checked.
        match &mut self.into {
            Place::Inputs(store) => store.push(bytes).then_some(()).ok_or(ExchangeError::Flash),
            Place::Labels(labels) => {
                labels.extend_from_slice(bytes);
                Ok(())
            }
        }
    }
}

impl<C> Outbound<C> {
    pub fn new(connection: C, head: RequestHead, upload: Option<Upload>, now_us: u64) -> Self {
        let stage = Stage::Head {
            head,
            sent: 0,
            upload,
        };
        Self {
            connection: Some(connection),
            stage,
            deadline_us: now_us + STALLED_US,
        }
    }

    pub fn deadline_us(&self) -> u64 {
        self.deadline_us
    }

    /// Gives the stream back for closing.
    pub fn into_connection(self) -> Option<C> {
        self.connection
    }

    /// Does what can be done without waiting: `None` while under way, else how it ended. `moved`
    /// tells whether bytes went either way.
    pub fn poll<P>(
        &mut self,
        io: &mut [u8],
        buffers: Option<&Buffers>,
        mut download: Option<&mut dyn Download>,
        wire: &mut Metered<'_, P>,
        moved: &mut bool,
    ) -> Option<Result<Answer, ExchangeError>>
    where
        P: Port<Connection = C>,
    {
        loop {
            match self.advance(io, buffers, &mut download, wire) {
                Ok(None) => {
                    *moved = true;
                    self.deadline_us = wire.now_us + STALLED_US;
                }
                Ok(Some(answer)) => {
                    *moved = true;
                    return Some(Ok(answer));
                }
                Err(ExchangeError::Connection(PortError::WouldBlock)) => {
                    let late = wire.now_us >= self.deadline_us;
                    return late.then_some(Err(ExchangeError::TimedOut));
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// One read or write.
    fn advance<P>(
        &mut self,
        io: &mut [u8],
        buffers: Option<&Buffers>,
        download: &mut Option<&mut dyn Download>,
        wire: &mut Metered<'_, P>,
    ) -> Result<Option<Answer>, ExchangeError>
    where
        P: Port<Connection = C>,
    {
        let Some(connection) = &mut self.connection else {
            return Err(ExchangeError::Connection(PortError::Reset));
        };
        match &mut self.stage {
            Stage::Head { head, sent, upload } => {
                *sent += wire.write(connection, &head[*sent..])?;
                if *sent == head.len() {
                    self.stage = match upload.take() {
                        Some(upload) => Stage::Upload(upload),
                        None => Stage::AnswerHead(HeadBuffer::new()),
                    };
                }
            }
            Stage::Upload(upload) => {
                let chunk = buffers.map_or(&[][..], |buffers| upload.chunk(buffers));
                if chunk.is_empty() {
                    self.stage = Stage::AnswerHead(HeadBuffer::new());
                } else {
                    match wire.write(connection, chunk) {
                        Ok(n) => upload.consume(n),
                        Err(PortError::WouldBlock) => return Err(PortError::WouldBlock.into()),
                        // An aggregator that refuses early answers and stops reading: look for that
                        // answer before calling the connection lost.
                        Err(_) => self.stage = Stage::AnswerHead(HeadBuffer::new()),
                    }
                }
            }
            Stage::AnswerHead(head) => {
                let room = (http::MAX_HEAD - head.len()).min(io.len());
                let n = wire.read(connection, &mut io[..room])?;
                if n == 0 {
                    return Err(ExchangeError::Connection(PortError::Reset));
                }
                let _ = head.extend_from_slice(&io[..n]);
                if let Some(len) = http::head_len(head) {
                    let head = core::mem::take(head);
                    return self.begin_answer(&head[..len], &head[len..], download);
                } else if head.len() == http::MAX_HEAD {
                    return Err(ExchangeError::Malformed);
                }
            }
            Stage::Answer { remaining, .. } => {
                let room = (*remaining).min(io.len() as u64) as usize;
                let n = wire.read(connection, &mut io[..room])?;
                if n == 0 {
                    return Err(ExchangeError::Connection(PortError::Reset));
                }
                return self.take_in(&io[..n], download);
            }
        }
        Ok(None)
    }

    fn begin_answer(
        &mut self,
        head: &[u8],
        body: &[u8],
        download: &mut Option<&mut dyn Download>,
    ) -> Result<Option<Answer>, ExchangeError> {
        let response = http::parse_response(head).ok_or(ExchangeError::Malformed)?;
        let (status, got) = (response.status, response.content_length);
        if body.len() as u64 > got {
            return Err(ExchangeError::Malformed);
        }
        if let Some(download) = download
            && status == 200
        {
            download.begin(got)?;
        }
        self.stage = Stage::Answer {
            status,
            remaining: got,
            short: ShortBody::new(),
        };
        self.take_in(body, download)
    }

    /// Puts a piece of the body where it belongs; the answer if that was all.
    fn take_in(
        &mut self,
        bytes: &[u8],
        download: &mut Option<&mut dyn Download>,
    ) -> Result<Option<Answer>, ExchangeError> {
        let Stage::Answer {
            status,
            remaining,
            short,
        } = &mut self.stage
        else {
            return Ok(None);
        };
        *remaining -= bytes.len() as u64;
        match download {
            Some(download) if *status == 200 => download.take(bytes)?,
            _ => {
                let fits = bytes.len().min(short.capacity() - short.len());
                let _ = short.extend_from_slice(&bytes[..fits]);
            }
        }
        Ok((*remaining == 0).then(|| Answer {
            status: *status,
            body: core::mem::take(short),
        }))
    }
}
