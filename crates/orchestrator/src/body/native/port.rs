//! The port of a native device: non-blocking sockets of the host.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;
use zfl_clock::Instant;

use fl_client::storage::Storage;
use fl_client::{Port, PortError};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};

use crate::log::{SharedLog, lock};
use crate::storage::FileStorage;

/// Streams open at once; a device needs four.
const MAX_STREAMS: usize = 16;

/// Time limit of a closed stream for delivering written bytes.
const LINGER: Duration = Duration::from_secs(1);

/// Reads of a closed stream at a time: bytes without end hold up nobody else.
const READS_AT_ONCE: u32 = 16;

/// Sockets, the host's clock, and the device's log.
#[derive(Debug)]
pub(super) struct SocketPort {
    server: SocketAddr,
    listener: TcpListener,
    /// Nothing was there when the device looked: wake it when something is.
    wants_accept: bool,
    streams: [Option<Stream>; MAX_STREAMS],
    started: Instant,
    log: SharedLog,
    storage: Option<FileStorage>,
}

#[derive(Debug)]
struct Stream {
    socket: TcpStream,
    /// Request of the device that had to wait.
    wants: PollFlags,
    /// Closed by the device; read to its end, so that what was written is not cut off by a reset.
    closing: Option<Instant>,
}

impl Stream {
    fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            wants: PollFlags::empty(),
            closing: None,
        })
    }

    /// True if a closed stream is over.
    fn is_over(&mut self, now: Instant) -> bool {
        let Some(until) = self.closing else {
            return false;
        };
        now >= until || (0..READS_AT_ONCE).any(|_| self.has_ended())
    }

    /// Reads and drops what came; true at the end of it.
    fn has_ended(&mut self) -> bool {
        match self.socket.read(&mut [0; 4096]) {
            Ok(length) => length == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

impl SocketPort {
    /// Listens on the address from which this host reaches `server`, at any free port.
    pub(super) fn open(
        server: SocketAddr,
        log: SharedLog,
        storage: Option<FileStorage>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((local_ip(server)?, 0))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            server,
            listener,
            wants_accept: false,
            streams: [const { None }; MAX_STREAMS],
            started: Instant::now(),
            log,
            storage,
        })
    }

    /// Address of the device.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Sleeps until something arrives that the device waits for, until `wake_at_us`, or until the
    /// other end of `stop` is closed.
    pub(super) fn wait(&mut self, stop: &io::PipeReader, wake_at_us: Option<u64>) {
        let now = Instant::now();
        for slot in &mut self.streams {
            slot.take_if(|stream| stream.is_over(now));
        }
        let streams = self.streams.iter().flatten();
        let mut sources = vec![PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
        if self.wants_accept {
            sources.push(PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
        }
        sources.extend(streams.clone().filter_map(Stream::source));
        let closing = streams.filter_map(|stream| stream.closing).min();
        let wake = wake_at_us.map(|at_us| self.started + Duration::from_micros(at_us));
        let timeout = match [closing, wake].into_iter().flatten().min() {
            // Rounded up: waking a little early would only mean to sleep again.
            Some(at) => (at - now) + Duration::from_micros(999),
            None => Duration::MAX,
        };
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::NONE);
        // An error (a signal) is a reason to look around, as is an event.
        let _ = poll(&mut sources, timeout);
        self.wants_accept = false;
        self.streams
            .iter_mut()
            .flatten()
            .for_each(|stream| stream.wants = PollFlags::empty());
    }

    fn add(&mut self, socket: io::Result<TcpStream>) -> Result<usize, PortError> {
        let stream = socket
            .and_then(Stream::new)
            .map_err(|error| refine(&error))?;
        let free = self.streams.iter().position(Option::is_none);
        let slot = free.or_else(|| self.closed_first());
        let slot = slot.ok_or(PortError::Exhausted)?;
        self.streams[slot] = Some(stream);
        Ok(slot)
    }

    /// The stream that was closed longest ago of those that linger.
    fn closed_first(&self) -> Option<usize> {
        let closing = |slot: &Option<Stream>| slot.as_ref()?.closing;
        let closed = (0..MAX_STREAMS).filter(|&index| closing(&self.streams[index]).is_some());
        closed.min_by_key(|&index| closing(&self.streams[index]))
    }
}

impl Stream {
    fn source(&self) -> Option<PollFd<'_>> {
        let wants = if self.closing.is_some() {
            PollFlags::POLLIN
        } else {
            self.wants
        };
        (!wants.is_empty()).then(|| PollFd::new(self.socket.as_fd(), wants))
    }
}

