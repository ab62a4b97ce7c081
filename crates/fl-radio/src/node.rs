//! One node of a mesh: its router, and the moments at which it speaks.
//!
//! A node owns no radio: what it says goes to a modem, natively one of `netsim`, in firmware one behind a UART.

use core::num::NonZeroU8;

use heapless::Deque;

use crate::packet::PacketBytes;
use crate::router::{Frame, Router};
use crate::{Leaf, Pace};

/// Times of a mesh, which follow from its radio and its depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// From one frame of a node to its next at least.
    pub listen_ms: u32,
    /// Random part of the wait before a frame is repeated.
    pub spread_us: u32,
    /// Hops that a packet may take.
    pub hops: u8,
    /// Pace of the transfers.
    pub pace: Pace,
}

impl Times {
    /// Time that a grant takes, until its last tile is answered.
    pub fn burst_us(&self) -> u64 {
        u64::from(self.pace.credit) * self.pace.packet_us + self.pace.reply_us
    }
}

/// Draws a number below its argument.
pub type Draw<'a> = &'a mut dyn FnMut(u32) -> u32;

/// Address of a node: the gateway, node 0, has 1.
pub fn address(node: usize) -> NonZeroU8 {
    u8::try_from(node)
        .ok()
        .and_then(|node| NonZeroU8::MIN.checked_add(node))
        .unwrap_or(NonZeroU8::MAX)
}

/// Frames that wait for a node's moment to speak, at most.
const HELD: usize = 8;

/// A router and its next moment to speak.
#[derive(Debug)]
pub struct Node {
    router: Router,
    times: Times,
    /// `None` while it has nothing to say.
    speaks_us: Option<u64>,
    /// Frames that wait for that moment.
    held: Deque<Frame, HELD>,
    packets: u64,
    dropped: u64,
}

impl Node {
    /// A node that has just booted.
    pub fn new(number: usize, times: Times) -> Self {
        Self {
            router: Router::new(address(number), times.listen_ms),
            times,
            speaks_us: None,
            held: Deque::new(),
            packets: 0,
            dropped: 0,
        }
    }

    /// Packets that its user sent so far.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Packets lost so far because a queue was full.
    pub fn dropped(&self) -> u64 {
        self.dropped + u64::from(self.router.overflowed())
    }

    /// Queues a packet for another node.
    pub fn send(&mut self, to: NonZeroU8, packet: &PacketBytes, now_us: u64) {
        self.packets += 1;
        let taken = self.router.send(to, self.times.hops, packet);
        self.dropped += u64::from(!taken);
        self.speaks_us.get_or_insert(now_us);
    }

    /// Takes in a frame that its radio heard.
    pub fn hear(&mut self, octets: &[u8], now_us: u64, draw: Draw<'_>) {
        // The router may speak whenever it is asked. What it says waits for its moment: all that hear this frame
        // would speak at its end, and none of them be heard.
        if let Some(said) = self.update(octets, now_us, draw) {
            let taken = self.held.push_back(said);
            self.dropped += u64::from(taken.is_err());
        }
    }

    /// Hands out the frame that it is time for.
    pub fn run(&mut self, now_us: u64, draw: Draw<'_>) -> Option<Frame> {
        self.speaks_us.take_if(|at_us| *at_us <= now_us)?;
        let Some(held) = self.held.pop_front() else {
            return self.update(&[], now_us, draw);
        };
        self.speak_later(now_us, draw);
        Some(held)
    }

    fn update(&mut self, heard: &[u8], now_us: u64, draw: Draw<'_>) -> Option<Frame> {
        // It looks at the time since it spoke last, so it begins with one period behind it.
        let now_ms = (now_us / 1_000) as u32;
        let said = self
            .router
            .update(heard, now_ms.wrapping_add(self.times.listen_ms));
        let has_more = said.is_some() || !heard.is_empty();
        if has_more && self.speaks_us.is_none() {
            self.speak_later(now_us, draw);
        }
        said
    }

    fn speak_later(&mut self, now_us: u64, draw: Draw<'_>) {
        // Neighbours that heard the same frame do not repeat it at the same time.
        let spread_us = u64::from(draw(self.times.spread_us));
        self.speaks_us = Some(now_us + u64::from(self.times.listen_ms) * 1_000 + spread_us);
    }

    /// The next packet for this node: the node that sent it, the hops that it took, and its octets.
    pub fn receive(&mut self) -> Option<(usize, u8, PacketBytes)> {
        let (from, left, packet) = self.router.receive()?;
        let hops = self.times.hops.saturating_sub(left).saturating_add(1);
        Some((usize::from(from.get()) - 1, hops, packet))
    }

    /// Time at which [`Node::run`] has something to do.
    pub fn wake_us(&self) -> u64 {
        self.speaks_us.unwrap_or(u64::MAX)
    }
}

/// A node and the leaf's end of its transfers.
#[derive(Debug)]
pub struct LeafNode<const N: usize> {
    /// The router.
    pub node: Node,
    /// The end of its transfers.
    pub leaf: Leaf<N>,
}

impl<const N: usize> LeafNode<N> {
    /// A leaf that has just booted; `epoch` tells its lives apart.
    pub fn new(number: usize, times: Times, epoch: u8, now_us: u64) -> Self {
        Self {
            node: Node::new(number, times),
            leaf: Leaf::new(epoch, times.pace, now_us),
        }
    }

    /// Takes in a frame.
    pub fn hear(&mut self, octets: &[u8], now_us: u64, draw: Draw<'_>) {
        self.node.hear(octets, now_us, draw);
        while let Some((_, _, packet)) = self.node.receive() {
            self.leaf.on_packet(&packet, now_us);
        }
    }

    /// Hands out the frame that it is time for.
    pub fn run(&mut self, now_us: u64, draw: Draw<'_>) -> Option<Frame> {
        if let Some(packet) = self.leaf.poll(now_us) {
            self.node.send(address(0), &packet, now_us);
        }
        self.node.run(now_us, draw)
    }

    /// Time at which [`LeafNode::run`] has something to do.
    pub fn wake_us(&self) -> u64 {
        self.node.wake_us().min(self.leaf.wake_us())
    }
}
