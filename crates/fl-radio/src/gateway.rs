//! The gateway's side of a mesh: a station for each leaf, of which one at a time has the air.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use crate::Station;
use crate::node::{Draw, Node, Times, address};
use crate::packet::PacketBytes;
use crate::router::Frame;

/// Stations by leaf, and whose turn it is.
#[derive(Debug)]
pub struct Gateway<const N: usize> {
    times: Times,
    stations: Vec<Station<N>>,
    /// Sum of the hops that the packets of each leaf took, and their number.
    hops: Vec<(u32, u32)>,
    serves: Option<(usize, u64)>,
    /// Leaves that are told to come back soon, since something is on its way to them.
    soon: Vec<bool>,
    /// Leaves to which there is something to send.
    speaking: BTreeSet<usize>,
}

impl<const N: usize> Gateway<N> {
    /// A gateway that has not heard of any leaf.
    pub fn new(leaves: usize, times: Times) -> Self {
        let station = |_| Station::new(times.pace.packet_us, times.pace.credit);
        Self {
            times,
            stations: (0..leaves).map(station).collect(),
            hops: vec![(0, 0); leaves],
            serves: None,
            soon: vec![false; leaves],
            speaking: BTreeSet::new(),
        }
    }

    /// The end of a leaf's transfers.
    pub fn station(&self, leaf: usize) -> &Station<N> {
        &self.stations[leaf]
    }

    /// The end of a leaf's transfers.
    pub fn station_mut(&mut self, leaf: usize) -> &mut Station<N> {
        &mut self.stations[leaf]
    }

    /// Sum of the hops that the packets of a leaf took, and their number.
    pub fn hops(&self, leaf: usize) -> (u32, u32) {
        self.hops[leaf]
    }

    /// Tells whether something is about to be sent to a leaf: it is then told to ask again soon.
    pub fn expect(&mut self, leaf: usize, soon: bool) {
        self.soon[leaf] = soon;
    }

    /// Takes in a packet of a leaf.
    pub fn on_packet(&mut self, leaf: usize, hops: u8, packet: &PacketBytes, now_us: u64) {
        let Some(station) = self.stations.get_mut(leaf) else {
            return;
        };
        let pace = &self.times.pace;
        let free = !self
            .serves
            .is_some_and(|(other, until_us)| other != leaf && until_us > now_us);
        // Leaves that are put off come back one after the other.
        let wait_us = match (free, self.soon[leaf]) {
            (true, true) => pace.packet_us,
            (true, false) => pace.poll_us,
            (false, _) => self.times.burst_us() + leaf as u64 % 16 * pace.packet_us * 4,
        };
        let wait_ds = u16::try_from(wait_us.div_ceil(100_000)).unwrap_or(u16::MAX);
        if !station.on_packet(packet, free, wait_ds) {
            return;
        }
        let (sum, count) = &mut self.hops[leaf];
        (*sum, *count) = (sum.saturating_add(hops.into()), count.saturating_add(1));
        if free {
            let goes_on = station.is_busy() || station.is_sending();
            self.serves = goes_on.then_some((leaf, now_us + self.times.burst_us()));
        }
        self.note(leaf);
    }

    fn note(&mut self, leaf: usize) {
        match self.stations[leaf].wake_us() {
            Some(_) => self.speaking.insert(leaf),
            None => self.speaking.remove(&leaf),
        };
    }

    /// The next packet that it is time for, with its leaf.
    pub fn poll(&mut self, now_us: u64) -> Option<(usize, PacketBytes)> {
        let is_due = |leaf: &&usize| {
            self.stations[**leaf]
                .wake_us()
                .is_some_and(|at| at <= now_us)
        };
        let leaf = *self.speaking.iter().find(is_due)?;
        let packet = self.stations[leaf].poll(now_us);
        self.note(leaf);
        packet.map(|packet| (leaf, packet))
    }

    /// Time at which [`Gateway::poll`] has something to send.
    pub fn wake_us(&self) -> u64 {
        let speaking = self.speaking.iter();
        let times = speaking.filter_map(|&leaf| self.stations[leaf].wake_us());
        times.min().unwrap_or(u64::MAX)
    }
}

/// A node and the gateway's ends of all transfers.
#[derive(Debug)]
pub struct GatewayNode<const N: usize> {
    /// The router.
    pub node: Node,
    /// The ends of the transfers.
    pub gateway: Gateway<N>,
}

impl<const N: usize> GatewayNode<N> {
    /// A gateway that has just booted.
    pub fn new(leaves: usize, times: Times) -> Self {
        Self {
            node: Node::new(0, times),
            gateway: Gateway::new(leaves, times),
        }
    }

    /// Takes in a frame, and hands out the one that it is time for.
    pub fn hear(&mut self, octets: &[u8], now_us: u64, draw: Draw<'_>) -> Option<Frame> {
        let said = self.node.hear(octets, now_us, draw);
        while let Some((from, hops, packet)) = self.node.receive() {
            if let Some(leaf) = from.checked_sub(1) {
                self.gateway.on_packet(leaf, hops, &packet, now_us);
            }
        }
        said
    }

    /// Hands out the frame that it is time for.
    pub fn run(&mut self, now_us: u64, draw: Draw<'_>) -> Option<Frame> {
        while let Some((leaf, packet)) = self.gateway.poll(now_us) {
            self.node.send(address(leaf + 1), &packet, now_us);
        }
        self.node.run(now_us, draw)
    }

    /// Time at which [`GatewayNode::run`] has something to do.
    pub fn wake_us(&self) -> u64 {
        self.node.wake_us().min(self.gateway.wake_us())
    }
}
