//! How much memory training and evaluation take, told before any is taken.

use crate::batch;
use crate::error::{Buffer, PlanError, SizeError, TrainError};
use crate::model::Model;
use crate::quantise::Ints;

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
    pub gradients_bytes: u64,
    /// Outputs of one example, and first-layer deltas of a whole batch.
    pub activations_bytes: u64,
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
    /// Gradients and activations.
    pub floats: &'a mut [f32],
    /// Fixed-point numbers of the first layer.
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
            + self.integers_bytes
            + self.order_bytes
    }

    /// Whether `workspace` is at least as large as planned.
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
    /// Memory to train on `num_examples` examples in batches of `batch_size`, for either arithmetic.
    ///
    /// # Errors
    /// [`PlanError`] if a number is 0 or a buffer would not fit a 32-bit device.
    pub fn training_plan(
        &self,
        batch_size: usize,
        num_examples: usize,
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
        let first = self.shape().layer(0);
        let gradients = (self.shape().num_params() - first.weights().len()) as u64;
        let activations = batch::num_activations(self, batch_size);
        let ints = Ints::words(first.d_in, first.d_out, batch_size);
        self.plan(gradients, activations, ints, num_examples.into())
    }

    /// Memory to evaluate any number of examples.
    ///
    /// # Errors
    /// [`PlanError::TooLarge`] if a buffer would not fit a 32-bit device.
    pub fn evaluation_plan(&self) -> Result<MemoryPlan, PlanError> {
        let first = self.shape().layer(0);
        let activations = (first.d_out + self.num_outputs()) as u64;
        self.plan(0, activations, Ints::words(first.d_in, first.d_out, 0), 0)
    }

    fn plan(
        &self,
        gradients: u64,
        activations: u64,
        ints: u64,
        order: u64,
    ) -> Result<MemoryPlan, PlanError> {
        bounded(4 * (gradients + activations))?;
        bounded(4 * ints)?;
        bounded(4 * order)?;
        Ok(MemoryPlan {
            parameters_bytes: 4 * self.shape().num_params() as u64,
            gradients_bytes: 4 * gradients,
            activations_bytes: 4 * activations,
            integers_bytes: 4 * ints,
            order_bytes: 4 * order,
            floats: (gradients + activations) as usize,
            ints: ints as usize,
            order: order as usize,
        })
    }
}

fn bounded(bytes: u64) -> Result<(), PlanError> {
    if bytes > MAX_BUFFER_BYTES {
        Err(PlanError::TooLarge)
    } else {
        Ok(())
    }
}
