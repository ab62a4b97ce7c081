//! A gateway and its leaves over one medium, event by event.

use fl_radio::{
    Frame, Gateway, GatewayNode, Leaf, LeafNode, MESSAGE_BYTES, Node, Reason, SendError,
};
use fl_rng::{Pcg32, Purpose, derive_seed};

use super::air::Air;
use super::medium::{Conditions, Heard};
use super::profile::RadioProfile;
use super::topology::Topology;
use super::wakes::Wakes;

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

impl MeshConfig {
    /// Seed of a node's own chances.
    pub fn node_seed(&self, node: usize) -> u64 {
        derive_seed(self.seed, node as u32, 0)
    }
}

/// Number of a leaf's life: it tells its packets from those of the life before, and leaves from each other.
pub fn epoch(node: usize, boots: u8) -> u8 {
    boots.wrapping_mul(101).wrapping_add(node as u8).max(1)
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

impl NodeStats {
    /// Counts of a node's radio; those of its transfers are added by whoever has them.
    pub fn of(air: &Air, node: usize, now_us: u64) -> Self {
        let (stats, dropped, waited_us) = air.stats(node);
        Self {
            frames: stats.sent,
            airtime_us: stats.sent_us,
            missed: stats.collided + stats.lost,
            dropped,
            waited_us,
            energy_j: air.energy_j(node, now_us),
            ..Self::default()
        }
    }

    /// Adds the packets of its own transfers.
    pub fn own(&mut self, packets: u64, again: u64, dropped: u64) {
        self.packets = packets;
        self.repeated = self.frames.saturating_sub(packets);
        self.again += again;
        self.dropped += dropped;
    }
}

/// Kind of a node.
#[derive(Debug)]
enum End {
    Gateway(Box<GatewayNode<MESSAGE_BYTES>>),
    Leaf(Box<LeafNode<MESSAGE_BYTES>>),
}

/// A node and its chances.
#[derive(Debug)]
struct Place {
    end: End,
    random: Pcg32,
    is_alive: bool,
    boots: u8,
}

impl Place {
    fn node(&self) -> &Node {
        match &self.end {
            End::Gateway(end) => &end.node,
            End::Leaf(end) => &end.node,
        }
    }

    fn hear(&mut self, octets: &[u8], now_us: u64) {
        let draw = &mut |below| self.random.below(below);
        match &mut self.end {
            End::Gateway(end) => end.hear(octets, now_us, draw),
            End::Leaf(end) => end.hear(octets, now_us, draw),
        }
    }

    fn run(&mut self, now_us: u64) -> Option<Frame> {
        let draw = &mut |below| self.random.below(below);
        match &mut self.end {
            End::Gateway(end) => end.run(now_us, draw),
            End::Leaf(end) => end.run(now_us, draw),
        }
    }

    fn wake_us(&self) -> u64 {
        match &self.end {
            _ if !self.is_alive => u64::MAX,
            End::Gateway(end) => end.wake_us(),
            End::Leaf(end) => end.wake_us(),
        }
    }

    fn leaf(&mut self) -> &mut Leaf<MESSAGE_BYTES> {
        match &mut self.end {
            End::Leaf(end) => &mut end.leaf,
            End::Gateway(_) => unreachable!("every node but the first is a leaf"),
        }
    }

    fn as_leaf(&self) -> Option<&Leaf<MESSAGE_BYTES>> {
        match &self.end {
            End::Leaf(end) => Some(&end.leaf),
            End::Gateway(_) => None,
        }
    }
}

/// A mesh in simulated time.
#[derive(Debug)]
pub struct Mesh {
    air: Air,
    places: Vec<Place>,
    /// Times at which nodes have something to do.
    wakes: Wakes,
    heard: Vec<Heard>,
    /// Leaves of which a message has come or was delivered, or given up, since somebody asked.
    news: Vec<usize>,
    /// The gateway may have got something to do.
    is_told: bool,
    now_us: u64,
}

impl Mesh {
    /// Nodes that have just booted; `None` if the radio may not send even one frame.
    pub fn new(config: MeshConfig) -> Option<Self> {
        let air = Air::new(&config)?;
        let nodes = config.topology.nodes();
        let times = *air.times();
        let end = |node: usize| match node {
            0 => End::Gateway(Box::new(GatewayNode::new(nodes - 1, times))),
            node => {
                let first_us = node as u64 * times.pace.packet_us;
                End::Leaf(Box::new(LeafNode::new(
                    node,
                    times,
                    epoch(node, 1),
                    first_us,
                )))
            }
        };
        let place = |node| Place {
            end: end(node),
            random: Pcg32::new(Purpose::Radio, config.node_seed(node)),
            is_alive: true,
            boots: 1,
        };
        let mut mesh = Self {
            places: (0..nodes).map(place).collect(),
            air,
            wakes: Wakes::new(nodes),
            heard: Vec::new(),
            news: Vec::new(),
            is_told: false,
            now_us: 0,
        };
        (0..nodes).for_each(|node| mesh.wake(node));
        Some(mesh)
    }

    /// Leaves of the mesh, numbered from 0.
    pub fn leaves(&self) -> usize {
        self.places.len() - 1
    }

    /// Simulated time, in microseconds.
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Nodes that hear each other.
    pub fn topology(&self) -> &Topology {
        self.air.topology()
    }

    /// The gateway's ends of all transfers.
    pub fn gateway(&self) -> &Gateway<MESSAGE_BYTES> {
        match &self.places[0].end {
            End::Gateway(end) => &end.gateway,
            End::Leaf(_) => unreachable!("the first node is the gateway"),
        }
    }

    /// The gateway's ends of all transfers.
    pub fn gateway_mut(&mut self) -> &mut Gateway<MESSAGE_BYTES> {
        self.is_told = true;
        match &mut self.places[0].end {
            End::Gateway(end) => &mut end.gateway,
            End::Leaf(_) => unreachable!("the first node is the gateway"),
        }
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
        let gateway = self.gateway_mut();
        gateway.station_mut(leaf).send(label, message)?;
        gateway.expect(leaf, false);
        Ok(())
    }

    /// True if a message has come to the gateway from a leaf.
    pub fn has_come_up(&self, leaf: usize) -> bool {
        self.gateway().station(leaf).receive().is_some()
    }

    /// The message that came to the gateway from a leaf, with its label; the place is free then.
    pub fn take_up(&mut self, leaf: usize) -> Option<(u8, Vec<u8>)> {
        let station = self.gateway_mut().station_mut(leaf);
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
        self.places[leaf + 1]
            .as_leaf()
            .is_some_and(Leaf::is_sending)
    }

    /// True until the last message to the leaf is delivered or refused.
    pub fn is_sending_down(&self, leaf: usize) -> bool {
        self.gateway().station(leaf).is_sending()
    }

    /// Tells the gateway that a leaf is gone: what is left of it in the air comes to nothing.
    pub fn end_life(&mut self, leaf: usize) {
        self.gateway_mut().station_mut(leaf).end_life();
    }

    /// Reason for which the last message of a leaf was given up, once.
    pub fn failure_up(&mut self, leaf: usize) -> Option<Reason> {
        self.leaf(leaf).failure()
    }

    /// Ends a node: it neither repeats nor answers, until [`Mesh::boot`].
    pub fn kill(&mut self, leaf: usize) {
        self.places[leaf + 1].is_alive = false;
        self.air.switch(leaf + 1, false);
        self.wake(leaf + 1);
    }

    /// Boots a node anew: all that it had in memory is gone.
    pub fn boot(&mut self, leaf: usize) {
        let (times, now_us, number) = (*self.air.times(), self.now_us, leaf + 1);
        let place = &mut self.places[number];
        place.boots = place.boots.wrapping_add(1);
        let epoch = epoch(number, place.boots);
        place.end = End::Leaf(Box::new(LeafNode::new(number, times, epoch, now_us)));
        place.is_alive = true;
        self.air.switch(number, true);
        self.wake(number);
    }

    fn leaf(&mut self, leaf: usize) -> &mut Leaf<MESSAGE_BYTES> {
        self.places[leaf + 1].leaf()
    }

    /// True if a message has come, was delivered or was given up.
    pub fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// The leaves that this is about, in order and each once.
    pub fn take_news(&mut self) -> Vec<usize> {
        let mut news = std::mem::take(&mut self.news);
        news.sort_unstable();
        news.dedup();
        news
    }

    /// Messages under way and come at both ends of a leaf, to see that something has changed.
    fn standing(&self, leaf: usize) -> [bool; 4] {
        let (end, station) = (
            self.places.get(leaf + 1).and_then(Place::as_leaf),
            self.gateway().station(leaf),
        );
        [
            end.is_some_and(Leaf::is_sending),
            end.is_some_and(|leaf| leaf.receive().is_some()),
            station.is_sending(),
            station.receive().is_some(),
        ]
    }

    /// Counts of a node so far: 0 is the gateway, the leaves follow.
    pub fn stats(&self, node: usize) -> NodeStats {
        let place = &self.places[node];
        let mut stats = NodeStats::of(&self.air, node, self.now_us);
        let again = place.as_leaf().map_or(0, Leaf::tiles_again);
        stats.own(place.node().packets(), again.into(), place.node().dropped());
        if let Some(leaf) = node.checked_sub(1) {
            let (sum, count) = self.gateway().hops(leaf);
            stats.hops = f64::from(sum) / f64::from(count.max(1));
            stats.again += u64::from(self.gateway().station(leaf).tiles_again());
        }
        stats
    }

    /// Does the next event at or before `until_us`; false, and the time is then `until_us`, if there is none.
    pub fn step(&mut self, until_us: u64) -> bool {
        if std::mem::take(&mut self.is_told) {
            self.wake(0);
        }
        let wake_us = self.wakes.next_us().unwrap_or(u64::MAX);
        let air_us = self.air.next_us().unwrap_or(u64::MAX);
        let at_us = wake_us.min(air_us);
        if at_us > until_us || at_us == u64::MAX {
            self.now_us = self.now_us.max(until_us);
            return false;
        }
        self.now_us = self.now_us.max(at_us);
        if air_us <= wake_us {
            self.arrive();
        } else if let Some(node) = self.wakes.pop() {
            self.run(node);
        }
        true
    }

    /// Hands out the frames that have ended.
    fn arrive(&mut self) {
        let mut heard = std::mem::take(&mut self.heard);
        self.air.advance(self.now_us, &mut heard);
        for Heard { node, octets } in heard.drain(..) {
            // A transfer is between the gateway and whoever sent or gets the frame.
            let about = fl_radio::ends(&octets).and_then(|(from, to)| from.max(to).checked_sub(1));
            let about = about.filter(|leaf| *leaf < self.leaves());
            let before = about.map(|leaf| self.standing(leaf));
            self.places[node].hear(&octets, self.now_us);
            if before != about.map(|leaf| self.standing(leaf)) {
                self.news.extend(about);
            }
            self.wake(node);
        }
        self.heard = heard;
    }

    fn run(&mut self, node: usize) {
        let sends = |place: &Place| place.as_leaf().is_some_and(Leaf::is_sending);
        let before = sends(&self.places[node]);
        let said = self.places[node].run(self.now_us);
        self.said(node, said);
        if before && !sends(&self.places[node]) {
            self.news.extend(node.checked_sub(1));
        }
        self.wake(node);
    }

    fn said(&mut self, node: usize, said: Option<Frame>) {
        if let Some(frame) = said {
            self.air.say(node, frame, self.now_us);
        }
    }

    /// Notes when a node has something to do.
    fn wake(&mut self, node: usize) {
        // Something that is due is done in the next event.
        self.wakes
            .set(node, self.places[node].wake_us(), self.now_us);
    }
}

#[cfg(test)]
mod tests;
