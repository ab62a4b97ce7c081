//! Mini-batch SGD in bounded steps.
//!
//! A batch has two passes. The *example pass* runs each example forward and back, adds up the gradients of
//! the later layers, and keeps the first layer's deltas. The *input pass* then takes the inputs one by
//! one, sums that input's row of the first layer's gradient over the batch, and applies it: that gradient
//! is as large as the weights and is never stored. A step may end anywhere in either pass.

use core::mem;

use crate::error::{SizeError, TrainError};
use crate::network::Network;
use crate::plan::{MemoryPlan, Workspace};
use crate::rng::Pcg32;
use crate::shape::Shape;
use crate::{dense, fixed, float, loss};

/// The stream of [`Pcg32`] that examples are shuffled by.
const SHUFFLE_STREAM: u64 = 1;

/// How the first layer is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arithmetic {
    /// Exact integer sums over rounded weights and deltas: many times faster on an emulated device.
    #[default]
    Fixed,
    /// Plain f32, the reference.
    Float,
}

/// What one client is asked to do in one round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainConfig {
    /// Passes over the client's examples.
    pub local_epochs: u32,
    /// Examples per update; clamped to the number of examples, and the last batch may be short.
    pub batch_size: u32,
    /// Step width of SGD on the mean gradient of a batch.
    pub learning_rate: f32,
    /// Seed of the order of examples, already derived ([`crate::derive_seed`]).
    pub seed: u64,
    /// Arithmetic of the first layer.
    pub arithmetic: Arithmetic,
}

/// What a step left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Call again.
    Working,
    /// The parameters are final.
    Done,
}

/// How far a training is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Examples run forward and back, over all epochs.
    pub done_examples: u64,
    /// Examples to run, over all epochs.
    pub total_examples: u64,
    /// The current epoch from 1, or the last one when done.
    pub epoch: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    BeginEpoch,
    BeginBatch,
    /// The next example of the batch.
    Examples(usize),
    BeginUpdate,
    /// The next input of the network.
    Inputs(usize),
    Done,
}

/// One training: a state machine over the caller's parameters, examples and workspace.
#[derive(Clone, Debug)]
pub struct Trainer {
    network: Network,
    config: TrainConfig,
    plan: MemoryPlan,
    num_examples: usize,
    batch_size: usize,
    rng: Pcg32,
    phase: Phase,
    epoch: u32,
    /// First example of the current batch within the order.
    batch_begin: usize,
    loss_sum: f64,
    mean_loss: f32,
}

/// The parts of `Workspace::floats`.
struct Floats<'a> {
    /// First-layer deltas of the batch, `[batch, d_out]`.
    deltas: &'a mut [f32],
    /// Units of the first layer's columns.
    units: &'a mut [f32],
    /// Gradients of all parameters behind the first layer's weights.
    gradients: &'a mut [f32],
    /// Outputs of one example.
    outputs: &'a mut [f32],
    /// Derivatives by the outputs of the current layer, and room for the one below.
    back: [&'a mut [f32]; 2],
}

impl Trainer {
    /// Prepares a training on `num_examples` examples.
    ///
    /// # Errors
    /// [`TrainError`] if a hyper-parameter is out of range.
    pub fn new(
        network: &Network,
        config: TrainConfig,
        num_examples: usize,
    ) -> Result<Self, TrainError> {
        let plan = network.training_plan(config.batch_size as usize, num_examples)?;
        if config.local_epochs == 0 {
            return Err(TrainError::ZeroEpochs);
        }
        if !(config.learning_rate.is_finite() && config.learning_rate > 0.0) {
            return Err(TrainError::LearningRate);
        }
        Ok(Self {
            network: *network,
            config,
            plan,
            num_examples,
            batch_size: num_examples.min(config.batch_size as usize),
            rng: Pcg32::new(config.seed, SHUFFLE_STREAM),
            phase: Phase::BeginEpoch,
            epoch: 1,
            batch_begin: 0,
            loss_sum: 0.0,
            mean_loss: 0.0,
        })
    }

