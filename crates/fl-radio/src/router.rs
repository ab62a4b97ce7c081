//! Packets over several hops: the crate `embedded-nano-mesh`, fed with frames of a radio.
//!
//! Its router floods: every node repeats what it has not heard lately, until the hops of a packet are used
//! up. Its duplicate filter, queues and periods are set when it is built: `.cargo/config.toml` has them, and
//! says why.

use crate::packet::{PACKET_BYTES, PacketBytes};
use core::convert::Infallible;
use core::num::NonZeroU8;
use embedded_nano_mesh::{Node, NodeConfig, PacketDataBytes};
use heapless::{Deque, Vec};

/// Octets of a frame: three of start, seven of head, a packet, and a checksum.
pub const FRAME_BYTES: usize = 3 + 8 + PACKET_BYTES;

/// Place of the sender's address in a frame.
const SOURCE: usize = 3;

/// Place of the receiver's address in a frame.
const DESTINATION: usize = 4;

/// Nodes that a frame is from and for; `None` if it is none.
pub fn ends(frame: &[u8]) -> Option<(usize, usize)> {
    let node = |at: usize| usize::from(*frame.get(at)?).checked_sub(1);
    Some((node(SOURCE)?, node(DESTINATION)?))
}

/// A frame as it goes on the air.
pub type Frame = Vec<u8, FRAME_BYTES>;

/// Place of the number that a sender gives its packet.
const ID: usize = 5;

/// Octets with which a frame starts.
const START: &[u8] = b"xxx";

/// Packets that wait for their user.
const INBOX: usize = 16;

/// Packets that a node remembers to have heard, and for how long: as the crate does, by `.cargo/config.toml`.
const SEEN: usize = 64;
const SEEN_MS: u32 = 10_000;

/// One node of a mesh.
pub struct Router {
    address: NonZeroU8,
    node: Node,
    inbox: Deque<(NonZeroU8, u8, PacketBytes), INBOX>,
    /// Packets lost since a queue was full.
    overflowed: u32,
    seen: Seen,
}

/// Packets heard of late, by sender and number. The crate knows them too, and looks through its own list at every octet:
/// most frames of a flood are heard before.
struct Seen {
    /// The oldest makes room for the next.
    packets: Deque<(u8, u8, u32), SEEN>,
}

impl Seen {
    /// True if a frame is whole and its packet was heard before.
    fn knows(&mut self, frame: &[u8], now_ms: u32) -> bool {
        let Some((content, checksum)) = whole(frame) else {
            return false;
        };
        let sum = content
            .iter()
            .fold(0_u8, |sum, octet| sum.wrapping_add(*octet));
        if sum != checksum {
            return false;
        }
        let (source, id) = (frame[SOURCE], frame[ID]);
        let mut known = self.packets.iter();
        if known.any(|&(from, number, at_ms)| {
            (from, number) == (source, id) && now_ms.wrapping_sub(at_ms) <= SEEN_MS
        }) {
            return true;
        }
        if self.packets.is_full() {
            self.packets.pop_front();
        }
        _ = self.packets.push_back((source, id, now_ms));
        false
    }
}

/// Content and checksum of a frame; `None` if it is none.
fn whole(frame: &[u8]) -> Option<(&[u8], u8)> {
    let (&checksum, content) = frame.strip_prefix(START)?.split_last()?;
    (frame.len() == FRAME_BYTES && frame[SOURCE] != 0).then_some((content, checksum))
}

/// Serial line of a node: what was heard, and what it says.
struct Line<'a> {
    heard: &'a [u8],
    said: Frame,
}

impl embedded_io::ErrorType for Line<'_> {
    type Error = Infallible;
}

impl embedded_io::ReadReady for Line<'_> {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(!self.heard.is_empty())
    }
}

impl embedded_io::Read for Line<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let length = self.heard.len().min(buffer.len());
        let (now, rest) = self.heard.split_at(length);
        buffer[..length].copy_from_slice(now);
        self.heard = rest;
        Ok(length)
    }
}

