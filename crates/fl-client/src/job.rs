//! One round of training, as an object that a body can move to another thread.

use crate::buffers::Buffers;
use crate::evaluation::LocalEvaluation;
use crate::examples::Partition;
use crate::http::Refusal;
use crate::join::Session;
use crate::port::Usage;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use fl_algo::{LocalJob, LocalRule, MODEL, Pass, PassPlan, Way, privacy};
use fl_nn::{
    Correction, Evaluator, Model, Optimizer, Step, TrainConfig, TrainError, Trainer, Workspace,
};
use fl_proto::{OptimizerName, Privacy, Start};
use fl_rng::{Normal, Pcg32, Purpose};

/// The memory that training needs besides parameters and data, held only while it lasts.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    floats: Vec<f32>,
    ints: Vec<i32>,
    order: Vec<u32>,
    /// The model that came, if the update is to be bounded.
    global: Vec<f32>,
}

impl Scratch {
    /// Makes room for a plan, and a copy of the model; the error is the bytes that all of it takes.
    pub(crate) fn new(plan: &fl_nn::MemoryPlan, global: &[f32]) -> Result<Self, u64> {
        Self::with_spare(plan, global, 0)
    }

    /// As [`Scratch::new`], with more integers if there is memory for them.
    fn with_spare(plan: &fl_nn::MemoryPlan, global: &[f32], spare: usize) -> Result<Self, u64> {
        let mut scratch = Self::default();
        let ints = &mut scratch.ints;
        let fits = resize(&mut scratch.floats, plan.floats)
            && (resize(ints, plan.ints + spare) || resize(ints, plan.ints))
            && resize(&mut scratch.order, plan.order)
            && resize(&mut scratch.global, global.len());
        if !fits {
            return Err(plan.total_bytes() + size_of_val(global) as u64);
        }
        scratch.global.copy_from_slice(global);
        Ok(scratch)
    }
}

/// Gives `vec` exactly `len` zeros; `false` if there is no memory for them.
pub(crate) fn resize<T: Clone + Default>(vec: &mut Vec<T>, len: usize) -> bool {
    vec.clear();
    if vec.try_reserve_exact(len).is_err() {
        return false;
    }
    vec.extend(core::iter::repeat_n(T::default(), len));
    true
}

/// End of a job.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    Trained {
        loss: f32,
        steps: u32,
        /// The update was longer than it may be; unknown of one that hides it.
        clipped: Option<bool>,
    },
    Evaluated,
    Failed(TrainError),
}

/// One round of training: global parameters in, local ones out.
#[derive(Debug)]
pub struct TrainJob {
    pub(crate) start: Start,
    pub(crate) buffers: Buffers,
    scratch: Scratch,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) started_us: u64,
    pub(crate) usage_at_start: Usage,
    partition: Arc<Partition>,
    model: Model,
    /// Configuration of the round, and of the pass at hand.
    round_config: TrainConfig,
    config: TrainConfig,
    trainer: Trainer,
    /// Round whose end the kept vectors are of.
    pub(crate) state_round: u32,
    /// The training of this round, from 0: a rule may ask for more than one.
    pass: u32,
    /// The rule has prepared this pass.
    begun: bool,
    /// Steps of the passes before.
    steps: u32,
    /// Measures the loss of the global model, for a rule that asks for it.
    measured: Option<Box<Evaluator>>,
    done_examples: Arc<AtomicU32>,
    /// Evaluates instead of training.
    pub(crate) evaluation: Option<Box<LocalEvaluation>>,
}

/// Reason why there is no job.
#[derive(Clone, Copy, Debug)]
pub(crate) enum JobError {
    Train(TrainError),
    Privacy,
    OutOfMemory { bytes: u64 },
}

impl From<JobError> for Refusal {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Train(error) => Self::new(400, error),
            JobError::Privacy => Self::new(
                400,
                "the norm of an update must be above 0, and its noise not below",
            ),
            JobError::OutOfMemory { bytes } => Self::new(
                507,
                format_args!("training needs {bytes} bytes, this device has not so many"),
            ),
        }
    }
}

/// The configuration of the training that a `/start` asks for.
fn config(session: &Session, start: &Start) -> TrainConfig {
    let own = start.optimizer.unwrap_or_default();
    TrainConfig {
        local_epochs: start.local_epochs,
        batch_size: start.batch_size,
        learning_rate: start.learning_rate,
        seed: fl_rng::derive_seed(session.seed, session.id, start.round),
        arithmetic: match start.arithmetic {
            fl_proto::Arithmetic::Fixed => fl_nn::Arithmetic::Fixed,
            fl_proto::Arithmetic::Float => fl_nn::Arithmetic::Float,
            fl_proto::Arithmetic::Integer => fl_nn::Arithmetic::Integer,
        },
        optimizer: match own.name {
            OptimizerName::Sgd => Optimizer::Sgd,
            OptimizerName::Momentum => Optimizer::Momentum {
                momentum: own.momentum,
            },
            OptimizerName::Adam => Optimizer::Adam {
                beta_1: own.beta_1,
                beta_2: own.beta_2,
                epsilon: own.epsilon,
            },
        },
        weight_decay: own.weight_decay,
        clip_norm: (own.clip_norm != 0.0).then_some(own.clip_norm),
    }
}

