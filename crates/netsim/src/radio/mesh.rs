//! A gateway and its leaves over one medium, event by event.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use fl_radio::{Leaf, Pace, Reason, SendError};

use super::gateway::Gateway;
use super::medium::{Conditions, Heard, Medium};
use super::node::Node;
use super::profile::RadioProfile;
use super::topology::Topology;

/// Octets of the longest message of a leaf; it has memory for two.
pub const MESSAGE_BYTES: usize = 16 * 1024;

/// Questions of a leaf without an answer until it gives a message up.
const TRIES: u8 = 16;

/// A mesh to be.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    /// The radio of every node.
    pub radio: RadioProfile,
    /// Nodes that hear each other.
    pub topology: Topology,
    /// Chances of the air.
    pub conditions: Conditions,
    /// Seed of all that is by chance.
    pub seed: u64,
}

/// Times of a mesh, which follow from its radio and its depth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub listen_ms: u32,
    /// Random part of the wait before a frame is repeated.
    pub spread_us: u64,
    pub back_off_us: Option<u64>,
    pub packet_us: u64,
    pub reply_us: u64,
    pub poll_us: u64,
    pub hops: u8,
    pub credit: u8,
}

impl Times {
    fn of(config: &MeshConfig) -> Option<Self> {
        let frame_us = config.radio.frame_us();
        let back_off_us = config.radio.back_off_us;
        // Who listens first needs less room for the others.
        let frames = if back_off_us.is_some() { 4 } else { 12 };
        let listen_ms = (frame_us.div_ceil(1_000) + 1).min(60_000) as u32;
        let spread_us = frames * frame_us;
        let hop_us = u64::from(listen_ms) * 1_000 + spread_us + frame_us;
        let depth = u64::from(config.topology.depth());
        // A relay repeats every packet, so its duty cycle is the pace of all.
        let packet_us = config.radio.duty()?.pace_us(frame_us).max(hop_us);
        let reply_us = 2 * depth * hop_us + 2 * packet_us;
        let leaves = config.topology.nodes() as u64;
        Some(Self {
            listen_ms,
            spread_us,
            back_off_us,
            packet_us,
            reply_us,
            poll_us: (leaves * packet_us * 8).max(reply_us),
            hops: config.topology.depth().saturating_add(2),
            credit: 32,
        })
    }

    /// Time that a grant takes, until its last tile is answered.
    pub fn burst_us(&self) -> u64 {
        u64::from(self.credit) * self.packet_us + self.reply_us
    }

    fn pace(&self) -> Pace {
        Pace {
            packet_us: self.packet_us,
            reply_us: self.reply_us,
            poll_us: self.poll_us,
            credit: self.credit,
            tries: TRIES,
        }
    }
}

/// Counts of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NodeStats {
    /// Packets of its own transfers that it sent.
    pub packets: u64,
    /// Frames that it sent: its own and those of others that it repeated.
    pub frames: u64,
    /// Frames sent for others.
    pub repeated: u64,
    /// Tiles sent again, by it and to it.
    pub again: u64,
    /// Time that it was in the air, in microseconds.
    pub airtime_us: u64,
    /// Frames that did not reach it whole.
    pub missed: u64,
    /// Packets lost since a queue was full.
    pub dropped: u64,
    /// Time that frames waited for the duty cycle, in microseconds.
    pub waited_us: u64,
    /// Energy of its radio, in joules.
    pub energy_j: f64,
    /// Hops of its packets to the gateway on average.
    pub hops: f64,
}

/// A mesh in simulated time.
#[derive(Debug)]
pub struct Mesh {
    medium: Medium,
    radio: RadioProfile,
    times: Times,
    nodes: Vec<Node>,
    gateway: Gateway,
    /// Time at which a node has something to do; an entry that is not its time any more is passed over.
    wakes: BinaryHeap<Reverse<(u64, usize)>>,
    woken: Vec<u64>,
    heard: Vec<Heard>,
    /// A message has come or was delivered, or given up, since somebody asked.
    has_news: bool,
    now_us: u64,
    boots: u8,
}

impl Mesh {
    /// Nodes that have just booted; `None` if the radio may not send even one frame.
    pub fn new(config: MeshConfig) -> Option<Self> {
        let times = Times::of(&config)?;
        let duty = config.radio.duty()?;
        let nodes = config.topology.nodes();
        let leaf =
            |node| (node > 0).then(|| Leaf::new(1, times.pace(), node as u64 * times.packet_us));
        let mut mesh = Self {
            nodes: (0..nodes)
                .map(|node| Node::new(node, leaf(node), &times, duty, config.seed))
                .collect(),
            medium: Medium::new(
                config.topology,
                config.radio.modulation,
                config.conditions,
                config.seed,
            ),
            radio: config.radio,
            gateway: Gateway::new(nodes - 1, &times),
            times,
            wakes: BinaryHeap::new(),
            woken: vec![u64::MAX; nodes],
            heard: Vec::new(),
            has_news: false,
            now_us: 0,
            boots: 1,
        };
        (0..nodes).for_each(|node| mesh.wake(node));
        Some(mesh)
    }

