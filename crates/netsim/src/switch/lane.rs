//! One direction of one device's link: decides when a frame arrives, or that it does not.
//!
//! Time is that of the caller's clock; a lane reads none. What a lane decides depends only on its
//! link, its stream of draws, and the times and lengths of the frames that it was offered.

use std::time::Duration;

use super::fate::{Burst, Draws, Stream};
use super::frame::HEADER_BYTES;
use crate::link::Direction;
use crate::link::{Impairment, Rate};

/// Frames of one lane that may be under way, whatever its rate and delay. As in tc's netem.
pub(crate) const MAX_UNDER_WAY: u32 = 1000;

/// Fate of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// It finds the queue full.
    QueueFull,
    /// It vanishes on the way.
    Lost,
    /// It arrives.
    Arrives(Arrival),
}

/// Arrival of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Arrival {
    pub at: Duration,
    pub twice: bool,
    /// The bit to flip, counted from the start of the frame.
    pub corrupt_bit: Option<usize>,
}

/// One direction of one device's link.
#[derive(Debug)]
pub(crate) struct Lane {
    impairment: Impairment,
    /// Pace that the device's network card needs, beside the link's impairment.
    pace: Option<Rate>,
    stream: Stream,
    burst: Burst,
    line: Bucket,
    card: Bucket,
    /// Arrival of the frame before.
    last: Duration,
    under_way: u32,
}

impl Lane {
    pub fn new(seed: u64, client: u32, direction: Direction, impairment: Impairment) -> Self {
        Self {
            impairment,
            pace: None,
            stream: Stream::new(seed, client, direction),
            burst: Burst::default(),
            line: Bucket::default(),
            card: Bucket::default(),
            last: Duration::ZERO,
            under_way: 0,
        }
    }

    /// Changes the link for the frames to come; those under way keep their times.
    pub fn set(&mut self, impairment: Impairment) {
        self.impairment = impairment;
    }

    pub fn set_pace(&mut self, pace: Option<Rate>) {
        self.pace = pace;
    }

    /// Passes over a frame that does not get to the link, so that the fates of the frames behind it
    /// stay those of their numbers.
    pub fn skip(&mut self) {
        self.draw();
    }

    /// Takes a frame of `len` bytes at `now`. One that arrives is under way until [`Lane::left`].
    pub fn offer(&mut self, now: Duration, len: usize) -> Verdict {
        let (draws, lost) = self.draw();
        if self.under_way >= MAX_UNDER_WAY {
            return Verdict::QueueFull;
        }
        let sent = match self.impairment.rate {
            None => Some(now),
            Some(rate) => self.line.depart(&rate, now, len),
        };
        let Some(sent) = sent else {
            return Verdict::QueueFull;
        };
        if lost {
            return Verdict::Lost;
        }
        let there = self.in_order(sent + self.delay(draws.jitter));
        let at = match self.pace {
            None => Some(there),
            Some(pace) => self.card.depart(&pace, there, len),
        };
        let Some(at) = at else {
            return Verdict::QueueFull;
        };
        self.last = self.last.max(at);
        self.under_way += 1;
        Verdict::Arrives(self.arrival(at, &draws, len))
    }

    /// A frame that was under way has arrived or was taken from the link.
    pub fn left(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    fn draw(&mut self) -> (Draws, bool) {
        let draws = self.stream.next();
        let lost = self.burst.lost(&self.impairment.loss, draws.loss);
        (draws, lost)
    }

    fn delay(&self, u: f64) -> Duration {
        let jitter = self.impairment.jitter;
        (self.impairment.delay + jitter.mul_f64(2.0 * u)).saturating_sub(jitter)
    }

    fn in_order(&self, at: Duration) -> Duration {
        if self.impairment.reorder {
            at
        } else {
            at.max(self.last)
        }
    }

    fn arrival(&self, at: Duration, draws: &Draws, len: usize) -> Arrival {
        let bits = len.saturating_sub(HEADER_BYTES) as u64 * 8;
        let corrupt = bits > 0 && draws.corrupt < self.impairment.corrupt;
        Arrival {
            at,
            twice: draws.duplicate < self.impairment.duplicate,
            corrupt_bit: corrupt.then(|| HEADER_BYTES * 8 + (draws.corrupt_bit % bits) as usize),
        }
    }
}

/// A token bucket, kept as the one time at which it will be full again.
///
/// With B the burst's and s the frame's time at the rate, the bucket lacks `full_at - t` at time t,
/// so a frame may go when `full_at + s - B` has come; then the bucket is full again s later. A
/// burst below the frame's length makes the frame wait for its own transmission, which is how a
/// serial line (B = 0) behaves.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    full_at: Duration,
}

