//! The gateway's side of a mesh: a station for each leaf, of which one at a time has the air.
//!
//! Leaves have the air by turns. Whoever asks while it is another's turn is told to wait, and called when its own
//! comes, so that leaves do not ask in vain again and again: of a few hundred that do so, the air is full. A call is
//! no more than a hint: a leaf that does not hear it asks by itself, later.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::Station;
use crate::node::{Draw, Node, Times, address};
use crate::packet::PacketBytes;
use crate::router::Frame;
use crate::station::Taken;

/// Calls of a leaf that nobody answers, after which it is left to come by itself.
const MAX_CALLS: u8 = 3;

/// Pause of a leaf for which there is nothing, in those of one that asks in vain: it is called before.
const IDLE_POLLS: u64 = 4;

/// One leaf as its gateway knows it.
#[derive(Debug)]
struct Place<const N: usize> {
    station: Station<N>,
    /// Sum of the hops that its packets took, and their number.
    hops: (u32, u32),
    /// It is told to come back soon, since something is on its way to it.
    soon: bool,
    is_queued: bool,
    /// Calls since it was last heard.
    calls: u8,
}

/// A leaf's time on the air.
#[derive(Clone, Copy, Debug)]
struct Turn {
    leaf: usize,
    /// Its end, unless the leaf is heard.
    until_us: u64,
    /// False while it is called and has not answered.
    is_heard: bool,
}

/// Stations by leaf, and whose turn it is.
#[derive(Debug)]
pub struct Gateway<const N: usize> {
    times: Times,
    places: Vec<Place<N>>,
    turn: Option<Turn>,
    /// Leaves that wait for their turn, since when. Those of one moment have it in order, whoever was told of first.
    queue: BTreeSet<(u64, usize)>,
    /// Time of the last event.
    now_us: u64,
    /// Leaves to which there is something to send.
    speaking: BTreeSet<usize>,
    /// Time of the next packet to any leaf.
    next_us: u64,
}

impl<const N: usize> Gateway<N> {
    /// A gateway that has not heard of any leaf.
    pub fn new(leaves: usize, times: Times) -> Self {
        let place = |_| Place {
            station: Station::new(times.pace.packet_us, times.pace.credit),
            hops: (0, 0),
            soon: false,
            is_queued: false,
            calls: 0,
        };
        Self {
            times,
            places: (0..leaves).map(place).collect(),
            turn: None,
            queue: BTreeSet::new(),
            now_us: 0,
            speaking: BTreeSet::new(),
            next_us: 0,
        }
    }

    /// The end of a leaf's transfers.
    pub fn station(&self, leaf: usize) -> &Station<N> {
        &self.places[leaf].station
    }

    /// The end of a leaf's transfers. Whoever gives it a message says so to [`Gateway::expect`].
    pub fn station_mut(&mut self, leaf: usize) -> &mut Station<N> {
        &mut self.places[leaf].station
    }

    /// Sum of the hops that the packets of a leaf took, and their number.
    pub fn hops(&self, leaf: usize) -> (u32, u32) {
        self.places[leaf].hops
    }

    /// Looks at what there is for a leaf, which waits for its turn then; `soon` tells whether something is about to
    /// be sent to it.
    pub fn expect(&mut self, leaf: usize, soon: bool) {
        self.places[leaf].soon = soon;
        if self.places[leaf].station.is_sending() {
            self.queue(leaf);
        }
        let has_turn = |turn: &&mut Turn| turn.leaf == leaf && turn.is_heard;
        if self.turn.as_mut().filter(has_turn).is_some() && !self.goes_on(leaf) {
            self.turn = None;
        }
    }

    /// True while a leaf has to do with the gateway, so that its turn goes on.
    fn goes_on(&self, leaf: usize) -> bool {
        let place = &self.places[leaf];
        let station = &place.station;
        place.soon || station.is_busy() || station.is_sending() || station.receive().is_some()
    }

    /// Puts a leaf behind those that wait, if it can be called.
    fn queue(&mut self, leaf: usize) {
        let place = &mut self.places[leaf];
        let has_turn = self.turn.is_some_and(|turn| turn.leaf == leaf);
        if !place.is_queued
            && !has_turn
            && place.calls < MAX_CALLS
            && place.station.epoch().is_some()
        {
            place.is_queued = true;
            self.queue.insert((self.now_us, leaf));
        }
    }

    /// Silence after which a turn is over: time for the leaf to ask once more.
    fn silence_us(&self) -> u64 {
        2 * self.times.pace.reply_us
    }

