//! The device's port: connections over [`Network`], the machine's clock and its counters.

use alloc::boxed::Box;
use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};

use fl_client::storage::Storage;
use fl_client::{Flash, Port, PortError, Usage};
use fl_shell::command::Run;
use smoltcp::socket::tcp::{RecvError, State};
use smoltcp::wire::IpAddress;

use super::net::{Network, SlotIndex};
use super::own::Own;
use crate::arch::clock;
use crate::console;
use crate::driver::card::Card;
use crate::driver::flash::{self, ExampleFlash};

/// Port of the device: connections, clock and log of the machine.
pub struct GuestPort {
    /// The TCP/IP stack.
    pub network: Network,
    server: SocketAddrV4,
    /// The machine's part.
    pub own: Own,
}

/// One TCP connection.
#[derive(Debug)]
pub struct Connection {
    slot: SlotIndex,
    was_open: bool,
}

impl GuestPort {
    /// A port to the aggregator at `server`.
    pub fn new(network: Network, run: &Run) -> Self {
        Self {
            network,
            server: run.server,
            own: Own::new(run),
        }
    }

    /// Reason for which a connection takes or gives no bytes.
    fn obstacle(&mut self, connection: &Connection) -> PortError {
        match self.network.socket_mut(connection.slot).state() {
            State::SynSent | State::SynReceived => PortError::WouldBlock,
            _ if connection.was_open => PortError::Reset,
            _ => PortError::Refused,
        }
    }
}

impl Port for GuestPort {
    type Connection = Connection;

    fn accept(&mut self) -> Option<Connection> {
        let slot = self.network.accept_any()?;
        Some(Connection {
            slot,
            was_open: true,
        })
    }

    fn connect(&mut self) -> Result<Connection, PortError> {
        self.connect_to(self.server)
    }

    fn connect_to(&mut self, to: SocketAddrV4) -> Result<Connection, PortError> {
        let slot = self.network.connect(to).ok_or(PortError::Exhausted)?;
        Ok(Connection {
            slot,
            was_open: false,
        })
    }

    fn peer(&mut self, connection: &Connection) -> Option<Ipv4Addr> {
        let remote = self.network.socket_mut(connection.slot).remote_endpoint()?;
        // The stack has no other addresses than these.
        let IpAddress::Ipv4(address) = remote.addr;
        Some(address)
    }

    fn read(&mut self, connection: &mut Connection, buffer: &mut [u8]) -> Result<usize, PortError> {
        let received = self.network.socket_mut(connection.slot).recv_slice(buffer);
        connection.was_open |= received != Err(RecvError::InvalidState);
        match received {
            Ok(0) if !buffer.is_empty() => Err(PortError::WouldBlock),
            Ok(len) => Ok(len),
            Err(RecvError::Finished) => Ok(0),
            Err(RecvError::InvalidState) => Err(self.obstacle(connection)),
        }
    }

    fn write(&mut self, connection: &mut Connection, bytes: &[u8]) -> Result<usize, PortError> {
        let sent = self.network.socket_mut(connection.slot).send_slice(bytes);
        connection.was_open |= sent.is_ok();
        match sent {
            Ok(0) if !bytes.is_empty() => Err(PortError::WouldBlock),
            Ok(len) => Ok(len),
            Err(_) => Err(self.obstacle(connection)),
        }
    }

    fn close(&mut self, connection: Connection) {
        self.network.close(connection.slot);
    }

    fn now_us(&mut self) -> u64 {
        clock::now_us()
    }

    fn random(&mut self) -> [u8; 16] {
        self.own.random()
    }

    fn log(&mut self, line: fmt::Arguments<'_>) {
        console::log(format_args!("zfl: {line}"));
    }

    fn free_bytes(&mut self) -> Option<u64> {
        Own::free_bytes()
    }

    fn flash_bytes(&mut self) -> Option<u64> {
        flash::bytes()
    }

    fn flash(&mut self) -> Option<Box<dyn Flash>> {
        Some(Box::new(ExampleFlash::take()?))
    }

    fn storage(&mut self) -> Option<&mut dyn Storage> {
        self.own.storage()
    }

    fn usage(&mut self) -> Usage {
        let own = self.own.usage();
        self.network.nic().counters(|counters| Usage {
            segments_sent: Some(counters.segments.sent),
            segments_received: Some(counters.segments.received),
            retransmissions: Some(counters.segments.sent_again),
            ..own
        })
    }
}
