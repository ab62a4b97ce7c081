//! The body of a request, at the least pace.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::pace::{Credit, Pace};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body that fails with [`TooSlow`](crate::TooSlow) when its peer does not keep the pace.
#[derive(Debug)]
pub(crate) struct PacedBody {
    body: Incoming,
    credit: Credit,
}

impl PacedBody {
    pub fn new(body: Incoming, pace: Pace) -> Self {
        let credit = Credit::new(pace);
        Self { body, credit }
    }
}

impl Body for PacedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            let too_slow = ready!(self.credit.wait(cx));
            return Poll::Ready(Some(Err(too_slow.into())));
        };
        let data = frame.as_ref().and_then(|frame| frame.as_ref().ok());
        let bytes = data.and_then(Frame::data_ref).map_or(0, Bytes::len);
        self.credit.moved(bytes);
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