    /// Ends a turn whose leaf has fallen silent, and calls the next leaf.
    fn pass_on(&mut self, now_us: u64) {
        self.now_us = now_us;
        if let Some(turn) = self.turn.take_if(|turn| turn.until_us <= now_us)
            && self.places[turn.leaf].station.is_sending()
        {
            self.queue(turn.leaf);
        }
        if self.turn.is_some() {
            return;
        }
        if let Some((_, leaf)) = self.queue.pop_first() {
            let place = &mut self.places[leaf];
            place.is_queued = false;
            place.calls += 1;
            place.station.call();
            self.turn = Some(Turn {
                leaf,
                until_us: now_us + self.silence_us(),
                is_heard: false,
            });
            self.note(leaf);
        }
    }

    /// Takes in a packet of a leaf.
    pub fn on_packet(&mut self, leaf: usize, hops: u8, packet: &PacketBytes, now_us: u64) {
        if leaf >= self.places.len() {
            return;
        }
        self.pass_on(now_us);
        let free = self.turn.is_none_or(|turn| turn.leaf == leaf);
        let place = &mut self.places[leaf];
        let taken = place.station.on_packet(packet, free);
        if taken == Taken::Foreign {
            return;
        }
        place.calls = 0;
        let (sum, count) = &mut place.hops;
        (*sum, *count) = (sum.saturating_add(hops.into()), count.saturating_add(1));
        let pace = &self.times.pace;
        let wait_us = match taken {
            Taken::PutOff => {
                self.queue(leaf);
                // It is called before, if all goes well.
                Some(self.times.burst_us() * (self.queue.len() as u64 + 1))
            }
            Taken::Nothing if self.places[leaf].soon => Some(pace.packet_us),
            // It is called when there is something.
            Taken::Nothing => Some(IDLE_POLLS * pace.poll_us),
            Taken::Foreign | Taken::Served => None,
        };
        if let Some(wait_us) = wait_us {
            let wait_ds = u16::try_from(wait_us.div_ceil(100_000)).unwrap_or(u16::MAX);
            self.places[leaf].station.idle(wait_ds);
        }
        if free {
            self.turn = self.goes_on(leaf).then_some(Turn {
                leaf,
                until_us: now_us + self.silence_us(),
                is_heard: true,
            });
        }
        self.note(leaf);
    }

    fn note(&mut self, leaf: usize) {
        match self.places[leaf].station.wake_us() {
            Some(_) => self.speaking.insert(leaf),
            None => self.speaking.remove(&leaf),
        };
    }

    /// The next packet that it is time for, with its leaf.
    pub fn poll(&mut self, now_us: u64) -> Option<(usize, PacketBytes)> {
        self.pass_on(now_us);
        if now_us < self.next_us {
            return None;
        }
        let due = |leaf: &&usize| {
            let wake_us = self.places[**leaf].station.wake_us();
            wake_us.is_some_and(|at_us| at_us <= now_us)
        };
        // Answers go before tiles: without them others ask again.
        let due = self.speaking.iter().filter(due);
        let leaf = *due.min_by_key(|leaf| !self.places[**leaf].station.has_reply())?;
        let packet = self.places[leaf].station.poll(now_us);
        self.note(leaf);
        if packet.is_some() {
            self.next_us = now_us.saturating_add(self.times.pace.packet_us);
            let silent_us = now_us + self.silence_us();
            let own = self.turn.as_mut().filter(|turn| turn.leaf == leaf);
            own.into_iter().for_each(|turn| turn.until_us = silent_us);
        }
        packet.map(|packet| (leaf, packet))
    }

    /// Time at which [`Gateway::poll`] has something to do.
    pub fn wake_us(&self) -> u64 {
        let speaking = self.speaking.iter();
        let times = speaking.filter_map(|&leaf| self.places[leaf].station.wake_us());
        let speaks_us = times.min().map(|at_us| at_us.max(self.next_us));
        let turn_us = self.turn.map_or(0, |turn| turn.until_us);
        let turns_us = (!self.queue.is_empty()).then_some(turn_us);
        speaks_us
            .into_iter()
            .chain(turns_us)
            .min()
            .unwrap_or(u64::MAX)
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

    /// Takes in a frame.
    pub fn hear(&mut self, octets: &[u8], now_us: u64, draw: Draw<'_>) {
        self.node.hear(octets, now_us, draw);
        while let Some((from, hops, packet)) = self.node.receive() {
            if let Some(leaf) = from.checked_sub(1) {
                self.gateway.on_packet(leaf, hops, &packet, now_us);
            }
        }
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
