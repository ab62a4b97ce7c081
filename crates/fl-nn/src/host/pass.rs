//! The two passes of a batch ([`crate::train`]), a block of examples at a time.
//!
//! A block's outputs and deltas are kept, so that each row of a gradient is read and written once a block
//! and not once an example. Its sums are in the order of the examples all the same.

use core::mem;
use core::ops::Range;
use std::cell::Cell;

use super::keep::{Host, Laid, list};
use super::list::List;
use super::pairs::Pairs;
use super::rounded::sum_of;
use super::shelf::Use;
use super::simd::{BLOCK, CHUNK, Floats, GROUP, Kernels, RoundedRows, Source};
use crate::activation::Activation;
use crate::arithmetic::Arithmetic;
use crate::error::TrainError;
use crate::examples::Examples;
use crate::layer::OctetPass;
use crate::loss;
use crate::train::{Batch, Hook};

/// Fewest weights of a first layer whose integers are followed: to round a few anew takes less time.
const FOLLOWED: usize = 1 << 13;

/// Memory of a thread, for one step.
#[derive(Default)]
pub(super) struct Scratch {
    /// Units that are not zero: of each example of a block those that enter each layer; the first list is of
    /// octets.
    pub lists: Vec<List>,
    /// One list, of octets as pairs.
    pub pairs: Pairs,
    /// `[BLOCK, num_outputs]`, layer after layer in each.
    outputs: Floats,
    /// Layer after layer `[BLOCK, num_outputs of the layer]`.
    deltas: Floats,
    /// Units of one layer as columns `[width, BLOCK]`.
    columns: Floats,
    /// Slopes of one layer, or sums of inputs.
    slopes: Vec<f32>,
    /// Octets of some inputs as columns `[GROUP, batch]`.
    octets: Vec<u8>,
    /// Lists that no training keeps now.
    pub spare: [Pairs; 2],
    /// Steps of some rows of the first layer `[GROUP, width]`.
    steps: Vec<f32>,
}

/// Outputs and deltas of a batch in one block, as in [`Scratch`]: its later gradients go straight into the weights,
/// unless something else is to see them.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    outputs: Floats,
    deltas: Floats,
    /// Examples; none are pending otherwise.
    count: usize,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

/// Calls `work` with the memory of this thread; a call within a call gets memory of its own.
pub(super) fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    let mut scratch = SCRATCH.take();
    let done = work(&mut scratch);
    SCRATCH.set(scratch);
    done
}

/// The first `len` of a vector that grows as needed; contents do not matter.
fn room<T: Copy + Default>(vec: &mut Vec<T>, len: usize) -> &mut [T] {
    if vec.len() < len {
        vec.resize(len, T::default());
    }
    &mut vec[..len]
}

impl Host {
    /// [`Batch::run_examples`].
    pub fn run_examples(
        &mut self,
        batch: &mut Batch<'_>,
        params: &[f32],
        positions: Range<usize>,
        loss_sum: &mut f64,
        hook: &mut Hook<'_>,
    ) -> Result<(), TrainError> {
        let is_whole = positions == (0..batch.order.len()) && positions.len() <= BLOCK;
        if positions.start == 0 && !is_whole {
            batch.buffers.gradients.fill(0.0);
        }
        with_scratch(|scratch| {
            if is_whole {
                self.run_block(batch, params, positions, loss_sum, hook, scratch)?;
                self.pending.count = batch.order.len();
                mem::swap(&mut self.pending.outputs, &mut scratch.outputs);
                mem::swap(&mut self.pending.deltas, &mut scratch.deltas);
                return Ok(());
            }
            for begin in positions.clone().step_by(BLOCK) {
                let block = begin..positions.end.min(begin + BLOCK);
                let count = block.len();
                self.run_block(batch, params, block, loss_sum, hook, scratch)?;
                let (outputs, deltas) = (
                    mem::take(&mut scratch.outputs),
                    mem::take(&mut scratch.deltas),
                );
                let gradients = &mut *batch.buffers.gradients;
                self.later_gradients(count, &outputs, &deltas, None, gradients, scratch);
                (scratch.outputs, scratch.deltas) = (outputs, deltas);
            }
            Ok(())
        })
    }

