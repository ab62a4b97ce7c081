//! SCAFFOLD: control variates that correct the drift of local training.
//!
//! Karimireddy et al. 2020, Algorithm 1, option II: <https://arxiv.org/abs/1910.06378>. Client `i` keeps a
//! variate `c_i` from round to round, the server has their mean `c` over all clients. A device adds
//! `d = c - c_i` to every gradient, and after `K` steps at rate `eta` from `x` to `y` its variate is
//! `c_i - c + (x - y) / (K eta) = (x - y) / (K eta) - d`.
//!
//! # Memory
//! Two vectors beside the model: `d` takes the place of `c_i`, and `x` that of `c`.

use super::SERVER_LEARNING_RATE;
use crate::client::{ClientRule, LocalJob, Pass};
use crate::registry::{Algorithm, DeviceHalf};
use crate::vector::{Length, VectorSpec, Vectors};
use fl_param::Params;

const CLIENT: &str = "client_variate";
const SERVER: &str = "server_variate";

/// `c_i`; `d` while it trains.
const CLIENT_VARIATE: usize = 0;

/// `c`; `x` while it trains.
const SERVER_VARIATE: usize = 1;

static VECTORS: [VectorSpec; 2] = [
    VectorSpec {
        name: CLIENT,
        length: Length::Model,
        down: false,
        up: true,
        kept: true,
    },
    VectorSpec {
        name: SERVER,
        length: Length::Model,
        down: true,
        up: false,
        kept: false,
    },
];

/// SCAFFOLD.
pub(crate) static ALGORITHM: Algorithm = Algorithm {
    name: "scaffold",
    doc: "control variates against the drift of clients whose data differ; twice the bytes",
    paper: "Karimireddy et al. 2020, https://arxiv.org/abs/1910.06378",
    device: &DeviceHalf {
        rule: "scaffold",
        params: &[],
        client: &Variates,
    },
    params: &[SERVER_LEARNING_RATE],
    #[cfg(feature = "server")]
    server: server::make,
};

struct Variates;

impl ClientRule for Variates {
    fn vectors(&self, _: &Params) -> &'static [VectorSpec] {
        &VECTORS
    }

    fn begin(&self, _: &Params, _: &LocalJob<'_>, weights: &mut [f32], vectors: &mut Vectors) {
        let (client, server) = vectors.pair_mut(CLIENT_VARIATE, SERVER_VARIATE);
        for ((client, server), weight) in client.iter_mut().zip(server).zip(weights) {
            *client = *server - *client;
            *server = *weight;
        }
    }

    /// Not while all differences are zero, as in the first round.
    fn corrects(&self, _: &Params, vectors: &Vectors) -> bool {
        vectors.get(CLIENT_VARIATE).iter().any(|d| *d != 0.0)
    }

    /// The differences come with the rounds.
    fn is_plain(&self, _: &Params) -> bool {
        false
    }

    fn correct(
        &self,
        _: &Params,
        vectors: &mut Vectors,
        first: usize,
        _weights: &[f32],
        gradient: &mut [f32],
    ) {
        let difference = vectors.get(CLIENT_VARIATE).get(first..).unwrap_or(&[]);
        for (slope, difference) in gradient.iter_mut().zip(difference) {
            *slope += difference;
        }
    }

    fn end(
        &self,
        _: &Params,
        job: &LocalJob<'_>,
        weights: &mut [f32],
        vectors: &mut Vectors,
    ) -> Pass {
        let way = job.steps as f32 * job.learning_rate;
        let (difference, global) = vectors.pair_mut(CLIENT_VARIATE, SERVER_VARIATE);
        for ((difference, global), weight) in difference.iter_mut().zip(global).zip(weights) {
            *difference = (*global - *weight) / way - *difference;
        }
        Pass::Done
    }
}

#[cfg(feature = "server")]
mod server {
    use alloc::boxed::Box;
    use alloc::string::{String, ToString};
    use alloc::vec;
    use alloc::vec::Vec;

