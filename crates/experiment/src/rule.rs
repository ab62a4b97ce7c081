//! Rules that are chosen by name and take parameters: a name or a table of a file, or a pair of flags.

use crate::Settings;
use crate::keys::domain::Domain;
use crate::keys::{Commands, Flag, Form};
use crate::refusal::Refusal;
use fl_param::{ParamError, ParamSpec};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Unexpected, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use zfl_schema::nearest;

mod declared;
mod kinds;
mod optimizers;
mod privacies;
mod schedules;

pub use kinds::{Attacking, PartitionChoice, Partitioning, Selecting, Strategy};
pub use optimizers::{OptimizerChoice, Optimizing};
pub use privacies::{Hiding, PrivacyChoice};
pub use schedules::{ScheduleChoice, Scheduling};

/// Name and parameters of a rule as asked for: `[partition]` of a file, `--partition` and
/// `--partition-arg`.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
pub struct RuleSettings {
    /// The rule; unless one is given, the default of its kind.
    pub name: Option<String>,
    /// Its parameters.
    #[serde(flatten)]
    pub params: BTreeMap<String, Number>,
}

/// A number; `true` and `false` are 1 and 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number(pub f64);

impl RuleSettings {
    /// Lays these, which are flags, over what a file says. Parameters of another rule are left out.
    pub fn over(self, mut file: Self) -> Self {
        if self.name.is_some() && self.name != file.name {
            file.params.clear();
        }
        file.params.extend(self.params);
        Self {
            name: self.name.or(file.name),
            params: file.params,
        }
    }
}

/// Reads `name=value`, as a flag has it.
///
/// # Errors
/// Advice for people.
pub fn parse_arg(text: &str) -> Result<(String, Number), String> {
    let advice = || "give a parameter and its number, such as alpha=0.5".to_owned();
    let (name, value) = text.split_once('=').ok_or_else(advice)?;
    let value = match value.trim() {
        "true" => 1.0,
        "false" => 0.0,
        number => number.parse().map_err(|_| advice())?,
    };
    match name.trim() {
        "" => Err(advice()),
        name => Ok((name.to_owned(), Number(value))),
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Numbers;
        impl Visitor<'_> for Numbers {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or true or false")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Number, E> {
                Ok(Number(f64::from(u8::from(value))))
            }

            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Number, E> {
                let small = i32::try_from(value);
                let refused = |_| E::invalid_value(Unexpected::Signed(value), &"a smaller number");
                small.map(|value| Number(value.into())).map_err(refused)
            }

            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Number, E> {
                let signed = i64::try_from(value);
                signed
                    .map_err(E::custom)
                    .and_then(|value| self.visit_i64(value))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
                Ok(Number(value))
            }
        }
        from.deserialize_any(Numbers).map_err(D::Error::custom)
    }
}

/// A kind of rules to choose from; a value is one of them with the values of its parameters.
pub trait RuleKind: Clone + Sized {
    /// The kind in a sentence, as the key has it.
    const KIND: &'static str;

    /// The flag that sets a parameter, and help for it, if flags choose the rule.
    const ARG: Option<(&'static str, &'static str)> = None;

    /// All rules, with the defaults of their parameters.
    fn all() -> Vec<Self>;

    /// The rule unless one is named.
    fn usual() -> Option<Self> {
        Self::all().into_iter().next()
    }

    /// Its name.
    fn name(&self) -> &'static str;

    /// A line of help.
    fn doc(&self) -> &'static str;

    /// Its parameters with their values.
    fn values(&self) -> Vec<(&'static ParamSpec, f64)>;

    /// Sets a parameter.
    ///
    /// # Errors
    /// [`ParamError`]; nothing has changed then.
    fn set(&mut self, name: &str, value: f64) -> Result<(), ParamError>;
}

/// The values of a key that chooses a rule: its name, or a table with its name and its parameters.
pub enum Rule<K> {
    #[doc(hidden)]
    _Never(std::convert::Infallible, PhantomData<K>),
}

impl<K: RuleKind> Domain for Rule<K> {
    type Value = RuleSettings;
    const FORM: Form = Form::Names(|| {
        K::all()
            .iter()
            .map(|rule| (rule.name(), rule.doc()))
            .collect()
    });

