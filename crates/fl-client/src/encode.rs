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
    has_feedback: bool,
    tensors: heapless::Vec<u32, MAX_TENSORS>,
    /// Seed of this client's random numbers in the round at hand.
    seed: u64,
    /// While it trains the model of the round less what was lost before, afterwards what is lost. Empty if the
    /// encoding needs neither.
    beside: Vec<f32>,
    /// The round whose loss `beside` holds.
    residual_round: Option<u32>,
    /// Numbers of `beside` that were given back.
    rested: usize,
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
            has_feedback: false,
            tensors,
            seed: 0,
            beside: Vec::new(),
            residual_round: None,
            rested: 0,
        }
    }

    /// Takes an encoding for a section of `count` parameters, and the memory that it needs; `false` if
    /// there is not enough.
    pub fn prepare(&mut self, asked: Encoding, count: usize) -> bool {
        let of_model = asked.of_section(MODEL, false, count);
        let needed = count * of_model.device_vectors() as usize;
        self.encoding = asked;
        self.has_feedback = of_model.codec().encodes() == Encodes::ChangesWithFeedback;
        if self.beside.len() == needed {
            return true;
        }
        self.residual_round = None;
        resize(&mut self.beside, needed)
    }

    /// Gives back the memory of what the next round makes anew.
    pub fn rest(&mut self) {
        let has_lost = self.has_feedback && self.residual_round.is_some_and(|round| round > 0);
        if !has_lost {
            (self.rested, self.beside) = (self.beside.len(), Vec::new());
        }
    }

    /// Takes it again; `false` if there is not enough.
    pub fn wake(&mut self) -> bool {
        let rested = core::mem::take(&mut self.rested);
        rested == 0 || resize(&mut self.beside, rested)
    }

    /// True if what an update loses goes into the next one.
    pub fn has_feedback(&self) -> bool {
        self.has_feedback
    }

    /// Tells if the loss of the update of `round` has to be loaded; for round 0 there is none.
    pub fn needs_residual(&mut self, round: u32) -> bool {
        if !self.has_feedback || self.residual_round == Some(round) {
            return false;
        }
        if round == 0 {
            self.beside.fill(0.0);
            self.residual_round = Some(0);
        }
        round > 0
    }

    /// Says that the residual is that of `round`.
    pub fn residual_arrived(&mut self, round: u32) {
        self.residual_round = Some(round);
    }

    /// Loss of the last update; empty without feedback.
    pub fn residual(&self) -> &[f32] {
        match self.has_feedback {
            true => &self.beside,
            false => &[],
        }
    }

    /// [`UpdateEncoding::residual`], to write; until [`UpdateEncoding::residual_arrived`] it is of no round.
    pub fn residual_mut(&mut self) -> &mut [f32] {
        self.residual_round = None;
        match self.has_feedback {
            true => &mut self.beside,
            false => &mut [],
        }
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

    /// Begins a round on a global model.
    pub fn begin(&mut self, global: &[f32], seed: u64) {
        self.seed = seed;
        let is_held = self.has_feedback && self.residual_round.is_some();
        self.residual_round = None;
        for (beside, global) in self.beside.iter_mut().zip(global) {
            let lost = if is_held { *beside } else { 0.0 };
            *beside = global - lost;
        }
    }

    /// Ends the training of a round: the parameters become the numbers to send.
    pub fn end(&mut self, params: &mut [f32], round: u32) {
        for (param, beside) in params.iter_mut().zip(&self.beside) {
            *param -= beside;
        }
        if !self.has_feedback {
            return;
        }
        for (beside, param) in self.beside.iter_mut().zip(&*params) {
            *beside = *param;
        }
        let plan = self.encoding.plan(&self.tensors, self.seed);
        codec::round(self.encoding.codec(), &plan, &mut self.beside);
        for (lost, param) in self.beside.iter_mut().zip(params) {
            *lost = *param - *lost;
        }
        self.residual_round = Some(round);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fl_nn::{Activation, Shape};
    use fl_proto::codec::TopK;
    use std::vec;

    /// One weight, three biases.
    fn sparse() -> UpdateEncoding {
        let model = Model::new(Shape::new(&[1, 3]).unwrap(), Activation::Relu);
        let mut update = UpdateEncoding::new(&model);
        let mut encoding = Encoding::new(&TopK);
        encoding.set("k", 0.2).unwrap();
        assert!(update.prepare(encoding, 6));
        update
    }

    /// A round in which training adds these numbers to a model of ones; what is sent of them.
    fn round(update: &mut UpdateEncoding, round: u32, added: [f32; 6]) -> Vec<f32> {
        let mut params = vec![1.0; 6];
        update.begin(&params, 7);
        for (param, added) in params.iter_mut().zip(added) {
            *param += added;
        }
        update.end(&mut params, round);
        let plan = update.plan(MODEL, update.encoding());
        codec::round(&TopK, &plan, &mut params);
        params
    }

    #[test]
    fn what_an_update_lost_goes_into_the_next() {
        let mut update = sparse();
        assert!(!update.needs_residual(0));
        let sent = round(&mut update, 1, [0.0, 0.5, 0.25, 0.0, 0.0, 0.0]);
        assert_eq!(sent, [0.0, 0.5, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(update.residual(), [0.0, 0.0, 0.25, 0.0, 0.0, 0.0]);
        assert!(!update.needs_residual(1));
        let sent = round(&mut update, 2, [0.0, 0.25, 0.125, 0.0, 0.0, 0.0]);
        assert_eq!(sent, [0.0, 0.0, 0.375, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_loss_of_another_round_does_not_count() {
        let mut update = sparse();
        update.needs_residual(0);
        round(&mut update, 1, [0.0, 0.5, 0.25, 0.0, 0.0, 0.0]);
        // The round was not accepted: the aggregator still counts that before it.
        assert!(!update.needs_residual(0), "there is nothing to load");
        let sent = round(&mut update, 2, [0.125, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(sent, [0.125, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert!(update.needs_residual(1), "it holds that of round 2");
    }

    #[test]
    fn everything_kept_is_the_model_itself_and_takes_no_memory() {
        let mut update = sparse();
        let mut all = Encoding::new(&TopK);
        all.set("k", 1.0).unwrap();
        assert!(update.prepare(all, 6));
        assert!(!update.has_feedback() && update.beside.is_empty());
        let mut params = [1.5, 2.5];
        update.begin(&[1.0, 1.0], 7);
        update.end(&mut params, 1);
        assert_eq!(params, [1.5, 2.5]);
    }
}
