//! The state of a device, apart from its connections.

use crate::buffers::Buffers;
use crate::http::{Refusal, Request};
use crate::job::{JobError, Outcome, Partition, TrainJob};
use crate::kept::{Intake, KeptVectors};
use crate::meter::{Metered, Traffic};
use crate::port::{Port, Usage};
use crate::receive::StartReceiver;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};
use fl_algo::{LocalRule, RuleError};
use fl_nn::{Model, Shape, TrainConfig};
use fl_proto::codec::{self, Codec};
use fl_proto::{CodecName, Cost, DeviceState, ErrorReply, Metrics, Ready, Results, Start, Welcome};

/// Occupation of the device.
#[derive(Clone, Debug)]
pub(crate) enum DevicePhase {
    /// Has no ID or not all of its data.
    Joining,
    Ready,
    /// Fetches the kept vectors that the training is to go on from.
    Fetching,
    Training,
    Sending,
    /// Gave the last round up.
    Failed(heapless::String<64>),
}

/// Membership in an experiment: what the aggregator told, and the partition it gave.
#[derive(Debug)]
pub(crate) struct Session {
    pub id: u32,
    pub seed: u64,
    pub model: Model,
    pub num_examples: u32,
    pub partition: Arc<Partition>,
}

/// Values that the command line of a device sets over those of `/start`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Passes over the partition per round.
    pub local_epochs: Option<u32>,
    /// Examples per step of SGD.
    pub batch_size: Option<u32>,
}

/// A device without its connections.
#[derive(Debug)]
pub(crate) struct State {
    pub session: Option<Session>,
    pub phase: DevicePhase,
    pub job: Option<TrainJob>,
    /// A job that waits for its kept vectors, and how much of them has come.
    pub waiting: Option<TrainJob>,
    pub intake: Option<Intake>,
    pub stopped: bool,
    /// The results to send, or being sent.
    pub results: Option<Results>,
    overrides: Overrides,
    /// Model and rule; `None` while a `/start` being received or a job holds them.
    pub buffers: Option<Buffers>,
    last_start: Option<Start>,
    done_examples: Arc<AtomicU32>,
}

impl State {
    pub fn new(overrides: Overrides) -> Self {
        Self {
            session: None,
            phase: DevicePhase::Joining,
            job: None,
            waiting: None,
            intake: None,
            stopped: false,
            results: None,
            overrides,
            buffers: None,
            last_start: None,
            done_examples: Arc::new(AtomicU32::new(0)),
        }
    }

