//! Domains of keys: the values that a key takes, as text, in TOML, and as a JSON Schema.

use super::{Commands, Flag, Form};
use crate::Settings;
use crate::choice::Choice;
use crate::edges::EdgeTree;
use crate::values;
use serde::de::{DeserializeSeed, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::path::PathBuf;

/// The values that a key takes.
pub trait Domain {
    /// A value.
    type Value: Clone + Debug;

    /// The form of a flag's value.
    const FORM: Form;

    /// Reads a flag's value.
    ///
    /// # Errors
    /// Advice: the value to give instead.
    fn parse(text: &str) -> Result<Self::Value, String>;

    /// Reads a flag's value that need not be text.
    ///
    /// # Errors
    /// As of [`Domain::parse`].
    fn parse_os(text: &OsStr) -> Result<Self::Value, String> {
        Self::parse(
            text.to_str()
                .ok_or("this is not UTF-8: give another name")?,
        )
    }

    /// Reads a value of a file, whose type is right and whose bounds may not be.
    ///
    /// # Errors
    /// The deserializer's.
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self::Value, D::Error>;

    /// Checks the bounds of a value of a file.
    ///
    /// # Errors
    /// Path below the key, mostly empty, and advice: the value to give instead.
    fn check(_value: &Self::Value) -> Result<(), (String, String)> {
        Ok(())
    }

    /// The values, for people.
    fn values() -> String;

    /// The values, as a JSON Schema.
    fn schema() -> Value;

    /// A value as a file has it.
    fn show(value: &Self::Value) -> String;

    /// The flags of a key, given what a value of it does.
    fn flags(
        long: &'static str,
        commands: Commands,
        heading: &'static str,
        set: fn(&mut Settings, &OsStr) -> Result<(), String>,
    ) -> Vec<Flag> {
        vec![Flag {
            long,
            commands,
            heading,
            doc: None,
            form: Self::FORM,
            check: |text| Self::parse_os(text).map(drop),
            set,
        }]
    }

    /// Lays one value over another.
    fn over(above: Option<Self::Value>, below: Option<Self::Value>) -> Option<Self::Value> {
        above.or(below)
    }
}

/// Reads a value of a domain.
pub(crate) struct Seed<D>(PhantomData<D>);

impl<D> Seed<D> {
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<'de, D: Domain> DeserializeSeed<'de> for Seed<D> {
    type Value = D::Value;

    fn deserialize<R: Deserializer<'de>>(self, from: R) -> Result<D::Value, R::Error> {
        D::read(from)
    }
}

/// Domains of values that serde reads: name, type, form of a flag's value, the flag's reading, the check of
/// a file's value, words, schema.
macro_rules! domains {
    ($(
        $(#[$meta:meta])+
        $name:ident($Value:ty) $form:literal, $parse:expr,
        $holds:expr => $advice:literal, $values:literal, $schema:tt;
    )*) => {$(
        $(#[$meta])+
        pub enum $name {}

        impl Domain for $name {
            type Value = $Value;
            const FORM: Form = Form::Text($form);

            fn parse(text: &str) -> Result<$Value, String> {
                $parse(text)
            }

            fn read<'de, D: Deserializer<'de>>(from: D) -> Result<$Value, D::Error> {
                <$Value>::deserialize(from)
            }

            fn check(value: &$Value) -> Result<(), (String, String)> {
                let holds: fn(&$Value) -> bool = $holds;
                if holds(value) { Ok(()) } else { Err((String::new(), String::from($advice))) }
            }

            fn values() -> String {
                String::from($values)
            }

            fn schema() -> Value {
                json!($schema)
            }

            fn show(value: &$Value) -> String {
                shown(value)
            }
        }
    )*};
}

domains! {
    /// A number of things, at least one.
    Count(u32) "N", values::positive, |&n| n > 0 => "give at least 1",
        "whole number from 1", {"type": "integer", "minimum": 1, "maximum": u32::MAX};
    /// A number of things that may be none.
    Number(u32) "N", values::number, |_| true => "", "whole number",
        {"type": "integer", "minimum": 0, "maximum": u32::MAX};
    /// Edges, by level.
    Tree(EdgeTree) "N", EdgeTree::parse, |_| true => "", "whole number, or one a level: \"3x2\"",
        {"anyOf": [{"type": "integer", "minimum": 0, "maximum": u32::MAX},
            {"type": "string", "pattern": "^[1-9][0-9]*(x[1-9][0-9]*)*$"}]};
    /// The seed of all random streams.
    Seed64(u64) "N", values::seed, |_| true => "", "whole number",
        {"type": "integer", "minimum": 0, "maximum": i64::MAX};
    /// A step size.
    Rate(f32) "X", values::learning_rate, |rate| rate.is_finite() && *rate > 0.0 => "give a number above 0, such as 0.5",
        "number above 0", {"type": "number", "exclusiveMinimum": 0};
    /// A longest wait.
    Seconds(f64) "SECONDS", values::seconds, |s| *s > 0.0 && *s <= 86_400.0 => "give a number of seconds above 0 and up to 86400",
        "number above 0, up to 86400", {"type": "number", "exclusiveMinimum": 0, "maximum": 86_400};
    /// The watchdog's patience.
    Patience(f64) "SECONDS", values::patience, |s| values::is_patience(*s) => "give a number of seconds from 10 to 86400",
        "number from 10 to 86400", {"type": "number", "minimum": 10, "maximum": 86_400};
    /// A delay.
    Milliseconds(f64) "MS", values::milliseconds, |ms| (0.0..=60_000.0).contains(ms) => "give a number from 0 to 60000",
        "number from 0 to 60000", {"type": "number", "minimum": 0, "maximum": 60_000};
    /// A probability.
    Probability(f64) "P", values::probability, |p| (0.0..=1.0).contains(p) => "give a probability from 0 to 1",
        "number from 0 to 1", {"type": "number", "minimum": 0, "maximum": 1};
    /// A speed in million instructions a second; the machine decides which it can have.
    Mips(f64) "N", values::real, |_| true => "", "1000, 500, 250, 125, 62.5, 31.25 …",
        {"type": "number", "exclusiveMinimum": 0};
    /// The name of a run.
    RunName(String) "NAME", values::name, |name| values::name(name).is_ok() =>
        "take letters, digits, '-', '_' and '.', and no '.' in front", "name",
        {"type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]*$"};
    /// A name, or a path with a slash in it.
    Name(String) "NAME", values::text, |_| true => "", "name", {"type": "string"};
    /// Units of the hidden layers.
    Units(Vec<u32>) "N,…", values::units, |units| units.iter().all(|&units| units > 0) => "give at least 1 unit a layer",
        "list of whole numbers from 1",
        {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": u32::MAX}};
    /// Units of all layers.
    Layers(Vec<u32>) "N,…", values::units, |_| true => "", "list of whole numbers",
        {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": u32::MAX}};
}

/// A folder, whose name need not be text.
pub enum PathOf<const FILE: bool> {}

/// A folder.
pub type Folder = PathOf<false>;

/// A file.
pub type File = PathOf<true>;

impl<const FILE: bool> Domain for PathOf<FILE> {
    type Value = PathBuf;
    const FORM: Form = Form::Text(if FILE { "FILE" } else { "DIR" });

    fn parse(text: &str) -> Result<PathBuf, String> {
        Ok(text.into())
    }

    fn parse_os(text: &OsStr) -> Result<PathBuf, String> {
        Ok(text.into())
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        PathBuf::deserialize(from)
    }

    fn values() -> String {
        String::from("path")
    }

    fn schema() -> Value {
        json!({"type": "string"})
    }

    fn show(value: &PathBuf) -> String {
        shown(value)
    }
}

/// A value as TOML has it.
fn shown<T: serde::Serialize>(value: &T) -> String {
    let value = toml::Value::try_from(value).map(|value| value.to_string());
    let text = value.unwrap_or_default();
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

/// True or false; as a flag, that it is there.
pub enum Switch {}

impl Domain for Switch {
    type Value = bool;
    const FORM: Form = Form::Switch;

    fn parse(text: &str) -> Result<bool, String> {
        text.parse().map_err(|_| "give true or false".to_owned())
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
        bool::deserialize(from)
    }

    fn values() -> String {
        "true or false".to_owned()
    }

    fn schema() -> Value {
        json!({"type": "boolean"})
    }

    fn show(value: &bool) -> String {
        value.to_string()
    }
}

/// One of a list of names.
pub struct Named<C>(PhantomData<C>);

impl<C: Choice + Debug> Domain for Named<C> {
    type Value = C;
    const FORM: Form = Form::Names(|| C::ALL.iter().map(|&(_, name, help)| (name, help)).collect());

    fn parse(text: &str) -> Result<C, String> {
        C::named(text).ok_or_else(|| format!("give one of {}", C::NAMES.join(", ")))
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<C, D::Error> {
        let name = String::deserialize(from)?;
        C::named(&name).ok_or_else(|| D::Error::unknown_variant(&name, C::NAMES))
    }

    fn values() -> String {
        let names: Vec<_> = C::NAMES.iter().map(|name| format!("`{name}`")).collect();
        names.join(", ")
    }

    fn schema() -> Value {
        json!({ "enum": C::NAMES })
    }

    fn show(value: &C) -> String {
        format!("\"{}\"", value.name())
    }
}
