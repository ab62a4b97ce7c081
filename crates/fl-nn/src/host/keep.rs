//! State of a training or an evaluation on a host.

use super::list::List;
use super::pairs::{Line, Pairs};
use super::pass::{Scratch, with_scratch};
use super::simd::{GROUP, Kernels};
use crate::activation::Activation;
use crate::arithmetic::Arithmetic;
use crate::error::TrainError;
use crate::examples::Examples;
use crate::model::{Model, Placed};

/// Most octets of examples whose lists a training keeps: some 600 images, in less than a megabyte.
const KEPT_OCTETS: usize = 1 << 20;

/// Kernels, and what lasts from step to step beside the caller's buffers.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(super) kernels: &'static Kernels,
    pub(super) arithmetic: Arithmetic,
    /// Integers of the first layer's weights, later of a batch's deltas, and the units of their columns.
    pub(super) lines: Vec<Line>,
    pub(super) units: Vec<f32>,
    /// Passes over the examples read the lists of all inputs from here instead of making them anew.
    keeps: bool,
    inputs: Pairs,
    /// As sums are exact, a batch of all examples can have them in any order: lists of all columns, by
    /// example.
    pub(super) columns: Pairs,
    pub(super) keeps_columns: bool,
    /// Place in the batch of each example, if columns are kept.
    pub(super) places: Vec<u32>,
}

impl Host {
    /// A host, unless the plain form is in force.
    pub fn new(arithmetic: Arithmetic) -> Option<Self> {
        super::kernels().map(|kernels| Self {
            kernels,
            arithmetic,
            lines: Vec::new(),
            units: Vec::new(),
            keeps: false,
            inputs: Pairs::default(),
            columns: Pairs::default(),
            keeps_columns: false,
            places: Vec::new(),
        })
    }

    /// A host for a training of several epochs, or of one.
    pub fn training(
        arithmetic: Arithmetic,
        epochs: u32,
        octets: usize,
        is_whole: bool,
    ) -> Option<Self> {
        let mut host = Self::new(arithmetic)?;
        host.keeps = arithmetic == Arithmetic::Fixed && epochs > 1 && octets <= KEPT_OCTETS;
        host.keeps_columns = host.keeps && is_whole;
        Some(host)
    }

    /// Prepares [`Host::forward`] with these parameters.
    pub fn prepare(&mut self, model: &Model, params: &[f32]) -> Result<(), TrainError> {
        match self.arithmetic {
            Arithmetic::Fixed => {
                let first = model.first();
                let weights = &params[first.weights()];
                self.quantise(weights, first.layer.num_outputs(), 1.0 / 255.0, false)
            }
            Arithmetic::Float => Ok(()),
        }
    }

    /// Lists all inputs, if they are to be kept and are not yet.
    pub fn keep_inputs(&mut self, examples: &Examples<'_>) {
        if self.keeps && self.inputs.len() == 0 {
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
        self.lines.resize(lines, Line::default());
        self.units.resize(width, 0.0);
        let places = by_example.then_some(&*self.places);
        let (units, lines) = (&mut self.units, &mut self.lines);
        match (self.kernels.quantise)(values, places, factor, units, lines) {
            true => Ok(()),
            false => Err(TrainError::Diverged),
        }
    }

    /// Computes the outputs of all layers for example `n`, the logits last.
    pub fn forward(
        &self,
        model: &Model,
        params: &[f32],
        examples: &Examples<'_>,
        n: u32,
        outputs: &mut [f32],
    ) {
        with_scratch(|Scratch { list, pairs, .. }| {
            self.forward_with(model, params, examples, n, outputs, list, pairs);
        });
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "the memory of a thread is two of them"
    )]
    pub(super) fn forward_with(
        &self,
        model: &Model,
        params: &[f32],
        examples: &Examples<'_>,
        n: u32,
        outputs: &mut [f32],
        list: &mut List,
        pairs: &mut Pairs,
    ) {
        let kernels = self.kernels;
        let mut begin = 0;
        for (
            index,
            Placed {
                layer,
                params: place,
            },
        ) in model.layers().enumerate()
        {
            let (weights, bias) = params[place].split_at(layer.num_weights());
            let (before, after) = outputs.split_at_mut(begin);
            let sums = &mut after[..layer.num_outputs()];
            begin += layer.num_outputs();
            sums.copy_from_slice(bias);
            match (index, self.arithmetic) {
                (0, Arithmetic::Fixed) if self.inputs.len() > 0 => {
                    let kept = (n as usize).min(self.inputs.len() - 1);
                    let list = self.inputs.get(kept);
                    (kernels.add_pairs)(&self.lines, list, &self.units, sums, false);
                    continue;
                }
                (0, Arithmetic::Fixed) => {
                    pairs.clear();
                    (kernels.list_pairs)(examples.input(n), pairs);
                    (kernels.add_pairs)(&self.lines, pairs.get(0), &self.units, sums, false);
                    continue;
                }
                (0, Arithmetic::Float) => (kernels.list_octets)(examples.input(n), list),
                _ => {
                    let units = &mut before[begin - layer.num_outputs() - layer.num_inputs()..];
                    apply(kernels, model.activation(), units);
                    (kernels.list_units)(units, list);
                }
            }
            (kernels.add_rows)(weights, list, sums);
        }
    }
}

/// [`Activation::apply`].
fn apply(kernels: &Kernels, activation: Activation, units: &mut [f32]) {
    match activation {
        Activation::Relu => activation.apply(units),
        Activation::Sigmoid => (kernels.sigmoid)(units),
    }
}
