//! Gaussian noise: an update to which random numbers were added.
//!
//! Blanchard et al. 2017, *Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent*:
//! <https://arxiv.org/abs/1703.02757>. The attacker sends `w + N(0, sigma^2)`, number by number, where `w` is
//! what it has trained. Sigma is 10 in the tables of Gabrielli et al. 2023
//! (<https://arxiv.org/abs/2303.16668>).

use crate::attack::{Attack, Scene};
use crate::server::Update;
use fl_param::{ParamSpec, Params};
use fl_rng::Normal;

const SIGMA: &str = "sigma";

/// The attack.
pub(super) struct Gaussian;

impl Attack for Gaussian {
    fn name(&self) -> &'static str {
        "gaussian"
    }

    fn doc(&self) -> &'static str {
        "the update, with Gaussian noise on every number"
    }

    fn paper(&self) -> &'static str {
        "Blanchard et al. 2017, https://arxiv.org/abs/1703.02757"
    }

    fn params(&self) -> &'static [ParamSpec] {
        &[ParamSpec {
            name: SIGMA,
            default: 10.0,
            min: 0.0,
            max: 1e6,
            whole: false,
            doc: "standard deviation of the noise",
        }]
    }

    fn updates(&self, params: &Params, scene: &Scene<'_>, attackers: &mut [&mut Update]) {
        let sigma = params.get(SIGMA);
        for update in attackers {
            let mut noise = Normal::new(scene.rng(update.client));
            for weight in update.model_mut() {
                *weight = (f64::from(*weight) + sigma * noise.sample()) as f32;
            }
        }
    }
}
