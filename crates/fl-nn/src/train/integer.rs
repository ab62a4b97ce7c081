//! The passes of a batch in integers: the forms of [`super::batch`] without a float.
//!
//! While a training lasts, its parameters are fixed-point numbers in the memory of the floats, and so is everything in
//! the buffers.

use core::mem;
use core::ops::Range;

use bytemuck::{cast_slice, cast_slice_mut};

use super::batch::Batch;
use crate::error::TrainError;
use crate::kernels::integer::number::{Factor, from_f32, places, saturated, to_f32};
use crate::kernels::integer::{DELTAS, SUMS, dense, first, softmax};
use crate::kernels::quantise::sums_at_once;
use crate::memory::Regions;
use crate::model::Placed;
use crate::shape::MAX_LAYERS;

/// Formats and losses of a training in integers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Integer {
    /// Places of the parameters.
    places: u32,
    /// Sum of the losses of an epoch.
    losses: u64,
}

impl Integer {
    /// Turns parameters into integers.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] if one is too large or not finite; nothing has changed then.
    pub fn begin(params: &mut [f32]) -> Result<Self, TrainError> {
        let places = places(params)?;
        for param in params {
            *param = f32::from_bits(from_f32(*param, places) as u32);
        }
        Ok(Self { places, losses: 0 })
    }

    /// Begins an epoch.
    pub fn begin_epoch(&mut self) {
        self.losses = 0;
    }

    /// Mean loss of an epoch of so many examples.
    pub fn mean_loss(&self, num_examples: usize) -> f32 {
        let mean = self.losses / num_examples as u64;
        to_f32(saturated(mean as i64), SUMS)
    }

    /// Turns parameters back into floats.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] if one has left the numbers that there are.
    pub fn end(&self, params: &mut [f32]) -> Result<(), TrainError> {
        for param in params {
            let integer = param.to_bits() as i32;
            if integer == i32::MAX || integer == i32::MIN {
                return Err(TrainError::Diverged);
            }
            *param = to_f32(integer, self.places);
        }
        Ok(())
    }
}

