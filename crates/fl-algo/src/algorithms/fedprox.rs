//! FedProx: a term that pulls local training towards the global model.
//!
//! Li et al. 2020, *Federated Optimization in Heterogeneous Networks*:
//! <https://arxiv.org/abs/1812.06127>. A device minimises `F(w) + mu/2 |w - x|^2`, `x` the global model of
//! the round, so that `mu * (w - x)` is added to every gradient. The server does what FedAvg's does.
//! With mu 0 it is FedAvg to the bit and needs no memory.

use crate::client::{ClientRule, LocalJob};
use crate::registry::{Algorithm, DeviceHalf};
use crate::vector::{Length, VectorSpec, Vectors};
use fl_param::{ParamSpec, Params};

const MU: &str = "proximal_mu";

/// The global model of the round.
pub(super) const GLOBAL: usize = 0;

/// The vector of the global model.
pub(super) const GLOBAL_MODEL: VectorSpec = VectorSpec {
    name: "global",
    length: Length::Model,
    down: false,
    up: false,
    kept: false,
};

static VECTORS: [VectorSpec; 1] = [GLOBAL_MODEL];

/// The weight of the proximal term.
pub(super) const PROXIMAL_MU: ParamSpec = ParamSpec {
    name: MU,
    default: 0.0,
    min: 0.0,
    max: 1e6,
    whole: false,
    doc: "weight of the proximal term; 0 is without",
};

/// FedProx.
pub(crate) static ALGORITHM: Algorithm = Algorithm {
    name: "fedprox",
    doc: "FedAvg with a proximal term: local models stay near the global one",
    paper: "Li et al. 2020, https://arxiv.org/abs/1812.06127",
    device: &DeviceHalf {
        rule: "fedprox",
        params: &[PROXIMAL_MU],
        client: &Proximal,
    },
    params: &[],
    #[cfg(feature = "server")]
    server: super::fedavg::server::make,
};

struct Proximal;

impl ClientRule for Proximal {
    fn vectors(&self, params: &Params) -> &'static [VectorSpec] {
        if params.get(MU) == 0.0 { &[] } else { &VECTORS }
    }

    fn begin(&self, _: &Params, _: &LocalJob<'_>, weights: &mut [f32], vectors: &mut Vectors) {
        keep_global(weights, vectors);
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
        pull_back(
            params.get(MU) as f32,
            vectors.get(GLOBAL),
            first,
            weights,
            gradient,
        );
    }
}

/// Keeps the global model, which training begins with, as the first vector.
pub(super) fn keep_global(weights: &[f32], vectors: &mut Vectors) {
    let global = vectors.get_mut(GLOBAL).iter_mut();
    global.zip(weights).for_each(|(to, from)| *to = *from);
}

/// Adds the gradient of `mu/2 |w - x|^2`, `x` the centre.
///
/// # Shapes
/// `centre`: as the model; `weights`, `gradient`: the same part of it, from number `first` on.
pub(super) fn pull_back(
    mu: f32,
    centre: &[f32],
    first: usize,
    weights: &[f32],
    gradient: &mut [f32],
) {
    let centre = centre.get(first..).unwrap_or(&[]);
    for ((slope, weight), centre) in gradient.iter_mut().zip(weights).zip(centre) {
        *slope += mu * (weight - centre);
    }
}
