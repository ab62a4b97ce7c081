//! The gateway: a relay between the radio and the aggregator, for every leaf.

use alloc::vec::Vec;
use core::net::SocketAddrV4;

use fl_client::PortError;
use fl_exchange::{Net, NetError, Relay};
use fl_radio::line::{Counts, Done, Hello, Step};
use fl_radio::{Draw, GatewayNode, MESSAGE_BYTES};
use fl_shell::command::Run;

use super::{Said, Work};
use crate::port::Stream;
use crate::tcp::{Errno, Socket};

/// Streams that may wait to be accepted for a leaf.
const BACKLOG: u8 = 2;

/// Connections of the gateway: a socket that listens for each leaf, and those of the relays.
struct Ip {
    server: SocketAddrV4,
    listeners: Vec<Socket>,
}

/// A gateway that runs.
pub struct GatewayRole {
    end: GatewayNode<MESSAGE_BYTES>,
    relays: Vec<Relay<Stream>>,
    ip: Ip,
}

impl GatewayRole {
    /// A gateway in its place.
    pub fn new(hello: &Hello, run: &Run) -> Result<Self, Errno> {
        let leaves = usize::from(hello.leaves);
        Ok(Self {
            end: GatewayNode::new(leaves, hello.times),
            relays: (0..leaves).map(Relay::new).collect(),
            ip: Ip {
                server: run.server,
                listeners: (0..hello.leaves.into())
                    .map(|leaf| Socket::listen(hello.first_port.saturating_add(leaf), BACKLOG))
                    .collect::<Result<_, _>>()?,
            },
        })
    }

    /// Takes in what comes from the aggregator; true if a request is there for a leaf.
    pub fn listen(&mut self) -> bool {
        let mut has_news = false;
        for relay in &mut self.relays {
            has_news |= relay.listen(&mut self.ip);
        }
        has_news
    }

    /// Begins a step: what came with the one before goes on.
    pub fn begin(&mut self, step: &Step) {
        if let Some(leaf) = step.gone.map(usize::from)
            && let Some(relay) = self.relays.get_mut(leaf)
        {
            relay.reset(&mut self.ip);
            self.end.gateway.station_mut(leaf).end_life();
        }
        for relay in &mut self.relays {
            relay.rise(&mut self.end.gateway, &mut self.ip);
        }
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
            relay.fall(&mut self.end.gateway, &mut self.ip, step.holds);
        }
        let frame = self.end.run(step.now_us, draw);
        frame.into_iter().for_each(|frame| _ = said.push(frame));
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

impl Net for Ip {
    type Stream = Stream;

    fn accept(&mut self, leaf: usize) -> Option<Stream> {
        let (socket, _) = self.listeners.get(leaf)?.accept().ok()?;
        Some(Stream::of(socket))
    }

    fn connect(&mut self, _leaf: usize) -> Option<Stream> {
        Stream::open(self.server).ok()
    }

    fn read(&mut self, stream: &mut Stream, buffer: &mut [u8]) -> Result<usize, NetError> {
        stream.read(buffer).map_err(obstacle)
    }

    fn write(&mut self, stream: &mut Stream, bytes: &[u8]) -> Result<usize, NetError> {
        stream.write(bytes).map_err(obstacle)
    }

    fn is_gone(&mut self, stream: &mut Stream) -> bool {
        stream.is_gone()
    }

    fn close(&mut self, stream: Stream) {
        drop(stream);
    }
}

fn obstacle(error: PortError) -> NetError {
    match error {
        PortError::WouldBlock => NetError::WouldBlock,
        _ => NetError::Broken,
    }
}
