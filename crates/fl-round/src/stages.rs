//! The course of a round: faults, ready clients, cohort, training, end.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::action::{Action, Arrival, Closed, Failure, Note, Phase, Times};
use crate::client::ClientState;
use crate::evaluation::OpenEvaluation;
use crate::machine::{Faults, Machine, Stage};
use crate::policy::Order;
use crate::policy::Stragglers;
use crate::round::{Assignment, OpenRound, Outcome, PreviousRound, Taken};
use crate::selection::{Candidates, Pick};
use crate::starts::Starts;

/// Reason for which an update is not waited for any more.
const TOO_OLD: &str = "not waited for: its update would be too old";

impl Machine {
    /// Begins the first round.
    pub fn begin(&mut self, now_us: u64) {
        self.observe(now_us);
        if self.stage == Stage::Idle {
            self.go_on(self.policy.first_round);
        }
    }

    /// Comes to the round that an upstream asks for instead of the next, before its faults are told.
    pub fn come_to(&mut self, round: u32) {
        if self.stage == Stage::Faults {
            self.round = round;
        }
    }

    /// Takes the faults of the round: the answer to [`Action::FindFaults`].
    pub fn faults(&mut self, now_us: u64, faults: Faults) {
        self.observe(now_us);
        if self.stage != Stage::Faults {
            return;
        }
        self.clients.set_away(faults.away.clone());
        self.faults = faults;
        let deadline_us = self.now_us.saturating_add(self.policy.ready_deadline_us);
        let gone = |id| self.clients.silence_us(id, self.now_us) > Some(self.policy.gone_after_us);
        // Those that failed are asked once before the count, or nobody ever would where all others are
        // ready at once.
        let suspects = self.reachable(ClientState::Suspect).filter(|&id| !gone(id));
        let clients: Vec<u32> = suspects.collect();
        if clients.is_empty() {
            self.stage = Stage::Waiting { deadline_us };
        } else {
            self.stage = Stage::Probing { deadline_us };
            self.actions.push_back(Action::Probe { clients });
        }
        self.advance();
    }

    /// Notes that all have been asked: the answer to [`Action::Probe`].
    pub fn probed(&mut self, now_us: u64) {
        self.observe(now_us);
        if let Stage::Probing { deadline_us } = self.stage {
            self.stage = Stage::Waiting { deadline_us };
        }
        self.advance();
    }

    /// Lets time pass.
    pub fn tick(&mut self, now_us: u64) {
        self.observe(now_us);
        self.advance();
    }

    /// Time of the next [`Machine::tick`] if nothing happens before.
    pub fn deadline(&self) -> Option<u64> {
        match (self.stage, &self.open) {
            (Stage::Waiting { deadline_us }, _) => Some(deadline_us),
            (Stage::Starting | Stage::Training, Some(open)) => {
                let next_us = open.starts.next_us().unwrap_or(u64::MAX);
                Some(open.deadline_us.min(next_us))
            }
            (Stage::Evaluating, _) => self.evaluation.as_ref().map(OpenEvaluation::wake_us),
            _ => None,
        }
    }

    /// Notes that the round is written down: the answer to [`Action::FinishRound`].
    pub fn completed(&mut self, now_us: u64) {
        self.observe(now_us);
        if self.stage == Stage::Finishing {
            self.go_on(self.round.saturating_add(1));
        }
    }

    /// Ends the run for a reason; the first one counts. A round that is being aggregated is completed, unless
    /// clients are still to evaluate its model: it is none without that.
    pub fn cancel(&mut self, now_us: u64, reason: &str) {
        self.observe(now_us);
        self.cancelled.get_or_insert_with(|| reason.into());
        if !matches!(self.stage, Stage::Idle | Stage::Closed | Stage::Finishing) {
            self.check_cancelled();
        }
    }

    /// Ends the run without a word, whatever became of it.
    pub fn end(&mut self) {
        self.stage = Stage::Over;
    }

