//! Files that people write (experiments, boards and links in TOML, traces in JSON): held against a schema, and
//! mistakes in them told with their line and column, in words about the file.
//!
//! The schema is a JSON Schema of a few words: `type`, `enum`, `minimum`, `exclusiveMinimum`, `maximum`, `items`,
//! `properties`, `required`, `additionalProperties`, `anyOf`. What it lets through is read by serde.
//!
//! # Invariants
//! No message has a type of the program or of a parser in it.

#![forbid(unsafe_code)]

mod check;
mod document;
mod mistake;
mod suggest;
mod words;

pub use document::Document;
pub use mistake::Mistake;
pub use suggest::nearest;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads TOML that follows a schema.
///
/// # Errors
/// The first [`Mistake`].
pub fn read<T: DeserializeOwned>(text: &str, schema: &Value) -> Result<T, Mistake> {
    let document = Document::toml(text)?;
    document.check(schema)?;
    document.read()
}
