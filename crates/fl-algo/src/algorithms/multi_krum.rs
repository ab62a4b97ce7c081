//! Multi-Krum: the mean of those updates that lie nearest to the others.
//!
//! Blanchard et al. 2017, *Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent*:
//! <https://arxiv.org/abs/1703.02757>. Of `n` updates, `f` of them malicious, each has as its score the
//! sum of its squared distances to its `n - f - 2` nearest; the `num_nodes_to_select` of the lowest scores
//! count. Krum is Multi-Krum of one; of all it is FedAvg to the bit.
//!
//! The scores tell malicious updates from others if `n >= 2f + 3`. Rounds are made large enough for that; one
//! that gets fewer updates (clients lost, a quorum) counts all the same, and its metric `unprotected` is 1.

use super::fedavg;
use crate::registry::Algorithm;
use fl_param::ParamSpec;

const MALICIOUS: &str = "num_malicious_nodes";
const SELECTED: &str = "num_nodes_to_select";

/// Multi-Krum.
pub(crate) static ALGORITHM: Algorithm = Algorithm {
    name: "multi-krum",
    doc: "the mean of the updates that lie nearest to the others, against malicious clients",
    paper: "Blanchard et al. 2017, https://arxiv.org/abs/1703.02757",
    device: &fedavg::DEVICE,
    params: &[
        ParamSpec {
            name: MALICIOUS,
            default: 0.0,
            min: 0.0,
            max: 1e5,
            whole: true,
            doc: "updates of a round that may be malicious",
        },
        ParamSpec {
            name: SELECTED,
            default: 1.0,
            min: 1.0,
            max: 1e5,
            whole: true,
            doc: "updates that count; 1 is Krum",
        },
    ],
    #[cfg(feature = "server")]
    server: server::make,
};

#[cfg(feature = "server")]
mod server {
    use alloc::boxed::Box;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec;
    use alloc::vec::Vec;

    use super::{MALICIOUS, SELECTED};
    use crate::exact::{self, ExactMean};
    use crate::server::*;

    /// Makes the rule, if a round has enough updates for it.
    pub fn make(setup: &Setup) -> Result<Box<dyn ServerRule>, String> {
        let (malicious, selected) = (setup.params.whole(MALICIOUS), setup.params.whole(SELECTED));
        let updates = setup.clients_per_round;
        if selected > updates {
            return Err(format!(
                "{SELECTED} is {selected}, and a round has {updates} updates"
            ));
        }
        let least = least_updates(malicious);
        if updates < least {
            return Err(format!(
                "{MALICIOUS} is {malicious}: Krum needs rounds of at least {least} updates, these have \
                 {updates}"
            ));
        }
        Ok(Box::new(MultiKrum {
            malicious,
            selected: selected as usize,
            len: setup.num_params,
            updates: Vec::new(),
        }))
    }

    /// Updates of a round from which on its scores tell `malicious` of them from the others.
    fn least_updates(malicious: u32) -> u32 {
        match malicious {
            0 => 0,
            some => 2 * some + 3,
        }
    }

    struct MultiKrum {
        malicious: u32,
        selected: usize,
        len: usize,
        updates: Vec<Update>,
    }

    impl ServerRule for MultiKrum {
        fn begin(&mut self, _round: u32, _global: &[f32]) {
            self.updates.clear();
        }

        fn add(&mut self, update: &Update, _: Option<&KeptVectors>) -> Result<(), Rejected> {
            exact::check(self.len, update.model())?;
            self.updates.push(update.clone());
            Ok(())
        }

        fn finish(&mut self, global: &mut Vec<f32>) -> Result<RoundMetrics, AggregateError> {
            let mut updates = core::mem::take(&mut self.updates);
            // Of equal scores that of the lower ID counts, whatever the order of arrival.
            updates.sort_by_key(|update| (update.client, update.round));
            let scores = scores(&updates, self.malicious as usize);
            let mut order: Vec<usize> = (0..updates.len()).collect();
            order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
            order.truncate(self.selected);
            let mut mean = ExactMean::new(self.len);
            for &at in &order {
                mean.add(u64::from(updates[at].weight), updates[at].model())?;
            }
            *global = mean.mean()?;
            let worst = order.last().map_or(0.0, |&at| scores[at]);
            let metrics = [
                ("selected_updates", order.len() as f64),
                ("largest_selected_score", worst),
            ];
            let mut metrics = RoundMetrics::from(metrics.map(|(name, value)| (name.into(), value)));
            if self.malicious > 0 {
                let protected = updates.len() >= least_updates(self.malicious) as usize;
                metrics.insert("unprotected".into(), f64::from(u8::from(!protected)));
            }
            Ok(metrics)
        }
    }

    /// Each update's sum of squared distances to its nearest, itself left out.
    fn scores(updates: &[Update], malicious: usize) -> Vec<f64> {
        let count = updates.len();
        let mut distances = vec![vec![0.0; count]; count];
        for a in 0..count {
            for b in 0..a {
                let distance = squared_distance(updates[a].model(), updates[b].model());
                (distances[a][b], distances[b][a]) = (distance, distance);
            }
        }
        let near = count.saturating_sub(malicious + 2).max(1);
        let score = |(own, mut row): (usize, Vec<f64>)| {
            row.remove(own);
            row.sort_by(f64::total_cmp);
            row.iter().take(near).sum()
        };
        distances.into_iter().enumerate().map(score).collect()
    }

    fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
        let differences = a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b));
        differences.map(|difference| difference * difference).sum()
    }
}
