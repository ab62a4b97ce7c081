//! synthetic(alpha, beta): data of 30 devices that differ, generated.
//!
//! Li et al. 2020, section 5.1 (<https://arxiv.org/abs/1812.06127>): each device has a linear model of its own, whose
//! weights are normal around a mean of spread `alpha`, and inputs around a mean of spread `beta`; the class is the
//! model's choice. In `synthetic_iid` all devices have one model and one distribution. As in the authors' generator,
//! alpha and beta are standard deviations, and a device has 50 examples and more by a log-normal distribution. The
//! stream of random numbers is zfl's own, so the examples are others than theirs. Every tenth is for testing.

use crate::error::Problem;
use crate::source::Loaded;
use crate::source::rows::{self, Row, Rows, Take};
use fl_rng::{Normal, Pcg32, Purpose, derive_seed};

/// Beginning of its names: `synthetic_1_1`, `synthetic_0.5_0.5`, `synthetic_iid`.
const PREFIX: &str = "synthetic_";

const DEVICES: u32 = 30;
const FEATURES: usize = 60;
const CLASSES: usize = 10;

/// Logarithm of a device's examples beyond [`LEAST`]: mean and standard deviation.
const LOG_SIZE: (f64, f64) = (4.0, 2.0);
const LEAST: u32 = 50;

/// Most examples of a device: a guard against a tail that no memory holds.
const MOST: f64 = 100_000.0;

/// Every so many-th example of a device is for testing.
const TEST_EVERY: u32 = 10;

/// A set of the family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Synthetic {
    /// Devices that differ by alpha in their models and by beta in their inputs.
    Differing(f64, f64),
    /// Devices that do not differ.
    Iid,
}

impl Synthetic {
    /// The set of this name.
    pub fn named(name: &str) -> Option<Self> {
        let spreads = name.strip_prefix(PREFIX)?;
        if spreads == "iid" {
            return Some(Self::Iid);
        }
        let (alpha, beta) = spreads.split_once('_')?;
        let spread = |text: &str| {
            let number = text.parse::<f64>().ok()?;
            (0.0..=100.0).contains(&number).then_some(number)
        };
        Some(Self::Differing(spread(alpha)?, spread(beta)?))
    }

    /// Generates the examples, the same on every machine.
    ///
    /// # Errors
    /// None, unless this machine computes otherwise than others.
    pub fn load(self) -> Result<Loaded, Problem> {
        rows::assemble(&Generator {
            set: self,
            columns: (1..=FEATURES).map(|number| format!("x{number}")).collect(),
        })
    }
}

struct Generator {
    set: Synthetic,
    columns: Vec<String>,
}

impl Rows for Generator {
    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn each(&self, take: Take<'_>) -> Result<(), Problem> {
        (0..DEVICES).try_for_each(|device| Device::of(self.set, device).examples(take))
    }
}

/// The stream of a device.
fn stream(device: u32) -> Normal {
    Normal::new(Pcg32::new(Purpose::Synthetic, derive_seed(0, device, 0)))
}

/// A device that gives examples.
struct Device {
    name: String,
    normal: Normal,
    /// Mean of its inputs.
    mean: Vec<f64>,
    /// `[FEATURES, CLASSES]`.
    weights: Vec<f64>,
    bias: Vec<f64>,
}

impl Device {
    fn of(set: Synthetic, number: u32) -> Self {
        let mut normal = stream(number);
        let (alpha, beta) = match set {
            Synthetic::Differing(alpha, beta) => (alpha, beta),
            Synthetic::Iid => (0.0, 0.0),
        };
        let (of_model, of_inputs) = (alpha * normal.sample(), beta * normal.sample());
        let mut around = |mean: f64, count: usize| -> Vec<f64> {
            (0..count).map(|_| mean + normal.sample()).collect()
        };
        let mut mean = around(of_inputs, FEATURES);
        let mut weights = around(of_model, FEATURES * CLASSES);
        let mut bias = around(of_model, CLASSES);
        if set == Synthetic::Iid {
            let mut shared = stream(DEVICES);
            mean.fill(0.0);
            let all = weights.iter_mut().chain(&mut bias);
            all.for_each(|value| *value = shared.sample());
        }
        Self {
            name: number.to_string(),
            normal,
            mean,
            weights,
            bias,
        }
    }

