//! The air that radios share: what becomes of each frame at each node that it reaches.
//!
//! A frame reaches every node in range of its sender, and ends there after its air time. It is lost where
//! another frame overlaps it, where the node itself sends meanwhile (half duplex), and by chance; what arrives
//! may have bits flipped. The chances of the n-th frame from one node to another follow from the seed alone.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use fl_radio::airtime::Modulation;
use fl_rng::{Lane, fraction, radio_lane};

use super::topology::Topology;

/// Chances of the air.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Conditions {
    /// Share of the frames that a node in range does not hear, from 0 to 1.
    pub loss: f64,
    /// Share of the bits that arrive flipped, from 0 to 1.
    pub bit_errors: f64,
}

impl Conditions {
    /// Share of the frames of so many octets that arrive as they were sent, where nobody else sends.
    pub fn heard(&self, octets: usize) -> f64 {
        (1.0 - self.loss) * (1.0 - self.bit_errors).powf(8.0 * octets as f64)
    }
}

/// A frame that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Node that hears it.
    pub node: usize,
    /// Its octets.
    pub octets: Vec<u8>,
}

/// Counts of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AirStats {
    /// Frames that it sent.
    pub sent: u64,
    /// Air time of them, in microseconds.
    pub sent_us: u64,
    /// Frames that it heard.
    pub heard: u64,
    /// Air time of the frames that reached it, heard or not.
    pub heard_us: u64,
    /// Frames that collided there, or came while it sent.
    pub collided: u64,
    /// Frames lost on the way to it by chance.
    pub lost: u64,
}

/// A frame on its way to the nodes that are in range.
#[derive(Debug)]
struct Flight {
    from: usize,
    octets: Vec<u8>,
    /// Nodes that it reaches, and whether it is whole there so far.
    reaches: Vec<(usize, bool)>,
}

#[derive(Debug, Default)]
struct Air {
    sends_until_us: u64,
    /// Frames in the air there, by flight.
    flights: Vec<usize>,
    stats: AirStats,
    /// Frames so far from each node that it hears.
    counts: Vec<u64>,
}

/// The air of one mesh, in simulated time.
#[derive(Debug)]
pub struct Medium {
    topology: Topology,
    modulation: Modulation,
    conditions: Conditions,
    seed: u64,
    airs: Vec<Air>,
    flights: Vec<Option<Flight>>,
    free: Vec<usize>,
    /// Ends of flights: time, order of sending, flight.
    ends: BinaryHeap<Reverse<(u64, u64, usize)>>,
    sent: u64,
}

impl Medium {
    /// Clear air.
    pub fn new(
        topology: Topology,
        modulation: Modulation,
        conditions: Conditions,
        seed: u64,
    ) -> Self {
        let air = |node| Air {
            counts: vec![0; topology.hears(node).len()],
            ..Air::default()
        };
        Self {
            airs: (0..topology.nodes()).map(air).collect(),
            topology,
            modulation,
            conditions,
            seed,
            flights: Vec::new(),
            free: Vec::new(),
            ends: BinaryHeap::new(),
            sent: 0,
        }
    }

    /// Places of the nodes.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Counts of a node so far.
    pub fn stats(&self, node: usize) -> AirStats {
        self.airs[node].stats
    }

    /// True if a node would hear somebody now, or sends itself.
    pub fn is_busy(&self, node: usize, now_us: u64) -> bool {
        let air = &self.airs[node];
        air.sends_until_us > now_us || !air.flights.is_empty()
    }

    /// Sends a frame from now on, and returns the time of its end. A node that sends already does not.
    pub fn transmit(&mut self, from: usize, octets: Vec<u8>, now_us: u64) -> Option<u64> {
        if self.airs[from].sends_until_us > now_us {
            return None;
        }
        let airtime_us = self.modulation.airtime_us(octets.len());
        let end_us = now_us + airtime_us;
        let sender = &mut self.airs[from];
        sender.sends_until_us = end_us;
        sender.stats.sent += 1;
        sender.stats.sent_us += airtime_us;
        // What reaches the sender meanwhile is not heard.
        for flight in self.airs[from].flights.clone() {
            self.spoil(flight, from);
        }
        let reaches: Vec<usize> = self.topology.hears(from).to_vec();
        let flight = self.free.pop().unwrap_or(self.flights.len());
        if flight == self.flights.len() {
            self.flights.push(None);
        }
        let mut reached = Vec::with_capacity(reaches.len());
        for node in reaches {
            let others = std::mem::take(&mut self.airs[node].flights);
            let clear = others.is_empty() && self.airs[node].sends_until_us <= now_us;
            others.iter().for_each(|&other| self.spoil(other, node));
            self.airs[node].flights = others;
            self.airs[node].flights.push(flight);
            self.airs[node].stats.heard_us += airtime_us;
            reached.push((node, clear));
        }
        self.flights[flight] = Some(Flight {
            from,
            octets,
            reaches: reached,
        });
        self.sent += 1;
        self.ends.push(Reverse((end_us, self.sent, flight)));
        Some(end_us)
    }

    fn spoil(&mut self, flight: usize, node: usize) {
        let reaches = self.flights[flight]
            .iter_mut()
            .flat_map(|flight| &mut flight.reaches);
        reaches
            .filter(|(at, _)| *at == node)
            .for_each(|(_, whole)| *whole = false);
    }

    /// Time at which the next frame ends.
    pub fn next_us(&self) -> Option<u64> {
        self.ends.peek().map(|Reverse((at_us, ..))| *at_us)
    }

