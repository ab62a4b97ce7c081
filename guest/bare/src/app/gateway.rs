//! The gateway on this machine: fl-edge's state machine over the machine's port.

use alloc::boxed::Box;

use fl_client::{Activity, Port};
use fl_edge::{Config, Edge};
use fl_shell::command::Run;

use super::Next;
use super::net::{Network, Ports};
use super::port::GuestPort;
use crate::arch::Nic;
use crate::arch::interrupts::Sources;
use crate::driver::card::{Card, NicError};

/// Port on which the gateway listens.
const HTTP_PORT: u16 = 80;

/// A gateway with its network.
pub struct RunningDevice {
    edge: Box<Edge<GuestPort>>,
    port: GuestPort,
    is_over: bool,
}

impl RunningDevice {
    /// Brings the network up and starts the gateway.
    pub fn start(run: &Run) -> Result<Box<Self>, NicError> {
        let edge = edge(run);
        with_network(run, edge)
    }

    /// Takes all the memory that the network may ever need, if it is there.
    pub fn reserve_network(&mut self) {
        self.port.network.reserve();
    }

    /// The network card.
    pub fn nic(&self) -> Option<&Nic> {
        Some(self.port.network.nic())
    }

    /// Moves everything along.
    #[inline(never)]
    pub fn poll(&mut self, interrupts: Sources) -> Next {
        self.port.network.take_in(interrupts);
        if self.is_over {
            return self.port.network.sleep(None);
        }
        match self.edge.poll(&mut self.port) {
            Activity::Busy => Next::Poll,
            Activity::Stopped => {
                self.is_over = true;
                let usage = self.port.own.usage();
                let [heap, stack] = [usage.heap_peak_bytes, usage.stack_peak_bytes];
                let [heap, stack] = [heap, stack].map(Option::unwrap_or_default);
                self.port.log(format_args!(
                    "stopped: heap {heap}, stack {stack} bytes at most"
                ));
                Next::Poll
            }
            Activity::Idle { wake_at_us } => {
                // What the gateway has just written is still to go out.
                self.port.network.poll();
                self.port.network.sleep(wake_at_us)
            }
        }
    }
}

#[inline(never)]
fn edge(run: &Run) -> Box<Edge<GuestPort>> {
    Box::new(Edge::new(Config {
        // Without an ID it is nobody's edge, and the aggregator says so.
        id: run.client.unwrap_or(u32::MAX),
        http_port: HTTP_PORT,
        server: run.server,
        secret: run.secret,
    }))
}

#[inline(never)]
fn with_network(run: &Run, edge: Box<Edge<GuestPort>>) -> Result<Box<RunningDevice>, NicError> {
    let network = Network::new(Nic::open()?, run.into(), Ports::of_gateway(HTTP_PORT));
    let port = GuestPort::new(network, run);
    Ok(Box::new(RunningDevice {
        edge,
        port,
        is_over: false,
    }))
}
