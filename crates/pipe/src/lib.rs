//! Streams of bytes between an aggregator and devices of one process, in place of sockets.
//!
//! Octet by octet they carry the same as sockets would; they have no descriptors, and the kernel hears of none. A stream has two different ends: a [`Stream`] is read and written by tasks, a [`Line`]
//! by whoever polls a device. Both sides open streams:
//!
//! - [`Lines::call`], of a device, comes out of [`Door::accept`].
//! - [`Lines::dial`], of the aggregator, goes to the [`Callee`], who has the devices.
//!
//! # Addresses
//! A device has the address [`address_of`] its number, in the block 100::/64, which is for discarding
//! (RFC 6666): no network routes it, so that nobody else comes from one.
//!
//! # Invariants
//! - A stream holds at most [`CAPACITY`] octets in each direction.
//! - Whoever was told to wait is told when there is something to do: a task by its waker, the device by
//!   [`Callee::stir`]. Nobody is told otherwise.

#![forbid(unsafe_code)]

mod half;
mod line;
mod stream;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use tokio::sync::mpsc;

use half::Half;
pub use line::{Broken, Line};
pub use stream::Stream;

/// Octets that are under way in one direction at most.
pub const CAPACITY: usize = 256 << 10;

/// First half of every address in process.
const PREFIX: u128 = 0x0100 << 112;

/// Port of every address in process.
const PORT: u16 = 80;

/// Address of the device of a number.
pub fn address_of(number: u32) -> SocketAddr {
    // The block itself is no address.
    let bits = PREFIX | (u128::from(number) + 1);
    (Ipv6Addr::from_bits(bits), PORT).into()
}

/// Number of the device of an address; `None` for one that is not of this process.
pub fn number_of(address: SocketAddr) -> Option<u32> {
    let IpAddr::V6(ip) = address.ip() else {
        return None;
    };
    let host = ip.to_bits() ^ PREFIX;
    u32::try_from(host.checked_sub(1)?).ok()
}

/// The side of the devices, as streams see it.
pub trait Callee: Send + Sync {
    /// Takes a stream to a device; `false` if there is none that could.
    fn take(&self, device: u32, line: Line) -> bool;

    /// Has a device look at its streams.
    fn stir(&self, device: u32);
}

/// Both ends of an exchange in process: the aggregator's door, and what each side opens streams by.
pub fn exchange() -> (Door, Lines) {
    let (calls, called) = mpsc::unbounded_channel();
    let lines = Lines {
        calls,
        callee: Arc::default(),
    };
    (
        Door {
            called,
            lines: lines.clone(),
        },
        lines,
    )
}

/// The door of an aggregator: streams that devices open.
#[derive(Debug)]
pub struct Door {
    called: mpsc::UnboundedReceiver<(Stream, SocketAddr)>,
    lines: Lines,
}

impl Door {
    /// The next stream, and the device's address; `None` once no device can call.
    pub async fn accept(&mut self) -> Option<(Stream, SocketAddr)> {
        self.called.recv().await
    }

    /// The way to the devices.
    pub fn lines(&self) -> Lines {
        self.lines.clone()
    }
}

/// The streams of an exchange in process.
#[derive(Clone)]
pub struct Lines {
    calls: mpsc::UnboundedSender<(Stream, SocketAddr)>,
    callee: Arc<OnceLock<Weak<dyn Callee>>>,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

impl Lines {
    /// Says who has the devices, for as long as there are any; the first stays.
    pub fn serve_by(&self, callee: Weak<dyn Callee>) {
        let _ = self.callee.set(callee);
    }

    /// Opens a stream from a device to the aggregator; `None` if that is gone.
    pub fn call(&self, device: u32) -> Option<Line> {
        let (stream, line) = self.stream(device)?;
        self.calls.send((stream, address_of(device))).ok()?;
        Some(line)
    }

    /// Opens a stream from the aggregator to a device.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionRefused`] if that does not run.
    pub fn dial(&self, device: u32) -> io::Result<Stream> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let (stream, line) = self.stream(device).ok_or_else(refused)?;
        let callee = self.callee.get().and_then(Weak::upgrade);
        match callee.ok_or_else(refused)?.take(device, line) {
            true => Ok(stream),
            false => Err(refused()),
        }
    }

    fn stream(&self, device: u32) -> Option<(Stream, Line)> {
        let pipe = Arc::new(Pipe {
            halves: Mutex::default(),
            callee: Weak::clone(self.callee.get()?),
            device,
        });
        Some((Stream::new(Arc::clone(&pipe)), Line::new(pipe)))
    }
}

/// A stream with both of its directions.
struct Pipe {
    halves: Mutex<Halves>,
    callee: Weak<dyn Callee>,
    device: u32,
}

#[derive(Debug, Default)]
struct Halves {
    /// From the device to the aggregator.
    up: Half,
    down: Half,
    /// The device waits for one of the two.
    device_waits: bool,
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, Halves> {
        self.halves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the stream for the aggregator, and has the device look at it if that waits.
    fn by_task<T>(&self, change: impl FnOnce(&mut Halves) -> T) -> T {
        let mut halves = self.lock();
        let changed = change(&mut halves);
        let waits = std::mem::take(&mut halves.device_waits);
        drop(halves);
        self.stir_if(waits);
        changed
    }

    /// Has the device look at the stream if that waited.
    fn stir_if(&self, waited: bool) {
        if let Some(callee) = self.callee.upgrade().filter(|_| waited) {
            callee.stir(self.device);
        }
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = self.device;
        f.debug_struct("Pipe")
            .field("device", &device)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
