//! Layers: a kind is a file of this folder and a line of [`Layer`].
//!
//! Every layer can stand behind another, f32 in and f32 out, one example at a time. It can also stand
//! first, where octets enter it. Its gradient by its weights is then as large as the weights and is never
//! stored: it keeps the deltas of a batch, and works the gradient out row by row when it is applied.

mod dense;

use core::ops::{Deref, Range};

use crate::activation::Activation;
use crate::arithmetic::Arithmetic;
use crate::error::TrainError;
use crate::examples::Examples;
pub(crate) use dense::Dense;

/// A layer of one of the kinds that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Dense(Dense),
}

impl Deref for Layer {
    type Target = dyn Compute;

    #[inline(always)]
    fn deref(&self) -> &Self::Target {
        match self {
            Self::Dense(dense) => dense,
        }
    }
}

/// Computations of one layer.
///
/// # Shapes
/// `params`, and a gradient by them: `[num_params]`, weights first, then biases; `inputs`, `below`:
/// `[num_inputs]`; `outputs`, `deltas` (derivatives by the outputs): `[num_outputs]`.
pub(crate) trait Compute {
    fn num_inputs(&self) -> usize;
    fn num_outputs(&self) -> usize;
    /// Weights, which lie before the biases.
    fn num_weights(&self) -> usize;
    fn num_params(&self) -> usize;
    /// Inputs of one output, and outputs of one input: the scale of initial weights.
    fn fans(&self) -> (usize, usize);

    /// Sums of one example, before the activation.
    fn forward(&self, params: &[f32], inputs: &[f32], outputs: &mut [f32]);
    /// Adds one example's gradient.
    fn add_gradient(&self, inputs: &[f32], deltas: &[f32], gradient: &mut [f32]);
    /// Derivatives by the sums of the layer below, whose outputs the inputs are.
    fn backward(
        &self,
        params: &[f32],
        activation: Activation,
        inputs: &[f32],
        deltas: &[f32],
        below: &mut [f32],
    );

    /// Memory of this layer as the first, for batches of `batch`, 0 if it only evaluates.
    fn octet_memory(&self, batch: usize) -> OctetMemory<u64, u64>;
    /// Prepares `memory` for [`Compute::forward_octets`] with these parameters.
    fn prepare_forward(
        &self,
        arithmetic: Arithmetic,
        params: &[f32],
        memory: &mut OctetBuffers<'_>,
    ) -> Result<(), TrainError>;
    /// As [`Compute::forward`], from the octets of an example over 255.
    fn forward_octets(
        &self,
        arithmetic: Arithmetic,
        params: &[f32],
        example: (&Examples<'_>, u32),
        memory: &mut OctetBuffers<'_>,
        outputs: &mut [f32],
    );
    /// Keeps the deltas of example `position` of a batch, and adds them to the gradient of the biases.
    fn keep_deltas(
        &self,
        position: usize,
        deltas: &[f32],
        memory: &mut OctetBuffers<'_>,
        biases: &mut [f32],
    );

    /// Rows of the weights, each of as many as there are outputs.
    fn num_rows(&self) -> usize;
    /// Rows whose gradient is summed up at once, an even number: that is what memory there is for.
    fn rows_at_once(&self) -> usize;
    /// Words of [`OctetPass::spare`] for [`Compute::fill_columns`] of a batch with so many entries in its lists; 0 if
    /// there is no such way.
    fn column_words(&self, batch: usize, entries: usize) -> usize;
    /// Lists a batch by columns; false if there is no room for that.
    fn fill_columns(&self, pass: &mut OctetPass<'_>) -> bool;
    /// Keeps the deltas for the columns, once they are prepared.
    fn keep_column_deltas(&self, pass: &mut OctetPass<'_>);
    /// As [`Compute::sum_rows`] of all examples, for so many rows from the even number `first` on.
    fn sum_columns(&self, pass: &mut OctetPass<'_>, rows: Range<usize>);
    /// Prepares `pass` for the calls below.
    fn prepare_rows(&self, pass: &mut OctetPass<'_>) -> Result<(), TrainError>;
    /// Adds the gradients of the examples at `positions` of the batch, for [`Compute::rows_at_once`] rows from `first`
    /// on; position 0 begins anew.
    fn sum_rows(&self, pass: &mut OctetPass<'_>, first: usize, positions: Range<usize>);
    /// `weights -= rate * gradient` for one row, counted from the first of those that are summed up.
    ///
    /// # Shapes
    /// `weights`: `[num_outputs]`.
    fn update_row(&self, pass: &mut OctetPass<'_>, place: usize, weights: &mut [f32]);
    /// [`Compute::update_row`] for the first of the rows that are summed up, and all behind it.
    ///
    /// # Shapes
    /// `weights`: `[rows, num_outputs]`.
    fn update_rows(&self, pass: &mut OctetPass<'_>, weights: &mut [f32]);
}

/// Memory of the first layer beside its parameters: sizes, or the buffers themselves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OctetMemory<F, I> {
    /// Deltas of the batch, `[batch, num_outputs]`; their integers once they are rounded.
    pub deltas: F,
    /// Units of the integers' columns, of the weights or the deltas.
    pub units: F,
    /// List of the octets of one example that are not zero.
    pub list: I,
    /// Integers of the weights, later sums of the gradient of some rows.
    pub pairs: I,
}

/// Buffers by [`Compute::octet_memory`].
pub(crate) type OctetBuffers<'a> = OctetMemory<&'a mut [f32], &'a mut [i32]>;

impl OctetBuffers<'_> {
    pub fn reborrow(&mut self) -> OctetBuffers<'_> {
        OctetMemory {
            deltas: self.deltas,
            units: self.units,
            list: self.list,
            pairs: self.pairs,
        }
    }
}

/// A batch on its way back through the first layer.
pub(crate) struct OctetPass<'a> {
    pub arithmetic: Arithmetic,
    /// Factor of the summed gradient.
    pub rate: f32,
    pub examples: Examples<'a>,
    /// Examples of the batch.
    pub order: &'a [u32],
    pub memory: OctetBuffers<'a>,
    /// Integers of the caller beyond the plan.
    pub spare: &'a mut [i32],
    /// True if every batch is all examples: their columns are then the same in each.
    pub keeps_columns: bool,
}
