//! State of a training or an evaluation on a host.

use core::mem;
use core::ops::Range;

use super::list::List;
use super::pairs::Pairs;
use super::pass::{Pending, Scratch, with_scratch};
use super::rounded::Rounded;
use super::shelf::Use;
use super::simd::{BLOCK, Kernels, Source};
use crate::activation::Activation;
use crate::arithmetic::Arithmetic;
use crate::error::TrainError;
use crate::examples::Examples;
use crate::model::Model;

/// Most octets of examples whose lists a training keeps: some 1,300 images, in a few megabytes.
const KEPT_OCTETS: usize = 1 << 20;

/// Kernels, and what lasts from step to step beside the caller's buffers.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(super) kernels: &'static Kernels,
    pub(super) arithmetic: Arithmetic,
    pub(super) activation: Activation,
    /// The layers, input side first.
    pub(super) layers: Vec<Laid>,
    /// Integers of the first layer's weights, and of a batch's deltas.
    pub(super) weights: Rounded,
    pub(super) moves: Rounded,
    /// A batch whose later gradients are not summed up yet.
    pub(super) pending: Pending,
    /// The lists of all inputs are made once and not in every epoch.
    keeps: bool,
    inputs: Pairs,
    /// As sums are exact, a batch of all examples can have them in any order: lists of all columns, by
    /// example.
    pub(super) columns: Pairs,
    pub(super) keeps_columns: bool,
    /// Place in the batch of each example, if columns are kept.
    pub(super) places: Vec<u32>,
}

/// A layer, and where its parts lie.
#[derive(Clone, Debug)]
pub(super) struct Laid {
    pub d_in: usize,
    pub width: usize,
    /// In the parameters.
    pub weights: Range<usize>,
    pub biases: Range<usize>,
    /// In the outputs of one example.
    pub outputs: Range<usize>,
}

impl Host {
    /// A host for evaluations, unless the plain form is in force.
    pub fn new(model: &Model, arithmetic: Arithmetic) -> Option<Self> {
        let mut begin = 0;
        let lay = |placed: crate::model::Placed| {
            let (weights, width) = (placed.weights(), placed.layer.num_outputs());
            begin += width;
            Laid {
                d_in: placed.layer.num_inputs(),
                width,
                biases: weights.end..placed.params.end,
                weights,
                outputs: begin - width..begin,
            }
        };
        Some(Self {
            kernels: super::kernels()?,
            arithmetic,
            activation: model.activation(),
            layers: model.layers().map(lay).collect(),
            weights: Rounded::default(),
            moves: Rounded::default(),
            pending: Pending::default(),
            keeps: false,
            inputs: Pairs::default(),
            columns: Pairs::default(),
            keeps_columns: false,
            places: Vec::new(),
        })
    }

    /// A host for a training of `epochs` on `num_examples` in batches of `batch`.
    pub fn training(
        model: &Model,
        arithmetic: Arithmetic,
        epochs: u32,
        num_examples: usize,
        batch: usize,
    ) -> Option<Self> {
        if arithmetic == Arithmetic::Integer {
            return None;
        }
        let mut host = Self::new(model, arithmetic)?;
        let octets = model.shape().num_inputs() * num_examples;
        host.keeps = arithmetic == Arithmetic::Fixed && epochs > 1 && octets <= KEPT_OCTETS;
        host.keeps_columns = host.keeps && batch == num_examples;
        Some(host)
    }

    /// Prepares [`Host::forward`] with these parameters.
    pub fn prepare(&mut self, params: &[f32]) -> Result<(), TrainError> {
        match self.arithmetic {
            Arithmetic::Fixed => {
                let Laid { weights, width, .. } = &self.layers[0];
                let matrix = Source {
                    values: &params[weights.clone()],
                    width: *width,
                    places: None,
                };
                self.weights.follow(self.kernels, matrix, 1.0 / 255.0)
            }
            Arithmetic::Float | Arithmetic::Integer => Ok(()),
        }
    }

    /// Lists all inputs, if they are to be kept and are not yet.
    pub fn keep_inputs(&mut self, examples: &Examples<'_>) {
        if self.keeps && self.inputs.len() == 0 {
            // Not before there is work: of many trainings that wait, only the first would find any.
            [self.inputs, self.columns] = with_scratch(|scratch| mem::take(&mut scratch.spare));
            let kernels = self.kernels;
            list(examples, Use::Inputs, &mut self.inputs, |lists| {
                for n in 0..examples.labels.len() {
                    (kernels.list_pairs)(examples.input(n as u32), lists);
                }
            });
        }
    }

