//! Mini-batch training as a state machine of bounded steps; the work itself is in [`batch`].

mod batch;
mod config;
mod integer;
mod optimizer;
mod update;

use fl_rng::{Pcg32, Purpose};

use crate::arithmetic::Arithmetic;
use crate::error::{SizeError, TrainError};
use crate::examples::Examples;
use crate::inputs::Inputs;
use crate::kernels::level;
use crate::memory::{Layout, MemoryPlan, Workspace};
use crate::model::Model;
pub(crate) use batch::Batch;
use batch::{Listing, RowPlace};
pub use config::TrainConfig;
use integer::Integer;
#[cfg(feature = "host")]
pub(crate) use optimizer::AdamStep;
pub use optimizer::Optimizer;
pub use update::Correction;
pub(crate) use update::Hook;
use update::{Carried, Rule, Visit};

/// Work that a step left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Call again.
    Working,
    /// The parameters are final.
    Done,
}

/// Progress of a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Examples run forward and back, over all epochs.
    pub done_examples: u64,
    /// Examples to run, over all epochs.
    pub total_examples: u64,
    /// The current epoch from 1, or the last one when done.
    pub epoch: u32,
}

/// Place of a training in its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TrainPhase {
    BeginEpoch,
    BeginBatch,
    /// Before this example of the batch.
    Examples(usize),
    BeginRows,
    /// Before this place among the rows of the first layer, whose gradient is measured for clipping.
    Measure(RowPlace),
    /// Before the update of all but the first layer's weights.
    Later,
    /// Before this place in the update of the rows of the first layer.
    Rows(RowPlace),
    Done,
}

