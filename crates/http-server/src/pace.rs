//! The least pace of a body, by which a peer keeps its place.
//!
//! A peer has credit: time for which it may be waited for. Waiting uses it up, and every byte gives some
//! back, up to [`Pace::patience`]. So a pause of a moment costs nothing, silence ends after the patience,
//! and a peer that sends a byte now and then does not stay for ever.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use zfl_clock::{Instant, Sleep};

/// Bytes that the system may keep of what is written: it takes more only when part of these are through.
const SYSTEM_BUFFER: u32 = 64 << 10;

/// The least pace of a body.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Longest wait for the next byte. Longer than the minute after which a device itself gives up, so that
    /// it is the device that decides to try again.
    pub patience: Duration,
    /// Bytes that make up for a second of waiting.
    pub bytes_per_s: u32,
}

impl Default for Pace {
    /// A pace that the slowest radio keeps, with its pauses.
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(90),
            bytes_per_s: 16,
        }
    }
}

impl Pace {
    /// The pace of writes, which go on only when the system's buffer has room again.
    pub(crate) fn of_writes(self) -> Self {
        let drained = self.worth(SYSTEM_BUFFER as usize);
        Self {
            patience: self.patience.saturating_add(drained),
            ..self
        }
    }

    /// Time that bytes make up for.
    fn worth(self, bytes: usize) -> Duration {
        Duration::try_from_secs_f64(bytes as f64 / f64::from(self.bytes_per_s))
            .unwrap_or(Duration::MAX)
    }
}

/// A peer that did not keep the pace.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("no byte for {:?}, or fewer than {} a second", .0.patience, .0.bytes_per_s)]
pub struct TooSlow(pub Pace);

/// Credit of a peer in one direction.
#[derive(Debug)]
pub(crate) struct Credit {
    pace: Pace,
    left: Duration,
    /// Begin of the wait, and its end without a byte.
    wait: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Credit {
    pub fn new(pace: Pace) -> Self {
        Self {
            pace,
            left: pace.patience,
            wait: None,
        }
    }

    /// Notes that bytes moved, and that the peer is no longer waited for.
    pub fn moved(&mut self, bytes: usize) {
        let Some((since, _)) = self.wait.take() else {
            return;
        };
        let left = self.left.saturating_sub(since.elapsed());
        self.left = left
            .saturating_add(self.pace.worth(bytes))
            .min(self.pace.patience);
    }

    /// Waits for the peer: ready once it has been waited for too long.
    pub fn wait(&mut self, cx: &mut Context<'_>) -> Poll<TooSlow> {
        let left = self.left;
        let begin = || (Instant::now(), Box::pin(zfl_clock::sleep(left)));
        let (_, sleep) = self.wait.get_or_insert_with(begin);
        sleep.as_mut().poll(cx).map(|()| TooSlow(self.pace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    const PACE: Pace = Pace {
        patience: Duration::from_secs(90),
        bytes_per_s: 10,
    };

    /// Seconds that a peer is waited for that moves so many bytes every so many seconds.
    async fn held_s(bytes: usize, every_s: u64, at_most_s: u64) -> u64 {
        let (mut credit, began) = (Credit::new(PACE), Instant::now());
        while began.elapsed().as_secs() < at_most_s {
            let next = tokio::time::sleep(Duration::from_secs(every_s));
            tokio::select! {
                biased;
                _ = poll_fn(|cx| credit.wait(cx)) => break,
                () = next => credit.moved(bytes),
            }
        }
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn who_keeps_the_pace_stays_and_who_does_not_goes() {
        const DAY_S: u64 = 24 * 3600;
        assert_eq!(held_s(0, DAY_S, DAY_S).await, 90, "silence");
        assert_eq!(held_s(100, 10, DAY_S).await, DAY_S, "just so");
        assert_eq!(held_s(1000, 80, DAY_S).await, DAY_S, "with long pauses");
        // Each second of waiting is made up for by a tenth: the credit ends after 100 s.
        assert_eq!(held_s(1, 1, DAY_S).await, 99, "a byte now and then");
        assert_eq!(held_s(100_000, 91, DAY_S).await, 90, "much, and too late");
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_waits_for_the_peer_costs_nothing() {
        let mut credit = Credit::new(PACE);
        for _ in 0..10 {
            let waits = poll_fn(|cx| Poll::Ready(credit.wait(cx).is_pending())).await;
            assert!(waits);
            tokio::time::advance(Duration::from_secs(9)).await;
            credit.moved(90);
            tokio::time::advance(Duration::from_secs(3600)).await;
        }
        assert_eq!(credit.left, PACE.patience);
    }

    #[test]
    fn writes_wait_for_the_system_to_pass_on_what_it_has() {
        let slow = Pace {
            bytes_per_s: 64,
            ..PACE
        };
        assert_eq!(slow.of_writes().patience, Duration::from_secs(90 + 1024));
        assert_eq!(
            Pace {
                bytes_per_s: 0,
                ..PACE
            }
            .of_writes()
            .patience,
            Duration::MAX
        );
    }
}