impl Batch<'_> {
    /// [`Batch::begin`].
    pub(super) fn begin_integers(&mut self, params: &[f32]) {
        let weights = cast_slice(&params[self.model.first().weights()]);
        let octets = &mut self.buffers.octets;
        first::quantise(weights, cast_slice_mut(octets.units), octets.pairs);
    }

    /// [`Batch::run_examples`].
    pub(super) fn run_integers(
        &mut self,
        params: &[f32],
        positions: Range<usize>,
    ) -> Result<(), TrainError> {
        let params: &[i32] = cast_slice(params);
        for position in positions {
            let example = self.order[position];
            let input_places = self.forward_integers(params, example);
            let label = self.examples.label(example)?;
            self.integer.losses += self.backward_integers(params, label, position, &input_places);
        }
        Ok(())
    }

    /// Leaves the outputs of all layers in the buffers, and returns the places of those that enter each.
    fn forward_integers(&mut self, params: &[i32], n: u32) -> [u32; MAX_LAYERS] {
        let places = self.integer.places;
        let Regions {
            octets, outputs, ..
        } = &mut self.buffers;
        let outputs: &mut [i32] = cast_slice_mut(outputs);
        let mut formats = [0; MAX_LAYERS];
        let mut begin = 0;
        for ((index, placed), format) in self.model.layers().enumerate().zip(&mut formats) {
            let Placed {
                layer,
                params: place,
            } = &placed;
            let (d_in, width) = (layer.num_inputs(), layer.num_outputs());
            if index == 0 {
                let list = self.examples.list(n, octets.list);
                let weights = (&*octets.pairs, cast_slice(octets.units), places);
                let bias = &params[placed.weights().end..place.end];
                first::forward(weights, bias, list, d_in, &mut outputs[..width]);
                continue;
            }
            let (before, after) = outputs.split_at_mut(begin + d_in);
            let inputs = &mut before[begin..];
            *format = dense::outputs(self.model.activation(), inputs);
            let params = (&params[place.clone()], places);
            dense::forward(params, (inputs, *format), &mut after[..width]);
            begin += d_in;
        }
        formats
    }

    /// [`Batch::backward`].
    fn backward_integers(
        &mut self,
        params: &[i32],
        label: usize,
        position: usize,
        input_places: &[u32; MAX_LAYERS],
    ) -> u64 {
        let places = self.integer.places;
        let length = dense::length_bits(self.order.len());
        let first = self.model.first();
        let offset = first.weights().end;
        let Regions {
            octets,
            gradients,
            outputs,
            derivatives: [upper, lower],
            ..
        } = &mut self.buffers;
        let gradients: &mut [i32] = cast_slice_mut(gradients);
        let outputs: &[i32] = cast_slice(outputs);
        let [mut upper, mut lower] = [upper, lower].map(|part| cast_slice_mut::<f32, i32>(part));
        let shape = self.model.shape();
        let mut end = outputs.len();
        let logits = &outputs[end - shape.num_classes()..];
        let loss = softmax::cross_entropy_gradient(logits, label, &mut upper[..logits.len()]);
        for index in (1..shape.num_layers()).rev() {
            let Placed {
                layer,
                params: place,
            } = self.model.layer(index);
            end -= layer.num_outputs();
            let inputs = &outputs[end - layer.num_inputs()..end];
            let deltas = &mut upper[..layer.num_outputs()];
            let gradient = &mut gradients[place.start - offset..place.end - offset];
            let (gradient, biases) = gradient.split_at_mut(layer.num_weights());
            dense::add_biases(biases, deltas, length);
            let delta_places = dense::round_deltas(deltas);
            let deltas = (&*deltas, delta_places);
            dense::add_gradient(gradient, (inputs, input_places[index]), deltas, length);
            let below = &mut lower[..layer.num_inputs()];
            let params = (&params[place], places);
            dense::backward(params, self.model.activation(), inputs, deltas, below);
            mem::swap(&mut upper, &mut lower);
        }
        let width = first.layer.num_outputs();
        let (deltas, biases) = (&upper[..width], &mut gradients[..width]);
        dense::add_biases(biases, deltas, length);
        octets.deltas[position * width..][..width].copy_from_slice(cast_slice(deltas));
        loss
    }

    /// [`Batch::begin_rows`].
    pub(super) fn begin_integer_rows(&mut self) {
        let width = self.model.first().layer.num_outputs();
        let octets = &mut self.buffers.octets;
        let deltas = cast_slice_mut(&mut octets.deltas[..self.order.len() * width]);
        first::quantise_in_place(deltas, cast_slice_mut(octets.units));
    }

    /// [`Batch::update_later`].
    pub(super) fn update_later_integers(&mut self, params: &mut [f32]) {
        let length = self.order.len();
        let sums = (DELTAS - dense::length_bits(length)) as i32;
        let factor = Factor::ratio(self.config.learning_rate, length as u32);
        let step = factor.step(self.integer.places, sums);
        let later = &mut params[self.model.first().weights().end..];
        let gradients: &[i32] = cast_slice(self.buffers.gradients);
        for (param, &sum) in cast_slice_mut(later).iter_mut().zip(gradients) {
            *param = dense::moved(*param, step.of(sum));
        }
    }

    /// [`Batch::update_rows`].
    pub(super) fn update_integer_rows(&mut self, params: &mut [f32], rows: Range<usize>) {
        let layer = self.model.first().layer;
        let (width, at_once) = (layer.num_outputs(), sums_at_once(layer.num_inputs()));
        let divisor = 255 * self.order.len() as u32;
        let factor = Factor::ratio(self.config.learning_rate, divisor);
        let octets = &mut self.buffers.octets;
        let weights = &mut params[rows.start * width..rows.end * width];
        let rows = cast_slice_mut(weights).chunks_exact_mut(width);
        for (place, row) in rows.enumerate() {
            let factor = (factor, cast_slice(octets.units));
            first::subtract(
                octets.pairs,
                (at_once, place),
                factor,
                (row, self.integer.places),
            );
        }
    }
}