/// One training: a state machine over the caller's parameters, examples and workspace.
#[derive(Clone, Debug)]
pub struct Trainer {
    model: Model,
    config: TrainConfig,
    num_examples: usize,
    batch_size: usize,
    /// First example of the current batch within the order.
    batch_begin: usize,
    loss_sum: f64,
    plan: MemoryPlan,
    layout: Layout,
    rng: Pcg32,
    phase: TrainPhase,
    epoch: u32,
    steps_done: u32,
    carried: Carried,
    mean_loss: f32,
    integer: Integer,
    columns: Listing,
    /// Vector instructions, and what they keep from step to step.
    #[cfg(feature = "host")]
    host: Option<Box<crate::host::Host>>,
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
        let (batch_size, optimizer) = (config.batch_size as usize, config.optimizer);
        let plan = model.training_plan_with(batch_size, num_examples, optimizer)?;
        config.check()?;
        let batch_size = num_examples.min(batch_size);
        Ok(Self {
            model: *model,
            config,
            num_examples,
            batch_size,
            batch_begin: 0,
            loss_sum: 0.0,
            plan,
            layout: Layout::training(model, batch_size, optimizer),
            rng: Pcg32::new(Purpose::ExampleOrder, config.seed),
            phase: TrainPhase::BeginEpoch,
            epoch: 1,
            steps_done: 0,
            carried: Carried::new(),
            mean_loss: 0.0,
            integer: Integer::default(),
            columns: Listing::default(),
            #[cfg(feature = "host")]
            host: crate::host::Host::training(
                model,
                config.arithmetic,
                config.local_epochs,
                num_examples,
                batch_size,
            )
            .map(Box::new),
        })
    }

    /// Memory that [`Trainer::step`] asks for.
    pub fn plan(&self) -> &MemoryPlan {
        &self.plan
    }

    /// Works for about as long as the forward pass of `max_examples` examples takes, at least a little.
    ///
    /// Every call gets the same `params`, `inputs`, `labels` and `workspace`. The result does not depend
    /// on how the work was cut.
    ///
    /// # Shapes
    /// `params`: `[num_params]`; `inputs`: of `[num_examples]`; `labels`: `[num_examples]`;
    /// `workspace`: by [`Trainer::plan`].
    ///
    /// # Errors
    /// [`TrainError`] if a length or a label does not fit (nothing has changed then), or
    /// [`TrainError::Diverged`] (`params` is then worthless, and so is this training).
    pub fn step<'i>(
        &mut self,
        params: &mut [f32],
        inputs: impl Into<Inputs<'i>>,
        labels: &[u8],
        workspace: &mut Workspace<'_>,
        max_examples: u32,
    ) -> Result<Step, TrainError> {
        self.step_with(params, inputs, labels, workspace, max_examples, None)
    }

    /// As [`Trainer::step`], with a correction of every gradient; either all calls of a training bring it
    /// or none.
    ///
    /// # Shapes
    /// As [`Trainer::step`].
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn step_with<'i>(
        &mut self,
        params: &mut [f32],
        inputs: impl Into<Inputs<'i>>,
        labels: &[u8],
        workspace: &mut Workspace<'_>,
        max_examples: u32,
        correction: Option<&mut dyn Correction>,
    ) -> Result<Step, TrainError> {
        self.step_on(
            params,
            inputs.into(),
            labels,
            workspace,
            max_examples,
            correction,
        )
    }

    fn step_on(
        &mut self,
        params: &mut [f32],
        inputs: Inputs<'_>,
        labels: &[u8],
        workspace: &mut Workspace<'_>,
        max_examples: u32,
        mut correction: Option<&mut dyn Correction>,
    ) -> Result<Step, TrainError> {
        let shape = self.model.shape();
        SizeError::check(shape.num_params(), params.len()).map_err(TrainError::Params)?;
        SizeError::check(self.num_examples, labels.len()).map_err(TrainError::Labels)?;
        let examples = Examples::new(shape, inputs, labels)?;
        self.plan.check(workspace)?;
        if self.config.is_integer() && correction.is_some() {
            return Err(TrainError::NotPlain);
        }
        // Lists are for the plain form.
        #[cfg(feature = "host")]
        if matches!(inputs, Inputs::Lists(_)) {
            self.host = None;
        }
        if self.phase == TrainPhase::BeginEpoch && self.epoch == 1 {
            examples.check_labels()?;
        }
        let mut budget = max_examples.max(1) as usize;
        while budget > 0 && self.phase != TrainPhase::Done {
            self.phase = self.advance(params, examples, workspace, &mut budget, &mut correction)?;
        }
        // Its lists are for the next training, however long this one's results are kept.
        #[cfg(feature = "host")]
        if self.phase == TrainPhase::Done {
            self.host = None;
        }
        Ok(if self.phase == TrainPhase::Done {
            Step::Done
        } else {
            Step::Working
        })
    }

    /// Words of [`Workspace::ints`] beyond the plan that make this training of `inputs` faster on this processor, and
    /// change nothing else.
    pub fn spare_words(&self, inputs: Inputs<'_>) -> usize {
        let Inputs::Lists(lists) = inputs else {
            return 0;
        };
        if !level::has_columns() || self.config.arithmetic != Arithmetic::Fixed {
            return 0;
        }
        // A batch has its share of the entries, and a little more.
        let entries = lists.entries() as u64 * self.batch_size as u64 / self.num_examples as u64;
        let more = if self.batch_size < self.num_examples {
            entries / 32
        } else {
            0
        };
        let layer = self.model.first().layer;
        layer.column_words(self.batch_size, (entries + more) as usize)
    }

    /// Progress so far.
    pub fn progress(&self) -> Progress {
        let in_batch = match self.phase {
            TrainPhase::Examples(next) => next,
            TrainPhase::BeginRows
            | TrainPhase::Measure(_)
            | TrainPhase::Later
            | TrainPhase::Rows(_) => self.batch_len(),
            TrainPhase::BeginEpoch | TrainPhase::BeginBatch | TrainPhase::Done => 0,
        };
        let epochs = u64::from(self.epoch - 1) * self.num_examples as u64;
        Progress {
            done_examples: epochs + (self.batch_begin + in_batch) as u64,
            total_examples: u64::from(self.config.local_epochs) * self.num_examples as u64,
            epoch: self.epoch,
        }
    }

    /// Optimizer steps done, one per batch.
    pub fn steps_done(&self) -> u32 {
        self.steps_done
    }

    /// Mean cross-entropy over the last finished epoch; 0 before the first is finished.
    ///
    /// Each example counts with the parameters that its batch started from.
    ///
    /// # Units
    /// Nats.
    pub fn mean_loss(&self) -> f32 {
        self.mean_loss
    }

    /// Examples of the current batch.
    fn batch_len(&self) -> usize {
        self.batch_size.min(self.num_examples - self.batch_begin)
    }

    /// Works through one phase, or as much of it as `budget` allows, and returns the next.
    fn advance(
        &mut self,
        params: &mut [f32],
        examples: Examples<'_>,
        workspace: &mut Workspace<'_>,
        budget: &mut usize,
        hook: &mut Hook<'_>,
    ) -> Result<TrainPhase, TrainError> {
        if self.phase == TrainPhase::BeginEpoch {
            self.begin_epoch(params, workspace)?;
            return Ok(TrainPhase::BeginBatch);
        }
        let (model, config, len) = (self.model, self.config, self.batch_len());
        let (ints, spare) = workspace.ints.split_at_mut(self.plan.ints);
        let mut batch = Batch {
            model: &model,
            config: &config,
            examples,
            order: &workspace.order[self.batch_begin..][..len],
            buffers: self.layout.cut(workspace.floats, ints),
            spare,
            columns: self.columns,
            integer: self.integer,
            #[cfg(feature = "host")]
            host: self.host.take(),
        };
        let next = self.advance_batch(&mut batch, params, budget, hook);
        self.integer = batch.integer;
        self.columns = batch.columns;
        #[cfg(feature = "host")]
        {
            self.host = batch.host.take();
        }
        next
    }

    /// [`Trainer::advance`] within a batch.
    fn advance_batch(
        &mut self,
        batch: &mut Batch<'_>,
        params: &mut [f32],
        budget: &mut usize,
        hook: &mut Hook<'_>,
    ) -> Result<TrainPhase, TrainError> {
        let len = batch.order.len();
        match self.phase {
            TrainPhase::BeginBatch => {
                batch.begin(params)?;
                Ok(TrainPhase::Examples(0))
            }
            TrainPhase::Examples(begin) => {
                let end = len.min(begin.saturating_add(*budget));
                batch.run_examples(params, begin..end, &mut self.loss_sum, hook)?;
                *budget -= end - begin;
                if end < len {
                    Ok(TrainPhase::Examples(end))
                } else {
                    Ok(TrainPhase::BeginRows)
                }
            }
            _ => self.advance_update(batch, params, budget, hook),
        }
    }

    /// [`Trainer::advance`] once all examples of a batch are run.
    fn advance_update(
        &mut self,
        batch: &mut Batch<'_>,
        params: &mut [f32],
        budget: &mut usize,
        hook: &mut Hook<'_>,
    ) -> Result<TrainPhase, TrainError> {
        let leaves = |hook: &&mut (dyn Correction + '_)| !hook.changes_gradients();
        let plain = hook.as_ref().is_none_or(leaves) && self.config.is_plain();
        let carried = &mut self.carried;
        Ok(match self.phase {
            TrainPhase::BeginRows => {
                batch.begin_rows()?;
                carried.begin_step(self.config.optimizer);
                if self.config.clip_norm.is_none() {
                    return Ok(TrainPhase::Later);
                }
                batch.visit_later(Rule::new(Visit::Measure, carried, hook), params);
                TrainPhase::Measure(RowPlace::default())
            }
            TrainPhase::Measure(begin) => {
                let (rows, next) = batch.rows(begin, budget);
                batch.visit_rows(Rule::new(Visit::Measure, carried, hook), params, rows);
                if next.is_none() {
                    carried.clip(self.config.clip_norm)?;
                }
                next.map_or(TrainPhase::Later, TrainPhase::Measure)
            }
            TrainPhase::Later => {
                if plain {
                    batch.update_later(params);
                } else {
                    batch.visit_later(Rule::new(Visit::Apply, carried, hook), params);
                }
                TrainPhase::Rows(RowPlace::default())
            }
            TrainPhase::Rows(begin) => {
                let (rows, next) = batch.rows(begin, budget);
                if plain {
                    batch.update_rows(params, rows);
                } else {
                    batch.visit_rows(Rule::new(Visit::Apply, carried, hook), params, rows);
                }
                match next {
                    Some(next) => TrainPhase::Rows(next),
                    None => self.end_batch(params)?,
                }
            }
            _ => TrainPhase::Done,
        })
    }

    fn begin_epoch(
        &mut self,
        params: &mut [f32],
        workspace: &mut Workspace<'_>,
    ) -> Result<(), TrainError> {
        let order = &mut workspace.order[..self.num_examples];
        if self.epoch == 1 {
            order
                .iter_mut()
                .zip(0..)
                .for_each(|(slot, example)| *slot = example);
            let buffers = self.layout.cut(workspace.floats, workspace.ints);
            buffers.state.fill(0.0);
            if self.config.is_integer() {
                self.integer = Integer::begin(params)?;
            }
        }
        self.rng.shuffle(order);
        self.integer.begin_epoch();
        self.loss_sum = 0.0;
        Ok(())
    }

    fn end_batch(&mut self, params: &mut [f32]) -> Result<TrainPhase, TrainError> {
        self.steps_done = self.steps_done.saturating_add(1);
        self.batch_begin += self.batch_len();
        if self.batch_begin < self.num_examples {
            return Ok(TrainPhase::BeginBatch);
        }
        self.mean_loss = match self.config.is_integer() {
            true => self.integer.mean_loss(self.num_examples),
            false => (self.loss_sum / self.num_examples as f64) as f32,
        };
        if self.epoch < self.config.local_epochs {
            self.epoch += 1;
            self.batch_begin = 0;
            return Ok(TrainPhase::BeginEpoch);
        }
        if self.config.is_integer() {
            self.integer.end(params)?;
            return Ok(TrainPhase::Done);
        }
        // Within the training a number that is not finite shows in a loss or in a quantisation, but no
        // pass comes after the last update.
        #[cfg(not(feature = "host"))]
        let finite = params.iter().all(|param| param.is_finite());
        // In vectors, since no element ends the search.
        #[cfg(feature = "host")]
        let finite = params.chunks(1024).all(|params| {
            let all = |all, param: &f32| all & param.is_finite();
            params.iter().fold(true, all)
        });
        if finite {
            Ok(TrainPhase::Done)
        } else {
            Err(TrainError::Diverged)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Activation, Arithmetic, Init, Shape};

    struct Halve;

    impl Correction for Halve {
        fn correct(&mut self, _: usize, _: &[f32], gradient: &mut [f32]) {
            gradient.iter_mut().for_each(|g| *g *= 0.5);
        }
    }

    /// Small enough for Miri.
    #[test]
    fn every_path_of_a_training_and_its_evaluation_lowers_the_loss() {
        let model = Model::new(Shape::new(&[6, 3, 2]).unwrap(), Activation::Sigmoid);
        let (inputs, labels) = ([255, 0, 9, 0, 0, 0, 0, 0, 0, 0, 9, 255], [0, 1]);
        let momentum = Optimizer::Momentum { momentum: 0.5 };
        for arithmetic in [Arithmetic::Fixed, Arithmetic::Float, Arithmetic::Integer] {
            for (optimizer, clip_norm) in [
                (Optimizer::Sgd, None),
                (Optimizer::Sgd, Some(0.1)),
                (momentum, None),
                (Optimizer::ADAM, Some(0.1)),
            ] {
                let config = TrainConfig {
                    arithmetic,
                    optimizer,
                    clip_norm,
                    ..TrainConfig::default()
                };
                if arithmetic == Arithmetic::Integer && !config.is_plain() {
                    let refused = Trainer::new(&model, config, labels.len());
                    assert_eq!(refused.err(), Some(TrainError::NotPlain));
                    continue;
                }
                let mut trainer = Trainer::new(&model, config, labels.len()).unwrap();
                let plan = *trainer.plan();
                let mut workspace = Workspace {
                    floats: &mut vec![f32::NAN; plan.floats],
                    ints: &mut vec![-1; plan.ints],
                    order: &mut vec![9; plan.order],
                };
                let mut params = vec![0.0; model.shape().num_params()];
                model.init_params(Init::Xavier, 1, &mut params).unwrap();
                let evaluate = |params: &[f32], workspace: &mut Workspace<'_>| {
                    let space = Workspace {
                        floats: workspace.floats,
                        ints: workspace.ints,
                        order: workspace.order,
                    };
                    let found = model.evaluate(params, &inputs, &labels, space, arithmetic);
                    found.unwrap().mean_loss()
                };
                let before = evaluate(&params, &mut workspace);
                let mut halve = Halve;
                let mut step = Step::Working;
                while step == Step::Working {
                    let hook: Option<&mut dyn Correction> = clip_norm.map(|_| &mut halve as _);
                    step = trainer
                        .step_with(&mut params, &inputs, &labels, &mut workspace, 1, hook)
                        .unwrap();
                }
                let after = evaluate(&params, &mut workspace);
                assert!(after < before, "{config:?}: {before} {after}");
            }
        }
    }
}
