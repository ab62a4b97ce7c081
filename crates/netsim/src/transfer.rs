//! Transfer time over a link, computed instead of measured.
//!
//! The switch delays frames in the host's time, in which a busy host shows. What is computed here
//! depends on the link and the bytes alone, and so is the same in every run: it is the part of a
//! round's *virtual* time that the link makes up.
//!
//! The model, for one direction, with p the share of frames that do not arrive whole:
//!
//! ```text
//! ( bytes in full TCP segments, each at what the rate charges for its frame
//!   + round trips * what it charges for a frame without data
//!   - the burst that passes at once
//!   + round trips * delay ) / (1 - p)
//! ```
//!
//! What it leaves out makes it a lower bound: TCP's slow start and windows (a device with a window
//! of 16 KiB cannot have more than that under way in a round trip), the time until a loss is
//! noticed, acknowledgements on the way back, queues that overflow, and other traffic. Jitter and
//! duplicates have no say: the one has a mean of zero, the others are dropped on arrival. Losses in
//! bursts count as if they came one by one.

use std::time::Duration;

use crate::link::{Impairment, Link};

/// Ethernet, IPv4 and TCP headers without options.
const HEADER_BYTES: usize = 14 + 20 + 20;

/// Payload of a full segment over Ethernet.
const SEGMENT_BYTES: u64 = 1500 - 20 - 20;

/// Round trips of one HTTP exchange on a connection of its own, as the devices speak it: TCP's
/// handshake, and the request with its answer. A round has two exchanges, `/start` and `/results`.
pub const ROUND_TRIPS_PER_EXCHANGE: u32 = 2;

impl Link {
    /// Time of a transfer over TCP, up and down; the two follow each other,
    /// so the whole is their sum. [`Duration::MAX`] if nothing ever arrives.
    ///
    /// `round_trips`: how often one side waits for the other. See
    /// [`ROUND_TRIPS_PER_EXCHANGE`].
    pub fn transfer_time(
        &self,
        bytes_up: u64,
        bytes_down: u64,
        round_trips: u32,
    ) -> (Duration, Duration) {
        (
            self.uplink.transfer_time(bytes_up, round_trips),
            self.downlink.transfer_time(bytes_down, round_trips),
        )
    }
}

