//! LIE, "a little is enough": a model as far from the mean of the others as still looks honest.
//!
//! Baruch et al. 2019, *A Little Is Enough: Circumventing Defenses For Distributed Learning*, Algorithm 3:
//! <https://arxiv.org/abs/1902.06156>. All attackers send `mean - z * deviation` of the honest models, number by
//! number. Of `n` clients, `m` of them attackers, `z` is the largest for which, were the models normally
//! distributed, as many honest ones lie beyond it as the attackers need for a majority:
//! `Phi(z) = (n - m - s) / (n - m)`, `s = floor(n / 2 + 1) - m`.

use super::crowd::{self, Crowd};
use crate::attack::{Attack, Scene};
use crate::server::Update;
use fl_param::{ParamSpec, Params};

const Z: &str = "z";

/// Deviations beyond which nothing looks honest.
const MAX_Z: f64 = 8.0;

/// The attack.
pub(super) struct Lie;

impl Attack for Lie {
    fn name(&self) -> &'static str {
        "lie"
    }

    fn doc(&self) -> &'static str {
        "a little is enough: some deviations off the mean of the honest updates, number by number"
    }

    fn paper(&self) -> &'static str {
        "Baruch et al. 2019, https://arxiv.org/abs/1902.06156"
    }

    fn params(&self) -> &'static [ParamSpec] {
        &[ParamSpec {
            name: Z,
            default: 0.0,
            min: 0.0,
            max: 1e3,
            whole: false,
            doc: "standard deviations off the mean; 0 computes them from the numbers of clients and attackers",
        }]
    }

    fn updates(&self, params: &Params, scene: &Scene<'_>, attackers: &mut [&mut Update]) {
        let z = match params.get(Z) {
            0.0 => largest_z(scene.honest.len(), attackers.len()),
            given => given,
        };
        let crowd = Crowd::of(scene.global.len(), &crowd::seen(scene, attackers));
        let off = |(mean, deviation)| mean - z * deviation;
        let model: alloc::vec::Vec<f64> =
            crowd.mean.iter().zip(&crowd.deviation).map(off).collect();
        crowd::send(attackers, &model);
    }
}

/// The paper's `z`; 0 where fewer than half of the honest have to be won.
fn largest_z(honest: usize, attackers: usize) -> f64 {
    let majority = (honest + attackers) / 2 + 1;
    let supporters = majority.saturating_sub(attackers);
    let share = honest.saturating_sub(supporters) as f64 / honest.max(1) as f64;
    let (mut low, mut high) = (0.0, MAX_Z);
    // Halved as often as an f64 has bits.
    for _ in 0..53 {
        let z = (low + high) / 2.0;
        let below = 0.5 * libm::erfc(-z / core::f64::consts::SQRT_2);
        *(if below < share { &mut low } else { &mut high }) = z;
    }
    low
}

#[test]
fn the_deviations_are_those_of_the_normal_distribution() {
    for (honest, attackers, expected) in [
        // Of 50 with 24 attackers 2 of 26 have to be won: the paper's example, Phi(z) = 24/26.
        (26, 24, 1.426_076_872_272_848),
        // 49 of 80 are below.
        (80, 20, 0.285_840_874_881_165_8),
        (8, 2, 0.0),
        (1, 1, 0.0),
        (0, 3, 0.0),
    ] {
        let z = largest_z(honest, attackers);
        assert!((z - expected).abs() < 1e-12, "{honest}, {attackers}: {z}");
    }
    assert!(largest_z(3, 7) > 7.9, "they are the majority themselves");
}
