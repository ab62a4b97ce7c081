//! Statistics of the models that attackers see and hide among.

use alloc::vec;
use alloc::vec::Vec;

use crate::attack::Scene;
use crate::server::Update;

/// Models that attackers see: those of the honest clients, or where there are none their own.
pub(super) fn seen<'a>(scene: &Scene<'a>, attackers: &'a [&mut Update]) -> Vec<&'a [f32]> {
    let whole = |model: &&[f32]| model.len() == scene.global.len();
    let honest = scene.honest.iter().map(|update| update.model());
    let honest: Vec<_> = honest.filter(whole).collect();
    if honest.is_empty() {
        let own = attackers.iter().map(|update| update.model());
        return own.filter(whole).collect();
    }
    honest
}

/// Mean and standard deviation of every number, over all models.
pub(super) struct Crowd {
    pub mean: Vec<f64>,
    pub deviation: Vec<f64>,
}

impl Crowd {
    /// The statistics of models of `len` numbers each, summed in their order.
    pub fn of(len: usize, models: &[&[f32]]) -> Self {
        let count = models.len().max(1) as f64;
        let (mut mean, mut deviation) = (vec![0.0; len], vec![0.0; len]);
        for model in models {
            let sums = mean.iter_mut().zip(*model);
            sums.for_each(|(sum, number)| *sum += f64::from(*number) / count);
        }
        for model in models {
            for ((sum, number), mean) in deviation.iter_mut().zip(*model).zip(&mean) {
                let off = f64::from(*number) - mean;
                *sum += off * off / count;
            }
        }
        deviation.iter_mut().for_each(|it| *it = libm::sqrt(*it));
        Self { mean, deviation }
    }
}

/// Makes all attackers send the same model.
pub(super) fn send(attackers: &mut [&mut Update], model: &[f64]) {
    for update in attackers {
        for (weight, number) in update.model_mut().iter_mut().zip(model) {
            *weight = *number as f32;
        }
    }
}
