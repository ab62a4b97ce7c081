//! Bytes in and out, per device.
//!
//! What is counted are the octets that pass through a connection's socket: HTTP heads and bodies.
//! TCP's and IP's own are not seen here. A connection from a device counts for it as soon as its
//! request has told who it is, with all that went before; what never told counts for no one.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A device's bytes since it first joined.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    up: AtomicU64,
    down: AtomicU64,
}

/// Bytes from the device (`up`) and to it (`down`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes {
    pub up: u64,
    pub down: u64,
}

impl Traffic {
    pub fn bytes(&self) -> Bytes {
        Bytes { up: self.up.load(Relaxed), down: self.down.load(Relaxed) }
    }

    fn add(&self, bytes: Bytes) {
        self.up.fetch_add(bytes.up, Relaxed);
        self.down.fetch_add(bytes.down, Relaxed);
    }

    fn take(&self) -> Bytes {
        Bytes { up: self.up.swap(0, Relaxed), down: self.down.swap(0, Relaxed) }
    }
}

impl Bytes {
    /// What has been added since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            up: self.up.saturating_sub(earlier.up),
            down: self.down.saturating_sub(earlier.down),
        }
    }
}

impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self { up: a.up + b.up, down: a.down + b.down })
    }
}

/// One connection's bytes, until it is known whose they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter(Arc<Pending>);

#[derive(Debug, Default)]
struct Pending {
    unclaimed: Traffic,
    owner: OnceLock<Arc<Traffic>>,
}

impl Meter {
    /// A meter whose bytes are `owner`'s from the start.
    pub fn of(owner: Arc<Traffic>) -> Self {
        let meter = Self::default();
        meter.assign(owner);
        meter
    }

    /// Tells whose the connection is; the first to tell is right.
    pub fn assign(&self, owner: Arc<Traffic>) {
        let owner = self.0.owner.get_or_init(|| owner);
        owner.add(self.0.unclaimed.take());
    }

    fn add(&self, bytes: Bytes) {
        self.0.owner.get().map_or(&self.0.unclaimed, Arc::as_ref).add(bytes);
    }
}

/// A stream whose bytes are counted.
pub(crate) struct Metered<S> {
    stream: S,
    meter: Meter,
}

impl<S> Metered<S> {
    pub fn new(stream: S, meter: Meter) -> Self {
        Self { stream, meter }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.meter.add(Bytes { up: (buffer.filled().len() - before) as u64, down: 0 });
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(n)) = polled {
            self.meter.add(Bytes { up: 0, down: n as u64 });
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(n)) = polled {
            self.meter.add(Bytes { up: 0, down: n as u64 });
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn bytes_go_to_the_owner_before_and_after_it_is_known() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let meter = Meter::default();
        let mut ours = Metered::new(ours, meter.clone());
        let owner = Arc::new(Traffic::default());
        theirs.write_all(b"12345").await.unwrap();
        ours.read_exact(&mut [0; 5]).await.unwrap();
        assert_eq!(owner.bytes(), Bytes::default());
        meter.assign(owner.clone());
        meter.assign(Arc::default());
        ours.write_all(b"123").await.unwrap();
        assert_eq!(owner.bytes(), Bytes { up: 5, down: 3 });
    }
}
