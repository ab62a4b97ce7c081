//! A connection whose peer has to take what is written, at the least pace.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::pace::{Credit, Pace};

/// A stream that fails when its peer takes too little.
#[derive(Debug)]
pub(crate) struct PacedStream<S> {
    stream: S,
    credit: Credit,
}

impl<S> PacedStream<S> {
    pub fn new(stream: S, pace: Pace) -> Self {
        let credit = Credit::new(pace.of_writes());
        Self { stream, credit }
    }

    fn written(
        &mut self,
        cx: &mut Context<'_>,
        write: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(write) = write {
            self.credit.moved(*write.as_ref().unwrap_or(&0));
            return Poll::Ready(write);
        }
        let too_slow = ready!(self.credit.wait(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, too_slow)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PacedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PacedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(cx, write)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(cx, write)
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
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    const PACE: Pace = Pace {
        patience: Duration::from_secs(90),
        bytes_per_s: 1024,
    };

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (near, _far) = tokio::io::duplex(1024);
        let began = Instant::now();
        let mut stream = PacedStream::new(near, PACE);
        let error = stream.write_all(&[0; 4096]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), 90 + 64);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_little_is_given_up_and_one_that_is_slow_is_not() {
        for (bytes, is_taken) in [(10, false), (1100, true)] {
            let (near, mut far) = tokio::io::duplex(1024);
            let reader = tokio::spawn(async move {
                let mut buffer = vec![0; bytes];
                while far.read_exact(&mut buffer).await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            });
            let mut stream = PacedStream::new(near, PACE);
            let written = stream.write_all(&[0; 1 << 20]).await;
            assert_eq!(written.is_ok(), is_taken, "{bytes} bytes a second");
            drop(stream);
            reader.await.unwrap();
        }
    }
}