    /// The memory that [`Trainer::step`] asks for.
    pub fn plan(&self) -> &MemoryPlan {
        &self.plan
    }

    /// Works for as long as about `max_examples` examples take, at least a little.
    ///
    /// Every call gets the same `params`, `inputs`, `labels` and `workspace`; the result does not depend
    /// on how the work was cut.
    ///
    /// # Shapes
    /// `params`: `[num_params]`; `inputs`: row-major `[num_examples, d_in]`; `labels`: `[num_examples]`;
    /// `workspace`: by [`Network::training_plan`].
    ///
    /// # Errors
    /// [`TrainError`] if a length or a label does not fit (nothing has changed then), or
    /// [`TrainError::Diverged`] (`params` is then worthless). The training is over after an error.
    pub fn step(
        &mut self,
        params: &mut [f32],
        inputs: &[u8],
        labels: &[u8],
        workspace: &mut Workspace<'_>,
        max_examples: u32,
    ) -> Result<Step, TrainError> {
        check_params(self.network.shape(), params)?;
        if labels.len() != self.num_examples {
            let size = SizeError {
                expected: self.num_examples,
                actual: labels.len(),
            };
            return Err(TrainError::Labels(size));
        }
        check_lengths(self.network.shape(), inputs, labels)?;
        self.plan.check(workspace)?;
        if self.phase == Phase::BeginEpoch && self.epoch == 1 {
            check_labels(self.network.shape(), labels)?;
        }
        let mut budget = max_examples.max(1) as usize;
        while budget > 0 && self.phase != Phase::Done {
            self.advance(params, inputs, labels, workspace, &mut budget)?;
        }
        Ok(if self.phase == Phase::Done {
            Step::Done
        } else {
            Step::Working
        })
    }

    /// How far the training is.
    pub fn progress(&self) -> Progress {
        let in_batch = match self.phase {
            Phase::Examples(next) => next,
            Phase::BeginUpdate | Phase::Inputs(_) => self.batch_len(),
            Phase::BeginEpoch | Phase::BeginBatch | Phase::Done => 0,
        };
        let epochs = u64::from(self.epoch - 1) * self.num_examples as u64;
        Progress {
            done_examples: epochs + (self.batch_begin + in_batch) as u64,
            total_examples: u64::from(self.config.local_epochs) * self.num_examples as u64,
            epoch: self.epoch,
        }
    }

    /// Mean cross-entropy over the last finished epoch, in nats; 0 before the first is finished.
    ///
    /// Each example counts with the parameters its batch started from.
    pub fn mean_loss(&self) -> f32 {
        self.mean_loss
    }

    fn batch_len(&self) -> usize {
        self.batch_size.min(self.num_examples - self.batch_begin)
    }

    /// One phase, or as much of it as `budget` allows.
    fn advance(
        &mut self,
        params: &mut [f32],
        inputs: &[u8],
        labels: &[u8],
        workspace: &mut Workspace<'_>,
        budget: &mut usize,
    ) -> Result<(), TrainError> {
        self.phase = match self.phase {
            Phase::BeginEpoch => {
                self.begin_epoch(workspace);
                Phase::BeginBatch
            }
            Phase::BeginBatch => {
                self.begin_batch(params, workspace)?;
                Phase::Examples(0)
            }
            Phase::Examples(begin) => {
                let end = self.batch_len().min(begin.saturating_add(*budget));
                for position in begin..end {
                    let example = workspace.order[self.batch_begin + position] as usize;
                    self.run_example(params, inputs, labels, workspace, position, example)?;
                }
                *budget -= end - begin;
                if end == self.batch_len() {
                    Phase::BeginUpdate
                } else {
                    Phase::Examples(end)
                }
            }
            Phase::BeginUpdate => {
                self.update_later_layers(params, workspace)?;
                Phase::Inputs(0)
            }
            Phase::Inputs(begin) => self.run_inputs(params, inputs, workspace, begin, budget),
            Phase::Done => Phase::Done,
        };
        Ok(())
    }

