//! The machine: its state, and what it is told of clients.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::action::{Action, Arrival, Failure, Note, Phase};
use crate::client::{ClientState, Clients};
use crate::evaluation::OpenEvaluation;
use crate::memory::Memory;
use crate::policy::Policy;
use crate::round::{Assignment, OpenRound, Outcome, PreviousRound, Taken};
use crate::selection::Selection;

/// Source of tokens that no device can guess.
pub type TokenSource = Box<dyn FnMut() -> u64 + Send>;

/// Devices that will not take part in a round as they should, as told before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Clients that cannot be reached: they are not chosen.
    pub away: BTreeSet<u32>,
    /// Clients that will fail in it: they are chosen, and no update of theirs counts.
    pub will_fail: BTreeSet<u32>,
    /// Clients whose update is damaged on the way.
    pub corrupt: BTreeSet<u32>,
    /// Longest time for which others are held up in the middle: the round ends so much later.
    pub held_up_us: u64,
    /// Times for which clients are held up, which count in simulated time.
    pub held_up: BTreeMap<u32, u64>,
}

/// The rounds of one run.
pub struct Machine {
    pub(crate) policy: Policy,
    pub(crate) clients: Clients,
    pub(crate) selection: Selection,
    pub(crate) memory: Memory,
    pub(crate) tokens: TokenSource,
    pub(crate) now_us: u64,
    pub(crate) stage: Stage,
    pub(crate) round: u32,
    pub(crate) round_began_us: u64,
    pub(crate) faults: Faults,
    pub(crate) open: Option<OpenRound>,
    pub(crate) previous: Option<PreviousRound>,
    pub(crate) evaluation: Option<OpenEvaluation>,
    /// Clients that still train for a round that has ended.
    pub(crate) in_flight: BTreeMap<u32, Assignment>,
    /// Places given up of those.
    pub(crate) failed_in_flight: Vec<Failure>,
    /// Round and token of the last update of each client that counts: its answer may be lost, and the
    /// update come again.
    pub(crate) delivered: BTreeMap<u32, (u32, u64)>,
    /// Updates of those that came between two rounds.
    pub(crate) early: Vec<Taken>,
    /// Updates that came too late since the last round was closed.
    pub(crate) late: Vec<Arrival>,
    pub(crate) cancelled: Option<String>,
    pub(crate) actions: VecDeque<Action>,
}

