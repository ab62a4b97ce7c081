//! Failures and faults.

use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};

/// Faults that are kept, the newest.
pub const MAX_FAULTS: usize = 10_000;

/// Something that went wrong, by itself or because it was asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fault {
    /// Counts the run's faults from 0.
    pub number: u64,
    /// The round that it happened in; 0 is before the first.
    pub round: u32,
    /// The device, if it is about one.
    pub client: Option<u32>,
    /// `died`, `lost`, `failed`, `rejected`, or the kind of an injected fault.
    pub kind: String,
    /// Seconds since the start of the run.
    pub elapsed_s: f64,
    /// What is known.
    pub reason: String,
}

/// The faults of a run, bounded.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    kept: VecDeque<Fault>,
    next: u64,
    counts: BTreeMap<String, u64>,
}

impl Faults {
    pub fn add(
        &mut self,
        round: u32,
        client: Option<u32>,
        kind: &str,
        elapsed_s: f64,
        reason: &str,
    ) -> u64 {
        let number = self.next;
        self.next += 1;
        *self.counts.entry(kind.to_owned()).or_default() += 1;
        if self.kept.len() == MAX_FAULTS {
            self.kept.pop_front();
        }
        let (kind, reason) = (kind.to_owned(), reason.to_owned());
        self.kept.push_back(Fault {
            number,
            round,
            client,
            kind,
            elapsed_s,
            reason,
        });
        number
    }

    /// Of another kind and reason than was thought.
    pub fn replace(&mut self, number: u64, kind: &str, reason: &str) {
        let Some(fault) = self.position(number).and_then(|at| self.kept.get_mut(at)) else {
            return;
        };
        if let Some(count) = self.counts.get_mut(&fault.kind) {
            *count -= 1;
        }
        *self.counts.entry(kind.to_owned()).or_default() += 1;
        (fault.kind, fault.reason) = (kind.to_owned(), reason.to_owned());
    }

    /// The last of these kinds that a device had in a round.
    pub fn last_of(&self, client: u32, round: u32, kinds: &[&str]) -> Option<u64> {
        let this_round = self
            .kept
            .iter()
            .rev()
            .take_while(|fault| fault.round == round);
        let mut own = this_round.filter(|fault| fault.client == Some(client));
        own.find(|fault| kinds.contains(&fault.kind.as_str()))
            .map(|fault| fault.number)
    }

    pub fn get(&self, number: u64) -> Option<&Fault> {
        self.kept.get(self.position(number)?)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.kept.iter()
    }

    pub fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }

    fn position(&self, number: u64) -> Option<usize> {
        let first = self.kept.front()?.number;
        number.checked_sub(first)?.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_all_are_counted() {
        let mut faults = Faults::default();
        for number in 0..MAX_FAULTS as u64 + 5 {
            assert_eq!(faults.add(1, Some(0), "rejected", 0.0, ""), number);
        }
        assert_eq!(faults.iter().count(), MAX_FAULTS);
        assert_eq!(faults.counts()["rejected"], MAX_FAULTS as u64 + 5);
        assert_eq!(faults.get(4), None);
        assert_eq!(faults.get(5).unwrap().number, 5);
    }

    #[test]
    fn a_fault_can_turn_out_to_be_another() {
        let mut faults = Faults::default();
        let number = faults.add(2, Some(7), "lost", 1.0, "no answer");
        assert_eq!(faults.last_of(7, 2, &["lost"]), Some(number));
        assert_eq!(faults.last_of(7, 1, &["lost"]), None);
        assert_eq!(faults.last_of(8, 2, &["lost"]), None);
        faults.replace(number, "died", "page fault");
        assert_eq!(faults.get(number).unwrap().kind, "died");
        assert_eq!((faults.counts()["lost"], faults.counts()["died"]), (0, 1));
    }
}