    /// Codec of the update to send.
    pub fn codec_up(&self) -> Option<&'static dyn Codec> {
        codec::by_name(&self.last_start.as_ref()?.encoding_up)
    }

    /// Forgets all, to join anew.
    pub fn leave(&mut self) {
        *self = Self {
            stopped: self.stopped,
            ..Self::new(self.overrides)
        };
    }

    /// The experiment is over.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Takes in the answer to `GET /id`: memory for model, rule and data is taken here.
    pub fn join(&mut self, welcome: &Welcome) -> Result<(), JoinError> {
        if welcome.protocol != fl_proto::PROTOCOL_VERSION {
            return Err(JoinError::Protocol(welcome.protocol));
        }
        let mut sizes = [0; fl_proto::MAX_LAYER_SIZES];
        for (size, layer) in sizes.iter_mut().zip(&welcome.layers) {
            *size = *layer as usize;
        }
        let sizes = &sizes[..welcome.layers.len()];
        let shape = Shape::new(sizes).map_err(|_| JoinError::Shape)?;
        if welcome.num_examples == 0 {
            return Err(JoinError::NoData);
        }
        let mut rule = LocalRule::named(&welcome.rule, shape.num_params())?;
        rule.prepare(welcome.params.iter())?;
        for name in [&welcome.encoding_up, &welcome.encoding_down] {
            codec::by_name(name).ok_or_else(|| JoinError::Codec(name.clone()))?;
        }
        let activation = match welcome.activation {
            fl_proto::Activation::Relu => fl_nn::Activation::Relu,
            fl_proto::Activation::Sigmoid => fl_nn::Activation::Sigmoid,
        };
        let mut partition = Partition {
            inputs: Vec::new(),
            labels: Vec::new(),
        };
        let examples = welcome.num_examples as usize;
        let buffers = Buffers::new(shape.num_params(), rule);
        let fits = buffers.is_some()
            && examples
                .checked_mul(shape.num_inputs())
                .is_some_and(|n| partition.inputs.try_reserve_exact(n).is_ok())
            && partition.labels.try_reserve_exact(examples).is_ok();
        if !fits {
            return Err(JoinError::OutOfMemory {
                examples: welcome.num_examples,
            });
        }
        self.buffers = buffers;
        self.phase = DevicePhase::Joining;
        self.session = Some(Session {
            id: welcome.id,
            seed: welcome.seed,
            model: Model::new(shape, activation),
            num_examples: welcome.num_examples,
            partition: Arc::new(partition),
        });
        Ok(())
    }

    /// The answer to `GET /ready`.
    pub fn ready(&self) -> Result<Ready, Refusal> {
        let (Some(session), Some(state)) = (&self.session, self.device_state()) else {
            return Err(Refusal::new(503, "still joining and fetching data"));
        };
        let epochs = self
            .last_start
            .as_ref()
            .map_or(0, |start| start.local_epochs);
        Ok(Ready {
            id: session.id,
            state,
            round: self.last_start.as_ref().map_or(0, |start| start.round),
            done_examples: self.done_examples.load(Ordering::Relaxed),
            total_examples: session.num_examples.saturating_mul(epochs),
            error: match &self.phase {
                DevicePhase::Failed(reason) => Some(reason.clone()),
                _ => None,
            },
        })
    }

    fn device_state(&self) -> Option<DeviceState> {
        match self.phase {
            DevicePhase::Joining => None,
            DevicePhase::Ready => Some(DeviceState::Ready),
            DevicePhase::Fetching | DevicePhase::Training => Some(DeviceState::Training),
            DevicePhase::Sending => Some(DeviceState::Sending),
            DevicePhase::Failed(_) => Some(DeviceState::Failed),
        }
    }

    /// Begins on a `/start`: from here on it holds the buffers, so that a second one is refused.
    pub fn begin_start(&mut self, request: &Request) -> Result<StartReceiver, Refusal> {
        let busy = |what: &str, start: &Option<Start>| {
            let round = start.as_ref().map_or(0, |start| start.round);
            Err(Refusal::new(
                409,
                format_args!("{what} round {round}; ask /ready"),
            ))
        };
        match self.phase {
            DevicePhase::Joining => {
                return Err(Refusal::new(503, "still joining and fetching data"));
            }
            DevicePhase::Fetching | DevicePhase::Training => {
                return busy("training", &self.last_start);
            }
            DevicePhase::Sending => return busy("sending the update of", &self.last_start),
            DevicePhase::Ready | DevicePhase::Failed(_) => {}
        }
        let Some(buffers) = self.buffers.take() else {
            return Err(Refusal::new(409, "another /start is being received"));
        };
        StartReceiver::new(request, buffers).map_err(|(refusal, buffers)| {
            self.buffers = Some(buffers);
            refusal
        })
    }

    /// Takes the buffers back from a `/start` that came to nothing.
    pub fn abandon_start(&mut self, receiver: StartReceiver) {
        self.buffers = Some(receiver.into_buffers());
    }

    /// Checks a whole `/start` and makes its job.
    pub fn finish_start<P: Port>(
        &mut self,
        mut receiver: StartReceiver,
        wire: &mut Metered<'_, P>,
    ) -> Result<Ready, Refusal> {
        let checked = receiver.finish().and_then(|start| {
            self.check_order(&start)?;
            let Overrides {
                local_epochs,
                batch_size,
            } = self.overrides;
            Ok(Start {
                local_epochs: local_epochs.unwrap_or(start.local_epochs),
                batch_size: batch_size.unwrap_or(start.batch_size),
                ..start
            })
        });
        let buffers = receiver.into_buffers();
        let (start, session) = match (checked, &self.session) {
            (Ok(start), Some(session)) => (start, session),
            (Err(refusal), _) => {
                self.buffers = Some(buffers);
                return Err(refusal);
            }
            (Ok(_), None) => return Err(Refusal::new(503, "still joining and fetching data")),
        };
        let config = TrainConfig {
            local_epochs: start.local_epochs,
            batch_size: start.batch_size,
            learning_rate: start.learning_rate,
            seed: fl_rng::derive_seed(session.seed, session.id, start.round),
            arithmetic: match start.arithmetic {
                fl_proto::Arithmetic::Fixed => fl_nn::Arithmetic::Fixed,
                fl_proto::Arithmetic::Float => fl_nn::Arithmetic::Float,
            },
            ..TrainConfig::default()
        };
        let job = TrainJob::new(
            &session.model,
            config,
            start.clone(),
            session.partition.clone(),
            buffers,
            self.done_examples.clone(),
            wire.now_us,
            wire.port.usage(),
        );
        match job {
            Ok(mut job) => {
                let (round, examples) = (start.round, session.num_examples);
                let (epochs, batch) = (config.local_epochs, config.batch_size);
                wire.port.log(format_args!(
                    "round {round}: training {epochs} epochs of {examples} examples, batch {batch}"
                ));
                let state_round = start.state_round;
                self.last_start = Some(start);
                if job.buffers.rule.needs_state(state_round) {
                    self.waiting = Some(job);
                    self.phase = DevicePhase::Fetching;
                } else {
                    self.job = Some(job);
                    self.phase = DevicePhase::Training;
                }
                self.ready()
            }
            Err((error, buffers)) => {
                self.buffers = Some(buffers);
                Err(match error {
                    JobError::Train(error) => Refusal::new(400, error),
                    JobError::OutOfMemory { bytes } => {
                        let round = start.round;
                        wire.port.log(format_args!(
                            "round {round}: refused: training needs {bytes} bytes, not so many are free"
                        ));
                        Refusal::new(
                            507,
                            format_args!(
                                "training needs {bytes} bytes, this device has not so many"
                            ),
                        )
                    }
                })
            }
        }
    }

    /// Refuses a round that is over, one that was started already, and a codec that this device lacks.
    fn check_order(&self, start: &Start) -> Result<(), Refusal> {
        if codec::by_name(&start.encoding_up).is_none() {
            let codec = &start.encoding_up;
            return Err(Refusal::new(
                400,
                format_args!("this device has no codec {codec}"),
            ));
        }
        match &self.last_start {
            Some(last) if start.round < last.round => Err(Refusal::new(
                409,
                format_args!(
                    "round {} is over, this device was in round {}",
                    start.round, last.round
                ),
            )),
            Some(last) if start.round == last.round && start.token == last.token => {
                Err(Refusal::new(
                    409,
                    format_args!("round {} was started already", start.round),
                ))
            }
            _ => Ok(()),
        }
    }

    /// The download of the kept vectors that a job waits for.
    pub fn kept_vectors(&mut self) -> Option<KeptVectors<'_>> {
        let job = self.waiting.as_mut()?;
        Some(KeptVectors {
            round: job.start.state_round,
            buffers: &mut job.buffers,
            intake: &mut self.intake,
        })
    }

    /// Begins the training whose kept vectors are there.
    pub fn fetched_state(&mut self) {
        self.job = self.waiting.take();
        self.phase = DevicePhase::Training;
    }

    /// Takes a finished job back: its results are then to be sent.
    pub fn finish_job(&mut self, job: TrainJob, traffic: Traffic, now_us: u64, usage: Usage) {
        let TrainJob {
            start,
            buffers,
            outcome,
            started_us,
            usage_at_start,
            ..
        } = job;
        self.buffers = Some(buffers);
        let (loss, steps) = match (outcome, &self.session) {
            (Some(Outcome::Trained { loss, steps }), Some(_)) => (loss, steps),
            (Some(Outcome::Failed(error)), _) => return self.fail(error),
            _ => return self.fail("the training was broken off"),
        };
        let instructions = usage.instructions.zip(usage_at_start.instructions);
        let cost = Cost {
            train_us: now_us.saturating_sub(started_us),
            instructions: instructions.map(|(now, then)| now.saturating_sub(then)),
            heap_peak_bytes: usage.heap_peak_bytes,
            stack_peak_bytes: usage.stack_peak_bytes,
            bytes_received: traffic.received,
            bytes_sent: traffic.sent,
            segments_sent: usage.segments_sent,
            segments_received: usage.segments_received,
            retransmissions: usage.retransmissions,
        };
        let mut metrics = Metrics::new();
        if let Some(buffers) = &self.buffers {
            // What there is no room for is left out.
            buffers.rule.metrics(&mut |name, value| {
                let _ = metrics.set(name, value);
            });
        }
        let num_examples = self
            .session
            .as_ref()
            .map_or(0, |session| session.num_examples);
        let Start { round, token, .. } = start;
        self.results = Some(Results {
            round,
            token,
            num_examples,
            steps,
            loss,
            metrics,
            cost,
        });
        self.phase = DevicePhase::Sending;
    }

    /// Gives the round up.
    pub fn fail(&mut self, reason: impl fmt::Display) {
        let text = ErrorReply::new(reason).error;
        let mut short = heapless::String::new();
        for c in text.chars() {
            if short.push(c).is_err() {
                break;
            }
        }
        if let Some(job) = self.waiting.take() {
            self.buffers = Some(job.buffers);
        }
        self.results = None;
        self.phase = DevicePhase::Failed(short);
    }
}

/// Reason why a welcome was of no use.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum JoinError {
    Protocol(u32),
    Shape,
    NoData,
    Rule(RuleError),
    Codec(CodecName),
    OutOfMemory { examples: u32 },
}

impl From<RuleError> for JoinError {
    fn from(error: RuleError) -> Self {
        Self::Rule(error)
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(theirs) => {
                let ours = fl_proto::PROTOCOL_VERSION;
                write!(
                    f,
                    "the aggregator speaks wire version {theirs}, this device {ours}: build both from the same zfl"
                )
            }
            Self::Shape => write!(f, "the model's layers are no model that fl-nn can train"),
            Self::NoData => write!(f, "the aggregator has no examples for this client"),
            Self::Rule(error) => write!(f, "{error}"),
            Self::Codec(name) => write!(f, "this device has no codec {name}"),
            Self::OutOfMemory { examples } => {
                write!(
                    f,
                    "no memory for {examples} examples: give the board more, or the client less data"
                )
            }
        }
    }
}