    fn examples(mut self, take: Take<'_>) -> Result<(), Problem> {
        let (mean, deviation) = LOG_SIZE;
        let more = libm::exp(mean + deviation * self.normal.sample());
        let mut features = vec![0.0; FEATURES];
        for number in 1..=LEAST + more.min(MOST) as u32 {
            for (at, (feature, mean)) in features.iter_mut().zip(&self.mean).enumerate() {
                let variance = libm::pow(at as f64 + 1.0, -1.2);
                *feature = mean + libm::sqrt(variance) * self.normal.sample();
            }
            take(&Row {
                features: &features,
                label: &self.class(&features).to_string(),
                client: Some(&self.name),
                is_test: Some(number % TEST_EVERY == 0),
            })?;
        }
        Ok(())
    }

    /// The class that its model chooses; of equal ones the first.
    fn class(&self, features: &[f64]) -> usize {
        let mut scores = self.bias.clone();
        for (row, feature) in self.weights.chunks(CLASSES).zip(features) {
            for (score, weight) in scores.iter_mut().zip(row) {
                *score += feature * weight;
            }
        }
        let best = |best: usize, at: usize| if scores[at] > scores[best] { at } else { best };
        (1..scores.len()).fold(0, best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    fn hash(set: Synthetic) -> String {
        let train = set.load().unwrap().splits.train;
        let hash = Sha256::new()
            .chain_update(train.inputs)
            .chain_update(train.labels);
        hash.finalize()
            .iter()
            .take(8)
            .map(|b| format!("{b:02x}"))
            .collect()
    }

    #[test]
    fn names_are_those_of_the_field() {
        assert_eq!(
            Synthetic::named("synthetic_0.5_1"),
            Some(Synthetic::Differing(0.5, 1.0))
        );
        assert_eq!(Synthetic::named("synthetic_iid"), Some(Synthetic::Iid));
        for name in [
            "synthetic_",
            "synthetic_1",
            "synthetic_1_x",
            "synthetic_nan_1",
            "synthetic_1_-1",
        ] {
            assert_eq!(Synthetic::named(name), None, "{name}");
        }
    }

    #[test]
    fn the_same_examples_are_generated_on_every_machine() {
        assert_eq!(hash(Synthetic::Differing(1.0, 1.0)), "5fb81b0d6904ec71");
        assert_ne!(hash(Synthetic::Differing(0.0, 0.0)), hash(Synthetic::Iid));
    }

    #[test]
    fn thirty_devices_have_fifty_examples_and_more() {
        let loaded = Synthetic::Differing(1.0, 1.0).load().unwrap();
        let sizes: Vec<usize> = loaded.natural.unwrap().parts.iter().map(Vec::len).collect();
        assert_eq!(sizes.len(), 30);
        assert!(
            sizes.iter().all(|&size| size >= 45),
            "nine of ten are for training: {sizes:?}"
        );
        assert!(sizes.iter().max() > Some(&1_000), "{sizes:?}");
        assert_eq!(loaded.splits.train.num_classes, 10);
        assert_eq!(loaded.splits.train.num_inputs, 120);
    }

    /// In one distribution, a class is as frequent with one device as with another.
    #[test]
    fn devices_differ_unless_they_are_iid() {
        let classes = |set: Synthetic| {
            let loaded = set.load().unwrap();
            let natural = loaded.natural.unwrap();
            let of = |part: &Vec<u32>| {
                let mut labels = loaded.splits.train.gather_labels(part);
                labels.sort_unstable();
                labels.dedup();
                labels.len()
            };
            natural.parts.iter().map(of).sum::<usize>()
        };
        assert!(classes(Synthetic::Differing(1.0, 1.0)) < classes(Synthetic::Iid));
    }
}