    use super::{CLIENT, SERVER, SERVER_LEARNING_RATE};
    use crate::exact::{self, ExactMean, ExactSum};
    use crate::server::*;

    /// Makes the rule.
    pub fn make(setup: &Setup) -> Result<Box<dyn ServerRule>, String> {
        Ok(Box::new(Scaffold {
            rate: setup.params.get(SERVER_LEARNING_RATE.name) as f32,
            clients: setup.clients,
            variate: vec![0.0; setup.num_params],
            variates: ExactSum::new(setup.num_params),
            changes: ExactSum::new(setup.num_params),
            mean: ExactMean::new(setup.num_params),
        }))
    }

    struct Scaffold {
        rate: f32,
        clients: u32,
        /// `c`.
        variate: Vec<f32>,
        /// Sum of all `c_i`; exact, so that it is the same whatever the way to it.
        variates: ExactSum,
        /// Change of that sum in the round so far.
        changes: ExactSum,
        /// Mean of the local models of the round so far.
        mean: ExactMean,
    }

    impl ServerRule for Scaffold {
        /// The variates are differences of models over rate and steps.
        fn assumed_momentum(&self) -> Option<f64> {
            Some(0.0)
        }

        fn adds_up(&self) -> bool {
            true
        }

        fn down_sections(&self) -> Vec<(&'static str, &[f32])> {
            vec![(SERVER, &self.variate)]
        }

        fn begin(&mut self, _round: u32, global: &[f32]) {
            self.mean = ExactMean::new(global.len());
            self.changes = ExactSum::new(global.len());
        }

        fn add(&mut self, update: &Update, before: Option<&KeptVectors>) -> Result<(), Rejected> {
            if let Some(partial) = &update.partial {
                self.mean.merge(&partial.mean)?;
                return Ok(self.changes.merge(partial.changed(CLIENT)?)?);
            }
            let variate = update.section(CLIENT);
            exact::check(self.variate.len(), variate)?;
            self.mean.add(u64::from(update.weight), update.model())?;
            self.changes.add(1, variate)?;
            if let Some(old) = before.and_then(|state| state.sections.get(CLIENT)) {
                self.changes.subtract(1, old)?;
            }
            Ok(())
        }

        fn finish(&mut self, global: &mut Vec<f32>) -> Result<RoundMetrics, AggregateError> {
            let mut variates = self.variates.clone();
            variates.merge(&self.changes)?;
            let variate = variates.divided(u128::from(self.clients))?;
            server_step(global, self.mean.mean()?, self.rate)?;
            let norm: f64 = variate.iter().map(|c| f64::from(*c) * f64::from(*c)).sum();
            (self.variates, self.variate) = (variates, variate);
            let metrics = [("server_variate_norm".to_string(), libm::sqrt(norm))];
            Ok(metrics.into())
        }

        fn save(&self) -> SavedState {
            SavedState {
                vectors: [(SERVER.to_string(), self.variate.clone())].into(),
                ..SavedState::default()
            }
        }

        fn restore(
            &mut self,
            saved: SavedState,
            clients: &mut dyn Iterator<Item = (u32, &KeptVectors)>,
        ) -> Result<(), AggregateError> {
            let mut variates = ExactSum::new(self.variate.len());
            for (client, state) in clients {
                let variate = state.sections.get(CLIENT).map_or(&[][..], Vec::as_slice);
                let added = variates.add(1, variate);
                added.map_err(|error| {
                    AggregateError(alloc::format!("the variate of client {client}: {error}"))
                })?;
            }
            let variate = variates.divided(u128::from(self.clients))?;
            if saved.vectors.get(SERVER) != Some(&variate) {
                let why = "the clients' variates are not those of the saved server variate";
                return Err(AggregateError(why.to_string()));
            }
            (self.variates, self.variate) = (variates, variate);
            Ok(())
        }
    }
}
