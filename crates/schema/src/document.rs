//! A file as a tree of values, each with its place.

use crate::check;
use crate::mistake::Mistake;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Most tables and lists within each other; no schema has as many.
const DEPTH: usize = 32;

/// A file that can be read.
#[derive(Debug)]
pub struct Document<'a> {
    text: &'a str,
    root: Item,
}

/// A value and its place.
#[derive(Debug)]
pub(crate) struct Item {
    pub at: Range<usize>,
    pub node: Node,
}

/// A value.
#[derive(Debug)]
pub(crate) enum Node {
    Table(Vec<Key>),
    List(Vec<Item>),
    Text(String),
    /// Beyond 128 bits it is none.
    Whole(Option<i128>),
    Real(f64),
    Switch,
    /// A date or a null, which no key takes.
    Other(&'static str),
}

/// A key, its place, and its value.
#[derive(Debug)]
pub(crate) struct Key {
    pub name: String,
    pub at: Range<usize>,
    pub item: Item,
}

impl<'a> Document<'a> {
    /// Reads the form of a TOML file.
    ///
    /// # Errors
    /// The [`Mistake`], if it has none.
    pub fn toml(text: &'a str) -> Result<Self, Mistake> {
        let table = DeTable::parse(text).map_err(|error| syntax(text, &error))?;
        let at = 0..0;
        Ok(Self {
            text,
            root: Item {
                at,
                node: of_table(table.get_ref()),
            },
        })
    }

    /// Reads the form of a JSON file.
    ///
    /// # Errors
    /// The [`Mistake`], if it has none.
    pub fn json(text: &'a str) -> Result<Self, Mistake> {
        let raw: &RawValue = serde_json::from_str(text).map_err(|error| {
            let lines = text
                .split_inclusive('\n')
                .take(error.line().saturating_sub(1));
            let at = lines.map(str::len).sum::<usize>() + error.column().saturating_sub(1);
            Mistake::new(
                text,
                &(at..at),
                "this is no JSON: a bracket, a comma or a quote is wrong here or before",
            )
        })?;
        Ok(Self {
            text,
            root: of_json(text, raw, DEPTH),
        })
    }

    /// Holds it against a schema.
    ///
    /// # Errors
    /// The first [`Mistake`].
    pub fn check(&self, schema: &serde_json::Value) -> Result<(), Mistake> {
        let found = check::check(schema, &self.root, self.text);
        found.map_err(|(at, problem)| Mistake::new(self.text, &at, problem))
    }

    /// Reads the values of a TOML file that has been checked.
    ///
    /// # Errors
    /// A [`Mistake`] that the schema let through.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Mistake> {
        toml::from_str(self.text).map_err(|error| syntax(self.text, &error))
    }

    /// Holds the value of a path, such as `fleet.0.loss`, against a schema of its own.
    ///
    /// # Errors
    /// The first [`Mistake`].
    pub fn check_at(&self, path: &str, schema: &serde_json::Value) -> Result<(), Mistake> {
        let (_, item, _) = self.find(path);
        let name = path.rsplit('.').next().unwrap_or(path);
        let found = check::check_one(schema, &format!("`{name}`"), item, self.text);
        found.map_err(|(at, problem)| Mistake::new(self.text, &at, problem))
    }

    /// Tells whether there is a value of this path.
    pub fn has(&self, path: &str) -> bool {
        self.find(path).2.is_empty()
    }

    /// A mistake at the value of this path, or as near to it as there is something.
    pub fn mistake(&self, path: &str, problem: impl Into<String>) -> Mistake {
        Mistake::new(self.text, &self.find(path).0, problem)
    }

    /// The place and value of a path, or of the last of those that it leads through, and what is left of it. A key
    /// that has dots in its name is found as well.
    fn find<'p>(&self, path: &'p str) -> (Range<usize>, &Item, &'p str) {
        let (mut item, mut at, mut rest) = (&self.root, self.root.at.clone(), path);
        while !rest.is_empty() {
            let Some((place, next, after)) = step(&item.node, rest) else {
                break;
            };
            (item, rest) = (next, after);
            at = match item.node {
                Node::Table(_) | Node::List(_) => place.clone(),
                _ => item.at.clone(),
            };
        }
        (at, item, rest)
    }
}

