//! Random sequences of events against what must hold whatever happens, thousands a second.
//!
//! A sequence is decided by its seed alone, which a failure names: `SEED=<seed>` runs that one.
//! `SEQUENCES=<number>` runs more of them.

mod support;

use fl_rng::{Pcg32, Purpose};
use fl_round::{
    Action, Arrival, ClientState, Closed, Delivery, EvaluatedRound, EvaluationPolicy, Faults,
    Machine, Measured, Memory, Note, Order, Policy, Refused, Selection, Start, StartAnswer,
    Stragglers,
};
use std::collections::{BTreeMap, BTreeSet};
use support::{SECOND, policy};

/// Sequences that a test runs if nobody asks for more.
const SEQUENCES: u64 = 4000;

/// Random events of a sequence, before it is only brought to its end.
const EVENTS: u32 = 400;

/// A bit that no token has.
const FORGED: u64 = 1 << 63;

/// Tokens that one machine may give: those of the next are others.
const TOKENS: u64 = 1 << 20;

/// Work that the machine gave and that is not done yet.
#[derive(Clone, Debug)]
enum Pending {
    Faults(u32),
    Probe(Vec<u32>),
    Start,
    Answer(Start),
    Made,
    Evaluate,
    AnswerEvaluation(Start),
    Complete,
}

/// State of one round.
#[derive(Clone, Debug, Default)]
struct Round {
    faults: Faults,
    cohort: BTreeSet<u32>,
    is_open: bool,
    is_closed: bool,
    started: BTreeSet<u32>,
    failed: BTreeSet<u32>,
}

/// A machine, a fleet that does anything, and what has been seen of both.
struct World {
    rng: Pcg32,
    policy: Policy,
    selection: Selection,
    machine: Machine,
    /// State at the end of the last complete round.
    memory: Memory,
    /// Updates that had counted by then, and those that had come for nothing.
    ends: [BTreeSet<(u32, u32)>; 2],
    now: u64,
    pending: Vec<Pending>,
    /// Tokens of all `/start`s, with those of machines that are gone.
    tokens: Vec<(u32, u32, u64)>,
    token_base: u64,
    updates: u64,
    /// Round and token of the last update of each client that was taken in and counts.
    last: BTreeMap<u32, (u32, Option<u64>)>,
    /// Updates that were taken in, and what they were for.
    taken: BTreeMap<u64, (u32, u32)>,
    /// Clients and rounds of which an update was taken in.
    in_time: BTreeSet<(u32, u32)>,
    counted: BTreeSet<(u32, u32)>,
    /// Clients and rounds whose update came and counts in no round.
    unused: BTreeSet<(u32, u32)>,
    /// Clients that have joined and said that they are ready, and were not lost since.
    there: BTreeSet<u32>,
    rounds: BTreeMap<u32, Round>,
    evaluating: Option<Evaluating>,
    completed: u32,
    ended: bool,
    seen: Seen,
}

/// State of an evaluation.
#[derive(Clone, Debug, Default)]
struct Evaluating {
    clients: BTreeSet<u32>,
    tokens: BTreeMap<u32, u64>,
    came: BTreeMap<u32, u64>,
}

