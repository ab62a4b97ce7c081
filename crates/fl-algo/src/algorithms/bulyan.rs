//! Bulyan: Krum selects updates, and of every number those near the median of the selected count.
//!
//! El Mhamdi et al. 2018, *The Hidden Vulnerability of Distributed Learning in Byzantium*:
//! <https://arxiv.org/abs/1802.07927>. Of `n` updates, `f` of them malicious, Krum takes one after the other,
//! each among those that are left, until there are `theta = n - 2f`. Of every number the `theta - 2f` nearest to
//! its median count, all the same. With `f = 0` it is FedAvg with the weighting `uniform`, to the bit.
//!
//! It withstands `f` if `n >= 4f + 3`. Rounds are made large enough for that; one that gets fewer updates
//! counts all the same, and its metric `unprotected` is 1.

use super::fedavg;
use super::multi_krum::MALICIOUS;
use crate::registry::Algorithm;
use fl_param::ParamSpec;

const SELECTED: &str = "num_nodes_to_select";

/// Bulyan.
pub(crate) static ALGORITHM: Algorithm = Algorithm {
    name: "bulyan",
    doc: "the mean of what lies near the median of what Krum selects, against malicious clients",
    paper: "El Mhamdi et al. 2018, https://arxiv.org/abs/1802.07927",
    device: &fedavg::DEVICE,
    params: &[
        MALICIOUS,
        ParamSpec {
            name: SELECTED,
            default: 0.0,
            min: 0.0,
            max: 1e5,
            whole: true,
            doc: "updates that Krum selects, theta; 0 is the paper's n - 2f",
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
    use crate::server::distances::Distances;
    use crate::server::held::Held;
    use crate::server::sorted::Sorted;
    use crate::server::*;

    /// Makes the rule, if a round has enough updates for it.
    pub fn make(setup: &Setup) -> Result<Box<dyn ServerRule>, String> {
        let (malicious, selected) = (
            setup.params.whole(MALICIOUS.name),
            setup.params.whole(SELECTED),
        );
        let updates = setup.clients_per_round;
        let least = least_updates(malicious);
        if updates < least {
            return Err(format!(
                "{} is {malicious}: Bulyan needs rounds of at least {least} updates, these have {updates}",
                MALICIOUS.name
            ));
        }
        if selected > updates || (1..=2 * malicious).contains(&selected) {
            return Err(format!(
                "{SELECTED} is {selected}: give a number from {} to {updates}, or 0 for {}",
                2 * malicious + 1,
                updates - 2 * malicious
            ));
        }
        Ok(Box::new(Bulyan {
            malicious: malicious as usize,
            selected: selected as usize,
            updates: Held::new(setup.num_params),
        }))
    }

    /// Updates of a round from which on it withstands `malicious` of them.
    fn least_updates(malicious: u32) -> u32 {
        match malicious {
            0 => 0,
            some => 4 * some + 3,
        }
    }

    struct Bulyan {
        malicious: usize,
        selected: usize,
        updates: Held,
    }

    impl Bulyan {
        /// Updates that Krum selects of so many.
        fn theta(&self, count: usize) -> usize {
            match self.selected {
                0 => count.saturating_sub(2 * self.malicious),
                some => some,
            }
            .clamp(1, count.max(1))
        }
    }

    /// Places of `theta` updates, taken one by one: of those that are left the one of the least score.
    fn select(updates: &[Update], theta: usize, malicious: usize) -> Vec<usize> {
        let distances = Distances::new(updates);
        let (mut left, mut selected) = (vec![true; updates.len()], Vec::new());
        while selected.len() < theta {
            let scores = (0..updates.len()).filter(|at| left[*at]);
            let scores = scores.map(|at| (distances.score(at, &left, malicious), at));
            let Some((_, at)) = scores.min_by(|a, b| a.0.total_cmp(&b.0)) else {
                break;
            };
            left[at] = false;
            selected.push(at);
        }
        selected
    }

    impl ServerRule for Bulyan {
        fn begin(&mut self, _round: u32, _global: &[f32]) {
            self.updates.begin();
        }

        fn add(&mut self, update: &Update, _: Option<&KeptVectors>) -> Result<(), Rejected> {
            self.updates.add(update)
        }

        fn finish(&mut self, global: &mut Vec<f32>) -> Result<RoundMetrics, AggregateError> {
            let updates = self.updates.take();
            let theta = self.theta(updates.len());
            let selected = select(&updates, theta, self.malicious);
            let selected: Vec<&Update> = selected.into_iter().map(|at| &updates[at]).collect();
            let near = theta.saturating_sub(2 * self.malicious).max(1);
            *global = Sorted::new(global.len(), &selected).mean_around_median(near)?;
            let mut metrics = named([("selected_updates", selected.len() as f64)]);
            if self.malicious > 0 {
                let protected = updates.len() >= least_updates(self.malicious as u32) as usize;
                metrics.insert("unprotected".into(), f64::from(u8::from(!protected)));
            }
            Ok(metrics)
        }
    }
}