    /// Does what the state of things asks for. Called after each change.
    pub(crate) fn advance(&mut self) {
        if let Stage::Waiting { deadline_us } = self.stage {
            let ready = self.clients.available();
            let can_come = self.policy.clients - self.clients.out();
            if ready >= self.policy.wait_for.min(can_come) {
                self.stop_waiting(true);
            } else if self.now_us >= deadline_us {
                self.stop_waiting(false);
            }
        }
        if matches!(self.stage, Stage::Starting | Stage::Training) {
            self.send_starts();
            if self.is_over() {
                self.close();
            }
        }
        if self.stage == Stage::Evaluating {
            self.advance_evaluation();
        }
    }

    /// True if a round takes the answers to its `/start`s.
    pub(crate) fn is_open(&self, round: u32) -> bool {
        matches!(self.stage, Stage::Starting | Stage::Training) && self.round == round
    }

    /// Comes to a round, or to the end.
    fn go_on(&mut self, round: u32) {
        if self.check_cancelled() {
            return;
        }
        if round > self.policy.last_round {
            self.stage = Stage::Over;
            self.actions.push_back(Action::Finish);
            return;
        }
        (self.round, self.round_began_us) = (round, self.now_us);
        self.stage = Stage::Faults;
        self.enter(Phase::WaitingForReady);
        self.actions.push_back(Action::FindFaults { round });
    }

    /// Counts the wait for ready clients from now: as long as one after the other comes for the first time, the host
    /// is busy with the rest. Each does so once.
    pub(crate) fn wait_anew(&mut self) {
        let anew_us = self.now_us.saturating_add(self.policy.ready_deadline_us);
        if let Stage::Waiting { deadline_us } | Stage::Probing { deadline_us } = &mut self.stage {
            *deadline_us = anew_us.max(*deadline_us);
        }
    }

    /// Ends the wait for ready clients, because all are there or because it took too long.
    fn stop_waiting(&mut self, all_there: bool) {
        let ready = self.clients.available();
        if ready as usize + self.awaited() < self.policy.quorum as usize {
            let reason = format!(
                "round {}: {ready} of {} devices are ready, {} are lost and {} away on purpose, \
                 the quorum is {}: look at the devices' logs, or lower the quorum",
                self.round,
                self.policy.clients,
                self.clients.in_state(ClientState::Lost).len(),
                self.clients.num_away(),
                self.policy.quorum
            );
            return self.end_run(reason);
        }
        if !all_there {
            self.give_up_waiting();
        }
        self.open_round();
    }

    /// Notes who was waited for long enough: rounds do not wait again for those that never came, nor
    /// for those that have not got ready.
    fn give_up_waiting(&mut self) {
        let slow = [ClientState::Joined, ClientState::Fetched];
        let slow = slow.map(|state| self.reachable(state).collect::<Vec<u32>>());
        let within = Duration::from_micros(self.policy.ready_deadline_us);
        for id in slow.into_iter().flatten() {
            self.clients.set(id, ClientState::Suspect);
            self.decided_by_time(id, format!("not ready within {within:?}"));
        }
        let absent: Vec<u32> = self.reachable(ClientState::Absent).collect();
        for id in absent {
            let reason = format!("did not join within {within:?}");
            self.lose(id, &reason, false);
            self.decided_by_time(id, reason);
        }
    }

    /// Tells that time decided about a client.
    pub(crate) fn decided_by_time(&mut self, client: u32, reason: String) {
        let round = self.round;
        self.tell(Note::TimeDecided(Failure {
            client,
            round,
            reason,
        }));
    }

