//! Failures and faults.

use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};

/// Faults that are kept, the newest.
pub const MAX_FAULTS: usize = 10_000;

/// Something that went wrong, by itself or because it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Fault {
    /// Counts the run's faults from 0.
    pub number: u64,
    /// The round that it happened in; 0 is before the first.
    pub round: u32,
    /// The device, if it is about one.
    pub client: Option<u32>,
    /// `died`, `lost`, `failed`, `rejected`, `watchdog`, or the kind of an injected fault: `crash`, `cut` …
    pub kind: String,
    /// True if the experiment planned it.
    pub injected: bool,
    /// Origin of remote control: `dashboard`. The kind then says so too: `crash by hand`.
    pub by: Option<String>,
    /// Seconds since the start of the run.
    pub elapsed_s: f64,
    /// End of a fault that lasts, in seconds since the start of the run.
    pub over_s: Option<f64>,
    /// Description.
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
    /// Takes one in, and gives it its number.
    pub fn add(&mut self, fault: Fault) -> u64 {
        let number = self.next;
        self.next += 1;
        *self.counts.entry(fault.kind.clone()).or_default() += 1;
        if self.kept.len() == MAX_FAULTS {
            self.kept.pop_front();
        }
        self.kept.push_back(Fault { number, ..fault });
        number
    }

    /// Ends the last fault of this kind that a device has; returns its number.
    pub fn over(&mut self, client: u32, kind: &str, over_s: f64) -> Option<u64> {
        let mut own = self.kept.iter_mut().rev().filter(|fault| {
            let asked_for = fault.injected || fault.by.is_some();
            fault.client == Some(client) && asked_for && fault.kind == kind
        });
        let fault = own.next().filter(|fault| fault.over_s.is_none())?;
        fault.over_s = Some(over_s);
        Some(fault.number)
    }

    /// Corrects the kind and the reason of a fault.
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

    fn fault(round: u32, client: u32, kind: &str, reason: &str) -> Fault {
        Fault {
            round,
            client: Some(client),
            kind: kind.into(),
            reason: reason.into(),
            ..Fault::default()
        }
    }

    #[test]
    fn a_fault_that_lasts_ends_once() {
        let mut faults = Faults::default();
        let cut = |client| Fault {
            injected: true,
            ..fault(2, client, "cut", "")
        };
        let (first, second) = (faults.add(cut(1)), faults.add(cut(1)));
        faults.add(cut(2));
        assert_eq!(faults.over(1, "freeze", 8.0), None);
        assert_eq!(faults.over(1, "cut", 9.0), Some(second));
        assert_eq!(faults.over(1, "cut", 10.0), None);
        let ends = [first, second].map(|number| faults.get(number).unwrap().over_s);
        assert_eq!(ends, [None, Some(9.0)]);
    }

    #[test]
    fn the_newest_are_kept_and_all_are_counted() {
        let mut faults = Faults::default();
        for number in 0..MAX_FAULTS as u64 + 5 {
            let fault = fault(1, 0, "rejected", "");
            assert_eq!(faults.add(fault), number);
        }
        assert_eq!(faults.iter().count(), MAX_FAULTS);
        assert_eq!(faults.counts()["rejected"], MAX_FAULTS as u64 + 5);
        assert_eq!(faults.get(4), None);
        assert_eq!(faults.get(5).unwrap().number, 5);
    }

    #[test]
    fn a_fault_can_turn_out_to_be_another() {
        let mut faults = Faults::default();
        let number = faults.add(fault(2, 7, "lost", "no answer"));
        assert_eq!(faults.last_of(7, 2, &["lost"]), Some(number));
        assert_eq!(faults.last_of(7, 1, &["lost"]), None);
        assert_eq!(faults.last_of(8, 2, &["lost"]), None);
        faults.replace(number, "died", "page fault");
        assert_eq!(faults.get(number).unwrap().kind, "died");
        assert_eq!((faults.counts()["lost"], faults.counts()["died"]), (0, 1));
    }
}
