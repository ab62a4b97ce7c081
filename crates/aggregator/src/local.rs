//! Local training as every device of a run does it.

use std::collections::BTreeSet;

use fl_nn::Optimizer;
use fl_proto::OptimizerName;
use fl_rng::{Decision, Pcg32, Purpose, derive_seed};

/// Optimizer of the devices, with what is done to a gradient before its step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LocalOptimizer {
    /// The rule.
    pub rule: Optimizer,
    /// Factor of the weights that is added to their gradient.
    pub weight_decay: f32,
    /// Largest norm of a gradient.
    pub clip_norm: Option<f32>,
}

impl LocalOptimizer {
    /// True of plain SGD.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// The field of a `/start`; plain SGD needs none.
    pub(crate) fn wire(&self) -> Option<fl_proto::Optimizer> {
        if self.is_plain() {
            return None;
        }
        let mut wire = fl_proto::Optimizer {
            weight_decay: self.weight_decay,
            clip_norm: self.clip_norm.unwrap_or(0.0),
            ..fl_proto::Optimizer::default()
        };
        match self.rule {
            Optimizer::Sgd => {}
            Optimizer::Momentum { momentum } => {
                wire.name = OptimizerName::Momentum;
                wire.momentum = momentum;
            }
            Optimizer::Adam {
                beta_1,
                beta_2,
                epsilon,
            } => {
                wire.name = OptimizerName::Adam;
                (wire.beta_1, wire.beta_2, wire.epsilon) = (beta_1, beta_2, epsilon);
            }
        }
        Some(wire)
    }
}

/// Devices that do only a random number of their epochs, the *stragglers* of Li et al. 2020:
/// <https://arxiv.org/abs/1812.06127>.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PartialWork {
    /// Share of a round's cohort, rounded to whole clients.
    pub share: f64,
    /// Leaves their updates out, as FedAvg does in that paper.
    pub is_dropped: bool,
}

impl PartialWork {
    /// Number of stragglers among so many.
    pub fn count(&self, clients: usize) -> usize {
        ((self.share * clients as f64).round() as usize).min(clients)
    }

    /// Stragglers of a round: those of the cohort whose lot is lowest.
    pub(crate) fn stragglers(&self, seed: u64, round: u32, cohort: &[u32]) -> BTreeSet<u32> {
        let lot = |client: &u32| Decision::Straggle.word(seed, *client, round);
        let mut clients = cohort.to_vec();
        clients.sort_by_key(lot);
        clients.truncate(self.count(cohort.len()));
        clients.into_iter().collect()
    }

    /// Epochs that a straggler does of `most`: any number from 1 on, all as likely.
    pub(crate) fn epochs(seed: u64, round: u32, client: u32, most: u32) -> u32 {
        let seed = derive_seed(seed, client, round);
        1 + Pcg32::new(Purpose::Straggle, seed).below(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stragglers_are_a_share_of_every_cohort_and_others_in_every_round() {
        let work = PartialWork {
            share: 0.9,
            is_dropped: false,
        };
        let cohort: Vec<u32> = (40..50).collect();
        let rounds: BTreeSet<_> = (1..=20)
            .map(|round| work.stragglers(1, round, &cohort))
            .collect();
        assert!(rounds.iter().all(|those| those.len() == 9));
        assert!(rounds.len() > 5, "{rounds:?}");
        let reversed: Vec<u32> = cohort.iter().rev().copied().collect();
        assert_eq!(
            work.stragglers(1, 3, &cohort),
            work.stragglers(1, 3, &reversed)
        );
        assert!(PartialWork::default().stragglers(1, 1, &cohort).is_empty());
    }

    #[test]
    fn a_straggler_does_from_one_to_all_of_its_epochs() {
        let epochs: BTreeSet<u32> = (0..200)
            .map(|round| PartialWork::epochs(1, round, 7, 4))
            .collect();
        assert_eq!(epochs, BTreeSet::from([1, 2, 3, 4]));
        assert_eq!(PartialWork::epochs(1, 1, 1, 1), 1);
    }
}
