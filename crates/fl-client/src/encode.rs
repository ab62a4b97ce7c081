//! The encoding of updates: from a trained model to the numbers that are sent, and what of them is lost.

use crate::job::resize;
use alloc::vec::Vec;
use fl_nn::Model;
use fl_proto::codec::{self, Encodes, Encoding, Plan};
use fl_proto::message::MODEL;

/// Most tensors of a model: weights and biases of each layer.
const MAX_TENSORS: usize = 2 * (fl_proto::MAX_LAYER_SIZES - 1);

/// An encoding at work, with its memory from round to round.
#[derive(Debug)]
pub(crate) struct UpdateEncoding {
    encoding: Encoding,
    tensors: heapless::Vec<u32, MAX_TENSORS>,
    /// Seed of this client's random numbers in the round at hand.
    seed: u64,
    /// While it trains the model of the round less what was lost before, afterwards what is lost. Empty if the
    /// encoding needs neither.
    beside: Vec<f32>,
    /// The round whose loss `beside` holds.
    residual_round: Option<u32>,
}

impl UpdateEncoding {
    /// The encoding of a model's parameters as they are.
    pub fn new(model: &Model) -> Self {
        let mut tensors = heapless::Vec::new();
        for pair in model.shape().sizes().windows(2) {
            // Never full: a shape has no more layers.
            let _ = tensors.push(pair[0] * pair[1]);
            let _ = tensors.push(pair[1]);
        }
        Self {
            encoding: Encoding::default(),
            tensors,
            seed: 0,
            beside: Vec::new(),
            residual_round: None,
        }
    }

    /// Takes an encoding, and the memory that it needs; `false` if there is not enough.
    pub fn prepare(&mut self, asked: Encoding, sends_model: bool) -> bool {
        let count = self.count();
        let of_model = asked.of_section(MODEL, !sends_model, count);
        let needed = count * of_model.device_vectors() as usize;
        if of_model != self.encoding.of_section(MODEL, !sends_model, count) {
            self.residual_round = None;
        }
        self.encoding = asked;
        self.beside.len() == needed || resize(&mut self.beside, needed)
    }

    fn count(&self) -> usize {
        self.tensors.iter().map(|length| *length as usize).sum()
    }

    /// The encoding asked for.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The plan for a section of that name in that encoding.
    pub fn plan<'a>(&'a self, name: &str, encoding: Encoding) -> Plan<'a> {
        let tensors = if name == MODEL {
            &self.tensors[..]
        } else {
            &[]
        };
        encoding.plan(tensors, self.seed)
    }

    /// Begins a round on a global model, with the loss of the update of `residual_round`, if that is held.
    pub fn begin(&mut self, global: &[f32], seed: u64, residual_round: u32) {
        self.seed = seed;
        let is_held = self.residual_round.take() == Some(residual_round) && residual_round > 0;
        for (beside, global) in self.beside.iter_mut().zip(global) {
            let lost = if is_held { *beside } else { 0.0 };
            *beside = global - lost;
        }
    }

    /// Ends the training of a round: the parameters become the numbers to send.
    pub fn end(&mut self, params: &mut [f32], round: u32) {
        if self.beside.is_empty() {
            return;
        }
        for (param, beside) in params.iter_mut().zip(&self.beside) {
            *param -= beside;
        }
        let codec = self.encoding.codec();
        if codec.encodes() != Encodes::ChangesWithFeedback {
            return;
        }
        self.beside.copy_from_slice(params);
        let plan = self.encoding.plan(&self.tensors, self.seed);
        codec::round(codec, &plan, &mut self.beside);
        for (lost, param) in self.beside.iter_mut().zip(params) {
            *lost = *param - *lost;
        }
        self.residual_round = Some(round);
    }
}