impl Impairment {
    fn transfer_time(&self, bytes: u64, round_trips: u32) -> Duration {
        let arriving = (1.0 - self.loss.probability) * (1.0 - self.corrupt);
        if bytes == 0 && round_trips == 0 {
            return Duration::ZERO;
        }
        let delay_s = f64::from(round_trips) * self.delay.as_secs_f64();
        let seconds = (self.serialization_s(bytes, round_trips) + delay_s) / arriving;
        // A division by zero gives infinity, or no number: then it takes for ever.
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// Seconds that the rate alone takes.
    fn serialization_s(&self, bytes: u64, round_trips: u32) -> f64 {
        let Some(rate) = self.rate else { return 0.0 };
        let cost_s = |payload: u64| {
            let frame_bytes = HEADER_BYTES + payload as usize;
            rate.cost(frame_bytes).as_secs_f64()
        };
        let (full, rest) = (bytes / SEGMENT_BYTES, bytes % SEGMENT_BYTES);
        let last_s = if rest > 0 { cost_s(rest) } else { 0.0 };
        let all_s =
            full as f64 * cost_s(SEGMENT_BYTES) + last_s + f64::from(round_trips) * cost_s(0);
        (all_s - rate.burst_time().as_secs_f64()).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{Loss, Rate};

    fn seconds(link: Link, up: u64, down: u64, round_trips: u32) -> (f64, f64) {
        let (up, down) = link.transfer_time(up, down, round_trips);
        (up.as_secs_f64(), down.as_secs_f64())
    }

    fn one_way(uplink: Impairment) -> Link {
        Link {
            uplink,
            ..Link::default()
        }
    }

    #[track_caller]
    fn assert_close(actual: f64, by_hand: f64) {
        assert!(
            (actual - by_hand).abs() < 1e-8,
            "{actual}, by hand {by_hand}"
        );
    }

    #[test]
    fn a_perfect_link_takes_no_time() {
        assert_eq!(seconds(Link::default(), 1 << 40, 1 << 40, 100), (0.0, 0.0));
    }

    #[test]
    fn the_rate_charges_for_every_frame_and_its_headers() {
        let link = one_way(Impairment {
            rate: Some(Rate::new(1_000_000)),
            ..Impairment::default()
        });
        // One byte is a frame of 55 bytes: 440 bits at 1 Mbit/s.
        assert_close(seconds(link, 1, 1, 0).0, 440e-6);
        assert_close(seconds(link, 1, 1, 0).1, 0.0);
        // A full segment is a frame of 1,514 bytes; one byte more is another frame.
        assert_close(seconds(link, 1460, 0, 0).0, 12_112e-6);
        assert_close(seconds(link, 1461, 0, 0).0, 12_552e-6);
        // The default model, 50,920 bytes: 34 full segments and 1,280 bytes.
        assert_close(
            seconds(link, 50_920, 0, 0).0,
            34.0 * 12_112e-6 + (1280.0 + 54.0) * 8e-6,
        );
        // Two round trips: two frames of headers alone.
        assert_close(seconds(link, 0, 0, 2).0, 2.0 * 432e-6);
    }

    #[test]
    fn overhead_least_size_and_burst_are_the_rates_own() {
        let rate = Rate {
            overhead_bytes: 46,
            min_frame_bytes: 200,
            ..Rate::new(8_000)
        };
        let link = |rate| {
            one_way(Impairment {
                rate: Some(rate),
                ..Impairment::default()
            })
        };
        // 54 + 46 bytes count as 200, 54 + 150 + 46 as 250; a byte takes 1 ms.
        assert_close(seconds(link(rate), 0, 0, 1).0, 0.2);
        assert_close(seconds(link(rate), 150, 0, 0).0, 0.25);
        let bursting = Rate {
            burst_bytes: 100,
            ..rate
        };
        assert_close(seconds(link(bursting), 150, 0, 0).0, 0.15);
        let all_at_once = Rate {
            burst_bytes: 9_000,
            ..rate
        };
        assert_close(seconds(link(all_at_once), 150, 0, 0).0, 0.0);
    }

    #[test]
    fn each_round_trip_waits_for_the_delay_of_each_way() {
        let mut link = Link::default();
        link.uplink.delay = Duration::from_millis(10);
        link.downlink.delay = Duration::from_millis(30);
        link.downlink.jitter = Duration::from_millis(5);
        link.downlink.duplicate = 0.5;
        let (up, down) = seconds(link, 1000, 1000, 4);
        assert_close(up, 0.040);
        assert_close(down, 0.120);
    }

    #[test]
    fn what_is_lost_is_sent_again_until_it_arrives() {
        let link = one_way(Impairment {
            rate: Some(Rate::new(1_000_000)),
            delay: Duration::from_millis(20),
            loss: Loss::independent(0.2),
            ..Impairment::default()
        });
        // (12.112 ms + 2 * 0.432 ms + 2 * 20 ms) / 0.8
        assert_close(seconds(link, 1460, 0, 2).0, 52.976e-3 / 0.8);
        let mut damaged = link;
        damaged.uplink.corrupt = 0.5;
        assert_close(seconds(damaged, 1460, 0, 2).0, 52.976e-3 / 0.4);
    }

    #[test]
    fn over_a_link_that_loses_all_nothing_ever_arrives() {
        let mut link = Link::default();
        link.uplink.loss = Loss::independent(1.0);
        assert_eq!(link.transfer_time(1, 1, 0), (Duration::MAX, Duration::ZERO));
        link.uplink.delay = Duration::from_millis(1);
        assert_eq!(link.transfer_time(0, 0, 1).0, Duration::MAX);
        assert_eq!(link.transfer_time(0, 0, 0).0, Duration::ZERO);
        let slow = one_way(Impairment {
            rate: Some(Rate::new(100)),
            ..Impairment::default()
        });
        assert!(slow.transfer_time(u64::MAX, 0, u32::MAX).0 > Duration::from_secs(1 << 40));
    }
}
