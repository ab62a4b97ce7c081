//! The device on this machine: fl-client's state machine over the machine's port.

use alloc::boxed::Box;
use core::fmt::Write as _;

use fl_client::{Activity, Config, Device, Port};
use fl_shell::command::Run;

use super::Next;
use super::net::{Network, Ports};
use super::port::GuestPort;
use crate::arch::interrupts::Sources;
use crate::arch::{ISA, Nic, RESERVES_NETWORK, TCP};
use crate::driver::card::{Card, NicError};

/// Port on which the device listens.
const HTTP_PORT: u16 = 80;
/// Examples between two looks at the network and the serial line: some 2 ms under emulation.
const STEP_EXAMPLES: u32 = 16;

/// A device with its network.
pub struct RunningDevice {
    device: Box<Device<GuestPort>>,
    port: GuestPort,
    is_over: bool,
}

impl RunningDevice {
    /// Brings the network up and starts the device. Both are large for a stack: each is made on its own, and at once
    /// put on the heap.
    pub fn start(run: &Run) -> Result<Box<Self>, NicError> {
        let device = device(run);
        let mut running = with_network(run, device)?;
        if RESERVES_NETWORK {
            running.reserve_network();
        }
        Ok(running)
    }

    /// Takes all the memory that the network may ever need, if it is there.
    pub fn reserve_network(&mut self) {
        self.port.network.reserve();
    }

    /// The network card.
    pub fn nic(&self) -> Option<&Nic> {
        Some(self.port.network.nic())
    }

    /// Moves everything along, not on the stack of what starts it: frames, exchanges, and a few examples of training.
    #[inline(never)]
    pub fn poll(&mut self, interrupts: Sources) -> Next {
        self.port.network.take_in(interrupts);
        if self.is_over {
            return self.port.network.sleep(None);
        }
        match self.device.poll(&mut self.port) {
            Activity::Stopped => {
                self.is_over = true;
                self.port.log(format_args!("stopped"));
            }
            Activity::Idle { wake_at_us } if self.device.job().is_none() => {
                // What the device has just written is still to go out.
                self.port.network.poll();
                return self.port.network.sleep(wake_at_us);
            }
            Activity::Idle { .. } | Activity::Busy => {}
        }
        if let Some(job) = self.device.job() {
            self.port.own.counter.counted(|| job.step(STEP_EXAMPLES));
        }
        Next::Poll
    }
}

#[inline(never)]
fn device(run: &Run) -> Box<Device<GuestPort>> {
    Box::new(Device::new(config(run)))
}

#[inline(never)]
fn with_network(run: &Run, device: Box<Device<GuestPort>>) -> Result<Box<RunningDevice>, NicError> {
    let network = Network::new(Nic::open()?, run.into(), Ports::one(HTTP_PORT));
    let port = GuestPort::new(network, run);
    Ok(Box::new(RunningDevice {
        device,
        port,
        is_over: false,
    }))
}

fn config(run: &Run) -> Config {
    let address = run.address.map(|address| {
        let mut text = heapless::String::new();
        // An IPv4 address and a port have at most 21 characters.
        let _ = write!(text, "{address}");
        text
    });
    Config {
        client: run.client,
        address,
        http_port: HTTP_PORT,
        secret: run.secret,
        isa: Some(ISA),
        io_bytes: Some(TCP.receive_bytes.clamp(1024, 4096)),
        ..Config::default()
    }
}
