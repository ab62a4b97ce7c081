//! q-FedAvg: clients on whose data the global model does badly count more.
//!
//! Li et al. 2020, *Fair Resource Allocation in Federated Learning*, Algorithm 2:
//! <https://arxiv.org/abs/1905.10497>. With the loss `F_k` of the global model on the data of client `k` and
//! `L = 1 / learning_rate`, the model becomes `x - sum F_k^q L (x - w_k) / sum h_k`, where
//! `h_k = q F_k^(q-1) |L (x - w_k)|^2 + L F_k^q`. All clients count the same, whatever their examples: with q 0
//! it is FedAvg with the weighting `uniform`, to the bit, and no loss is measured.
//!
//! A device measures `F_k` before it trains, and tells it with its learning rate.

use crate::client::{ClientRule, LocalJob};
use crate::registry::{Algorithm, DeviceHalf};
use crate::vector::{Length, VectorSpec, Vectors};
use fl_param::{ParamSpec, Params};

const Q: &str = "q";

/// Numbers that a device tells.
const TOLD: [&str; 2] = ["global_loss", "learning_rate"];

static VECTORS: [VectorSpec; 1] = [VectorSpec {
    name: "told",
    length: Length::Fixed(TOLD.len() as u32),
    down: false,
    up: false,
    kept: false,
}];

/// q-FedAvg.
pub(crate) static ALGORITHM: Algorithm = Algorithm {
    name: "qfedavg",
    doc: "fairness: clients on whose data the model does badly count more",
    paper: "Li et al. 2020, https://arxiv.org/abs/1905.10497",
    device: &DeviceHalf {
        rule: "qfedavg",
        params: &[ParamSpec {
            name: Q,
            default: 0.1,
            min: 0.0,
            max: 100.0,
            whole: false,
            doc: "power of a client's loss in its weight; 0 makes all count the same",
        }],
        client: &Fair,
    },
    params: &[],
    #[cfg(feature = "server")]
    server: server::make,
};

struct Fair;

impl ClientRule for Fair {
    fn vectors(&self, _: &Params) -> &'static [VectorSpec] {
        &VECTORS
    }

    fn measures(&self, params: &Params) -> bool {
        params.get(Q) != 0.0
    }

    fn begin(&self, _: &Params, job: &LocalJob<'_>, _: &mut [f32], vectors: &mut Vectors) {
        let told = vectors.get_mut(0).iter_mut();
        let numbers = told.zip([job.loss, job.learning_rate]);
        numbers.for_each(|(told, number)| *told = number);
    }

    fn metrics(&self, params: &Params, vectors: &Vectors, report: &mut dyn FnMut(&str, f32)) {
        if self.measures(params) {
            let told = TOLD.iter().zip(vectors.get(0));
            told.for_each(|(name, number)| report(name, *number));
        }
    }
}

#[cfg(feature = "server")]
mod server {
    use alloc::boxed::Box;
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::{Q, TOLD};
    use crate::server::held::Held;
    use crate::server::lean::{Term, leaning_mean};
    use crate::server::*;

    /// Least loss, as in the authors' code: that of a perfect model would be 0, which has no negative power.
    const LEAST: f64 = 1e-10;

    /// Makes the rule.
    pub fn make(setup: &Setup) -> Result<Box<dyn ServerRule>, String> {
        Ok(Box::new(QFedAvg {
            q: setup.device_params.get(Q),
            updates: Held::new(setup.num_params),
        }))
    }

    struct QFedAvg {
        q: f64,
        updates: Held,
    }

    /// Numbers of a client.
    struct Client {
        /// `F_k`.
        loss: f64,
        /// `L`.
        lipschitz: f64,
    }

    impl QFedAvg {
        /// Numbers that a client told.
        fn client(&self, update: &Update) -> Result<Client, Rejected> {
            if self.q == 0.0 {
                return Ok(Client {
                    loss: 1.0,
                    lipschitz: 1.0,
                });
            }
            let [loss, rate] = TOLD;
            Ok(Client {
                loss: f64::from(told(update, loss)?) + LEAST,
                lipschitz: 1.0 / f64::from(told(update, rate)?),
            })
        }

        /// Weights of the ways, whose sum is 1 with q 0. All are in units of the largest `F_k^q` and of the first
        /// client's `L`, so that nothing overflows and equal ones are exactly 1.
        fn weights(&self, global: &[f32], updates: &[Update], clients: &[Client]) -> Vec<f64> {
            let most = clients.iter().fold(LEAST, |most, it| most.max(it.loss));
            let unit = clients.first().map_or(1.0, |it| it.lipschitz);
            let mut sum = 0.0;
            let mut weights = Vec::new();
            for (update, Client { loss, lipschitz }) in updates.iter().zip(clients) {
                let ways = update.model().iter().zip(global);
                let ways = ways.map(|(to, from)| f64::from(*to) - f64::from(*from));
                let square: f64 = ways.map(|way| way * way).sum();
                let weight = libm::pow(loss / most, self.q) * (lipschitz / unit);
                sum += weight * (1.0 + self.q / loss * lipschitz * square);
                weights.push(weight);
            }
            weights.iter().map(|weight| weight / sum).collect()
        }
    }

    impl ServerRule for QFedAvg {
        fn begin(&mut self, _round: u32, _global: &[f32]) {
            self.updates.begin();
        }

        fn add(&mut self, update: &Update, _: Option<&KeptVectors>) -> Result<(), Rejected> {
            self.client(update)?;
            self.updates.add(update)
        }

        fn finish(&mut self, global: &mut Vec<f32>) -> Result<RoundMetrics, AggregateError> {
            let updates = self.updates.take();
            let clients = updates.iter().map(|update| self.client(update));
            let clients: Vec<Client> = clients
                .collect::<Result<_, _>>()
                .map_err(|Rejected(why)| AggregateError(why))?;
            let equal = 1.0 / updates.len() as f64;
            let weights = self.weights(global, &updates, &clients);
            let terms = updates.iter().zip(&weights);
            let terms: Vec<_> = terms
                .map(|(update, weight)| Term {
                    update,
                    weight: 1,
                    lean: weight - equal,
                })
                .collect();
            let target = leaning_mean(global, &terms)?;
            *global = finite(target.into_iter().map(|number| number as f32).collect())?;
            let heaviest = weights.iter().fold(0.0_f64, |most, it| most.max(*it));
            let mut metrics = named([("heaviest_weight", heaviest)]);
            if self.q != 0.0 {
                let losses = || clients.iter().map(|client| client.loss);
                let mean = losses().sum::<f64>() * equal;
                metrics.insert("mean_global_loss".into(), mean);
                metrics.insert("largest_global_loss".into(), losses().fold(0.0, f64::max));
            }
            Ok(metrics)
        }
    }
}
