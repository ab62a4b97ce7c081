//! Updates that bring changes: the models that they are changes of.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_models_of_the_latest_rounds_are_kept() {
        let bases = Bases::default();
        for round in 1..=KEPT_MODELS as u32 + 1 {
            bases.insert(round, Arc::new(vec![round as f32]));
        }
        assert_eq!(bases.get(1), None);
        assert_eq!(*bases.get(2).unwrap(), [2.0]);
        bases.forget_before(9);
        assert_eq!(bases.get(8), None);
        assert_eq!(*bases.get(9).unwrap(), [9.0]);
    }
}
