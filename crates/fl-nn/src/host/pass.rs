//! The two passes of a batch ([`crate::train`]), a block of examples at a time.
//!
//! A block's outputs and deltas are kept, so that each row of a gradient is read and written once a block
//! and not once an example. Its sums are in the order of the examples all the same.

use core::mem;
use core::ops::Range;
use std::cell::Cell;

use super::list::List;
use super::simd::{BLOCK, CHUNK, GROUP, Kernels};
use crate::activation::Activation;
use crate::arithmetic::Arithmetic;
use crate::error::TrainError;
use crate::kernels::matrix;
use crate::layer::{OctetBuffers, OctetPass};
use crate::loss;
use crate::memory::Regions;
use crate::model::{Model, Placed};
use crate::train::{Batch, Hook};

/// Memory of a thread, for one step.
#[derive(Default)]
struct Scratch {
    list: List,
    /// `[BLOCK, num_outputs]`, layer after layer in each.
    outputs: Vec<f32>,
    /// Layer after layer `[BLOCK, num_outputs of the layer]`.
    deltas: Vec<f32>,
    /// Units of one layer as columns `[width, BLOCK]`.
    columns: Vec<f32>,
    /// Slopes of one layer.
    slopes: Vec<f32>,
    /// Octets of some inputs as columns `[GROUP, batch]`.
    octets: Vec<u8>,
    /// Steps of some rows of the first layer `[GROUP, width]`.
    steps: Vec<f32>,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

/// Calls `work` with the memory of this thread; a call within a call gets memory of its own.
fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
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

/// A model on its way forward.
pub(crate) struct Forward<'a> {
    pub kernels: &'static Kernels,
    pub model: &'a Model,
    pub params: &'a [f32],
    pub arithmetic: Arithmetic,
}

impl Forward<'_> {
    /// Computes the outputs of all layers for one example, the logits last.
    pub fn run(&self, input: &[u8], octets: &mut OctetBuffers<'_>, outputs: &mut [f32]) {
        with_scratch(|Scratch { list, .. }| self.run_with(list, input, octets, outputs));
    }

    fn run_with(
        &self,
        list: &mut List,
        input: &[u8],
        octets: &mut OctetBuffers<'_>,
        outputs: &mut [f32],
    ) {
        let Self {
            kernels,
            model,
            params,
            arithmetic,
        } = *self;
        let mut begin = 0;
        for (index, placed) in model.layers().enumerate() {
            let Placed {
                layer,
                params: place,
            } = placed;
            let params = &params[place];
            let (weights, bias) = params.split_at(layer.num_weights());
            let (before, after) = outputs.split_at_mut(begin);
            let sums = &mut after[..layer.num_outputs()];
            if index == 0 && arithmetic == Arithmetic::Fixed {
                layer.forward_octets(arithmetic, params, input, octets, sums);
            } else {
                if index == 0 {
                    (kernels.list_octets)(input, list);
                } else {
                    let units = &mut before[begin - layer.num_inputs()..];
                    model.activation().apply(units);
                    (kernels.list_units)(units, list);
                }
                sums.copy_from_slice(bias);
                (kernels.add_rows)(weights, list, sums);
            }
            begin += layer.num_outputs();
        }
    }
}

/// [`Batch::run_examples`].
pub(crate) fn run_examples(
    kernels: &'static Kernels,
    batch: &mut Batch<'_>,
    params: &[f32],
    positions: Range<usize>,
    loss_sum: &mut f64,
    hook: &mut Hook<'_>,
) -> Result<(), TrainError> {
    with_scratch(|scratch| {
        for begin in positions.clone().step_by(BLOCK) {
            let block = begin..positions.end.min(begin + BLOCK);
            let count = block.len();
            for (n, position) in block.enumerate() {
                let loss = run_example(kernels, batch, params, position, n, hook, scratch)?;
                *loss_sum += f64::from(loss);
            }
            add_gradients(kernels, batch, count, scratch);
        }
        Ok(())
    })
}

/// Runs example `n` of a block forward and back, and leaves its outputs and deltas.
fn run_example(
    kernels: &'static Kernels,
    batch: &mut Batch<'_>,
    params: &[f32],
    position: usize,
    n: usize,
    hook: &mut Hook<'_>,
    scratch: &mut Scratch,
) -> Result<f32, TrainError> {
    let Scratch {
        list,
        outputs,
        deltas,
        slopes,
        ..
    } = scratch;
    let (model, examples) = (batch.model, batch.examples);
    let Regions {
        octets, gradients, ..
    } = &mut batch.buffers;
    let (example, total) = (batch.order[position], model.num_outputs());
    let outputs = &mut room(outputs, BLOCK * total)[n * total..][..total];
    let deltas = room(deltas, BLOCK * total);
    let (input, arithmetic) = (examples.input(example), batch.config.arithmetic);
    Forward {
        kernels,
        model,
        params,
        arithmetic,
    }
    .run_with(list, input, octets, outputs);

    let (label, classes) = (examples.label(example)?, model.shape().num_classes());
    let logits = &outputs[total - classes..];
    let last = &mut deltas[BLOCK * (total - classes) + n * classes..][..classes];
    let loss = loss::cross_entropy_gradient(logits, label, last);
    if !loss.is_finite() {
        return Err(TrainError::Diverged);
    }
    if let Some(correction) = hook {
        correction.outputs(label, logits, last);
    }
    let mut end = total - classes;
    for index in (1..model.shape().num_layers()).rev() {
        let Placed {
            layer,
            params: place,
        } = model.layer(index);
        let begin = end - layer.num_inputs();
        let (below, above) = deltas.split_at_mut(BLOCK * end);
        let above = &above[n * layer.num_outputs()..][..layer.num_outputs()];
        let below = &mut below[BLOCK * begin + n * layer.num_inputs()..][..layer.num_inputs()];
        let slopes = room(slopes, layer.num_inputs());
        write_slopes(model.activation(), &outputs[begin..end], slopes);
        (kernels.list_units)(slopes, list);
        below.fill(0.0);
        (kernels.dots)(&params[place], above, list, below);
        end = begin;
    }
    let first = model.first();
    let width = first.layer.num_outputs();
    let biases = &mut gradients[..width];
    first
        .layer
        .keep_deltas(position, &deltas[n * width..][..width], octets, biases);
    Ok(loss)
}

