//! A client's examples on their way to it: pieces of the data set that all clients share.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::shared::Shared;

/// Bytes of a piece, unless one example has more.
const PIECE: usize = 16 << 10;

/// Part of the examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Octets of the inputs, one example behind the other.
    Inputs,
    /// One octet each.
    Labels,
}

/// The body of an answer with one part of a client's examples. However many are read at once, and however
/// slowly, each holds a piece.
#[derive(Debug)]
pub(crate) struct ExampleBody {
    shared: Arc<Shared>,
    client: u32,
    part: Part,
    /// Examples that the client holds out.
    holdout: Vec<u32>,
    /// Examples that have been given out.
    done: usize,
}

impl ExampleBody {
    pub fn new(shared: Arc<Shared>, client: u32, part: Part) -> Self {
        let holdout = shared.holdout(client);
        Self {
            shared,
            client,
            part,
            holdout,
            done: 0,
        }
    }

    /// Bytes of one example.
    fn each(&self) -> usize {
        match self.part {
            Part::Inputs => self.shared.train.num_inputs.max(1),
            Part::Labels => 1,
        }
    }

    /// Examples that are still to be given out, those to train on first: of them, or else of those held out.
    fn next(&self) -> &[u32] {
        let training = self.shared.partition.indices(self.client as usize);
        match training.get(self.done..) {
            Some(rest) if !rest.is_empty() => rest,
            _ => self
                .holdout
                .get(self.done - training.len()..)
                .unwrap_or_default(),
        }
    }

    /// Number of examples that are still to be given out.
    fn rest(&self) -> usize {
        let training = self.shared.partition.indices(self.client as usize);
        training.len() + self.holdout.len() - self.done
    }
}

impl Body for ExampleBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.next();
        let next = &next[..next.len().min((PIECE / self.each()).max(1))];
        if next.is_empty() {
            return Poll::Ready(None);
        }
        let train = &self.shared.train;
        let piece = match self.part {
            Part::Inputs => train.gather_inputs(next),
            Part::Labels => train.gather_labels(next),
        };
        let done = next.len();
        self.done += done;
        Poll::Ready(Some(Ok(Frame::data(piece.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.rest() * self.each()) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::tests::shared_with;
    use fl_data::Dataset;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn the_pieces_are_small_and_make_up_the_examples() {
        for (num_inputs, examples) in [(784, 500), (3 * PIECE, 3), (1, 1)] {
            let shared = shared_with(Dataset {
                inputs: (0..examples * num_inputs).map(|at| at as u8).collect(),
                labels: (0..examples).map(|at| at as u8 % 2).collect(),
                num_inputs,
                num_classes: 2,
            });
            let indices = shared.partition.indices(0);
            let whole = [
                (Part::Inputs, shared.train.gather_inputs(indices)),
                (Part::Labels, shared.train.gather_labels(indices)),
            ];
            for (part, whole) in whole {
                let mut body = ExampleBody::new(shared.clone(), 0, part);
                assert_eq!(body.size_hint().exact(), Some(whole.len() as u64));
                let mut pieces = Vec::new();
                while let Some(Ok(frame)) = body.frame().await {
                    let piece = frame.into_data().unwrap();
                    assert!(piece.len() <= PIECE.max(num_inputs));
                    pieces.extend_from_slice(&piece);
                }
                assert!(pieces == whole && body.is_end_stream());
            }
        }
    }
}