    fn parse(text: &str) -> Result<RuleSettings, String> {
        let mut said = RuleSettings::default();
        if text.contains('=') {
            said.params.extend([parse_arg(text)?]);
        } else {
            said.name = Some(text.to_owned());
        }
        Ok(said)
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<RuleSettings, D::Error> {
        struct NameOrTable;
        impl<'de> Visitor<'de> for NameOrTable {
            type Value = RuleSettings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name, or a table with a name and parameters")
            }

            fn visit_str<E>(self, name: &str) -> Result<RuleSettings, E> {
                Ok(RuleSettings {
                    name: Some(name.to_owned()),
                    ..RuleSettings::default()
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RuleSettings, A::Error> {
                RuleSettings::deserialize(MapAccessDeserializer::new(map))
            }
        }
        from.deserialize_any(NameOrTable)
    }

    fn check(value: &RuleSettings) -> Result<(), (String, String)> {
        let mut chosen = Chosen::<K>::named(value.name.as_deref())
            .map_err(|Refusal(problem)| (String::new(), problem))?;
        value.params.iter().try_for_each(|(name, Number(number))| {
            let set = chosen.0.set(name, *number);
            set.map_err(|problem| (format!(".{name}"), chosen.refused(name, problem).0))
        })
    }

    fn values() -> String {
        let names: Vec<_> = K::all()
            .iter()
            .map(|rule| format!("`{}`", rule.name()))
            .collect();
        format!(
            "{}; with parameters a table of `name` and these",
            names.join(", ")
        )
    }

    fn schema() -> Value {
        let rules = K::all();
        let names: Vec<_> = rules.iter().map(RuleKind::name).collect();
        let names = json!({ "enum": names });
        let mut properties = Map::from_iter([("name".to_owned(), names.clone())]);
        let all: Vec<_> = rules.iter().flat_map(RuleKind::values).collect();
        for (spec, _) in &all {
            // Rules may bound a name differently: the one that is chosen checks its own bounds.
            let alike = all.iter().filter(|(other, _)| other.name == spec.name);
            let bounds = alike.map(|(other, _)| (other.min, other.max));
            let (min, max) = bounds.fold((spec.min, spec.max), |(low, high), (min, max)| {
                (low.min(min), high.max(max))
            });
            let number = json!({"type": "number", "minimum": min, "maximum": max});
            let values = json!({"description": spec.doc, "anyOf": [number, {"type": "boolean"}]});
            properties.insert(spec.name.to_owned(), values);
        }
        let table =
            json!({"type": "object", "properties": properties, "additionalProperties": false});
        json!({ "anyOf": [names, table] })
    }

    fn show(value: &RuleSettings) -> String {
        value.name.clone().unwrap_or_default()
    }

    fn flags(
        long: &'static str,
        commands: Commands,
        heading: &'static str,
        set: fn(&mut Settings, &OsStr) -> Result<(), String>,
    ) -> Vec<Flag> {
        let name = Flag {
            long,
            commands,
            heading,
            doc: None,
            form: Self::FORM,
            check: |_| Ok(()),
            set,
        };
        let argument = K::ARG.map(|(long, doc)| Flag {
            long,
            doc: Some(doc),
            form: Form::Texts("NAME=X"),
            // What is no text is no parameter, either.
            check: |text| parse_arg(text.to_str().unwrap_or_default()).map(drop),
            ..name
        });
        [name].into_iter().chain(argument).collect()
    }

    fn over(above: Option<RuleSettings>, below: Option<RuleSettings>) -> Option<RuleSettings> {
        match (above, below) {
            (Some(above), Some(below)) => Some(above.over(below)),
            (above, below) => above.or(below),
        }
    }
}

/// The rule of a kind that was chosen, with the values of its parameters.
#[derive(Clone, Copy)]
pub struct Chosen<K>(pub K);

impl<K: RuleKind> Chosen<K> {
    /// Looks up the rule asked for and checks its parameters.
    ///
    /// # Errors
    /// A [`Refusal`] if there is none of the name, or a parameter cannot be.
    pub(crate) fn resolve(asked: Option<&RuleSettings>) -> Result<Self, Refusal> {
        let usual = RuleSettings::default();
        let asked = asked.unwrap_or(&usual);
        let mut chosen = Self::named(asked.name.as_deref())?;
        for (name, Number(value)) in &asked.params {
            let set = chosen.0.set(name, *value);
            set.map_err(|problem| chosen.refused(name, problem))?;
        }
        Ok(chosen)
    }

    fn named(name: Option<&str>) -> Result<Self, Refusal> {
        let mut all = K::all().into_iter();
        let names: Vec<_> = K::all().iter().map(K::name).collect();
        let found = match name {
            None => K::usual()
                .ok_or_else(|| format!("{} has no name: take {}", K::KIND, names.join(" or "))),
            Some(name) => all
                .find(|rule| rule.name() == name)
                .ok_or_else(|| format!("there is no {} {}", K::KIND, unknown(name, &names))),
        };
        found.map(Self).map_err(Refusal)
    }

    fn refused(&self, name: &str, problem: ParamError) -> Refusal {
        let names: Vec<_> = self.0.values().iter().map(|(spec, _)| spec.name).collect();
        let why = match problem {
            ParamError::Unknown if names.is_empty() => {
                format!("it has no parameters, and so no `{name}`")
            }
            ParamError::Unknown => format!("there is no {}", unknown(name, &names)),
            problem => problem.to_string(),
        };
        Refusal(format!("{} {}: {why}", K::KIND, self.0.name()))
    }
}

/// A name that is unknown, and the one that is meant or all that there are.
fn unknown(name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(meant) => format!("`{name}`: did you mean `{meant}`?"),
        None => format!("`{name}`: take {}", known.join(" or ")),
    }
}

impl<K> From<K> for Chosen<K> {
    fn from(rule: K) -> Self {
        Self(rule)
    }
}

impl<K> Deref for Chosen<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.0
    }
}

/// For people: the name and, in brackets, the parameters: `fedprox (proximal_mu 0.1)`.
impl<K: RuleKind> fmt::Display for Chosen<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())?;
        let values = self.0.values();
        let params = values
            .iter()
            .map(|(spec, value)| format!("{} {value}", spec.name));
        match params.collect::<Vec<_>>() {
            params if params.is_empty() => Ok(()),
            params => write!(f, " ({})", params.join(", ")),
        }
    }
}

