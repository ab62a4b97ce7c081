//! Mini-batch SGD as a state machine of bounded steps; the work itself is in [`crate::batch`].

use fl_rng::{Pcg32, Purpose};

use crate::batch::Examples;
use crate::error::{SizeError, TrainError};
use crate::model::Model;
use crate::plan::{MemoryPlan, Workspace};
use crate::shape::Shape;

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
    /// Seed of the order of examples, already derived ([`fl_rng::derive_seed`]).
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

/// Where in an epoch a training stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    BeginEpoch,
    BeginBatch,
    /// Before this example of the batch.
    Examples(usize),
    BeginInputs,
    /// Before this input of the model.
    Inputs(usize),
    Done,
}

/// One training: a state machine over the caller's parameters, examples and workspace.
#[derive(Clone, Debug)]
pub struct Trainer {
    pub(crate) model: Model,
    pub(crate) config: TrainConfig,
    pub(crate) num_examples: usize,
    pub(crate) batch_size: usize,
    /// First example of the current batch within the order.
    pub(crate) batch_begin: usize,
    pub(crate) loss_sum: f64,
    plan: MemoryPlan,
    rng: Pcg32,
    phase: Phase,
    epoch: u32,
    mean_loss: f32,
}

impl Trainer {
    /// Prepares a training on `num_examples` examples.
    ///
    /// # Errors
    /// [`TrainError`] if a hyper-parameter is out of range.
    pub fn new(
        model: &Model,
        config: TrainConfig,
        num_examples: usize,
    ) -> Result<Self, TrainError> {
        let plan = model.training_plan(config.batch_size as usize, num_examples)?;
        if config.local_epochs == 0 {
            return Err(TrainError::ZeroEpochs);
        }
        if !(config.learning_rate.is_finite() && config.learning_rate > 0.0) {
            return Err(TrainError::LearningRate);
        }
        Ok(Self {
            model: *model,
            config,
            num_examples,
            batch_size: num_examples.min(config.batch_size as usize),
            batch_begin: 0,
            loss_sum: 0.0,
            plan,
            rng: Pcg32::new(Purpose::ExampleOrder, config.seed),
            phase: Phase::BeginEpoch,
            epoch: 1,
            mean_loss: 0.0,
        })
    }

    /// The memory that [`Trainer::step`] asks for.
    pub fn plan(&self) -> &MemoryPlan {
        &self.plan
    }

    /// Works for about as long as the forward pass of `max_examples` examples takes, at least a little.
    ///
    /// Every call gets the same `params`, `inputs`, `labels` and `workspace`. The result does not depend
    /// on how the work was cut.
    ///
    /// # Shapes
    /// `params`: `[num_params]`; `inputs`: row-major `[num_examples, d_in]`; `labels`: `[num_examples]`;
    /// `workspace`: by [`Model::training_plan`].
    ///
    /// # Errors
    /// [`TrainError`] if a length or a label does not fit (nothing has changed then), or
    /// [`TrainError::Diverged`] (`params` is then worthless, and so is this training).
    pub fn step(
        &mut self,
        params: &mut [f32],
        inputs: &[u8],
        labels: &[u8],
        workspace: &mut Workspace<'_>,
        max_examples: u32,
    ) -> Result<Step, TrainError> {
        let shape = self.model.shape();
        check_params(shape, params)?;
        if labels.len() != self.num_examples {
            let size = SizeError {
                expected: self.num_examples,
                actual: labels.len(),
            };
            return Err(TrainError::Labels(size));
        }
        check_lengths(shape, inputs, labels)?;
        self.plan.check(workspace)?;
        if self.phase == Phase::BeginEpoch && self.epoch == 1 {
            check_labels(shape, labels)?;
        }
        let (d_in, num_classes) = (shape.num_inputs(), shape.num_classes());
        let examples = Examples {
            inputs,
            labels,
            d_in,
            num_classes,
        };
        let mut budget = max_examples.max(1) as usize;
        while budget > 0 && self.phase != Phase::Done {
            self.phase = self.advance(params, examples, workspace, &mut budget)?;
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
            Phase::BeginInputs | Phase::Inputs(_) => self.batch_len(),
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
    /// Each example counts with the parameters that its batch started from.
    pub fn mean_loss(&self) -> f32 {
        self.mean_loss
    }

    /// Examples of the current batch.
    pub(crate) fn batch_len(&self) -> usize {
        self.batch_size.min(self.num_examples - self.batch_begin)
    }

    /// Works through one phase, or as much of it as `budget` allows, and tells the next.
    fn advance(
        &mut self,
        params: &mut [f32],
        examples: Examples<'_>,
        workspace: &mut Workspace<'_>,
        budget: &mut usize,
    ) -> Result<Phase, TrainError> {
        let batch = self.batch_len();
        Ok(match self.phase {
            Phase::BeginEpoch => {
                self.begin_epoch(workspace);
                Phase::BeginBatch
            }
            Phase::BeginBatch => {
                self.begin_batch(params, workspace)?;
                Phase::Examples(0)
            }
            Phase::Examples(begin) => {
                let end = batch.min(begin.saturating_add(*budget));
                self.run_examples(params, examples, workspace, begin..end)?;
                *budget -= end - begin;
                if end < batch {
                    Phase::Examples(end)
                } else {
                    Phase::BeginInputs
                }
            }
            Phase::BeginInputs => {
                self.begin_inputs(params, workspace)?;
                Phase::Inputs(0)
            }
            Phase::Inputs(begin) => {
                // All inputs together cost about as much as one pass over the batch.
                let num_inputs = self.model.shape().num_inputs() as u64;
                let share = (*budget as u64 * num_inputs / batch as u64)
                    .next_multiple_of(4)
                    .max(4);
                let end = (begin as u64 + share).min(num_inputs) as usize;
                self.run_inputs(params, examples, workspace, begin..end);
                let spent = (end - begin) as u64 * batch as u64 / num_inputs;
                *budget = budget.saturating_sub((spent as usize).max(1));
                if (end as u64) < num_inputs {
                    Phase::Inputs(end)
                } else {
                    self.end_batch(params)?
                }
            }
            Phase::Done => Phase::Done,
        })
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

    fn end_batch(&mut self, params: &[f32]) -> Result<Phase, TrainError> {
        self.batch_begin += self.batch_len();
        if self.batch_begin < self.num_examples {
            return Ok(Phase::BeginBatch);
        }
        self.mean_loss = (self.loss_sum / self.num_examples as f64) as f32;
        if self.epoch < self.config.local_epochs {
            self.epoch += 1;
            self.batch_begin = 0;
            return Ok(Phase::BeginEpoch);
        }
        // Within the training a number that is not finite shows in a loss or in a quantisation, but no
        // pass comes after the last update.
        let finite = params.iter().all(|param| param.is_finite());
        if finite {
            Ok(Phase::Done)
        } else {
            Err(TrainError::Diverged)
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

pub(crate) fn check_lengths(shape: &Shape, inputs: &[u8], labels: &[u8]) -> Result<(), TrainError> {
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

pub(crate) fn check_labels(shape: &Shape, labels: &[u8]) -> Result<(), TrainError> {
    match labels
        .iter()
        .position(|&label| usize::from(label) >= shape.num_classes())
    {
        Some(example) => Err(TrainError::Label {
            example: example as u32,
            label: labels[example],
        }),
        None => Ok(()),
    }
}