/// Counts of the events that matter: a model that does too little finds nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    rounds: u32,
    resumed: u32,
    late: u32,
    stale: u32,
    simulated: u32,
    unused: u32,
    failed: u32,
    cancelled: u32,
    evaluated: u32,
    unevaluated: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Pcg32::new(Purpose::Cohort, seed);
        let policy = random_policy(&mut rng, seed);
        let selection = random_selection(&mut rng);
        let mut world = Self {
            machine: machine(&policy, selection, 0),
            memory: Memory::default(),
            ends: Default::default(),
            rng,
            policy,
            selection,
            now: 0,
            pending: Vec::new(),
            tokens: Vec::new(),
            token_base: 0,
            updates: 0,
            last: BTreeMap::new(),
            taken: BTreeMap::new(),
            in_time: BTreeSet::new(),
            counted: BTreeSet::new(),
            unused: BTreeSet::new(),
            there: BTreeSet::new(),
            rounds: BTreeMap::new(),
            evaluating: None,
            completed: 0,
            ended: false,
            seen: Seen::default(),
        };
        world.machine.begin(0);
        world.act();
        world
    }

    fn pick(&mut self, bound: u32) -> u32 {
        self.rng.below(bound)
    }

    /// A client, now and then one that does not exist.
    fn client(&mut self) -> u32 {
        let bound = self.policy.clients + u32::from(self.pick(50) == 0);
        self.pick(bound)
    }

    fn faults(&mut self, round: u32) -> Faults {
        let mut faults = Faults::default();
        for client in 0..self.policy.clients {
            match self.pick(20) {
                0 | 1 => _ = faults.away.insert(client),
                2 => _ = faults.will_fail.insert(client),
                3 => _ = faults.corrupt.insert(client),
                _ => {}
            }
        }
        self.rounds.insert(
            round,
            Round {
                faults: faults.clone(),
                ..Round::default()
            },
        );
        faults
    }

    /// One random event.
    fn step(&mut self) {
        let client = self.client();
        match self.pick(100) {
            0..30 => self.do_pending(),
            30..55 => self.come_nearer(client),
            55 => self.join(client),
            56 => self.machine.fetched(self.now, client),
            57 => self.machine.ready(self.now, client),
            58 => self.lose(client),
            59 => self.machine.expected(self.now, client),
            60 => self.machine.unheard(self.now, client),
            61 => self.machine.heard(client),
            62 if self.pick(3) == 0 => self.give_up(client),
            63 if self.pick(3) == 0 => self.useless(client),
            64..84 => self.deliver(),
            84..87 => self.deliver_evaluation(),
            87..97 => {
                self.now += u64::from(self.pick(2_000_000));
                self.machine.tick(self.now);
            }
            97 => {
                // The clock jumps, and not always forwards.
                let jump = u64::from(self.pick(100)) * SECOND;
                let to = if self.pick(4) == 0 {
                    self.now.saturating_sub(jump)
                } else {
                    self.now + jump
                };
                self.machine.tick(to);
                self.now = self.now.max(to);
            }
            98 => self.do_late(),
            _ if self.pick(60) == 0 => self.machine.cancel(self.now, "cancelled"),
            _ if self.pick(20) == 0 => self.resume(),
            _ => self.machine.tick(self.now),
        }
        self.act();
    }

    /// A client takes its next step towards a round.
    fn come_nearer(&mut self, client: u32) {
        match self.machine.state(client) {
            Some(ClientState::Absent | ClientState::Lost) => self.join(client),
            Some(ClientState::Joined) => self.machine.fetched(self.now, client),
            _ => self.machine.ready(self.now, client),
        }
    }

    fn join(&mut self, client: u32) {
        self.there.remove(&client);
        self.machine.joined(self.now, client);
    }

    fn lose(&mut self, client: u32) {
        self.there.remove(&client);
        match self.rng.below(2) {
            0 => self.machine.lost(self.now, client, "lost"),
            _ => self.machine.reboots(self.now, client, "reboots"),
        }
    }

    fn give_up(&mut self, client: u32) {
        let round = self.completed + 1;
        self.machine.gave_up(self.now, client, round, "gave up");
    }

    fn useless(&mut self, client: u32) {
        let Some((client, round, token)) = self.some_token(client) else {
            return;
        };
        self.machine
            .useless(self.now, client, round, Some(token), "useless");
    }

    fn some_token(&mut self, client: u32) -> Option<(u32, u32, u64)> {
        if self.tokens.is_empty() {
            return None;
        }
        // Mostly a recent one, and mostly one of its own.
        let len = self.tokens.len() as u32;
        let recent = (2 * self.policy.clients).min(len);
        let at = if self.pick(8) == 0 {
            self.pick(len)
        } else {
            len - 1 - self.pick(recent)
        };
        let (of, round, token) = self.tokens[at as usize];
        Some(if self.pick(20) == 0 {
            (client, round, token)
        } else {
            (of, round, token)
        })
    }

    /// Delivers something: mostly what was asked for, sometimes twice, forged or of another round.
    fn deliver(&mut self) {
        let client = self.client();
        let Some((client, mut round, token)) = self.some_token(client) else {
            return;
        };
        let token = match self.pick(20) {
            0 => None,
            1 => Some(token ^ FORGED),
            _ => Some(token),
        };
        match self.pick(20) {
            0 => round += 1,
            1 => round = round.saturating_sub(1),
            _ => {}
        }
        self.updates += 1;
        let update = self.updates;
        let delivery = Delivery {
            client,
            round,
            token,
            update,
            measured: Measured {
                loss: self.pick(100) as f32 / 10.0,
                took_us: Some(u64::from(self.pick(50)) * SECOND),
                energy_j: Some(f64::from(self.pick(4))),
            },
        };
        match self.machine.deliver(self.now, delivery) {
            Ok(placed) => {
                let is_own = token.is_some() && self.token_of(client, round) == token;
                assert!(is_own, "taken in with the token of another: {delivery:?}");
                let faults = &self.rounds[&round].faults;
                assert!(
                    !faults.will_fail.contains(&client),
                    "{client} was to crash in {round}"
                );
                let is_new = self.in_time.insert((client, round));
                assert!(is_new, "two updates of {client} for round {round}");
                if placed.late {
                    assert!(self.rounds[&round].is_closed);
                    assert_eq!(placed.counts, self.policy.stragglers == Stragglers::UseNext);
                }
                if placed.counts {
                    self.last.insert(client, (round, token));
                    self.taken.insert(update, (client, round));
                }
                self.there.insert(client);
            }
            Err(Refused::WrongToken) => {
                let own = self.token_of(client, round);
                assert!(own.is_none() || own != token, "its own token is refused");
            }
            Err(refused) if self.last.get(&client) == Some(&(round, token)) => {
                assert_eq!(refused, Refused::Twice { round }, "it is in");
                self.there.insert(client);
            }
            // Word of an earlier round shows that the client is there.
            Err(_) if token.is_some() && self.token_of(client, round) == token => {
                self.there.insert(client);
            }
            Err(_) => {}
        }
    }

    /// The token that a client was last given for a round by the machine of now.
    fn token_of(&self, client: u32, round: u32) -> Option<u64> {
        let own = self
            .tokens
            .iter()
            .rfind(|one| (one.0, one.1) == (client, round))?;
        (own.2 > self.token_base).then_some(own.2)
    }

    /// Does something that the machine asked for, not always what it asked for first.
    fn do_pending(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let at = self.pick(self.pending.len() as u32) as usize;
        match self.pending.remove(at) {
            Pending::Faults(round) => {
                let faults = self.faults(round);
                self.machine.faults(self.now, faults);
            }
            Pending::Probe(clients) => {
                for client in clients {
                    match self.pick(2) {
                        0 => self.machine.ready(self.now, client),
                        _ => self.machine.unheard(self.now, client),
                    }
                }
                self.machine.probed(self.now);
            }
            Pending::Start => self.machine.start(self.now),
            Pending::Answer(start) => self.answer(start),
            Pending::Made => self.machine.made(self.now),
            Pending::Evaluate => self.machine.evaluate(self.now),
            Pending::AnswerEvaluation(start) => {
                let answer = self.some_answer();
                self.machine
                    .evaluation_answered(self.now, start.client, start.round, answer);
            }
            Pending::Complete => {
                // The round is written down now.
                let closed = self.rounds.iter().rfind(|(_, round)| round.is_closed);
                self.completed = *closed.expect("a round was closed").0;
                self.seen.rounds += 1;
                self.memory = self.machine.memory().clone();
                self.ends = [self.counted.clone(), self.unused.clone()];
                self.machine.completed(self.now);
            }
        }
    }

    fn some_answer(&mut self) -> StartAnswer {
        match self.pick(10) {
            0 => StartAnswer::Refused("refused".into()),
            1..4 => StartAnswer::Later("busy".into()),
            _ => StartAnswer::Taken,
        }
    }

    fn answer(&mut self, start: Start) {
        let answer = self.some_answer();
        self.machine
            .start_answered(self.now, start.client, start.round, answer);
    }

    /// Answers what nobody asks any more.
    fn do_late(&mut self) {
        let client = self.client();
        if let Some((client, round, _)) = self.some_token(client)
            && !self
                .pending
                .iter()
                .any(|one| matches!(one, Pending::Answer(start) if start.client == client))
        {
            self.machine
                .start_answered(self.now, client, round, StartAnswer::Taken);
        }
        if !self
            .pending
            .iter()
            .any(|one| matches!(one, Pending::Faults(_)))
        {
            self.machine.faults(self.now, Faults::default());
        }
        if !self
            .pending
            .iter()
            .any(|one| matches!(one, Pending::Complete))
        {
            self.machine.completed(self.now);
        }
    }

    /// The process ends and the run is resumed: what was not completed has never been.
    fn resume(&mut self) {
        if self.completed >= self.policy.last_round || self.ended {
            return;
        }
        self.seen.resumed += 1;
        let completed = self.completed;
        self.policy.first_round = completed + 1;
        self.token_base += TOKENS;
        self.rounds.retain(|round, _| *round <= completed);
        // An update that is in no model may come again, for the round that is done again.
        self.in_time.retain(|(_, round)| *round <= completed);
        [self.counted, self.unused] = self.ends.clone();
        self.there.clear();
        self.pending.clear();
        self.last.clear();
        self.evaluating = None;
        self.machine = machine(&self.policy, self.selection, self.token_base);
        // Before the first round nothing is saved.
        if completed > 0 {
            self.machine.recall(self.memory.clone());
        }
        let under_way = &self.machine.memory().under_way;
        self.taken
            .retain(|update, _| under_way.iter().any(|one| one.arrival.update == *update));
        self.machine.begin(self.now);
    }

    /// Does at once what costs no time, keeps the rest for later, and looks at all of it.
    fn act(&mut self) {
        while let Some(action) = self.machine.next_action() {
            assert!(!self.ended, "after the end: {action:?}");
            match action {
                Action::Tell(note) => self.on_event(note),
                Action::FindFaults { round } => {
                    assert_eq!(round, self.completed + 1, "one round after the other");
                    self.pending.push(Pending::Faults(round));
                }
                Action::Probe { clients } => {
                    let suspect = |id: &u32| self.machine.state(*id) == Some(ClientState::Suspect);
                    assert!(clients.iter().all(suspect));
                    self.pending.push(Pending::Probe(clients));
                }
                Action::OpenRound { round, picks } => {
                    let cohort = picks.iter().map(|pick| pick.client).collect();
                    self.open(round, cohort);
                    self.pending.push(Pending::Start);
                }
                Action::Start(start) => self.send(start),
                Action::CloseRound(closed) => {
                    self.close(&closed);
                    if closed.failure.is_none() {
                        self.pending.push(Pending::Made);
                    }
                }
                Action::OpenEvaluation { round, clients } => {
                    self.open_evaluation(round, clients);
                    self.pending.push(Pending::Evaluate);
                }
                Action::Evaluate(start) => self.send_evaluation(start),
                Action::FinishRound(evaluated) => {
                    self.finish_round(&evaluated);
                    self.pending.push(Pending::Complete);
                }
                Action::Finish => {
                    assert_eq!(self.completed, self.policy.last_round);
                    self.ended = true;
                }
                Action::Fail { reason } => {
                    self.ended = true;
                    let cancelled = reason == "cancelled";
                    self.seen.cancelled += u32::from(cancelled);
                    self.seen.failed += u32::from(!cancelled);
                }
            }
        }
    }

    fn on_event(&mut self, note: Note) {
        match note {
            Note::Ready { client } => _ = self.there.insert(client),
            Note::Started { client, round } => {
                let known = self.rounds.get_mut(&round).expect("a round that has begun");
                assert!(known.cohort.contains(&client));
                assert!(
                    !known.failed.contains(&client),
                    "{client} began what it has failed"
                );
                assert!(
                    known.started.insert(client),
                    "{client} began round {round} twice"
                );
            }
            Note::Received { update } => {
                assert!(self.taken.contains_key(&update) || update == self.updates)
            }
            Note::Failed(failure) => {
                let known = self
                    .rounds
                    .get_mut(&failure.round)
                    .expect("a round that has begun");
                assert!(known.cohort.contains(&failure.client));
                assert!(
                    known.failed.insert(failure.client),
                    "it failed twice: {failure:?}"
                );
            }
            Note::Lost { client, .. } => _ = self.there.remove(&client),
            Note::Entered { .. } | Note::Expected { .. } | Note::TimeDecided(_) => {}
        }
    }

    fn open(&mut self, round: u32, cohort: Vec<u32>) {
        assert!(cohort.is_sorted_by(|a, b| a < b));
        let under_way: BTreeSet<u32> = self.under_way().map(|(client, _)| client).collect();
        let at_work = (self.machine.at_work().count() + under_way.len()) as u32;
        let size = self.policy.clients_per_round + self.policy.over_commit;
        let size = size.saturating_sub(at_work);
        let away = &self.rounds[&round].faults.away;
        if self.selection.selector.name() == "uniform" {
            let expected = cohort_of(&self.policy, round, size, |id| {
                let is_there = self.machine.state(id) == Some(ClientState::Ready);
                let is_left = is_there && !away.contains(&id) && !under_way.contains(&id);
                cohort.contains(&id) || is_left
            });
            assert_eq!(cohort, expected);
        }
        assert!(cohort.len() <= size as usize);
        assert!(cohort.iter().all(|client| !under_way.contains(client)));
        let known = self.rounds.get_mut(&round).expect("its faults were asked");
        assert!(!known.is_open && !known.is_closed, "opened once");
        for client in &cohort {
            assert!(self.there.contains(client), "{client} is not there");
            assert!(!known.faults.away.contains(client), "{client} is away");
        }
        known.is_open = true;
        known.cohort = cohort.into_iter().collect();
    }

    fn open_evaluation(&mut self, round: u32, clients: Vec<u32>) {
        let policy = self.policy.evaluation.expect("an evaluation was asked for");
        let last = self.policy.last_round;
        assert!(round == last || round.is_multiple_of(policy.every));
        assert!(clients.is_sorted_by(|a, b| a < b));
        let known = &self.rounds[&round];
        assert!(known.is_closed && self.evaluating.is_none());
        for client in &clients {
            assert_eq!(self.machine.state(*client), Some(ClientState::Ready));
            let faults = &known.faults;
            assert!(!faults.away.contains(client) && !faults.will_fail.contains(client));
            assert!(policy.clients.is_some() || known.cohort.contains(client));
        }
        let most = policy.clients.unwrap_or(self.policy.clients);
        assert!(clients.len() <= most as usize);
        let clients = clients.into_iter().collect();
        self.evaluating = Some(Evaluating {
            clients,
            ..Evaluating::default()
        });
    }

    fn send_evaluation(&mut self, start: Start) {
        let open = self.evaluating.as_mut().expect("an open evaluation");
        assert!(open.clients.contains(&start.client));
        assert!(!open.came.contains_key(&start.client), "{start:?}");
        let token = open.tokens.entry(start.client).or_insert(start.token);
        assert_eq!(*token, start.token, "one token for an evaluation");
        assert!(!self.tokens.iter().any(|one| one.2 == start.token));
        self.pending.push(Pending::AnswerEvaluation(start));
    }

    /// Delivers an evaluation: mostly one that was asked for, sometimes twice or forged.
    fn deliver_evaluation(&mut self) {
        let client = self.client();
        let round = self.completed + 1;
        let asked = self.evaluating.as_ref();
        let own = asked.and_then(|open| open.tokens.get(&client).copied());
        let token = match self.pick(10) {
            0 => own.map(|token| token ^ FORGED),
            1 => self.some_token(client).map(|one| one.2),
            _ => own,
        };
        self.updates += 1;
        let update = self.updates;
        let delivery = Delivery {
            measured: Measured::default(),
            client,
            round,
            token,
            update,
        };
        let state = self.machine.state(client);
        if self.machine.evaluated(self.now, delivery).is_ok() {
            assert!(token.is_some() && token == own, "{delivery:?}");
            let open = self.evaluating.as_mut().expect("an open evaluation");
            let is_new = open.came.insert(client, update).is_none();
            assert!(is_new, "two evaluations of {client}");
            assert_eq!(self.machine.state(client), state, "its state stays");
        }
    }

    fn finish_round(&mut self, evaluated: &EvaluatedRound) {
        let Some(open) = self.evaluating.take() else {
            assert!(evaluated.evaluations.is_empty() && evaluated.missing.is_empty());
            return;
        };
        let came = evaluated.evaluations.iter();
        let came: BTreeMap<u32, u64> = came.map(|one| (one.client, one.update)).collect();
        assert_eq!(came, open.came);
        let missing: BTreeSet<u32> = evaluated.missing.iter().map(|one| one.client).collect();
        assert_eq!(missing.len(), evaluated.missing.len());
        for client in &open.clients {
            assert!(came.contains_key(client) != missing.contains(client));
        }
        self.seen.evaluated += came.len() as u32;
        self.seen.unevaluated += missing.len() as u32;
    }

    fn send(&mut self, start: Start) {
        let known = &self.rounds[&start.round];
        assert!(known.is_open && known.cohort.contains(&start.client));
        assert!(
            !known.started.contains(&start.client),
            "it has begun: {start:?}"
        );
        let under_way =
            |one: &&Pending| matches!(one, Pending::Answer(other) if other.round == start.round);
        let under_way: Vec<_> = self.pending.iter().filter(under_way).collect();
        assert!(under_way.len() < self.policy.start.at_once);
        for one in under_way {
            let is_other = matches!(one, Pending::Answer(other) if other.client != start.client);
            assert!(is_other, "asked twice at once: {start:?}");
        }
        assert!(start.token > self.token_base);
        let known = self.token_of(start.client, start.round);
        assert!(
            known.is_none_or(|token| token == start.token),
            "one token for a round"
        );
        let one = (start.client, start.round, start.token);
        if self.tokens.last() != Some(&one) && !self.tokens.contains(&one) {
            self.tokens.push(one);
        }
        self.pending.push(Pending::Answer(start));
    }

    fn close(&mut self, closed: &Closed) {
        let known = self.rounds.get_mut(&closed.round).expect("it was opened");
        assert!(known.is_open && !known.is_closed, "closed once");
        (known.is_open, known.is_closed) = (false, true);
        assert_eq!(closed.cohort_size as usize, known.cohort.len());
        // Requests of a round that is over are given up.
        self.pending
            .retain(|one| !matches!(one, Pending::Answer(_)));
        let got = closed.updates.len();
        assert_eq!(closed.failure.is_some(), got < self.policy.quorum as usize);
        assert!(
            closed
                .updates
                .is_sorted_by_key(|one| (one.client, one.round))
        );
        for arrival in &closed.updates {
            self.count(arrival);
            let age = closed.round - arrival.round;
            self.seen.stale += u32::from(age > 0);
            let allowed = match self.policy.stragglers {
                Stragglers::Buffer { staleness, .. } => staleness,
                _ => 0,
            };
            assert!(age <= allowed, "{age} rounds old: {arrival:?}");
        }
        for arrival in &closed.late {
            assert_eq!(arrival.round + 1, closed.round, "{arrival:?}");
            if self.policy.stragglers == Stragglers::UseNext {
                self.seen.late += 1;
                self.count(arrival);
            }
        }
        for arrival in &closed.unused {
            let one = (arrival.client, arrival.round);
            assert!(self.policy.order == Order::Simulated && self.unused.insert(one));
            assert!(
                !self.counted.contains(&one),
                "counted and of no use: {arrival:?}"
            );
            self.seen.unused += 1;
        }
        let under_way: BTreeSet<(u32, u32)> = self.under_way().collect();
        self.seen.simulated += under_way.len() as u32;
        let has_end = |one: &(u32, u32)| {
            let ends = [&self.counted, &self.unused, &under_way];
            ends.iter().filter(|end| end.contains(one)).count() == 1
        };
        let waits = self.taken.values().find(|one| !has_end(one));
        assert_eq!(waits, None, "taken in and forgotten");
        self.check_ends(closed);
    }

    /// Every client of the cohort has delivered, has failed, or is still at work where it may be.
    fn check_ends(&self, closed: &Closed) {
        let at_work: BTreeSet<(u32, u32)> = self.machine.at_work().collect();
        let has_begun = |(client, round)| self.rounds[round].started.contains(client);
        assert!(
            at_work
                .iter()
                .all(|(client, round)| has_begun((client, round)))
        );
        let known = &self.rounds[&closed.round];
        for &client in &known.cohort {
            let one = (client, closed.round);
            let ends = [
                self.in_time.contains(&one) && !self.unused.contains(&one),
                known.failed.contains(&client),
                at_work.contains(&one),
            ];
            let ends = ends.into_iter().filter(|is_so| *is_so).count();
            assert_eq!(ends, 1, "ends of {one:?}");
        }
        if !matches!(self.policy.stragglers, Stragglers::Buffer { .. }) {
            assert!(at_work.is_empty());
        }
        let told = closed.failed.iter().filter(|one| one.round == closed.round);
        assert_eq!(told.count(), known.failed.len());
    }

    /// Clients that are under way in simulated time, and the round of each.
    fn under_way(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let under_way = self.machine.memory().under_way.iter();
        under_way.map(|taken| (taken.arrival.client, taken.arrival.round))
    }

    fn count(&mut self, arrival: &Arrival) {
        let one = (arrival.client, arrival.round);
        assert_eq!(self.taken.get(&arrival.update), Some(&one), "{arrival:?}");
        assert!(self.counted.insert(one), "counted twice: {arrival:?}");
    }

    /// Lets nothing happen but what the machine asks for: it has to come to an end.
    fn finish(&mut self) {
        // A round needs a wait, a few answers for each client, and a deadline.
        let most = (self.policy.last_round + 2) * (self.policy.clients + 2) * 40;
        for _ in 0..most {
            if self.ended {
                return;
            }
            if self.pending.is_empty() {
                let deadline = self
                    .machine
                    .deadline()
                    .expect("a deadline, or something to do");
                self.now = self.now.max(deadline);
                self.machine.tick(self.now);
            } else {
                self.do_pending();
            }
            self.act();
        }
        panic!("no end: {:?}, {:?}", self.machine, self.pending);
    }
}