/// An evaluation and its memory.
fn evaluation(
    session: &Session,
    config: &TrainConfig,
) -> Result<(Option<Box<LocalEvaluation>>, Scratch), JobError> {
    let (model, arithmetic) = (&session.model, config.arithmetic);
    let evaluator = Evaluator::new(model, arithmetic).map_err(TrainError::from);
    let made = LocalEvaluation::new(model, arithmetic, evaluator.map_err(JobError::Train)?);
    let (evaluation, scratch) = made.map_err(|bytes| JobError::OutOfMemory { bytes })?;
    Ok((Some(Box::new(evaluation)), scratch))
}

/// Configuration of a pass of a round, as the rule plans it.
fn of_pass(config: &TrainConfig, rule: &LocalRule, pass: u32, round: u32) -> TrainConfig {
    let PassPlan {
        epochs,
        stream,
        clip_norm,
        ..
    } = rule.plan(pass, config.local_epochs);
    let seed = match stream {
        0 => config.seed,
        stream => fl_rng::derive_seed(config.seed, stream, round),
    };
    TrainConfig {
        local_epochs: epochs,
        seed,
        clip_norm: match (config.clip_norm, clip_norm) {
            (Some(own), Some(of_rule)) => Some(own.min(of_rule)),
            (own, of_rule) => own.or(of_rule),
        },
        ..*config
    }
}

impl TrainJob {
    /// Takes memory for one round; on failure the round and the buffers come back.
    pub(crate) fn new(
        session: &Session,
        start: Start,
        buffers: Buffers,
        done_examples: Arc<AtomicU32>,
        started_us: u64,
        usage_at_start: Usage,
    ) -> Result<Self, (JobError, u32, Buffers)> {
        let Some(partition) = session.partition.at_hand() else {
            let bytes =
                session.all_examples() as u64 * (session.model.shape().num_inputs() as u64 + 1);
            return Err((JobError::OutOfMemory { bytes }, start.round, buffers));
        };
        let round_config = config(session, &start);
        let config = of_pass(&round_config, &buffers.rule, 0, start.round);
        let trainer = match Trainer::new(&session.model, config, partition.num_examples()) {
            Ok(trainer) => trainer,
            Err(error) => return Err((JobError::Train(error), start.round, buffers)),
        };
        let is_sound =
            |privacy: Privacy| privacy.clipping_norm > 0.0 && privacy.noise_stddev >= 0.0;
        if !start.privacy.is_none_or(is_sound) {
            return Err((JobError::Privacy, start.round, buffers));
        }
        let global = start.privacy.map_or(&[][..], |_| &buffers.params);
        let spare = trainer.spare_words(partition.training().0);
        let memory = match start.evaluate {
            true => evaluation(session, &config),
            false => Scratch::with_spare(trainer.plan(), global, spare)
                .map(|scratch| (None, scratch))
                .map_err(|bytes| JobError::OutOfMemory { bytes }),
        };
        let (evaluation, scratch) = match memory {
            Ok(memory) => memory,
            Err(error) => return Err((error, start.round, buffers)),
        };
        done_examples.store(0, Ordering::Relaxed);
        Ok(Self {
            state_round: start.state_round,
            start,
            buffers,
            scratch,
            outcome: None,
            started_us,
            usage_at_start,
            partition,
            model: session.model,
            round_config,
            config,
            trainer,
            pass: 0,
            begun: false,
            steps: 0,
            measured: None,
            done_examples,
            evaluation,
        })
    }

