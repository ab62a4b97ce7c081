//! Waiting time before the next try.

use fl_rng::Xorshift32;

/// Exponential back-off with jitter.
///
/// The jitter keeps a fleet that was refused together from coming back together. It touches only
/// time, never a result, so its seed need not be the experiment's.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    attempts: u32,
    random: Xorshift32,
}

const FIRST_US: u64 = 100_000;
const LONGEST_US: u64 = 5_000_000;

impl Backoff {
    pub fn new(seed: u32) -> Self {
        Self {
            attempts: 0,
            random: Xorshift32::new(seed),
        }
    }

    /// Tries that failed since the last success.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Counts a failure, returns the microseconds to wait: between half and all of the step.
    pub fn next_us(&mut self) -> u64 {
        let step = (FIRST_US << self.attempts.min(16)).min(LONGEST_US);
        self.attempts = self.attempts.saturating_add(1);
        step / 2 + u64::from(self.random.next_u32()) % (step / 2)
    }

    /// Forgets the failures.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_a_bound_and_starts_again() {
        let mut backoff = Backoff::new(7);
        for attempt in 0..40u32 {
            let step = (FIRST_US << attempt.min(16)).min(LONGEST_US);
            let wait = backoff.next_us();
            assert!(
                (step / 2..step).contains(&wait),
                "attempt {attempt}: {wait} of {step}"
            );
        }
        assert_eq!(backoff.attempts(), 40);
        backoff.reset();
        assert!(backoff.next_us() < FIRST_US);
    }
}