impl Port for SocketPort {
    type Connection = usize;

    fn accept(&mut self) -> Option<usize> {
        match self.listener.accept() {
            Ok((socket, _)) => self.add(Ok(socket)).ok(),
            Err(_) => {
                self.wants_accept = true;
                None
            }
        }
    }

    fn connect(&mut self) -> Result<usize, PortError> {
        self.add(begin_connect(self.server))
    }

    fn read(&mut self, connection: &mut usize, buffer: &mut [u8]) -> Result<usize, PortError> {
        let stream = self.streams[*connection].as_mut().ok_or(PortError::Reset)?;
        stream.socket.read(buffer).map_err(|error| {
            stream.wants |= PollFlags::POLLIN;
            refine(&error)
        })
    }

    fn write(&mut self, connection: &mut usize, bytes: &[u8]) -> Result<usize, PortError> {
        let stream = self.streams[*connection].as_mut().ok_or(PortError::Reset)?;
        stream.socket.write(bytes).map_err(|error| {
            stream.wants |= PollFlags::POLLOUT;
            refine(&error)
        })
    }

    fn close(&mut self, connection: usize) {
        if let Some(stream) = &mut self.streams[connection] {
            let _ = stream.socket.shutdown(Shutdown::Write);
            stream.closing = Some(Instant::now() + LINGER);
        }
    }

    fn now_us(&mut self) -> u64 {
        self.started
            .elapsed()
            .as_micros()
            .try_into()
            .unwrap_or(u64::MAX)
    }

    fn random(&mut self) -> [u8; 16] {
        rand::random()
    }

    fn storage(&mut self) -> Option<&mut dyn Storage> {
        let storage = self.storage.as_mut();
        storage.map(|storage| storage as &mut dyn Storage)
    }

    fn log(&mut self, line: fmt::Arguments<'_>) {
        lock(&self.log).line(&line.to_string());
    }
}

/// The address that this host has on the way to `server`. Nothing is sent.
fn local_ip(server: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let probe = UdpSocket::bind((any, 0))?;
    probe.connect(server)?;
    Ok(probe.local_addr()?.ip())
}

/// A stream that is being established; reads and writes would block until it is.
fn begin_connect(server: SocketAddr) -> io::Result<TcpStream> {
    let family = match server {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family, SockType::Stream, flags, None)?;
    use std::os::fd::AsRawFd;
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(server)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(fd.into()),
        Err(error) => Err(error.into()),
    }
}

