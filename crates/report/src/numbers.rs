//! Means, deviations, and numbers as a paper has them.

/// A mean and the standard deviation of the sample that it is of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    pub mean: f64,
    /// Standard deviation with n − 1; `None` of one value.
    pub std: Option<f64>,
}

impl Mean {
    /// Mean of the finite values; `None` of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values
            .into_iter()
            .filter(|value| value.is_finite())
            .collect();
        let n = values.len() as f64;
        if values.is_empty() {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n;
        let squares = values
            .iter()
            .map(|value| (value - mean).powi(2))
            .sum::<f64>();
        let std = (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt());
        Some(Self { mean, std })
    }

    /// Text such as `0.912 ± 0.003`.
    pub fn show(self, digits: usize) -> String {
        match self.std {
            Some(std) => format!("{:.digits$} ± {std:.digits$}", self.mean),
            None => format!("{:.digits$}", self.mean),
        }
    }
}

/// A mean as text, or a dash.
pub fn show(mean: Option<Mean>, digits: usize) -> String {
    mean.map_or_else(|| "–".to_owned(), |mean| mean.show(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviations_are_those_of_a_sample() {
        let mean = Mean::of([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).unwrap();
        assert_eq!(mean.mean, 5.0);
        assert!((mean.std.unwrap() - (32.0f64 / 7.0).sqrt()).abs() < 1e-12);
        assert_eq!(mean.show(2), "5.00 ± 2.14");
    }

    #[test]
    fn one_value_has_no_deviation_and_none_no_mean() {
        assert_eq!(Mean::of([3.0]).unwrap().show(1), "3.0");
        assert_eq!(Mean::of([f64::NAN]), None);
        assert_eq!(show(None, 1), "–");
    }
}