    /// Leaves of the mesh, numbered from 0.
    pub fn leaves(&self) -> usize {
        self.nodes.len() - 1
    }

    /// Simulated time, in microseconds.
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Nodes that hear each other.
    pub fn topology(&self) -> &Topology {
        self.medium.topology()
    }

    /// Gives a leaf a message for the gateway.
    ///
    /// # Errors
    /// If it does not fit, or the last one is still under way.
    pub fn send_up(&mut self, leaf: usize, label: u8, message: &[u8]) -> Result<(), SendError> {
        let now_us = self.now_us;
        self.leaf(leaf).send(label, message, now_us)?;
        self.wake(leaf + 1);
        Ok(())
    }

    /// Gives the gateway a message for a leaf, which comes and gets it.
    ///
    /// # Errors
    /// If it does not fit, or the last one is still under way.
    pub fn send_down(&mut self, leaf: usize, label: u8, message: &[u8]) -> Result<(), SendError> {
        self.gateway.stations[leaf].send(label, message)
    }

    /// True if a message has come to the gateway from a leaf.
    pub fn has_come_up(&self, leaf: usize) -> bool {
        self.gateway.stations[leaf].receive().is_some()
    }

    /// The message that came to the gateway from a leaf, with its label; the place is free then.
    pub fn take_up(&mut self, leaf: usize) -> Option<(u8, Vec<u8>)> {
        let station = &mut self.gateway.stations[leaf];
        let taken = station
            .receive()
            .map(|(label, message)| (label, message.to_vec()));
        station.release();
        taken
    }

    /// The message that came to a leaf, with its label; the place is free then.
    pub fn take_down(&mut self, leaf: usize) -> Option<(u8, Vec<u8>)> {
        let end = self.leaf(leaf);
        let taken = end
            .receive()
            .map(|(label, message)| (label, message.to_vec()))?;
        end.release();
        self.wake(leaf + 1);
        Some(taken)
    }

    /// True until the last message of the leaf is delivered or given up.
    pub fn is_sending_up(&self, leaf: usize) -> bool {
        self.nodes[leaf + 1]
            .leaf
            .as_ref()
            .is_some_and(Leaf::is_sending)
    }

    /// True until the last message to the leaf is delivered or refused.
    pub fn is_sending_down(&self, leaf: usize) -> bool {
        self.gateway.stations[leaf].is_sending()
    }

    /// Gives up the message to the leaf.
    pub fn cancel_down(&mut self, leaf: usize) {
        self.gateway.stations[leaf].cancel();
    }

    /// Gives up the message from the leaf.
    pub fn cancel_up(&mut self, leaf: usize) {
        self.leaf(leaf).cancel();
    }

    /// Reason for which the last message of a leaf was given up, once.
    pub fn failure_up(&mut self, leaf: usize) -> Option<Reason> {
        self.leaf(leaf).failure()
    }

    /// Reason for which a leaf refused the last message, once.
    pub fn failure_down(&mut self, leaf: usize) -> Option<Reason> {
        self.gateway.stations[leaf].failure()
    }

    /// Tells whether the answer to a request of a leaf is about to be sent: it is told to ask again soon.
    pub fn expect(&mut self, leaf: usize, soon: bool) {
        self.gateway.soon[leaf] = soon;
    }

    /// Ends a node: it neither repeats nor answers, until [`Mesh::boot`].
    pub fn kill(&mut self, leaf: usize) {
        self.nodes[leaf + 1].is_alive = false;
    }

    /// Boots a node anew: all that it had in memory is gone.
    pub fn boot(&mut self, leaf: usize) {
        self.boots = self.boots.wrapping_add(1).max(1);
        let (times, now_us) = (self.times, self.now_us);
        let node = &mut self.nodes[leaf + 1];
        node.router = fl_radio::Router::new(super::node::address(leaf + 1), times.listen_ms);
        node.leaf = Some(Leaf::new(self.boots, times.pace(), now_us));
        node.is_alive = true;
        self.wake(leaf + 1);
    }

    fn leaf(&mut self, leaf: usize) -> &mut Leaf<MESSAGE_BYTES> {
        let node = self.nodes[leaf + 1].leaf.as_mut();
        node.expect("every node but the gateway is a leaf")
    }

    /// Tells, once, if a message has come, was delivered or was given up.
    pub fn has_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// Messages under way and come at a node, to see that something has changed.
    fn standing(&self, node: usize, leaf: usize) -> (bool, bool, bool, bool) {
        let (end, station) = (&self.nodes[node].leaf, self.gateway.stations.get(leaf));
        (
            end.as_ref().is_some_and(Leaf::is_sending),
            end.as_ref().is_some_and(|leaf| leaf.receive().is_some()),
            station.is_some_and(|station| station.is_sending()),
            station.is_some_and(|station| station.receive().is_some()),
        )
    }

