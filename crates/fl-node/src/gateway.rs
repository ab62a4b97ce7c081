//! The gateway: a relay between the radio and the aggregator, for every leaf.

use alloc::vec::Vec;

use fl_exchange::{Net, Relay};
use fl_radio::line::{Counts, Done, Hello, Step};
use fl_radio::{Draw, GatewayNode, MESSAGE_BYTES};

use crate::{Said, Work};

/// A gateway that runs.
pub(crate) struct Gateway<N: Net> {
    end: GatewayNode<MESSAGE_BYTES>,
    relays: Vec<Relay<N::Stream>>,
    /// Its connections.
    pub net: N,
}

impl<N: Net> Gateway<N> {
    /// A gateway in its place.
    pub fn new(hello: &Hello, net: N) -> Self {
        let leaves = usize::from(hello.leaves);
        Self {
            end: GatewayNode::new(leaves, hello.times),
            relays: (0..leaves).map(Relay::new).collect(),
            net,
        }
    }

    /// Takes in what comes from the aggregator; true if a request is there for a leaf.
    pub fn listen(&mut self) -> bool {
        let mut has_news = false;
        for relay in &mut self.relays {
            has_news |= relay.listen(&mut self.net);
        }
        // What was just written is still to go out.
        self.net.flush();
        has_news
    }

    /// Begins a step: what came with the one before goes on.
    pub fn begin(&mut self, step: &Step) {
        if let Some(leaf) = step.gone.map(usize::from)
            && let Some(relay) = self.relays.get_mut(leaf)
        {
            relay.reset(&mut self.net);
            self.end.gateway.station_mut(leaf).end_life();
        }
        for relay in &mut self.relays {
            relay.rise(&mut self.end.gateway, &mut self.net);
        }
        self.net.flush();
    }

    /// Takes in a frame.
    pub fn hear(&mut self, octets: &[u8], now_us: u64, draw: Draw<'_>) {
        self.end.hear(octets, now_us, draw);
    }

    /// Does what there is to do, once the aggregator has answered.
    pub fn work(&mut self, step: &Step, said: &mut Said, draw: Draw<'_>) -> Work {
        if self.relays.iter().any(Relay::is_asking) {
            return Work::Waits;
        }
        for relay in &mut self.relays {
            relay.fall(&mut self.end.gateway, &mut self.net, step.holds);
        }
        let frame = self.end.run(step.now_us, draw);
        frame.into_iter().for_each(|frame| _ = said.push(frame));
        self.net.flush();
        Work::Done
    }

    /// Answer to a step.
    pub fn done(&self, step: &Step) -> Done {
        let stations = (0..self.relays.len()).map(|leaf| self.end.gateway.station(leaf));
        let came = stations
            .clone()
            .position(|station| station.receive().is_some());
        let is_busy = self.relays.iter().any(Relay::is_busy)
            || stations.clone().any(|station| station.is_sending());
        let waiting = self.relays.iter().filter(|relay| relay.is_waiting());
        let counts = came.map(|leaf| {
            let (sum, count) = self.end.gateway.hops(leaf);
            Counts {
                packets: self.end.node.packets() as u32,
                again: self.end.gateway.station(leaf).tiles_again(),
                dropped: self.end.node.dropped() as u32,
                hops: [sum, count],
            }
        });
        Done {
            wake_us: match came {
                Some(_) => step.now_us,
                None => self.end.wake_us(),
            },
            is_busy,
            due_us: None,
            waiting: Some(waiting.count() as u8),
            came: came.map(|leaf| leaf as u8),
            counts,
            frames: 0,
        }
    }
}
