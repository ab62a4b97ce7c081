//! One request to the device, from its first byte to the end of the connection.

use crate::guard;
use crate::http::{self, HeadBuffer, MAX_HEAD, Refusal, Reply, Request, Route};
use crate::meter::Metered;
use crate::placed::Placed;
use crate::port::{Port, PortError};
use crate::receive::StartReceiver;
use crate::state::State;
use fl_proto::Ready;

/// Time for the whole head of a request, and for the next bytes of a body or an answer, in microseconds.
const STALLED_US: u64 = 15_000_000;

/// Time during which bytes behind a refused request are read and dropped, so that the refusal arrives
/// instead of a reset, in microseconds.
const LINGER_US: u64 = 2_000_000;

/// A connection that the aggregator opened.
pub(crate) struct Inbound<C> {
    connection: C,
    stage: Stage,
    since_us: u64,
    deadline_us: u64,
}

enum Stage {
    Head(HeadBuffer),
    Start(Placed<StartReceiver>),
    Reply {
        reply: Reply,
        sent: usize,
        linger: bool,
    },
    Linger,
}

/// Outcome of a look at a connection.
pub(crate) enum Progress {
    /// Moved; look again.
    Moved,
    /// Nothing to do now.
    Waiting,
    /// Finished or broken: to be closed.
    Over,
}

impl<C> Inbound<C> {
    pub fn new(connection: C, now_us: u64) -> Self {
        let stage = Stage::Head(HeadBuffer::new());
        Self {
            connection,
            stage,
            since_us: now_us,
            deadline_us: now_us + STALLED_US,
        }
    }

    /// Time of its opening, while nobody has shown on it to be the aggregator: it has to make room for a
    /// newer one.
    pub fn stranger_since_us(&self) -> Option<u64> {
        let is_stranger = match &self.stage {
            Stage::Head(_) | Stage::Linger => true,
            Stage::Reply { linger, .. } => *linger,
            Stage::Start(_) => false,
        };
        is_stranger.then_some(self.since_us)
    }

    pub fn deadline_us(&self) -> u64 {
        self.deadline_us
    }

    /// Gives the stream back for closing, and to the device what an unfinished `/start` held.
    pub fn into_connection(self, state: &mut State) -> C {
        if let Stage::Start(mut receiver) = self.stage {
            abandon(&mut receiver, state);
        }
        self.connection
    }

    /// Does what can be done without waiting. Like others here it stays a function of its own, and what is large stays
    /// in its place: a small device has little stack.
    #[inline(never)]
    pub fn poll<P>(
        &mut self,
        io: &mut [u8],
        state: &mut State,
        wire: &mut Metered<'_, P>,
    ) -> Progress
    where
        P: Port<Connection = C>,
    {
        let progress = match self.advance(io, state, wire) {
            Ok(progress) => progress,
            Err(PortError::WouldBlock) => Progress::Waiting,
            Err(_) => Progress::Over,
        };
        // A head and what lingers are bounded as a whole, however the bytes come.
        let is_bounded = matches!(self.stage, Stage::Head(_) | Stage::Linger);
        match progress {
            Progress::Over => {}
            Progress::Moved if !is_bounded => self.deadline_us = wire.now_us + STALLED_US,
            _ if wire.now_us >= self.deadline_us => return self.stalled(state),
            _ => {}
        }
        progress
    }

    fn advance<P>(
        &mut self,
        io: &mut [u8],
        state: &mut State,
        wire: &mut Metered<'_, P>,
    ) -> Result<Progress, PortError>
    where
        P: Port<Connection = C>,
    {
        match &mut self.stage {
            Stage::Head(head) => {
                let room = (MAX_HEAD - head.len()).min(io.len());
                let n = wire.read(&mut self.connection, &mut io[..room])?;
                if n == 0 {
                    return Ok(Progress::Over);
                }
                // Never fails: no more was read than there is room.
                let _ = head.extend_from_slice(&io[..n]);
                if let Some(len) = http::head_len(head) {
                    let head = core::mem::take(head);
                    self.route(&head[..len], &head[len..], state, wire);
                } else if head.len() == MAX_HEAD {
                    self.refuse(Refusal::new(
                        431,
                        format_args!("a head of over {MAX_HEAD} bytes"),
                    ));
                }
            }
            Stage::Start(receiver) => {
                let Some(receiver) = receiver.get_mut() else {
                    return Ok(Progress::Over);
                };
                let room = receiver.remaining().min(io.len() as u64) as usize;
                let n = wire.read(&mut self.connection, &mut io[..room])?;
                if n == 0 {
                    return Ok(Progress::Over);
                }
                let pushed = receiver.push(&io[..n], state);
                self.after_push(pushed, state, wire);
            }
            Stage::Reply {
                reply,
                sent,
                linger,
            } => {
                *sent += wire.write(&mut self.connection, &reply[*sent..])?;
                if *sent == reply.len() {
                    if !*linger {
                        return Ok(Progress::Over);
                    }
                    self.stage = Stage::Linger;
                    self.deadline_us = wire.now_us + LINGER_US;
                }
            }
            Stage::Linger => {
                if wire.read(&mut self.connection, io)? == 0 {
                    return Ok(Progress::Over);
                }
            }
        }
        Ok(Progress::Moved)
    }

