//! Duty cycle: the share of time that a regulation leaves a transmitter.

/// Ledger of a transmitter that may be in the air for a share of any span of time.
///
/// A token bucket whose rate is lowered by what its burst adds, so that *no* span as long as the window,
/// wherever it begins, has more air time than the share; ETSI EN 300 220-1, section 5.4, measures so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DutyCycle {
    /// Parts of a million; 1,000,000 is no limit.
    share_ppm: u64,
    window_us: u64,
    /// The most that is sent after a long pause.
    burst_us: u64,
    /// In microseconds of air, a million times.
    tokens: u64,
    at_us: u64,
}

const MILLION: u64 = 1_000_000;
/// The burst's part of the window's air time.
const BURST_PART: u64 = 10;

impl DutyCycle {
    /// A transmitter that may be in the air for `share_ppm` millionths of every `window_us`, with packets
    /// of at most `longest_us`; `None` if not even one of them may be sent.
    pub fn new(share_ppm: u32, window_us: u64, longest_us: u64) -> Option<Self> {
        let share_ppm = u64::from(share_ppm).min(MILLION);
        let limit_us = (window_us / MILLION).saturating_mul(share_ppm);
        let is_free = share_ppm == MILLION;
        let burst_us = longest_us.max(limit_us / BURST_PART);
        if !is_free && (burst_us >= limit_us || longest_us == 0) {
            return None;
        }
        Some(Self {
            share_ppm,
            window_us,
            burst_us,
            tokens: burst_us.saturating_mul(MILLION),
            at_us: 0,
        })
    }

    /// No limit.
    pub const fn free() -> Self {
        Self {
            share_ppm: MILLION,
            window_us: 0,
            burst_us: 0,
            tokens: 0,
            at_us: 0,
        }
    }

    /// Time from which a packet of so much air may be sent; `None`: it is too long for ever.
    pub fn ready_us(&mut self, now_us: u64, airtime_us: u64) -> Option<u64> {
        if self.share_ppm == MILLION {
            return Some(now_us);
        }
        if airtime_us > self.burst_us {
            return None;
        }
        self.fill(now_us);
        let lacking = airtime_us
            .saturating_mul(MILLION)
            .saturating_sub(self.tokens);
        Some(now_us.saturating_add(lacking.div_ceil(self.rate_ppm().max(1))))
    }

    /// Takes down that a packet goes out now; false, and nothing is taken down, if it may not.
    pub fn spend(&mut self, now_us: u64, airtime_us: u64) -> bool {
        let ready = self.ready_us(now_us, airtime_us);
        let may = ready.is_some_and(|at_us| at_us <= now_us);
        if may && self.share_ppm < MILLION {
            self.tokens -= airtime_us * MILLION;
        }
        may
    }

    /// Microseconds from one packet to the next that a sender can keep up.
    pub fn pace_us(&self, airtime_us: u64) -> u64 {
        match self.share_ppm {
            MILLION => airtime_us,
            _ => airtime_us
                .saturating_mul(MILLION)
                .div_ceil(self.rate_ppm().max(1)),
        }
    }

    /// Tokens a microsecond: what burst and rate give together in a window is the share.
    fn rate_ppm(&self) -> u64 {
        let burst_ppm = self
            .burst_us
            .saturating_mul(MILLION)
            .div_ceil(self.window_us.max(1));
        self.share_ppm.saturating_sub(burst_ppm)
    }

    fn fill(&mut self, now_us: u64) {
        let since_us = now_us.saturating_sub(self.at_us);
        self.at_us = self.at_us.max(now_us);
        let more = since_us.saturating_mul(self.rate_ppm());
        let most = self.burst_us.saturating_mul(MILLION);
        self.tokens = self.tokens.saturating_add(more).min(most);
    }
}
