//! Vectors that a client rule needs beside the model.

use alloc::vec::Vec;

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
