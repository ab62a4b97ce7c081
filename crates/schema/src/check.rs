//! Holding values against a schema.

use crate::document::{Item, Key, Node};
use crate::suggest::nearest;
use crate::words::{allowed, hint, shown};
use serde_json::{Map, Value};
use std::ops::Range;

/// Place and words of a mistake.
type Found = (Range<usize>, String);

/// A file that is checked.
struct Check<'a> {
    text: &'a str,
    /// The schema of the whole file, to tell where a key belongs.
    whole: &'a Value,
}

/// Holds a file against its schema.
pub(crate) fn check(schema: &Value, root: &Item, text: &str) -> Result<(), Found> {
    let check = Check {
        text,
        whole: schema,
    };
    check.value(schema, "the file", root)
}

/// Holds one value of a file, of this name, against its schema.
pub(crate) fn check_one(schema: &Value, name: &str, item: &Item, text: &str) -> Result<(), Found> {
    let whole = schema;
    Check { text, whole }.value(schema, name, item)
}

impl Check<'_> {
    fn value(&self, schema: &Value, name: &str, item: &Item) -> Result<(), Found> {
        if let Some(names) = schema.get("enum").and_then(Value::as_array) {
            return self.one_of(names, schema, name, item);
        }
        if schema.get("type").is_none() {
            return self.any_of(schema, name, item);
        }
        let kind = schema
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        match (kind, &item.node) {
            ("object", Node::Table(keys)) => {
                self.table(schema, name, keys, item)?;
                match schema.get("anyOf") {
                    Some(_) => self.any_of(schema, name, item),
                    None => Ok(()),
                }
            }
            ("array", Node::List(items)) => {
                let each = &schema["items"];
                items
                    .iter()
                    .try_for_each(|item| self.value(each, &format!("an item of {name}"), item))
            }
            ("string", Node::Text(_)) | ("boolean", Node::Switch) => Ok(()),
            ("integer", Node::Whole(Some(number))) if is_within(schema, *number as f64) => Ok(()),
            ("number", Node::Whole(Some(number))) if is_within(schema, *number as f64) => Ok(()),
            ("number", Node::Real(number)) if is_within(schema, *number) => Ok(()),
            _ => Err(self.wrong(schema, name, item)),
        }
    }

    /// Words for a value that is not allowed.
    fn wrong(&self, schema: &Value, name: &str, item: &Item) -> Found {
        let is_number = matches!(
            schema.get("type").and_then(Value::as_str),
            Some("integer" | "number")
        );
        let hint = if is_number { hint(item) } else { None };
        let (found, allowed) = (shown(item, self.text), allowed(schema));
        (
            item.at.clone(),
            format!(
                "{name} is {found}: give {allowed}{}",
                hint.unwrap_or_default()
            ),
        )
    }

    fn one_of(
        &self,
        names: &[Value],
        schema: &Value,
        name: &str,
        item: &Item,
    ) -> Result<(), Found> {
        let Node::Text(text) = &item.node else {
            return Err(self.wrong(schema, name, item));
        };
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        if names.contains(&&**text) {
            return Ok(());
        }
        let lower = text.to_lowercase();
        let (found, allowed) = (shown(item, self.text), allowed(schema));
        let meant = nearest(&lower, &names)
            .map_or(String::new(), |meant| format!("did you mean \"{meant}\"? "));
        Err((
            item.at.clone(),
            format!("{name} is {found}: {meant}give {allowed}"),
        ))
    }

    /// One of several forms: mistakes are told of the one that is meant.
    fn any_of(&self, schema: &Value, name: &str, item: &Item) -> Result<(), Found> {
        let Some(forms) = schema.get("anyOf").and_then(Value::as_array) else {
            return Ok(());
        };
        if forms
            .iter()
            .any(|form| self.value(form, name, item).is_ok())
        {
            return Ok(());
        }
        let mut alike = forms.iter().filter(|form| is_alike(form, item));
        let meant = alike.clone().find(|form| has_its_names(form, item));
        match meant.or_else(|| alike.next()) {
            Some(form) => self.value(form, name, item),
            None => Err(self.wrong(schema, name, item)),
        }
    }

    fn table(&self, schema: &Value, name: &str, keys: &[Key], item: &Item) -> Result<(), Found> {
        let none = Map::new();
        let known = schema
            .get("properties")
            .and_then(Value::as_object)
            .unwrap_or(&none);
        for key in keys {
            match (known.get(&key.name), schema.get("additionalProperties")) {
                (Some(schema), _) => self.value(schema, &format!("`{}`", key.name), &key.item)?,
                (None, Some(Value::Bool(false))) => return Err(self.unknown(known, schema, key)),
                (None, Some(others @ Value::Object(_))) => {
                    self.value(others, &format!("`{}`", key.name), &key.item)?;
                }
                (None, _) => {}
            }
        }
        let required = schema.get("required").and_then(Value::as_array);
        let required = required.into_iter().flatten().filter_map(Value::as_str);
        let mut missing = required.filter(|needed| !keys.iter().any(|key| key.name == *needed));
        missing.next().map_or(Ok(()), |needed| {
            let form = known
                .get(needed)
                .map_or_else(String::new, |schema| format!(", {}", allowed(schema)));
            let problem = format!("`{needed}` is missing in {name}: give {needed}{form}");
            Err((item.at.clone(), problem))
        })
    }

    fn unknown(&self, known: &Map<String, Value>, here: &Value, key: &Key) -> Found {
        let name = key.name.escape_debug();
        let names: Vec<&str> = known.keys().map(String::as_str).collect();
        let hint = match nearest(&key.name, &names) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => self.belongs(here, &key.name).unwrap_or_else(|| {
                let listed = names.join(", ");
                match names.len() {
                    0..=16 => format!("take {listed}"),
                    _ => "`zfl schema` and experiments/README.md have them all".to_owned(),
                }
            }),
        };
        (
            key.at.clone(),
            format!("there is no key `{name}` here: {hint}"),
        )
    }

    /// The part of the file in which a key is known.
    fn belongs(&self, here: &Value, name: &str) -> Option<String> {
        let top = self.whole.get("properties")?.as_object()?;
        if top.contains_key(name) && here != self.whole {
            return Some(format!(
                "`{name}` belongs to the top of the file, above the first [table]"
            ));
        }
        top.iter().find_map(|(table, schema)| {
            let is_list = schema.get("items").is_some();
            let inner = schema.get("items").unwrap_or(schema).get("properties")?;
            let head = if is_list {
                format!("[[{table}]]")
            } else {
                format!("[{table}]")
            };
            inner
                .get(name)
                .map(|_| format!("`{name}` belongs to {head}"))
        })
    }
}

fn is_within(schema: &Value, number: f64) -> bool {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    !number.is_nan()
        && bound("minimum").is_none_or(|least| number >= least)
        && bound("exclusiveMinimum").is_none_or(|below| number > below)
        && bound("maximum").is_none_or(|most| number <= most)
}

/// Tells whether a form is of the kind of a value.
fn is_alike(form: &Value, item: &Item) -> bool {
    let kind = form.get("type").and_then(Value::as_str);
    match &item.node {
        Node::Table(_) => kind == Some("object"),
        Node::Text(_) => form.get("enum").is_some() || kind == Some("string"),
        Node::List(_) => kind == Some("array"),
        _ => false,
    }
}

/// Tells whether the names in a table are among those that a form takes.
fn has_its_names(form: &Value, item: &Item) -> bool {
    let Node::Table(keys) = &item.node else {
        return true;
    };
    keys.iter().all(|key| {
        let names = form["properties"][&key.name]
            .get("enum")
            .and_then(Value::as_array);
        let Node::Text(text) = &key.item.node else {
            return true;
        };
        names.is_none_or(|names| names.iter().any(|name| name == text.as_str()))
    })
}
