//! One node of a mesh: a router, the radio under it, and on a leaf the end of its transfers.

use std::collections::VecDeque;
use std::num::NonZeroU8;

use fl_radio::{DutyCycle, Frame, Leaf, PacketBytes, Router};
use fl_rng::{Pcg32, Purpose, derive_seed};

use super::medium::Medium;
use super::mesh::{MESSAGE_BYTES, Times};

/// Frames that wait for the air; a router queues as many.
const MODEM_FRAMES: usize = 16;
/// Longest wait for a clear channel, in units of the back-off.
const MAX_BACK_OFF: u32 = 16;

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    number: usize,
    pub router: Router,
    pub leaf: Option<Leaf<MESSAGE_BYTES>>,
    /// Packets for its router, with their destination.
    pub outbox: VecDeque<(usize, PacketBytes)>,
    queue: VecDeque<Frame>,
    duty: DutyCycle,
    back_off_us: Option<u64>,
    random: Pcg32,
    /// Time at which its router speaks next; `None` while it has nothing to say.
    speaks_us: Option<u64>,
    /// Time at which its radio tries to send.
    sends_us: u64,
    pub packets: u64,
    pub dropped: u64,
    pub waited_us: u64,
    pub is_alive: bool,
}

/// Address of a node: the gateway has 1.
pub(super) fn address(node: usize) -> NonZeroU8 {
    u8::try_from(node)
        .ok()
        .and_then(|node| NonZeroU8::MIN.checked_add(node))
        .unwrap_or(NonZeroU8::MAX)
}

impl Node {
    pub fn new(
        number: usize,
        leaf: Option<Leaf<MESSAGE_BYTES>>,
        times: &Times,
        duty: DutyCycle,
        seed: u64,
    ) -> Self {
        Self {
            number,
            router: Router::new(address(number), times.listen_ms),
            leaf,
            outbox: VecDeque::new(),
            queue: VecDeque::new(),
            duty,
            back_off_us: times.back_off_us,
            random: Pcg32::new(Purpose::Radio, derive_seed(seed, number as u32, 0)),
            speaks_us: None,
            sends_us: 0,
            packets: 0,
            dropped: 0,
            waited_us: 0,
            is_alive: true,
        }
    }

    /// Takes in a frame that its radio heard.
    pub fn hear(&mut self, octets: &[u8], now_us: u64, times: &Times) {
        if self.is_alive {
            self.update(octets, now_us, times);
        }
    }

    /// Does what is due now.
    pub fn run(&mut self, now_us: u64, times: &Times, medium: &mut Medium) {
        if !self.is_alive {
            return;
        }
        if let Some(packet) = self.leaf.as_mut().and_then(|leaf| leaf.poll(now_us)) {
            self.outbox.push_back((0, packet));
        }
        while let Some((to, packet)) = self.outbox.pop_front() {
            self.packets += 1;
            let taken = self.router.send(address(to), times.hops, &packet);
            self.dropped += u64::from(!taken);
            self.speaks_us.get_or_insert(now_us);
        }
        if self.speaks_us.is_some_and(|at_us| at_us <= now_us) {
            self.speaks_us = None;
            self.update(&[], now_us, times);
        }
        self.transmit(now_us, medium);
    }

    fn update(&mut self, heard: &[u8], now_us: u64, times: &Times) {
        // It looks at the time since it spoke last, so it begins with one period behind it.
        let now_ms = (now_us / 1_000) as u32;
        let said = self
            .router
            .update(heard, now_ms.wrapping_add(times.listen_ms));
        let has_more = said.is_some() || !heard.is_empty();
        if let Some(frame) = said {
            match self.queue.len() < MODEM_FRAMES {
                true => self.queue.push_back(frame),
                false => self.dropped += 1,
            }
        }
        if has_more && self.speaks_us.is_none() {
            // Neighbours that heard the same frame do not repeat it at the same time.
            let spread = u64::from(self.random.below(times.spread_us as u32));
            self.speaks_us = Some(now_us + u64::from(times.listen_ms) * 1_000 + spread);
        }
    }

    fn transmit(&mut self, now_us: u64, medium: &mut Medium) {
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

    /// Time at which it has something to do of its own accord.
    pub fn wake_us(&self) -> u64 {
        if !self.is_alive {
            return u64::MAX;
        }
        let sends_us = if self.queue.is_empty() {
            u64::MAX
        } else {
            self.sends_us
        };
        let leaf_us = self.leaf.as_ref().map_or(u64::MAX, Leaf::wake_us);
        let outbox_us = if self.outbox.is_empty() { u64::MAX } else { 0 };
        sends_us
            .min(leaf_us)
            .min(outbox_us)
            .min(self.speaks_us.unwrap_or(u64::MAX))
    }
}
