//! The streams of a leaf: each is one exchange, of two messages.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::{FROM_AGGREGATOR, http};

/// Reason why a stream gives or takes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unready {
    /// Nothing has come yet.
    WouldBlock,
    /// The radio has given its message up.
    Broken,
}

/// Exchanges of a leaf that are on their way, by number.
#[derive(Debug, Default)]
pub struct Streams {
    streams: BTreeMap<u32, Stream>,
    next: u32,
    label: u8,
    /// A request of the aggregator that has come.
    request: Option<(u8, Vec<u8>)>,
    out: VecDeque<(u8, Vec<u8>)>,
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

impl Streams {
    /// True while an exchange is on its way.
    pub fn is_busy(&self) -> bool {
        !self.streams.is_empty() || self.request.is_some() || !self.out.is_empty()
    }

    /// Takes in a message that came down.
    pub fn come(&mut self, label: u8, message: Vec<u8>) {
        if label >= FROM_AGGREGATOR {
            self.request = Some((label, message));
        } else if let Some(stream) = self.of(label) {
            stream.came = Some(message);
        }
    }

    /// Breaks the exchange of this label: the radio has given its message up.
    pub fn broken(&mut self, label: u8) {
        self.of(label)
            .into_iter()
            .for_each(|stream| stream.is_broken = true);
    }

    /// The next message to send up, with its label.
    pub fn take_out(&mut self) -> Option<(u8, Vec<u8>)> {
        self.out.pop_front()
    }

    /// The stream of a request of the aggregator, if one has come.
    pub fn accept(&mut self) -> Option<u32> {
        let (label, request) = self.request.take()?;
        Some(self.add(Stream::new(label, Some(request))))
    }

    /// A stream for a request of the leaf.
    pub fn connect(&mut self) -> u32 {
        self.label = (self.label + 1) % FROM_AGGREGATOR;
        self.add(Stream::new(self.label, None))
    }

    /// Reads what has come; 0 at its end.
    ///
    /// # Errors
    /// [`Unready`] if there is nothing to read.
    pub fn read(&mut self, number: u32, buffer: &mut [u8]) -> Result<usize, Unready> {
        let stream = self.live(number)?;
        let (is_incoming, is_answered) = (stream.is_incoming(), stream.is_sent);
        let came = stream.came.as_ref().ok_or(Unready::WouldBlock)?;
        let rest = &came[stream.read..];
        // Whoever asks has no more to say once it is answered.
        if rest.is_empty() && is_incoming && !is_answered {
            return Err(Unready::WouldBlock);
        }
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        stream.read += length;
        Ok(length)
    }

    /// Writes a part of a message, which is sent once it is whole.
    ///
    /// # Errors
    /// [`Unready::Broken`] if there is no such exchange any more.
    pub fn write(&mut self, number: u32, bytes: &[u8]) -> Result<usize, Unready> {
        let stream = self.live(number)?;
        stream.written.extend_from_slice(bytes);
        let whole = http::whole_len(&stream.written).ok().flatten();
        let is_whole = whole.is_some_and(|length| stream.written.len() >= length);
        if !stream.is_sent && is_whole {
            stream.is_sent = true;
            let message = (stream.label, core::mem::take(&mut stream.written));
            self.out.push_back(message);
        }
        Ok(bytes.len())
    }

    /// Ends an exchange; what was written whole still goes up.
    pub fn close(&mut self, number: u32) {
        self.streams.remove(&number);
    }

    fn add(&mut self, stream: Stream) -> u32 {
        self.next = self.next.wrapping_add(1);
        self.streams.insert(self.next, stream);
        self.next
    }

    fn live(&mut self, number: u32) -> Result<&mut Stream, Unready> {
        let stream = self.streams.get_mut(&number);
        stream
            .filter(|stream| !stream.is_broken)
            .ok_or(Unready::Broken)
    }

    fn of(&mut self, label: u8) -> Option<&mut Stream> {
        let mut streams = self.streams.values_mut();
        streams.find(|stream| stream.label == label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_the_aggregator_ends_when_it_is_answered_and_not_before() {
        let mut streams = Streams::default();
        streams.come(FROM_AGGREGATOR | 1, b"GET /ready HTTP/1.1\r\n\r\n".to_vec());
        let number = streams.accept().unwrap();
        let mut buffer = [0; 64];
        assert_eq!(streams.read(number, &mut buffer), Ok(23));
        assert_eq!(streams.read(number, &mut buffer), Err(Unready::WouldBlock));
        let answer = b"HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\n{}";
        let (head, body) = answer.split_at(30);
        streams.write(number, head).unwrap();
        assert_eq!(streams.read(number, &mut buffer), Err(Unready::WouldBlock));
        streams.write(number, body).unwrap();
        // Who has answered waits for the other side's end, and no time passes for it meanwhile.
        assert_eq!(streams.read(number, &mut buffer), Ok(0));
        assert_eq!(
            streams.take_out(),
            Some((FROM_AGGREGATOR | 1, answer.to_vec()))
        );
    }
}