    /// Chooses the cohort.
    fn open_round(&mut self) {
        self.enter(Phase::CohortChosen);
        let (round, chosen_us) = (self.round, self.now_us);
        let size = (self.policy.clients_per_round + self.policy.over_commit) as usize;
        let at_work = self.in_flight.len() + self.memory.under_way.len();
        let size = size.saturating_sub(at_work);
        let picks = self.select(size);
        let cohort: Vec<u32> = picks.iter().map(|pick| pick.client).collect();
        if cohort.len() + self.awaited() < self.policy.quorum as usize {
            let reason = self.too_few_chosen(cohort.len());
            return self.end_run(reason);
        }
        let mut assignments = BTreeMap::new();
        for &id in &cohort {
            let assignment = Assignment {
                round,
                token: (self.tokens)(),
                outcome: None,
                will_fail: self.faults.will_fail.contains(&id),
                corrupt: self.faults.corrupt.contains(&id),
                chosen_us,
                begins_us: self.begins_us(id),
                started: false,
                asked: false,
                attempts: 0,
                settled: false,
            };
            assignments.insert(id, assignment);
            self.clients.set(id, ClientState::Busy);
        }
        self.open = Some(OpenRound {
            round,
            chosen_us,
            deadline_us: chosen_us
                .saturating_add(self.policy.round_deadline_us)
                .saturating_add(self.faults.held_up_us),
            wait_us: chosen_us - self.round_began_us,
            missing: assignments.len(),
            assignments,
            updates: core::mem::take(&mut self.early),
            starts: Starts::default(),
        });
        self.stage = Stage::Opened;
        self.actions.push_back(Action::OpenRound { round, picks });
    }

    /// Updates of earlier rounds that are in, or may come.
    fn awaited(&self) -> usize {
        self.in_flight.len() + self.early.len() + self.memory.under_way.len()
    }

    fn too_few_chosen(&self, chosen: usize) -> String {
        format!(
            "round {}: of {} clients that are ready the selection `{}` finds {chosen}, the quorum is {}: lower \
             the quorum, or change --selection",
            self.round,
            self.clients.available(),
            self.selection.selector.name(),
            self.policy.quorum
        )
    }

    /// Lets the selector choose among the clients that are there, in client order.
    fn select(&mut self, size: usize) -> Vec<Pick> {
        let is_under_way = |id: &u32| {
            self.memory
                .under_way
                .iter()
                .any(|one| one.arrival.client == *id)
        };
        let there = self
            .reachable(ClientState::Ready)
            .filter(|id| !is_under_way(id));
        let there: Vec<u32> = there.collect();
        let mut picks = self.selection.selector.choose(
            &Candidates {
                seed: self.policy.seed,
                round: self.round,
                size,
                there: &there,
                facts: &self.memory.facts,
            },
            &self.selection.params,
        );
        picks.sort_by_key(|pick| pick.client);
        self.memory.chosen(self.round, &picks);
        picks
    }

    /// Simulated time at which a client that is chosen now would be done if its round took no time.
    fn begins_us(&self, client: u32) -> u64 {
        let held_up_us = self.faults.held_up.get(&client).copied().unwrap_or(0);
        self.memory.simulated_us.saturating_add(held_up_us)
    }

    /// True if the open round has nothing more to wait for.
    fn is_over(&self) -> bool {
        let Some(open) = &self.open else { return false };
        let nothing_comes = open.missing == 0 && self.in_flight.is_empty();
        let enough = self.is_enough(open) && open.starts.unsettled == 0;
        nothing_comes || enough || self.now_us >= open.deadline_us
    }

    /// True if a round has the updates that it needs, though more may come.
    fn is_enough(&self, open: &OpenRound) -> bool {
        let wanted = self
            .wanted()
            .filter(|_| self.policy.order == Order::Arrival);
        wanted.is_some_and(|wanted| open.updates.len() >= wanted)
    }

    /// Updates that a round takes at most, if it takes the first.
    fn wanted(&self) -> Option<usize> {
        match self.policy.stragglers {
            Stragglers::Buffer { size, .. } => Some(size as usize),
            _ => (self.policy.over_commit > 0).then_some(self.policy.clients_per_round as usize),
        }
    }

