//! The vectors of a device: the model, and those that its rule needs beside it.

use crate::job::resize;
use alloc::vec::Vec;
use fl_algo::{LocalRule, VectorSpec};
use fl_proto::codec::{Codec, F32};
use fl_proto::message::{MAX_SECTIONS, MODEL, Outgoing};

/// The model's parameters and the rule with its vectors. There is one copy: whoever works on it holds it.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// `[num_params]`.
    pub params: Vec<f32>,
    pub rule: LocalRule,
}

impl Buffers {
    /// Takes the memory for a model; `None` if there is not enough.
    pub fn new(num_params: usize, rule: LocalRule) -> Option<Self> {
        let mut params = Vec::new();
        resize(&mut params, num_params).then_some(Self { params, rule })
    }

    /// Sections of an update, in this codec; kept vectors as they are, so that nothing of them is lost
    /// on their way to the aggregator and back.
    pub fn outgoing(&self, codec: &'static dyn Codec) -> heapless::Vec<Outgoing<'_>, MAX_SECTIONS> {
        let model = self.rule.sends_model().then_some(Outgoing {
            name: MODEL,
            codec,
            numbers: &self.params,
        });
        let kept = |name| {
            let mut specs = self.rule.specs().iter();
            specs.any(|spec| spec.kept && spec.name == name)
        };
        let further = self.rule.sections_up().map(|(name, numbers)| Outgoing {
            name,
            codec: if kept(name) { &F32 } else { codec },
            numbers,
        });
        model
            .into_iter()
            .chain(further)
            .take(MAX_SECTIONS)
            .collect()
    }

    /// Codec and count of the sections that come with `/start`, in the widest codec.
    pub fn incoming(&self) -> impl Iterator<Item = (&'static dyn Codec, u64)> {
        let model = (&F32 as &'static dyn Codec, self.params.len() as u64);
        core::iter::once(model).chain(self.lengths(|spec| spec.down))
    }

    /// Codec and count of the sections of the answer to `/state`.
    pub fn mirrored(&self) -> impl Iterator<Item = (&'static dyn Codec, u64)> {
        self.lengths(VectorSpec::is_mirrored)
    }

    fn lengths(
        &self,
        wanted: impl Fn(&VectorSpec) -> bool,
    ) -> impl Iterator<Item = (&'static dyn Codec, u64)> {
        let specs = self.rule.specs().iter();
        let num_params = self.params.len();
        specs.filter(move |spec| wanted(spec)).map(move |spec| {
            let count = spec.length.of(num_params) as u64;
            (&F32 as &'static dyn Codec, count)
        })
    }
}
