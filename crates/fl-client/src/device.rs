//! The device: its connections, and what it wants of the aggregator next.

use crate::backoff::Backoff;
use crate::examples::Source;
use crate::inbound::{Inbound, Progress};
use crate::job::{TrainJob, resize};
use crate::kept::KeptDownload;
use crate::meter::{Metered, Traffic};
use crate::outbound::{Answer, Download, ExchangeError, Octets, Outbound, Place, RequestHead};
use crate::port::{Port, PortError};
use crate::state::{AtRest, DevicePhase, Overrides, State};
use crate::update::Upload;
use alloc::vec::Vec;
use core::fmt::Write as _;
use fl_proto::{ErrorReply, LATER_FIELDS, Query, Welcome, Word, codec, json, path};

/// Connections served at once: a `/start`, a `/ready` beside it, and one to spare.
const MAX_INBOUND: usize = 3;

/// Tries to fetch kept vectors before a device whose aggregator answers with something else gives its round
/// up. No number of lost connections ends a round: that would leave it to time.
const MAX_ATTEMPTS: u32 = 12;

/// Looks at one connection before the next has its turn: bytes without end hold up nobody else.
const LOOKS_AT_ONCE: u32 = 16;

/// Bytes read at a time, unless the configuration says otherwise.
const IO_BYTES: usize = 4096;

/// Settings from a device's command line, and its instruction set.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The ID it would like to have.
    pub client: Option<u32>,
    /// Address at which the aggregator reaches it, `ip:port`, if not its own.
    pub address: Option<heapless::String<32>>,
    /// The port on which it listens at its own address.
    pub http_port: u16,
    /// Secret without which the aggregator lets nobody join.
    pub secret: Option<Word>,
    /// Values that go before those of `/start`.
    pub overrides: Overrides,
    /// Instruction set, for the aggregator to know.
    pub isa: Option<&'static str>,
    /// Bytes read at a time: no more than a connection can hold is of use.
    pub io_bytes: Option<usize>,
}

/// Last lines of every request head.
const HEAD_END: &str = "Host: aggregator\r\nConnection: close\r\n\r\n";

/// Outcome of a [`Device::poll`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Something moved: poll again at once.
    Busy,
    /// Nothing to do until the network moves, or until this time of the port's clock.
    Idle {
        /// Microseconds, in the time of [`Port::now_us`].
        wake_at_us: Option<u64>,
    },
    /// The experiment is over, or cannot be joined: the device is done.
    Stopped,
}

/// Request of the device to the aggregator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    Join,
    Inputs,
    Labels,
    State,
    Results,
}

/// A device that waits for a round, without the memory of one: of what it keeps from round to round there is all.
#[derive(Debug)]
pub struct Resting {
    state: AtRest,
    traffic: Traffic,
    backoff: Backoff,
}

/// A federated-learning device on a [`Port`].
pub struct Device<P: Port> {
    config: Config,
    state: State,
    traffic: Traffic,
    inbound: [Option<Inbound<P::Connection>>; MAX_INBOUND],
    outbound: Option<(Goal, Outbound<P::Connection>)>,
    backoff: Backoff,
    retry_at_us: u64,
    io: Vec<u8>,
    /// Reason of the last refusal of an ID.
    refusal: Option<ErrorReply>,
}

impl<P: Port> Device<P> {
    /// A device that has not joined yet.
    pub fn new(config: Config) -> Self {
        let state = State::new(config.overrides);
        let backoff = Backoff::new(config.client.unwrap_or(u32::from(config.http_port)));
        Self {
            config,
            state,
            traffic: Traffic::default(),
            inbound: [const { None }; MAX_INBOUND],
            outbound: None,
            backoff,
            retry_at_us: 0,
            io: Vec::new(),
            refusal: None,
        }
    }

    /// The ID, once the aggregator gave one.
    pub fn id(&self) -> Option<u32> {
        self.state.session.as_ref().map(|session| session.id)
    }

