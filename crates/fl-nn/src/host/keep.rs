//! State of a training or an evaluation on a host.

use core::mem;
use core::ops::Range;

use super::list::List;
use super::pairs::{Line, Pairs};
use super::pass::{Scratch, with_scratch};
use super::simd::{GROUP, Kernels};
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
    /// Integers of the first layer's weights, later of a batch's deltas, and the units of their columns.
    lines: Vec<Line>,
    /// Those that are of the matrix.
    num_lines: usize,
    pub(super) units: Vec<f32>,
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
            lines: Vec::new(),
            num_lines: 0,
            units: Vec::new(),
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
                self.quantise(&params[weights.clone()], *width, 1.0 / 255.0, false)
            }
            Arithmetic::Float | Arithmetic::Integer => Ok(()),
        }
    }

    /// Lists all inputs, if they are to be kept and are not yet.
    pub fn keep_inputs(&mut self, examples: &Examples<'_>) {
        if self.keeps && self.inputs.len() == 0 {
            // Not before there is work: of many trainings that wait, only the first would find any.
            [self.inputs, self.columns] = with_scratch(|scratch| mem::take(&mut scratch.spare));
            for n in 0..examples.labels.len() {
                (self.kernels.list_pairs)(examples.input(n as u32), &mut self.inputs);
            }
        }
    }

    /// Rounds a matrix of `width` columns to integers, its rows as they are or by example.
    pub(super) fn quantise(
        &mut self,
        values: &[f32],
        width: usize,
        factor: f32,
        by_example: bool,
    ) -> Result<(), TrainError> {
        let lines = (values.len() / width).div_ceil(2) * width.div_ceil(GROUP);
        // Grows alone: what was there is written over.
        if self.lines.len() < lines {
            self.lines.resize(lines, Line::default());
        }
        self.num_lines = lines;
        self.units.resize(width, 0.0);
        let places = by_example.then_some(&*self.places);
        let (units, lines) = (&mut self.units, &mut self.lines[..lines]);
        match (self.kernels.quantise)(values, places, factor, units, lines) {
            true => Ok(()),
            false => Err(TrainError::Diverged),
        }
    }

    /// Integers of the matrix.
    pub(super) fn lines(&self) -> &[Line] {
        &self.lines[..self.num_lines]
    }

    /// Computes the outputs of all layers for example `n`, the logits last.
    pub fn forward(&self, params: &[f32], examples: &Examples<'_>, n: u32, outputs: &mut [f32]) {
        with_scratch(|scratch| self.forward_with(params, examples, n, 0, outputs, scratch));
    }

    /// [`Host::forward`] as example `place` of a block, which leaves the lists of its units.
    pub(super) fn forward_with(
        &self,
        params: &[f32],
        examples: &Examples<'_>,
        n: u32,
        place: usize,
        outputs: &mut [f32],
        Scratch { lists, pairs, .. }: &mut Scratch,
    ) {
        let kernels = self.kernels;
        let own = place * self.layers.len();
        if lists.len() < own + self.layers.len() {
            lists.resize_with(own + self.layers.len(), List::default);
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let list = &mut lists[if index == 0 { 0 } else { own + index }];
            let bias = &params[layer.biases.clone()];
            let (before, sums) = outputs.split_at_mut(layer.outputs.start);
            let sums = &mut sums[..layer.width];
            if index == 0 && self.arithmetic == Arithmetic::Fixed {
                let list = if self.inputs.len() > 0 {
                    self.inputs.get((n as usize).min(self.inputs.len() - 1))
                } else {
                    pairs.clear();
                    (kernels.list_pairs)(examples.input(n), pairs);
                    pairs.get(0)
                };
                (kernels.add_pairs)(self.lines(), list, &self.units, bias, sums);
                continue;
            }
            if index == 0 {
                (kernels.list_octets)(examples.input(n), list);
            } else {
                let units = &mut before[layer.outputs.start - layer.d_in..];
                match self.activation {
                    Activation::Relu => self.activation.apply(units),
                    Activation::Sigmoid => (kernels.sigmoid)(units),
                }
                (kernels.list_units)(units, list);
            }
            (kernels.add_rows)(&params[layer.weights.clone()], list, bias, sums);
        }
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
