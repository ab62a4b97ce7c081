//! The sections that a cohort shares, encoded once a round.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use fl_proto::codec::Codec;
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
    /// Encodes the sections of a round. It takes a while.
    pub fn new(
        codec: &'static dyn Codec,
        sections: &[(&str, &[f32])],
        with_json: bool,
    ) -> Result<Self> {
        let encode = |(name, numbers): &(&str, &[f32])| {
            let (name, numbers) = (*name, *numbers);
            let section = Outgoing {
                name,
                codec,
                numbers,
            };
            message::encode_section(&section).map(Bytes::from)
        };
        let json = match with_json {
            true => Some(json_form::encode_sections(sections).context("a section's name")?),
            false => None,
        };
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
