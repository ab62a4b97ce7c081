//! FedAvg: the weighted mean of the local weights.
//!
//! McMahan et al. 2017, Algorithm 1: <https://arxiv.org/abs/1602.05629>.

use crate::client::ClientRule;
use crate::registry::{Algorithm, DeviceHalf};

/// Plain local SGD.
struct LocalSgd;

impl ClientRule for LocalSgd {}

/// The device half, which other algorithms share.
pub(crate) static DEVICE: DeviceHalf = DeviceHalf {
    rule: "fedavg",
    params: &[],
    client: &LocalSgd,
};

/// FedAvg.
pub(crate) static ALGORITHM: Algorithm = Algorithm {
    name: "fedavg",
    doc: "the mean of the local models, weighted by examples",
    paper: "McMahan et al. 2017, https://arxiv.org/abs/1602.05629",
    device: &DEVICE,
    params: &[],
    #[cfg(feature = "server")]
    server: server::make,
};

#[cfg(feature = "server")]
pub(crate) mod server {
    use alloc::boxed::Box;
    use alloc::string::String;
    use alloc::vec::Vec;

    use crate::exact::ExactMean;
    use crate::server::*;

    /// Makes the rule.
    pub fn make(setup: &Setup) -> Result<Box<dyn ServerRule>, String> {
        Ok(Box::new(FedAvg {
            mean: ExactMean::new(setup.num_params),
        }))
    }

    /// The exact mean of a round's updates so far.
    struct FedAvg {
        mean: ExactMean,
    }

    impl ServerRule for FedAvg {
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
            *global = self.mean.mean()?;
            Ok(RoundMetrics::new())
        }
    }
}
