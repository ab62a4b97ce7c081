//! Updates that bring changes: the models that they are changes of, and what of them was lost on the devices.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::log::lock;

/// Models kept for updates that come after their round.
const KEPT_MODELS: usize = 64;

/// Models as devices were sent them, by round.
#[derive(Debug, Default)]
pub(crate) struct Bases(Mutex<BTreeMap<u32, Arc<Vec<f32>>>>);

impl Bases {
    /// Keeps the model of a round; the oldest goes when there are many.
    pub fn insert(&self, round: u32, model: Arc<Vec<f32>>) {
        let mut bases = lock(&self.0);
        bases.insert(round, model);
        while bases.len() > KEPT_MODELS {
            bases.pop_first();
        }
    }

    /// The model of a round.
    pub fn get(&self, round: u32) -> Option<Arc<Vec<f32>>> {
        lock(&self.0).get(&round).cloned()
    }

    /// Forgets the models before a round.
    pub fn forget_before(&self, round: u32) {
        let mut bases = lock(&self.0);
        *bases = bases.split_off(&round);
    }
}

/// Rounds of whose updates clients still have what was lost.
///
/// It is the last round that a client was chosen for, if its update came in time. After any other end it
/// begins anew: how far a device came in a round that it failed decides nothing.
#[derive(Debug, Default)]
pub(crate) struct Residuals {
    last: BTreeMap<u32, u32>,
    of_cohort: BTreeMap<u32, u32>,
}

impl Residuals {
    /// Opens a round.
    pub fn open(&mut self, cohort: &[u32]) {
        let of = cohort
            .iter()
            .map(|id| (*id, self.last.remove(id).unwrap_or(0)));
        self.of_cohort = of.collect();
    }

    /// The round whose loss a client of the cohort adds to its update; 0 for none.
    pub fn round(&self, client: u32) -> u32 {
        self.of_cohort.get(&client).copied().unwrap_or(0)
    }

    /// Closes a round to which these clients' updates came in time.
    pub fn close(&mut self, round: u32, came: impl Iterator<Item = u32>) {
        self.last.extend(came.map(|client| (client, round)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_goes_on_from_its_loss_only_if_its_last_update_came() {
        let mut residuals = Residuals::default();
        residuals.open(&[0, 1]);
        assert_eq!((residuals.round(0), residuals.round(1)), (0, 0));
        residuals.close(1, [0].into_iter());
        residuals.open(&[1, 2]);
        residuals.close(2, [1, 2].into_iter());
        residuals.open(&[0, 1, 2]);
        let rounds = [0, 1, 2].map(|client| residuals.round(client));
        assert_eq!(rounds, [1, 2, 2], "a round without it changes nothing");
        residuals.close(3, [1].into_iter());
        residuals.open(&[0, 1, 2]);
        let rounds = [0, 1, 2].map(|client| residuals.round(client));
        assert_eq!(rounds, [0, 3, 0]);
    }
}
