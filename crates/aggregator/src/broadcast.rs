//! The sections that a cohort shares, encoded once a round.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use fl_proto::codec;
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
    ///
    /// The JSON form has the numbers that the codecs leave of them: all clients start from the same.
    pub fn new(sections: &[Outgoing<'_>], with_json: bool) -> Result<Self> {
        let json = match with_json {
            true => Some(encode_json(sections)?),
            false => None,
        };
        let encode = |section| message::encode_section(section).map(Bytes::from);
        Ok(Self {
            sections: sections.iter().map(encode).collect::<Result<_, _>>()?,
            json: json.map(Bytes::from),
        })
    }

    /// Sections that are encoded already.
    pub fn of(sections: Vec<Bytes>, json: Option<String>) -> Self {
        Self {
            sections,
            json: json.map(Bytes::from),
        }
    }

    /// The same sections and one more, for one client alone; in octets.
    pub fn with(&self, section: &Outgoing<'_>) -> Result<Self> {
        let more = message::encode_section(section).map(Bytes::from)?;
        let sections = self.sections.iter().cloned().chain([more]).collect();
        Ok(Self {
            sections,
            json: None,
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

/// The numbers of a section that arrive at a device.
pub(crate) fn arrived(section: &Outgoing<'_>) -> Vec<f32> {
    let mut numbers = section.numbers.to_vec();
    codec::round(section.codec, &section.plan, &mut numbers);
    numbers
}

/// The field `sections` of the JSON form.
fn encode_json(sections: &[Outgoing<'_>]) -> Result<String> {
    let rounded: Vec<_> = sections.iter().map(arrived).collect();
    let names = sections.iter().map(|section| section.name);
    let plain: Vec<_> = names.zip(rounded.iter().map(Vec::as_slice)).collect();
    json_form::encode_sections(&plain).context("a section's name")
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

#[cfg(test)]
mod tests {
    use super::*;
    use fl_proto::codec::F16;
    use fl_proto::message::{MODEL, Message};

    #[test]
    fn clients_of_both_forms_start_from_the_same_model() {
        let numbers = [0.1, -1.0, 3.000_1, 1e-9];
        let model = Outgoing {
            name: MODEL,
            codec: &F16,
            plan: codec::Plan::default(),
            numbers: &numbers,
        };
        let broadcast = Broadcast::new(&[model], true).unwrap();
        let json = String::from_utf8(broadcast.json.unwrap().to_vec()).unwrap();
        let json = json_form::decode(format!("{{{json}}}").as_bytes()).unwrap();
        let mut octets = message::encode_head(Kind::Start, 1, b"{}").unwrap();
        octets.extend_from_slice(&broadcast.sections[0]);
        let message = Message::parse(&octets).unwrap();
        let decoded = message.section(MODEL).unwrap().numbers().unwrap();
        assert_eq!(json, [(MODEL.to_owned(), decoded)]);
        assert_ne!(json[0].1, numbers);
    }
}