    /// Runs a block: each step for all of its examples, so that what one waits for another fills.
    fn run_block(
        &self,
        batch: &mut Batch<'_>,
        params: &[f32],
        block: Range<usize>,
        loss_sum: &mut f64,
        hook: &mut Hook<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), TrainError> {
        let (order, examples) = (&batch.order[block.clone()], &batch.examples);
        let last = &self.layers[self.layers.len() - 1];
        let total = last.outputs.end;
        let mut owned = mem::take(&mut scratch.outputs);
        let outputs = owned.room(BLOCK * total);
        let forward = &mut outputs[..order.len() * total];
        self.forward_first(params, examples, order, forward, scratch);
        for (n, outputs) in forward.chunks_exact_mut(total).enumerate() {
            self.forward_later(params, n, outputs, scratch);
        }
        let deltas = scratch.deltas.room(BLOCK * total);
        let upper = deltas[BLOCK * last.outputs.start..].chunks_exact_mut(last.width);
        let rows = outputs.chunks_exact(total).zip(upper);
        for (&example, (outputs, deltas)) in order.iter().zip(rows) {
            let (label, logits) = (examples.label(example)?, &outputs[last.outputs.clone()]);
            let loss = cross_entropy_gradient(self.kernels, logits, label, deltas);
            if !loss.is_finite() {
                return Err(TrainError::Diverged);
            }
            if let Some(correction) = hook {
                correction.outputs(label, logits, deltas);
            }
            *loss_sum += f64::from(loss);
        }
        for (n, outputs) in outputs.chunks_exact(total).take(block.len()).enumerate() {
            self.backward(params, n, outputs, scratch);
        }
        let own = &scratch.deltas[..block.len() * self.layers[0].width];
        batch.buffers.octets.deltas[block.start * self.layers[0].width..][..own.len()]
            .copy_from_slice(own);
        scratch.outputs = owned;
        Ok(())
    }

    /// Leaves the deltas of example `n` of a block.
    fn backward(&self, params: &[f32], n: usize, outputs: &[f32], scratch: &mut Scratch) {
        let Scratch {
            lists,
            deltas,
            slopes,
            ..
        } = scratch;
        let lists = &mut lists[n * self.layers.len()..];
        let deltas = deltas.room(BLOCK * self.layers[self.layers.len() - 1].outputs.end);
        for (layer, list) in self.layers.iter().zip(lists).skip(1).rev() {
            let Laid { d_in, width, .. } = *layer;
            let (below, above) = deltas.split_at_mut(BLOCK * layer.outputs.start);
            let above = &above[n * width..][..width];
            let begin = layer.outputs.start - d_in;
            let below = &mut below[BLOCK * begin + n * d_in..][..d_in];
            // Units of ReLU that are not zero have a slope of one, and the list of them is there.
            let has_slopes = self.activation != Activation::Relu;
            if has_slopes {
                let slopes = room(slopes, d_in);
                for (slope, &output) in slopes.iter_mut().zip(&outputs[begin..]) {
                    *slope = self.activation.slope(output);
                }
                (self.kernels.list_units)(slopes, list);
            }
            below.fill(0.0);
            let weights = &params[layer.weights.clone()];
            (self.kernels.dots)(weights, above, list, has_slopes, below);
        }
    }

    /// Adds a block's gradients of all but the first layer's weights to `gradients`, or, with a rate, subtracts them
    /// from parameters.
    fn later_gradients(
        &self,
        count: usize,
        outputs: &[f32],
        deltas: &[f32],
        rate: Option<f32>,
        to: &mut [f32],
        scratch: &mut Scratch,
    ) {
        const ONES: [f32; BLOCK] = [1.0; BLOCK];
        let Scratch { lists, columns, .. } = scratch;
        lists.resize_with(lists.len().max(1), List::default);
        let list = &mut lists[0];
        let mut add = |columns: &[f32], deltas: &[f32], width: usize, to: &mut [f32]| match rate {
            Some(rate) => (self.kernels.step_gradient)(columns, deltas, width, rate, to, list),
            None => (self.kernels.add_gradient)(columns, deltas, width, to, list),
        };
        let last = &self.layers[self.layers.len() - 1];
        let (total, offset) = (last.outputs.end, self.layers[0].weights.end);
        for (index, layer) in self.layers.iter().enumerate() {
            let Laid { d_in, width, .. } = *layer;
            let deltas = &deltas[BLOCK * layer.outputs.start..][..count * width];
            if index > 0 {
                let columns = columns.room(d_in * BLOCK);
                for n in 0..count {
                    let units = &outputs[n * total + layer.outputs.start - d_in..][..d_in];
                    for (column, &unit) in columns.chunks_exact_mut(BLOCK).zip(units) {
                        column[n] = unit;
                    }
                }
                let to = &mut to[layer.weights.start - offset..layer.weights.end - offset];
                add(columns, deltas, width, to);
            }
            let to = &mut to[layer.biases.start - offset..layer.biases.end - offset];
            add(&ONES, deltas, width, to);
        }
    }

