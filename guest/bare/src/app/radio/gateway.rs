//! The gateway: a relay between the radio and the aggregator, for every leaf.

use alloc::vec::Vec;
use core::net::SocketAddrV4;

use fl_exchange::{Net, NetError, Relay};
use fl_radio::line::{Counts, Done, Hello, Step};
use fl_radio::{Draw, GatewayNode};
use fl_shell::command::Run;
use smoltcp::socket::tcp::{RecvError, State};

use super::{MESSAGE_BYTES, Said, Work};
use crate::app::net::{Network, Ports, SlotIndex};
use crate::arch::Nic;
use crate::arch::interrupts::Sources;
use crate::driver::card::{Card, NicError};

/// Connections of the gateway: smoltcp over its card.
struct Ip {
    network: Network,
    server: SocketAddrV4,
    first_port: u16,
}

/// A gateway that runs.
pub struct GatewayRole {
    end: GatewayNode<MESSAGE_BYTES>,
    relays: Vec<Relay<SlotIndex>>,
    ip: Ip,
}

impl GatewayRole {
    /// A gateway in its place.
    pub fn new(hello: &Hello, run: &Run) -> Result<Self, NicError> {
        let ports = Ports::of_leaves(hello.first_port, hello.leaves.into());
        let leaves = usize::from(hello.leaves);
        Ok(Self {
            end: GatewayNode::new(leaves, hello.times),
            relays: (0..leaves).map(Relay::new).collect(),
            ip: Ip {
                network: Network::new(Nic::open()?, run.into(), ports),
                server: run.server,
                first_port: hello.first_port,
            },
        })
    }

    /// The network card.
    pub fn nic(&self) -> &Nic {
        self.ip.network.nic()
    }

    /// Takes all the memory that the network may ever need, if it is there.
    pub fn reserve(&mut self) {
        self.ip.network.reserve();
    }

    /// Time at which the network has something to do.
    pub fn wake_at_us(&mut self) -> Option<u64> {
        self.ip.network.wake_at_us()
    }

    /// Takes in what comes from the aggregator; true if a request is there for a leaf.
    pub fn listen(&mut self, pending: Sources) -> bool {
        self.ip.network.take_in(pending);
        let mut has_news = false;
        for relay in &mut self.relays {
            has_news |= relay.listen(&mut self.ip);
        }
        // What was just written is still to go out.
        self.ip.network.poll();
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
        self.ip.network.poll();
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
        self.ip.network.poll();
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
    type Stream = SlotIndex;

    fn accept(&mut self, leaf: usize) -> Option<SlotIndex> {
        let leaf = u16::try_from(leaf).ok()?;
        self.network.accept(self.first_port.checked_add(leaf)?)
    }

    fn connect(&mut self, _leaf: usize) -> Option<SlotIndex> {
        self.network.connect(self.server)
    }

    fn read(&mut self, stream: &mut SlotIndex, buffer: &mut [u8]) -> Result<usize, NetError> {
        let socket = self.network.socket_mut(*stream);
        match socket.recv_slice(buffer) {
            Ok(0) => Err(NetError::WouldBlock),
            Ok(length) => Ok(length),
            Err(RecvError::Finished) => Ok(0),
            Err(RecvError::InvalidState) => Err(obstacle(socket.state())),
        }
    }

    fn write(&mut self, stream: &mut SlotIndex, bytes: &[u8]) -> Result<usize, NetError> {
        let socket = self.network.socket_mut(*stream);
        match socket.send_slice(bytes) {
            Ok(0) => Err(NetError::WouldBlock),
            Ok(length) => Ok(length),
            Err(_) => Err(obstacle(socket.state())),
        }
    }

    fn is_gone(&mut self, stream: &mut SlotIndex) -> bool {
        let socket = self.network.socket_mut(*stream);
        !socket.may_recv() && !socket.can_recv()
    }

    fn close(&mut self, stream: SlotIndex) {
        self.network.close(stream);
    }
}

fn obstacle(state: State) -> NetError {
    match state {
        State::SynSent | State::SynReceived => NetError::WouldBlock,
        _ => NetError::Broken,
    }
}
