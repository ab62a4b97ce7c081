//! FedAsync: every update is mixed into the global model as soon as it comes.
//!
//! Xie et al. 2019, *Asynchronous Federated Optimization*: <https://arxiv.org/abs/1903.03934>. The model
//! becomes `(1 - alpha_t) x + alpha_t w`, `alpha_t = mixing * s(t - tau)`, where `t - tau` is how many
//! models the update is old. The paper's staleness functions `s`:
//!
//! - constant 1, unless either of the others is chosen;
//! - polynomial `(t - tau + 1)^-polynomial_a`; 0.5 in the paper;
//! - hinge 1 up to `hinge_b`, then `1 / (hinge_a (t - tau - hinge_b) + 1)`; 10 and 4 in the paper.
//!
//! With both it is their product. A *round* is one update. One client with mixing 1 is a chain of local
//! trainings, to the bit.

use super::fedavg;
use crate::registry::Algorithm;
use fl_param::ParamSpec;

const MIXING: &str = "mixing";
const POLYNOMIAL_A: &str = "polynomial_a";
const HINGE_A: &str = "hinge_a";
const HINGE_B: &str = "hinge_b";
const MAX_STALENESS: &str = "max_staleness";

/// FedAsync.
pub(crate) static ALGORITHM: Algorithm = Algorithm {
    name: "fedasync",
    doc: "asynchronous: each update is mixed in as it comes, an old one with less weight",
    paper: "Xie et al. 2019, https://arxiv.org/abs/1903.03934",
    device: &fedavg::DEVICE,
    params: &[
        ParamSpec {
            name: MIXING,
            default: 0.6,
            min: 1e-6,
            max: 1.0,
            whole: false,
            doc: "part of the way from the global model to an update that is not stale",
        },
        ParamSpec {
            name: POLYNOMIAL_A,
            default: 0.0,
            min: 0.0,
            max: 100.0,
            whole: false,
            doc: "exponent of the polynomial staleness function; 0 is without, 0.5 is usual",
        },
        ParamSpec {
            name: HINGE_A,
            default: 0.0,
            min: 0.0,
            max: 1e6,
            whole: false,
            doc: "slope of the hinge staleness function; 0 is without, 10 is usual",
        },
        ParamSpec {
            name: HINGE_B,
            default: 4.0,
            min: 0.0,
            max: 1e3,
            whole: true,
            doc: "staleness up to which the hinge changes nothing",
        },
        ParamSpec {
            name: MAX_STALENESS,
            default: 20.0,
            min: 0.0,
            max: 1e3,
            whole: true,
            doc: "rounds after which an update is refused",
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
    use alloc::vec::Vec;

    use super::{HINGE_A, HINGE_B, MAX_STALENESS, MIXING, POLYNOMIAL_A};
    use crate::server::held::Held;
    use crate::server::*;

    /// Makes the rule.
    pub fn make(setup: &Setup) -> Result<Box<dyn ServerRule>, String> {
        let get = |name| setup.params.get(name);
        Ok(Box::new(FedAsync {
            mixing: get(MIXING),
            staleness: StalenessFunction {
                polynomial_a: get(POLYNOMIAL_A),
                hinge_a: get(HINGE_A),
                hinge_b: get(HINGE_B),
            },
            max_staleness: setup.params.whole(MAX_STALENESS),
            cohort: setup.clients_per_round,
            round: 0,
            updates: Held::new(setup.num_params),
        }))
    }

    /// The weight of an update by its age.
    struct StalenessFunction {
        polynomial_a: f64,
        hinge_a: f64,
        hinge_b: f64,
    }

    impl StalenessFunction {
        fn weight(&self, staleness: u32) -> f64 {
            let staleness = f64::from(staleness);
            let beyond = (staleness - self.hinge_b).max(0.0);
            libm::pow(staleness + 1.0, -self.polynomial_a) / (self.hinge_a * beyond + 1.0)
        }
    }

    struct FedAsync {
        mixing: f64,
        staleness: StalenessFunction,
        max_staleness: u32,
        /// Clients that train at a time.
        cohort: u32,
        round: u32,
        updates: Held,
    }

    impl ServerRule for FedAsync {
        fn policy(&self) -> Policy {
            Policy {
                buffer_size: (self.cohort > 1).then_some(1),
                max_staleness: self.max_staleness,
            }
        }

        fn depends_on_time(&self) -> bool {
            self.cohort > 1
        }

        fn begin(&mut self, round: u32, _global: &[f32]) {
            self.round = round;
            self.updates.begin();
        }

        fn add(&mut self, update: &Update, _: Option<&KeptVectors>) -> Result<(), Rejected> {
            let staleness = self.round.saturating_sub(update.round);
            if staleness > self.max_staleness {
                return Err(Rejected(format!(
                    "it began {staleness} rounds ago, at most {} are allowed",
                    self.max_staleness
                )));
            }
            self.updates.add(update)
        }

        /// Mixes several updates, should there be, in the order of clients.
        fn finish(&mut self, global: &mut Vec<f32>) -> Result<RoundMetrics, AggregateError> {
            let updates = self.updates.take();
            if updates.is_empty() {
                return Err(crate::exact::ExactError::NoWeight.into());
            }
            let (mut mixed, mut sum, mut most) = (global.clone(), 0.0, 0);
            for update in &updates {
                let staleness = self.round.saturating_sub(update.round);
                let alpha = self.mixing * self.staleness.weight(staleness);
                for (to, from) in mixed.iter_mut().zip(update.model()) {
                    *to = ((1.0 - alpha) * f64::from(*to) + alpha * f64::from(*from)) as f32;
                }
                sum += f64::from(staleness);
                most = most.max(staleness);
            }
            *global = finite(mixed)?;
            let mean = sum / updates.len() as f64;
            Ok(named([
                ("mean_staleness", mean),
                ("max_staleness", f64::from(most)),
            ]))
        }
    }
}