    /// Sums up the gradients of a batch that were put off.
    pub fn settle(&mut self, gradients: &mut [f32]) {
        if self.pending.count > 0 {
            gradients.fill(0.0);
            self.apply_pending(None, gradients);
        }
    }

    /// [`Host::later_gradients`] of what was put off.
    fn apply_pending(&mut self, rate: Option<f32>, to: &mut [f32]) {
        let Pending {
            outputs,
            deltas,
            count,
        } = mem::take(&mut self.pending);
        with_scratch(|scratch| {
            self.later_gradients(count, &outputs, &deltas, rate, to, scratch);
            // Whoever comes next on this thread finds room.
            (scratch.outputs, scratch.deltas) = (outputs, deltas);
        });
    }

    /// Prepares the row pass.
    pub fn begin_rows(&mut self, width: usize, pass: &OctetPass<'_>) -> Result<(), TrainError> {
        if self.arithmetic == Arithmetic::Float {
            return Ok(());
        }
        if self.keeps_columns {
            self.keep_columns(pass);
            self.places.resize(pass.order.len(), 0);
            for (&n, position) in pass.order.iter().zip(0..) {
                if let Some(place) = self.places.get_mut(n as usize) {
                    *place = position;
                }
            }
        }
        let deltas = &pass.memory.deltas[..pass.order.len() * width];
        let matrix = Source {
            values: deltas,
            width,
            places: self.keeps_columns.then_some(&*self.places),
        };
        let rate = pass.rate / 255.0;
        self.moves.round(self.kernels, matrix, rate)
    }

    /// Lists all columns by example, unless they are listed.
    fn keep_columns(&mut self, pass: &OctetPass<'_>) {
        if self.columns.len() > 0 {
            return;
        }
        let kernels = self.kernels;
        list(&pass.examples, Use::Columns, &mut self.columns, |lists| {
            let order: Vec<u32> = (0..pass.order.len() as u32).collect();
            let stride = order.len().next_multiple_of(CHUNK);
            let d_in = pass.examples.input(0).len();
            let mut octets = vec![0; GROUP * stride];
            for begin in (0..d_in).step_by(GROUP) {
                gather(kernels, pass.examples, &order, begin, &mut octets);
                for column in octets.chunks_exact(stride).take(d_in - begin) {
                    (kernels.list_pairs)(column, lists);
                }
            }
        });
    }

    /// Applies the gradients of all but the first layer's weights.
    pub fn step_later(&mut self, rate: f32, gradients: &[f32], params: &mut [f32]) {
        match self.pending.count {
            0 => (self.kernels.step)(rate, gradients, params),
            _ => self.apply_pending(Some(rate), params),
        }
    }

    /// Applies the gradients of `rows` of the first layer.
    pub fn update_rows(
        &mut self,
        width: usize,
        pass: &OctetPass<'_>,
        rows: Range<usize>,
        weights: &mut [f32],
    ) {
        let follows = self.arithmetic == Arithmetic::Fixed
            && !self.keeps_columns
            && self.layers[0].weights.len() >= FOLLOWED;
        if follows && rows.start == 0 {
            self.follow(width, pass);
        }
        let mut rounded = mem::take(&mut self.weights);
        with_scratch(|scratch| {
            scratch.octets.clear();
            for (begin, weights) in rows.step_by(GROUP).zip(weights.chunks_mut(GROUP * width)) {
                let rounded = follows.then(|| rounded.rows(begin / 2));
                self.step_group(width, pass, begin, weights, rounded, scratch);
            }
        });
        self.weights = rounded;
    }

