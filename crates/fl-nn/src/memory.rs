//! Memory of training and evaluation: one declaration of all buffers, from which both their sizes and
//! their slices follow.

use core::mem;

use crate::error::{Buffer, PlanError, SizeError, TrainError};
use crate::layer::OctetMemory;
use crate::model::Model;
use crate::train::Optimizer;

/// Most examples of a batch: the bound under which the integer kernel's sums cannot overflow.
pub const MAX_BATCH: usize = 65_535;

/// Most bytes of one buffer: half of a 32-bit address space, as for any Rust object.
const MAX_BUFFER_BYTES: u64 = i32::MAX as u64;

/// Bytes by purpose, and the workspace that the caller must bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// The parameters themselves, which the caller owns beside the workspace.
    pub parameters_bytes: u64,
    /// Gradients of all layers but the first, whose gradient is never stored.
    ///
    /// Clipping by the global norm needs that gradient twice: it is worked out a second time, which costs
    /// half as much time again and no memory.
    pub gradients_bytes: u64,
    /// Outputs of one example, and first-layer deltas of a whole batch.
    pub activations_bytes: u64,
    /// State of the optimizer: [`Optimizer::state_vectors`] times the parameters.
    pub optimizer_bytes: u64,
    /// First-layer weights or deltas in fixed point.
    pub integers_bytes: u64,
    /// The shuffled order of the examples.
    pub order_bytes: u64,
    /// Length of [`Workspace::floats`].
    pub floats: usize,
    /// Length of [`Workspace::ints`].
    pub ints: usize,
    /// Length of [`Workspace::order`].
    pub order: usize,
}

/// Buffers of the caller, sized by a [`MemoryPlan`]; longer is allowed, contents do not matter.
///
/// Between the steps of one training they must not be touched.
#[derive(Debug)]
pub struct Workspace<'a> {
    /// Gradients, activations and the optimizer's state.
    pub floats: &'a mut [f32],
    /// Fixed-point numbers of the first layer, and lists of its inputs by columns where it is longer by
    /// [`crate::Trainer::spare_words`].
    pub ints: &'a mut [i32],
    /// Order of the examples.
    pub order: &'a mut [u32],
}

impl MemoryPlan {
    /// Everything, in bytes, parameters included and training data excluded.
    pub fn total_bytes(&self) -> u64 {
        self.parameters_bytes
            + self.gradients_bytes
            + self.activations_bytes
            + self.optimizer_bytes
            + self.integers_bytes
            + self.order_bytes
    }

    /// Checks that `workspace` is at least as large as planned.
    pub(crate) fn check(&self, workspace: &Workspace<'_>) -> Result<(), TrainError> {
        let parts = [
            (Buffer::Floats, self.floats, workspace.floats.len()),
            (Buffer::Ints, self.ints, workspace.ints.len()),
            (Buffer::Order, self.order, workspace.order.len()),
        ];
        match parts
            .into_iter()
            .find(|(_, expected, actual)| actual < expected)
        {
            Some((buffer, expected, actual)) => Err(TrainError::Workspace {
                buffer,
                size: SizeError { expected, actual },
            }),
            None => Ok(()),
        }
    }
}

impl Model {
    /// Memory to train on `num_examples` examples in batches of `batch_size` by plain SGD, for any
    /// arithmetic, with or without a [`crate::Correction`], decay or clipping.
    ///
    /// # Errors
    /// [`PlanError`] if a number is 0 or a buffer would not fit a 32-bit device.
    pub fn training_plan(
        &self,
        batch_size: usize,
        num_examples: usize,
    ) -> Result<MemoryPlan, PlanError> {
        self.training_plan_with(batch_size, num_examples, Optimizer::Sgd)
    }

    /// Plans like [`Model::training_plan`], for any optimizer.
    ///
    /// # Errors
    /// As [`Model::training_plan`].
    pub fn training_plan_with(
        &self,
        batch_size: usize,
        num_examples: usize,
        optimizer: Optimizer,
    ) -> Result<MemoryPlan, PlanError> {
        if batch_size == 0 {
            return Err(PlanError::ZeroBatchSize);
        }
        if num_examples == 0 {
            return Err(PlanError::NoExamples);
        }
        let batch_size = batch_size.min(num_examples);
        if batch_size > MAX_BATCH {
            return Err(PlanError::TooLarge);
        }
        let num_examples = u32::try_from(num_examples).map_err(|_| PlanError::TooLarge)?;
        bounded(u64::from(num_examples) * self.shape().num_inputs() as u64)?;
        Layout::training(self, batch_size, optimizer).plan(self, num_examples.into())
    }