/// The place and value of the first step of a path, and the steps after it.
fn step<'a, 'p>(node: &'a Node, path: &'p str) -> Option<(&'a Range<usize>, &'a Item, &'p str)> {
    let ends = path.match_indices('.').map(|(at, _)| at);
    let ends = ends.chain([path.len()]);
    let after = |end: usize| path[end..].strip_prefix('.').unwrap_or_default();
    match node {
        Node::Table(keys) => ends.into_iter().find_map(|end| {
            let key = keys.iter().find(|key| key.name == path[..end])?;
            Some((&key.at, &key.item, after(end)))
        }),
        Node::List(items) => {
            let end = path.find('.').unwrap_or(path.len());
            let item = items.get(path[..end].parse::<usize>().ok()?)?;
            Some((&item.at, item, after(end)))
        }
        _ => None,
    }
}

fn syntax(text: &str, error: &toml::de::Error) -> Mistake {
    Mistake::new(text, &error.span().unwrap_or(0..0), error.message())
}

fn of_table(table: &DeTable<'_>) -> Node {
    let mut keys: Vec<_> = table
        .iter()
        .map(|(name, value)| Key {
            name: name.get_ref().to_string(),
            at: name.span(),
            item: of_value(value, name.span()),
        })
        .collect();
    // The first mistake is the first in the file.
    keys.sort_by_key(|key| key.at.start);
    Node::Table(keys)
}

/// A value; a table that only dotted keys make has the place of its name.
fn of_value(value: &Spanned<DeValue<'_>>, name: Range<usize>) -> Item {
    let at = if value.span().is_empty() {
        name
    } else {
        value.span()
    };
    let node = match value.get_ref() {
        DeValue::String(text) => Node::Text(text.to_string()),
        DeValue::Integer(number) => {
            Node::Whole(i128::from_str_radix(number.as_str(), number.radix()).ok())
        }
        DeValue::Float(number) => Node::Real(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(_) => Node::Switch,
        DeValue::Datetime(_) => Node::Other("a date"),
        DeValue::Array(items) => Node::List(
            items
                .iter()
                .map(|item| of_value(item, at.clone()))
                .collect(),
        ),
        DeValue::Table(table) => of_table(table),
    };
    Item { at, node }
}

fn of_json(text: &str, raw: &RawValue, depth: usize) -> Item {
    let value = raw.get();
    // It is a piece of the text.
    let start = (value.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let at = start..start + value.len();
    let node = match value.as_bytes().first() {
        Some(b'{' | b'[') if depth == 0 => None,
        Some(b'{') => serde_json::from_str::<BTreeMap<String, &RawValue>>(value)
            .ok()
            .map(|table| {
                let mut keys: Vec<_> = table
                    .into_iter()
                    .map(|(name, raw)| {
                        let item = of_json(text, raw, depth - 1);
                        Key {
                            name,
                            at: item.at.clone(),
                            item,
                        }
                    })
                    .collect();
                keys.sort_by_key(|key| key.at.start);
                Node::Table(keys)
            }),
        Some(b'[') => {
            let items = serde_json::from_str::<Vec<&RawValue>>(value).ok();
            items.map(|items| {
                Node::List(
                    items
                        .into_iter()
                        .map(|item| of_json(text, item, depth - 1))
                        .collect(),
                )
            })
        }
        Some(b'"') => serde_json::from_str(value).ok().map(Node::Text),
        Some(b't' | b'f') => Some(Node::Switch),
        Some(b'n') => Some(Node::Other("null")),
        _ => match value.parse() {
            Ok(number) => Some(Node::Whole(Some(number))),
            Err(_) => value.parse().ok().map(Node::Real),
        },
    };
    Item {
        at,
        node: node.unwrap_or(Node::Other("nested too deep")),
    }
}