    /// Ends the open round for updates.
    fn close(&mut self) {
        if self.stage == Stage::Starting {
            self.enter_training();
        }
        let Some(mut open) = self.open.take() else {
            return;
        };
        let too_slow = self.give_up_missing(&mut open);
        let mut updates = core::mem::take(&mut open.updates);
        let began_us = self.memory.simulated_us;
        let unused = self.put_in_order(&mut updates);
        updates.sort_by_key(|taken| (taken.arrival.client, taken.arrival.round));
        self.memory.counted(open.round, &updates);
        let failed = self.failures(&open);
        for failure in &failed {
            self.tell(Note::Failed(failure.clone()));
        }
        let simulated = self.policy.order == Order::Simulated;
        let mut late = core::mem::take(&mut self.late);
        late.sort_by_key(|arrival| arrival.client);
        let failure = self.missed_quorum(&open, updates.len(), &failed, too_slow);
        self.stage = Stage::Closed;
        self.actions.push_back(Action::CloseRound(Closed {
            round: open.round,
            cohort_size: open.assignments.len() as u32,
            updates: updates.iter().map(|taken| taken.arrival).collect(),
            late,
            unused,
            failed,
            simulated_us: simulated.then(|| self.memory.simulated_us - began_us),
            times: self.times(&open),
            failure: failure.clone(),
        }));
        self.keep(open);
        if let Some(reason) = failure {
            self.end_run(reason);
        }
    }

    /// Leaves of the updates that are in those that count in this round by the order of simulated time, and
    /// moves that time on. The others stay under way, or are of no use: those are returned.
    fn put_in_order(&mut self, updates: &mut Vec<Taken>) -> Vec<Arrival> {
        if self.policy.order == Order::Arrival {
            return Vec::new();
        }
        updates.append(&mut self.memory.under_way);
        updates.sort_by_key(|taken| (taken.done_us, taken.arrival.client));
        let wanted = self.wanted().unwrap_or(updates.len()).min(updates.len());
        let rest = updates.split_off(wanted);
        let done_us = updates.last().map_or(0, |last| last.done_us);
        self.memory.simulated_us = self.memory.simulated_us.max(done_us);
        let is_buffer = matches!(self.policy.stragglers, Stragglers::Buffer { .. });
        let (stay, unused): (Vec<Taken>, Vec<Taken>) = rest
            .into_iter()
            .partition(|taken| is_buffer && self.may_be_older_than(taken.arrival.round));
        self.memory.under_way = stay;
        let mut unused: Vec<Arrival> = unused.iter().map(|taken| taken.arrival).collect();
        unused.sort_by_key(|arrival| (arrival.client, arrival.round));
        let reason = match is_buffer {
            true => String::from(TOO_OLD),
            false => format!("not waited for: {wanted} updates were in"),
        };
        let failures = unused.iter().map(|arrival| Failure {
            client: arrival.client,
            round: arrival.round,
            reason: reason.clone(),
        });
        self.failed_in_flight.extend(failures);
        unused
    }

    /// Gives up who has not delivered; returns true if more time could have helped.
    fn give_up_missing(&mut self, open: &mut OpenRound) -> bool {
        let enough = self.is_enough(open);
        let why = if enough {
            let got = match self.policy.stragglers {
                Stragglers::Buffer { size, .. } => size,
                _ => self.policy.clients_per_round,
            };
            format!("not waited for: {got} updates were in")
        } else {
            let deadline = Duration::from_micros(self.policy.round_deadline_us);
            format!("no update within {deadline:?}")
        };
        let stays = self.policy.order == Order::Arrival && self.may_be_older_than(open.round);
        let (mut too_slow, mut decided) = (false, Vec::new());
        for (&id, assignment) in &mut open.assignments {
            if assignment.outcome.is_some() || (stays && assignment.started) {
                continue;
            }
            too_slow = !enough;
            assignment.outcome = Some(Outcome::Failed(why.clone()));
            let then = assignment.after_silence();
            self.clients.set_if(id, &[ClientState::Busy], then);
            if then == ClientState::Suspect && !enough {
                decided.push(id);
            }
        }
        for id in decided {
            self.decided_by_time(id, why.clone());
        }
        too_slow
    }