    /// Follows the moves of the first layer's weights.
    fn follow(&mut self, width: usize, pass: &OctetPass<'_>) {
        let deltas = &pass.memory.deltas[..pass.order.len() * width];
        let Self {
            weights,
            moves,
            kernels,
            ..
        } = self;
        with_scratch(|scratch| {
            let octets = room(&mut scratch.slopes, pass.order.len());
            for (sum, &n) in octets.iter_mut().zip(pass.order) {
                *sum = sum_of(pass.examples.input(n)) as f32;
            }
            weights.drift(kernels, moves, deltas, octets, pass.rate / 255.0);
        });
    }

    /// Shows `visit` each of `rows` of the first layer and its `-rate * gradient`.
    pub fn visit_rows(
        &self,
        width: usize,
        pass: &OctetPass<'_>,
        rows: Range<usize>,
        visit: &mut dyn FnMut(usize, &[f32]),
    ) {
        with_scratch(|scratch| {
            scratch.octets.clear();
            let mut steps = mem::take(&mut scratch.steps);
            for begin in rows.clone().step_by(GROUP) {
                let group = begin..rows.end.min(begin + GROUP);
                // Rows of zeros that are updated are left with what the update subtracts.
                let steps = room(&mut steps, group.len() * width);
                steps.fill(0.0);
                self.step_group(width, pass, begin, steps, None, scratch);
                for (row, step) in group.zip(steps.chunks_exact(width)) {
                    visit(row, step);
                }
            }
            scratch.steps = steps;
        });
    }

    /// [`Host::update_rows`] for inputs `begin..`, at most [`GROUP`].
    fn step_group(
        &self,
        width: usize,
        pass: &OctetPass<'_>,
        begin: usize,
        weights: &mut [f32],
        rounded: Option<RoundedRows<'_>>,
        scratch: &mut Scratch,
    ) {
        let Scratch {
            lists,
            pairs,
            octets,
            ..
        } = scratch;
        let (lines, units) = self.moves.get();
        if self.keeps_columns {
            for (row, input) in weights.chunks_exact_mut(width).zip(begin..) {
                let list = self.columns.get(input);
                // A gradient of zero moves nothing.
                if !list.0.is_empty() {
                    (self.kernels.subtract_pairs)(lines, list, units, row);
                }
            }
            return;
        }
        let batch = pass.order.len();
        let columns = room(octets, GROUP * batch.next_multiple_of(CHUNK));
        gather(self.kernels, pass.examples, pass.order, begin, columns);
        if self.arithmetic == Arithmetic::Float {
            let deltas = &pass.memory.deltas[..batch * width];
            lists.resize_with(lists.len().max(1), List::default);
            let list = &mut lists[0];
            return (self.kernels.step_rows)(columns, deltas, width, pass.rate, weights, list);
        }
        (self.kernels.move_rows)(columns, batch, (lines, units), weights, rounded, pairs);
    }
}

/// [`loss::cross_entropy_gradient`].
fn cross_entropy_gradient(
    kernels: &Kernels,
    logits: &[f32],
    label: usize,
    deltas: &mut [f32],
) -> f32 {
    let max = loss::largest(logits);
    (kernels.exp)(logits, max, deltas);
    let sum = deltas.iter().fold(0.0, |sum, delta| sum + delta);
    let scale = 1.0 / sum;
    deltas.iter_mut().for_each(|delta| *delta *= scale);
    deltas[label] -= 1.0;
    libm::logf(sum) + (max - logits[label])
}

/// Writes inputs `begin..` of all examples of a batch as columns `[GROUP, _]`.
fn gather(
    kernels: &Kernels,
    examples: Examples<'_>,
    order: &[u32],
    begin: usize,
    columns: &mut [u8],
) {
    const NONE: [u8; GROUP] = [0; GROUP];
    let stride = columns.len() / GROUP;
    let mut ends = [NONE; GROUP];
    for (at, group) in (0..).step_by(GROUP).zip(order.chunks(GROUP)) {
        let mut rows = [&NONE; GROUP];
        let inputs = group.iter().map(|&n| &examples.input(n)[begin..]);
        for ((row, end), input) in rows.iter_mut().zip(&mut ends).zip(inputs) {
            *row = input.first_chunk().unwrap_or_else(|| {
                end[..input.len()].copy_from_slice(input);
                end
            });
        }
        (kernels.transpose)(&rows, &mut columns[at..], stride);
    }
}
