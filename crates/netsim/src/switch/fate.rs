//! Fate of the n-th frame of a direction: chance, made repeatable.
//!
//! Every draw is a pure function of (seed, client, direction, n, purpose): one word at a fixed place
//! of a [`Lane`]. So the n-th frame that is offered to a direction has
//! the same fate in every run, whatever the other devices do, however late the host is, and
//! whatever was drawn for the frames before. Only the burst model looks back, at the state that
//! the frames before it left, which is as repeatable.

use crate::link::{Direction, Loss};
use fl_rng::{Lane, fraction, link_lane};

/// Draws for one frame. The fractions are uniform in [0, 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Draws {
    pub loss: f64,
    pub jitter: f64,
    pub duplicate: f64,
    pub corrupt: f64,
    /// Index of the bit, modulo the number of bits.
    pub corrupt_bit: u64,
}

/// The draws of one direction of one client's link.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    lane: Lane,
    frame: u64,
}

impl Stream {
    /// Numbers that a frame may use; five are in use, the rest keeps the stream stable when another
    /// impairment is added.
    const PER_FRAME: u64 = 8;

    pub fn new(seed: u64, client: u32, direction: Direction) -> Self {
        let lane = link_lane(client, direction == Direction::Downlink);
        Self {
            lane: Lane::new(seed, lane),
            frame: 0,
        }
    }

    /// The draws of the next frame.
    pub fn next(&mut self) -> Draws {
        let base = self.frame.wrapping_mul(Self::PER_FRAME);
        self.frame = self.frame.wrapping_add(1);
        let word = |purpose: u64| self.lane.word(base.wrapping_add(purpose));
        Draws {
            loss: fraction(word(0)),
            jitter: fraction(word(1)),
            duplicate: fraction(word(2)),
            corrupt: fraction(word(3)),
            corrupt_bit: word(4),
        }
    }
}

/// The loss model's memory: whether the link is in its bad state.
///
/// Gilbert's model (1960, <https://doi.org/10.1002/j.1538-7305.1960.tb03959.x>) in the form that
/// Hasslinger and Hohlfeld (2008) call simple: every frame is lost in the bad state and none in the
/// good one, and the state may change before each frame. With r the probability of leaving the bad
/// state and p of entering it, bursts have the mean length 1/r and the share of lost frames is
/// p/(p+r). The first frame starts in the stationary state, so that short runs are not biased.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Burst {
    bad: Option<bool>,
}

impl Burst {
    /// Decides the loss of this frame by its draw `u` in [0, 1).
    pub fn lost(&mut self, loss: &Loss, u: f64) -> bool {
        let Some(mean_burst) = loss.mean_burst else {
            return u < loss.probability;
        };
        let leave = 1.0 / mean_burst;
        let threshold = match self.bad {
            None => loss.probability,
            Some(true) => 1.0 - leave,
            Some(false) => leave * loss.probability / (1.0 - loss.probability),
        };
        *self.bad.insert(u < threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_seed_client_and_direction() {
        let first = |seed, client, direction| Stream::new(seed, client, direction).next();
        let draws = [
            first(1, 1, Direction::Uplink),
            first(2, 1, Direction::Uplink),
            first(1, 2, Direction::Uplink),
            first(1, 1, Direction::Downlink),
        ];
        for (i, a) in draws.iter().enumerate() {
            assert!(
                draws[..i]
                    .iter()
                    .all(|b| a.loss != b.loss && a.jitter != b.jitter)
            );
        }
    }

    fn losses(loss: Loss, frames: usize) -> Vec<bool> {
        let mut stream = Stream::new(7, 3, Direction::Uplink);
        let mut burst = Burst::default();
        (0..frames)
            .map(|_| burst.lost(&loss, stream.next().loss))
            .collect()
    }

    fn share(lost: &[bool]) -> f64 {
        lost.iter().filter(|lost| **lost).count() as f64 / lost.len() as f64
    }

    #[test]
    fn independent_loss_has_its_share() {
        for probability in [0.0, 0.01, 0.1, 0.5, 1.0] {
            let share = share(&losses(Loss::independent(probability), 200_000));
            // Four standard errors.
            let tolerance = 4.0 * (probability * (1.0 - probability) / 200_000.0).sqrt();
            assert!(
                (share - probability).abs() <= tolerance,
                "{probability}: {share}"
            );
        }
    }

    #[test]
    fn burst_loss_has_its_share_and_its_mean_length() {
        for (probability, mean_burst) in [(0.05, 4.0), (0.2, 10.0), (0.5, 2.0), (0.01, 1.5)] {
            let lost = losses(Loss::bursts(probability, mean_burst), 1_000_000);
            let bursts = lost
                .split(|lost| !lost)
                .filter(|run| !run.is_empty())
                .count();
            let length = share(&lost) * lost.len() as f64 / bursts as f64;
            let share = share(&lost);
            assert!(
                (share / probability - 1.0).abs() < 0.05,
                "{probability}: {share}"
            );
            assert!(
                (length / mean_burst - 1.0).abs() < 0.05,
                "{mean_burst}: {length}"
            );
        }
    }
}
