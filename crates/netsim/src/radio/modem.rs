//! The radio of one node: frames that wait for the air, its duty cycle, and whom it lets go first.

use std::collections::VecDeque;

use fl_radio::{DutyCycle, Frame};
use fl_rng::{Pcg32, Purpose, derive_seed};

use super::medium::Medium;

/// Frames that wait for the air; a router queues as many.
const MODEM_FRAMES: usize = 16;
/// Longest wait for a clear channel, in units of the back-off.
const MAX_BACK_OFF: u32 = 16;
/// Stream of a modem's chances beside that of its node.
pub(super) const MODEM_STREAM: u32 = 1;

/// A radio.
#[derive(Debug)]
pub(super) struct Modem {
    number: usize,
    queue: VecDeque<Frame>,
    duty: DutyCycle,
    back_off_us: Option<u64>,
    random: Pcg32,
    /// Time at which it tries to send.
    sends_us: u64,
    pub dropped: u64,
    pub waited_us: u64,
    pub is_on: bool,
}

impl Modem {
    pub fn new(number: usize, duty: DutyCycle, back_off_us: Option<u64>, seed: u64) -> Self {
        Self {
            number,
            queue: VecDeque::new(),
            duty,
            back_off_us,
            random: Pcg32::new(
                Purpose::Radio,
                derive_seed(seed, number as u32, MODEM_STREAM),
            ),
            sends_us: 0,
            dropped: 0,
            waited_us: 0,
            is_on: true,
        }
    }

    /// Takes a frame to send.
    pub fn push(&mut self, frame: Frame) {
        match self.queue.len() < MODEM_FRAMES {
            true => self.queue.push_back(frame),
            false => self.dropped += 1,
        }
    }

    /// Turns it off, with all that waits, or on.
    pub fn switch(&mut self, is_on: bool) {
        self.is_on = is_on;
        self.queue.clear();
    }

    /// Sends what is due.
    pub fn run(&mut self, now_us: u64, medium: &mut Medium) {
        if now_us < self.sends_us {
            return;
        }
        let Some(frame) = self.queue.front() else {
            return;
        };
        let airtime_us = medium.airtime_us(frame.len());
        let Some(ready_us) = self.duty.ready_us(now_us, airtime_us) else {
            self.queue.pop_front();
            return;
        };
        if ready_us > now_us {
            self.waited_us += ready_us - now_us;
            self.sends_us = ready_us;
            return;
        }
        if let Some(back_off_us) = self
            .back_off_us
            .filter(|_| medium.is_busy(self.number, now_us))
        {
            self.sends_us = now_us + back_off_us * u64::from(1 + self.random.below(MAX_BACK_OFF));
            return;
        }
        let octets = frame.to_vec();
        if let Some(end_us) = medium.transmit(self.number, octets, now_us) {
            self.duty.spend(now_us, airtime_us);
            self.queue.pop_front();
            self.sends_us = end_us;
        }
    }

    /// Time at which it has something to do; `None` while nothing waits.
    pub fn wake_us(&self) -> Option<u64> {
        (!self.queue.is_empty()).then_some(self.sends_us)
    }
}
