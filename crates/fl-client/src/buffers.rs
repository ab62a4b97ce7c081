//! The vectors of a device: the model, and those that its rule needs beside it.

use crate::evaluation::Findings;
use crate::job::resize;
use alloc::boxed::Box;
use alloc::vec::Vec;
use fl_algo::{LocalRule, MODEL, Way};
use fl_proto::codec::{self, Codec, F32};
use fl_proto::message::{CONFUSION, CONFUSION_OWN, MAX_SECTIONS, Outgoing};

/// The model's parameters and the rule with its vectors. There is one copy: whoever works on it holds it.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// `[num_params]`.
    pub params: Vec<f32>,
    pub rule: LocalRule,
    /// Findings to be sent instead of an update.
    pub found: Option<Box<Findings>>,
}

impl Buffers {
    /// Takes the memory for a model; `None` if there is not enough.
    pub fn new(num_params: usize, rule: LocalRule) -> Option<Self> {
        let mut params = Vec::new();
        resize(&mut params, num_params).then_some(Self {
            params,
            rule,
            found: None,
        })
    }

    /// Sections of an update, in this codec but for those that go as they are, or of an evaluation.
    pub fn outgoing(&self, codec: &'static dyn Codec) -> heapless::Vec<Outgoing<'_>, MAX_SECTIONS> {
        if let Some(found) = &self.found {
            let both = [
                (CONFUSION, &found.confusion),
                (CONFUSION_OWN, &found.confusion_own),
            ];
            let both = both.into_iter().filter(|(_, numbers)| !numbers.is_empty());
            let exact = both.map(|(name, numbers)| Outgoing {
                name,
                codec: &F32,
                numbers,
            });
            return exact.collect();
        }
        let sections = self.rule.sections(Way::Up).map(|section| Outgoing {
            name: section.name,
            codec: codec::of_section(section.exact, codec),
            numbers: match section.name {
                MODEL => &self.params[..section.count.min(self.params.len())],
                name => self.rule.vector(name),
            },
        });
        sections.take(MAX_SECTIONS).collect()
    }

    /// What stays on the device and nobody else has, number by number.
    pub fn personal(&self) -> impl Iterator<Item = &f32> {
        self.rule.personal_part(&self.params).flatten()
    }

    /// Numbers of [`Buffers::personal`].
    pub fn personal_len(&self) -> usize {
        self.rule
            .personal_part(&self.params)
            .map(<[f32]>::len)
            .sum()
    }

    /// [`Buffers::personal`], to write.
    pub fn personal_mut(&mut self) -> impl Iterator<Item = &mut f32> {
        self.rule.personal_part_mut(&mut self.params).flatten()
    }

    /// Codec and count of the sections of a message to this device, in the widest codec.
    pub fn incoming(&self, way: Way) -> impl Iterator<Item = (&'static dyn Codec, u64)> {
        let sections = self.rule.sections(way);
        sections.map(|section| (&F32 as &'static dyn Codec, section.count as u64))
    }
}
