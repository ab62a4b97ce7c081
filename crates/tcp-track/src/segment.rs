//! TCP segments in Ethernet frames: the few fields of the headers that count.
//!
//! Every view is checked: it exists only if all that it says lies within the frame. Nothing of a frame
//! is trusted for a size.

use core::net::Ipv4Addr;

/// Length of an Ethernet header without a VLAN tag.
const ETHERNET_BYTES: usize = 14;

const ETHERTYPE_IPV4: u16 = 0x0800;
const PROTOCOL_TCP: u8 = 6;

/// One way of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Address and port of the sender.
    pub source: (Ipv4Addr, u16),
    /// Address and port of the receiver.
    pub destination: (Ipv4Addr, u16),
}

/// TCP segment, as far as it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its connection and direction.
    pub flow: Flow,
    /// The sequence number of its first byte (or of its SYN).
    pub sequence: u32,
    /// Sequence numbers that it takes: its payload, and one each for SYN and FIN.
    pub length: u32,
    /// It opens a connection.
    pub syn: bool,
    /// It closes its direction.
    pub fin: bool,
}

impl Segment {
    /// Reads an Ethernet frame; `None` if it is not TCP over IPv4, is a later fragment, or lies about its lengths.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let (ethernet, packet) = frame.split_at_checked(ETHERNET_BYTES)?;
        if be16(ethernet, 12)? != ETHERTYPE_IPV4 {
            return None;
        }
        let (addresses, tcp) = ipv4_tcp(packet)?;
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
mod tests {
    use super::*;
    use crate::testing::frame;
    use proptest::prelude::*;

    #[test]
    fn a_segment_counts_its_payload_and_its_flags() {
        let segment = |flags, payload| Segment::parse(&frame(7, flags, payload)).unwrap().length;
        assert_eq!(segment(0x10, 0), 0);
        assert_eq!(segment(0x10, 100), 100);
        assert_eq!(segment(0x02, 0), 1);
        assert_eq!(segment(0x19, 5), 6);
    }

    #[test]
    fn the_padding_of_a_short_frame_is_no_payload() {
        let mut frame = frame(7, 0x10, 0);
        frame.resize(60, 0);
        assert_eq!(Segment::parse(&frame).unwrap().length, 0);
    }

    #[test]
    fn a_packet_longer_than_its_frame_is_no_segment() {
        let frame = frame(7, 0x10, 100);
        assert_eq!(Segment::parse(&frame[..frame.len() - 1]), None);
    }

    #[test]
    fn a_later_fragment_has_no_tcp_header() {
        let mut frame = frame(7, 0x10, 100);
        frame[ETHERNET_BYTES + 7] = 1;
        assert_eq!(Segment::parse(&frame), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(frame in prop::collection::vec(any::<u8>(), 0..1600)) {
            let _ = Segment::parse(&frame);
        }

        // A valid segment with a few bytes changed goes deeper than noise does.
        #[test]
        fn no_damaged_segment_panics(
            payload in 0..64u16,
            damage in prop::collection::vec((0..118usize, any::<u8>()), 0..6),
            cut in 0..118usize,
        ) {
            let mut frame = frame(7, 0x10, payload);
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
