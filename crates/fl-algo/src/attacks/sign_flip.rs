//! Sign flip: an update goes as far in the opposite direction.
//!
//! Li et al. 2019, *RSA: Byzantine-Robust Stochastic Aggregation Methods for Distributed Learning from
//! Heterogeneous Datasets*: <https://arxiv.org/abs/1811.03761>. The attacker trains as told and sends
//! `x - scale * (w - x)`, where `x` is the global model and `w` what it has trained.

use super::scaled::stretch;
use crate::attack::{Attack, Scene};
use crate::server::Update;
use fl_param::{ParamSpec, Params};

const SCALE: &str = "scale";

/// The attack.
pub(super) struct SignFlip;

impl Attack for SignFlip {
    fn name(&self) -> &'static str {
        "sign-flip"
    }

    fn doc(&self) -> &'static str {
        "the update, in the opposite direction"
    }

    fn paper(&self) -> &'static str {
        "Li et al. 2019, https://arxiv.org/abs/1811.03761"
    }

    fn params(&self) -> &'static [ParamSpec] {
        &[ParamSpec {
            name: SCALE,
            default: 1.0,
            min: 0.0,
            max: 1e6,
            whole: false,
            doc: "length of the update sent, in lengths of the one trained",
        }]
    }

    fn updates(&self, params: &Params, scene: &Scene<'_>, attackers: &mut [&mut Update]) {
        stretch(-params.get(SCALE), scene.global, attackers);
    }
}
