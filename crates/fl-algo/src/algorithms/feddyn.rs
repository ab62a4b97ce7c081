//! FedDyn: a term of each client's own that makes the optima of clients and server meet.
//!
//! Acar et al. 2021, Algorithm 1: <https://arxiv.org/abs/2111.04263>. Client `k` minimises
//! `F(w) - <g, w> + alpha/2 |w - x|^2`, `x` the global model of the round, and then `g` becomes
//! `g - alpha (w - x)`. The server adds the mean drift of all clients so far to the mean of the models.
//!
//! With `d` the sum of a client's drifts `w - x`, `g` is `-alpha d`, and `alpha (w - (x - d))` is added to
//! each gradient. The corrected gradient is clipped to `max_norm`, as in the authors' code. With alpha 0 it
//! is FedAvg to the bit: no drift is kept, nothing is clipped.
//!
//! # Memory
//! One vector beside the model: while it trains, `x - d` takes the place of `d`, and `w - (x - d)` is the
//! next `d`. It is the client's alone and never travels.

use super::fedprox;
use crate::client::{ClientRule, LocalJob, Pass, PassPlan};
use crate::registry::{Algorithm, DeviceHalf};
use crate::vector::{Length, VectorSpec, Vectors};
use fl_param::{ParamSpec, Params};

const ALPHA: &str = "alpha_coef";
const MAX_NORM: &str = "max_norm";

/// `d`; `x - d` while it trains.
const DRIFT: usize = 0;

static VECTORS: [VectorSpec; 1] = [VectorSpec {
    name: "drift",
    length: Length::Model,
    down: false,
    up: false,
    kept: true,
}];

/// FedDyn.
pub(crate) static ALGORITHM: Algorithm = Algorithm {
    name: "feddyn",
    doc: "dynamic regularisation: each device keeps the sum of its drifts, the server their mean",
    paper: "Acar et al. 2021, https://arxiv.org/abs/2111.04263",
    device: &DeviceHalf {
        rule: "feddyn",
        params: &[
            ParamSpec {
                name: ALPHA,
                default: 0.01,
                min: 0.0,
                max: 1e6,
                whole: false,
                doc: "weight of the dynamic term; 0 is FedAvg",
            },
            ParamSpec {
                name: MAX_NORM,
                default: 10.0,
                min: 1e-6,
                max: 1e9,
                whole: false,
                doc: "largest norm of a corrected gradient",
            },
        ],
        client: &Dynamic,
    },
    params: &[],
    #[cfg(feature = "server")]
    server: server::make,
};

struct Dynamic;

impl ClientRule for Dynamic {
    fn vectors(&self, params: &Params) -> &'static [VectorSpec] {
        if params.get(ALPHA) == 0.0 {
            &[]
        } else {
            &VECTORS
        }
    }

    fn plan(&self, params: &Params, pass: u32, local_epochs: u32) -> PassPlan {
        let clips = params.get(ALPHA) != 0.0;
        PassPlan {
            clip_norm: clips.then_some(params.get(MAX_NORM) as f32),
            ..PassPlan::new(pass, local_epochs)
        }
    }

    fn begin(&self, _: &Params, _: &LocalJob<'_>, weights: &mut [f32], vectors: &mut Vectors) {
        let drift = vectors.get_mut(DRIFT).iter_mut();
        drift.zip(weights).for_each(|(d, x)| *d = *x - *d);
    }

    fn corrects(&self, params: &Params, _: &Vectors) -> bool {
        params.get(ALPHA) != 0.0
    }

    fn correct(
        &self,
        params: &Params,
        vectors: &mut Vectors,
        first: usize,
        weights: &[f32],
        gradient: &mut [f32],
    ) {
        let alpha = params.get(ALPHA) as f32;
        fedprox::pull_back(alpha, vectors.get(DRIFT), first, weights, gradient);
    }

    fn end(
        &self,
        _: &Params,
        _: &LocalJob<'_>,
        weights: &mut [f32],
        vectors: &mut Vectors,
    ) -> Pass {
        let centre = vectors.get_mut(DRIFT).iter_mut();
        centre.zip(weights).for_each(|(d, w)| *d = *w - *d);
        Pass::Done
    }
}

#[cfg(feature = "server")]
mod server {
    use alloc::boxed::Box;
    use alloc::string::{String, ToString};
    use alloc::vec;
    use alloc::vec::Vec;

    use super::ALPHA;
    use crate::exact::{ExactMean, ExactSum};
    use crate::server::*;

    /// Name of the mean drift in a saved state.
    const DRIFT: &str = "drift";

    /// Makes the rule; that of FedAvg if alpha is 0.
    pub fn make(setup: &Setup) -> Result<Box<dyn ServerRule>, String> {
        if setup.device_params.get(ALPHA) == 0.0 {
            return crate::algorithms::fedavg::server::make(setup);
        }
        let zeros = vec![0.0; setup.num_params];
        Ok(Box::new(FedDyn {
            clients: setup.clients,
            drift: zeros.clone(),
            global: zeros,
            drifts: ExactSum::new(setup.num_params),
            mean: ExactMean::new(setup.num_params),
        }))
    }

    struct FedDyn {
        clients: u32,
        /// Sum over the rounds of the mean drift over all clients; who had no part in a round had none.
        drift: Vec<f32>,
        /// The global model of the round.
        global: Vec<f32>,
        /// Sum of the drifts of the round so far.
        drifts: ExactSum,
        /// Mean of the local models of the round so far.
        mean: ExactMean,
    }

    impl ServerRule for FedDyn {
        fn begin(&mut self, _round: u32, global: &[f32]) {
            self.global = global.to_vec();
            self.mean = ExactMean::new(global.len());
            self.drifts = ExactSum::new(global.len());
        }

        fn add(&mut self, update: &Update, _: Option<&KeptVectors>) -> Result<(), Rejected> {
            self.mean.add(u64::from(update.weight), update.model())?;
            self.drifts.add(1, update.model())?;
            self.drifts.subtract(1, &self.global)?;
            Ok(())
        }

        fn finish(&mut self, global: &mut Vec<f32>) -> Result<RoundMetrics, AggregateError> {
            let new = self.drifts.divided(u128::from(self.clients))?;
            let drift: Vec<f32> = self
                .drift
                .iter()
                .zip(new)
                .map(|(sum, new)| sum + new)
                .collect();
            let mean = self.mean.mean()?.into_iter().zip(&drift);
            let moved = mean.map(|(mean, drift)| mean + drift).collect();
            server_step(global, moved, 1.0)?;
            let norm: f64 = drift.iter().map(|d| f64::from(*d) * f64::from(*d)).sum();
            self.drift = drift;
            Ok([("server_drift_norm".to_string(), libm::sqrt(norm))].into())
        }

        fn save(&self) -> SavedState {
            SavedState {
                vectors: [(DRIFT.to_string(), self.drift.clone())].into(),
                ..SavedState::default()
            }
        }

        fn restore(
            &mut self,
            mut saved: SavedState,
            _: &mut dyn Iterator<Item = (u32, &KeptVectors)>,
        ) -> Result<(), AggregateError> {
            self.drift = saved.vector(DRIFT, self.drift.len())?;
            Ok(())
        }
    }
}