    /// Reason why the aggregator does not let it join.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_ref().map(|refusal| refusal.error.as_str())
    }

    /// Puts a device that waits for a round to rest; the error is the device itself if it does something.
    ///
    /// # Errors
    /// The device.
    pub fn rest(mut self) -> Result<Resting, Self> {
        let state = match self.has_streams() {
            true => None,
            false => self.state.rest(),
        };
        match state {
            Some(state) => Ok(Resting {
                state,
                traffic: self.traffic,
                backoff: self.backoff,
            }),
            None => Err(self),
        }
    }

    /// True if an exchange is under way.
    pub fn has_streams(&self) -> bool {
        self.outbound.is_some() || self.inbound.iter().any(Option::is_some)
    }

    /// Wakes a device of this configuration; `None` if there is no memory for it.
    pub fn wake(config: Config, resting: Resting) -> Option<Self> {
        let Resting {
            state,
            traffic,
            backoff,
        } = resting;
        let state = State::wake(config.overrides, state)?;
        Some(Self {
            state,
            traffic,
            backoff,
            ..Self::new(config)
        })
    }

    /// The training to do now, for a body that trains in the loop in which it polls.
    pub fn job(&mut self) -> Option<&mut TrainJob> {
        self.state.job.as_mut().filter(|job| !job.is_done())
    }

    /// The training to do now, for a body that trains on another thread; it comes back by
    /// [`Device::finish_job`].
    pub fn take_job(&mut self) -> Option<TrainJob> {
        self.state.job.take()
    }

    /// Takes a job back that [`Device::take_job`] gave out, done or broken off.
    pub fn finish_job(&mut self, job: TrainJob) {
        self.state.job = Some(job);
    }

    /// Moves every exchange along. Never blocks, never trains.
    pub fn poll(&mut self, port: &mut P) -> Activity {
        let io_bytes = self.config.io_bytes.unwrap_or(IO_BYTES);
        if self.io.is_empty() && !resize(&mut self.io, io_bytes) {
            port.log(format_args!(
                "no memory for {io_bytes} bytes: give the board more"
            ));
            return Activity::Stopped;
        }
        self.state
            .word
            .get_or_insert_with(|| Word::random(port.random()));
        let now_us = port.now_us();
        let moved = self.poll_inbound(port, now_us);
        let moved = self.make_room(port, now_us) || moved;
        if self.state.stopped {
            return self.wind_down(port, now_us, moved);
        }
        self.collect_job(port, now_us);
        let moved = self.poll_outbound(port, now_us) || moved;
        if moved { Activity::Busy } else { self.idle() }
    }

    fn idle(&self) -> Activity {
        let inbound = self
            .inbound
            .iter()
            .flatten()
            .map(Inbound::deadline_us)
            .min();
        let outbound = match &self.outbound {
            Some((_, exchange)) => Some(exchange.deadline_us()),
            None => self.goal().map(|_| self.retry_at_us),
        };
        let wake_at_us = [inbound, outbound].into_iter().flatten().min();
        Activity::Idle { wake_at_us }
    }

    /// Answers what is still being answered, then ends.
    fn wind_down(&mut self, port: &mut P, now_us: u64, moved: bool) -> Activity {
        self.close_outbound(port);
        match self
            .inbound
            .iter()
            .flatten()
            .map(Inbound::deadline_us)
            .min()
        {
            None => Activity::Stopped,
            Some(deadline_us) if deadline_us <= now_us => Activity::Stopped,
            Some(_) if moved => Activity::Busy,
            wake_at_us => Activity::Idle { wake_at_us },
        }
    }

    #[inline(never)]
    fn poll_inbound(&mut self, port: &mut P, now_us: u64) -> bool {
        let mut moved = false;
        let mut somebody_waits = !self.state.stopped;
        for slot in &mut self.inbound {
            if slot.is_none() && somebody_waits {
                somebody_waits = admit(slot, port, now_us);
                moved |= somebody_waits;
            }
            let Some(exchange) = slot else { continue };
            let mut wire = Metered {
                port,
                traffic: &mut self.traffic,
                now_us,
            };
            let mut progress = Progress::Moved;
            for _ in 0..LOOKS_AT_ONCE {
                progress = exchange.poll(&mut self.io, &mut self.state, &mut wire);
                if !matches!(progress, Progress::Moved) {
                    break;
                }
                moved = true;
            }
            if matches!(progress, Progress::Over) {
                moved = true;
                dismiss(slot, &mut self.state, port);
            }
        }
        moved
    }

    /// Gives the place of the oldest stranger to a connection that waits, once all places are taken.
    #[inline(never)]
    fn make_room(&mut self, port: &mut P, now_us: u64) -> bool {
        let is_full = !self.state.stopped && self.inbound.iter().all(Option::is_some);
        let since_us = |slot: &&mut Option<Inbound<_>>| slot.as_ref()?.stranger_since_us();
        let strangers = self
            .inbound
            .iter_mut()
            .filter(|slot| since_us(slot).is_some());
        let Some(oldest) = strangers.min_by_key(since_us).filter(|_| is_full) else {
            return false;
        };
        let Some(connection) = port.accept() else {
            return false;
        };
        if let Some(stranger) = oldest.replace(Inbound::new(connection, now_us)) {
            port.close(stranger.into_connection(&mut self.state));
        }
        true
    }

    /// Turns a finished job into results to send.
    #[inline(never)]
    fn collect_job(&mut self, port: &mut P, now_us: u64) {
        if !self.state.job.as_ref().is_some_and(TrainJob::is_done) {
            return;
        }
        let Some(job) = self.state.job.take() else {
            return;
        };
        let (round, usage) = (job.start.round, port.usage());
        let mut wire = Metered {
            port,
            traffic: &mut self.traffic,
            now_us,
        };
        self.state.finish_job(job, &mut wire, usage);
        if let (None, DevicePhase::Failed(reason)) = (&self.state.results, &self.state.phase) {
            port.log(format_args!("round {round}: given up: {reason}"));
        }
        self.backoff.reset();
        self.retry_at_us = now_us;
    }

    /// The next request to the aggregator.
    fn goal(&self) -> Option<Goal> {
        let Some(session) = &self.state.session else {
            return Some(Goal::Join);
        };
        let examples = session.all_examples();
        match self.state.phase {
            DevicePhase::Joining if session.partition.inputs.is_empty() => Some(Goal::Inputs),
            DevicePhase::Joining if session.partition.labels.len() < examples => Some(Goal::Labels),
            DevicePhase::Fetching => Some(Goal::State),
            DevicePhase::Sending => Some(Goal::Results),
            _ => None,
        }
    }

    /// Ends a request for a round that a later one has ended.
    fn drop_what_is_over(&mut self, port: &mut P, now_us: u64) {
        let is_over = match self.outbound {
            Some((Goal::State, _)) => !matches!(self.state.phase, DevicePhase::Fetching),
            Some((Goal::Results, _)) => !matches!(self.state.phase, DevicePhase::Sending),
            _ => false,
        };
        if is_over {
            self.close_outbound(port);
            self.backoff.reset();
            self.retry_at_us = now_us;
        }
    }

    #[inline(never)]
    fn poll_outbound(&mut self, port: &mut P, now_us: u64) -> bool {
        self.drop_what_is_over(port, now_us);
        if self.outbound.is_none() && !self.open_next(port, now_us) {
            return false;
        }
        let mut moved = false;
        let (goal, ended) = match self.exchange(port, now_us, &mut moved) {
            Some(ended) => ended,
            None => return moved,
        };
        self.close_outbound(port);
        match ended {
            Ok(answer) => self.answered(goal, &answer, port, now_us),
            Err(error) => self.retry(goal, error, port, now_us),
        }
        true
    }

    /// Opens the next request, if one is due. Like others here it stays a function of its own: a small device has little
    /// stack, and what each function moves about stays on it until that returns.
    #[inline(never)]
    fn open_next(&mut self, port: &mut P, now_us: u64) -> bool {
        let Some(goal) = self.goal().filter(|_| now_us >= self.retry_at_us) else {
            return false;
        };
        match self.open(goal, port, now_us) {
            Ok(exchange) => self.outbound = Some((goal, exchange)),
            Err(error) => self.retry(goal, error, port, now_us),
        }
        self.outbound.is_some()
    }

    /// Moves the request along; its end, if it has ended.
    fn exchange(
        &mut self,
        port: &mut P,
        now_us: u64,
        moved: &mut bool,
    ) -> Option<(Goal, Result<Answer, ExchangeError>)> {
        let (goal, exchange) = self.outbound.as_mut()?;
        let goal = *goal;
        let mut wire = Metered {
            port,
            traffic: &mut self.traffic,
            now_us,
        };
        let (io, state) = (&mut self.io, &mut self.state);
        let ended = match goal {
            Goal::Results => exchange.poll(io, state.buffers.as_ref(), None, &mut wire, moved),
            Goal::State => {
                let mut kept = state.kept_vectors();
                let kept = kept.as_mut().map(|kept| kept as &mut dyn Download);
                exchange.poll(io, None, kept, &mut wire, moved)
            }
            Goal::Join | Goal::Inputs | Goal::Labels => {
                let mut data = data(state, goal);
                let data = data.as_mut().map(|data| data as &mut dyn Download);
                exchange.poll(io, None, data, &mut wire, moved)
            }
        };
        ended.map(|ended| (goal, ended))
    }

    /// Closes the connection of the request.
    #[inline(never)]
    fn close_outbound(&mut self, port: &mut P) {
        if let Some((_, exchange)) = self.outbound.take()
            && let Some(connection) = exchange.into_connection()
        {
            port.close(connection);
        }
    }

    /// Opens the request for a goal.
    #[inline(never)]
    fn open(
        &mut self,
        goal: Goal,
        port: &mut P,
        now_us: u64,
    ) -> Result<Outbound<P::Connection>, ExchangeError> {
        let id = self.id().unwrap_or(0);
        let mut head = RequestHead::new();
        let mut upload = None;
        let written = match goal {
            Goal::Join => {
                let memory = Memory {
                    free: port.free_bytes(),
                    storage: port.storage().map(|storage| storage.octets()),
                    flash: port.flash_bytes(),
                };
                write_join(&mut head, &self.config, memory, port.has_examples())
            }
            Goal::Inputs => write!(head, "GET {}?id={id} HTTP/1.1\r\n", path::TRAINING_DATA),
            Goal::Labels => write!(head, "GET {}?id={id} HTTP/1.1\r\n", path::TRAINING_LABELS),
            Goal::State => write!(head, "GET {}?id={id} HTTP/1.1\r\n", path::STATE),
            Goal::Results => {
                let made = self.upload().ok_or(PortError::Exhausted)?;
                let length = made.content_length();
                upload = Some(made);
                write!(
                    head,
                    "POST {}?id={id} HTTP/1.1\r\nContent-Type: {}\r\nContent-Length: {length}\r\n",
                    path::RESULTS,
                    fl_proto::OCTET_STREAM,
                )
            }
        };
        let word = self.state.word.as_ref();
        let whole = written
            .and_then(|()| write_word(&mut head, Word::HEADER, word))
            .and_then(|()| head.write_str(HEAD_END));
        whole.map_err(|_| ExchangeError::HeadTooLong)?;
        self.discard_download(goal);
        Ok(Outbound::new(port.connect()?, head, upload, now_us))
    }

    /// The update to send; `None` if there is no memory for a piece of it.
    fn upload(&self) -> Option<Upload> {
        let State {
            results, buffers, ..
        } = &self.state;
        // Three quarters: whole numbers of every codec.
        let piece_bytes = self.io.len() / 4 * 3;
        Upload::new(results.as_ref()?, buffers.as_ref()?, piece_bytes)
    }

    /// Drops what a broken download left behind.
    fn discard_download(&mut self, goal: Goal) {
        let Some(session) = &mut self.state.session else {
            return;
        };
        let Some(partition) = alloc::sync::Arc::get_mut(&mut session.partition) else {
            return;
        };
        match goal {
            Goal::Inputs => partition.inputs.clear(),
            Goal::Labels => partition.labels.clear(),
            Goal::Join | Goal::State | Goal::Results => {}
        }
    }

    /// Counts a failed try and sets the time of the next.
    #[inline(never)]
    fn retry(&mut self, goal: Goal, error: ExchangeError, port: &mut P, now_us: u64) {
        self.discard_download(goal);
        let wait_us = self.backoff.next_us();
        self.retry_at_us = now_us + wait_us;
        let (attempts, ms) = (self.backoff.attempts(), wait_us / 1000);
        let is_answer = !matches!(
            error,
            ExchangeError::Connection(_) | ExchangeError::TimedOut
        );
        if goal == Goal::State && attempts >= MAX_ATTEMPTS && is_answer {
            self.state
                .fail(format_args!("kept state not fetched: {error}"));
        } else if attempts == 1 || attempts.is_multiple_of(10) {
            port.log(format_args!(
                "{}: {error}; next try in {ms} ms",
                goal.name()
            ));
        }
    }

    /// Takes in an answer.
    #[inline(never)]
    fn answered(&mut self, goal: Goal, answer: &Answer, port: &mut P, now_us: u64) {
        if !(200..300).contains(&answer.status) {
            return self.refused(goal, answer, port, now_us);
        }
        match goal {
            Goal::Join => {
                if !self.welcomed(&answer.body, port) {
                    return self.retry(goal, ExchangeError::Malformed, port, now_us);
                }
            }
            Goal::Inputs => {}
            Goal::Labels => self.fetched(port),
            Goal::State => {
                let kept = self.state.kept_vectors();
                match kept.map_or(Err(ExchangeError::Malformed), KeptDownload::finish) {
                    Ok(()) => {
                        port.log(format_args!("kept state fetched"));
                        self.state.fetched_state();
                    }
                    Err(error) => return self.retry(goal, error, port, now_us),
                }
            }
            Goal::Results => self.delivered(port),
        }
        self.backoff.reset();
        self.retry_at_us = now_us;
    }

    /// Takes in the answer to a join; `false` if it is none.
    #[inline(never)]
    fn welcomed(&mut self, answer: &[u8], port: &mut P) -> bool {
        let Some(welcome) = json::decode::<Welcome>(answer) else {
            return false;
        };
        let source = Source {
            view: port.examples(welcome.id, welcome.holdout),
            flash: port.flash(),
        };
        match self.state.join(&welcome, source) {
            Ok(()) => {
                self.refusal = None;
                let Welcome {
                    id,
                    num_examples,
                    layers,
                    ..
                } = welcome;
                let session = self.state.session.as_ref();
                let place = match session.is_some_and(|s| s.partition.inputs.is_in_flash()) {
                    true => " in flash",
                    false => "",
                };
                port.log(format_args!(
                    "client {id}: {num_examples} examples{place}, layers {layers:?}"
                ));
                if matches!(self.state.phase, DevicePhase::Ready) {
                    self.fetched(port);
                }
            }
            Err(error) => {
                port.log(format_args!("cannot join: {error}"));
                self.state.stop();
            }
        }
        true
    }

    /// The update is with the aggregator.
    #[inline(never)]
    fn delivered(&mut self, port: &mut P) {
        if let Some(results) = self.state.results.take() {
            let what = match self.state.is_evaluation() {
                true => "evaluation",
                false => "update",
            };
            let (round, ms, loss) = (results.round, results.cost.train_us / 1000, results.loss);
            // The only line of a round that goes as it should: each octet costs a serial line, or its emulator.
            port.log(format_args!(
                "round {round}: {what} delivered, {ms} ms, loss {loss:.4}"
            ));
        }
        self.state.phase = DevicePhase::Ready;
    }

    /// All data is here.
    fn fetched(&mut self, port: &mut P) {
        self.state.phase = DevicePhase::Ready;
        port.log(format_args!("ready"));
    }

    /// Takes in a status that is no success: rejoin, give up, or try again.
    #[inline(never)]
    fn refused(&mut self, goal: Goal, answer: &Answer, port: &mut P, now_us: u64) {
        let status = answer.status;
        let reply = json::decode::<ErrorReply>(&answer.body);
        let reason = reply
            .as_ref()
            .map_or("no reason given", |reply| reply.error.as_str());
        port.log(format_args!(
            "{}: refused with {status}: {reason}",
            goal.name()
        ));
        // After a 422 it does not ask again: the device ends.
        if goal == Goal::Join && status != 422 {
            self.refusal = Some(ErrorReply::new(reason));
        }
        match (goal, status) {
            // This device cannot do what this experiment asks of it.
            (Goal::Join, 422) => {
                port.log(format_args!("cannot join: {reason}"));
                self.state.stop();
            }
            // The aggregator does not know this client: it was started anew.
            (Goal::Inputs | Goal::Labels | Goal::State | Goal::Results, 404) => {
                self.state.leave();
                self.retry_at_us = now_us + self.backoff.next_us();
            }
            // The first answer to the same update was lost on the way.
            (Goal::Results, 409) if self.backoff.attempts() > 0 => self.delivered(port),
            // Too slow, or too much at once: neither says anything about what was asked.
            (Goal::State | Goal::Results, 408 | 425 | 429) => {
                self.retry_at_us = now_us + self.backoff.next_us();
            }
            (Goal::State | Goal::Results, 400..500) => {
                self.state.fail(format_args!("{status}: {reason}"))
            }
            _ => {
                self.discard_download(goal);
                self.retry_at_us = now_us + self.backoff.next_us();
            }
        }
    }
}