fn machine(policy: &Policy, selection: Selection, tokens_used: u64) -> Machine {
    let mut last = tokens_used;
    let tokens = move || {
        last += 1;
        last
    };
    let of_clients = (0..policy.clients).map(|client| (client + 1, Some(30.0)));
    Machine::new(policy.clone(), Box::new(tokens)).with_selection(selection, of_clients)
}

fn random_selection(rng: &mut Pcg32) -> Selection {
    let all: Vec<Selection> = Selection::all().collect();
    // Half of them uniform, whose cohorts are known.
    let at = (rng.below(2) * rng.below(all.len() as u32)) as usize;
    all[at]
}

fn random_policy(rng: &mut Pcg32, seed: u64) -> Policy {
    let clients = 1 + rng.below(8);
    let mut some = policy(clients, 1 + rng.below(4));
    some.seed = seed;
    some.clients_per_round = 1 + rng.below(clients);
    some.over_commit = match rng.below(3) {
        0 => rng.below(clients - some.clients_per_round + 1),
        _ => 0,
    };
    some.quorum = 1 + rng.below(some.clients_per_round.min(2));
    some.wait_for = 1 + rng.below(clients);
    some.stragglers = match rng.below(3) {
        0 => Stragglers::Refuse,
        1 => Stragglers::UseNext,
        _ => Stragglers::Buffer {
            size: 1 + rng.below(some.clients_per_round),
            staleness: rng.below(4),
        },
    };
    some.order = match rng.below(2) {
        0 => Order::Arrival,
        _ => Order::Simulated,
    };
    some.evaluation = (rng.below(2) == 0).then(|| EvaluationPolicy {
        every: 1 + rng.below(3),
        clients: (rng.below(2) == 0).then(|| 1 + rng.below(clients)),
        deadline_us: 20 * SECOND,
    });
    some.start.at_once = 1 + rng.below(4) as usize;
    some.start.tries = 1 + rng.below(6);
    some
}

