//! A node of a mesh on this machine: the UART of its radio, and a gateway's network card.
//!
//! Addresses in the words of `run` are the gateway's; a leaf takes its client and its secret from them.

use alloc::boxed::Box;
use core::fmt;
use core::net::SocketAddrV4;

use fl_client::storage::Storage;
use fl_client::{Config, Usage};
use fl_exchange::{Net, NetError};
use fl_node::{Machine, MeshNode};
use fl_radio::line::Hello;
use fl_shell::command::Run;
use smoltcp::socket::tcp::{RecvError, State};

use super::Next;
use super::net::{Network, Ports, SlotIndex};
use super::own::Own;
use crate::arch::interrupts::{self, Sources};
use crate::arch::radio_uart::{self, UART};
use crate::arch::{ISA, Nic, PATIENCE_TICKS, timestamp};
use crate::console;
use crate::driver::card::{Card, NicError};
use crate::driver::uart::Uart;

/// The machine of the node.
struct Radio {
    run: Run,
}

/// Connections of the gateway: smoltcp over its card.
struct Ip {
    network: Network,
    server: SocketAddrV4,
    first_port: u16,
}

/// A node that runs.
pub struct RunningDevice {
    node: MeshNode<Radio>,
}

impl RunningDevice {
    /// Greets the radio.
    pub fn start(run: &Run) -> Result<Box<Self>, NicError> {
        UART.init();
        UART.interrupt_for_blocks();
        interrupts::unmask(radio_uart::LINE);
        let node = MeshNode::new(Radio { run: *run });
        Ok(Box::new(Self { node }))
    }

    /// Takes all the memory that the network may ever need, if it is there.
    pub fn reserve_network(&mut self) {
        if let Some(ip) = self.node.net_mut() {
            ip.network.reserve();
        }
    }

    /// The network card, which the gateway alone has.
    pub fn nic(&self) -> Option<&Nic> {
        self.node.net().map(|ip| ip.network.nic())
    }

    /// Moves everything along.
    pub fn poll(&mut self, pending: Sources) -> Next {
        if let Some(ip) = self.node.net_mut() {
            ip.network.take_in(pending);
        }
        let goes_on = self.node.poll();
        // An octet that has come since is an interrupt then.
        if pending.contains(radio_uart::LINE) {
            interrupts::unmask(radio_uart::LINE);
        }
        if goes_on {
            return Next::Poll;
        }
        let ip = self.node.net_mut();
        let wake_at_us = ip.and_then(|ip| ip.network.wake_at_us());
        Next::Sleep { wake_at_us }
    }
}

impl Machine for Radio {
    type Net = Ip;
    type Own = Own;

    fn read(&mut self, octets: &mut [u8]) -> usize {
        let mut came = 0;
        while let Some(place) = octets.get_mut(came)
            && let Some(octet) = UART.read()
        {
            *place = octet;
            came += 1;
        }
        came
    }

    fn write(&mut self, octets: &[u8]) {
        for octet in octets {
            let start = timestamp();
            while !UART.has_room() {
                if timestamp().wrapping_sub(start) > PATIENCE_TICKS {
                    return;
                }
            }
            UART.send(*octet);
        }
    }

    fn leaf(&mut self) -> (Config, Own) {
        let config = Config {
            client: self.run.client,
            secret: self.run.secret,
            isa: Some(ISA),
            ..Config::default()
        };
        (config, Own::new(&self.run))
    }

    fn gateway(&mut self, hello: &Hello) -> Option<Ip> {
        let ports = Ports::of_leaves(hello.first_port, hello.leaves.into());
        match Nic::open() {
            Ok(nic) => Some(Ip {
                network: Network::new(nic, (&self.run).into(), ports),
                server: self.run.server,
                first_port: hello.first_port,
            }),
            Err(error) => {
                console::log(format_args!("zfl: {error}"));
                None
            }
        }
    }
}

impl fl_node::Own for Own {
    fn random(&mut self) -> [u8; 16] {
        Self::random(self)
    }

    fn log(&mut self, line: fmt::Arguments<'_>) {
        console::log(format_args!("zfl: {line}"));
    }

    fn free_bytes(&mut self) -> Option<u64> {
        Self::free_bytes()
    }

    fn storage(&mut self) -> Option<&mut dyn Storage> {
        Self::storage(self)
    }

    fn usage(&mut self) -> Usage {
        Self::usage(self)
    }

    fn counted<R>(&mut self, step: impl FnOnce() -> R) -> R {
        self.counter.counted(step)
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

    fn flush(&mut self) {
        self.network.poll();
    }
}

fn obstacle(state: State) -> NetError {
    match state {
        State::SynSent | State::SynReceived => NetError::WouldBlock,
        _ => NetError::Broken,
    }
}