impl Bucket {
    /// Time at which a frame that comes at `now` has been sent; `None` if the queue is full.
    fn depart(&mut self, rate: &Rate, now: Duration, len: usize) -> Option<Duration> {
        let full_at = self.full_at.max(now);
        let burst = rate.burst_time();
        let backlog = full_at.saturating_sub(burst).saturating_sub(now);
        if backlog > rate.longest_wait() {
            return None;
        }
        let sent = (full_at + rate.cost(len)).saturating_sub(burst).max(now);
        self.full_at = full_at + rate.cost(len);
        Some(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{Loss, Queue};

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn lane(impairment: Impairment) -> Lane {
        Lane::new(1, 1, Direction::Uplink, impairment)
    }

    fn arrivals(lane: &mut Lane, offers: &[(Duration, usize)]) -> Vec<Option<Duration>> {
        let arrival = |verdict| match verdict {
            Verdict::Arrives(arrival) => Some(arrival.at),
            _ => None,
        };
        offers
            .iter()
            .map(|&(now, len)| arrival(lane.offer(now, len)))
            .collect()
    }

    /// 1 Mbit/s: 1,000 bytes take 8 ms.
    fn slow() -> Rate {
        Rate::new(1_000_000)
    }

    #[test]
    fn a_serial_line_sends_one_frame_after_the_other_and_then_delays_it() {
        let rate = Some(slow());
        let mut lane = lane(Impairment {
            rate,
            delay: ms(20),
            ..Impairment::default()
        });
        let got = arrivals(&mut lane, &[(ms(0), 1000), (ms(0), 500), (ms(100), 1000)]);
        assert_eq!(got, [Some(ms(28)), Some(ms(32)), Some(ms(128))]);
    }

    #[test]
    fn a_bucket_lets_its_burst_pass_and_fills_up_again() {
        let rate = Some(Rate {
            burst_bytes: 2000,
            ..slow()
        });
        let mut lane = lane(Impairment {
            rate,
            ..Impairment::default()
        });
        let burst = [(ms(0), 1000); 4];
        let got = arrivals(&mut lane, &burst);
        assert_eq!(got, [Some(ms(0)), Some(ms(0)), Some(ms(8)), Some(ms(16))]);
        // 16 ms later it is full again, and no fuller than that.
        let got = arrivals(&mut lane, &[(ms(500), 1000); 3]);
        assert_eq!(got, [Some(ms(500)), Some(ms(500)), Some(ms(508))]);
    }

    #[test]
    fn a_queue_has_an_end_in_bytes_and_in_time() {
        for queue in [Queue::Bytes(2000), Queue::Time(ms(16))] {
            let rate = Some(Rate { queue, ..slow() });
            let mut lane = lane(Impairment {
                rate,
                ..Impairment::default()
            });
            // One is being sent and two wait; the fourth finds 16 ms before it, the fifth 24.
            let got = arrivals(&mut lane, &[(ms(0), 1000); 5]);
            let sent = [Some(ms(8)), Some(ms(16)), Some(ms(24)), None, None];
            assert_eq!(got[..3], sent[..3]);
            assert_eq!(got[4], None);
            assert!(lane.offer(ms(25), 1000) != Verdict::QueueFull);
        }
    }

    #[test]
    fn a_lost_frame_has_used_its_share_of_the_rate() {
        let loss = Loss::independent(0.5);
        let mut lossy = lane(Impairment {
            loss,
            rate: Some(slow()),
            ..Impairment::default()
        });
        let got = arrivals(&mut lossy, &[(ms(0), 1000); 8]);
        assert!(got.contains(&None) && got.iter().any(Option::is_some));
        for (n, at) in got
            .iter()
            .enumerate()
            .filter_map(|(n, at)| Some((n, (*at)?)))
        {
            assert_eq!(at, ms(8 * (n as u64 + 1)));
        }
    }

    #[test]
    fn jitter_stays_in_its_range_and_keeps_order_unless_asked() {
        for reorder in [false, true] {
            let jitter = ms(10);
            let mut lane = lane(Impairment {
                delay: ms(50),
                jitter,
                reorder,
                ..Impairment::default()
            });
            let offers: Vec<_> = (0..500).map(|n| (ms(n), 100)).collect();
            let got: Vec<_> = arrivals(&mut lane, &offers).into_iter().flatten().collect();
            for (at, (sent, _)) in got.iter().zip(&offers) {
                assert!((ms(40)..=ms(60)).contains(&(*at - *sent)));
            }
            assert_eq!(!got.is_sorted(), reorder);
        }
    }

    #[test]
    fn jitter_leaves_the_mean_delay_where_frames_are_far_apart() {
        let mut lane = lane(Impairment {
            delay: ms(20),
            jitter: ms(5),
            ..Impairment::default()
        });
        let mut sum = Duration::ZERO;
        for sent in (0..2000).map(|n| ms(20 * n)) {
            let Verdict::Arrives(arrival) = lane.offer(sent, 100) else {
                panic!("it is lost")
            };
            lane.left();
            sum += arrival.at - sent;
        }
        let mean_ms = sum.as_secs_f64() * 1e3 / 2000.0;
        assert!((mean_ms - 20.0).abs() < 0.3, "{mean_ms}");
    }

    #[test]
    fn a_paced_card_gets_its_frames_apart_whatever_their_length() {
        let mut lane = lane(Impairment::default());
        lane.set_pace(Some(Rate::pace(30_000_000)));
        let got = arrivals(&mut lane, &[(ms(0), 60); 3]);
        let us = |us| Some(Duration::from_micros(us));
        assert_eq!(got, [us(400), us(800), us(1200)]);
    }

    #[test]
    fn a_lane_holds_a_bounded_number_of_frames() {
        let mut lane = lane(Impairment {
            delay: ms(500),
            ..Impairment::default()
        });
        let offers = vec![(ms(0), 60); MAX_UNDER_WAY as usize + 5];
        assert_eq!(
            arrivals(&mut lane, &offers).iter().flatten().count(),
            MAX_UNDER_WAY as usize
        );
        lane.left();
        assert!(matches!(lane.offer(ms(1), 60), Verdict::Arrives(_)));
        assert_eq!(lane.offer(ms(1), 60), Verdict::QueueFull);
    }

    #[test]
    fn duplicates_and_flipped_bits_have_their_share_and_spare_the_header() {
        let mut lane = lane(Impairment {
            duplicate: 0.1,
            corrupt: 0.2,
            ..Impairment::default()
        });
        let (mut twice, mut corrupt) = (0, 0);
        for n in 0..10_000 {
            let Verdict::Arrives(arrival) = lane.offer(ms(n), 60) else {
                panic!("it is lost")
            };
            lane.left();
            twice += u32::from(arrival.twice);
            if let Some(bit) = arrival.corrupt_bit {
                assert!((HEADER_BYTES * 8..60 * 8).contains(&bit));
                corrupt += 1;
            }
        }
        assert!((900..1100).contains(&twice), "{twice}");
        assert!((1850..2150).contains(&corrupt), "{corrupt}");
    }

    #[test]
    fn a_skipped_frame_leaves_the_fates_of_the_others() {
        let loss = Loss::independent(0.3);
        let (mut whole, mut skipping) = (
            lane(Impairment {
                loss,
                ..Impairment::default()
            }),
            lane(Impairment {
                loss,
                ..Impairment::default()
            }),
        );
        let fates: Vec<_> = (0..40)
            .map(|n| whole.offer(ms(n), 60) == Verdict::Lost)
            .collect();
        (0..10).for_each(|_| skipping.skip());
        let rest: Vec<_> = (10..40)
            .map(|n| skipping.offer(ms(n), 60) == Verdict::Lost)
            .collect();
        assert_eq!(rest, fates[10..]);
    }
}
