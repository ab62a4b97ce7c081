//! What the switch reads of a frame: its Ethernet header and, to count retransmissions, its TCP one.
//!
//! Every view is checked: it exists only if all that it says lies within the frame. No other part
//! of a frame is looked at, and none is trusted for a size.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::link::MAX_FRAME_BYTES;

/// The length of an Ethernet header without a VLAN tag.
pub(crate) const HEADER_BYTES: usize = 14;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const PROTOCOL_TCP: u8 = 6;

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// All ones: every station.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether it names a group of stations (multicast or broadcast) and not one.
    pub fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no MAC address: write six bytes as 52:54:00:12:34:56");
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts
                .next()
                .filter(|part| part.len() == 2)
                .ok_or_else(wrong)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() {
            Err(wrong())
        } else {
            Ok(Self(octets))
        }
    }
}

/// The header of a frame whose length is one that Ethernet allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub destination: Mac,
    pub source: Mac,
    pub ethertype: u16,
}

impl Header {
    /// `None` if the frame is shorter than a header or longer than [`MAX_FRAME_BYTES`].
    pub fn parse(frame: &[u8]) -> Option<Self> {
        if frame.len() > MAX_FRAME_BYTES {
            return None;
        }
        let (destination, rest) = frame.split_first_chunk::<6>()?;
        let (source, rest) = rest.split_first_chunk::<6>()?;
        let (ethertype, _) = rest.split_first_chunk::<2>()?;
        Some(Self {
            destination: Mac(*destination),
            source: Mac(*source),
            ethertype: u16::from_be_bytes(*ethertype),
        })
    }

    /// Whether it is a broadcast that an IPv4 network needs: ARP, or IPv4 itself (DHCP).
    pub fn is_useful_broadcast(&self) -> bool {
        self.destination == Mac::BROADCAST
            && matches!(self.ethertype, ETHERTYPE_ARP | ETHERTYPE_IPV4)
    }
}

/// One way of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    pub source: (Ipv4Addr, u16),
    pub destination: (Ipv4Addr, u16),
}

/// What counts of a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub flow: Flow,
    /// The sequence number of its first byte (or of its SYN).
    pub sequence: u32,
    /// How many sequence numbers it takes: its payload, and one each for SYN and FIN.
    pub length: u32,
    pub syn: bool,
    pub fin: bool,
}

impl Segment {
    /// `None` if the frame is not TCP over IPv4, is a later fragment, or lies about its lengths.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        if Header::parse(frame)?.ethertype != ETHERTYPE_IPV4 {
            return None;
        }
        let (addresses, tcp) = ipv4_tcp(&frame[HEADER_BYTES..])?;
        let header_bytes = usize::from(tcp.get(12)? >> 4) * 4;
        let payload = tcp.get(header_bytes.max(20)..)?;
        let flags = tcp[13];
        let (fin, syn) = (flags & 1 != 0, flags & 2 != 0);
        Some(Self {
            flow: Flow {
                source: (addresses.0, be16(tcp, 0)?),
                destination: (addresses.1, be16(tcp, 2)?),
            },
            sequence: u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?),
            length: u32::try_from(payload.len()).ok()? + u32::from(syn) + u32::from(fin),
            syn,
            fin,
        })
    }
}

/// The addresses and the TCP part of an IPv4 packet, without the padding of short frames.
fn ipv4_tcp(packet: &[u8]) -> Option<((Ipv4Addr, Ipv4Addr), &[u8])> {
    let header_bytes = usize::from(packet.first()? & 0x0f) * 4;
    let later_fragment = be16(packet, 6)? & 0x1fff != 0;
    if packet[0] >> 4 != 4 || header_bytes < 20 || later_fragment {
        return None;
    }
    if *packet.get(9)? != PROTOCOL_TCP {
        return None;
    }
    let address = |at: usize| {
        Some(Ipv4Addr::from(
            <[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?,
        ))
    };
    let tcp = packet.get(header_bytes..usize::from(be16(packet, 2)?))?;
    Some(((address(12)?, address(16)?), tcp))
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
pub(crate) mod testing {
    //! Frames for the tests of this module's siblings.

    use super::Mac;

    /// A frame of `len` bytes (at least a header) with an unassigned Ethertype.
    pub fn ethernet(destination: Mac, source: Mac, len: usize) -> Vec<u8> {
        let mut frame = [destination.0, source.0].concat();
        frame.extend([0x88, 0xb5]);
        frame.resize(len.max(super::HEADER_BYTES), 0);
        frame
    }

    /// A TCP segment in IPv4 with correct lengths and no checksums.
    pub fn tcp(destination: Mac, source: Mac, sequence: u32, flags: u8, payload: usize) -> Vec<u8> {
        let mut frame = [destination.0, source.0].concat();
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend(u16::try_from(40 + payload).unwrap().to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0x1f, 0x90, 0xc0, 0x00]);
        frame.extend(sequence.to_be_bytes());
        frame.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame.resize(frame.len() + payload, 0x2a);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

    #[test]
    fn a_mac_is_written_as_it_is_read() {
        let text = "52:54:00:12:34:5f";
        assert_eq!(text.parse::<Mac>().unwrap().to_string(), text);
        for wrong in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:56:78",
            "5:54:00:12:34:56",
            "+1:0g:::",
        ] {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_segment_counts_its_payload_and_its_flags() {
        let segment = |flags, payload| {
            Segment::parse(&testing::tcp(A, B, 7, flags, payload))
                .unwrap()
                .length
        };
        assert_eq!(segment(0x10, 0), 0);
        assert_eq!(segment(0x10, 100), 100);
        assert_eq!(segment(0x02, 0), 1);
        assert_eq!(segment(0x19, 5), 6);
    }

    #[test]
    fn the_padding_of_a_short_frame_is_no_payload() {
        let mut frame = testing::tcp(A, B, 7, 0x10, 0);
        frame.resize(60, 0);
        assert_eq!(Segment::parse(&frame).unwrap().length, 0);
    }

    #[test]
    fn a_packet_longer_than_its_frame_is_no_segment() {
        let frame = testing::tcp(A, B, 7, 0x10, 100);
        assert_eq!(Segment::parse(&frame[..frame.len() - 1]), None);
    }

    #[test]
    fn a_later_fragment_has_no_tcp_header() {
        let mut frame = testing::tcp(A, B, 7, 0x10, 100);
        frame[HEADER_BYTES + 7] = 1;
        assert_eq!(Segment::parse(&frame), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(frame in prop::collection::vec(any::<u8>(), 0..1600)) {
            let _ = (Header::parse(&frame), Segment::parse(&frame));
        }

        // A valid segment with a few bytes changed goes deeper than noise does.
        #[test]
        fn no_damaged_segment_panics(
            payload in 0..64usize,
            damage in prop::collection::vec((0..118usize, any::<u8>()), 0..6),
            cut in 0..118usize,
        ) {
            let mut frame = testing::tcp(A, B, 7, 0x10, payload);
            for (at, value) in damage {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            frame.truncate(cut);
            if let Some(segment) = Segment::parse(&frame) {
                prop_assert!(segment.length as usize <= frame.len());
            }
        }
    }
}
