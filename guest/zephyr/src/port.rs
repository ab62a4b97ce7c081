//! The port of [`fl_client`] on Zephyr's network.

use crate::glue::{self, POLLIN, POLLOUT, PollFd};
use crate::tcp::{self, Errno, Socket};
use crate::{clock, console, heap, threads};
use core::fmt;
use core::net::SocketAddrV4;
use fl_client::{Port, PortError, Usage};

/// Streams at once: the device serves three and asks one thing of the aggregator, and a few are
/// still closing.
const MAX_STREAMS: usize = 8;

/// Streams that may wait to be accepted.
const BACKLOG: u8 = 4;

/// How long to leave a stream alone that could not write for want of buffers, in milliseconds:
/// Zephyr does not say when a buffer comes back.
const BUFFER_WAIT_MS: i32 = 5;

/// Sockets, clock and log of this device.
pub struct ZephyrPort {
    server: SocketAddrV4,
    listener: Socket,
    streams: [Option<Stream>; MAX_STREAMS],
    /// A stream found no buffer to write to.
    short_of_buffers: bool,
}

/// One stream and what it waits for.
struct Stream {
    socket: Socket,
    /// The last read, or the last write, would have blocked.
    wants: i16,
    established: bool,
}

/// A stream of a [`ZephyrPort`], by its place in the port's table.
#[derive(Debug)]
pub struct Connection(usize);

impl ZephyrPort {
    /// A port that listens on `port` and connects to `server`.
    pub fn new(server: SocketAddrV4, port: u16) -> Result<Self, Errno> {
        Ok(Self {
            server,
            listener: Socket::listen(port, BACKLOG)?,
            streams: [const { None }; MAX_STREAMS],
            short_of_buffers: false,
        })
    }

    /// Sleeps until a stream can go on, somebody connects, or `until_us` of the port's clock.
    pub fn wait(&mut self, until_us: Option<u64>) {
        let mut fds = [PollFd { fd: -1, events: 0, revents: 0 }; MAX_STREAMS + 1];
        fds[0] = self.listener.poll_fd(POLLIN);
        // Zephyr passes over entries below zero.
        for (entry, stream) in fds[1..].iter_mut().zip(&self.streams) {
            match stream {
                Some(stream) if stream.wants != 0 => *entry = stream.socket.poll_fd(stream.wants),
                _ => {}
            }
        }
        let timeout_ms = self.timeout_ms(until_us);
        if tcp::wait(&mut fds, timeout_ms).is_err() {
            threads::sleep_ms(1);
        }
    }

    fn timeout_ms(&mut self, until_us: Option<u64>) -> i32 {
        let left_ms = until_us.map_or(-1, |until_us| {
            let left_us = until_us.saturating_sub(clock::now_us());
            i32::try_from(left_us.div_ceil(1000)).unwrap_or(i32::MAX)
        });
        if core::mem::take(&mut self.short_of_buffers) && !(0..BUFFER_WAIT_MS).contains(&left_ms) {
            return BUFFER_WAIT_MS;
        }
        left_ms
    }

    fn add(&mut self, socket: Socket, established: bool) -> Result<Connection, PortError> {
        let (index, slot) = self
            .streams
            .iter_mut()
            .enumerate()
            .find(|(_, slot)| slot.is_none())
            .ok_or(PortError::Exhausted)?;
        *slot = Some(Stream { socket, wants: 0, established });
        Ok(Connection(index))
    }

    fn stream(&mut self, connection: &Connection) -> Result<&mut Stream, PortError> {
        self.streams[connection.0].as_mut().ok_or(PortError::Reset)
    }
}

impl Stream {
    /// Finds out whether the stream is up; Zephyr answers a read before that with an error.
    fn establish(&mut self) -> Result<(), PortError> {
        if self.established {
            return Ok(());
        }
        let mut fd = [self.socket.poll_fd(POLLOUT)];
        tcp::wait(&mut fd, 0).map_err(|_| PortError::Reset)?;
        match fd[0].revents {
            0 => {
                self.wants = POLLOUT;
                Err(PortError::WouldBlock)
            }
            POLLOUT => {
                self.established = true;
                Ok(())
            }
            // An error or the end before the beginning.
            _ => Err(PortError::Refused),
        }
    }

    /// Notes what a call answered.
    fn note(&mut self, result: Result<usize, Errno>, event: i16) -> Result<usize, PortError> {
        self.wants &= !event;
        result.map_err(|error| {
            if error.is_transient() {
                self.wants |= event;
                PortError::WouldBlock
            } else {
                PortError::Reset
            }
        })
    }
}

impl Port for ZephyrPort {
    type Connection = Connection;

    fn accept(&mut self) -> Option<Connection> {
        // With no place left, leave it in the listener's queue.
        if self.streams.iter().all(Option::is_some) {
            return None;
        }
        let socket = self.listener.accept().ok()?;
        self.add(socket, true).ok()
    }

    fn connect(&mut self) -> Result<Connection, PortError> {
        let socket = Socket::connect(self.server).map_err(|error| {
            if error.is_out_of_sockets() { PortError::Exhausted } else { PortError::Refused }
        })?;
        self.add(socket, false)
    }

    fn read(
        &mut self,
        connection: &mut Connection,
        buffer: &mut [u8],
    ) -> Result<usize, PortError> {
        let stream = self.stream(connection)?;
        stream.establish()?;
        let result = stream.socket.read(buffer);
        stream.note(result, POLLIN)
    }

    fn write(&mut self, connection: &mut Connection, bytes: &[u8]) -> Result<usize, PortError> {
        let stream = self.stream(connection)?;
        stream.establish()?;
        let result = stream.socket.write(bytes);
        let out_of_buffers = matches!(result, Err(error) if error.is_out_of_buffers());
        let result = stream.note(result, POLLOUT);
        self.short_of_buffers |= out_of_buffers;
        result
    }

    fn close(&mut self, connection: Connection) {
        self.streams[connection.0] = None;
    }

    fn now_us(&mut self) -> u64 {
        clock::now_us()
    }

    fn log(&mut self, line: fmt::Arguments<'_>) {
        console::log(line);
    }

    fn usage(&mut self) -> Usage {
        let heap = heap::usage();
        let tcp = glue::tcp_counters();
        Usage {
            instructions: None,
            heap_peak_bytes: u32::try_from(heap.peak_bytes).ok(),
            stack_peak_bytes: u32::try_from(threads::stack_peak_bytes()).ok(),
            segments_sent: tcp.map(|tcp| tcp.sent),
            segments_received: tcp.map(|tcp| tcp.received),
            retransmissions: tcp.map(|tcp| tcp.sent_again),
        }
    }
}