    /// Trains on at most `max_examples` examples, or evaluates them; `true` while there is more to do.
    pub fn step(&mut self, max_examples: u32) -> bool {
        if self.outcome.is_some() {
            return false;
        }
        if self.evaluation.is_some() {
            self.outcome = self.evaluate(max_examples);
            return self.outcome.is_none();
        }
        if self.is_to_measure() {
            self.outcome = self.measure(max_examples).err().map(Outcome::Failed);
            return self.outcome.is_none();
        }
        if !self.begun {
            self.begun = true;
            if self.pass == 0 {
                let Buffers { params, update, .. } = &mut self.buffers;
                update.begin(params, self.round_config.seed);
            }
            self.with_rule(0, LocalRule::begin);
        }
        self.outcome = match self.train(max_examples) {
            Ok(Step::Working) => None,
            Ok(Step::Done) => self.end_pass(),
            Err(error) => Some(Outcome::Failed(error)),
        };
        let done = self.trainer.progress().done_examples;
        self.done_examples
            .store(u32::try_from(done).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.outcome.is_none()
    }

    /// Tells if the rule asks for the loss of the global model and examples of it are left.
    fn is_to_measure(&self) -> bool {
        let measured = self.measured.as_ref();
        let done = measured.map_or(0, |evaluator| evaluator.found().num_examples as usize);
        let before = self.pass == 0 && !self.begun;
        before && self.buffers.rule.measures() && done < self.partition.training().1.len()
    }

    /// Measures the loss of the global model on the next examples, in the memory of the training to come.
    fn measure(&mut self, max_examples: u32) -> Result<Step, TrainError> {
        let mut evaluator = match self.measured.take() {
            Some(evaluator) => evaluator,
            None => Box::new(Evaluator::new(&self.model, self.config.arithmetic)?),
        };
        let mut workspace = Workspace {
            floats: &mut self.scratch.floats,
            ints: &mut self.scratch.ints,
            order: &mut self.scratch.order,
        };
        let (inputs, labels) = self.partition.training();
        let (params, nobody) = (&self.buffers.params, &mut |_, _| {});
        let step = evaluator.step(params, inputs, labels, &mut workspace, max_examples, nobody);
        self.measured = Some(evaluator);
        step
    }

    fn train(&mut self, max_examples: u32) -> Result<Step, TrainError> {
        let mut workspace = Workspace {
            floats: &mut self.scratch.floats,
            ints: &mut self.scratch.ints,
            order: &mut self.scratch.order,
        };
        let (inputs, labels) = self.partition.training();
        let Buffers { params, rule, .. } = &mut self.buffers;
        let mut correction = rule.correction();
        let correction = correction.as_mut().map(|rule| rule as &mut dyn Correction);
        self.trainer.step_with(
            params,
            inputs,
            labels,
            &mut workspace,
            max_examples,
            correction,
        )
    }

    /// Evaluates on the examples held out: the outcome, or `None` while there is more to do.
    fn evaluate(&mut self, max_examples: u32) -> Option<Outcome> {
        let evaluation = self.evaluation.as_mut()?;
        let mut workspace = Workspace {
            floats: &mut self.scratch.floats,
            ints: &mut self.scratch.ints,
            order: &mut self.scratch.order,
        };
        let Buffers { params, rule, .. } = &self.buffers;
        let holdout = self.partition.holdout();
        match evaluation.step(params, rule, holdout, &mut workspace, max_examples) {
            Ok(true) => None,
            Ok(false) => Some(Outcome::Evaluated),
            Err(error) => Some(Outcome::Failed(error)),
        }
    }

    /// Ends a pass: the outcome, or `None` if the rule wants another one.
    fn end_pass(&mut self) -> Option<Outcome> {
        let steps = self.trainer.steps_done();
        let next = self.with_rule(steps, LocalRule::end);
        self.steps = self.steps.saturating_add(steps);
        if next == Pass::Done {
            let loss = self.trainer.mean_loss();
            let (steps, clipped) = (self.steps, self.protect());
            let Buffers { params, update, .. } = &mut self.buffers;
            update.end(params, self.start.round);
            return Some(Outcome::Trained {
                loss,
                steps,
                clipped,
            });
        }
        self.pass += 1;
        self.begun = false;
        let Self { start, pass, .. } = self;
        let config = of_pass(&self.round_config, &self.buffers.rule, *pass, start.round);
        self.config = config;
        match Trainer::new(&self.model, config, self.partition.num_examples()) {
            Ok(trainer) => self.trainer = trainer,
            Err(error) => return Some(Outcome::Failed(error)),
        }
        None
    }

    /// Bounds the update and adds noise, if the round asks for it; tells if it was longer than it may be.
    fn protect(&mut self) -> Option<bool> {
        let Privacy {
            clipping_norm,
            noise_stddev,
        } = self.start.privacy?;
        let Buffers { params, rule, .. } = &mut self.buffers;
        // What does not travel needs no protection.
        let model = rule.sections(Way::Up).find(|section| section.name == MODEL);
        let travelling = model.map_or(0, |section| section.count.min(params.len()));
        let params = &mut params[..travelling];
        let clipped = privacy::clip(&self.scratch.global, params, clipping_norm);
        let rng = Pcg32::new(Purpose::DeviceNoise, self.round_config.seed);
        privacy::add_noise(params, noise_stddev.into(), &mut Normal::new(rng));
        (noise_stddev == 0.0).then_some(clipped)
    }

    /// Calls the rule with the job at hand, of which so many steps are done.
    fn with_rule<R>(
        &mut self,
        steps: u32,
        call: impl FnOnce(&mut LocalRule, &LocalJob<'_>, &mut [f32]) -> R,
    ) -> R {
        let job = LocalJob {
            round: self.start.round,
            state_round: self.state_round,
            pass: self.pass,
            local_epochs: self.config.local_epochs,
            batch_size: self.config.batch_size,
            learning_rate: self.config.learning_rate,
            seed: self.config.seed,
            model: &self.model,
            inputs: self.partition.training().0,
            labels: self.partition.training().1,
            steps,
            loss: match &self.measured {
                Some(evaluator) if steps == 0 => evaluator.found().mean_loss() as f32,
                _ => self.trainer.mean_loss(),
            },
        };
        let Buffers { params, rule, .. } = &mut self.buffers;
        call(rule, &job, params)
    }

    /// Nothing is left to train.
    pub fn is_done(&self) -> bool {
        self.outcome.is_some()
    }
}
