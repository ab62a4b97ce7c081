//! Numbers that are given for all devices, or drawn for each.

use super::Form;
use super::domain::{Count, Domain, Rate};
use fl_rng::{Pcg32, Purpose, derive_seed};
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt::Debug;
use std::marker::PhantomData;

/// A number for all devices, or the range that each draws its own from, once and for all rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Spread<T> {
    /// The same for all.
    All(T),
    /// Drawn.
    Drawn(Range<T>),
}

/// A range with both ends, and the distribution over it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Range<T> {
    /// Every number alike.
    Uniform([T; 2]),
    /// Every logarithm alike.
    LogUniform([T; 2]),
}

impl<T: Copy> Range<T> {
    fn ends(&self) -> [T; 2] {
        match self {
            Self::Uniform(ends) | Self::LogUniform(ends) => *ends,
        }
    }
}

/// Key of a [`Spread`], so that two keys draw apart.
#[derive(Clone, Copy, Debug)]
pub enum Drawing {
    /// `local_epochs`.
    Epochs = 1,
    /// `batch_size`.
    BatchSize = 2,
    /// `learning_rate`.
    Rate = 3,
}

impl<T: Copy> Spread<T> {
    /// The largest that a device may have.
    pub fn most(&self) -> T {
        match self {
            Self::All(value) => *value,
            Self::Drawn(range) => range.ends()[1],
        }
    }

    /// The draw of a client; none if all have the same. Whole numbers take `wider` 1: each is an interval.
    fn draw(&self, drawing: Drawing, seed: u64, client: u32, wider: f64) -> Option<f64>
    where
        T: Into<f64>,
    {
        let Self::Drawn(range) = self else {
            return None;
        };
        let seed = derive_seed(seed, client, drawing as u32);
        let part = f64::from(Pcg32::new(Purpose::Local, seed).next_u32()) / 4_294_967_296.0;
        let [low, high] = range.ends().map(T::into);
        let high = high + wider;
        Some(match range {
            Range::Uniform(_) => low + (high - low) * part,
            Range::LogUniform(_) => low * libm::pow(high / low, part),
        })
    }
}

impl Spread<u32> {
    /// The number of a client.
    pub fn of(&self, drawing: Drawing, seed: u64, client: u32) -> u32 {
        let drawn = self.draw(drawing, seed, client, 1.0);
        drawn.map_or(self.most(), |number| (number as u32).min(self.most()))
    }
}

impl Spread<f32> {
    /// The number of a client.
    pub fn of(&self, drawing: Drawing, seed: u64, client: u32) -> f32 {
        let drawn = self.draw(drawing, seed, client, 0.0);
        drawn.map_or(self.most(), |number| number as f32)
    }
}

/// The values of a key that is a number of the domain `D`, or drawn between two of them.
pub struct Spreads<D>(PhantomData<D>);

impl<D> Domain for Spreads<D>
where
    D: Domain,
    D::Value: Copy + PartialOrd + Serialize + for<'de> Deserialize<'de>,
{
    type Value = Spread<D::Value>;
    const FORM: Form = D::FORM;

    fn parse(text: &str) -> Result<Self::Value, String> {
        let Some((low, high)) = text.split_once("..") else {
            return D::parse(text).map(Spread::All);
        };
        let ends = [D::parse(low)?, D::parse(high)?];
        let drawn = Spread::Drawn(Range::Uniform(ends));
        Self::check(&drawn).map_err(|(_, advice)| advice)?;
        Ok(drawn)
    }

    fn read<'de, R: Deserializer<'de>>(from: R) -> Result<Self::Value, R::Error> {
        let advice = "a number, { uniform = [1, 20] } or { log_uniform = [1, 20] }";
        Spread::deserialize(from).map_err(|_| R::Error::custom(format!("expected {advice}")))
    }

    fn check(value: &Self::Value) -> Result<(), (String, String)> {
        match value {
            Spread::All(value) => D::check(value),
            Spread::Drawn(range) => {
                let [low, high] = range.ends();
                D::check(&low)?;
                D::check(&high)?;
                let advice = "give the lower end of the range first";
                if low <= high {
                    Ok(())
                } else {
                    Err((String::new(), advice.to_owned()))
                }
            }
        }
    }

    fn values() -> String {
        format!(
            "{}, or drawn for each device: `{{ uniform = [a, b] }}`, `{{ log_uniform = [a, b] }}`; as a flag `a..b`",
            D::values()
        )
    }

    fn schema() -> Value {
        let number = D::schema();
        let ends = json!({"type": "array", "items": number, "minItems": 2, "maxItems": 2});
        let table = json!({
            "type": "object",
            "properties": {"uniform": ends, "log_uniform": ends},
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": false,
        });
        json!({ "anyOf": [number, table] })
    }

    fn show(value: &Self::Value) -> String {
        match value {
            Spread::All(value) => D::show(value),
            Spread::Drawn(range) => {
                let [low, high] = range.ends();
                format!("{}..{}", D::show(&low), D::show(&high))
            }
        }
    }
}

/// Whole numbers from 1, or a range of them.
pub type Counts = Spreads<Count>;

/// Step sizes, or a range of them.
pub type Rates = Spreads<Rate>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_a_range_is_drawn_and_no_other() {
        let spread = Counts::parse("2..5").unwrap();
        let mut counts = [0; 8];
        for client in 0..4000 {
            counts[spread.of(Drawing::Epochs, 1, client) as usize] += 1;
        }
        assert_eq!((counts[1], counts[6]), (0, 0));
        assert!(
            counts[2..6].iter().all(|&n: &i32| (n - 1000).abs() < 150),
            "{counts:?}"
        );
        let logarithmic = Spread::Drawn(Range::LogUniform([1, 1000]));
        let low = (0..3000).filter(|&client| logarithmic.of(Drawing::Epochs, 1, client) <= 10);
        assert!((900..1150).contains(&low.count()));
        let rates = Spread::Drawn(Range::Uniform([0.1, 0.2]));
        assert!((0..100).all(|client| (0.1..0.2001).contains(&rates.of(Drawing::Rate, 1, client))));
        assert_ne!(
            rates.of(Drawing::Rate, 1, 0),
            rates.of(Drawing::BatchSize, 1, 0)
        );
    }

    #[test]
    fn a_range_is_read_in_every_form_and_written() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct File {
            n: Spread<u32>,
        }
        let read = |text: &str| toml::from_str::<File>(text).unwrap();
        assert_eq!(read("n = 3").n, Spread::All(3));
        let drawn = read("n = { log_uniform = [1, 9] }");
        assert_eq!(drawn.n, Spread::Drawn(Range::LogUniform([1, 9])));
        assert_eq!(read(&toml::to_string(&drawn).unwrap()), drawn);
        assert!(Counts::parse("9..1").unwrap_err().contains("lower end"));
        assert!(Counts::parse("0..1").unwrap_err().contains("at least 1"));
        assert!(Rates::parse("0.1..x").is_err());
    }
}
