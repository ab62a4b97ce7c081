//! Counts TCP segments in the frames of a network card.
//!
//! The TCP stack does not tell what it sends again, but the wire does: a segment that carries data
//! (or a SYN or FIN) whose end is not beyond the furthest byte already sent on its connection is a
//! retransmission. Only headers are read, and nothing in a frame is trusted: what is too short or
//! is no TCP is not counted.

/// Connections whose furthest byte is remembered; more than the device ever has open. When all are
/// taken, the longest untouched one gives way, and at worst one of its retransmissions is missed.
const FLOWS: usize = 16;

/// Totals since boot.
#[derive(Debug, Default)]
pub struct SegmentCounters {
    /// Segments sent, those sent again included.
    pub sent: u32,
    /// Segments received.
    pub received: u32,
    /// Segments sent again.
    pub sent_again: u32,
    flows: [Flow; FLOWS],
    clock: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    /// Remote address and both ports; zero when unused.
    key: u64,
    /// The sequence number behind the furthest byte sent.
    furthest: u32,
    /// The value of the clock at the last segment.
    touched: u32,
}

/// Facts of a sent TCP segment for counting.
struct Segment {
    key: u64,
    start: u32,
    /// Length in sequence space: the payload, and one each for SYN and FIN.
    len: u32,
    is_syn: bool,
}

impl SegmentCounters {
    /// Looks at a received Ethernet frame.
    pub fn count_received(&mut self, frame: &[u8]) {
        if tcp_of(frame).is_some() {
            self.received = self.received.wrapping_add(1);
        }
    }

    /// Looks at an Ethernet frame about to be sent.
    pub fn count_sent(&mut self, frame: &[u8]) {
        let Some(segment) = tcp_of(frame) else { return };
        self.sent = self.sent.wrapping_add(1);
        if segment.len > 0 && self.is_sent_again(&segment) {
            self.sent_again = self.sent_again.wrapping_add(1);
        }
    }

    fn is_sent_again(&mut self, segment: &Segment) -> bool {
        self.clock = self.clock.wrapping_add(1);
        let end = segment.start.wrapping_add(segment.len);
        let known = self.flows.iter_mut().find(|flow| flow.key == segment.key);
        if let Some(flow) = known {
            flow.touched = self.clock;
            let ahead = end.wrapping_sub(flow.furthest) as i32;
            // A SYN elsewhere in the sequence space is a new connection between old ports.
            let is_new = segment.is_syn && end != flow.furthest;
            if is_new || ahead > 0 {
                flow.furthest = end;
                return false;
            }
            return true;
        }
        let clock = self.clock;
        let oldest = self
            .flows
            .iter_mut()
            .max_by_key(|flow| clock.wrapping_sub(flow.touched));
        if let Some(flow) = oldest {
            *flow = Flow {
                key: segment.key,
                furthest: end,
                touched: clock,
            };
        }
        false
    }
}

/// The TCP segment in an Ethernet frame with IPv4, if that is what it holds.
fn tcp_of(frame: &[u8]) -> Option<Segment> {
    const ETHERNET_BYTES: usize = 14;
    const TCP: u8 = 6;
    if frame.get(12..ETHERNET_BYTES)? != [0x08, 0x00] {
        return None;
    }
    let packet = &frame[ETHERNET_BYTES..];
    let header_bytes = usize::from(packet.first()? & 0x0f) * 4;
    let total_bytes = usize::from(u16_at(packet, 2)?);
    // A later fragment starts with no TCP header; an Ethernet frame may be padded beyond the packet.
    let is_fragment = u16_at(packet, 6)? & 0x1fff != 0;
    if header_bytes < 20 || is_fragment || *packet.get(9)? != TCP {
        return None;
    }
    let remote = u32_at(packet, 16)?;
    let tcp = packet.get(header_bytes..total_bytes)?;
    let offset = usize::from(*tcp.get(12)? >> 4) * 4;
    let flags = *tcp.get(13)?;
    let payload_bytes = tcp.len().checked_sub(offset)? as u32;
    let (fin, syn) = (flags & 1 != 0, flags & 2 != 0);
    Some(Segment {
        key: u64::from(remote) << 32 | u64::from(u32_at(tcp, 0)?),
        start: u32_at(tcp, 4)?,
        len: payload_bytes + u32::from(fin) + u32::from(syn),
        is_syn: syn,
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..at + 2)?
        .try_into()
        .ok()
        .map(u16::from_be_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..at + 4)?
        .try_into()
        .ok()
        .map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const SYN: u8 = 2;
    const ACK: u8 = 16;

    fn frame(port: u16, sequence: u32, flags: u8, payload: usize) -> Vec<u8> {
        let mut frame = std::vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend((40 + payload as u16).to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1]);
        frame.extend([&port.to_be_bytes()[..], &80u16.to_be_bytes()].concat());
        frame.extend(sequence.to_be_bytes());
        frame.extend([0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        frame.resize(frame.len() + payload, 0xaa);
        frame
    }

    #[test]
    fn data_sent_before_is_sent_again() {
        let mut counters = SegmentCounters::default();
        for (sequence, flags, payload) in [
            (99, SYN, 0),
            (100, ACK, 50),
            (150, ACK, 50),
            (150, ACK, 50),
            (200, ACK, 0),
        ] {
            counters.count_sent(&frame(5000, sequence, flags, payload));
        }
        assert_eq!((counters.sent, counters.sent_again), (5, 1));
    }

    #[test]
    fn a_connection_between_old_ports_starts_anew() {
        let mut counters = SegmentCounters::default();
        counters.count_sent(&frame(5000, 9000, SYN, 0));
        counters.count_sent(&frame(5000, 9001, ACK, 100));
        counters.count_sent(&frame(5000, 400, SYN, 0));
        counters.count_sent(&frame(5000, 401, ACK, 100));
        assert_eq!(counters.sent_again, 0);
        counters.count_sent(&frame(5000, 401, ACK, 100));
        assert_eq!(counters.sent_again, 1);
    }

    #[test]
    fn sequence_numbers_wrap() {
        let mut counters = SegmentCounters::default();
        counters.count_sent(&frame(5000, u32::MAX - 9, ACK, 20));
        counters.count_sent(&frame(5000, 10, ACK, 20));
        assert_eq!(counters.sent_again, 0);
        counters.count_sent(&frame(5000, u32::MAX - 9, ACK, 20));
        assert_eq!(counters.sent_again, 1);
    }

    #[test]
    fn more_connections_than_are_remembered_are_no_retransmissions() {
        let mut counters = SegmentCounters::default();
        for port in 0..100 {
            counters.count_sent(&frame(port, 1000, SYN, 0));
        }
        assert_eq!((counters.sent, counters.sent_again), (100, 0));
    }

    #[test]
    fn what_is_short_or_no_tcp_is_not_counted() {
        let mut counters = SegmentCounters::default();
        let whole = frame(5000, 1, ACK, 10);
        for len in 0..whole.len() {
            counters.count_received(&whole[..len]);
        }
        let mut udp = whole.clone();
        udp[23] = 17;
        counters.count_received(&udp);
        assert_eq!(counters.received, 0);
        counters.count_received(&whole);
        assert_eq!(counters.received, 1);
    }
}
