//! Scaled update: the way from the global model, many times as long.
//!
//! Bagdasaryan et al. 2020, *How To Backdoor Federated Learning*: <https://arxiv.org/abs/1807.00459>. The
//! attacker sends `x + factor * (w - x)`, where `x` is the global model and `w` what it has trained. With a
//! factor of the number of clients it replaces the model: the mean is then its own.

use crate::attack::{Attack, Scene};
use crate::server::Update;
use fl_param::{ParamSpec, Params};

const FACTOR: &str = "factor";

/// The attack.
pub(super) struct Scaled;

impl Attack for Scaled {
    fn name(&self) -> &'static str {
        "scaled"
    }

    fn doc(&self) -> &'static str {
        "the update, many times as long"
    }

    fn paper(&self) -> &'static str {
        "Bagdasaryan et al. 2020, https://arxiv.org/abs/1807.00459"
    }

    fn params(&self) -> &'static [ParamSpec] {
        &[ParamSpec {
            name: FACTOR,
            default: 10.0,
            min: 0.0,
            max: 1e6,
            whole: false,
            doc: "length of the update sent, in lengths of the one trained",
        }]
    }

    fn updates(&self, params: &Params, scene: &Scene<'_>, attackers: &mut [&mut Update]) {
        stretch(params.get(FACTOR), scene.global, attackers);
    }
}

/// Turns every model `w` into `x + factor * (w - x)`.
pub(super) fn stretch(factor: f64, global: &[f32], attackers: &mut [&mut Update]) {
    for update in attackers {
        for (weight, &from) in update.model_mut().iter_mut().zip(global) {
            let from = f64::from(from);
            *weight = (from + factor * (f64::from(*weight) - from)) as f32;
        }
    }
}
