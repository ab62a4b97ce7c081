//! Counts of TCP segments in the frames of a network card.

use tcp_track::{FrameKind, Segment, Tracker};

/// Totals since boot.
#[derive(Debug, Default)]
pub struct SegmentCounters {
    /// Segments sent, those sent again included.
    pub sent: u32,
    /// Segments received.
    pub received: u32,
    /// Segments sent again.
    pub sent_again: u32,
    tracker: Tracker,
}

impl SegmentCounters {
    /// Looks at a received Ethernet frame, put together from so many segments.
    pub fn count_received(&mut self, frame: &[u8], segments: u32) {
        if Segment::parse(frame).is_some() {
            self.received = self.received.wrapping_add(segments);
        }
    }

    /// Looks at an Ethernet frame about to be sent, in so many segments.
    pub fn count_sent(&mut self, frame: &[u8], segments: u32) {
        let kind = self.tracker.see(frame);
        if kind != FrameKind::Other {
            self.sent = self.sent.wrapping_add(segments);
        }
        if kind == FrameKind::Retransmission {
            self.sent_again = self.sent_again.wrapping_add(segments);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcp_track::testing::frame;

    const SYN: u8 = 2;
    const ACK: u8 = 16;

    #[test]
    fn segments_are_counted_by_direction_and_repetition() {
        let mut counters = SegmentCounters::default();
        for (sequence, flags, payload) in [
            (99, SYN, 0),
            (100, ACK, 50),
            (150, ACK, 50),
            (150, ACK, 50),
            (200, ACK, 0),
        ] {
            counters.count_sent(&frame(sequence, flags, payload), 1);
        }
        counters.count_received(&frame(1, ACK, 10), 1);
        assert_eq!((counters.sent, counters.sent_again), (5, 1));
        assert_eq!(counters.received, 1);
        // A frame that is cut on its way, or was put together.
        counters.count_sent(&frame(200, ACK, 5000), 4);
        counters.count_received(&frame(11, ACK, 5000), 4);
        assert_eq!((counters.sent, counters.received), (9, 5));
    }

    #[test]
    fn what_is_short_or_no_tcp_is_not_counted() {
        let mut counters = SegmentCounters::default();
        let whole = frame(1, ACK, 10);
        for len in 0..whole.len() {
            counters.count_received(&whole[..len], 1);
            counters.count_sent(&whole[..len], 1);
        }
        let mut udp = whole.clone();
        udp[23] = 17;
        counters.count_received(&udp, 1);
        counters.count_sent(&udp, 1);
        assert_eq!((counters.received, counters.sent), (0, 0));
    }
}
