//! The device's port: connections over [`Network`], the machine's clock and its counters.

use core::fmt;
use core::net::SocketAddrV4;

use fl_client::storage::Storage;
use fl_client::{Port, PortError, Usage, Word};
use fl_shell::command::Run;
use smoltcp::socket::tcp::{RecvError, State};

use super::counter::Counter;
use super::net::{Network, SlotIndex};
use crate::arch::{Disk, clock, random};
use crate::driver::card::Card;
use crate::{console, heap, stack};

/// Port of the device: connections, clock and log of the machine.
pub struct GuestPort {
    /// The TCP/IP stack.
    pub network: Network,
    server: SocketAddrV4,
    /// Counter of the training's instructions.
    pub counter: Counter,
    disk: Option<Disk>,
    secret: Option<Word>,
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
            secret: run.secret,
            counter: Counter::new(run.icount),
            disk: Disk::open(),
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
        let slot = self
            .network
            .connect(self.server)
            .ok_or(PortError::Exhausted)?;
        Ok(Connection {
            slot,
            was_open: false,
        })
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
        let mut bytes = random::bytes();
        // What nobody else was told, for machines that have nothing better. It takes nothing from those that have.
        let secret = self.secret.as_ref().map_or("", Word::text).bytes();
        let places = (0..bytes.len()).cycle();
        secret
            .zip(places)
            .for_each(|(octet, at)| bytes[at] ^= octet.rotate_left(at as u32));
        bytes
    }

    fn log(&mut self, line: fmt::Arguments<'_>) {
        console::log(format_args!("zfl: {line}"));
    }

    fn free_bytes(&mut self) -> Option<u64> {
        u64::try_from(heap::usage().free_bytes()).ok()
    }

    fn storage(&mut self) -> Option<&mut dyn Storage> {
        self.disk.as_mut().map(|disk| disk as &mut dyn Storage)
    }

    fn usage(&mut self) -> Usage {
        let bytes = |bytes: usize| u32::try_from(bytes).ok();
        let instructions = self.counter.instructions();
        self.network.nic().counters(|counters| Usage {
            instructions,
            heap_peak_bytes: bytes(heap::usage().peak_bytes),
            stack_peak_bytes: bytes(stack::peak_bytes()),
            segments_sent: Some(counters.segments.sent),
            segments_received: Some(counters.segments.received),
            retransmissions: Some(counters.segments.sent_again),
        })
    }
}
