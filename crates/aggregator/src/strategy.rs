//! From updates to the next global model.

use std::collections::BTreeMap;

use crate::config::Weighting;

/// Named vectors.
pub type Sections = BTreeMap<String, Vec<f32>>;

/// One client's update: its local weights.
#[derive(Clone, Debug)]
pub struct Update {
    /// The client.
    pub client: u32,
    /// Training examples behind it.
    pub num_examples: u32,
    /// Steps of the optimiser behind it.
    pub steps: u32,
    /// Local weights, `[num_params]`.
    pub params: Vec<f32>,
    /// Sections that came beside the local weights.
    pub sections: Sections,
}

/// The way from updates to the next global model.
pub trait Strategy: Send + Sync {
    /// The next global model.
    ///
    /// # Shapes
    /// `global` and every update: `[num_params]`.
    ///
    /// `updates` come in client order whatever their order of arrival, and are not empty.
    fn aggregate(&self, global: &[f32], updates: &[Update]) -> Vec<f32>;
}

/// The weighted mean of the local weights.
///
/// FedAvg, McMahan et al. 2017, Algorithm 1: <https://arxiv.org/abs/1602.05629>. Sums are kept in f64
/// and in client order, so that the result has the same bits whatever the order of arrival.
#[derive(Clone, Copy, Debug, Default)]
pub struct FedAvg {
    /// Weight of each update in the mean.
    pub weighting: Weighting,
}

impl Strategy for FedAvg {
    fn aggregate(&self, global: &[f32], updates: &[Update]) -> Vec<f32> {
        let weight = |update: &Update| match self.weighting {
            Weighting::NumExamples => f64::from(update.num_examples),
            Weighting::Uniform => 1.0,
        };
        let total: f64 = updates.iter().map(weight).sum();
        let mut sums = vec![0.0_f64; global.len()];
        for update in updates {
            let share = weight(update) / total;
            for (sum, param) in sums.iter_mut().zip(&update.params) {
                *sum += share * f64::from(*param);
            }
        }
        sums.into_iter().map(|sum| sum as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(client: u32, num_examples: u32, params: &[f32]) -> Update {
        Update {
            client,
            num_examples,
            steps: 1,
            params: params.to_vec(),
            sections: Sections::new(),
        }
    }

    #[test]
    fn updates_count_by_their_examples() {
        let updates = [update(0, 1, &[1.0, 0.0]), update(1, 3, &[5.0, 4.0])];
        let weighted = FedAvg {
            weighting: Weighting::NumExamples,
        };
        assert_eq!(weighted.aggregate(&[0.0, 0.0], &updates), [4.0, 3.0]);
        let uniform = FedAvg {
            weighting: Weighting::Uniform,
        };
        assert_eq!(uniform.aggregate(&[0.0, 0.0], &updates), [3.0, 2.0]);
    }

    #[test]
    fn one_update_is_the_new_model_to_the_bit() {
        let params = [0.1, -3.7e-9, 1.0e20, f32::MIN_POSITIVE / 8.0];
        let out = FedAvg::default().aggregate(&[0.0; 4], &[update(0, 17, &params)]);
        assert_eq!(out.map_bits(), params.to_vec().map_bits());
    }

    trait MapBits {
        fn map_bits(&self) -> Vec<u32>;
    }

    impl MapBits for Vec<f32> {
        fn map_bits(&self) -> Vec<u32> {
            self.iter().map(|p| p.to_bits()).collect()
        }
    }
}
