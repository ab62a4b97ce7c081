//! Memory of the rounds: all of them that the next cohort, and the order of updates, follow from.

use alloc::vec;
use alloc::vec::Vec;

use crate::machine::Machine;
use crate::round::Taken;
use crate::selection::{Facts, Pick, Selection};

/// State between two rounds, which a resumed run goes on from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Facts of all clients, by number.
    pub facts: Vec<Facts>,
    /// Simulated time since the start of the run.
    pub simulated_us: u64,
    /// Updates that are in, of clients that are still under way in simulated time.
    pub under_way: Vec<Taken>,
}

impl Memory {
    /// Clients of which nothing is known.
    pub(crate) fn new(clients: u32) -> Self {
        Self {
            facts: vec![Facts::default(); clients as usize],
            ..Self::default()
        }
    }

    /// Notes who was chosen for a round.
    pub(crate) fn chosen(&mut self, round: u32, picks: &[Pick]) {
        for pick in picks {
            if let Some(facts) = self.facts.get_mut(pick.client as usize) {
                facts.times_chosen += 1;
                facts.last_chosen = round;
            }
        }
    }

    /// Notes the updates that count in a round, in client order.
    pub(crate) fn counted(&mut self, round: u32, updates: &[Taken]) {
        for Taken {
            arrival, measured, ..
        } in updates
        {
            let Some(facts) = self.facts.get_mut(arrival.client as usize) else {
                continue;
            };
            facts.last_counted = round;
            facts.loss = Some(measured.loss);
            facts.took_us = measured.took_us;
            facts.round_j = measured.energy_j.unwrap_or(0.0);
            facts.used_j += facts.round_j;
        }
    }
}

impl Machine {
    /// Chooses cohorts by a selector, of clients of which this much is known.
    ///
    /// `of_clients`: examples, and energy that there is to spend, of each client by number.
    #[must_use]
    pub fn with_selection(
        mut self,
        selection: Selection,
        of_clients: impl IntoIterator<Item = (u32, Option<f64>)>,
    ) -> Self {
        self.selection = selection;
        for (facts, (num_examples, budget_j)) in self.memory.facts.iter_mut().zip(of_clients) {
            (facts.num_examples, facts.budget_j) = (num_examples, budget_j);
        }
        self
    }

    /// The state between two rounds.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Goes on from a state; what is known of clients from the start stays.
    pub fn recall(&mut self, memory: Memory) {
        let Memory {
            facts,
            simulated_us,
            under_way,
        } = memory;
        for (own, facts) in self.memory.facts.iter_mut().zip(facts) {
            *own = Facts {
                num_examples: own.num_examples,
                budget_j: own.budget_j,
                ..facts
            };
        }
        (self.memory.simulated_us, self.memory.under_way) = (simulated_us, under_way);
    }
}
