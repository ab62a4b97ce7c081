//! The port of a leaf: its streams are whole messages of a radio.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use fl_client::storage::Storage;
use fl_client::{Port, PortError, Usage};

use crate::http;

/// Label of a message that answers or carries a request of the aggregator; below it those of the leaf's own.
pub(crate) const FROM_AGGREGATOR: u8 = 0x80;

/// Streams of a leaf, its clock and its log.
pub(crate) struct RadioPort {
    streams: BTreeMap<u32, Stream>,
    next: u32,
    label: u8,
    /// A request of the aggregator that has come.
    request: Option<(u8, Vec<u8>)>,
    /// Messages to send up.
    pub out: VecDeque<(u8, Vec<u8>)>,
    /// The leaf's own time: it stands while an exchange is on its way, however long that takes.
    pub clock_us: u64,
    log: Box<dyn FnMut(&str) + Send>,
    storage: Option<Box<dyn Storage + Send>>,
}

#[derive(Debug)]
struct Stream {
    /// The one of a request and its answer that this stream carries away, as far as it is written.
    written: Vec<u8>,
    /// The one that came.
    came: Option<Vec<u8>>,
    read: usize,
    label: u8,
    is_sent: bool,
    is_broken: bool,
}

impl Stream {
    fn new(label: u8, came: Option<Vec<u8>>) -> Self {
        Self {
            written: Vec::new(),
            came,
            read: 0,
            label,
            is_sent: false,
            is_broken: false,
        }
    }

    fn is_incoming(&self) -> bool {
        self.label >= FROM_AGGREGATOR
    }
}

impl RadioPort {
    pub fn new(log: Box<dyn FnMut(&str) + Send>, storage: Option<Box<dyn Storage + Send>>) -> Self {
        Self {
            streams: BTreeMap::new(),
            next: 0,
            label: 0,
            request: None,
            out: VecDeque::new(),
            clock_us: 0,
            log,
            storage,
        }
    }

    /// True while an exchange is on its way.
    pub fn is_busy(&self) -> bool {
        !self.streams.is_empty() || self.request.is_some() || !self.out.is_empty()
    }

    /// Takes in a message that came down.
    pub fn come(&mut self, label: u8, message: Vec<u8>) {
        if label >= FROM_AGGREGATOR {
            self.request = Some((label, message));
        } else if let Some(stream) = self
            .streams
            .values_mut()
            .find(|stream| stream.label == label)
        {
            stream.came = Some(message);
        }
    }

    /// Breaks the exchange of this label: the radio has given its message up.
    pub fn broken(&mut self, label: u8) {
        let streams = self
            .streams
            .values_mut()
            .filter(|stream| stream.label == label);
        streams.for_each(|stream| stream.is_broken = true);
    }

    fn add(&mut self, stream: Stream) -> u32 {
        self.next = self.next.wrapping_add(1);
        self.streams.insert(self.next, stream);
        self.next
    }
}

impl Port for RadioPort {
    type Connection = u32;

    fn accept(&mut self) -> Option<u32> {
        let (label, request) = self.request.take()?;
        Some(self.add(Stream::new(label, Some(request))))
    }

    fn connect(&mut self) -> Result<u32, PortError> {
        self.label = (self.label + 1) % FROM_AGGREGATOR;
        let label = self.label;
        Ok(self.add(Stream::new(label, None)))
    }

    fn read(&mut self, connection: &mut u32, buffer: &mut [u8]) -> Result<usize, PortError> {
        let stream = self.streams.get_mut(connection).ok_or(PortError::Reset)?;
        if stream.is_broken {
            return Err(PortError::Reset);
        }
        let is_incoming = stream.is_incoming();
        let came = stream.came.as_ref().ok_or(PortError::WouldBlock)?;
        let rest = &came[stream.read..];
        if rest.is_empty() && is_incoming {
            return Err(PortError::WouldBlock);
        }
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        stream.read += length;
        Ok(length)
    }

    fn write(&mut self, connection: &mut u32, bytes: &[u8]) -> Result<usize, PortError> {
        let stream = self.streams.get_mut(connection).ok_or(PortError::Reset)?;
        if stream.is_broken {
            return Err(PortError::Reset);
        }
        stream.written.extend_from_slice(bytes);
        let whole = http::whole_len(&stream.written).ok().flatten();
        let is_whole = whole.is_some_and(|length| stream.written.len() >= length);
        if !stream.is_sent && is_whole {
            stream.is_sent = true;
            self.out
                .push_back((stream.label, std::mem::take(&mut stream.written)));
        }
        Ok(bytes.len())
    }

    fn close(&mut self, connection: u32) {
        self.streams.remove(&connection);
    }

    fn now_us(&mut self) -> u64 {
        self.clock_us
    }

    fn random(&mut self) -> [u8; 16] {
        rand::random()
    }

    fn storage(&mut self) -> Option<&mut dyn Storage> {
        let storage = self.storage.as_mut();
        storage.map(|storage| &mut **storage as &mut dyn Storage)
    }

    fn usage(&mut self) -> Usage {
        Usage::default()
    }

    fn log(&mut self, line: fmt::Arguments<'_>) {
        (self.log)(&line.to_string());
    }
}
