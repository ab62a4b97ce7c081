//! The port of [`fl_client`] on Zephyr's network.

use crate::glue::{self, PollFd};
use crate::instructions::Counter;
use crate::tcp::{self, Errno, Socket};
use crate::{clock, console, heap, threads};
use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};
use fl_client::{Port, PortError, Usage};

/// Streams at once: the device serves three and asks one thing of the aggregator, and a few are
/// still closing. A gateway has as many as `fl_proto::cluster::GatewayMemory` counts.
const MAX_STREAMS: usize = if cfg!(zfl_gateway) { 24 } else { 8 };

/// Streams that may wait to be accepted; on a gateway a whole cluster may call at once.
const BACKLOG: u8 = if cfg!(zfl_gateway) { 12 } else { 4 };

/// Delay before trying again where Zephyr gives no wake-up: to write where there was no room, and to
/// ask whether a stream is up.
const RETRY_MS: i32 = 2;

/// Sockets, clock and log of this device.
pub struct ZephyrPort {
    server: SocketAddrV4,
    listener: Socket,
    streams: [Option<Stream>; MAX_STREAMS],
    /// Instructions of all training since boot; `None` where they are not counted.
    instructions: Option<u64>,
}

/// A stream of a [`ZephyrPort`], by its place in the port's table.
#[derive(Debug)]
pub struct Connection(usize);

/// One stream, and what the last tries to use it met.
pub struct Stream {
    socket: Socket,
    /// Whom it is being connected to; `None` once it is up.
    connecting_to: Option<SocketAddrV4>,
    /// Machine that opened it; none if that was this one.
    peer: Option<Ipv4Addr>,
    /// There was nothing to read.
    drained: bool,
    /// There was no room to write.
    blocked: bool,
}

impl ZephyrPort {
    /// A port that listens on `port` and connects to `server`; `counts` says whether instructions
    /// are counted.
    pub fn new(server: SocketAddrV4, port: u16, counts: bool) -> Result<Self, Errno> {
        Ok(Self {
            server,
            listener: Socket::listen(port, BACKLOG)?,
            streams: [const { None }; MAX_STREAMS],
            instructions: counts.then_some(0),
        })
    }

    /// Adds what a job took, where that was counted.
    pub fn add_instructions(&mut self, counter: &Counter) {
        let taken = self.instructions.zip(counter.instructions());
        self.instructions = taken.map(|(before, more)| before + more);
    }

    /// Sleeps until a stream can go on, somebody connects, or `until_us` of the port's clock.
    pub fn wait(&mut self, until_us: Option<u64>) {
        // Zephyr passes over entries below zero.
        let mut fds = [PollFd {
            fd: -1,
            events: 0,
            revents: 0,
        }; MAX_STREAMS + 1];
        fds[0] = self.listener.poll_fd();
        let drained = self
            .streams
            .iter()
            .flatten()
            .filter(|stream| stream.drained);
        for (entry, stream) in fds[1..].iter_mut().zip(drained) {
            *entry = stream.socket.poll_fd();
        }
        if tcp::wait(&mut fds, self.timeout_ms(until_us)).is_err() {
            threads::sleep_ms(RETRY_MS.unsigned_abs().into());
        }
    }

    fn timeout_ms(&self, until_us: Option<u64>) -> i32 {
        let must_retry = self.streams.iter().flatten().any(Stream::must_retry);
        let Some(until_us) = until_us else {
            return if must_retry { RETRY_MS } else { -1 };
        };
        let left_us = until_us.saturating_sub(clock::now_us());
        let left_ms = i32::try_from(left_us.div_ceil(1000)).unwrap_or(i32::MAX);
        if must_retry {
            left_ms.min(RETRY_MS)
        } else {
            left_ms
        }
    }

    fn add(
        &mut self,
        socket: Socket,
        connecting_to: Option<SocketAddrV4>,
        peer: Option<Ipv4Addr>,
    ) -> Result<Connection, PortError> {
        let index = self
            .streams
            .iter()
            .position(Option::is_none)
            .ok_or(PortError::Exhausted)?;
        self.streams[index] = Some(Stream {
            connecting_to,
            peer,
            ..Stream::of(socket)
        });
        Ok(Connection(index))
    }

    fn stream(&mut self, connection: &Connection) -> Result<&mut Stream, PortError> {
        self.streams[connection.0].as_mut().ok_or(PortError::Reset)
    }
}