/// A cohort as it has always been drawn.
fn cohort_of(policy: &Policy, round: u32, size: u32, there: impl Fn(u32) -> bool) -> Vec<u32> {
    let mut order: Vec<u32> = (0..policy.clients).collect();
    Pcg32::for_round(Purpose::Cohort, policy.seed, round).shuffle(&mut order);
    let mut cohort: Vec<u32> = order
        .into_iter()
        .filter(|&id| there(id))
        .take(size as usize)
        .collect();
    cohort.sort_unstable();
    cohort
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect(name))
}

#[test]
fn whatever_happens_every_round_ends_and_no_update_counts_twice() {
    let seeds = match setting("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..setting("SEQUENCES").unwrap_or(SEQUENCES),
    };
    let mut all = Seen::default();
    for seed in seeds {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..EVENTS {
                if world.ended {
                    break;
                }
                world.step();
            }
            world.finish();
            world.seen
        });
        let Ok(seen) = run else {
            panic!("sequence {seed} broke: run it alone with SEED={seed}");
        };
        all.rounds += seen.rounds;
        all.resumed += seen.resumed;
        all.late += seen.late;
        all.stale += seen.stale;
        all.simulated += seen.simulated;
        all.unused += seen.unused;
        all.failed += seen.failed;
        all.cancelled += seen.cancelled;
        all.evaluated += seen.evaluated;
        all.unevaluated += seen.unevaluated;
    }
    let Seen {
        rounds,
        resumed,
        late,
        stale,
        simulated,
        unused,
        failed,
        cancelled,
        evaluated,
        unevaluated,
    } = all;
    let least = [
        rounds / 10,
        resumed,
        late,
        stale,
        simulated,
        unused,
        failed,
        cancelled,
        evaluated,
        unevaluated,
    ];
    let is_all = setting("SEED").is_none();
    assert!(!is_all || least.iter().all(|seen| *seen > 50), "{all:?}");
}

