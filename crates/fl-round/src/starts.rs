//! Sending `/start` to a cohort: a few at once, and again to those that cannot take it yet.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;

use crate::action::{Action, Note, Phase, Start};
use crate::client::ClientState;
use crate::machine::{Machine, Stage};
use crate::round::OpenRound;

/// Answer to a `/start`, as far as the round goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartAnswer {
    /// The client has begun this round, now or by an earlier try.
    Taken,
    /// It may take the same `/start` later, and why: it is busy with the round before, still joining, or
    /// gave no answer.
    Later(String),
    /// It will not take it, and why.
    Refused(String),
}

/// Clients to be asked, a few at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    /// Clients to be asked as soon as there is a place.
    due: VecDeque<u32>,
    /// Clients to be asked again, by time.
    paused: BTreeSet<(u64, u32)>,
    under_way: usize,
}

impl Queue {
    /// A queue of these, all due.
    pub fn of(clients: impl Iterator<Item = u32>) -> Self {
        Self {
            due: clients.collect(),
            ..Self::default()
        }
    }

    /// The next client that is still wanted, if one is due and there is a place for it; it is under way then.
    pub fn next(
        &mut self,
        at_once: usize,
        now_us: u64,
        mut is_wanted: impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        while let Some(&(due_us, client)) = self.paused.first()
            && due_us <= now_us
        {
            self.paused.pop_first();
            self.due.push_back(client);
        }
        while self.under_way < at_once.max(1) {
            let client = self.due.pop_front()?;
            if is_wanted(client) {
                self.under_way += 1;
                return Some(client);
            }
        }
        None
    }

    /// Notes that a client that was under way has answered.
    pub fn answered(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Asks a client again at a time.
    pub fn again_at(&mut self, due_us: u64, client: u32) {
        self.paused.insert((due_us, client));
    }

    /// Time of the next try after a pause.
    pub fn next_us(&self) -> Option<u64> {
        self.paused.first().map(|(due_us, _)| *due_us)
    }
}

/// Progress of sending `/start` to a cohort.
#[derive(Clone, Debug, Default)]
pub(crate) struct Starts {
    queue: Queue,
    /// Clients that the phase of starting waits for.
    pub unsettled: usize,
    pub began_us: u64,
    /// Time at which the last client was settled.
    pub settled_us: u64,
}

impl Starts {
    /// Time of the next try after a pause.
    pub fn next_us(&self) -> Option<u64> {
        self.queue.next_us()
    }
}

impl OpenRound {
    /// Begins to send to everyone.
    pub fn send_all(&mut self, now_us: u64) {
        self.starts.queue = Queue::of(self.assignments.keys().copied());
        let unsettled = self.assignments.values().filter(|one| !one.settled);
        self.starts.unsettled = unsettled.count();
        (self.starts.began_us, self.starts.settled_us) = (now_us, now_us);
    }

    /// Notes that the phase of starting need not wait for a client any more.
    pub fn settle(&mut self, client: u32, now_us: u64) {
        let Some(assignment) = self.assignments.get_mut(&client) else {
            return;
        };
        if !core::mem::replace(&mut assignment.settled, true) {
            self.starts.unsettled = self.starts.unsettled.saturating_sub(1);
            self.starts.settled_us = now_us;
        }
    }

    /// The next client to ask, if one is due and there is a place for it.
    fn next_start(&mut self, at_once: usize, within_us: u64, now_us: u64) -> Option<Start> {
        let assignments = &self.assignments;
        let is_wanted = |client| {
            let one = assignments.get(&client);
            one.is_some_and(|one| one.outcome.is_none() && !one.started)
        };
        let client = self.starts.queue.next(at_once, now_us, is_wanted)?;
        let assignment = self.assignments.get_mut(&client)?;
        assignment.asked = true;
        assignment.attempts += 1;
        Some(Start {
            client,
            round: self.round,
            token: assignment.token,
            attempt: assignment.attempts,
            within_us: within_us.min(self.deadline_us.saturating_sub(now_us)),
        })
    }
}

impl Machine {
    /// Sends `/start` to the cohort: the answer to [`Action::OpenRound`].
    pub fn start(&mut self, now_us: u64) {
        self.observe(now_us);
        if let (Stage::Opened, Some(open)) = (self.stage, &mut self.open) {
            open.send_all(self.now_us);
            self.stage = Stage::Starting;
        }
        self.advance();
    }

    /// Takes the answer to an [`Action::Start`].
    pub fn start_answered(&mut self, now_us: u64, client: u32, round: u32, answer: StartAnswer) {
        self.observe(now_us);
        if self.is_open(round) {
            self.on_start_answer(client, round, answer);
        }
        self.advance();
    }

    fn on_start_answer(&mut self, client: u32, round: u32, answer: StartAnswer) {
        let now_us = self.now_us;
        let Some(open) = &mut self.open else { return };
        let Some(assignment) = open.assignments.get_mut(&client) else {
            return;
        };
        if !core::mem::take(&mut assignment.asked) {
            return;
        }
        open.starts.queue.answered();
        if assignment.outcome.is_some() {
            return;
        }
        let of_start = |reason| format!("/start of round {round}: {reason}");
        match answer {
            StartAnswer::Taken => {
                assignment.started = true;
                open.settle(client, now_us);
                self.tell(Note::Started { client, round });
            }
            StartAnswer::Refused(reason) => {
                self.fail(client, ClientState::Fetched, || of_start(reason));
            }
            StartAnswer::Later(reason) => {
                let (attempts, then) = (assignment.attempts, assignment.after_silence());
                let due_us = now_us.saturating_add(self.policy.start.pause_us(attempts));
                if due_us >= open.deadline_us {
                    let reason = of_start(reason);
                    self.fail(client, then, || reason.clone());
                    if then == ClientState::Suspect {
                        self.decided_by_time(client, reason);
                    }
                    return;
                }
                open.starts.queue.again_at(due_us, client);
                if attempts >= self.policy.start.tries {
                    open.settle(client, now_us);
                }
            }
        }
    }

    /// Sends what is due, and comes to the training once nobody has to be waited for.
    pub(crate) fn send_starts(&mut self) {
        let Some(open) = &mut self.open else { return };
        let start = &self.policy.start;
        while let Some(next) = open.next_start(start.at_once, start.within_us, self.now_us) {
            self.actions.push_back(Action::Start(next));
        }
        if self.stage == Stage::Starting && open.starts.unsettled == 0 {
            self.enter_training();
        }
    }

    /// Comes to the phase of training.
    pub(crate) fn enter_training(&mut self) {
        self.stage = Stage::Training;
        self.enter(Phase::Training);
    }
}