/// Takes a connection that waits, if there is one.
#[inline(never)]
fn admit<P: Port>(slot: &mut Option<Inbound<P::Connection>>, port: &mut P, now_us: u64) -> bool {
    if let Some(connection) = port.accept() {
        *slot = Some(Inbound::new(connection, now_us));
    }
    slot.is_some()
}

/// Closes a connection.
#[inline(never)]
fn dismiss<P: Port>(slot: &mut Option<Inbound<P::Connection>>, state: &mut State, port: &mut P) {
    if let Some(exchange) = slot.take() {
        port.close(exchange.into_connection(state));
    }
}

/// Memory that a device has, in bytes, as far as it says.
#[derive(Clone, Copy)]
struct Memory {
    free: Option<u64>,
    storage: Option<u64>,
    flash: Option<u64>,
}

/// Writes the request to join, with what this device can.
fn write_join(
    head: &mut RequestHead,
    config: &Config,
    memory: Memory,
    has_examples: bool,
) -> core::fmt::Result {
    write!(head, "GET {}?port={}", path::ID, config.http_port)?;
    if let Some(client) = config.client {
        write!(head, "&client={client}")?;
    }
    if let Some(address) = &config.address {
        write!(head, "&address={address}")?;
    }
    for (i, codec) in codec::ALL.iter().enumerate() {
        let before = if i == 0 { "&codecs=" } else { "," };
        write!(head, "{before}{}", codec.name())?;
    }
    for (i, rule) in fl_algo::rule_names().enumerate() {
        let before = if i == 0 { "&rules=" } else { "," };
        write!(head, "{before}{rule}")?;
    }
    for (i, field) in LATER_FIELDS.iter().enumerate() {
        let before = if i == 0 { "&can=" } else { "," };
        write!(head, "{before}{field}")?;
    }
    if let Some(bytes) = memory.free {
        write!(head, "&memory={bytes}")?;
    }
    if let Some(isa) = config.isa {
        write!(head, "&isa={isa}")?;
    }
    if let Some(bytes) = memory.storage {
        write!(head, "&storage={bytes}")?;
    }
    if let Some(bytes) = memory.flash {
        write!(head, "&flash={bytes}")?;
    }
    if has_examples {
        write!(head, "&examples={}", Query::OWN_EXAMPLES)?;
    }
    write!(head, " HTTP/1.1\r\n")?;
    write_word(head, Word::SECRET_HEADER, config.secret.as_ref())
}

