//! The state of a device, apart from its connections.

use crate::buffers::Buffers;
use crate::examples::Source;
use crate::http::{Refusal, Request};
use crate::job::{JobError, Outcome, TrainJob};
use crate::join::{self, JoinError, Session};
use crate::kept::{Intake, KeptDownload};
use crate::meter::Metered;
use crate::port::{Port, Usage};
use crate::receive::StartReceiver;
use crate::storage::{self, StorageError};
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};
use fl_proto::codec;
use fl_proto::{
    CLIPPED, Cost, DeviceState, ErrorReply, Metrics, Ready, Results, Start, Token, Welcome, Word,
};

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

/// Values that the command line of a device sets over those of `/start`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Passes over the partition per round.
    pub local_epochs: Option<u32>,
    /// Examples per step of SGD.
    pub batch_size: Option<u32>,
}

impl Overrides {
    /// A `/start` with these values.
    fn over(self, start: Start) -> Start {
        Start {
            local_epochs: self.local_epochs.unwrap_or(start.local_epochs),
            batch_size: self.batch_size.unwrap_or(start.batch_size),
            ..start
        }
    }
}

/// The last `/start` that was begun, as far as it counts afterwards.
#[derive(Clone, Debug)]
pub(crate) struct LastStart {
    round: u32,
    token: Token,
    local_epochs: u32,
    batch_size: u32,
    evaluate: bool,
}

impl LastStart {
    /// True if a training is of as many epochs and in such batches as the one before; an evaluation is no training.
    fn trains_as(&self, last: Option<&Self>) -> bool {
        let of = |start: &Self| (start.local_epochs, start.batch_size);
        self.evaluate || last.is_some_and(|last| !last.evaluate && of(last) == of(self))
    }
}

/// A device without its connections.
#[derive(Debug)]
pub(crate) struct State {
    /// Word that the aggregator is given and has to show; made once, at the first poll.
    pub word: Option<Word>,
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
    last_start: Option<LastStart>,
    done_examples: Arc<AtomicU32>,
}

/// State of a device that waits for a round.
#[derive(Debug)]
pub(crate) struct AtRest {
    word: Option<Word>,
    session: Session,
    phase: DevicePhase,
    buffers: Buffers,
    last_start: Option<LastStart>,
    done_examples: Arc<AtomicU32>,
}