impl<K: RuleKind> fmt::Debug for Chosen<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The table of a file: the name, and every parameter.
impl<K: RuleKind> Serialize for Chosen<K> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut table = to.serialize_map(None)?;
        table.serialize_entry("name", self.0.name())?;
        for (spec, value) in self.0.values() {
            if spec.whole {
                table.serialize_entry(spec.name, &(value as i64))?;
            } else {
                table.serialize_entry(spec.name, &value)?;
            }
        }
        table.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn asked(text: &str) -> RuleSettings {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_table_is_read_and_written() {
        let text =
            "name = \"dirichlet\"\nalpha = 1\nmin_partition_size = 3\nself_balancing = false\n";
        let partitioning = Partitioning::resolve(Some(&asked(text))).unwrap();
        let written = toml::to_string(&partitioning).unwrap();
        assert_eq!(
            written,
            "name = \"dirichlet\"\nalpha = 1.0\nmin_partition_size = 3\nself_balancing = 0\n"
        );
        let again = Partitioning::resolve(Some(&asked(&written))).unwrap();
        assert_eq!(again.to_string(), partitioning.to_string());
        let usual = Partitioning::resolve(None).unwrap();
        assert_eq!(usual.to_string(), "iid");
    }

    #[test]
    fn flags_go_first_and_another_rule_starts_from_its_defaults() {
        let file = || asked("name = \"dirichlet\"\nalpha = 2.0\nself_balancing = 0");
        let arg = |text| RuleSettings {
            params: BTreeMap::from([parse_arg(text).unwrap()]),
            ..RuleSettings::default()
        };
        let both = arg("alpha=0.1").over(file());
        assert_eq!(
            both,
            asked("name = \"dirichlet\"\nalpha = 0.1\nself_balancing = 0")
        );
        let named = |name: &str| RuleSettings {
            name: Some(name.into()),
            ..RuleSettings::default()
        };
        assert_eq!(named("iid").over(file()), named("iid"));
        assert_eq!(named("dirichlet").over(file()), file());
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        let refused = |text| Partitioning::resolve(Some(&asked(text))).unwrap_err().0;
        let text = refused("name = \"shards\"");
        assert_eq!(
            text,
            "there is no partition `shards`: did you mean `shard`?"
        );
        let text = refused("name = \"by-hand\"");
        assert!(text.contains("take iid or dirichlet or"), "{text}");
        let text = refused("name = \"dirichlet\"\nbeta = 1");
        assert!(text.contains("there is no `beta`: take alpha or"), "{text}");
        assert!(refused("alpha = 1").contains("no parameters"));
        assert!(toml::from_str::<RuleSettings>("alpha = \"much\"").is_err());
        for text in ["alpha", "alpha=", "=1", "alpha=much"] {
            assert!(parse_arg(text).unwrap_err().contains("alpha=0.5"), "{text}");
        }
        assert_eq!(parse_arg("on=true").unwrap(), ("on".into(), Number(1.0)));
    }
}
