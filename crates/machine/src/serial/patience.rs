//! Patience with a guest, in time that it had the chance to use.
//!
//! On a host whose processors are shared by many, a guest that is late may merely not have run.
//! So a moment counts by the share of it that one process gets: a whole one on an idle host, a
//! fifth when ten processes want two processors. There is an end to that: booting takes a fraction
//! of a second, and a guest that hangs is to be found on a busy host as well.

use std::time::Duration;
use zfl_clock::Instant;

/// Least share by which a moment counts, on a host of whatever load.
const LEAST_SHARE: f64 = 1.0 / 8.0;

/// Waiting time that runs down.
#[derive(Debug)]
pub struct Patience {
    left: Duration,
    looked: Instant,
}

impl Patience {
    /// Interval at which the caller asks [`Patience::is_over`].
    pub const TICK: Duration = Duration::from_millis(200);

    /// Starts with this much waiting time.
    pub fn new(patience: Duration) -> Self {
        Self {
            left: patience,
            looked: Instant::now(),
        }
    }

    /// Counts the time since the last call and tells if none is left.
    pub fn is_over(&mut self) -> bool {
        let runnable = std::fs::read_to_string("/proc/loadavg").ok();
        let runnable = runnable.as_deref().and_then(runnable_in).unwrap_or(1);
        let passed = self.looked.elapsed();
        self.looked = self.looked + passed;
        self.left = self.left.saturating_sub(passed.mul_f64(share(runnable)));
        self.left.is_zero()
    }
}

/// The fourth field of `/proc/loadavg`: `runnable/all`.
fn runnable_in(loadavg: &str) -> Option<usize> {
    let (runnable, _) = loadavg.split_whitespace().nth(3)?.split_once('/')?;
    runnable.parse().ok()
}

/// The share of time that one of so many processes gets.
fn share(runnable: usize) -> f64 {
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    (processors as f64 / runnable.max(1) as f64).clamp(LEAST_SHARE, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_found() {
        assert_eq!(runnable_in("0.20 0.18 0.12 7/80 11206\n"), Some(7));
        assert_eq!(runnable_in(""), None);
    }

    #[test]
    fn a_loaded_host_is_given_more_time() {
        assert_eq!(share(0), 1.0);
        assert_eq!(share(1), 1.0);
        assert_eq!(share(100_000), LEAST_SHARE);
    }

    #[test]
    fn patience_ends() {
        let mut patience = Patience::new(Duration::from_millis(1));
        while !patience.is_over() {
            std::thread::yield_now();
        }
        assert!(patience.is_over());
        assert!(!Patience::new(Duration::from_secs(1000)).is_over());
    }
}
