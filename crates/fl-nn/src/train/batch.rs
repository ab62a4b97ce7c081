//! The two passes of a batch.
//!
//! The *example pass* runs each example forward and back, adds up the gradients of the later layers, and
//! keeps the first layer's deltas. The *row pass* then takes some rows of the first layer's weights at a time,
//! sums their gradient over the batch, and applies it: the whole gradient is as large as the weights
//! and is never stored. Either pass can stop anywhere, since all that it sums is either exact or summed in
//! the order of the examples.

use core::mem;
use core::ops::Range;

use super::TrainConfig;
use super::integer::Integer;
use super::update::{Hook, Rule, Update};
use crate::arithmetic::Arithmetic;
use crate::error::TrainError;
use crate::examples::Examples;
use crate::kernels::level;
use crate::layer::OctetPass;
use crate::loss;
use crate::memory::{Regions, WorkBuffers};
use crate::model::{Model, Placed, PlacedLayers};

/// A batch under way, in the buffers of the caller.
pub(crate) struct Batch<'a> {
    pub model: &'a Model,
    pub config: &'a TrainConfig,
    pub examples: Examples<'a>,
    /// Examples of this batch.
    pub order: &'a [u32],
    pub buffers: WorkBuffers<'a>,
    /// Integers of the caller beyond the plan.
    pub spare: &'a mut [i32],
    /// Lists by columns.
    pub columns: Listing,
    /// Formats and losses of a training in integers.
    pub integer: Integer,
    /// The vector instructions of a host.
    #[cfg(feature = "host")]
    pub host: Option<Box<crate::host::Host>>,
}

impl<'a> Batch<'a> {
    /// Prepares the example pass.
    pub fn begin(&mut self, params: &[f32]) -> Result<(), TrainError> {
        // A host clears the gradients if it is to add to them.
        #[cfg(feature = "host")]
        if let Some(host) = &mut self.host {
            host.keep_inputs(&self.examples);
            return host.prepare(params);
        }
        self.buffers.gradients.fill(0.0);
        if self.config.is_integer() {
            self.begin_integers(params);
            return Ok(());
        }
        let Placed {
            layer,
            params: place,
        } = self.model.first();
        let octets = &mut self.buffers.octets;
        layer.prepare_forward(self.config.arithmetic, &params[place], octets)
    }

    /// Runs the examples at `positions` of the batch, and adds their losses.
    pub fn run_examples(
        &mut self,
        params: &[f32],
        positions: Range<usize>,
        loss_sum: &mut f64,
        hook: &mut Hook<'_>,
    ) -> Result<(), TrainError> {
        #[cfg(feature = "host")]
        if let Some(mut host) = self.host.take() {
            let done = host.run_examples(self, params, positions, loss_sum, hook);
            self.host = Some(host);
            return done;
        }
        if self.config.is_integer() {
            return self.run_integers(params, positions);
        }
        let layers = self.model.placed();
        for position in positions {
            let example = self.order[position];
            self.forward(&layers, params, example);
            let label = self.examples.label(example)?;
            let loss = self.backward(&layers, params, (label, position), hook)?;
            *loss_sum += f64::from(loss);
        }
        Ok(())
    }

    /// Leaves the outputs of all layers in the buffers.
    fn forward(&mut self, layers: &PlacedLayers, params: &[f32], n: u32) {
        let Placed {
            layer,
            params: place,
        } = self.model.first();
        let Regions {
            octets, outputs, ..
        } = &mut self.buffers;
        let sums = &mut outputs[..layer.num_outputs()];
        let example = (&self.examples, n);
        layer.forward_octets(
            self.config.arithmetic,
            &params[place],
            example,
            octets,
            sums,
        );
        self.model.finish_forward(layers, params, outputs);
    }