    /// Ends the frames that end by now, and adds who hears them.
    pub fn advance(&mut self, now_us: u64, heard: &mut Vec<Heard>) {
        while self.next_us().is_some_and(|at_us| at_us <= now_us) {
            let Some(Reverse((.., index))) = self.ends.pop() else {
                return;
            };
            let Some(flight) = self.flights[index].take() else {
                continue;
            };
            self.free.push(index);
            for &(node, whole) in &flight.reaches {
                self.airs[node].flights.retain(|&other| other != index);
                heard.extend(self.arrive(&flight, node, whole));
            }
        }
    }

    fn arrive(&mut self, flight: &Flight, node: usize, whole: bool) -> Option<Heard> {
        let air = &mut self.airs[node];
        if !whole {
            air.stats.collided += 1;
            return None;
        }
        let at = self
            .topology
            .hears(node)
            .iter()
            .position(|&other| other == flight.from)?;
        let lane = Lane::new(self.seed, radio_lane(flight.from as u16, node as u16));
        let mut words = Words {
            lane,
            next: air.counts[at] << 16,
        };
        air.counts[at] += 1;
        if words.draw() < self.conditions.loss {
            air.stats.lost += 1;
            return None;
        }
        air.stats.heard += 1;
        let mut octets = flight.octets.clone();
        flip(&mut octets, self.conditions.bit_errors, &mut words);
        Some(Heard { node, octets })
    }

    /// Air time of a frame of so many octets, in microseconds.
    pub fn airtime_us(&self, octets: usize) -> u64 {
        self.modulation.airtime_us(octets)
    }
}

/// Words of one frame's chances.
struct Words {
    lane: Lane,
    next: u64,
}

impl Words {
    fn draw(&mut self) -> f64 {
        self.next += 1;
        fraction(self.lane.word(self.next))
    }
}

/// Flips bits, each with this chance: from one to the next the gaps are geometric.
fn flip(octets: &mut [u8], chance: f64, words: &mut Words) {
    if chance <= 0.0 {
        return;
    }
    let bits = octets.len() * 8;
    let mut bit = 0;
    loop {
        let gap = match chance < 1.0 {
            true => (1.0 - words.draw()).ln() / (1.0 - chance).ln(),
            false => 0.0,
        };
        if gap >= (bits - bit) as f64 {
            return;
        }
        bit += gap as usize;
        octets[bit / 8] ^= 1 << (bit % 8);
        bit += 1;
        if bit >= bits {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::radio::TopologyKind;
    use fl_radio::airtime::Lora;

    const SF7: Modulation = Modulation::Lora(Lora::eu868(7));

    fn line(leaves: usize, conditions: Conditions) -> Medium {
        let topology = Topology::new(&TopologyKind::Line, leaves, 100.0, 1).unwrap();
        Medium::new(topology, SF7, conditions, 1)
    }

    fn all(medium: &mut Medium) -> Vec<(u64, usize)> {
        let mut all = Vec::new();
        while let Some(at_us) = medium.next_us() {
            let mut heard = Vec::new();
            medium.advance(at_us, &mut heard);
            all.extend(heard.iter().map(|heard| (at_us, heard.node)));
        }
        all
    }

    #[test]
    fn a_frame_is_heard_in_range_when_its_air_time_is_over() {
        let mut air = line(3, Conditions::default());
        assert_eq!(air.transmit(1, vec![7; 20], 1_000), Some(57_576));
        assert!(air.is_busy(2, 2_000) && !air.is_busy(3, 2_000));
        assert_eq!(all(&mut air), [(57_576, 0), (57_576, 2)]);
        assert_eq!((air.stats(1).sent, air.stats(1).sent_us), (1, 56_576));
    }

    #[test]
    fn frames_that_overlap_are_lost_where_both_are_heard() {
        let mut air = line(3, Conditions::default());
        air.transmit(0, vec![1; 20], 0);
        air.transmit(2, vec![2; 20], 56_000);
        // Node 1 hears both, node 3 only the second.
        assert_eq!(all(&mut air), [(112_576, 3)]);
        assert_eq!(air.stats(1).collided, 2);
    }

    #[test]
    fn who_sends_hears_nothing() {
        let mut air = line(2, Conditions::default());
        air.transmit(0, vec![1; 20], 0);
        air.transmit(1, vec![2; 20], 1_000);
        assert_eq!(air.transmit(1, vec![2; 20], 2_000), None);
        assert_eq!(all(&mut air), [(57_576, 2)]);
        assert_eq!((air.stats(0).collided, air.stats(1).collided), (1, 1));
    }

    #[test]
    fn loss_and_bit_errors_come_as_often_as_asked_and_follow_from_the_seed() {
        let conditions = Conditions {
            loss: 0.15,
            bit_errors: 0.001,
        };
        let run = || {
            let mut air = line(1, conditions);
            let (mut come, mut flipped) = (0, 0_u32);
            for frame in 0..20_000_u64 {
                let now_us = frame * 1_000_000;
                air.transmit(0, vec![0; 43], now_us);
                let mut heard = Vec::new();
                air.advance(u64::MAX, &mut heard);
                come += heard.len();
                let bits = |heard: &Heard| {
                    heard
                        .octets
                        .iter()
                        .map(|octet| octet.count_ones())
                        .sum::<u32>()
                };
                flipped += heard.iter().map(bits).sum::<u32>();
            }
            (come, flipped)
        };
        let (come, flipped) = run();
        assert!((16_800..17_200).contains(&come), "{come}");
        let share = f64::from(flipped) / (come as f64 * 344.0);
        assert!((0.0009..0.0011).contains(&share), "{share}");
        assert_eq!(run(), (come, flipped));
    }
}
