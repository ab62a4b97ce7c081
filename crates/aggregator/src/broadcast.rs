//! The sections that a cohort shares, encoded once a round.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use fl_algo::Sections;
use fl_proto::codec::{Codec, F32};
use fl_proto::message::{self, Kind, Outgoing};
use fl_proto::{Start, json_form};
use hyper::body::{Body, Frame, SizeHint};

/// Form of the bodies that a client is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Head, control message and sections.
    #[default]
    Octets,
    /// JSON with base64, for clients in any language.
    Json,
}

impl Form {
    /// Media type of a body of this form.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Octets => fl_proto::OCTET_STREAM,
            Self::Json => fl_proto::JSON,
        }
    }
}

/// Sections on their way to a cohort: the same memory for every client and every try.
#[derive(Clone, Debug, Default)]
pub(crate) struct Broadcast {
    sections: Vec<Bytes>,
    /// The field `sections` of the JSON form, if a client of the cohort wants that.
    json: Option<Bytes>,
}

impl Broadcast {
    /// Encodes the model of a round with its codec, and what goes beside it. It takes a while.
    pub fn new(
        (name, numbers, codec): (&str, &[f32], &'static dyn Codec),
        beside: &Sections,
        with_json: bool,
    ) -> Result<Self> {
        let model = Outgoing {
            name,
            codec,
            numbers,
        };
        // What an algorithm sends beside the model is exact.
        let beside = beside.iter().map(|(name, numbers)| Outgoing {
            name,
            codec: &F32,
            numbers,
        });
        let sections: Vec<_> = std::iter::once(model).chain(beside).collect();
        let plain: Vec<_> = sections.iter().map(|s| (s.name, s.numbers)).collect();
        let json = match with_json {
            true => Some(json_form::encode_sections(&plain).context("a section's name")?),
            false => None,
        };
        let encode = |section| message::encode_section(section).map(Bytes::from);
        Ok(Self {
            sections: sections.iter().map(encode).collect::<Result<_, _>>()?,
            json: json.map(Bytes::from),
        })
    }

    /// The body of one client's `/start`.
    pub fn body(&self, start: &Start, form: Form) -> Result<Pieces> {
        let control = serde_json::to_vec(start)?;
        match (form, &self.json) {
            (Form::Json, Some(json)) => {
                let fields = control.strip_suffix(b"}").unwrap_or(&control);
                let head = Bytes::from([fields, b","].concat());
                Ok(Pieces(
                    [head, json.clone(), Bytes::from_static(b"}")].into(),
                ))
            }
            _ => {
                let head = message::encode_head(Kind::Start, self.sections.len(), &control)?;
                let sections = self.sections.iter().cloned();
                Ok(Pieces(
                    std::iter::once(Bytes::from(head)).chain(sections).collect(),
                ))
            }
        }
    }
}

/// A body of pieces whose length is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pieces(VecDeque<Bytes>);

impl Pieces {
    /// Length of what is left, in bytes.
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len() as u64)
    }
}