    fn begin_epoch(&mut self, workspace: &mut Workspace<'_>) {
        let order = &mut workspace.order[..self.num_examples];
        if self.epoch == 1 {
            order
                .iter_mut()
                .zip(0..)
                .for_each(|(slot, example)| *slot = example);
        }
        self.rng.shuffle(order);
        self.loss_sum = 0.0;
    }

    fn begin_batch(
        &mut self,
        params: &[f32],
        workspace: &mut Workspace<'_>,
    ) -> Result<(), TrainError> {
        let floats = self.split(workspace.floats);
        floats.gradients.fill(0.0);
        match self.config.arithmetic {
            Arithmetic::Fixed => {
                let weights = &params[self.network.shape().layer(0).weights()];
                fixed::quantise(weights, floats.units, workspace.ints)
            }
            Arithmetic::Float => Ok(()),
        }
    }

    /// Forward and back for one example.
    fn run_example(
        &mut self,
        params: &[f32],
        inputs: &[u8],
        labels: &[u8],
        workspace: &mut Workspace<'_>,
        position: usize,
        example: usize,
    ) -> Result<(), TrainError> {
        let shape = *self.network.shape();
        let first = shape.layer(0);
        let input = &inputs[example * first.d_in..][..first.d_in];
        let label = usize::from(labels[example]);
        let Floats {
            deltas,
            units,
            gradients,
            outputs,
            back: [mut upper, mut lower],
        } = self.split(workspace.floats);

        let sums = &mut outputs[..first.d_out];
        let (weights, bias) = params[first.params()].split_at(first.weights().len());
        match self.config.arithmetic {
            Arithmetic::Fixed => fixed::forward(workspace.ints, units, bias, input, sums),
            Arithmetic::Float => float::forward(weights, bias, input, sums),
        }
        self.network.finish_forward(params, outputs);

        let mut end = outputs.len();
        let classes = shape.num_classes();
        if label >= classes {
            let example = example as u32;
            return Err(TrainError::Label {
                example,
                label: labels[example as usize],
            });
        }
        let loss =
            loss::cross_entropy_gradient(&outputs[end - classes..], label, &mut upper[..classes]);
        if !loss.is_finite() {
            return Err(TrainError::Diverged);
        }
        for index in (1..shape.num_layers()).rev() {
            let layer = shape.layer(index);
            end -= layer.d_out;
            let below = &outputs[end - layer.d_in..end];
            let range = layer.params();
            let offset = first.weights().len();
            let gradient = &mut gradients[range.start - offset..range.end - offset];
            let deltas = &upper[..layer.d_out];
            dense::add_gradient(gradient, below, deltas);
            dense::backward(&params[range], deltas, &mut lower[..layer.d_in]);
            self.network
                .activation()
                .backward(below, &mut lower[..layer.d_in]);
            mem::swap(&mut upper, &mut lower);
        }
        let delta = &upper[..first.d_out];
        dense::add_gradient(&mut gradients[..first.d_out], &[], delta);
        deltas[position * first.d_out..][..first.d_out].copy_from_slice(delta);
        self.loss_sum += f64::from(loss);
        Ok(())
    }

    /// Applies the gradients of everything but the first layer's weights, and rounds the deltas.
    fn update_later_layers(
        &mut self,
        params: &mut [f32],
        workspace: &mut Workspace<'_>,
    ) -> Result<(), TrainError> {
        let batch = self.batch_len();
        let first = self.network.shape().layer(0);
        let rate = self.config.learning_rate / batch as f32;
        let floats = self.split(workspace.floats);
        let mut finite = true;
        let later = &mut params[first.weights().end..];
        for (param, gradient) in later.iter_mut().zip(&*floats.gradients) {
            *param -= rate * gradient;
            finite &= param.is_finite();
        }
        if !finite {
            return Err(TrainError::Diverged);
        }
        let deltas = &floats.deltas[..batch * first.d_out];
        match self.config.arithmetic {
            Arithmetic::Fixed => fixed::quantise(deltas, floats.units, workspace.ints),
            Arithmetic::Float => Ok(()),
        }
    }