/// Writes the header line of a word, if there is one.
fn write_word(head: &mut RequestHead, name: &str, word: Option<&Word>) -> core::fmt::Result {
    word.map_or(Ok(()), |word| write!(head, "{name}: {}\r\n", word.text()))
}

/// The buffer that training data go to.
fn data(state: &mut State, goal: Goal) -> Option<Octets<'_>> {
    let session = state.session.as_mut()?;
    let want = session.all_examples();
    let inputs = want * session.model.shape().num_inputs();
    let partition = alloc::sync::Arc::get_mut(&mut session.partition)?;
    match goal {
        Goal::Inputs => Some(Octets {
            into: Place::Inputs(&mut partition.inputs),
            want: inputs,
        }),
        Goal::Labels => Some(Octets {
            into: Place::Labels(&mut partition.labels),
            want,
        }),
        Goal::Join | Goal::State | Goal::Results => None,
    }
}

impl Goal {
    fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Inputs => "training data",
            Self::Labels => "training labels",
            Self::State => "kept state",
            Self::Results => "results",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_head_of_a_join_fits() {
        let config = Config {
            client: Some(u32::MAX),
            address: core::str::from_utf8(&[b'9'; 32]).unwrap().try_into().ok(),
            http_port: u16::MAX,
            secret: Some(Word::random([0; 16])),
            // Longer than the name of any instruction set.
            isa: Some("0123456789abcdef"),
            ..Config::default()
        };
        let word = Word::random([1; 16]);
        let mut head = RequestHead::new();
        let most = Some(u64::MAX);
        let memory = Memory {
            free: most,
            storage: most,
            flash: most,
        };
        write_join(&mut head, &config, memory, true).unwrap();
        write_word(&mut head, Word::HEADER, Some(&word)).unwrap();
        head.write_str(HEAD_END).unwrap();
        let host = std::format!("Host: {}\r\n", fl_proto::path::HOST);
        assert!(
            HEAD_END.starts_with(&host),
            "whom a device asks knows this name"
        );
        assert!(head.ends_with(b"\r\n\r\n"));
    }
}