    /// Adds to the gradients, keeps the first layer's deltas at `position`, and returns the loss.
    fn backward(
        &mut self,
        layers: &PlacedLayers,
        params: &[f32],
        (label, position): (usize, usize),
        hook: &mut Hook<'_>,
    ) -> Result<f32, TrainError> {
        let first = self.model.first();
        let offset = first.weights().end;
        let Regions {
            octets,
            gradients,
            outputs,
            derivatives: [upper, lower],
            ..
        } = &mut self.buffers;
        let shape = self.model.shape();
        let mut end = outputs.len();
        let logits = &outputs[end - shape.num_classes()..];
        let loss = loss::cross_entropy_gradient(logits, label, &mut upper[..logits.len()]);
        if !loss.is_finite() {
            return Err(TrainError::Diverged);
        }
        if let Some(correction) = hook {
            correction.outputs(label, logits, &mut upper[..logits.len()]);
        }
        for Placed {
            layer,
            params: place,
        } in layers.later().iter().rev()
        {
            end -= layer.num_outputs();
            let inputs = &outputs[end - layer.num_inputs()..end];
            let deltas = &upper[..layer.num_outputs()];
            let gradient = &mut gradients[place.start - offset..place.end - offset];
            layer.add_gradient(inputs, deltas, gradient);
            let below = &mut lower[..layer.num_inputs()];
            layer.backward(
                &params[place.clone()],
                self.model.activation(),
                inputs,
                deltas,
                below,
            );
            mem::swap(upper, lower);
        }
        let deltas = &upper[..first.layer.num_outputs()];
        let biases = &mut gradients[..first.params.end - offset];
        first.layer.keep_deltas(position, deltas, octets, biases);
        Ok(loss)
    }

    /// Sums up gradients of rows as far as `budget`, in examples, is enough: the rows that can be applied now, and
    /// where to go on, if anything is left to do.
    pub fn rows(
        &mut self,
        place: RowPlace,
        budget: &mut usize,
    ) -> (Range<usize>, Option<RowPlace>) {
        // All rows together cost about as much as one pass over the batch.
        let layer = self.model.first().layer;
        let (len, num_rows) = (self.order.len(), layer.num_rows());
        let RowPlace { row, example } = place;
        let after = |row| (row < num_rows).then_some(RowPlace { row, example: 0 });
        #[cfg(feature = "host")]
        if self.host.is_some() {
            let share = (*budget as u64 * num_rows as u64 / len as u64).next_multiple_of(4);
            let end = (row as u64 + share.max(4)).min(num_rows as u64) as usize;
            let spent = (end - row) as u64 * len as u64 / num_rows as u64;
            *budget = budget.saturating_sub((spent as usize).max(1));
            return (row..end, after(end));
        }
        if self.columns.is_used {
            let share = (*budget as u64 * num_rows as u64 / len as u64).next_multiple_of(2);
            let rows = (share.max(2) as usize).min(layer.rows_at_once());
            let rows = row..num_rows.min(row + rows);
            layer.sum_columns(&mut self.split().0, rows.clone());
            let spent = rows.len() as u64 * len as u64 / num_rows as u64;
            *budget = budget.saturating_sub((spent as usize).max(1));
            return (rows.clone(), after(rows.end));
        }
        let rows = row..num_rows.min(row + layer.rows_at_once());
        let share = *budget as u64 * num_rows as u64 / rows.len() as u64;
        let end = (example as u64 + share.max(1)).min(len as u64) as usize;
        layer.sum_rows(&mut self.split().0, row, example..end);
        let spent = (end - example) as u64 * rows.len() as u64 / num_rows as u64;
        *budget = budget.saturating_sub((spent as usize).max(1));
        match end < len {
            true => (row..row, Some(RowPlace { row, example: end })),
            false => (rows.clone(), after(rows.end)),
        }
    }

    /// Prepares the row pass.
    pub fn begin_rows(&mut self) -> Result<(), TrainError> {
        let layer = self.model.first().layer;
        #[cfg(feature = "host")]
        if let Some(mut host) = self.host.take() {
            let begun = host.begin_rows(layer.num_outputs(), &self.split().0);
            self.host = Some(host);
            return begun;
        }
        if self.config.is_integer() {
            self.begin_integer_rows();
            return Ok(());
        }
        let mut columns = self.columns;
        let mut pass = self.split().0;
        layer.prepare_rows(&mut pass)?;
        columns.is_used = pass.arithmetic == Arithmetic::Fixed
            && level::has_columns()
            && (columns.are_kept || layer.fill_columns(&mut pass));
        columns.are_kept = columns.is_used && pass.keeps_columns;
        if columns.is_used {
            layer.keep_column_deltas(&mut pass);
        }
        self.columns = columns;
        Ok(())
    }