impl Stream {
    /// One that is up.
    pub fn of(socket: Socket) -> Self {
        Self {
            socket,
            connecting_to: None,
            peer: None,
            drained: false,
            blocked: false,
        }
    }

    /// One to somebody, which need not be up yet.
    ///
    /// # Errors
    /// As of [`Port::connect`].
    pub fn open(to: SocketAddrV4) -> Result<Self, PortError> {
        let socket = Socket::open().map_err(|_| PortError::Exhausted)?;
        let connecting_to = match socket.connect(to) {
            Ok(()) => None,
            Err(error) if error.is_transient() => Some(to),
            Err(_) => return Err(PortError::Refused),
        };
        Ok(Self {
            connecting_to,
            ..Self::of(socket)
        })
    }

    /// True if the other side has closed its half, and all of it was read, or it broke.
    #[cfg(zfl_radio)]
    pub fn is_gone(&mut self) -> bool {
        match self.establish() {
            Ok(()) => match self.socket.peek() {
                Ok(octets) => octets == 0,
                Err(error) => !error.is_transient(),
            },
            Err(error) => error != PortError::WouldBlock,
        }
    }

    fn must_retry(&self) -> bool {
        self.blocked || self.connecting_to.is_some()
    }

    /// Finds out whether the stream is up; to Zephyr, reading before that is an error.
    fn establish(&mut self) -> Result<(), PortError> {
        let Some(peer) = self.connecting_to else {
            return Ok(());
        };
        match self.socket.connect(peer) {
            Ok(()) => {
                self.connecting_to = None;
                Ok(())
            }
            Err(error) if error.is_transient() => Err(PortError::WouldBlock),
            Err(_) => Err(PortError::Refused),
        }
    }

    /// As [`Port::read`].
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, PortError> {
        self.establish()?;
        let result = self.socket.read(buffer).map_err(in_use);
        self.drained = result == Err(PortError::WouldBlock);
        result
    }

    /// As [`Port::write`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, PortError> {
        self.establish()?;
        let result = self.socket.write(bytes).map_err(in_use);
        self.blocked = result == Err(PortError::WouldBlock);
        result
    }
}

/// Translates an error on an established stream.
fn in_use(error: Errno) -> PortError {
    if error.is_transient() {
        PortError::WouldBlock
    } else {
        PortError::Reset
    }
}

impl Port for ZephyrPort {
    type Connection = Connection;

    fn accept(&mut self) -> Option<Connection> {
        // With no place left, leave it in the listener's queue.
        if self.streams.iter().all(Option::is_some) {
            return None;
        }
        let (socket, peer) = self.listener.accept().ok()?;
        self.add(socket, None, Some(peer)).ok()
    }

    fn connect(&mut self) -> Result<Connection, PortError> {
        self.connect_to(self.server)
    }

    fn connect_to(&mut self, to: SocketAddrV4) -> Result<Connection, PortError> {
        let stream = Stream::open(to)?;
        self.add(stream.socket, stream.connecting_to, None)
    }

    fn peer(&mut self, connection: &Connection) -> Option<Ipv4Addr> {
        self.stream(connection).ok()?.peer
    }

    fn read(&mut self, connection: &mut Connection, buffer: &mut [u8]) -> Result<usize, PortError> {
        self.stream(connection)?.read(buffer)
    }

    fn write(&mut self, connection: &mut Connection, bytes: &[u8]) -> Result<usize, PortError> {
        self.stream(connection)?.write(bytes)
    }

    fn close(&mut self, connection: Connection) {
        self.streams[connection.0] = None;
    }

    fn now_us(&mut self) -> u64 {
        clock::now_us()
    }

    fn random(&mut self) -> [u8; 16] {
        glue::random()
    }

    fn log(&mut self, line: fmt::Arguments<'_>) {
        console::log(line);
    }

    fn free_bytes(&mut self) -> Option<u64> {
        u64::try_from(heap::free_bytes()).ok()
    }

    fn usage(&mut self) -> Usage {
        let heap = heap::usage();
        let tcp = glue::tcp_counters();
        Usage {
            instructions: self.instructions,
            heap_peak_bytes: u32::try_from(heap.peak_bytes).ok(),
            stack_peak_bytes: threads::stack_peak_bytes().and_then(|bytes| bytes.try_into().ok()),
            segments_sent: tcp.map(|tcp| tcp.sent),
            segments_received: tcp.map(|tcp| tcp.received),
            retransmissions: tcp.map(|tcp| tcp.sent_again),
        }
    }
}
