//! The two passes of a batch.
//!
//! The *example pass* runs each example forward and back, adds up the gradients of the later layers, and
//! keeps the first layer's deltas. The *input pass* then takes the inputs one by one, sums that input's
//! row of the first layer's gradient over the batch, and applies it: that gradient is as large as the
//! weights and is never stored. Either pass can stop anywhere, since all that it sums is either exact or
//! summed in the order of the examples.

use core::mem;
use core::ops::Range;

use crate::error::TrainError;
use crate::model::Model;
use crate::plan::Workspace;
use crate::quantise::{Ints, quantise};
use crate::train::{Arithmetic, Trainer};
use crate::{dense, fixed, float, loss, sparse};

/// The examples of a training, lengths checked.
#[derive(Clone, Copy)]
pub(crate) struct Examples<'a> {
    /// Row-major `[num_examples, d_in]`.
    pub inputs: &'a [u8],
    /// `[num_examples]`, at least one.
    pub labels: &'a [u8],
    pub d_in: usize,
    pub num_classes: usize,
}

impl<'a> Examples<'a> {
    /// The octets of example `n`; of the last one if a stranger has written to the order.
    fn input(&self, n: u32) -> &'a [u8] {
        let n = (n as usize).min(self.labels.len() - 1);
        &self.inputs[n * self.d_in..][..self.d_in]
    }

    /// Four octets of example `n` from `begin` on, those beyond its end zero.
    #[inline(always)]
    fn word(&self, n: u32, begin: usize) -> u32 {
        let place = (n as usize).wrapping_mul(self.d_in).wrapping_add(begin);
        match self
            .inputs
            .get(place..)
            .and_then(|octets| octets.first_chunk())
        {
            Some(word) if begin + 4 <= self.d_in => u32::from_le_bytes(*word),
            _ => sparse::word_at(self.input(n), begin),
        }
    }

    /// The class of example `n`, checked again since each step brings the labels anew.
    fn label(&self, n: u32) -> Result<usize, TrainError> {
        let label = self.labels[(n as usize).min(self.labels.len() - 1)];
        if usize::from(label) < self.num_classes {
            Ok(usize::from(label))
        } else {
            Err(TrainError::Label { example: n, label })
        }
    }
}

/// The parts of [`Workspace::floats`].
struct Floats<'a> {
    /// First-layer deltas of the batch, `[batch, d_out]`.
    deltas: &'a mut [f32],
    /// Units of the first layer's columns, of its weights or its deltas; scratch to the f32 form.
    units: &'a mut [f32],
    /// Gradients of all parameters behind the first layer's weights.
    gradients: &'a mut [f32],
    /// Outputs of one example.
    outputs: &'a mut [f32],
    /// Derivatives by the sums of the current layer, and of the one below.
    derivatives: [&'a mut [f32]; 2],
}

/// Elements of [`Workspace::floats`] besides gradients.
pub(crate) fn num_activations(model: &Model, batch: usize) -> u64 {
    let first = model.shape().layer(0).d_out;
    (batch as u64 + 1) * first as u64 + model.num_outputs() as u64 + 2 * widest(model) as u64
}

fn widest(model: &Model) -> usize {
    model
        .shape()
        .layers()
        .map(|layer| layer.d_out)
        .max()
        .unwrap_or(0)
}

