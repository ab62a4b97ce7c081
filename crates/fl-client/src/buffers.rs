//! The vectors of a device: the model, and those that its rule needs beside it.

use crate::encode::UpdateEncoding;
use crate::evaluation::Findings;
use crate::params::Params;
use alloc::boxed::Box;
use fl_algo::{LocalRule, MODEL, Way};
use fl_nn::Model;
use fl_proto::codec::{Encoding, F32, Plan};
use fl_proto::message::{CONFUSION, CONFUSION_OWN, MAX_SECTIONS, Outgoing};

/// The model's parameters and the rule with its vectors. There is one copy: whoever works on it holds it.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// `[num_params]`.
    pub params: Params,
    pub rule: LocalRule,
    pub update: UpdateEncoding,
    /// Findings to be sent instead of an update.
    pub found: Option<Box<Findings>>,
}

impl Buffers {
    /// Takes the memory for a model; `None` if there is not enough.
    pub fn new(model: &Model, rule: LocalRule) -> Option<Self> {
        let update = UpdateEncoding::new(model);
        let mut params = Params::default();
        params.resize(model.shape().num_params()).then_some(Self {
            params,
            rule,
            update,
            found: None,
        })
    }

    /// Gives back the memory of all that the next `/start` brings or makes anew.
    pub fn rest(&mut self) {
        self.found = None;
        if self.rule.is_new() || self.rule.travelling() >= self.params.len() {
            self.params = Params::default();
        }
        self.rule.rest();
        self.update.rest();
    }

    /// Takes that memory again, for a model of so many parameters; `false` if there is not enough.
    pub fn wake(&mut self, count: usize) -> bool {
        let params = self.params.len() == count || self.params.resize(count);
        params && self.update.wake() && self.rule.wake().is_ok()
    }

    /// Takes the encoding of updates; `false` if there is no memory for it.
    pub fn encode_by(&mut self, encoding: Encoding) -> bool {
        let mut sections = self.rule.sections(Way::Up);
        let model = sections.find(|section| section.name == MODEL);
        self.update
            .prepare(encoding, model.map_or(0, |model| model.count))
    }

    /// Sections of an update, in its encoding but for those that go as they are, or of an evaluation.
    pub fn outgoing(&self) -> heapless::Vec<Outgoing<'_>, MAX_SECTIONS> {
        if let Some(found) = &self.found {
            let both = [
                (CONFUSION, &found.confusion),
                (CONFUSION_OWN, &found.confusion_own),
            ];
            let both = both.into_iter().filter(|(_, numbers)| !numbers.is_empty());
            let exact = both.map(|(name, numbers)| Outgoing {
                name,
                codec: &F32,
                plan: Plan::default(),
                numbers,
            });
            return exact.collect();
        }
        let sections = self.rule.sections(Way::Up).map(|section| {
            let name = section.name;
            let asked = self.update.encoding();
            let encoding = asked.of_section(name, section.exact, section.count);
            Outgoing {
                name,
                codec: encoding.codec(),
                plan: self.update.plan(name, encoding),
                numbers: match name {
                    MODEL => &self.params[..section.count.min(self.params.len())],
                    name => self.rule.vector(name),
                },
            }
        });
        sections.take(MAX_SECTIONS).collect()
    }

    /// Numbers of the sections of a message to this device.
    pub fn incoming(&self, way: Way) -> impl Iterator<Item = u64> {
        self.rule.sections(way).map(|section| section.count as u64)
    }

    /// Tells if anything stays on the device from round to round that nobody else has.
    pub fn keeps_personal(&self) -> bool {
        self.rule.keeps_personal() || self.update.has_feedback()
    }

    /// Tells if what only this device has is to be loaded before a training on the state of `round`; for
    /// round 0 it begins here and now.
    pub fn needs_personal(&mut self, round: u32) -> bool {
        let of_rule = self.rule.keeps_personal() && self.rule.needs_state(round);
        self.update.needs_residual(round) || of_rule
    }

    /// Says that what only this device has is that of `round`.
    pub fn personal_arrived(&mut self, round: u32) {
        if self.rule.keeps_personal() {
            self.rule.state_arrived(round);
        }
        self.update.residual_arrived(round);
    }

    /// Numbers that stay on the device and nobody else has, number by number.
    pub fn personal(&self) -> impl Iterator<Item = &f32> {
        let own = self.rule.personal_part(&self.params).flatten();
        own.chain(self.update.residual())
    }

    /// Numbers of [`Buffers::personal`].
    pub fn personal_len(&self) -> usize {
        let own = self.rule.personal_part(&self.params);
        own.map(<[f32]>::len).sum::<usize>() + self.update.residual().len()
    }

    /// [`Buffers::personal`], to write.
    pub fn personal_mut(&mut self) -> impl Iterator<Item = &mut f32> {
        let own = self.rule.personal_part_mut(&mut self.params).flatten();
        own.chain(self.update.residual_mut())
    }
}