    /// Sums and applies rows of the first layer's gradient from input `begin` on.
    fn run_inputs(
        &mut self,
        params: &mut [f32],
        inputs: &[u8],
        workspace: &mut Workspace<'_>,
        begin: usize,
        budget: &mut usize,
    ) -> Phase {
        let batch = self.batch_len();
        let first = self.network.shape().layer(0);
        // All inputs cost as much as one example each of the batch.
        let share = (*budget as u64 * first.d_in as u64).div_ceil(batch as u64);
        let end = (begin as u64 + share).min(first.d_in as u64) as usize;
        let order = &workspace.order[self.batch_begin..][..batch];
        let rate = self.config.learning_rate / batch as f32;
        let floats = self.split(workspace.floats);
        let deltas = &floats.deltas[..batch * first.d_out];
        for (input, weights) in params[first.weights()]
            .chunks_exact_mut(first.d_out)
            .enumerate()
            .take(end)
            .skip(begin)
        {
            let column = order
                .iter()
                .map(|&n| inputs[n as usize * first.d_in + input]);
            match self.config.arithmetic {
                Arithmetic::Fixed => {
                    fixed::update(workspace.ints, floats.units, rate / 255.0, column, weights);
                }
                Arithmetic::Float => float::update(deltas, rate, column, weights),
            }
        }
        let spent = ((end - begin) as u64 * batch as u64).div_ceil(first.d_in as u64) as usize;
        *budget = budget.saturating_sub(spent.max(1));
        if end < first.d_in {
            return Phase::Inputs(end);
        }
        self.end_batch(batch)
    }

    fn end_batch(&mut self, batch: usize) -> Phase {
        self.batch_begin += batch;
        if self.batch_begin < self.num_examples {
            return Phase::BeginBatch;
        }
        self.mean_loss = (self.loss_sum / self.num_examples as f64) as f32;
        if self.epoch == self.config.local_epochs {
            return Phase::Done;
        }
        self.epoch += 1;
        self.batch_begin = 0;
        Phase::BeginEpoch
    }

    fn split<'a>(&self, floats: &'a mut [f32]) -> Floats<'a> {
        let shape = self.network.shape();
        let first = shape.layer(0);
        let widest = shape.layers().map(|layer| layer.d_out).max().unwrap_or(0);
        let (deltas, rest) = floats.split_at_mut(self.batch_size * first.d_out);
        let (units, rest) = rest.split_at_mut(first.d_out);
        let (gradients, rest) = rest.split_at_mut(shape.num_params() - first.weights().len());
        let (outputs, rest) = rest.split_at_mut(self.network.num_outputs());
        let (upper, rest) = rest.split_at_mut(widest);
        Floats {
            deltas,
            units,
            gradients,
            outputs,
            back: [upper, &mut rest[..widest]],
        }
    }
}

pub(crate) fn check_params(shape: &Shape, params: &[f32]) -> Result<(), TrainError> {
    let size = SizeError {
        expected: shape.num_params(),
        actual: params.len(),
    };
    if size.expected == size.actual {
        Ok(())
    } else {
        Err(TrainError::Params(size))
    }
}

pub(crate) fn check_examples(
    shape: &Shape,
    inputs: &[u8],
    labels: &[u8],
) -> Result<(), TrainError> {
    check_lengths(shape, inputs, labels)?;
    check_labels(shape, labels)
}

fn check_lengths(shape: &Shape, inputs: &[u8], labels: &[u8]) -> Result<(), TrainError> {
    let expected = labels.len().saturating_mul(shape.num_inputs());
    let size = SizeError {
        expected,
        actual: inputs.len(),
    };
    if size.expected == size.actual {
        Ok(())
    } else {
        Err(TrainError::Inputs(size))
    }
}

fn check_labels(shape: &Shape, labels: &[u8]) -> Result<(), TrainError> {
    let classes = shape.num_classes();
    match labels
        .iter()
        .position(|&label| usize::from(label) >= classes)
    {
        Some(example) => Err(TrainError::Label {
            example: example as u32,
            label: labels[example],
        }),
        None => Ok(()),
    }
}
