//! Rules that are chosen by name and take parameters: a table of a file, or a pair of flags.

use crate::Settings;
use crate::keys::domain::Domain;
use crate::keys::{Commands, Flag, Form};
use crate::refusal::Refusal;
use fl_data::{PARTITIONERS, Params, Partitioner};
use serde::de::{Deserialize, Deserializer, Error as _, Unexpected, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

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

/// A kind of rules to choose from.
pub trait RuleKind {
    /// The flag that sets a parameter.
    const ARG_FLAG: &'static str;
    /// Help for that flag.
    const ARG_DOC: &'static str;

    /// Names of the rules, each with a line of help; the first is the default.
    fn names() -> Vec<(&'static str, &'static str)>;

    /// Parameters of all rules: name, bounds, meaning.
    fn params() -> Vec<(&'static str, [f64; 2], &'static str)>;
}

/// The values of a key that chooses a rule: a table with its name and its parameters.
pub enum Rule<K> {
    #[doc(hidden)]
    _Never(std::convert::Infallible, PhantomData<K>),
}

impl<K: RuleKind> Domain for Rule<K> {
    type Value = RuleSettings;
    const FORM: Form = Form::Names(K::names);

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
        RuleSettings::deserialize(from)
    }

    fn values() -> String {
        let names: Vec<_> = K::names()
            .iter()
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        format!("table: `name` of {}, and its parameters", names.join(", "))
    }

    fn schema() -> Value {
        let names: Vec<_> = K::names().iter().map(|(name, _)| *name).collect();
        let mut properties = Map::from_iter([("name".to_owned(), json!({ "enum": names }))]);
        for (name, [min, max], doc) in K::params() {
            let number = json!({"type": "number", "minimum": min, "maximum": max});
            let values = json!({"description": doc, "anyOf": [number, {"type": "boolean"}]});
            properties.insert(name.to_owned(), values);
        }
        json!({"type": "object", "properties": properties, "additionalProperties": false})
    }

    fn show(value: &RuleSettings) -> String {
        value.name.clone().unwrap_or_default()
    }

    fn flags(
        long: &'static str,
        commands: Commands,
        heading: &'static str,
        set: fn(&mut Settings, &str) -> Result<(), String>,
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
        let argument = Flag {
            long: K::ARG_FLAG,
            doc: Some(K::ARG_DOC),
            form: Form::Texts("NAME=X"),
            check: |text| parse_arg(text).map(drop),
            ..name
        };
        vec![name, argument]
    }

    fn over(above: Option<RuleSettings>, below: Option<RuleSettings>) -> Option<RuleSettings> {
        match (above, below) {
            (Some(above), Some(below)) => Some(above.over(below)),
            (above, below) => above.or(below),
        }
    }
}

/// The partitioners.
pub enum Partitions {}

impl RuleKind for Partitions {
    const ARG_FLAG: &'static str = "partition-arg";
    const ARG_DOC: &'static str = "Parameter of --partition, as often as needed: alpha=0.1";

    fn names() -> Vec<(&'static str, &'static str)> {
        let rules = PARTITIONERS.iter();
        rules.map(|rule| (rule.name(), rule.doc())).collect()
    }

    fn params() -> Vec<(&'static str, [f64; 2], &'static str)> {
        let specs = PARTITIONERS.iter().flat_map(|rule| rule.params());
        specs
            .map(|spec| (spec.name, [spec.min, spec.max], spec.doc))
            .collect()
    }
}

/// A partitioner with the values of its parameters.
#[derive(Clone)]
pub struct Partitioning {
    /// The partitioner.
    pub rule: &'static dyn Partitioner,
    /// Values of its parameters.
    pub params: Params,
}

impl Partitioning {
    /// Looks up the partitioner asked for and checks its parameters.
    ///
    /// # Errors
    /// A [`Refusal`] if there is none of the name, or a parameter cannot be.
    pub(crate) fn resolve(asked: Option<&RuleSettings>) -> Result<Self, Refusal> {
        let usual = RuleSettings::default();
        let asked = asked.unwrap_or(&usual);
        let rule = match &asked.name {
            None => PARTITIONERS[0],
            Some(name) => fl_data::partitioner(name).ok_or_else(|| {
                let names: Vec<_> = PARTITIONERS.iter().map(|rule| rule.name()).collect();
                Refusal(format!(
                    "there is no partition `{name}`: take {}",
                    names.join(" or ")
                ))
            })?,
        };
        let mut params = Params::defaults(rule.params());
        for (name, Number(value)) in &asked.params {
            let set = params.set(name, *value);
            set.map_err(|problem| Refusal(format!("partition {}: {problem}", rule.name())))?;
        }
        Ok(Self { rule, params })
    }
}

/// For people: `dirichlet (alpha 0.5, min_partition_size 10, self_balancing 1)`.
impl fmt::Display for Partitioning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let params = self.params.iter();
        show(
            f,
            self.rule.name(),
            params.map(|(spec, value)| (spec.name, value)),
        )
    }
}

impl fmt::Debug for Partitioning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Partitioning {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let params = self.params.iter();
        let params = params.map(|(spec, value)| (spec.name, spec.whole, value));
        write_table(to, self.rule.name(), params)
    }
}

/// Shows a rule as its name and, in brackets, its parameters.
pub(crate) fn show<V: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    params: impl Iterator<Item = (&'static str, V)>,
) -> fmt::Result {
    f.write_str(name)?;
    let params = params.map(|(name, value)| format!("{name} {value}"));
    let params: Vec<_> = params.collect();
    if params.is_empty() {
        return Ok(());
    }
    write!(f, " ({})", params.join(", "))
}

/// Writes the table of a rule: its name, and each parameter with whether it is a whole number.
pub(crate) fn write_table<S: Serializer>(
    to: S,
    name: &str,
    params: impl Iterator<Item = (&'static str, bool, f64)>,
) -> Result<S::Ok, S::Error> {
    let mut table = to.serialize_map(None)?;
    table.serialize_entry("name", name)?;
    for (name, whole, value) in params {
        if whole {
            table.serialize_entry(name, &(value as i64))?;
        } else {
            table.serialize_entry(name, &value)?;
        }
    }
    table.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> RuleSettings {
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
            "there is no partition `shards`: take iid or dirichlet"
        );
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