impl Trainer {
    fn split<'a>(&self, floats: &'a mut [f32]) -> Floats<'a> {
        let shape = self.model.shape();
        let first = shape.layer(0);
        let (deltas, rest) = floats.split_at_mut(self.batch_size * first.d_out);
        let (units, rest) = rest.split_at_mut(first.d_out);
        let (gradients, rest) = rest.split_at_mut(shape.num_params() - first.weights().len());
        let (outputs, rest) = rest.split_at_mut(self.model.num_outputs());
        let (upper, rest) = rest.split_at_mut(widest(&self.model));
        let lower = &mut rest[..widest(&self.model)];
        Floats {
            deltas,
            units,
            gradients,
            outputs,
            derivatives: [upper, lower],
        }
    }

    fn ints<'a>(&self, words: &'a mut [i32]) -> Ints<'a> {
        Ints::new(words, self.model.shape().num_inputs(), self.batch_size)
    }

    /// Before the example pass.
    pub(crate) fn begin_batch(
        &mut self,
        params: &[f32],
        workspace: &mut Workspace<'_>,
    ) -> Result<(), TrainError> {
        let floats = self.split(workspace.floats);
        floats.gradients.fill(0.0);
        if self.config.arithmetic == Arithmetic::Fixed {
            let weights = &params[self.model.shape().layer(0).weights()];
            quantise(
                weights,
                1.0 / 255.0,
                floats.units,
                &mut self.ints(workspace.ints),
            )?;
        }
        Ok(())
    }

    /// The example pass over `positions` of the batch.
    pub(crate) fn run_examples(
        &mut self,
        params: &[f32],
        examples: Examples<'_>,
        workspace: &mut Workspace<'_>,
        positions: Range<usize>,
    ) -> Result<(), TrainError> {
        let mut floats = self.split(workspace.floats);
        let mut ints = self.ints(workspace.ints);
        for position in positions {
            let example = workspace.order[self.batch_begin + position];
            self.forward(params, examples.input(example), &mut floats, &mut ints);
            let label = examples.label(example)?;
            let loss = self.backward(params, label, &mut floats, position)?;
            self.loss_sum += f64::from(loss);
        }
        Ok(())
    }

    /// Leaves the outputs of all layers in `floats.outputs`.
    fn forward(&self, params: &[f32], input: &[u8], floats: &mut Floats<'_>, ints: &mut Ints<'_>) {
        let first = self.model.shape().layer(0);
        let sums = &mut floats.outputs[..first.d_out];
        let (weights, bias) = params[first.params()].split_at(first.weights().len());
        match self.config.arithmetic {
            Arithmetic::Fixed => fixed::forward(ints, floats.units, bias, input, sums),
            Arithmetic::Float => float::forward(weights, bias, input, sums),
        }
        self.model.finish_forward(params, floats.outputs);
    }

    /// Adds to the gradients, keeps the first layer's deltas at `position`, and tells the loss.
    fn backward(
        &self,
        params: &[f32],
        label: usize,
        floats: &mut Floats<'_>,
        position: usize,
    ) -> Result<f32, TrainError> {
        let shape = self.model.shape();
        let first = shape.layer(0);
        let offset = first.weights().len();
        let [upper, lower] = &mut floats.derivatives;
        let mut end = floats.outputs.len();
        let logits = &floats.outputs[end - shape.num_classes()..];
        let loss = loss::cross_entropy_gradient(logits, label, &mut upper[..logits.len()]);
        if !loss.is_finite() {
            return Err(TrainError::Diverged);
        }
        for index in (1..shape.num_layers()).rev() {
            let layer = shape.layer(index);
            end -= layer.d_out;
            let inputs = &floats.outputs[end - layer.d_in..end];
            let deltas = &upper[..layer.d_out];
            let range = layer.params();
            let gradient = &mut floats.gradients[range.start - offset..range.end - offset];
            dense::add_gradient(gradient, inputs, deltas);
            let below = &mut lower[..layer.d_in];
            dense::backward(
                &params[range],
                self.model.activation(),
                inputs,
                deltas,
                below,
            );
            mem::swap(upper, lower);
        }
        let deltas = &upper[..first.d_out];
        dense::add(&mut floats.gradients[..first.d_out], deltas);
        floats.deltas[position * first.d_out..][..first.d_out].copy_from_slice(deltas);
        Ok(loss)
    }

    /// Between the passes: applies the gradients of everything but the first layer's weights.
    pub(crate) fn begin_inputs(
        &mut self,
        params: &mut [f32],
        workspace: &mut Workspace<'_>,
    ) -> Result<(), TrainError> {
        let first = self.model.shape().layer(0);
        let rate = self.rate();
        let floats = self.split(workspace.floats);
        let later = &mut params[first.weights().end..];
        for (param, gradient) in later.iter_mut().zip(&*floats.gradients) {
            *param -= rate * gradient;
        }
        if self.config.arithmetic == Arithmetic::Fixed {
            let deltas = &floats.deltas[..self.batch_len() * first.d_out];
            quantise(
                deltas,
                rate / 255.0,
                floats.units,
                &mut self.ints(workspace.ints),
            )?;
        }
        Ok(())
    }

    /// The input pass over `range` of the inputs; it starts at a multiple of four.
    pub(crate) fn run_inputs(
        &mut self,
        params: &mut [f32],
        examples: Examples<'_>,
        workspace: &mut Workspace<'_>,
        range: Range<usize>,
    ) {
        let batch = self.batch_len();
        let first = self.model.shape().layer(0);
        let rate = self.rate();
        let order = &workspace.order[self.batch_begin..][..batch];
        let Floats { deltas, units, .. } = self.split(workspace.floats);
        let weights = &mut params[range.start * first.d_out..range.end * first.d_out];
        match self.config.arithmetic {
            Arithmetic::Fixed => {
                let mut ints = self.ints(workspace.ints);
                for (begin, rows) in range.step_by(4).zip(weights.chunks_mut(4 * first.d_out)) {
                    let word_of = |n| examples.word(n, begin);
                    fixed::update(&mut ints, units, order, word_of, rows);
                }
            }
            Arithmetic::Float => {
                for (input, row) in range.zip(weights.chunks_exact_mut(first.d_out)) {
                    let octets = order.iter().map(|&n| examples.input(n)[input]);
                    float::update(deltas, rate, octets, units, row);
                }
            }
        }
    }

    /// What a summed gradient is multiplied with.
    fn rate(&self) -> f32 {
        self.config.learning_rate / self.batch_len() as f32
    }
}