    /// Computes the outputs of all layers for example `n`, the logits last.
    pub fn forward(&self, params: &[f32], examples: &Examples<'_>, n: u32, outputs: &mut [f32]) {
        with_scratch(|scratch| {
            let total = self.layers[self.layers.len() - 1].outputs.end;
            self.forward_first(params, examples, &[n], &mut outputs[..total], scratch);
            self.forward_later(params, 0, outputs, scratch);
        });
    }

    /// Computes the outputs of the first layer for a block of examples.
    ///
    /// # Shapes
    /// `outputs`: `[examples, num_outputs]`, all layers'.
    pub(super) fn forward_first(
        &self,
        params: &[f32],
        examples: &Examples<'_>,
        block: &[u32],
        outputs: &mut [f32],
        Scratch { lists, pairs, .. }: &mut Scratch,
    ) {
        let (kernels, layer) = (self.kernels, &self.layers[0]);
        let bias = &params[layer.biases.clone()];
        if self.arithmetic == Arithmetic::Fixed {
            let is_kept = self.inputs.len() > 0;
            if !is_kept {
                pairs.clear();
                for &n in block {
                    (kernels.list_pairs)(examples.input(n), pairs);
                }
            }
            let mut entries: [(&[u32], &[u32]); BLOCK] = [(&[], &[]); BLOCK];
            for ((entry, &n), place) in entries.iter_mut().zip(block).zip(0..) {
                *entry = match is_kept {
                    true => self.inputs.get((n as usize).min(self.inputs.len() - 1)),
                    false => pairs.get(place),
                };
            }
            let (lines, units) = self.weights.get();
            let entries = &entries[..block.len()];
            return (kernels.add_pairs)(lines, entries, units, bias, outputs);
        }
        lists.resize_with(lists.len().max(1), List::default);
        let list = &mut lists[0];
        for (&n, outputs) in block
            .iter()
            .zip(outputs.chunks_exact_mut(outputs.len() / block.len()))
        {
            (kernels.list_octets)(examples.input(n), list);
            let sums = &mut outputs[..layer.width];
            (kernels.add_rows)(&params[layer.weights.clone()], list, bias, sums);
        }
    }

    /// Computes the outputs of the other layers for example `place` of a block, and leaves the lists of its units.
    pub(super) fn forward_later(
        &self,
        params: &[f32],
        place: usize,
        outputs: &mut [f32],
        Scratch { lists, .. }: &mut Scratch,
    ) {
        let kernels = self.kernels;
        let own = place * self.layers.len();
        if lists.len() < own + self.layers.len() {
            lists.resize_with(own + self.layers.len(), List::default);
        }
        for (layer, list) in self.layers.iter().zip(&mut lists[own..]).skip(1) {
            let (before, sums) = outputs.split_at_mut(layer.outputs.start);
            let units = &mut before[layer.outputs.start - layer.d_in..];
            match self.activation {
                Activation::Relu => self.activation.apply(units),
                Activation::Sigmoid => (kernels.sigmoid)(units),
            }
            (kernels.list_units)(units, list);
            let (weights, bias) = (
                &params[layer.weights.clone()],
                &params[layer.biases.clone()],
            );
            (kernels.add_rows)(weights, list, bias, &mut sums[..layer.width]);
        }
    }
}

/// Lists all examples: from the shelf, or by `write`, and then for the shelf.
pub(super) fn list(
    examples: &Examples<'_>,
    of: Use,
    lists: &mut Pairs,
    write: impl FnOnce(&mut Pairs),
) {
    let Some((shelf, place)) = examples.shelf() else {
        return write(lists);
    };
    if !shelf.take(place, of, lists) {
        write(lists);
        shelf.keep(place, of, lists);
    }
}

/// Gives the memory of the lists to the next training: fresh pages would cost more than the lists.
impl Drop for Host {
    fn drop(&mut self) {
        if self.inputs.len() > 0 {
            let mut lists = [&mut self.inputs, &mut self.columns].map(mem::take);
            lists.iter_mut().for_each(Pairs::clear);
            with_scratch(|scratch| scratch.spare = lists);
        }
    }
}
