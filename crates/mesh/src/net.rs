//! The gateway's connections on this machine.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use fl_exchange::{Net, NetError};

/// A port for each leaf, and the aggregator.
#[derive(Debug, Default)]
pub(crate) struct HostNet {
    /// By leaf; `None` until it is booted for the first time.
    places: Vec<Option<(TcpListener, SocketAddr)>>,
}

impl HostNet {
    pub fn new(leaves: usize) -> Self {
        let places = (0..leaves).map(|_| None).collect();
        Self { places }
    }

    /// Opens the port of a leaf, unless it is open.
    pub fn open(&mut self, leaf: usize, server: SocketAddr) -> std::io::Result<SocketAddr> {
        let none = || std::io::Error::other("there is no such leaf");
        let place = self.places.get_mut(leaf).ok_or_else(none)?;
        let listener = match place.take() {
            Some((listener, _)) => listener,
            None => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
        };
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        *place = Some((listener, server));
        Ok(address)
    }

    /// The ports that are open, by leaf.
    pub fn listeners(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(leaf, place)| Some((leaf, place.as_ref()?.0.as_fd())))
    }
}

fn error(error: &std::io::Error) -> NetError {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => NetError::WouldBlock,
        _ => NetError::Broken,
    }
}

impl Net for HostNet {
    type Stream = TcpStream;

    fn accept(&mut self, leaf: usize) -> Option<TcpStream> {
        let (listener, _) = self.places.get(leaf)?.as_ref()?;
        let (stream, _) = listener.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        Some(stream)
    }

    fn connect(&mut self, leaf: usize) -> Option<TcpStream> {
        let (_, server) = self.places.get(leaf)?.as_ref()?;
        // The aggregator of this machine answers at once.
        let stream = TcpStream::connect(server).ok()?;
        stream.set_nonblocking(true).ok()?;
        Some(stream)
    }

    fn read(&mut self, stream: &mut TcpStream, buffer: &mut [u8]) -> Result<usize, NetError> {
        stream.read(buffer).map_err(|e| error(&e))
    }

    fn write(&mut self, stream: &mut TcpStream, bytes: &[u8]) -> Result<usize, NetError> {
        stream.write(bytes).map_err(|e| error(&e))
    }

    fn is_gone(&mut self, stream: &mut TcpStream) -> bool {
        matches!(stream.peek(&mut [0]), Ok(0))
    }

    fn close(&mut self, stream: TcpStream) {
        let _ = stream.shutdown(Shutdown::Write);
    }
}