/// The cohorts of a run in which nobody fails but as planned, in an order that `order` decides.
fn cohorts(policy: &Policy, faults: &BTreeMap<u32, Faults>, order: u64) -> Vec<Vec<u32>> {
    let mut rng = Pcg32::new(Purpose::ExampleOrder, order);
    let mut run = support::Caller::with_faults(policy.clone(), faults.clone());
    let mut joining: Vec<u32> = (0..policy.clients).collect();
    rng.shuffle(&mut joining);
    run.get_ready(joining);
    for round in 1..=policy.last_round {
        let mut cohort = run.cohorts[round as usize - 1].clone();
        rng.shuffle(&mut cohort);
        let will_fail = faults.get(&round).map(|faults| faults.will_fail.clone());
        let will_fail = will_fail.unwrap_or_default();
        let mut crashed = Vec::new();
        for client in cohort {
            // An answer of the round before is still on its way to some.
            for _ in 0..rng.below(9) {
                run.answer(client, StartAnswer::Later("409".into()));
                run.sleep(3 * SECOND);
            }
            if rng.below(2) == 0 {
                run.take([client]);
            }
            if will_fail.contains(&client) {
                let _ = run.deliver(client, round);
                run.machine.lost(run.now, client, "crash");
                run.on(|machine, now| machine.expected(now, client));
                crashed.push(client);
            } else {
                run.deliver(client, round).unwrap();
            }
            run.sleep(u64::from(rng.below(1000)));
        }
        rng.shuffle(&mut crashed);
        run.get_ready(crashed);
    }
    assert!(run.succeeded());
    let by_time = run
        .notes
        .iter()
        .filter(|note| matches!(note, Note::TimeDecided(_)));
    assert_eq!(by_time.count(), 0, "nothing missed a deadline");
    run.cohorts
}

#[test]
fn cohorts_follow_from_the_seed_and_the_faults() {
    for seed in 0..100 {
        let mut rng = Pcg32::new(Purpose::SelfTest, seed);
        let clients = 4 + rng.below(6);
        let mut some = policy(clients, 5);
        some.seed = seed;
        some.round_deadline_us = 10_000 * SECOND;
        some.ready_deadline_us = 10_000 * SECOND;
        some.clients_per_round = 2 + rng.below(clients - 2);
        let mut faults = BTreeMap::new();
        for round in 1..=5 {
            let mut of = Faults::default();
            of.away.insert(rng.below(clients));
            of.will_fail.insert(rng.below(clients));
            faults.insert(round, of);
        }
        let one = cohorts(&some, &faults, 0);
        for order in 1..4 {
            assert_eq!(one, cohorts(&some, &faults, order), "seed {seed}");
        }
    }
}
