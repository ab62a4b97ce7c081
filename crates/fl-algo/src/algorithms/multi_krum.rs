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

const SELECTED: &str = "num_nodes_to_select";

/// Parameter of the rules that are told how many clients are malicious.
pub(super) const MALICIOUS: ParamSpec = ParamSpec {
    name: "num_malicious_nodes",
    default: 0.0,
    min: 0.0,
    max: 1e5,
    whole: true,
    doc: "updates of a round that may be malicious",
};

/// Multi-Krum.
pub(crate) static ALGORITHM: Algorithm = Algorithm {
    name: "multi-krum",
    doc: "the mean of the updates that lie nearest to the others, against malicious clients",
    paper: "Blanchard et al. 2017, https://arxiv.org/abs/1703.02757",
    device: &fedavg::DEVICE,
    params: &[
        MALICIOUS,
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
pub(super) mod server {
    use alloc::boxed::Box;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec;
    use alloc::vec::Vec;

    use super::{MALICIOUS, SELECTED};
    use crate::exact::ExactMean;
    use crate::server::distances::Distances;
    use crate::server::held::Held;
    use crate::server::*;

    /// Makes the rule, if a round has enough updates for it.
    pub fn make(setup: &Setup) -> Result<Box<dyn ServerRule>, String> {
        selecting(setup, setup.params.whole(SELECTED))
    }

    /// Makes the rule that selects so many updates, if a round has enough for it.
    pub fn selecting(setup: &Setup, selected: u32) -> Result<Box<dyn ServerRule>, String> {
        let malicious = setup.params.whole(MALICIOUS.name);
        let updates = setup.clients_per_round;
        if selected > updates {
            return Err(format!(
                "{SELECTED} is {selected}, and a round has {updates} updates"
            ));
        }
        let least = least_updates(malicious);
        if updates < least {
            return Err(format!(
                "{} is {malicious}: Krum needs rounds of at least {least} updates, these have {updates}",
                MALICIOUS.name
            ));
        }
        Ok(Box::new(MultiKrum {
            malicious,
            selected: selected as usize,
            updates: Held::new(setup.num_params),
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
        updates: Held,
    }

    impl ServerRule for MultiKrum {
        fn begin(&mut self, _round: u32, _global: &[f32]) {
            self.updates.begin();
        }

        fn add(&mut self, update: &Update, _: Option<&KeptVectors>) -> Result<(), Rejected> {
            self.updates.add(update)
        }

        fn finish(&mut self, global: &mut Vec<f32>) -> Result<RoundMetrics, AggregateError> {
            // Of equal scores that of the lower client counts, whatever the order of arrival.
            let updates = self.updates.take();
            let (distances, all) = (Distances::new(&updates), vec![true; updates.len()]);
            let score = |of| (distances.score(of, &all, self.malicious as usize), of);
            let mut order: Vec<(f64, usize)> = (0..updates.len()).map(score).collect();
            order.sort_by(|a, b| a.0.total_cmp(&b.0));
            order.truncate(self.selected);
            let mut mean = ExactMean::new(global.len());
            for &(_, at) in &order {
                mean.add(u64::from(updates[at].weight), updates[at].model())?;
            }
            *global = mean.mean()?;
            let mut metrics = named([
                ("selected_updates", order.len() as f64),
                (
                    "largest_selected_score",
                    order.last().map_or(0.0, |it| it.0),
                ),
            ]);
            if self.malicious > 0 {
                let protected = updates.len() >= least_updates(self.malicious) as usize;
                metrics.insert("unprotected".into(), f64::from(u8::from(!protected)));
            }
            Ok(metrics)
        }
    }
}