    /// Answers a whole head, or begins on the body behind it.
    fn route<P>(&mut self, head: &[u8], body: &[u8], state: &mut State, wire: &mut Metered<'_, P>)
    where
        P: Port<Connection = C>,
    {
        let has_joined = state.session.is_some();
        let guarded = http::parse_request(head, |headers| {
            guard::check(headers, state.word.as_ref(), has_joined)
        });
        let request = match guarded {
            Ok(request) => request,
            Err(refusal) => return self.refuse(refusal),
        };
        match request.route {
            Route::Ready => match state.ready() {
                Ok(ready) => self.reply(200, &ready, false),
                Err(refusal) => self.refuse(refusal),
            },
            Route::Stop => {
                state.stop();
                self.reply(200, &http::Empty {}, false);
            }
            Route::Start => match begin(&request, state) {
                Err(refusal) => self.refuse(refusal),
                Ok(mut receiver) => {
                    let pushed = match receiver.get_mut() {
                        Some(receiver) if body.len() as u64 <= receiver.remaining() => {
                            receiver.push(body, state)
                        }
                        _ => Err(Refusal::new(400, "bytes behind the body")),
                    };
                    self.stage = Stage::Start(receiver);
                    self.after_push(pushed, state, wire);
                }
            },
        }
    }

    /// Ends the body of a `/start` if it is whole or refused.
    fn after_push<P>(
        &mut self,
        pushed: Result<(), Refusal>,
        state: &mut State,
        wire: &mut Metered<'_, P>,
    ) where
        P: Port<Connection = C>,
    {
        let Stage::Start(receiver) = &mut self.stage else {
            return;
        };
        let remaining = receiver
            .get_mut()
            .map_or(0, |receiver| receiver.remaining());
        if pushed.is_ok() && remaining > 0 {
            return;
        }
        let answer = match pushed {
            Ok(()) => finish(receiver, state, wire),
            Err(refusal) => {
                abandon(receiver, state);
                Err(refusal)
            }
        };
        match answer {
            Ok(ready) => self.reply(202, &ready, false),
            Err(refusal) => self.refuse(refusal),
        }
    }

    /// Answers, in the place of what was received.
    #[inline(never)]
    fn reply<T: serde::Serialize>(&mut self, status: u16, body: &T, linger: bool) {
        self.stage = Stage::Reply {
            reply: Reply::new(),
            sent: 0,
            linger,
        };
        if let Stage::Reply { reply, .. } = &mut self.stage {
            http::write_reply(reply, status, body);
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.reply(refusal.status, &refusal.reason, true);
    }

    /// Ends a connection without progress: with 408 if that can still be said.
    fn stalled(&mut self, state: &mut State) -> Progress {
        match &mut self.stage {
            Stage::Start(receiver) => abandon(receiver, state),
            Stage::Head(head) if !head.is_empty() => {}
            _ => return Progress::Over,
        }
        self.refuse(Refusal::new(408, "the request took too long"));
        Progress::Moved
    }
}

/// Begins on a `/start`, whose receiver is too large for a small device's stack.
#[inline(never)]
fn begin(request: &Request, state: &mut State) -> Result<Placed<StartReceiver>, Refusal> {
    let receiver = state.begin_start(request)?;
    Placed::new(receiver).map_err(|_| Refusal::new(507, "this device has no memory to take it in"))
}

/// Gives to the device what an unfinished `/start` held.
#[inline(never)]
fn abandon(receiver: &mut Placed<StartReceiver>, state: &mut State) {
    if let Some(receiver) = receiver.get_mut() {
        state.abandon_start(receiver);
    }
}

/// Checks a whole `/start` and makes its job.
#[inline(never)]
fn finish<P: Port>(
    receiver: &mut Placed<StartReceiver>,
    state: &mut State,
    wire: &mut Metered<'_, P>,
) -> Result<Ready, Refusal> {
    let lost = || Refusal::new(409, "this /start was broken off");
    state.finish_start(receiver.get_mut().ok_or_else(lost)?, wire)
}
