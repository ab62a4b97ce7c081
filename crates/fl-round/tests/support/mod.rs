//! A policy for tests, and a caller that answers the machine at once under a clock that the test moves.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use fl_round::{
    Action, Closed, Delivery, EvaluatedRound, Faults, Machine, Measured, Memory, Note, Order,
    Phase, Placed, Policy, Refused, Selection, Start, StartAnswer, StartPolicy, Stragglers,
};
use std::collections::BTreeMap;

pub const SECOND: u64 = 1_000_000;

/// Rounds of all clients, in which one update is enough.
pub fn policy(clients: u32, rounds: u32) -> Policy {
    Policy {
        clients,
        first_round: 1,
        last_round: rounds,
        seed: 7,
        clients_per_round: clients,
        over_commit: 0,
        quorum: 1,
        wait_for: clients,
        ready_deadline_us: 60 * SECOND,
        round_deadline_us: 60 * SECOND,
        gone_after_us: 10 * SECOND,
        stragglers: Stragglers::Refuse,
        order: Order::Arrival,
        start: StartPolicy {
            at_once: 12,
            tries: 6,
            first_pause_us: SECOND / 20,
            longest_pause_us: 2 * SECOND,
            within_us: 30 * SECOND,
        },
        evaluation: None,
    }
}

/// Tokens in the order of their numbers.
pub fn tokens() -> fl_round::TokenSource {
    let mut last = 0;
    Box::new(move || {
        last += 1;
        last
    })
}

/// A machine and a caller that does at once what it says, and keeps what the test may want to see.
pub struct Caller {
    pub machine: Machine,
    pub now: u64,
    /// Faults by round.
    pub faults: BTreeMap<u32, Faults>,
    pub notes: Vec<Note>,
    pub starts: Vec<Start>,
    pub cohorts: Vec<Vec<u32>>,
    pub probes: Vec<Vec<u32>>,
    pub closed: Vec<Closed>,
    /// State at the end of each round.
    pub memories: Vec<Memory>,
    /// Clients asked to evaluate, by round.
    pub evaluators: Vec<Vec<u32>>,
    pub evaluation_starts: Vec<Start>,
    pub evaluated: Vec<EvaluatedRound>,
    evaluation_tokens: BTreeMap<(u32, u32), u64>,
    /// End of the run: the reason of a failure, or nothing.
    pub ended: Option<Option<String>>,
    tokens: BTreeMap<(u32, u32), u64>,
    updates: u64,
}

impl Caller {
    pub fn new(policy: Policy) -> Self {
        Self::with_faults(policy, [])
    }

    pub fn with_faults(policy: Policy, faults: impl IntoIterator<Item = (u32, Faults)>) -> Self {
        Self::selecting(policy, Selection::default(), None, faults)
    }

    /// A machine with a selector, that goes on from a state.
    pub fn selecting(
        policy: Policy,
        selection: Selection,
        from: Option<Memory>,
        faults: impl IntoIterator<Item = (u32, Faults)>,
    ) -> Self {
        let of_clients = (0..policy.clients).map(|client| (10 + client, None));
        let mut machine = Machine::new(policy, tokens()).with_selection(selection, of_clients);
        if let Some(from) = from {
            machine.recall(from);
        }
        let mut caller = Self {
            machine,
            memories: Vec::new(),
            now: 0,
            faults: faults.into_iter().collect(),
            notes: Vec::new(),
            starts: Vec::new(),
            cohorts: Vec::new(),
            probes: Vec::new(),
            closed: Vec::new(),
            evaluators: Vec::new(),
            evaluation_starts: Vec::new(),
            evaluated: Vec::new(),
            evaluation_tokens: BTreeMap::new(),
            ended: None,
            tokens: BTreeMap::new(),
            updates: 0,
        };
        caller.machine.begin(0);
        caller.act();
        caller
    }

    /// Tells the machine something, and does what it says.
    pub fn on(&mut self, event: impl FnOnce(&mut Machine, u64)) {
        event(&mut self.machine, self.now);
        self.act();
    }

    fn act(&mut self) {
        while let Some(action) = self.machine.next_action() {
            match action {
                Action::Tell(note) => self.notes.push(note),
                Action::FindFaults { round } => {
                    let faults = self.faults.get(&round).cloned().unwrap_or_default();
                    self.machine.faults(self.now, faults);
                }
                Action::Probe { clients } => {
                    self.probes.push(clients);
                    self.machine.probed(self.now);
                }
                Action::OpenRound { picks, .. } => {
                    self.cohorts
                        .push(picks.iter().map(|pick| pick.client).collect());
                    self.machine.start(self.now);
                }
                Action::Start(start) => {
                    self.tokens.insert((start.client, start.round), start.token);
                    self.starts.push(start);
                }
                Action::CloseRound(closed) => {
                    self.closed.push(closed);
                    self.memories.push(self.machine.memory().clone());
                    self.machine.made(self.now);
                }
                Action::OpenEvaluation { clients, .. } => {
                    self.evaluators.push(clients);
                    self.machine.evaluate(self.now);
                }
                Action::Evaluate(start) => {
                    self.evaluation_tokens
                        .insert((start.client, start.round), start.token);
                    self.evaluation_starts.push(start);
                }
                Action::FinishRound(evaluated) => {
                    self.evaluated.push(evaluated);
                    self.machine.completed(self.now);
                }
                Action::Finish => self.ended = Some(None),
                Action::Fail { reason } => self.ended = Some(Some(reason)),
            }
        }
    }

