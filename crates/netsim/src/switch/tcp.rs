//! Counts TCP retransmissions in the frames of one direction.
//!
//! A segment that starts below the highest sequence number of its flow, and carries data, SYN or
//! FIN, was sent before: a sender sends new data in order, and the switch is its next hop. The
//! state is a fixed number of flows; the one that was silent longest makes room for a new one.

use super::frame::{Flow, Segment};

/// Flows that are remembered for each direction of a device. A device has one or two at a time.
const MAX_FLOWS: usize = 16;

/// What a frame is to the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Not a TCP segment, or not one that can be read.
    Other,
    /// A TCP segment, seen for the first time or without data.
    Segment,
    /// A TCP segment of which at least the first byte was seen before in this direction.
    Retransmission,
}

/// The flows of one direction, the latest at the end.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    flows: Vec<(Flow, u32)>,
}

impl Watch {
    /// Takes the next frame of this direction.
    pub fn see(&mut self, frame: &[u8]) -> Kind {
        let Some(segment) = Segment::parse(frame) else {
            return Kind::Other;
        };
        let end = segment.sequence.wrapping_add(segment.length);
        let known = self
            .flows
            .iter()
            .rposition(|(flow, _)| *flow == segment.flow);
        let Some(at) = known else {
            self.remember(segment.flow, end);
            return Kind::Segment;
        };
        let (_, highest) = self.flows.remove(at);
        let (highest, kind) = judge(&segment, highest);
        self.flows.push((segment.flow, highest));
        kind
    }

    fn remember(&mut self, flow: Flow, end: u32) {
        if self.flows.len() == MAX_FLOWS {
            self.flows.remove(0);
        }
        self.flows.push((flow, end));
    }
}

/// The new highest sequence number of the flow, and what the segment is.
fn judge(segment: &Segment, highest: u32) -> (u32, Kind) {
    let end = segment.sequence.wrapping_add(segment.length);
    if segment.syn {
        // One with another number opens another connection on the same ports.
        return (
            end,
            if end == highest {
                Kind::Retransmission
            } else {
                Kind::Segment
            },
        );
    }
    let repeats = segment.length > 0 && before(segment.sequence, highest);
    // A keep-alive repeats the last byte on purpose (RFC 9293, 3.8.4).
    let keep_alive = segment.length == 1 && end == highest && !segment.fin;
    let kind = if repeats && !keep_alive {
        Kind::Retransmission
    } else {
        Kind::Segment
    };
    (if before(highest, end) { end } else { highest }, kind)
}

/// Whether `a` is before `b` in the circle of sequence numbers (RFC 9293, 3.4).
fn before(a: u32, b: u32) -> bool {
    (1..1 << 31).contains(&b.wrapping_sub(a))
}

#[cfg(test)]
mod tests {
    use super::Kind::{Other, Retransmission, Segment as First};
    use super::*;
    use crate::switch::frame::Mac;
    use crate::switch::frame::testing::{ethernet, tcp};

    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    const FIN: u8 = 0x11;

    /// Each segment as (sequence number, flags, payload), and what it is.
    fn check(segments: &[(u32, u8, usize, Kind)]) {
        let mut watch = Watch::default();
        for (n, &(sequence, flags, payload, kind)) in segments.iter().enumerate() {
            assert_eq!(
                watch.see(&tcp(A, B, sequence, flags, payload)),
                kind,
                "segment {n}"
            );
        }
    }

    #[test]
    fn data_that_was_sent_before_is_a_retransmission() {
        check(&[
            (100, SYN, 0, First),
            (101, ACK, 0, First),
            (101, ACK, 50, First),
            (151, ACK, 50, First),
            (101, ACK, 50, Retransmission),
            (151, ACK, 100, Retransmission),
            (251, ACK, 10, First),
            (261, FIN, 0, First),
            (261, FIN, 0, Retransmission),
        ]);
    }

    #[test]
    fn acknowledgements_and_keep_alives_are_none() {
        check(&[
            (100, ACK, 50, First),
            (150, ACK, 0, First),
            (150, ACK, 0, First),
            (149, ACK, 1, First),
            (149, ACK, 0, First),
        ]);
    }

    #[test]
    fn a_syn_that_comes_again_is_one_and_another_opens_anew() {
        check(&[
            (100, SYN, 0, First),
            (100, SYN, 0, Retransmission),
            (101, ACK, 1000, First),
            (50, SYN, 0, First),
            (51, ACK, 10, First),
        ]);
    }

    #[test]
    fn sequence_numbers_wrap() {
        check(&[
            (u32::MAX - 9, ACK, 20, First),
            (10, ACK, 20, First),
            (u32::MAX - 9, ACK, 20, Retransmission),
            (30, ACK, 5, First),
        ]);
    }

    #[test]
    fn flows_are_kept_apart_and_bounded() {
        let mut watch = Watch::default();
        let from_port = |port: u16| {
            let mut frame = tcp(A, B, 100, ACK, 50);
            frame[34..36].copy_from_slice(&port.to_be_bytes());
            frame
        };
        for port in 0..2 * MAX_FLOWS as u16 {
            assert_eq!(watch.see(&from_port(port)), First);
            assert_eq!(watch.see(&from_port(port)), Retransmission);
        }
        assert_eq!(watch.flows.len(), MAX_FLOWS);
        assert_eq!(watch.see(&from_port(0)), First);
    }

    #[test]
    fn other_frames_are_other() {
        assert_eq!(Watch::default().see(&ethernet(A, B, 60)), Other);
    }
}
