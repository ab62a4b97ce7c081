//! The vectors of a device: the model, and what its rule needs beside it.

use crate::job::resize;
use crate::rule::LocalRule;
use alloc::vec::Vec;
use fl_proto::codec::{Codec, F32};
use fl_proto::message::{MAX_SECTIONS, MODEL, Outgoing};

/// The model's parameters and the rule's vectors. There is one copy: whoever works on it holds it.
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

    /// Sections of an update, the model in this codec.
    pub fn outgoing(&self, codec: &'static dyn Codec) -> heapless::Vec<Outgoing<'_>, MAX_SECTIONS> {
        let model = Outgoing {
            name: MODEL,
            codec,
            numbers: &self.params,
        };
        core::iter::once(model).collect()
    }

    /// Codec and greatest count of each section that comes with `/start`, in the widest codec.
    pub fn incoming(&self) -> impl Iterator<Item = (&'static dyn Codec, u64)> {
        let model = self.params.len() as u64;
        core::iter::once((&F32 as &'static dyn Codec, model))
    }
}