    /// Joins these clients and has them say that they are ready.
    pub fn get_ready(&mut self, clients: impl IntoIterator<Item = u32>) {
        for client in clients {
            self.on(|machine, now| machine.joined(now, client));
            self.on(|machine, now| machine.fetched(now, client));
            self.on(|machine, now| machine.ready(now, client));
        }
    }

    /// Lets time pass, with a tick whenever the machine wants one.
    pub fn sleep(&mut self, us: u64) {
        let until = self.now + us;
        while let Some(deadline) = self.machine.deadline()
            && deadline <= until
        {
            self.now = self.now.max(deadline);
            self.on(Machine::tick);
        }
        self.now = until;
        self.on(Machine::tick);
    }

    /// Answers the `/start`s that a client was sent last.
    pub fn answer(&mut self, client: u32, answer: StartAnswer) {
        let sent = self.starts.iter().rfind(|start| start.client == client);
        let round = sent.expect("a /start was sent").round;
        self.on(|machine, now| machine.start_answered(now, client, round, answer));
    }

    pub fn take(&mut self, clients: impl IntoIterator<Item = u32>) {
        for client in clients {
            self.answer(client, StartAnswer::Taken);
        }
    }

    /// Delivers the update of a client for a round with the token that it was given.
    pub fn deliver(&mut self, client: u32, round: u32) -> Result<Placed, Refused> {
        let token = self.tokens.get(&(client, round)).copied();
        self.deliver_with(client, round, token)
    }

    pub fn deliver_with(
        &mut self,
        client: u32,
        round: u32,
        token: Option<u64>,
    ) -> Result<Placed, Refused> {
        self.deliver_measured(client, round, token, Measured::default())
    }

    /// Delivers an update that took its device so long in simulated time.
    pub fn deliver_after(&mut self, client: u32, round: u32, took_us: u64) -> Placed {
        let measured = Measured {
            took_us: Some(took_us),
            ..Measured::default()
        };
        let token = self.tokens.get(&(client, round)).copied();
        self.deliver_measured(client, round, token, measured)
            .expect("the update is the one asked for")
    }

    pub fn deliver_measured(
        &mut self,
        client: u32,
        round: u32,
        token: Option<u64>,
        measured: Measured,
    ) -> Result<Placed, Refused> {
        self.updates += 1;
        let update = self.updates;
        let delivery = Delivery {
            client,
            round,
            token,
            update,
            measured,
        };
        let placed = self.machine.deliver(self.now, delivery);
        self.act();
        placed
    }

    /// Delivers the evaluation of a client for a round, with the token that it was given.
    pub fn evaluate(&mut self, client: u32, round: u32) -> Result<(), Refused> {
        let token = self.evaluation_tokens.get(&(client, round)).copied();
        self.updates += 1;
        let delivery = Delivery {
            measured: Measured::default(),
            client,
            round,
            token,
            update: self.updates,
        };
        let taken = self.machine.evaluated(self.now, delivery);
        self.act();
        taken
    }

    /// Answers the `/start` that asks a client for an evaluation.
    pub fn answer_evaluation(&mut self, client: u32, answer: StartAnswer) {
        let mut sent = self.evaluation_starts.iter();
        let sent = sent.rfind(|start| start.client == client);
        let round = sent.expect("an evaluation was asked for").round;
        self.on(|machine, now| machine.evaluation_answered(now, client, round, answer));
    }

    /// Clients whose updates are in a closed round.
    pub fn updates_of(&self, closed: usize) -> Vec<u32> {
        let updates = self.closed[closed].updates.iter();
        updates.map(|arrival| arrival.client).collect()
    }

    /// Client and reason of each failure of a closed round.
    pub fn failures_of(&self, closed: usize) -> Vec<(u32, &str)> {
        let failed = self.closed[closed].failed.iter();
        failed
            .map(|failure| (failure.client, failure.reason.as_str()))
            .collect()
    }

    /// Clients that are told to have begun a round.
    pub fn started_in(&self, round: u32) -> Vec<u32> {
        let started = self.notes.iter().filter_map(|note| match note {
            Note::Started { client, round: of } if *of == round => Some(*client),
            _ => None,
        });
        started.collect()
    }

    pub fn phases_of(&self, round: u32) -> Vec<Phase> {
        let phases = self.notes.iter().filter_map(|note| match note {
            Note::Entered { round: of, phase } if *of == round => Some(*phase),
            _ => None,
        });
        phases.collect()
    }

    /// Reason why the run failed.
    pub fn reason(&self) -> &str {
        let ended = self.ended.as_ref().expect("the run has ended");
        ended.as_deref().expect("the run has failed")
    }

    pub fn succeeded(&self) -> bool {
        self.ended == Some(None)
    }
}
