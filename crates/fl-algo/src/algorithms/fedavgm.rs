//! FedAvgM: FedAvg with momentum on the server.
//!
//! Hsu et al. 2019, *Measuring the Effects of Non-Identical Data Distribution for Federated Visual
//! Classification*: <https://arxiv.org/abs/1909.06335>. With momentum 0 and rate 1 it is FedAvg to the bit.

use super::SERVER_LEARNING_RATE;
use super::fedavg;
use crate::registry::Algorithm;
use fl_param::ParamSpec;

/// Parameter of the rules with momentum on the server.
pub(super) const SERVER_MOMENTUM: ParamSpec = ParamSpec {
    name: "server_momentum",
    default: 0.0,
    min: 0.0,
    max: 0.999_999,
    whole: false,
    doc: "part of a step of the global model that goes on in the next; 0.9 is usual",
};

/// FedAvgM.
pub(crate) static ALGORITHM: Algorithm = Algorithm {
    name: "fedavgm",
    doc: "FedAvg with momentum on the server",
    paper: "Hsu et al. 2019, https://arxiv.org/abs/1909.06335",
    device: &fedavg::DEVICE,
    params: &[SERVER_LEARNING_RATE, SERVER_MOMENTUM],
    #[cfg(feature = "server")]
    server: server::make,
};

#[cfg(feature = "server")]
mod server {
    use alloc::boxed::Box;
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::{SERVER_LEARNING_RATE, SERVER_MOMENTUM};
    use crate::exact::ExactMean;
    use crate::server::momentum::Momentum;
    use crate::server::*;

    /// Makes the rule.
    pub fn make(setup: &Setup) -> Result<Box<dyn ServerRule>, String> {
        let factor = setup.params.get(SERVER_MOMENTUM.name);
        let rate = setup.params.get(SERVER_LEARNING_RATE.name);
        Ok(Box::new(FedAvgM {
            momentum: Momentum::new(factor, rate, setup.num_params),
            mean: ExactMean::new(setup.num_params),
        }))
    }

    struct FedAvgM {
        momentum: Momentum,
        /// Mean of the local models of the round so far.
        mean: ExactMean,
    }

    impl ServerRule for FedAvgM {
        fn takes_the_mean(&self) -> bool {
            true
        }

        fn begin(&mut self, _round: u32, global: &[f32]) {
            self.mean = ExactMean::new(global.len());
        }

        fn add(&mut self, update: &Update, _: Option<&KeptVectors>) -> Result<(), Rejected> {
            Ok(update.add_to(&mut self.mean)?)
        }

        fn finish(&mut self, global: &mut Vec<f32>) -> Result<RoundMetrics, AggregateError> {
            let mean: Vec<f64> = self.mean.mean()?.into_iter().map(f64::from).collect();
            self.momentum.step(global, &mean)?;
            Ok(named([("momentum_norm", self.momentum.norm())]))
        }

        fn save(&self) -> SavedState {
            self.momentum.save()
        }

        fn restore(
            &mut self,
            saved: SavedState,
            _: &mut dyn Iterator<Item = (u32, &KeptVectors)>,
        ) -> Result<(), AggregateError> {
            self.momentum.restore(saved)
        }
    }
}
