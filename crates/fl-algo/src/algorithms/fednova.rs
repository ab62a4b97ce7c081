//! FedNova: the way of a client counts by its steps, so that whoever makes more of them pulls no harder.
//!
//! Wang et al. 2020, *Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization*:
//! <https://arxiv.org/abs/2007.07481>. The way of client `i` is divided by `|a_i|`, how far its steps go along
//! a gradient that stays the same, and their mean is multiplied by `tau_eff = sum p_i |a_i|`. Where all make
//! the same steps it is FedAvg to the bit.
//!
//! `|a_i|` is the number of steps, or more where the clients' optimizer has momentum `rho`
//! (`d += u`, `u = rho u + 1`), or less where the proximal term `mu` pulls them back
//! (`u = rho u + 1 - eta mu d`).

use super::fedavgm::SERVER_MOMENTUM;
use super::fedprox;
use crate::client::{ClientRule, LocalJob};
use crate::registry::{Algorithm, DeviceHalf};
use crate::vector::{Length, VectorSpec, Vectors};
use fl_param::{ParamSpec, Params};

const MU: &str = "mu";
const RHO: &str = "rho";

/// The rate of the clients, which they tell.
const LEARNING_RATE: &str = "learning_rate";

/// The learning rate of the round.
const RATE: usize = 1;

static VECTORS: [VectorSpec; 2] = [
    fedprox::GLOBAL_MODEL,
    VectorSpec {
        name: LEARNING_RATE,
        length: Length::Fixed(1),
        down: false,
        up: false,
        kept: false,
    },
];

/// FedNova.
pub(crate) static ALGORITHM: Algorithm = Algorithm {
    name: "fednova",
    doc: "FedAvg in which clients with more steps pull no harder",
    paper: "Wang et al. 2020, https://arxiv.org/abs/2007.07481",
    device: &DeviceHalf {
        rule: "fednova",
        params: &[ParamSpec {
            name: MU,
            ..fedprox::PROXIMAL_MU
        }],
        client: &Nova,
    },
    params: &[
        ParamSpec {
            name: RHO,
            default: 0.0,
            min: 0.0,
            max: 0.999_999,
            whole: false,
            doc: "momentum of the clients' optimizer, as in [optimizer], which sets it",
        },
        SERVER_MOMENTUM,
    ],
    #[cfg(feature = "server")]
    server: server::make,
};

/// The proximal term of FedProx, and word of the learning rate.
struct Nova;

impl ClientRule for Nova {
    fn vectors(&self, params: &Params) -> &'static [VectorSpec] {
        if params.get(MU) == 0.0 { &[] } else { &VECTORS }
    }

    fn begin(&self, _: &Params, job: &LocalJob<'_>, weights: &mut [f32], vectors: &mut Vectors) {
        fedprox::keep_global(weights, vectors);
        vectors.get_mut(RATE).fill(job.learning_rate);
    }

    fn corrects(&self, params: &Params, _: &Vectors) -> bool {
        params.get(MU) != 0.0
    }

    fn correct(
        &self,
        params: &Params,
        vectors: &mut Vectors,
        first: usize,
        weights: &[f32],
        gradient: &mut [f32],
    ) {
        let global = vectors.get(fedprox::GLOBAL);
        fedprox::pull_back(params.get(MU) as f32, global, first, weights, gradient);
    }

    fn metrics(&self, _: &Params, vectors: &Vectors, report: &mut dyn FnMut(&str, f32)) {
        let rate = vectors.get(RATE).iter();
        rate.for_each(|rate| report(LEARNING_RATE, *rate));
    }
}

#[cfg(feature = "server")]
mod server {
    use alloc::boxed::Box;
    use alloc::format;
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;

    use super::{LEARNING_RATE, MU, RHO, SERVER_MOMENTUM};
    use crate::server::held::Held;
    use crate::server::lean::{Term, leaning_mean};
    use crate::server::momentum::Momentum;
    use crate::server::*;

    /// Steps beyond which an update is not believed, and not reckoned.
    const MAX_STEPS: u32 = 1_000_000;

    /// Makes the rule.
    pub fn make(setup: &Setup) -> Result<Box<dyn ServerRule>, String> {
        let factor = setup.params.get(SERVER_MOMENTUM.name);
        Ok(Box::new(FedNova {
            rho: setup.params.get(RHO),
            mu: setup.device_params.get(MU),
            momentum: Momentum::new(factor, 1.0, setup.num_params),
            updates: Held::new(setup.num_params),
        }))
    }

    struct FedNova {
        rho: f64,
        mu: f64,
        momentum: Momentum,
        updates: Held,
    }

    /// `|a_i|` of so many steps.
    fn normaliser(steps: u32, rho: f64, pull: f64) -> f64 {
        let (mut way, mut step) = (0.0, 0.0);
        for _ in 0..steps {
            step = rho * step + 1.0 - pull * way;
            way += step;
        }
        way
    }

    impl FedNova {
        /// `|a_i|` of an update.
        fn normaliser(&self, update: &Update) -> Result<f64, Rejected> {
            if !(1..=MAX_STEPS).contains(&update.steps) {
                let steps = update.steps;
                return Err(Rejected(format!(
                    "it says that it made {steps} steps, from 1 to {MAX_STEPS} are believed"
                )));
            }
            let pull = match self.mu {
                0.0 => 0.0,
                mu => mu * f64::from(told(update, LEARNING_RATE)?),
            };
            if pull >= 1.0 {
                let why = "mu times its learning rate is 1 or more: its steps swing about the global model";
                return Err(Rejected(why.to_string()));
            }
            let found = normaliser(update.steps, self.rho, pull);
            match found.is_finite() && found > 0.0 {
                true => Ok(found),
                false => Err(Rejected("its steps lead nowhere".to_string())),
            }
        }
    }

    impl ServerRule for FedNova {
        fn assumed_momentum(&self) -> Option<f64> {
            Some(self.rho)
        }

        fn begin(&mut self, _round: u32, _global: &[f32]) {
            self.updates.begin();
        }

        fn add(&mut self, update: &Update, _: Option<&KeptVectors>) -> Result<(), Rejected> {
            self.normaliser(update)?;
            self.updates.add(update)
        }

        fn finish(&mut self, global: &mut Vec<f32>) -> Result<RoundMetrics, AggregateError> {
            let updates = self.updates.take();
            let normaliser = |update| self.normaliser(update).unwrap_or(1.0);
            let lengths: Vec<f64> = updates.iter().map(normaliser).collect();
            let weights = || updates.iter().map(|update| f64::from(update.weight));
            let total: f64 = weights().sum();
            // In lengths beyond the first, so that nothing is left where all are the same.
            let first = lengths.first().copied().unwrap_or(1.0);
            let beyond = weights().zip(&lengths).map(|(w, a)| w * (a - first));
            let effective = beyond.sum::<f64>() / total;
            let terms: Vec<_> = updates
                .iter()
                .zip(&lengths)
                .map(|(update, length)| Term {
                    update,
                    weight: u64::from(update.weight),
                    lean: f64::from(update.weight) / total * (effective - (length - first))
                        / length,
                })
                .collect();
            let target = leaning_mean(global, &terms)?;
            self.momentum.step(global, &target)?;
            Ok(named([("effective_steps", first + effective)]))
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