    /// Applies the gradients of everything but the first layer's weights, by plain SGD.
    pub fn update_later(&mut self, params: &mut [f32]) {
        if self.config.is_integer() {
            return self.update_later_integers(params);
        }
        let rate = self.rate();
        let later = &mut params[self.model.first().weights().end..];
        #[cfg(feature = "host")]
        if let Some(host) = &mut self.host {
            return host.step_later(rate, self.buffers.gradients, later);
        }
        for (param, gradient) in later.iter_mut().zip(&*self.buffers.gradients) {
            *param -= rate * gradient;
        }
    }

    /// Applies the gradients of `rows` of the first layer, by plain SGD.
    pub fn update_rows(&mut self, params: &mut [f32], rows: Range<usize>) {
        if self.config.is_integer() {
            return self.update_integer_rows(params, rows);
        }
        let layer = self.model.first().layer;
        let width = layer.num_outputs();
        let weights = &mut params[rows.start * width..rows.end * width];
        #[cfg(feature = "host")]
        if let Some(mut host) = self.host.take() {
            host.update_rows(width, &self.split().0, rows, weights);
            self.host = Some(host);
            return;
        }
        layer.update_rows(&mut self.split().0, weights);
    }

    /// Visits the gradients of everything but the first layer's weights, segment by segment.
    pub fn visit_later(&mut self, rule: Rule<'_, '_>, params: &mut [f32]) {
        let config = self.config;
        #[cfg(feature = "host")]
        if let Some(host) = &mut self.host {
            host.settle(self.buffers.gradients);
        }
        let (pass, later) = self.split();
        let mut update = Update::new(config, rule, later.state, later.scratch);
        let mut first = params.len() - later.gradients.len();
        for sums in later.gradients.chunks(later.steps.len()) {
            let steps = &mut later.steps[..sums.len()];
            let pairs = steps.iter_mut().zip(sums);
            pairs.for_each(|(step, sum)| *step = -(pass.rate * sum));
            update.visit(first, &mut params[first..first + sums.len()], steps);
            first += sums.len();
        }
    }

    /// Visits the gradients of `rows` of the first layer, row by row.
    pub fn visit_rows(&mut self, rule: Rule<'_, '_>, params: &mut [f32], rows: Range<usize>) {
        let (config, layer) = (self.config, self.model.first().layer);
        let width = layer.num_outputs();
        #[cfg(feature = "host")]
        let host = self.host.take();
        let (mut pass, later) = self.split();
        let mut update = Update::new(config, rule, later.state, later.scratch);
        let visit = &mut |row: usize, steps: &[f32]| {
            let first = row * width;
            update.visit(first, &mut params[first..first + width], steps);
        };
        #[cfg(feature = "host")]
        if let Some(host) = host {
            host.visit_rows(width, &pass, rows, visit);
            self.host = Some(host);
            return;
        }
        for (place, row) in rows.enumerate() {
            // A row of zeros that is updated is left with what the update subtracts.
            let steps = &mut later.steps[..width];
            steps.fill(0.0);
            layer.update_row(&mut pass, place, steps);
            visit(row, steps);
        }
    }

    /// The first layer's part of the batch, and the rest of the buffers.
    fn split(&mut self) -> (OctetPass<'_>, Later<'_>) {
        let rate = self.rate();
        let Regions {
            octets,
            gradients,
            derivatives: [steps, scratch],
            state,
            ..
        } = &mut self.buffers;
        let pass = OctetPass {
            arithmetic: self.config.arithmetic,
            rate,
            examples: self.examples,
            order: self.order,
            memory: octets.reborrow(),
            spare: self.spare,
            keeps_columns: self.order.len() == self.examples.labels.len(),
        };
        let later = Later {
            gradients,
            state,
            steps,
            scratch,
        };
        (pass, later)
    }

    /// Factor of a summed gradient.
    fn rate(&self) -> f32 {
        self.config.scale() / self.order.len() as f32
    }
}

/// Lists of the inputs by columns, in memory beyond the plan.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Listing {
    /// True if the gradient of this batch is summed up from them.
    pub is_used: bool,
    /// True if they are those of all examples, which every batch has.
    are_kept: bool,
}

/// Place in the row pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RowPlace {
    /// First of the rows that are summed up.
    pub row: usize,
    /// Next example of the batch to add to them.
    pub example: usize,
}

/// Buffers of the row pass beside the first layer's.
struct Later<'a> {
    gradients: &'a [f32],
    state: &'a mut [f32],
    /// Steps of one segment.
    steps: &'a mut [f32],
    /// Gradient of one segment.
    scratch: &'a mut [f32],
}
