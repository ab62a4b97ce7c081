//! Rates at which strangers may cause something.

use zfl_clock::Instant;

/// A rate with a burst: as many at once, and then as many a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate {
    pub burst: u32,
    pub per_s: f64,
}

/// Part of a rate that is left.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    left: f64,
    at: Instant,
}

impl Bucket {
    pub fn full(rate: Rate) -> Self {
        let (left, at) = (f64::from(rate.burst), Instant::now());
        Self { rate, left, at }
    }

    fn fill(&mut self) {
        let now = Instant::now();
        let since = (now - self.at).as_secs_f64();
        self.at = now;
        self.left = (self.left + since * self.rate.per_s).min(self.rate.burst.into());
    }

    pub fn is_full(&mut self) -> bool {
        self.fill();
        self.left >= f64::from(self.rate.burst)
    }

    pub fn has_one(&mut self) -> bool {
        self.fill();
        self.left >= 1.0
    }

    /// Takes one, if there is one.
    pub fn take(&mut self) -> bool {
        let has_one = self.has_one();
        self.left -= f64::from(u8::from(has_one));
        has_one
    }
}