impl embedded_io::Write for Line<'_> {
    fn write(&mut self, octets: &[u8]) -> Result<usize, Infallible> {
        // One frame a period, and that is as long as the buffer.
        _ = self.said.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl Router {
    /// A node of this address that lets `listen_ms` pass between two of its frames.
    pub fn new(address: NonZeroU8, listen_ms: u32) -> Self {
        Self {
            address,
            node: Node::new(NodeConfig {
                device_address: address,
                listen_period: listen_ms,
            }),
            inbox: Deque::new(),
            overflowed: 0,
            seen: Seen {
                packets: Deque::new(),
            },
        }
    }

    /// Queues a packet for a node at most `hops` away; false if its queue is full.
    pub fn send(&mut self, to: NonZeroU8, hops: u8, packet: &PacketBytes) -> bool {
        let Ok(data) = PacketDataBytes::from_slice(packet) else {
            return false;
        };
        self.node.send_to_exact(data, to, hops, true).is_ok()
    }

    /// Takes in octets that its radio heard, and hands out the frame that it is time for.
    pub fn update(&mut self, heard: &[u8], now_ms: u32) -> Option<Frame> {
        let said = Frame::new();
        // Its filter does not know what it sent itself: it would repeat the echo.
        let is_echo = heard.len() == FRAME_BYTES && heard[SOURCE] == self.address.get();
        let heard = match is_echo || self.seen.knows(heard, now_ms) {
            true => &[],
            false => heard,
        };
        let mut line = Line { heard: &[], said };
        if !heard.is_empty() {
            // It takes a checksum that is `x` for the first of the next frame's start, and loses that frame.
            line.heard = &[0];
            self.read(&mut line, now_ms);
            line.heard = heard;
        }
        self.read(&mut line, now_ms);
        (!line.said.is_empty()).then_some(line.said)
    }

    /// Has the node read a line to its end: an octet at a time, and it looks for a packet after each.
    fn read(&mut self, line: &mut Line<'_>, now_ms: u32) {
        loop {
            let full = self.node.update(line, now_ms).is_err();
            self.overflowed += u32::from(full);
            self.collect();
            if line.heard.is_empty() {
                return;
            }
        }
    }

    fn collect(&mut self) {
        while let Some(packet) = self.node.receive() {
            let from = NonZeroU8::new(packet.source_device_identifier);
            let bytes = PacketBytes::try_from(packet.data.as_slice());
            let (Some(from), Ok(bytes)) = (from, bytes) else {
                continue;
            };
            let taken = self.inbox.push_back((from, packet.get_lifetime(), bytes));
            self.overflowed += u32::from(taken.is_err());
        }
    }

    /// The next packet for this node: from whom, the hops that it had left, and its octets.
    pub fn receive(&mut self) -> Option<(NonZeroU8, u8, PacketBytes)> {
        self.inbox.pop_front()
    }

    /// Packets lost so far because a queue was full.
    pub fn overflowed(&self) -> u32 {
        self.overflowed
    }
}

impl core::fmt::Debug for Router {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Router")
            .field("overflowed", &self.overflowed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u8) -> NonZeroU8 {
        NonZeroU8::new(number).unwrap()
    }

    #[test]
    fn a_packet_crosses_a_relay_once_and_ends_with_its_hops() {
        let [mut a, mut b, mut c] = [1, 2, 3].map(|number| Router::new(address(number), 100));
        let packet = [7; PACKET_BYTES];
        assert!(a.send(address(3), 2, &packet));
        let first = a.update(&[], 100).unwrap();
        assert_eq!(first.len(), FRAME_BYTES);
        // The same frame twice, as two neighbours would repeat it.
        assert_eq!(b.update(&first, 50), None);
        assert_eq!(b.update(&first, 60), None);
        let second = b.update(&[], 200).unwrap();
        assert_eq!(b.update(&[], 300), None);
        // The echo is not sent once more by who began it.
        assert_eq!(a.update(&second, 310), None);
        assert_eq!(a.update(&[], 350), None);
        assert_eq!(c.update(&second, 210), None);
        assert_eq!(c.receive(), Some((address(1), 1, packet)));
        assert_eq!((b.receive(), c.receive()), (None, None));

        assert!(a.send(address(3), 1, &packet));
        let last = a.update(&[], 500).unwrap();
        b.update(&last, 510);
        assert_eq!(b.update(&[], 700), None);
    }

    #[test]
    fn the_filter_of_duplicates_does_not_grow_deaf() {
        let [mut a, mut b] = [1, 2].map(|number| Router::new(address(number), 10));
        let mut now_ms = 0;
        let mut come = 0;
        // More packets than ids, each heard three times.
        for number in 0..600_u32 {
            let packet = [number as u8; PACKET_BYTES];
            assert!(a.send(address(2), 3, &packet));
            now_ms += 200;
            let frame = a.update(&[], now_ms).unwrap();
            (0..3).for_each(|_| _ = b.update(&frame, now_ms));
            while b.receive().is_some() {
                come += 1;
            }
        }
        assert_eq!(come, 600);
    }

    #[test]
    fn octets_without_a_frame_are_passed_over() {
        let mut node = Router::new(address(1), 10);
        for octet in 0..=255 {
            node.update(&[octet, b'x', b'x', b'x'], 1_000);
        }
        assert_eq!(node.receive(), None);
    }
}
