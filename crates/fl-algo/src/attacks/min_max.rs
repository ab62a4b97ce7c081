//! Min-max (AGR-MM): a model as far from the mean of the others as it may be and still be no outlier.
//!
//! Shejwalkar and Houmansadr 2021, *Manipulating the Byzantine: Optimizing Model Poisoning Attacks and Defenses
//! for Federated Learning*: <https://doi.org/10.14722/ndss.2021.24498>. All attackers send `mean + gamma * p`
//! with the largest `gamma` for which that is no farther from any honest model than some two honest models are
//! from each other. The paper searches `gamma` by halving; here it is the root of its quadratic equation.
//!
//! The perturbation `p` is one of the paper's three: against the standard deviation of every number, against
//! the sign of the mean way from the global model, or against that way itself, as a unit vector.

use alloc::vec::Vec;

use super::crowd::{self, Crowd};
use crate::attack::{Attack, Scene};
use crate::server::Update;
use crate::server::distances::squared_distance;
use fl_param::Params;

/// Direction in which the attackers go.
enum Perturbation {
    Deviation,
    Sign,
    UnitVector,
}

/// The attack with one of its perturbations.
pub(super) struct MinMax {
    name: &'static str,
    doc: &'static str,
    perturbation: Perturbation,
}

/// Against the standard deviation.
pub(super) static DEVIATION: MinMax = MinMax {
    name: "min-max",
    doc: "as far off the honest updates as they are apart, against their standard deviation",
    perturbation: Perturbation::Deviation,
};

/// Against the sign of the mean way.
pub(super) static SIGN: MinMax = MinMax {
    name: "min-max-sign",
    doc: "as far off the honest updates as they are apart, against the sign of their mean",
    perturbation: Perturbation::Sign,
};

/// Against the mean way.
pub(super) static UNIT_VECTOR: MinMax = MinMax {
    name: "min-max-unit",
    doc: "as far off the honest updates as they are apart, against the direction of their mean",
    perturbation: Perturbation::UnitVector,
};

impl Attack for MinMax {
    fn name(&self) -> &'static str {
        self.name
    }

    fn doc(&self) -> &'static str {
        self.doc
    }

    fn paper(&self) -> &'static str {
        "Shejwalkar and Houmansadr 2021, https://doi.org/10.14722/ndss.2021.24498"
    }

    fn updates(&self, _: &Params, scene: &Scene<'_>, attackers: &mut [&mut Update]) {
        let models = crowd::seen(scene, attackers);
        let crowd = Crowd::of(scene.global.len(), &models);
        let direction = self.perturbation.of(&crowd, scene.global);
        let gamma = largest_gamma(&models, &crowd.mean, &direction);
        let far = crowd.mean.iter().zip(&direction);
        let model: Vec<f64> = far.map(|(mean, p)| mean + gamma * p).collect();
        crowd::send(attackers, &model);
    }
}

impl Perturbation {
    fn of(&self, crowd: &Crowd, global: &[f32]) -> Vec<f64> {
        let ways = crowd.mean.iter().zip(global);
        let ways = ways.map(|(mean, from)| mean - f64::from(*from));
        match self {
            Self::Deviation => crowd.deviation.iter().map(|it| -it).collect(),
            Self::Sign => {
                let sign = |way: f64| if way == 0.0 { 0.0 } else { -way.signum() };
                ways.map(sign).collect()
            }
            Self::UnitVector => {
                let norm = libm::sqrt(ways.clone().map(|way| way * way).sum());
                // Without a way there is no direction, either.
                let norm = if norm == 0.0 { 1.0 } else { norm };
                ways.map(|way| -way / norm).collect()
            }
        }
    }
}

/// The largest `gamma` for which `mean + gamma * p` is within the largest distance of two models from each.
fn largest_gamma(models: &[&[f32]], mean: &[f64], p: &[f64]) -> f64 {
    let pairs = models.iter().enumerate();
    let pairs = pairs.flat_map(|(at, a)| models[..at].iter().map(|b| squared_distance(a, b)));
    let apart = pairs.fold(0.0, f64::max);
    let square: f64 = p.iter().map(|p| p * p).sum();
    if square == 0.0 {
        return 0.0;
    }
    let gammas = models.iter().map(|model| {
        let off = mean.iter().zip(*model);
        let off = off.map(|(mean, number)| mean - f64::from(*number));
        let along: f64 = off.clone().zip(p).map(|(off, p)| off * p).sum();
        let own: f64 = off.map(|off| off * off).sum();
        let rest = (apart - own).max(0.0);
        (libm::sqrt(along * along + square * rest) - along) / square
    });
    gammas.fold(f64::INFINITY, f64::min)
}