fn refine(error: &io::Error) -> PortError {
    use io::ErrorKind::{
        AddrNotAvailable, ConnectionRefused, HostUnreachable, Interrupted, NetworkUnreachable,
        TimedOut, WouldBlock,
    };
    match error.kind() {
        WouldBlock | Interrupted => PortError::WouldBlock,
        ConnectionRefused | HostUnreachable | NetworkUnreachable | TimedOut => PortError::Refused,
        // Out of descriptors or of ports: there may be some again later.
        AddrNotAvailable => PortError::Exhausted,
        _ if matches!(
            error.raw_os_error(),
            Some(nix::libc::EMFILE | nix::libc::ENFILE)
        ) =>
        {
            PortError::Exhausted
        }
        _ => PortError::Reset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        port: SocketPort,
        stop: (io::PipeReader, io::PipeWriter),
        server: TcpListener,
    }

    fn bench() -> Bench {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let port = SocketPort::open(address, super::super::thread::tests::log(), None).unwrap();
        Bench {
            port,
            stop: io::pipe().unwrap(),
            server,
        }
    }

    /// Retries as a device does: sleep whenever it would block.
    fn until<T>(
        bench: &mut Bench,
        mut action: impl FnMut(&mut SocketPort) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        loop {
            match action(&mut bench.port) {
                Err(PortError::WouldBlock) => bench.port.wait(&bench.stop.0, None),
                done => return done,
            }
        }
    }

    #[test]
    fn a_stream_to_the_server_carries_both_ways_and_ends() {
        let mut bench = bench();
        let mut stream = bench.port.connect().unwrap();
        assert_eq!(
            until(&mut bench, |port| port.write(&mut stream, b"ping")),
            Ok(4)
        );
        let (mut peer, _) = bench.server.accept().unwrap();
        let mut buffer = [0; 4];
        peer.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"ping");
        assert_eq!(
            bench.port.read(&mut stream, &mut buffer),
            Err(PortError::WouldBlock)
        );
        peer.write_all(b"pong").unwrap();
        drop(peer);
        assert_eq!(
            until(&mut bench, |port| port.read(&mut stream, &mut buffer)),
            Ok(4)
        );
        assert_eq!(
            until(&mut bench, |port| port.read(&mut stream, &mut buffer)),
            Ok(0)
        );
    }

    #[test]
    fn an_answer_is_delivered_although_the_request_was_not_read() {
        let mut bench = bench();
        let mut peer = TcpStream::connect(bench.port.address().unwrap()).unwrap();
        peer.write_all(&[b'x'; 100_000]).unwrap();
        let mut stream = until(&mut bench, |port| {
            port.accept().ok_or(PortError::WouldBlock)
        })
        .unwrap();
        assert_eq!(
            until(&mut bench, |port| port.write(&mut stream, b"413")),
            Ok(3)
        );
        bench.port.close(stream);
        let reader = std::thread::spawn(move || {
            let mut answer = String::new();
            peer.read_to_string(&mut answer).map(|_| answer)
        });
        while !reader.is_finished() {
            bench.port.wait(&bench.stop.0, Some(0));
        }
        assert_eq!(reader.join().unwrap().unwrap(), "413");
    }

    #[test]
    fn nobody_at_the_other_side_is_a_refusal() {
        let mut bench = bench();
        let held = super::super::thread::tests::nobody();
        bench.port.server = held.local_addr().unwrap();
        let refused = match bench.port.connect() {
            Err(error) => error,
            Ok(mut stream) => {
                let read = until(&mut bench, |port| port.read(&mut stream, &mut [0]));
                read.unwrap_err()
            }
        };
        assert_eq!(refused, PortError::Refused);
    }

    #[test]
    fn streams_are_bounded() {
        let mut bench = bench();
        let opened = (0..)
            .map(|_| bench.port.connect())
            .take_while(Result::is_ok)
            .count();
        assert_eq!(opened, MAX_STREAMS);
        assert_eq!(bench.port.connect(), Err(PortError::Exhausted));
    }

    #[test]
    fn a_stream_that_lingers_makes_room() {
        let mut bench = bench();
        let streams: Vec<usize> = (0..MAX_STREAMS)
            .map(|_| bench.port.connect().unwrap())
            .collect();
        // Nobody closes the other side.
        for stream in [streams[3], streams[5]] {
            bench.port.close(stream);
        }
        let again: Vec<_> = (0..3).map(|_| bench.port.connect()).collect();
        let expected = [Ok(3), Ok(5), Err(PortError::Exhausted)];
        assert_eq!(again, expected, "the one closed first goes first");
    }

    #[test]
    fn waiting_ends_when_the_device_is_stopped() {
        let Bench {
            mut port,
            stop: (stop, held),
            server: _server,
        } = bench();
        assert!(port.accept().is_none());
        let waiting = std::thread::spawn(move || port.wait(&stop, None));
        drop(held);
        waiting.join().unwrap();
    }
}
