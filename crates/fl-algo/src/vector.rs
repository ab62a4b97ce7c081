//! Vectors that a client rule needs beside the model.

use alloc::vec::Vec;

use fl_nn::{Model, Optimizer, PlanError};

use crate::client::RuleError;

/// Length of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// As long as the model has parameters.
    Model,
    /// This many numbers, whatever the model.
    Fixed(u32),
}

impl Length {
    /// Numbers of a vector for a model of `num_params` parameters.
    pub fn of(self, num_params: usize) -> usize {
        match self {
            Self::Model => num_params,
            Self::Fixed(count) => count as usize,
        }
    }
}

/// One vector of a client rule: its name and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VectorSpec {
    /// Name, of 1 to 16 ASCII letters, digits and `_`: that of its section on the wire.
    pub name: &'static str,
    /// Length.
    pub length: Length,
    /// Comes with every `/start`.
    pub down: bool,
    /// Goes with every `/results`.
    pub up: bool,
    /// Stays from round to round and begins as zeros. If it goes up too, the server keeps a copy, from
    /// which a device that has lost its own gets it back.
    pub kept: bool,
}

impl VectorSpec {
    /// A vector that the server keeps a copy of.
    pub fn is_mirrored(&self) -> bool {
        self.kept && self.up
    }
}

/// Message that sections go with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `/start`, to a device.
    Down,
    /// `/results`, from a device.
    Up,
    /// The answer to `/state`, to a device that has lost its kept vectors.
    State,
}

/// Name of the section that holds a model.
pub const MODEL: &str = "model";

/// One section of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionSpec {
    /// Name.
    pub name: &'static str,
    /// Numbers.
    pub count: usize,
    /// Goes as it is, whatever codec the run has chosen.
    pub exact: bool,
}

impl VectorSpec {
    /// The section that this vector is on its way, if it goes it.
    ///
    /// Vectors that come down are as exact as the server has them. Kept vectors go up so too: nothing of
    /// them may be lost on their way to the server and back.
    pub(crate) fn section(&self, way: Way, num_params: usize) -> Option<SectionSpec> {
        let (goes, exact) = match way {
            Way::Down => (self.down, true),
            Way::Up => (self.up, self.kept),
            Way::State => (self.is_mirrored(), true),
        };
        goes.then_some(SectionSpec {
            name: self.name,
            count: self.length.of(num_params),
            exact,
        })
    }
}

/// Training of a device, as far as its memory goes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Demand {
    /// Examples per step.
    pub batch_size: u32,
    /// Its examples.
    pub examples: u32,
    /// Its optimizer.
    pub optimizer: Optimizer,
    /// Keeps the model that came beside the one it trains, to bound its update.
    pub keeps_global: bool,
}

/// Memory that a device needs for its data, the training and the vectors of its rule.
///
/// # Units
/// Bytes.
///
/// # Errors
/// [`PlanError`] if there can be no such training.
pub fn device_bytes(
    model: &Model,
    vectors: &[VectorSpec],
    demand: Demand,
) -> Result<u64, PlanError> {
    let shape = model.shape();
    let (batch_size, examples) = (demand.batch_size as usize, demand.examples as usize);
    let training = model.training_plan_with(batch_size, examples, demand.optimizer)?;
    let data = (shape.num_inputs() as u64 + 1) * u64::from(demand.examples);
    let vectors = Vectors::bytes(vectors, shape.num_params());
    let global = 4 * shape.num_params() as u64 * u64::from(demand.keeps_global);
    Ok(training.total_bytes() + data + vectors + global)
}

/// The buffers behind a list of [`VectorSpec`], in its order.
#[derive(Clone, Debug, Default)]
pub struct Vectors {
    buffers: Vec<Vec<f32>>,
}

impl Vectors {
    /// Bytes that the vectors take.
    pub fn bytes(specs: &[VectorSpec], num_params: usize) -> u64 {
        let each = specs.iter().map(|spec| spec.length.of(num_params) as u64);
        4 * each.sum::<u64>()
    }

    /// Makes room for `specs`; what is there keeps its contents, what is new is zero.
    ///
    /// # Errors
    /// [`RuleError::OutOfMemory`].
    pub(crate) fn prepare(
        &mut self,
        specs: &[VectorSpec],
        num_params: usize,
    ) -> Result<(), RuleError> {
        self.buffers.resize_with(specs.len(), Vec::new);
        for (buffer, spec) in self.buffers.iter_mut().zip(specs) {
            let count = spec.length.of(num_params);
            let more = count.saturating_sub(buffer.len());
            if buffer.try_reserve_exact(more).is_err() {
                return Err(RuleError::OutOfMemory {
                    bytes: Self::bytes(specs, num_params),
                });
            }
            buffer.resize(count, 0.0);
        }
        Ok(())
    }

    /// Vector `index` of the rule's list; empty if there is none.
    pub fn get(&self, index: usize) -> &[f32] {
        self.buffers.get(index).map_or(&[], Vec::as_slice)
    }

    /// Vector `index` of the rule's list, to write; empty if there is none.
    pub fn get_mut(&mut self, index: usize) -> &mut [f32] {
        self.buffers
            .get_mut(index)
            .map_or(&mut [], Vec::as_mut_slice)
    }

    /// Two different vectors at once; empty if either is not there.
    pub fn pair_mut(&mut self, a: usize, b: usize) -> (&mut [f32], &mut [f32]) {
        match self.buffers.get_disjoint_mut([a, b]) {
            Ok([a, b]) => (a, b),
            Err(_) => (&mut [], &mut []),
        }
    }
}