/// Stage of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not begun.
    Idle,
    /// Waits for [`Machine::faults`].
    Faults,
    /// Waits for [`Machine::probed`].
    Probing { deadline_us: u64 },
    /// Waits for ready clients.
    Waiting { deadline_us: u64 },
    /// Waits for [`Machine::start`].
    Opened,
    /// Sends `/start` to the cohort.
    Starting,
    /// Waits for updates.
    Training,
    /// Waits for [`Machine::made`].
    Closed,
    /// Waits for [`Machine::evaluate`].
    EvaluationOpened,
    /// Waits for evaluations.
    Evaluating,
    /// Waits for [`Machine::completed`].
    Finishing,
    /// No more rounds.
    Over,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("round", &self.round)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl Machine {
    /// A machine that has not begun and knows no client.
    pub fn new(policy: Policy, tokens: TokenSource) -> Self {
        Self {
            clients: Clients::new(policy.clients),
            selection: Selection::default(),
            memory: Memory::new(policy.clients),
            policy,
            tokens,
            now_us: 0,
            stage: Stage::Idle,
            round: 0,
            round_began_us: 0,
            faults: Faults::default(),
            open: None,
            previous: None,
            evaluation: None,
            in_flight: BTreeMap::new(),
            failed_in_flight: Vec::new(),
            delivered: BTreeMap::new(),
            early: Vec::new(),
            late: Vec::new(),
            cancelled: None,
            actions: VecDeque::new(),
        }
    }

    /// The next thing to do, if there is one.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Notes that a client joined. Whatever it had to do for a round is lost.
    pub fn joined(&mut self, now_us: u64, client: u32) {
        self.observe(now_us);
        self.fail_place(client, || {
            "the device joined anew in the middle of the round".to_string()
        });
        if self.clients.state(client) == Some(ClientState::Absent) {
            self.wait_anew();
        }
        self.clients.set(client, ClientState::Joined);
        self.clients.heard(client);
        self.advance();
    }

    /// Notes that a client has all of its data, as soon as the answer has arrived.
    pub fn fetched(&mut self, now_us: u64, client: u32) {
        self.observe(now_us);
        self.clients
            .set_if(client, &[ClientState::Joined], ClientState::Fetched);
    }

    /// Notes that a client answered that it is ready.
    pub fn ready(&mut self, now_us: u64, client: u32) {
        self.observe(now_us);
        let from = [ClientState::Fetched, ClientState::Suspect];
        if self.clients.set_if(client, &from, ClientState::Ready) {
            self.tell(Note::Ready { client });
        }
        self.advance();
    }

    /// Notes that a client is gone: its place in a round is given up.
    pub fn lost(&mut self, now_us: u64, client: u32, reason: &str) {
        self.gone(now_us, client, reason, false);
    }

    /// Notes that a client is gone and on its way back: its place in a round is given up, and the next
    /// round waits for it.
    pub fn reboots(&mut self, now_us: u64, client: u32, reason: &str) {
        self.gone(now_us, client, reason, true);
    }

    fn gone(&mut self, now_us: u64, client: u32, reason: &str, comes_back: bool) {
        self.observe(now_us);
        // After the last round devices go as they should, and nothing is lost.
        if self.stage == Stage::Over {
            return;
        }
        self.lose(client, reason, comes_back);
        self.advance();
    }

    pub(crate) fn lose(&mut self, client: u32, reason: &str, comes_back: bool) {
        self.fail_place(client, || reason.to_string());
        self.clients.heard(client);
        let is_news = self.clients.set(client, ClientState::Lost);
        let is_back = comes_back
            && self
                .clients
                .set_if(client, &[ClientState::Lost], ClientState::Absent);
        if is_news {
            self.tell(Note::Lost {
                client,
                reason: reason.to_string(),
                comes_back,
            });
        } else if is_back {
            self.tell(Note::Expected { client });
        }
    }

    /// Notes that a client which was lost is on its way back: rounds wait for it again.
    pub fn expected(&mut self, now_us: u64, client: u32) {
        self.observe(now_us);
        if self
            .clients
            .set_if(client, &[ClientState::Lost], ClientState::Absent)
        {
            self.tell(Note::Expected { client });
        }
        self.advance();
    }

    /// Notes that a client has failed its edge: no round waits for it until it is ready again.
    pub fn suspected(&mut self, now_us: u64, client: u32) {
        self.observe(now_us);
        let from = [ClientState::Fetched, ClientState::Ready];
        self.clients.set_if(client, &from, ClientState::Suspect);
        self.advance();
    }

    /// Notes that something came from a client: it is there.
    pub fn heard(&mut self, client: u32) {
        self.clients.heard(client);
    }

    /// Notes that a client was asked in vain.
    pub fn unheard(&mut self, now_us: u64, client: u32) {
        self.observe(now_us);
        self.clients.unheard(client, self.now_us);
    }

    /// Notes that a client did not do its part of a round, and said so: it is there.
    pub fn gave_up(&mut self, now_us: u64, client: u32, round: u32, reason: &str) {
        self.observe(now_us);
        if self.assignment(client, round).is_some() {
            self.fail(client, ClientState::Fetched, || reason.to_string());
        } else if self.round == round {
            self.miss_evaluation(client, || reason.to_string());
        }
        self.advance();
    }

    /// Gives the place of a client up whose update or evaluation is of no use, if it is the one that was asked for.
    pub fn useless(&mut self, now_us: u64, client: u32, round: u32, token: Option<u64>, why: &str) {
        self.observe(now_us);
        let assignment = self.assignment(client, round);
        if assignment.is_some_and(|one| Some(one.token) == token) {
            self.fail_place(client, || why.to_string());
            self.make_ready(client);
        } else if self.awaits_evaluation(client, round, token) {
            self.miss_evaluation(client, || why.to_string());
        }
        self.advance();
    }

    /// Notes that nobody is away on purpose any more, until the faults of the next round say who is.
    pub fn all_are_back(&mut self) {
        self.clients.set_away(BTreeSet::new());
    }

    /// Token of a client's place in the open round, if an update of it would be taken now.
    pub fn awaits(&self, client: u32, round: u32) -> Option<u64> {
        let open = self.open.as_ref().filter(|open| open.round == round)?;
        let assignment = open.assignments.get(&client)?;
        let is_awaited = assignment.outcome.is_none() && !assignment.will_fail;
        is_awaited.then_some(assignment.token)
    }

    /// State of a client; `None` if there is no such client.
    pub fn state(&self, client: u32) -> Option<ClientState> {
        self.clients.state(client)
    }

    /// Clients of a state that can be reached in this round, in order.
    pub fn reachable(&self, state: ClientState) -> impl Iterator<Item = u32> + '_ {
        let those = self.clients.in_state(state).iter().copied();
        those.filter(|&client| !self.clients.is_away(client))
    }

    /// [`Machine::reachable`], from a client on, and then those before it.
    pub fn reachable_from(&self, state: ClientState, from: u32) -> impl Iterator<Item = u32> + '_ {
        let all = self.clients.in_state(state);
        let those = all.range(from..).chain(all.range(..from)).copied();
        those.filter(|&client| !self.clients.is_away(client))
    }

    /// Clients that nobody knows to be there, in order, and the time for which each was asked in vain,
    /// in microseconds.
    ///
    /// One that has a round's work to do is not among them: its link may be full with its update.
    pub fn silent(&self, now_us: u64) -> impl Iterator<Item = (u32, u64)> + '_ {
        let asked = [ClientState::Fetched, ClientState::Suspect];
        let those: BTreeSet<u32> = asked
            .into_iter()
            .flat_map(|state| self.clients.in_state(state))
            .copied()
            .collect();
        let silence = move |id| Some((id, self.clients.silence_us(id, now_us)?));
        those.into_iter().filter_map(silence)
    }

    /// Clients that have begun a round and not delivered, and the round.
    pub fn at_work(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let open = self.open.iter().flat_map(|open| &open.assignments);
        let open = open.filter(|(_, one)| one.started && one.outcome.is_none());
        let all = self.in_flight.iter().chain(open);
        all.map(|(id, assignment)| (*id, assignment.round))
    }

    /// True if a client has a place in a round that was not given up.
    pub fn is_in_round(&self, client: u32, round: u32) -> bool {
        self.assignment(client, round)
            .is_some_and(|one| !matches!(one.outcome, Some(Outcome::Failed(_))))
    }

    /// True if an update that a client sends for a round is damaged on the way, also after that round.
    pub fn is_corrupted(&self, client: u32, round: u32, token: Option<u64>) -> bool {
        self.asked_of(client, round, token)
            .is_some_and(|assignment| assignment.corrupt)
    }

    /// True if an update is one that was asked for and has not come.
    pub fn is_awaited(&self, client: u32, round: u32, token: Option<u64>) -> bool {
        let done = |outcome: &Outcome| matches!(outcome, Outcome::Received | Outcome::Late);
        self.asked_of(client, round, token)
            .is_some_and(|assignment| !assignment.outcome.as_ref().is_some_and(done))
    }

    /// The assignment with this token, of a round that is not over or was the last one.
    fn asked_of(&self, client: u32, round: u32, token: Option<u64>) -> Option<&Assignment> {
        let previous = self.previous.as_ref();
        let previous = previous.and_then(|one| one.assignments.get(&client));
        self.assignment(client, round)
            .or(previous.filter(|assignment| assignment.round == round))
            .filter(|assignment| Some(assignment.token) == token)
    }

    fn assignment(&self, client: u32, round: u32) -> Option<&Assignment> {
        let open = self.open.as_ref();
        let open = open.and_then(|open| open.assignments.get(&client));
        open.or(self.in_flight.get(&client))
            .filter(|assignment| assignment.round == round)
    }

    /// Gives the place of a client up, if it still waits for an update, and puts the client into a state
    /// if it was busy.
    pub(crate) fn fail(&mut self, client: u32, then: ClientState, reason: impl FnOnce() -> String) {
        self.fail_place(client, reason);
        self.clients.set_if(client, &[ClientState::Busy], then);
    }

    fn fail_place(&mut self, client: u32, reason: impl FnOnce() -> String) {
        if self.evaluation.is_some() && !self.in_flight.contains_key(&client) {
            self.miss_evaluation(client, reason);
        } else if let Some(assignment) = self.in_flight.remove(&client) {
            self.failed_in_flight.push(Failure {
                client,
                round: assignment.round,
                reason: reason(),
            });
        } else if let Some(open) = &mut self.open
            && open.fail(client, reason)
        {
            open.settle(client, self.now_us);
        }
    }

    /// Moves the clock on.
    pub(crate) fn observe(&mut self, now_us: u64) {
        self.now_us = self.now_us.max(now_us);
    }

    pub(crate) fn tell(&mut self, note: Note) {
        self.actions.push_back(Action::Tell(note));
    }

    pub(crate) fn enter(&mut self, phase: Phase) {
        let round = self.round;
        self.tell(Note::Entered { round, phase });
    }
}