    /// True if an update of a round may still count in the round after the current one.
    fn may_be_older_than(&self, round: u32) -> bool {
        match self.policy.stragglers {
            Stragglers::Buffer { staleness, .. } => {
                self.round.saturating_add(1) - round <= staleness
            }
            _ => false,
        }
    }

    /// Clients without an update in their round, in client order.
    fn failures(&mut self, open: &OpenRound) -> Vec<Failure> {
        let mut failed = core::mem::take(&mut self.failed_in_flight);
        for (&client, assignment) in &open.assignments {
            if let Some(Outcome::Failed(reason)) = &assignment.outcome {
                failed.push(Failure {
                    client,
                    round: assignment.round,
                    reason: reason.clone(),
                });
            }
        }
        let too_old: Vec<u32> = self
            .in_flight
            .iter()
            .filter(|(_, assignment)| !self.may_be_older_than(assignment.round))
            .map(|(id, _)| *id)
            .collect();
        for client in too_old {
            self.fail(client, ClientState::Suspect, || String::from(TOO_OLD));
        }
        failed.append(&mut self.failed_in_flight);
        failed.sort_by_key(|failure| (failure.client, failure.round));
        failed
    }

    /// Reason why a round fails, if it has too few updates.
    fn missed_quorum(
        &self,
        open: &OpenRound,
        got: usize,
        failed: &[Failure],
        too_slow: bool,
    ) -> Option<String> {
        let quorum = self.policy.quorum;
        (got < quorum as usize).then(|| {
            format!(
                "round {}: {got} updates of {} devices, the quorum is {quorum}: {}; look at the \
                 devices' logs{}, or lower the quorum",
                open.round,
                open.assignments.len(),
                most_frequent(failed),
                if too_slow {
                    ", give a longer --deadline"
                } else {
                    ""
                }
            )
        })
    }

    fn times(&self, open: &OpenRound) -> Times {
        let settled_us = match open.starts.unsettled {
            0 => open.starts.settled_us,
            _ => self.now_us,
        };
        Times {
            wait_us: open.wait_us,
            start_us: settled_us - open.starts.began_us,
            train_us: self.now_us - open.chosen_us,
        }
    }

    /// Keeps the places of a round that has ended, for updates that come later.
    fn keep(&mut self, open: OpenRound) {
        let waits = |(_, assignment): &(u32, Assignment)| assignment.outcome.is_none();
        let places = open.assignments.into_iter();
        let (in_flight, assignments): (BTreeMap<_, _>, _) = places.partition(waits);
        self.in_flight.extend(in_flight);
        let round = open.round;
        self.previous = Some(PreviousRound { round, assignments });
    }

    /// Ends the run if somebody wants it to end.
    pub(crate) fn check_cancelled(&mut self) -> bool {
        let cancelled = self.cancelled.clone();
        let news = cancelled.filter(|_| self.stage != Stage::Over);
        if let Some(reason) = news {
            self.end_run(reason);
        }
        self.cancelled.is_some()
    }

    fn end_run(&mut self, reason: String) {
        self.stage = Stage::Over;
        (self.open, self.evaluation) = (None, None);
        self.actions.push_back(Action::Fail { reason });
    }
}

/// Reasons of failures, the most frequent first, three at most.
fn most_frequent(failed: &[Failure]) -> String {
    let mut counts = BTreeMap::<&str, u32>::new();
    for failure in failed {
        *counts.entry(&failure.reason).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| core::cmp::Reverse(*count));
    let told = counts.iter().take(3);
    let told: Vec<_> = told
        .map(|(why, count)| format!("{count} x {why}"))
        .collect();
    told.join("; ")
}
