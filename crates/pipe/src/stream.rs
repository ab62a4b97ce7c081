//! The aggregator's end of a stream: read and written by tasks.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Pipe;
use crate::half::Moved;

/// A stream as the aggregator has it. Dropping it ends both directions; what was written still arrives.
#[derive(Debug)]
pub struct Stream {
    pipe: Arc<Pipe>,
}

impl Stream {
    pub(crate) fn new(pipe: Arc<Pipe>) -> Self {
        Self { pipe }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut halves = self.pipe.lock();
        match halves.up.read(buf.initialize_unfilled()) {
            Moved::Octets(count) => {
                let waits = std::mem::take(&mut halves.device_waits);
                drop(halves);
                self.pipe.stir_if(waits);
                buf.advance(count);
                Poll::Ready(Ok(()))
            }
            Moved::Over => Poll::Ready(Ok(())),
            Moved::Wait => {
                halves.up.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut halves = self.pipe.lock();
        match halves.down.write(octets) {
            Moved::Octets(count) => {
                let waits = std::mem::take(&mut halves.device_waits);
                drop(halves);
                self.pipe.stir_if(waits);
                Poll::Ready(Ok(count))
            }
            Moved::Over => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Moved::Wait => {
                halves.down.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe.by_task(|halves| halves.down.finished = true);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.pipe.by_task(|halves| {
            halves.down.finished = true;
            halves.up.stop_reading();
        });
    }
}
