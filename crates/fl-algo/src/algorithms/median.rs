//! Coordinate-wise median: every number of the global model is the median of the updates'.
//!
//! Yin et al. 2018, *Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates*, Algorithm 1,
//! option I: <https://arxiv.org/abs/1803.01498>. All updates count the same, whatever their examples.

use super::fedavg;
use crate::registry::Algorithm;

/// Coordinate-wise median.
pub(crate) static ALGORITHM: Algorithm = Algorithm {
    name: "median",
    doc: "the median of every number, against malicious clients",
    paper: "Yin et al. 2018, https://arxiv.org/abs/1803.01498",
    device: &fedavg::DEVICE,
    params: &[],
    #[cfg(feature = "server")]
    server: server::make,
};

#[cfg(feature = "server")]
mod server {
    use alloc::boxed::Box;
    use alloc::string::String;
    use alloc::vec::Vec;

    use crate::server::held::Held;
    use crate::server::sorted::Sorted;
    use crate::server::*;

    /// Makes the rule.
    pub fn make(setup: &Setup) -> Result<Box<dyn ServerRule>, String> {
        Ok(Box::new(Median(Held::new(setup.num_params))))
    }

    struct Median(Held);

    impl ServerRule for Median {
        fn begin(&mut self, _round: u32, _global: &[f32]) {
            self.0.begin();
        }

        fn add(&mut self, update: &Update, _: Option<&KeptVectors>) -> Result<(), Rejected> {
            self.0.add(update)
        }

        fn finish(&mut self, global: &mut Vec<f32>) -> Result<RoundMetrics, AggregateError> {
            let updates = self.0.take();
            *global = Sorted::new(global.len(), &updates.iter().collect::<Vec<_>>()).median()?;
            Ok(RoundMetrics::new())
        }
    }
}