impl State {
    pub fn new(overrides: Overrides) -> Self {
        Self {
            word: None,
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

    /// Takes out what lasts, if nothing is under way.
    pub fn rest(&mut self) -> Option<AtRest> {
        let is_quiet = matches!(self.phase, DevicePhase::Ready | DevicePhase::Failed(_))
            && self.job.is_none()
            && self.waiting.is_none()
            && self.results.is_none()
            && self.session.is_some()
            && !self.stopped;
        let mut buffers = self.buffers.take_if(|_| is_quiet)?;
        buffers.rest();
        Some(AtRest {
            word: self.word,
            session: self.session.take()?,
            phase: self.phase.clone(),
            buffers,
            last_start: self.last_start.take(),
            done_examples: self.done_examples.clone(),
        })
    }

    /// The state that rested; `None` if there is no memory for it.
    pub fn wake(overrides: Overrides, rested: AtRest) -> Option<Self> {
        let mut buffers = rested.buffers;
        let count = rested.session.model.shape().num_params();
        buffers.wake(count).then_some(Self {
            word: rested.word,
            session: Some(rested.session),
            phase: rested.phase,
            buffers: Some(buffers),
            last_start: rested.last_start,
            done_examples: rested.done_examples,
            ..Self::new(overrides)
        })
    }

    /// Forgets all, to join anew. Part by part: a whole new state would not fit on a small device's stack.
    pub fn leave(&mut self) {
        let Self {
            word: _,
            stopped: _,
            overrides: _,
            session,
            phase,
            job,
            waiting,
            intake,
            results,
            buffers,
            last_start,
            done_examples,
        } = self;
        *phase = DevicePhase::Joining;
        (*session, *job, *waiting) = (None, None, None);
        (*intake, *results) = (None, None);
        (*buffers, *last_start) = (None, None);
        *done_examples = Arc::new(AtomicU32::new(0));
    }

    /// The experiment is over.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Takes in the answer to `GET /id`, and the places of the client's examples.
    #[inline(never)]
    pub fn join(&mut self, welcome: &Welcome, source: Source) -> Result<(), JoinError> {
        let (session, buffers) = join::join(welcome, source)?;
        self.phase = match session.partition.view {
            Some(_) => DevicePhase::Ready,
            None => DevicePhase::Joining,
        };
        self.session = Some(session);
        self.buffers = Some(buffers);
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
            total_examples: match self.last_start.as_ref().is_some_and(|start| start.evaluate) {
                true => session.holdout,
                false => session.num_examples.saturating_mul(epochs),
            },
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

    /// Begins on a `/start`, unless nothing in it could be taken now.
    pub fn begin_start(&mut self, request: &Request) -> Result<StartReceiver, Refusal> {
        match self.phase {
            DevicePhase::Joining => {
                return Err(Refusal::new(503, "still joining and fetching data"));
            }
            DevicePhase::Training => return Err(self.busy("training")),
            _ => {}
        }
        let held = self.waiting.as_ref().map(|job| &job.buffers);
        match self.buffers.as_ref().or(held) {
            Some(buffers) => StartReceiver::new(request, buffers),
            None => Err(Refusal::new(409, "another /start is being received")),
        }
    }

    /// Hands the buffers over to a `/start` whose control message is there, so that a second one is refused.
    ///
    /// One of a later round ends what the device does for the round before: whether an answer of that
    /// arrives decides nothing any more.
    pub fn hand_over(&mut self, start: &Start) -> Result<Buffers, Refusal> {
        let last = self.last_start.as_ref();
        let is_later = last.is_none_or(|last| start.round > last.round);
        match self.phase {
            DevicePhase::Joining => {
                return Err(Refusal::new(503, "still joining and fetching data"));
            }
            DevicePhase::Training => return Err(self.busy("training")),
            DevicePhase::Fetching if !is_later => return Err(self.busy("training")),
            DevicePhase::Sending if !is_later => {
                return Err(self.busy("sending the update of"));
            }
            _ => self.check_order(start)?,
        }
        let held = self.waiting.take().map(|job| job.buffers);
        let Some(mut buffers) = self.buffers.take().or(held) else {
            return Err(Refusal::new(409, "another /start is being received"));
        };
        buffers.found = None;
        (self.results, self.intake) = (None, None);
        self.phase = DevicePhase::Ready;
        Ok(buffers)
    }

    fn busy(&self, what: &str) -> Refusal {
        let round = self.last_start.as_ref().map_or(0, |start| start.round);
        Refusal::new(409, format_args!("{what} round {round}; ask /ready"))
    }

    /// Takes the buffers back from a `/start` that came to nothing.
    pub fn abandon_start(&mut self, receiver: &mut StartReceiver) {
        if let Some(buffers) = receiver.take_buffers() {
            self.buffers = Some(buffers);
        }
    }

    /// Checks a whole `/start` and makes its job.
    pub fn finish_start<P: Port>(
        &mut self,
        receiver: &mut StartReceiver,
        wire: &mut Metered<'_, P>,
    ) -> Result<Ready, Refusal> {
        let finished = receiver.finish();
        let (start, session, buffers) = match (finished, &self.session, receiver.take_buffers()) {
            (Ok(start), Some(session), Some(buffers)) => {
                (self.overrides.over(start), session, buffers)
            }
            (refused, _, buffers) => {
                self.buffers = buffers.or(self.buffers.take());
                let joining = Refusal::new(503, "still joining and fetching data");
                return Err(refused.err().unwrap_or(joining));
            }
        };
        let done_examples = self.done_examples.clone();
        let (now_us, usage) = (wire.now_us, wire.port.usage());
        match TrainJob::new(session, start, buffers, done_examples, now_us, usage) {
            Ok(job) => {
                self.begin(job, wire);
                self.ready()
            }
            Err((error, round, buffers)) => {
                self.buffers = Some(buffers);
                if let JobError::OutOfMemory { bytes } = error {
                    wire.port.log(format_args!(
                        "round {round}: refused: training needs {bytes} bytes, not so many are free"
                    ));
                }
                Err(error.into())
            }
        }
    }

    /// Begins on a job, or on fetching the kept vectors that it goes on from.
    #[inline(never)]
    fn begin<P: Port>(&mut self, mut job: TrainJob, wire: &mut Metered<'_, P>) {
        let start = LastStart {
            round: job.start.round,
            token: job.start.token.clone(),
            local_epochs: job.start.local_epochs,
            batch_size: job.start.batch_size,
            evaluate: job.start.evaluate,
        };
        if !start.trains_as(self.last_start.as_ref()) {
            let examples = self.session.as_ref().map_or(0, |all| all.num_examples);
            let (round, epochs, batch) = (start.round, start.local_epochs, start.batch_size);
            wire.port.log(format_args!(
                "round {round}: training {epochs} epochs of {examples} examples, batch {batch}"
            ));
        }
        self.last_start = Some(start);
        if job.buffers.keeps_personal() {
            self.take_up(&mut job, wire);
        }
        if job.buffers.rule.needs_state(job.state_round) {
            self.waiting = Some(job);
            self.phase = DevicePhase::Fetching;
        } else {
            self.job = Some(job);
            self.phase = DevicePhase::Training;
        }
    }

    /// Puts what nobody but this device has into the state that the job goes on from: that of memory, of
    /// the storage, or a new one.
    #[cold]
    fn take_up<P: Port>(&self, job: &mut TrainJob, wire: &mut Metered<'_, P>) {
        let Some(session) = &self.session else { return };
        let (round, buffers) = (job.state_round, &mut job.buffers);
        if buffers.needs_personal(round) {
            let owner = session.owner(buffers);
            let stored = match wire.port.storage() {
                Some(storage) => storage::load(storage, owner, round, buffers),
                None => Err(StorageError::NoState),
            };
            match stored {
                Ok(()) => {
                    return wire
                        .port
                        .log(format_args!("kept state of round {round} loaded"));
                }
                Err(error) => wire.port.log(format_args!(
                    "what this device kept of round {round} is lost, it begins anew: {error}"
                )),
            }
            buffers.needs_personal(0);
            if buffers.rule.keeps_personal() {
                job.state_round = 0;
            }
        }
        if job.state_round == 0 && buffers.rule.keeps_personal() {
            let from = buffers.rule.travelling();
            session
                .model
                .init_from(from, session.seed, &mut buffers.params);
        }
    }

    /// Stores what nobody but this device has, before the round's update goes out.
    #[cold]
    fn store<P: Port>(&self, job: &TrainJob, port: &mut P) {
        let (Some(session), round) = (&self.session, job.start.round) else {
            return;
        };
        let Some(storage) = port.storage() else {
            return;
        };
        let owner = session.owner(&job.buffers);
        let rounds = (round, job.state_round);
        if let Err(error) = storage::save(storage, owner, rounds, &job.buffers) {
            port.log(format_args!(
                "round {round}: not stored, a reboot loses it: {error}"
            ));
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
        let holdout = self.session.as_ref().map_or(0, |session| session.holdout);
        if start.evaluate && holdout == 0 {
            return Err(Refusal::new(400, "this device holds no examples out"));
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
    pub fn kept_vectors(&mut self) -> Option<KeptDownload<'_>> {
        let job = self.waiting.as_mut()?;
        Some(KeptDownload {
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
    pub fn finish_job<P: Port>(&mut self, job: TrainJob, wire: &mut Metered<'_, P>, usage: Usage) {
        let is_trained = matches!(job.outcome, Some(Outcome::Trained { .. }));
        if is_trained && job.buffers.keeps_personal() {
            self.store(&job, wire.port);
        }
        let (traffic, now_us) = (*wire.traffic, wire.now_us);
        let TrainJob {
            start,
            buffers,
            outcome,
            started_us,
            usage_at_start,
            evaluation,
            ..
        } = job;
        let buffers = self.buffers.insert(buffers);
        let (loss, steps, clipped) = match (outcome, &self.session) {
            (
                Some(Outcome::Trained {
                    loss,
                    steps,
                    clipped,
                }),
                Some(_),
            ) => (loss, steps, clipped),
            (Some(Outcome::Evaluated), Some(_)) => {
                buffers.found = evaluation.map(|evaluation| evaluation.into_findings());
                (0.0, 0, None)
            }
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
        if let Some(clipped) = clipped {
            let _ = metrics.set(CLIPPED, f32::from(u8::from(clipped)));
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

    /// True if the results are those of an evaluation.
    pub fn is_evaluation(&self) -> bool {
        let buffers = self.buffers.as_ref();
        buffers.is_some_and(|buffers| buffers.found.is_some())
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
