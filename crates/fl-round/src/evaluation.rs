//! The evaluation of a round's new model by clients, on data of their own.
//!
//! No model depends on it: it changes no state of a client and chooses nobody for a round. Who is asked follows
//! from the seed, the round and its faults; who does not answer in time is missing in the numbers.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use fl_rng::{Pcg32, Purpose};

use crate::action::{Action, Arrival, EvaluatedRound, Failure, Phase, Start};
use crate::delivery::{Delivery, Refused};
use crate::machine::{Machine, Stage};
use crate::policy::EvaluationPolicy;
use crate::starts::{Queue, StartAnswer};

/// An evaluation that waits for answers.
#[derive(Clone, Debug)]
pub(crate) struct OpenEvaluation {
    began_us: u64,
    deadline_us: u64,
    places: BTreeMap<u32, Place>,
    /// Places without an outcome.
    waiting: usize,
    queue: Queue,
    arrived: Vec<Arrival>,
}

/// A client's place in an evaluation.
#[derive(Clone, Debug)]
struct Place {
    token: u64,
    started: bool,
    attempts: u32,
    outcome: Option<Outcome>,
}

#[derive(Clone, Debug)]
enum Outcome {
    Received,
    Missing(String),
}

impl OpenEvaluation {
    /// The place of a client that is still waited for.
    fn waits_for(&mut self, client: u32) -> Option<&mut Place> {
        let place = self.places.get_mut(&client);
        place.filter(|place| place.outcome.is_none())
    }

    /// Waits no more for a client, if it was waited for.
    pub fn miss(&mut self, client: u32, why: impl FnOnce() -> String) -> bool {
        let Some(place) = self.waits_for(client) else {
            return false;
        };
        place.outcome = Some(Outcome::Missing(why()));
        self.waiting -= 1;
        true
    }

    /// Time of the next thing to do if nothing happens before.
    pub fn wake_us(&self) -> u64 {
        let next_us = self.queue.next_us().unwrap_or(u64::MAX);
        self.deadline_us.min(next_us)
    }

    fn next_start(
        &mut self,
        at_once: usize,
        within_us: u64,
        now_us: u64,
    ) -> Option<(u32, Place, u64)> {
        let places = &self.places;
        let is_wanted = |client| {
            let place = places.get(&client);
            place.is_some_and(|place| place.outcome.is_none() && !place.started)
        };
        let client = self.queue.next(at_once, now_us, is_wanted)?;
        let place = self.places.get_mut(&client)?;
        place.attempts += 1;
        let within_us = within_us.min(self.deadline_us.saturating_sub(now_us));
        Some((client, place.clone(), within_us))
    }
}

impl Machine {
    /// Notes that the round's model is made: the answer to [`Action::CloseRound`].
    pub fn made(&mut self, now_us: u64) {
        self.observe(now_us);
        if self.stage != Stage::Closed {
            return;
        }
        let (round, last) = (self.round, self.policy.last_round);
        let due = |policy: &EvaluationPolicy| policy.is_due(round, last);
        match self.policy.evaluation.filter(due) {
            Some(_) if self.check_cancelled() => {}
            Some(policy) => self.open_evaluation(policy),
            None => self.finish_round(EvaluatedRound::default()),
        }
    }

    /// Asks the clients of an evaluation: the answer to [`Action::OpenEvaluation`].
    pub fn evaluate(&mut self, now_us: u64) {
        self.observe(now_us);
        if self.stage == Stage::EvaluationOpened {
            self.stage = Stage::Evaluating;
        }
        self.advance();
    }

    /// Takes the answer to an [`Action::Evaluate`].
    pub fn evaluation_answered(
        &mut self,
        now_us: u64,
        client: u32,
        round: u32,
        answer: StartAnswer,
    ) {
        self.observe(now_us);
        let is_of_now = self.round == round;
        if let Some(open) = self.evaluation.as_mut().filter(|_| is_of_now) {
            open.queue.answered();
            let (now_us, start) = (self.now_us, &self.policy.start);
            let deadline_us = open.deadline_us;
            if let Some(place) = open.waits_for(client) {
                let due_us = now_us.saturating_add(start.pause_us(place.attempts));
                match answer {
                    StartAnswer::Taken => place.started = true,
                    StartAnswer::Later(_) if due_us < deadline_us => {
                        open.queue.again_at(due_us, client);
                    }
                    StartAnswer::Later(why) | StartAnswer::Refused(why) => {
                        open.miss(client, || why);
                    }
                }
            }
        }
        self.advance();
    }

    /// Takes an evaluation in.
    ///
    /// # Errors
    /// [`Refused`] if it does not count.
    pub fn evaluated(&mut self, now_us: u64, delivery: Delivery) -> Result<(), Refused> {
        self.observe(now_us);
        let taken = self.place_evaluation(delivery);
        self.advance();
        taken
    }

    /// True if an evaluation is one that was asked for and has not come.
    pub(crate) fn awaits_evaluation(&self, client: u32, round: u32, token: Option<u64>) -> bool {
        let open = self.evaluation.as_ref().filter(|_| self.round == round);
        let place = open.and_then(|open| open.places.get(&client));
        place.is_some_and(|place| Some(place.token) == token && place.outcome.is_none())
    }

    /// Clients that have begun an evaluation and not answered, and the round.
    pub fn evaluating(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let places = self.evaluation.iter().flat_map(|open| &open.places);
        let at_work = places.filter(|(_, place)| place.started && place.outcome.is_none());
        at_work.map(|(client, _)| (*client, self.round))
    }