fn write_slopes(activation: Activation, outputs: &[f32], slopes: &mut [f32]) {
    for (slope, &output) in slopes.iter_mut().zip(outputs) {
        *slope = activation.slope(output);
    }
}

/// Adds a block's gradients of all layers but the first.
fn add_gradients(kernels: &Kernels, batch: &mut Batch<'_>, count: usize, scratch: &mut Scratch) {
    let Scratch {
        list,
        outputs,
        deltas,
        columns,
        ..
    } = scratch;
    let model = batch.model;
    let (total, offset) = (model.num_outputs(), model.first().weights().end);
    let mut begin = 0;
    for Placed {
        layer,
        params: place,
    } in model.layers().skip(1)
    {
        let (d_in, width) = (layer.num_inputs(), layer.num_outputs());
        let columns = room(columns, d_in * BLOCK);
        for n in 0..count {
            let units = &outputs[n * total + begin..][..d_in];
            for (column, &unit) in columns.chunks_exact_mut(BLOCK).zip(units) {
                column[n] = unit;
            }
        }
        begin += d_in;
        let deltas = &deltas[BLOCK * begin..][..count * width];
        let gradient = &mut batch.buffers.gradients[place.start - offset..place.end - offset];
        let (gradient, biases) = gradient.split_at_mut(layer.num_weights());
        (kernels.add_gradient)(columns, deltas, width, gradient, list);
        for deltas in deltas.chunks_exact(width) {
            matrix::add(biases, deltas);
        }
    }
}

/// Applies the gradients of all but the first layer's weights.
pub(crate) fn step_later(kernels: &Kernels, rate: f32, gradients: &[f32], params: &mut [f32]) {
    (kernels.step)(rate, gradients, params);
}

/// Applies the gradients of `rows` of the first layer in f32.
pub(crate) fn update_rows(
    kernels: &Kernels,
    width: usize,
    pass: &OctetPass<'_>,
    rows: Range<usize>,
    weights: &mut [f32],
) {
    with_scratch(|scratch| {
        scratch.octets.clear();
        for (begin, weights) in rows.step_by(GROUP).zip(weights.chunks_mut(GROUP * width)) {
            step_group(kernels, width, pass, begin, weights, scratch);
        }
    });
}

/// [`update_rows`] for inputs `begin..`, at most [`GROUP`].
fn step_group(
    kernels: &Kernels,
    width: usize,
    pass: &OctetPass<'_>,
    begin: usize,
    weights: &mut [f32],
    Scratch { list, octets, .. }: &mut Scratch,
) {
    let batch = pass.order.len();
    let stride = batch.next_multiple_of(CHUNK);
    let columns = room(octets, GROUP * stride);
    gather(kernels, pass, begin, columns, stride);
    let deltas = &pass.memory.deltas[..batch * width];
    (kernels.step_rows)(columns, deltas, width, pass.rate, weights, list);
}

/// Shows `visit` each of `rows` of the first layer in f32 and its `-rate * gradient`.
pub(crate) fn visit_rows(
    kernels: &Kernels,
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
            step_group(kernels, width, pass, begin, steps, scratch);
            for (row, step) in group.zip(steps.chunks_exact(width)) {
                visit(row, step);
            }
        }
        scratch.steps = steps;
    });
}

/// Writes inputs `begin..` of all examples of a batch as columns `[GROUP, stride]`.
fn gather(
    kernels: &Kernels,
    pass: &OctetPass<'_>,
    begin: usize,
    columns: &mut [u8],
    stride: usize,
) {
    const NONE: [u8; GROUP] = [0; GROUP];
    let mut ends = [NONE; GROUP];
    for (at, group) in (0..).step_by(GROUP).zip(pass.order.chunks(GROUP)) {
        let mut rows = [&NONE; GROUP];
        let inputs = group.iter().map(|&n| &pass.examples.input(n)[begin..]);
        for ((row, end), input) in rows.iter_mut().zip(&mut ends).zip(inputs) {
            *row = input.first_chunk().unwrap_or_else(|| {
                end[..input.len()].copy_from_slice(input);
                end
            });
        }
        (kernels.transpose)(&rows, &mut columns[at..], stride);
    }
}
