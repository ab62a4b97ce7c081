//! An order of a round from the aggregator above: its cohort, and the sections for the devices as they came.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use fl_client::http::Refusal;
use fl_proto::cluster::{COHORT, LOCAL, Orders};
use fl_proto::message::{
    HEAD_LEN, Head, Kind, MAX_SECTIONS, MODEL, Message, SECTION_HEADER_LEN, Section,
};
use fl_proto::{MAX_CONTROL_BYTES, Start, Token, json};

/// Part of a device in a round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Part {
    /// Plans for it.
    pub orders: Orders,
    pub learning_rate: f32,
    pub local_epochs: u32,
    pub batch_size: u32,
}

/// An order that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub start: Start,
    /// Parts of the cohort, by place in the cluster.
    pub cohort: BTreeMap<u32, Part>,
    /// Places of the devices' sections in the body.
    pub sections: heapless::Vec<Range<usize>, MAX_SECTIONS>,
}

impl Order {
    /// Reads a body. The sections are held against `numbers`, the length of the model.
    pub fn parse(body: &[u8], clients: Range<u32>, numbers: u32) -> Result<Self, Refusal> {
        let bad = |why: &str| Refusal::new(400, why);
        let message = Message::parse(body).map_err(Refusal::from)?;
        let start: Option<Start> = json::decode(message.control);
        let start = start.filter(|_| message.kind == Kind::Start);
        let start = start.ok_or_else(|| bad("malformed control message"))?;
        let mut sections = heapless::Vec::new();
        let mut at = HEAD_LEN + message.control.len();
        for section in &message.sections {
            let end = at + SECTION_HEADER_LEN + section.header.octets as usize;
            let name = section.header.name.as_str();
            if name == MODEL && section.header.count == numbers {
                // Never full: it has no more than the message.
                let _ = sections.push(at..end);
            } else if name != COHORT && name != LOCAL {
                return Err(Refusal::new(
                    400,
                    format_args!("section {name}: a gateway takes a model of {numbers} numbers"),
                ));
            }
            at = end;
        }
        if sections.is_empty() {
            return Err(bad("section model is missing"));
        }
        let cohort = numbers_of(message.section(COHORT), 2 * clients.len())?;
        let local = numbers_of(message.section(LOCAL), 3 * clients.len())?;
        let cohort = cohort_of(&cohort, &local, &clients);
        Ok(Self {
            start,
            cohort: cohort.ok_or_else(|| bad("the cohort is not of this cluster"))?,
            sections,
        })
    }

    /// Head and control message of the `/start` of a device.
    pub fn head(&self, part: &Part, token: Token) -> Option<Vec<u8>> {
        let start = Start {
            token,
            learning_rate: part.learning_rate,
            local_epochs: part.local_epochs,
            batch_size: part.batch_size,
            ..self.start.clone()
        };
        let mut control = [0; MAX_CONTROL_BYTES];
        let length = json::encode(&start, &mut control)?;
        let control = &control[..length];
        let head = Head::new(Kind::Start, self.sections.len(), control).ok()?;
        Some([&head.emit()[..], control].concat())
    }

    /// The model of it, decoded into as many numbers.
    pub fn model_into(&self, body: &[u8], numbers: &mut [f32]) -> bool {
        let message = Message::parse(body).ok();
        let model = message.as_ref().and_then(|message| message.section(MODEL));
        model.is_some_and(|model| model.decode_into(numbers))
    }
}

/// Numbers of a section that is there, at most so many.
fn numbers_of(section: Option<&Section<'_>>, most: usize) -> Result<Vec<f32>, Refusal> {
    let section = section.filter(|section| section.header.count as usize <= most);
    let section = section.ok_or_else(|| {
        let why =
            "a gateway needs the sections cohort and local: build both sides from the same zfl";
        Refusal::new(400, why)
    })?;
    section.numbers().map_err(Refusal::from)
}

/// Parts of clients of the cluster; none if one is no part, or of no client of it.
fn cohort_of(cohort: &[f32], local: &[f32], clients: &Range<u32>) -> Option<BTreeMap<u32, Part>> {
    let ((pairs, rest), (triples, more)) = (cohort.as_chunks::<2>(), local.as_chunks::<3>());
    if !rest.is_empty() || !more.is_empty() || pairs.len() != triples.len() {
        return None;
    }
    let mut parts = BTreeMap::new();
    for ([client, marks], [learning_rate, epochs, batch]) in pairs.iter().zip(triples) {
        let [client, marks] = [whole(*client)?, whole(*marks)?];
        let part = Part {
            orders: Orders::of_bits(u8::try_from(marks).ok()?)?,
            learning_rate: Some(*learning_rate).filter(|rate| rate.is_finite())?,
            local_epochs: whole(*epochs)?,
            batch_size: whole(*batch)?,
        };
        let is_of_it = clients.contains(&client);
        is_of_it.then(|| parts.insert(client - clients.start, part))?;
    }
    (parts.len() == pairs.len()).then_some(parts)
}

/// A number that is whole.
fn whole(number: f32) -> Option<u32> {
    let cast = number as u32;
    (cast as f32 == number).then_some(cast)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cohort_is_of_the_cluster_or_none() {
        let local = [0.5, 2.0, 10.0, 0.25, 1.0, 20.0];
        let parts = cohort_of(&[4.0, 0.0, 6.0, 3.0], &local, &(4..7)).unwrap();
        assert_eq!(parts.keys().copied().collect::<Vec<_>>(), [0, 2]);
        assert_eq!((parts[&2].batch_size, parts[&2].orders.corrupt), (20, true));
        let f = f32::NAN;
        for (cohort, local) in [
            (&[3.0, 0.0][..], &local[..3]),
            (&[7.0, 0.0], &local[..3]),
            (&[4.5, 0.0], &local[..3]),
            (&[f, 0.0], &local[..3]),
            (&[4.0, 8.0], &local[..3]),
            (&[4.0, 0.0], &local[..]),
            (&[4.0, 0.0, 4.0, 0.0], &local[..]),
            (&[4.0], &[]),
            (&[4.0, 0.0], &[f, 1.0, 1.0]),
            (&[4.0, 0.0], &[1.0, -1.0, 1.0]),
        ] {
            assert_eq!(
                cohort_of(cohort, local, &(4..7)),
                None,
                "{cohort:?} {local:?}"
            );
        }
    }
}
