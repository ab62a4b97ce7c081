//! The algorithm that a run chooses: `[strategy]` of a file, `--strategy` and `--strategy-arg`.

use crate::keys::nearest;
use crate::refusal::Refusal;
use crate::rule::{self, Number, RuleKind, RuleSettings};
use fl_algo::{ALGORITHMS, ParamError, ParamSpec, VectorSpec};
use serde::ser::{Serialize, Serializer};
use std::fmt;

/// The algorithms.
pub enum Strategies {}

impl RuleKind for Strategies {
    const ARG_FLAG: &'static str = "strategy-arg";
    const ARG_DOC: &'static str =
        "Parameter of --strategy, as often as needed: proximal_mu=0.1; `zfl schema` has them all";

    fn names() -> Vec<(&'static str, &'static str)> {
        let known = ALGORITHMS.iter();
        known.map(|known| (known.name, known.doc)).collect()
    }

    fn params() -> Vec<(&'static str, [f64; 2], &'static str)> {
        let all = ALGORITHMS.iter();
        let specs = all.flat_map(|known| known.device.params.iter().chain(known.params));
        let bounds = |spec: &ParamSpec| [spec.min.into(), spec.max.into()];
        specs
            .map(|spec| (spec.name, bounds(spec), spec.doc))
            .collect()
    }
}

/// An algorithm with the values of its parameters.
#[derive(Clone, Copy, Default)]
pub struct Strategy(pub fl_algo::Choice);

impl Strategy {
    /// Looks up the algorithm asked for and checks its parameters.
    ///
    /// # Errors
    /// A [`Refusal`] if there is none of the name, or a parameter cannot be.
    pub(crate) fn resolve(asked: Option<&RuleSettings>) -> Result<Self, Refusal> {
        let usual = RuleSettings::default();
        let asked = asked.unwrap_or(&usual);
        let mut choice = match &asked.name {
            None => fl_algo::Choice::default(),
            Some(name) => fl_algo::Choice::named(name).ok_or_else(|| {
                let names: Vec<_> = ALGORITHMS.iter().map(|known| known.name).collect();
                Refusal(format!("there is no strategy {}", unknown(name, &names)))
            })?,
        };
        for (name, Number(value)) in &asked.params {
            choice.set(name, *value as f32).map_err(|problem| {
                let names: Vec<_> = choice.specs().map(|spec| spec.name).collect();
                let why = match problem {
                    ParamError::Unknown if names.is_empty() => {
                        format!("it has no parameters, and so no `{name}`")
                    }
                    ParamError::Unknown => format!("there is no {}", unknown(name, &names)),
                    problem => problem.to_string(),
                };
                Refusal(format!("strategy {}: {why}", choice.algorithm.name))
            })?;
        }
        Ok(Self(choice))
    }

    /// Its name in a sentence.
    pub fn title(&self) -> String {
        if self.0.algorithm.name == fl_algo::Choice::default().algorithm.name {
            return "federated averaging".to_owned();
        }
        self.to_string()
    }

    /// Vectors that devices need for it beside the model.
    pub fn vectors(&self) -> &'static [VectorSpec] {
        let Self(choice) = self;
        let client = choice.algorithm.device.client;
        client.vectors(&choice.device_params)
    }

    /// Values of all parameters.
    fn values(&self) -> impl Iterator<Item = (&'static ParamSpec, f32)> + '_ {
        let Self(choice) = self;
        choice.device_params.iter().chain(choice.params.iter())
    }
}

/// A name that is unknown, and the one that is meant or all that there are.
fn unknown(name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(meant) => format!("`{name}`: did you mean `{meant}`?"),
        None => format!("`{name}`: take {}", known.join(" or ")),
    }
}

/// For people: `fedprox (proximal_mu 0.1)`.
impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.values().map(|(spec, value)| (spec.name, value));
        rule::show(f, self.0.algorithm.name, values)
    }
}

impl fmt::Debug for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Strategy {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let values = self.values();
        // By its shortest decimal, so that 0.1 is written as 0.1.
        let decimal = |value: f32| value.to_string().parse().unwrap_or(f64::from(value));
        let values = values.map(|(spec, value)| (spec.name, spec.whole, decimal(value)));
        rule::write_table(to, self.0.algorithm.name, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> RuleSettings {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_table_is_read_and_written() {
        let text = "name = \"fedprox\"\nproximal_mu = 0.1\n";
        let strategy = Strategy::resolve(Some(&asked(text))).unwrap();
        assert_eq!(toml::to_string(&strategy).unwrap(), text);
        assert_eq!(strategy.to_string(), "fedprox (proximal_mu 0.1)");
        let usual = Strategy::resolve(None).unwrap();
        assert_eq!(toml::to_string(&usual).unwrap(), "name = \"fedavg\"\n");
        let text = "name = \"fedbuff\"\nbuffer_size = 3\n";
        let strategy = Strategy::resolve(Some(&asked(text))).unwrap();
        let written = toml::to_string(&strategy).unwrap();
        assert!(written.contains("\nbuffer_size = 3\n"), "{written}");
        let again = Strategy::resolve(Some(&asked(&written))).unwrap();
        assert_eq!(again.to_string(), strategy.to_string());
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        let refused = |text| Strategy::resolve(Some(&asked(text))).unwrap_err().0;
        for (text, why) in [
            (
                "name = \"fedprocks\"",
                "there is no strategy `fedprocks`: did you mean `fedprox`?",
            ),
            (
                "name = \"x\"",
                "there is no strategy `x`: take fedavg or fedprox or scaffold or multi-krum or fedbuff",
            ),
            (
                "name = \"fedprox\"\nproximal_nu = 1",
                "strategy fedprox: there is no `proximal_nu`: did you mean `proximal_mu`?",
            ),
            (
                "name = \"fedprox\"\nproximal_mu = -1",
                "strategy fedprox: proximal_mu is -1, it must be from 0 to 1000000",
            ),
            (
                "name = \"fedbuff\"\nbuffer_size = 2.5",
                "strategy fedbuff: buffer_size is 2.5, it must be a whole number",
            ),
            (
                "mu = 1",
                "strategy fedavg: it has no parameters, and so no `mu`",
            ),
        ] {
            assert_eq!(refused(text), why);
        }
    }
}
