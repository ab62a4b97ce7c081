//! Random values of keys.

use fl_rng::{Pcg32, Purpose, derive_seed, fraction};
use serde_json::json;
use sha2::{Digest, Sha256};
use toml::Value;

/// Significant digits of a number that is drawn: more only make names longer.
const DIGITS: usize = 4;

/// A range that values are drawn from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Range {
    /// Numbers, all alike.
    Uniform { from: f64, to: f64, whole: bool },
    /// Numbers whose logarithms are all alike.
    LogUniform { from: f64, to: f64, whole: bool },
    /// One of these.
    Choice(Vec<Value>),
}

impl Range {
    /// Names of the kinds.
    const KINDS: [&str; 3] = ["uniform", "log_uniform", "choice"];

    /// Tells whether a value is meant as a range.
    pub fn is_one(value: &Value) -> bool {
        let table = value.as_table();
        table.is_some_and(|table| Self::KINDS.iter().any(|kind| table.contains_key(*kind)))
    }

    /// The schema of a range of a key.
    pub fn form(of: &serde_json::Value) -> serde_json::Value {
        let pair = json!({"type": "array", "items": {"type": "number"}});
        json!({
            "type": "object",
            "properties": {
                "uniform": pair,
                "log_uniform": pair,
                "choice": {"type": "array", "items": of},
                "whole": {"type": "boolean"},
            },
            "additionalProperties": false,
        })
    }

    /// Reads a range that has its form.
    ///
    /// # Errors
    /// Words for people, if there is no value in it.
    pub fn read(value: &Value, whole: bool) -> Result<Self, String> {
        let advice = "give one of uniform = [least, most], log_uniform = [least, most] and choice = [one, another]";
        let kinds: Vec<&str> = Self::KINDS
            .into_iter()
            .filter(|kind| value.get(kind).is_some())
            .collect();
        let [kind] = kinds[..] else {
            return Err(advice.to_owned());
        };
        let whole = value.get("whole").and_then(Value::as_bool).unwrap_or(whole);
        let values = value[kind].as_array().cloned().unwrap_or_default();
        if kind == "choice" {
            return match values.is_empty() {
                true => Err("the list is empty: give the values to choose from".to_owned()),
                false => Ok(Self::Choice(values)),
            };
        }
        let number = |value: &Value| {
            value
                .as_float()
                .or_else(|| Some(value.as_integer()? as f64))
        };
        let numbers: Vec<f64> = values.iter().filter_map(number).collect();
        match (kind, &numbers[..]) {
            ("uniform", &[from, to]) if from < to => Ok(Self::Uniform { from, to, whole }),
            ("log_uniform", &[from, to]) if 0.0 < from && from < to => {
                Ok(Self::LogUniform { from, to, whole })
            }
            ("log_uniform", [_, _]) => {
                Err("give two numbers above 0, the smaller one first".to_owned())
            }
            _ => Err("give two numbers, the smaller one first".to_owned()),
        }
    }

    /// The value of a key in a draw. It depends on these alone: not on other keys, nor on how many draws there are.
    pub fn draw(&self, seed: u64, key: &str, draw: u32) -> Value {
        let hash = Sha256::digest(key);
        let name = u64::from_le_bytes(std::array::from_fn(|at| hash[at]));
        let mut random = Pcg32::new(Purpose::Sweep, derive_seed(seed ^ name, draw, 0));
        let mut share =
            || fraction(u64::from(random.next_u32()) << 32 | u64::from(random.next_u32()));
        match self {
            Self::Uniform {
                from,
                to,
                whole: true,
            } => whole(from + share() * (to - from + 1.0), *to),
            Self::Uniform { from, to, .. } => rounded(from + share() * (to - from)),
            Self::LogUniform {
                from,
                to,
                whole: is_whole,
            } => {
                let number = (from.ln() + share() * (to.ln() - from.ln())).exp();
                match is_whole {
                    true => whole(number + 0.5, *to),
                    false => rounded(number),
                }
            }
            Self::Choice(values) => values[random.below(values.len() as u32) as usize].clone(),
        }
    }
}

fn whole(number: f64, most: f64) -> Value {
    Value::Integer(number.floor().min(most) as i64)
}

/// A number with so many digits that its name is short.
fn rounded(number: f64) -> Value {
    let text = format!("{number:.*e}", DIGITS - 1);
    Value::Float(text.parse().unwrap_or(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(text: &str) -> Result<Range, String> {
        let table: toml::Table = toml::from_str(&format!("x = {text}")).unwrap();
        Range::read(&table["x"], false)
    }

    #[test]
    fn a_range_with_nothing_in_it_is_refused() {
        for text in [
            "{ uniform = [1, 0] }",
            "{ uniform = [1] }",
            "{ log_uniform = [0, 1] }",
            "{ choice = [] }",
            "{ choice = [1], uniform = [0, 1] }",
            "{ whole = true }",
        ] {
            assert!(range(text).is_err(), "{text}");
        }
        let whole = Range::Uniform {
            from: 1.0,
            to: 3.0,
            whole: true,
        };
        assert_eq!(range("{ uniform = [1, 3], whole = true }"), Ok(whole));
    }

    #[test]
    fn every_whole_number_of_a_range_comes_both_ends_included() {
        let dice = range("{ uniform = [1, 6], whole = true }").unwrap();
        let mut seen: Vec<i64> = (0..200)
            .map(|draw| dice.draw(1, "x", draw).as_integer().unwrap())
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
    }

    proptest! {
        #[test]
        fn draws_stay_in_their_range_and_repeat(seed: u64, draw: u32, from in 1e-6..1e3, by in 1e-3..1e6) {
            let to = from + by;
            for range in [
                Range::Uniform { from, to, whole: false },
                Range::LogUniform { from, to, whole: false },
            ] {
                let one = range.draw(seed, "learning_rate", draw);
                prop_assert_eq!(&one, &range.draw(seed, "learning_rate", draw));
                let number = one.as_float().unwrap();
                // It is rounded to four digits.
                prop_assert!(number >= from * 0.999 && number <= to * 1.001, "{} of {:?}", number, range);
            }
        }
    }
}