    /// Counts of a node so far: 0 is the gateway, the leaves follow.
    pub fn stats(&self, node: usize) -> NodeStats {
        let (air, own) = (self.medium.stats(node), &self.nodes[node]);
        let seconds = |us: u64| us as f64 / 1e6;
        let rest_us = self.now_us.saturating_sub(air.sent_us + air.heard_us);
        let power = &self.radio.power;
        let energy_mj = power.transmit_mw * seconds(air.sent_us)
            + power.receive_mw * seconds(air.heard_us)
            + power.sleep_mw * seconds(rest_us);
        let station = node
            .checked_sub(1)
            .and_then(|leaf| self.gateway.stations.get(leaf));
        let to_it = station.map_or(0, |station| station.tiles_again());
        let by_it = own.leaf.as_ref().map_or(0, Leaf::tiles_again);
        let hops = node.checked_sub(1).map(|leaf| self.gateway.hops[leaf]);
        let (sum, count) = hops.unwrap_or_default();
        NodeStats {
            packets: own.packets,
            frames: air.sent,
            repeated: air.sent.saturating_sub(own.packets),
            again: u64::from(to_it) + u64::from(by_it),
            airtime_us: air.sent_us,
            missed: air.collided + air.lost,
            dropped: own.dropped + u64::from(own.router.overflowed()),
            waited_us: own.waited_us,
            energy_j: energy_mj / 1e3,
            hops: if count == 0 {
                0.0
            } else {
                sum as f64 / count as f64
            },
        }
    }

    /// Does the next event at or before `until_us`; false, and the time is then `until_us`, if there is none.
    pub fn step(&mut self, until_us: u64) -> bool {
        while let Some(&Reverse((at_us, node))) = self.wakes.peek() {
            if self.woken[node] == at_us {
                break;
            }
            self.wakes.pop();
        }
        let wake_us = self
            .wakes
            .peek()
            .map_or(u64::MAX, |Reverse((at_us, _))| *at_us);
        let end_us = self.medium.next_us().unwrap_or(u64::MAX);
        let at_us = wake_us.min(end_us);
        if at_us > until_us || at_us == u64::MAX {
            self.now_us = self.now_us.max(until_us);
            return false;
        }
        self.now_us = self.now_us.max(at_us);
        if end_us <= wake_us {
            self.arrive();
        } else if let Some(Reverse((_, node))) = self.wakes.pop() {
            self.woken[node] = u64::MAX;
            self.run(node);
        }
        true
    }

    /// Hands out the frames that have ended.
    fn arrive(&mut self) {
        let mut heard = std::mem::take(&mut self.heard);
        self.medium.advance(self.now_us, &mut heard);
        for Heard { node, octets } in heard.drain(..) {
            self.nodes[node].hear(&octets, self.now_us, &self.times);
            self.collect(node);
            self.wake(node);
        }
        self.heard = heard;
    }

    /// Takes the packets that a node's router has for it.
    fn collect(&mut self, node: usize) {
        while let Some((from, left, packet)) = self.nodes[node].router.receive() {
            let hops = self.times.hops.saturating_sub(left).saturating_add(1);
            let from = usize::from(from.get()).wrapping_sub(2);
            let before = self.standing(node, from);
            match &mut self.nodes[node].leaf {
                Some(leaf) => leaf.on_packet(&packet, self.now_us),
                None => self
                    .gateway
                    .on_packet(from, hops, &packet, self.now_us, &self.times),
            }
            self.has_news |= before != self.standing(node, from);
        }
    }

    fn run(&mut self, node: usize) {
        if node == 0 {
            let packets = self.gateway.poll(self.now_us);
            let packets = packets.map(|(leaf, packet)| (leaf + 1, packet));
            self.nodes[0].outbox.extend(packets);
        }
        let is_sending = |node: &Node| node.leaf.as_ref().is_some_and(Leaf::is_sending);
        let sent = is_sending(&self.nodes[node]);
        self.nodes[node].run(self.now_us, &self.times, &mut self.medium);
        self.has_news |= sent && !is_sending(&self.nodes[node]);
        self.wake(node);
    }

    /// Notes when a node has something to do.
    fn wake(&mut self, node: usize) {
        let mut at_us = self.nodes[node].wake_us();
        if node == 0 {
            at_us = at_us.min(self.gateway.wake_us());
        }
        // Time never goes back, and something that is due is done in the next event.
        let at_us = if at_us == u64::MAX {
            at_us
        } else {
            at_us.max(self.now_us)
        };
        if self.woken[node] != at_us {
            self.woken[node] = at_us;
            if at_us < u64::MAX {
                self.wakes.push(Reverse((at_us, node)));
            }
        }
    }
}

#[cfg(test)]
mod tests;
