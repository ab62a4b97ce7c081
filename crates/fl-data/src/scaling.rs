//! Scaling of features that are no octets, by training examples alone.
//!
//! A column is standardised and clipped at [`CLIP`] standard deviations. It becomes two inputs of a device: how far it
//! is above the mean, and how far below; one of them is always 0. A device divides its inputs by 255 and skips those
//! that are 0, so both halves of the scale are used, the mean is where nothing happens, and a pair costs what one input
//! costs. `docs/data.md` has what that takes from the accuracy, and what one octet around 128 would.

use serde::{Deserialize, Serialize};

/// Standard deviations at which a feature is clipped.
pub const CLIP: f64 = 3.0;

/// Octets of a column.
const PAIR: usize = 2;

/// Scale of the columns of a data set, by which other examples for the same model are scaled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// Scales of the columns; none where the features are octets and stay as they are.
    ///
    /// A feature `x` is `t = round((x - offset) / step)`, clipped to -255..255. It makes the inputs `max(t, 0)` and
    /// `max(-t, 0)`, in this order.
    pub columns: Vec<ColumnScale>,
    /// Names of the classes, in the order of the model's outputs.
    pub classes: Vec<String>,
}

/// Scale of a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnScale {
    /// Its name.
    pub name: String,
    /// The value that becomes 0: the mean.
    pub offset: f64,
    /// The difference that one step of an octet is.
    pub step: f64,
}

impl ColumnScale {
    /// Octets above and below the offset.
    pub fn octets(&self, value: f64) -> [u8; PAIR] {
        let steps = ((value - self.offset) / self.step).round();
        // A cast keeps to the bounds of the octet.
        [steps as u8, (-steps) as u8]
    }

    /// The value that octets stand for.
    pub fn value(&self, [above, below]: [u8; PAIR]) -> f64 {
        self.offset + self.step * (f64::from(above) - f64::from(below))
    }
}

impl Scaling {
    /// Octets of an example with as many features.
    pub(crate) fn width(&self, features: usize) -> usize {
        match self.columns.is_empty() {
            true => features,
            false => PAIR * features,
        }
    }

    /// Appends the octets of an example.
    pub(crate) fn scale(&self, features: &[f64], to: &mut Vec<u8>) {
        if self.columns.is_empty() {
            // They are octets; those for testing are held to the same bounds.
            to.extend(features.iter().map(|&value| value.round() as u8));
        }
        for (column, &value) in self.columns.iter().zip(features) {
            to.extend(column.octets(value));
        }
    }
}

/// Column as its training examples have it so far.
#[derive(Clone, Debug)]
pub(crate) struct Survey {
    count: f64,
    mean: f64,
    /// Sum of the squares of the differences from the mean.
    squares: f64,
    least: f64,
    most: f64,
    is_octets: bool,
}

impl Default for Survey {
    fn default() -> Self {
        Self {
            count: 0.0,
            mean: 0.0,
            squares: 0.0,
            least: f64::INFINITY,
            most: f64::NEG_INFINITY,
            is_octets: true,
        }
    }
}

impl Survey {
    /// Takes a value in: Welford 1962, <https://doi.org/10.1080/00401706.1962.10490022>.
    pub fn take(&mut self, value: f64) {
        self.count += 1.0;
        let difference = value - self.mean;
        self.mean += difference / self.count;
        self.squares += difference * (value - self.mean);
        self.least = self.least.min(value);
        self.most = self.most.max(value);
        self.is_octets &= value == f64::from(value as u8);
    }

    /// The largest value, if all are octets.
    pub fn largest_octet(&self) -> Option<f64> {
        self.is_octets.then_some(self.most)
    }

    /// Tells if every example has the same value.
    pub fn is_constant(&self) -> bool {
        self.least == self.most
    }

    /// Scale of the column; one that is always the same says nothing, and its inputs are 0.
    pub fn scale(&self, name: &str) -> ColumnScale {
        let deviation = libm::sqrt(self.squares / self.count.max(1.0));
        let step = deviation * CLIP / 255.0;
        let usable = !self.is_constant() && step.is_normal() && self.mean.is_finite();
        ColumnScale {
            name: name.to_owned(),
            offset: if usable { self.mean } else { self.least },
            step: if usable { step } else { f64::MAX },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scale_of(values: &[f64]) -> ColumnScale {
        let mut survey = Survey::default();
        values.iter().for_each(|&value| survey.take(value));
        survey.scale("x")
    }

    #[test]
    fn a_column_is_standardised_and_clipped() {
        // Mean 10, standard deviation 2.
        let scale = scale_of(&[8.0, 12.0]);
        assert_eq!((scale.offset, scale.step), (10.0, 6.0 / 255.0));
        assert_eq!(scale.octets(10.0), [0, 0]);
        assert_eq!(scale.octets(12.0), [85, 0]);
        assert_eq!(scale.octets(8.0), [0, 85]);
        assert_eq!(scale.octets(1e9), [255, 0]);
        assert_eq!(scale.octets(-1e9), [0, 255]);
    }

    #[test]
    fn a_column_that_is_always_the_same_says_nothing() {
        let scale = scale_of(&[7.0, 7.0]);
        for value in [7.0, 8.0, -1e30] {
            assert_eq!(scale.octets(value), [0, 0]);
        }
    }

    proptest! {
        #[test]
        fn a_value_that_is_not_clipped_comes_back_within_half_a_step(
            values in prop::collection::vec(-1e6..1e6_f64, 2..40), at in 0.0..1.0_f64
        ) {
            let scale = scale_of(&values);
            let value = scale.offset + (2.0 * at - 1.0) * 255.0 * scale.step;
            let back = scale.value(scale.octets(value));
            prop_assert!((back - value).abs() <= scale.step * 0.500_001);
        }

        #[test]
        fn no_values_make_a_scale_that_is_no_number(
            values in prop::collection::vec(prop::num::f64::NORMAL | prop::num::f64::ZERO, 1..8), other: f64
        ) {
            let scale = scale_of(&values);
            prop_assert!(scale.offset.is_finite() && scale.step.is_finite() && scale.step > 0.0);
            let [above, below] = scale.octets(other);
            prop_assert!(above == 0 || below == 0);
        }
    }
}
