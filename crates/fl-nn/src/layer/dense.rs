//! Dense layer: every output is a weighted sum of every input, and a bias.
//!
//! # Shapes
//! Weights row-major `[d_in, d_out]`, then biases `[d_out]`.

use core::ops::Range;

use super::{Compute, OctetBuffers, OctetMemory, OctetPass};
use crate::activation::Activation;
use crate::arithmetic::Arithmetic;
use crate::error::TrainError;
use crate::examples::Examples;
use crate::kernels::columns::{self, Columns};
use crate::kernels::quantise::{
    LANES, pair_words, quantise, quantise_in_place, sums, sums_at_once,
};
use crate::kernels::{fixed, float, matrix, sparse};
use bytemuck::cast_slice_mut;

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
            list: sparse::input_entries(self.d_in) as u64,
            pairs: pair_words(self.d_in, self.d_out),
        }
    }

    fn prepare_forward(
        &self,
        arithmetic: Arithmetic,
        params: &[f32],
        memory: &mut OctetBuffers<'_>,
    ) -> Result<(), TrainError> {
        match arithmetic {
            Arithmetic::Fixed | Arithmetic::Integer => {
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
        (examples, n): (&Examples<'_>, u32),
        memory: &mut OctetBuffers<'_>,
        outputs: &mut [f32],
    ) {
        let (weights, bias) = params.split_at(self.num_weights());
        let OctetBuffers {
            list, pairs, units, ..
        } = memory;
        let list = examples.list(n, list);
        match arithmetic {
            Arithmetic::Fixed | Arithmetic::Integer => {
                fixed::forward(pairs, units, bias, list, self.d_in, outputs);
            }
            Arithmetic::Float => float::forward(weights, bias, list, outputs),
        }
    }

    fn keep_deltas(
        &self,
        position: usize,
        deltas: &[f32],
        memory: &mut OctetBuffers<'_>,
        biases: &mut [f32],
    ) {
        let kept = &mut memory.deltas[position * self.d_out..][..self.d_out];
        matrix::add_and_keep(biases, deltas, kept);
    }

    fn num_rows(&self) -> usize {
        self.d_in
    }

    fn rows_at_once(&self) -> usize {
        2 * sums_at_once(self.d_in)
    }

    fn column_words(&self, batch: usize, entries: usize) -> usize {
        columns::words(self.d_in, self.d_out, batch, entries).unwrap_or(0)
    }

    fn fill_columns(&self, pass: &mut OctetPass<'_>) -> bool {
        let OctetPass {
            examples,
            order,
            memory,
            spare,
            keeps_columns,
            ..
        } = pass;
        let columns = Columns::cut(spare, self.d_in, self.d_out, order.len());
        columns
            .is_some_and(|mut columns| columns.fill(examples, order, *keeps_columns, memory.list))
    }

    fn keep_column_deltas(&self, pass: &mut OctetPass<'_>) {
        let Some(mut columns) = Columns::cut(pass.spare, self.d_in, self.d_out, pass.order.len())
        else {
            return;
        };
        let deltas = &pass.memory.deltas[..pass.order.len() * self.d_out];
        if pass.keeps_columns {
            let places = pass.order.iter().map(|&n| n as usize);
            columns.keep_deltas(deltas, self.d_out, places);
        } else {
            columns.keep_deltas(deltas, self.d_out, 0..pass.order.len());
        }
    }

    fn sum_columns(&self, pass: &mut OctetPass<'_>, rows: Range<usize>) {
        let columns = Columns::cut(pass.spare, self.d_in, self.d_out, pass.order.len());
        if let Some(columns) = columns {
            let first = rows.start / 2;
            let tiles = sums(pass.memory.pairs, sums_at_once(self.d_in));
            columns.sum(first, rows.end.div_ceil(2) - first, tiles);
        }
    }

    fn prepare_rows(&self, pass: &mut OctetPass<'_>) -> Result<(), TrainError> {
        match pass.arithmetic {
            Arithmetic::Fixed | Arithmetic::Integer => {
                let OctetBuffers { deltas, units, .. } = &mut pass.memory;
                let deltas = &mut deltas[..pass.order.len() * self.d_out];
                quantise_in_place(deltas, pass.rate / 255.0, units)
            }
            Arithmetic::Float => Ok(()),
        }
    }

    fn sum_rows(&self, pass: &mut OctetPass<'_>, first: usize, positions: Range<usize>) {
        let OctetBuffers {
            deltas,
            list,
            pairs,
            ..
        } = &mut pass.memory;
        if positions.start == 0 {
            pairs.fill(0);
        }
        let deltas = &deltas[positions.start * self.d_out..];
        let deltas = deltas.chunks_exact(self.d_out);
        let at_once = sums_at_once(self.d_in);
        if self.d_out <= LANES && pass.arithmetic != Arithmetic::Float {
            let Some(tile) = sums(pairs, at_once).next() else {
                return;
            };
            for (&n, deltas) in pass.order[positions].iter().zip(deltas) {
                fixed::add_to_tile(tile, first / 2, pass.examples.list(n, list), deltas);
            }
            return;
        }
        for (&n, deltas) in pass.order[positions].iter().zip(deltas) {
            let list = pass.examples.list(n, list);
            match pass.arithmetic {
                Arithmetic::Fixed | Arithmetic::Integer => {
                    fixed::add_gradient(pairs, at_once, first / 2, list, deltas);
                }
                Arithmetic::Float => {
                    let sums = &mut cast_slice_mut(pairs)[..self.rows_at_once() * self.d_out];
                    float::add_gradient(sums, first, list, deltas);
                }
            }
        }
    }

    fn update_row(&self, pass: &mut OctetPass<'_>, place: usize, weights: &mut [f32]) {
        let OctetBuffers { units, pairs, .. } = &mut pass.memory;
        match pass.arithmetic {
            Arithmetic::Fixed | Arithmetic::Integer => {
                fixed::subtract(pairs, sums_at_once(self.d_in), place, units, weights);
            }
            Arithmetic::Float => {
                let sums: &mut [f32] = cast_slice_mut(pairs);
                float::subtract(&sums[place * self.d_out..], pass.rate, weights);
            }
        }
    }

    fn update_rows(&self, pass: &mut OctetPass<'_>, weights: &mut [f32]) {
        match pass.arithmetic {
            Arithmetic::Fixed | Arithmetic::Integer => {
                let OctetBuffers { units, pairs, .. } = &mut pass.memory;
                fixed::subtract_rows(pairs, sums_at_once(self.d_in), units, weights);
            }
            Arithmetic::Float => {
                let rows = weights.chunks_exact_mut(self.d_out).enumerate();
                rows.for_each(|(place, row)| self.update_row(pass, place, row));
            }
        }
    }
}