    /// Waits no more for the evaluation of a client, if it was waited for.
    pub(crate) fn miss_evaluation(&mut self, client: u32, why: impl FnOnce() -> String) -> bool {
        let open = self.evaluation.as_mut();
        open.is_some_and(|open| open.miss(client, why))
    }

    /// Sends what is due, and ends the evaluation once nobody is waited for.
    pub(crate) fn advance_evaluation(&mut self) {
        let round = self.round;
        let Some(open) = &mut self.evaluation else {
            return;
        };
        let start = &self.policy.start;
        while let Some((client, place, within_us)) =
            open.next_start(start.at_once, start.within_us, self.now_us)
        {
            self.actions.push_back(Action::Evaluate(Start {
                client,
                round,
                token: place.token,
                attempt: place.attempts,
                within_us,
            }));
        }
        if open.waiting == 0 || self.now_us >= open.deadline_us {
            self.close_evaluation();
        }
    }

    fn open_evaluation(&mut self, policy: EvaluationPolicy) {
        let round = self.round;
        let clients = self.choose_evaluators(policy);
        let mut places = BTreeMap::new();
        for &client in &clients {
            let token = (self.tokens)();
            let outcome = self
                .cannot_evaluate(client)
                .map(|why| Outcome::Missing(why.to_string()));
            places.insert(
                client,
                Place {
                    token,
                    started: false,
                    attempts: 0,
                    outcome,
                },
            );
        }
        let asked = places.iter().filter(|(_, place)| place.outcome.is_none());
        let asked: Vec<u32> = asked.map(|(client, _)| *client).collect();
        let deadline_us = self.now_us.saturating_add(policy.deadline_us);
        self.evaluation = Some(OpenEvaluation {
            began_us: self.now_us,
            deadline_us: deadline_us.saturating_add(self.faults.held_up_us),
            waiting: asked.len(),
            queue: Queue::of(asked.iter().copied()),
            places,
            arrived: Vec::new(),
        });
        self.stage = Stage::EvaluationOpened;
        self.enter(Phase::Evaluating);
        let clients = asked;
        self.actions
            .push_back(Action::OpenEvaluation { round, clients });
    }

    /// The cohort of the round, or as many of all clients as the policy says, in order.
    fn choose_evaluators(&self, policy: EvaluationPolicy) -> Vec<u32> {
        let Some(size) = policy.clients else {
            let previous = self.previous.iter().flat_map(|one| one.assignments.keys());
            let in_flight = self.in_flight.iter();
            let in_flight = in_flight.filter(|(_, one)| one.round == self.round);
            let mut cohort: Vec<u32> = previous
                .chain(in_flight.map(|(id, _)| id))
                .copied()
                .collect();
            cohort.sort_unstable();
            return cohort;
        };
        let mut order: Vec<u32> = (0..self.policy.clients).collect();
        Pcg32::for_round(Purpose::Evaluation, self.policy.seed, self.round).shuffle(&mut order);
        order.truncate(size as usize);
        order.sort_unstable();
        order
    }

    /// Reason why a client is not asked.
    fn cannot_evaluate(&self, client: u32) -> Option<&'static str> {
        if self.faults.will_fail.contains(&client) {
            return Some("this device fails in the round");
        }
        if self.clients.is_away(client) {
            return Some("away on purpose");
        }
        (!self.clients.is_available(client)).then_some("not ready when the model was made")
    }

    fn place_evaluation(&mut self, delivery: Delivery) -> Result<(), Refused> {
        let Delivery {
            client,
            round,
            token,
            update,
            ..
        } = delivery;
        let over = Refused::RoundOver { round };
        let is_of_now = self.round == round;
        let open = self.evaluation.as_mut().filter(|_| is_of_now);
        let open = open.ok_or(over)?;
        let place = open.places.get_mut(&client);
        let place = place.ok_or(Refused::NotInCohort { client, round })?;
        if Some(place.token) != token {
            return Err(Refused::WrongToken);
        }
        match &place.outcome {
            Some(Outcome::Received) => return Err(Refused::Twice { round }),
            Some(Outcome::Missing(why)) => {
                let why = why.clone();
                return Err(Refused::GivenUp { round, why });
            }
            None => place.outcome = Some(Outcome::Received),
        }
        open.waiting -= 1;
        open.arrived.push(Arrival {
            client,
            round,
            update,
        });
        Ok(())
    }

    fn close_evaluation(&mut self) {
        let (round, now_us) = (self.round, self.now_us);
        let Some(open) = self.evaluation.take() else {
            return;
        };
        let within = Duration::from_micros(open.deadline_us - open.began_us);
        let late = format!("no evaluation within {within:?}");
        let missing = open.places.into_iter().filter_map(|(client, place)| {
            let reason = match place.outcome {
                Some(Outcome::Received) => return None,
                Some(Outcome::Missing(why)) => why,
                None => late.clone(),
            };
            Some(Failure {
                client,
                round,
                reason,
            })
        });
        let missing = missing.collect();
        let mut evaluations = open.arrived;
        evaluations.sort_by_key(|arrival| arrival.client);
        self.finish_round(EvaluatedRound {
            round,
            evaluations,
            missing,
            duration_us: now_us - open.began_us,
        });
    }

    fn finish_round(&mut self, evaluated: EvaluatedRound) {
        let round = self.round;
        self.stage = Stage::Finishing;
        self.actions
            .push_back(Action::FinishRound(EvaluatedRound { round, ..evaluated }));
    }
}
