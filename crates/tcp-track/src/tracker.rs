//! Retransmissions among the frames of one direction.
//!
//! A segment that starts below the highest sequence number of its flow, and carries data, SYN or
//! FIN, was sent before: a sender sends new data in order, and the one who looks is its next hop. The
//! state is a fixed number of flows; the one that was silent longest makes room for a new one.

use crate::segment::{Flow, Segment};

/// Flows that are remembered for each direction. A device has one or two at a time.
pub const MAX_FLOWS: usize = 16;

/// Kind of a frame to the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Not a TCP segment, or not one that can be read.
    Other,
    /// A TCP segment, seen for the first time or without data.
    Segment,
    /// A TCP segment of which at least the first byte was seen before in this direction.
    Retransmission,
}

/// The flows of one direction.
#[derive(Debug, Default)]
pub struct Tracker {
    flows: [Option<Progress>; MAX_FLOWS],
    segments: u64,
}

/// Progress of a flow.
#[derive(Clone, Copy, Debug)]
struct Progress {
    flow: Flow,
    /// The sequence number behind the highest byte seen.
    highest: u32,
    /// The count of segments at the last one of this flow.
    seen: u64,
}

impl Tracker {
    /// Takes the next Ethernet frame of this direction.
    pub fn see(&mut self, frame: &[u8]) -> FrameKind {
        Segment::parse(frame).map_or(FrameKind::Other, |segment| self.track(&segment))
    }

    fn track(&mut self, segment: &Segment) -> FrameKind {
        self.segments += 1;
        let known = self.flows.iter_mut().flatten();
        if let Some(progress) = { known }.find(|progress| progress.flow == segment.flow) {
            progress.seen = self.segments;
            return progress.judge(segment);
        }
        let silent_longest = self
            .flows
            .iter_mut()
            .min_by_key(|place| place.map_or(0, |progress| progress.seen));
        if let Some(place) = silent_longest {
            *place = Some(Progress {
                flow: segment.flow,
                highest: segment.sequence.wrapping_add(segment.length),
                seen: self.segments,
            });
        }
        FrameKind::Segment
    }
}

impl Progress {
    /// Tells what the next segment of the flow is, and remembers how far it goes.
    fn judge(&mut self, segment: &Segment) -> FrameKind {
        let end = segment.sequence.wrapping_add(segment.length);
        if segment.syn {
            // One with another number opens another connection on the same ports.
            let repeats = end == self.highest;
            self.highest = end;
            return if repeats {
                FrameKind::Retransmission
            } else {
                FrameKind::Segment
            };
        }
        let repeats = segment.length > 0 && before(segment.sequence, self.highest);
        // A keep-alive repeats the last byte on purpose (RFC 9293, 3.8.4).
        let keep_alive = segment.length == 1 && end == self.highest && !segment.fin;
        if before(self.highest, end) {
            self.highest = end;
        }
        if repeats && !keep_alive {
            FrameKind::Retransmission
        } else {
            FrameKind::Segment
        }
    }
}

/// Tells if `a` is before `b` in the circle of sequence numbers (RFC 9293, 3.4).
fn before(a: u32, b: u32) -> bool {
    (1..1 << 31).contains(&b.wrapping_sub(a))
}

#[cfg(test)]
mod tests {
    use super::FrameKind::{Other, Retransmission, Segment as First};
    use super::*;
    use crate::testing::{frame, set_port};

    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    const FIN: u8 = 0x11;

    /// Checks segments, each as (sequence number, flags, payload), for their kinds.
    fn check(segments: &[(u32, u8, u16, FrameKind)]) {
        let mut tracker = Tracker::default();
        for (n, &(sequence, flags, payload, kind)) in segments.iter().enumerate() {
            assert_eq!(
                tracker.see(&frame(sequence, flags, payload)),
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
        let mut tracker = Tracker::default();
        let from_port = |port: u16| {
            let mut frame = frame(100, ACK, 50);
            set_port(&mut frame, port);
            frame
        };
        for port in 0..2 * MAX_FLOWS as u16 {
            assert_eq!(tracker.see(&from_port(port)), First);
            assert_eq!(tracker.see(&from_port(port)), Retransmission);
        }
        assert_eq!(tracker.see(&from_port(0)), First);
    }

    #[test]
    fn other_frames_are_other() {
        assert_eq!(Tracker::default().see(&[0; 60]), Other);
    }
}
