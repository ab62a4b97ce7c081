//! One round of training, as an object that a body can move to another thread.

use crate::buffers::Buffers;
use crate::port::Usage;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use fl_nn::{Model, Step, TrainConfig, TrainError, Trainer, Workspace};
use fl_proto::Start;

/// The client's partition, shared between the device and its job.
#[derive(Debug)]
pub(crate) struct Partition {
    /// `[num_examples, num_inputs]`, row-major.
    pub inputs: Vec<u8>,
    /// `[num_examples]`.
    pub labels: Vec<u8>,
}

/// The memory that training needs besides parameters and data, held only while it lasts.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    floats: Vec<f32>,
    ints: Vec<i32>,
    order: Vec<u32>,
}

impl Scratch {
    /// Makes room for a plan; `None` if the device has not enough memory.
    fn new(plan: &fl_nn::MemoryPlan) -> Option<Self> {
        let mut scratch = Self::default();
        let fits = resize(&mut scratch.floats, plan.floats)
            && resize(&mut scratch.ints, plan.ints)
            && resize(&mut scratch.order, plan.order);
        fits.then_some(scratch)
    }
}

/// Gives `vec` exactly `len` zeros; `false` if there is no memory for them.
pub(crate) fn resize<T: Clone + Default>(vec: &mut Vec<T>, len: usize) -> bool {
    vec.clear();
    if vec.try_reserve_exact(len).is_err() {
        return false;
    }
    vec.resize(len, T::default());
    true
}

/// End of a job.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    Trained { loss: f32 },
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
    trainer: Trainer,
    done_examples: Arc<AtomicU32>,
}

/// Reason why there is no job.
#[derive(Clone, Copy, Debug)]
pub(crate) enum JobError {
    Train(TrainError),
    OutOfMemory { bytes: u64 },
}

impl TrainJob {
    /// Takes memory for one round; on failure the buffers come back.
    #[expect(
        clippy::too_many_arguments,
        reason = "all of them differ in kind, called once"
    )]
    pub(crate) fn new(
        model: &Model,
        config: TrainConfig,
        start: Start,
        partition: Arc<Partition>,
        buffers: Buffers,
        done_examples: Arc<AtomicU32>,
        started_us: u64,
        usage_at_start: Usage,
    ) -> Result<Self, (JobError, Buffers)> {
        let num_examples = partition.labels.len();
        let trainer = match Trainer::new(model, config, num_examples) {
            Ok(trainer) => trainer,
            Err(error) => return Err((JobError::Train(error), buffers)),
        };
        let Some(scratch) = Scratch::new(trainer.plan()) else {
            let bytes = trainer.plan().total_bytes();
            return Err((JobError::OutOfMemory { bytes }, buffers));
        };
        done_examples.store(0, Ordering::Relaxed);
        Ok(Self {
            start,
            buffers,
            scratch,
            outcome: None,
            started_us,
            usage_at_start,
            partition,
            trainer,
            done_examples,
        })
    }

    /// Trains on at most `max_examples` examples; `true` while there is more to do.
    pub fn step(&mut self, max_examples: u32) -> bool {
        if self.outcome.is_some() {
            return false;
        }
        let mut workspace = Workspace {
            floats: &mut self.scratch.floats,
            ints: &mut self.scratch.ints,
            order: &mut self.scratch.order,
        };
        let Partition { inputs, labels } = &*self.partition;
        self.outcome = match self.trainer.step(
            &mut self.buffers.params,
            inputs,
            labels,
            &mut workspace,
            max_examples,
        ) {
            Ok(Step::Working) => None,
            Ok(Step::Done) => Some(Outcome::Trained {
                loss: self.trainer.mean_loss(),
            }),
            Err(error) => Some(Outcome::Failed(error)),
        };
        let done = self.trainer.progress().done_examples;
        self.done_examples
            .store(u32::try_from(done).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.outcome.is_none()
    }

    /// Nothing is left to train.
    pub fn is_done(&self) -> bool {
        self.outcome.is_some()
    }
}