    /// Memory to evaluate any number of examples, in either arithmetic.
    ///
    /// # Errors
    /// [`PlanError::TooLarge`] if a buffer would not fit a 32-bit device.
    pub fn evaluation_plan(&self) -> Result<MemoryPlan, PlanError> {
        Layout::evaluation(self).plan(self, 0)
    }
}

/// Everything in [`Workspace::floats`] and [`Workspace::ints`]: sizes, or the buffers themselves.
pub(crate) struct Regions<F, I> {
    /// Memory of the first layer.
    pub octets: OctetMemory<F, I>,
    /// Gradients of all parameters behind the first layer's weights.
    pub gradients: F,
    /// Outputs of one example.
    pub outputs: F,
    /// Derivatives by the sums of the current layer, and of the one below; scratch between the passes.
    pub derivatives: [F; 2],
    /// State vectors of the optimizer, each `[num_params]`.
    pub state: F,
}

/// Buffers of one training or evaluation.
pub(crate) type WorkBuffers<'a> = Regions<&'a mut [f32], &'a mut [i32]>;

/// Lengths of all regions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    octets: OctetMemory<u64, u64>,
    gradients: u64,
    outputs: u64,
    derivatives: u64,
    state: u64,
}

impl Layout {
    pub fn training(model: &Model, batch: usize, optimizer: Optimizer) -> Self {
        let num_params = model.shape().num_params();
        let first = model.first();
        Self {
            octets: first.layer.octet_memory(batch),
            gradients: (num_params - first.weights().len()) as u64,
            outputs: model.num_outputs() as u64,
            derivatives: model.widest() as u64,
            state: optimizer.state_vectors() as u64 * num_params as u64,
        }
    }

    pub fn evaluation(model: &Model) -> Self {
        Self {
            octets: model.first().layer.octet_memory(0),
            gradients: 0,
            outputs: model.num_outputs() as u64,
            derivatives: 0,
            state: 0,
        }
    }

    /// The declaration: takes every region, in the order in which they lie.
    fn regions<F: Take, I: Take>(&self, floats: &mut F, ints: &mut I) -> Regions<F::Part, I::Part> {
        Regions {
            octets: OctetMemory {
                deltas: floats.take(self.octets.deltas),
                units: floats.take(self.octets.units),
                list: ints.take(self.octets.list),
                pairs: ints.take(self.octets.pairs),
            },
            gradients: floats.take(self.gradients),
            outputs: floats.take(self.outputs),
            derivatives: [floats.take(self.derivatives), floats.take(self.derivatives)],
            state: floats.take(self.state),
        }
    }

    /// The regions of buffers that are at least as long as planned.
    pub fn cut<'a>(&self, floats: &'a mut [f32], ints: &'a mut [i32]) -> WorkBuffers<'a> {
        self.regions(&mut Cut(floats), &mut Cut(ints))
    }

    fn plan(&self, model: &Model, order: u64) -> Result<MemoryPlan, PlanError> {
        let (mut floats, mut ints) = (Count(0), Count(0));
        let regions = self.regions(&mut floats, &mut ints);
        let (Count(floats), Count(ints)) = (floats, ints);
        for words in [floats, ints, order] {
            bounded(4 * words)?;
        }
        Ok(MemoryPlan {
            parameters_bytes: 4 * model.shape().num_params() as u64,
            gradients_bytes: 4 * regions.gradients,
            activations_bytes: 4 * (floats - regions.gradients - regions.state),
            optimizer_bytes: 4 * regions.state,
            integers_bytes: 4 * ints,
            order_bytes: 4 * order,
            floats: floats as usize,
            ints: ints as usize,
            order: order as usize,
        })
    }
}

/// A buffer that regions are taken from, one behind the other.
trait Take {
    type Part;

    fn take(&mut self, len: u64) -> Self::Part;
}

/// Counts.
struct Count(u64);

impl Take for Count {
    type Part = u64;

    fn take(&mut self, len: u64) -> u64 {
        self.0 += len;
        len
    }
}

/// Cuts slices.
struct Cut<'a, T>(&'a mut [T]);

impl<'a, T> Take for Cut<'a, T> {
    type Part = &'a mut [T];

    fn take(&mut self, len: u64) -> &'a mut [T] {
        let (part, rest) = mem::take(&mut self.0).split_at_mut(len as usize);
        self.0 = rest;
        part
    }
}

fn bounded(bytes: u64) -> Result<(), PlanError> {
    if bytes > MAX_BUFFER_BYTES {
        Err(PlanError::TooLarge)
    } else {
        Ok(())
    }
}
