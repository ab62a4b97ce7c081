//! Vectors that a client rule needs beside the model.

use alloc::vec::Vec;

use fl_nn::{Lists, MAX_LAYERS, Model, Optimizer, PlanError, Shape};

use crate::client::RuleError;

/// Sizes of a model, from which the lengths of vectors and sections follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Parameters.
    pub num_params: usize,
    /// Classes.
    pub num_classes: usize,
    /// Parameters of each weight layer, input side first; 0 behind the last.
    pub layers: [usize; MAX_LAYERS],
}

impl From<&Shape> for Sizes {
    fn from(shape: &Shape) -> Self {
        let mut layers = [0; MAX_LAYERS];
        for (layer, sizes) in layers.iter_mut().zip(shape.sizes().windows(2)) {
            *layer = (sizes[0] as usize + 1) * sizes[1] as usize;
        }
        Self {
            num_params: shape.num_params(),
            num_classes: shape.num_classes(),
            layers,
        }
    }
}

impl From<usize> for Sizes {
    /// A model of which only the number of parameters counts.
    fn from(num_params: usize) -> Self {
        Self {
            num_params,
            ..Self::default()
        }
    }
}

/// Part of the model that stays on the device and never travels. It begins as the initial model of the
/// experiment's seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stays {
    /// Nothing: the whole model travels.
    #[default]
    Nothing,
    /// This many weight layers at the output; all of them if the model has no more.
    LastLayers(u32),
    /// All of it: there is no global model.
    All,
}

impl Stays {
    /// Parameters that travel: the first so many.
    pub fn travelling(self, sizes: &Sizes) -> usize {
        match self {
            Self::Nothing => sizes.num_params,
            Self::All => 0,
            Self::LastLayers(count) => {
                let layers = sizes.layers.iter().filter(|layer| **layer > 0).count();
                let body = layers.saturating_sub(count as usize);
                sizes.layers[..body].iter().sum()
            }
        }
    }
}

/// Length of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// As long as the model has parameters.
    Model,
    /// This many numbers, whatever the model.
    Fixed(u32),
    /// A row of the model's outputs for each class.
    ClassTable,
}

impl Length {
    /// Numbers of a vector for a model of these sizes.
    pub fn of(self, sizes: &Sizes) -> usize {
        match self {
            Self::Model => sizes.num_params,
            Self::Fixed(count) => count as usize,
            Self::ClassTable => sizes.num_classes * sizes.num_classes,
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
    /// which a device that has lost its own gets it back; if not, it is in the device's storage alone.
    pub kept: bool,
}

impl VectorSpec {
    /// A vector that the server keeps a copy of.
    pub fn is_mirrored(&self) -> bool {
        self.kept && self.up
    }

    /// A vector that nobody but the device has.
    pub fn is_personal(&self) -> bool {
        self.kept && !self.up
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
    pub(crate) fn section(&self, way: Way, sizes: &Sizes) -> Option<SectionSpec> {
        let (goes, exact) = match way {
            Way::Down => (self.down, true),
            Way::Up => (self.up, self.kept),
            Way::State => (self.is_mirrored(), true),
        };
        goes.then_some(SectionSpec {
            name: self.name,
            count: self.length.of(sizes),
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
    /// Place of its inputs.
    pub inputs: InputsIn,
}

/// Place of the lists of a device's inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InputsIn {
    /// RAM.
    #[default]
    Ram,
    /// Flash: RAM has that of one example, as it comes.
    Flash,
}

/// Memory of the lists of so many examples, as if no octet were zero.
///
/// # Units
/// Bytes.
pub fn list_bytes(model: &Model, examples: u32) -> u64 {
    4 * Lists::most_words(model.shape().num_inputs()) as u64 * u64::from(examples)
}

/// RAM that a device needs for its data, the training and the vectors of its rule.
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
    // As a device that lists its inputs reserves it: the lists, a start and a label each; and one example as it comes.
    let lists = match demand.inputs {
        InputsIn::Ram => demand.examples,
        InputsIn::Flash => demand.examples.min(1),
    };
    let each = 4 + 1;
    let data = list_bytes(model, lists)
        + each * u64::from(demand.examples)
        + shape.num_inputs() as u64
        + 4;
    let vectors = Vectors::bytes(vectors, &Sizes::from(shape));
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
    pub fn bytes(specs: &[VectorSpec], sizes: &Sizes) -> u64 {
        let each = specs.iter().map(|spec| spec.length.of(sizes) as u64);
        4 * each.sum::<u64>()
    }

    /// Makes room for `specs`; what is there keeps its contents, what is new is zero.
    ///
    /// # Errors
    /// [`RuleError::OutOfMemory`].
    pub(crate) fn prepare(&mut self, specs: &[VectorSpec], sizes: &Sizes) -> Result<(), RuleError> {
        self.buffers.resize_with(specs.len(), Vec::new);
        for (buffer, spec) in self.buffers.iter_mut().zip(specs) {
            let count = spec.length.of(sizes);
            let more = count.saturating_sub(buffer.len());
            if buffer.try_reserve_exact(more).is_err() {
                return Err(RuleError::OutOfMemory {
                    bytes: Self::bytes(specs, sizes),
                });
            }
            buffer.resize(count, 0.0);
        }
        Ok(())
    }

    /// Gives back the memory of some of the vectors.
    pub(crate) fn give_back(&mut self, specs: &[VectorSpec], which: impl Fn(&VectorSpec) -> bool) {
        let both = self.buffers.iter_mut().zip(specs);
        for (buffer, _) in both.filter(|(_, spec)| which(spec)) {
            *buffer = Vec::new();
        }
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

    /// All of them, to write.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.buffers.iter_mut().map(Vec::as_mut_slice)
    }

    /// Two different vectors at once; empty if either is not there.
    pub fn pair_mut(&mut self, a: usize, b: usize) -> (&mut [f32], &mut [f32]) {
        match self.buffers.get_disjoint_mut([a, b]) {
            Ok([a, b]) => (a, b),
            Err(_) => (&mut [], &mut []),
        }
    }
}
