//! Trimmed mean: the mean of every number without the least and the largest of the updates.
//!
//! Yin et al. 2018, *Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates*, Algorithm 1,
//! option II: <https://arxiv.org/abs/1803.01498>. All updates count the same, whatever their examples: with
//! beta 0 it is FedAvg with the weighting `uniform`, to the bit.

use super::fedavg;
use crate::registry::Algorithm;
use fl_param::ParamSpec;

const BETA: &str = "beta";

/// Trimmed mean.
pub(crate) static ALGORITHM: Algorithm = Algorithm {
    name: "trimmed-mean",
    doc: "the mean of every number without its extremes, against malicious clients",
    paper: "Yin et al. 2018, https://arxiv.org/abs/1803.01498",
    device: &fedavg::DEVICE,
    params: &[ParamSpec {
        name: BETA,
        default: 0.2,
        min: 0.0,
        max: 0.499_999,
        whole: false,
        doc: "share of the updates that is left out at either end, number by number",
    }],
    #[cfg(feature = "server")]
    server: server::make,
};

#[cfg(feature = "server")]
mod server {
    use alloc::boxed::Box;
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::BETA;
    use crate::server::held::Held;
    use crate::server::sorted::Sorted;
    use crate::server::*;

    /// Makes the rule.
    pub fn make(setup: &Setup) -> Result<Box<dyn ServerRule>, String> {
        Ok(Box::new(TrimmedMean {
            beta: setup.params.get(BETA),
            updates: Held::new(setup.num_params),
        }))
    }

    struct TrimmedMean {
        beta: f64,
        updates: Held,
    }

    /// Updates left out at either end.
    fn cut(beta: f64, count: usize) -> usize {
        // 0.29 of 100 are 29, although in f64 the product is a little less.
        libm::floor(beta * count as f64 + 1e-9) as usize
    }

    impl ServerRule for TrimmedMean {
        fn begin(&mut self, _round: u32, _global: &[f32]) {
            self.updates.begin();
        }

        fn add(&mut self, update: &Update, _: Option<&KeptVectors>) -> Result<(), Rejected> {
            self.updates.add(update)
        }

        fn finish(&mut self, global: &mut Vec<f32>) -> Result<RoundMetrics, AggregateError> {
            let updates = self.updates.take();
            let cut = cut(self.beta, updates.len());
            let sorted = Sorted::new(global.len(), &updates.iter().collect::<Vec<_>>());
            *global = sorted.mean_without(cut)?;
            Ok(named([("trimmed_updates", 2.0 * cut as f64)]))
        }
    }

    #[test]
    fn a_share_is_rounded_down_but_not_below_what_it_says() {
        let cuts = [(0.2, 100), (0.29, 100), (0.2, 9), (0.0, 7), (0.499_999, 3)];
        assert_eq!(
            cuts.map(|(beta, count)| cut(beta, count)),
            [20, 29, 1, 0, 1]
        );
    }
}
