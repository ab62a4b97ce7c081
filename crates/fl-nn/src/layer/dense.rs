//! Dense layer: every output is a weighted sum of every input, and a bias.
//!
//! # Shapes
//! Weights row-major `[d_in, d_out]`, then biases `[d_out]`.

use core::ops::Range;

use super::{Compute, OctetBuffers, OctetMemory, OctetPass};
use crate::activation::Activation;
use crate::arithmetic::Arithmetic;
use crate::error::TrainError;
use crate::kernels::quantise::{list_words, pair_words, quantise};
use crate::kernels::{fixed, float, matrix, sparse};

/// Sizes of a dense layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dense {
    pub d_in: usize,
    pub d_out: usize,
}

impl Compute for Dense {
    fn num_inputs(&self) -> usize {
        self.d_in
    }

    fn num_outputs(&self) -> usize {
        self.d_out
    }

    fn num_weights(&self) -> usize {
        self.d_in * self.d_out
    }

    fn num_params(&self) -> usize {
        (self.d_in + 1) * self.d_out
    }

    fn fans(&self) -> (usize, usize) {
        (self.d_in, self.d_out)
    }

    fn forward(&self, params: &[f32], inputs: &[f32], outputs: &mut [f32]) {
        matrix::forward(params, inputs, outputs);
    }

    fn add_gradient(&self, inputs: &[f32], deltas: &[f32], gradient: &mut [f32]) {
        matrix::add_gradient(gradient, inputs, deltas);
    }

    fn backward(
        &self,
        params: &[f32],
        activation: Activation,
        inputs: &[f32],
        deltas: &[f32],
        below: &mut [f32],
    ) {
        matrix::backward(params, activation, inputs, deltas, below);
    }

    fn octet_memory(&self, batch: usize) -> OctetMemory<u64, u64> {
        OctetMemory {
            deltas: (batch * self.d_out) as u64,
            units: self.d_out as u64,
            lists: list_words(self.d_in, batch),
            pairs: pair_words(self.d_in.max(batch), self.d_out),
        }
    }

    fn prepare_forward(
        &self,
        arithmetic: Arithmetic,
        params: &[f32],
        memory: &mut OctetBuffers<'_>,
    ) -> Result<(), TrainError> {
        match arithmetic {
            Arithmetic::Fixed => {
                let weights = &params[..self.num_weights()];
                quantise(weights, 1.0 / 255.0, memory.units, memory.pairs)
            }
            Arithmetic::Float => Ok(()),
        }
    }

    fn forward_octets(
        &self,
        arithmetic: Arithmetic,
        params: &[f32],
        input: &[u8],
        memory: &mut OctetBuffers<'_>,
        outputs: &mut [f32],
    ) {
        let (weights, bias) = params.split_at(self.num_weights());
        match arithmetic {
            Arithmetic::Fixed => {
                let OctetBuffers {
                    lists,
                    pairs,
                    units,
                    ..
                } = memory;
                fixed::forward(lists, pairs, units, bias, input, outputs);
            }
            Arithmetic::Float => float::forward(weights, bias, input, outputs),
        }
    }

    fn keep_deltas(
        &self,
        position: usize,
        deltas: &[f32],
        memory: &mut OctetBuffers<'_>,
        biases: &mut [f32],
    ) {
        matrix::add(biases, deltas);
        memory.deltas[position * self.d_out..][..self.d_out].copy_from_slice(deltas);
    }

    fn num_rows(&self) -> usize {
        self.d_in
    }

    fn prepare_rows(&self, pass: &mut OctetPass<'_>) -> Result<(), TrainError> {
        match pass.arithmetic {
            Arithmetic::Fixed => {
                let OctetBuffers {
                    deltas,
                    units,
                    pairs,
                    ..
                } = &mut pass.memory;
                let deltas = &deltas[..pass.order.len() * self.d_out];
                quantise(deltas, pass.rate / 255.0, units, pairs)
            }
            Arithmetic::Float => Ok(()),
        }
    }

    fn update_rows(&self, pass: &mut OctetPass<'_>, rows: Range<usize>, weights: &mut [f32]) {
        let OctetPass {
            rate,
            examples,
            order,
            memory,
            ..
        } = pass;
        let OctetBuffers {
            deltas,
            units,
            lists,
            pairs,
        } = memory;
        match pass.arithmetic {
            Arithmetic::Fixed => {
                for (begin, weights) in rows.step_by(4).zip(weights.chunks_mut(4 * self.d_out)) {
                    let word_of = |n| examples.word(n, begin);
                    fixed::update(lists, pairs, units, order, word_of, weights);
                }
            }
            Arithmetic::Float => {
                for (input, weights) in rows.zip(weights.chunks_exact_mut(self.d_out)) {
                    let octets = order.iter().map(|&n| examples.input(n)[input]);
                    float::update(deltas, *rate, octets, units, weights);
                }
            }
        }
    }

    fn visit_rows(
        &self,
        pass: &mut OctetPass<'_>,
        rows: Range<usize>,
        row: &mut [f32],
        visit: &mut dyn FnMut(usize, &[f32]),
    ) {
        // A row of zeros that is updated is left with what the update subtracts.
        let OctetPass {
            rate,
            examples,
            order,
            memory,
            ..
        } = pass;
        let OctetBuffers {
            deltas,
            units,
            lists,
            pairs,
        } = memory;
        match pass.arithmetic {
            Arithmetic::Fixed => {
                for begin in rows.clone().step_by(4) {
                    let word_of = |n| examples.word(n, begin);
                    let columns = sparse::of_column(order, lists, word_of);
                    for (index, list) in (begin..rows.end).zip(columns) {
                        row.fill(0.0);
                        fixed::subtract(pairs, order.len(), units, list, row);
                        visit(index, row);
                    }
                }
            }
            Arithmetic::Float => {
                for index in rows {
                    row.fill(0.0);
                    let octets = order.iter().map(|&n| examples.input(n)[index]);
                    float::update(deltas, *rate, octets, units, row);
                    visit(index, row);
                }
            }
        }
    }
}
