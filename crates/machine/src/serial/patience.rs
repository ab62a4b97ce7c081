//! Patience with a guest, in the time that its machine had to itself.
//!
//! On a host whose processors are wanted by many, a guest that is late may merely not have run. So time counts
//! in which the machine ran or slept, and none in which it waited for a processor. A guest that hangs is found
//! either way: one that sleeps at once, one that runs in circles when it has used up as much processor time.

use std::time::Duration;
use zfl_clock::Instant;

use crate::usage::Turns;

/// Waiting time that runs down.
#[derive(Debug)]
pub struct Patience {
    pid: u32,
    patience: Duration,
    since: Instant,
    before: Option<Turns>,
}

impl Patience {
    /// Interval at which the caller asks [`Patience::is_over`].
    pub const TICK: Duration = Duration::from_millis(200);

    /// Starts with this much waiting time for the machine `pid`.
    pub fn new(pid: u32, patience: Duration) -> Self {
        Self {
            pid,
            patience,
            since: Instant::now(),
            before: Turns::of(pid),
        }
    }

    /// Tells if none is left.
    pub fn is_over(&self) -> bool {
        let passed = self.since.elapsed();
        passed >= self.patience && self.own_time(passed) >= self.patience
    }

    /// The machine's own part of the time that passed; all of it where this kernel does not tell.
    fn own_time(&self, passed: Duration) -> Duration {
        let turns = self.before.zip(Turns::of(self.pid));
        turns.map_or(passed, |(before, now)| now.own_time(&before, passed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends() {
        let patience = Patience::new(std::process::id(), Duration::from_millis(1));
        while !patience.is_over() {
            std::thread::yield_now();
        }
        assert!(patience.is_over());
        let own = std::process::id();
        assert!(!Patience::new(own, Duration::from_secs(1000)).is_over());
        assert!(Patience::new(u32::MAX, Duration::ZERO).is_over(), "gone");
    }
}
