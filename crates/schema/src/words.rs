//! Values that a schema allows, and values of a file, in words for people.

use crate::document::{Item, Node};
use serde_json::Value;

/// The values that a schema allows: `a whole number from 1`.
pub(crate) fn allowed(schema: &Value) -> String {
    if let Some(names) = schema.get("enum").and_then(Value::as_array) {
        let names: Vec<String> = names.iter().map(Value::to_string).collect();
        return match &names[..] {
            [only] => only.clone(),
            names => format!("one of {}", names.join(", ")),
        };
    }
    if let Some(kinds) = schema.get("anyOf").and_then(Value::as_array) {
        let kinds: Vec<String> = kinds.iter().map(allowed).collect();
        return kinds.join(", or ");
    }
    match schema
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
    {
        "integer" => format!("a whole number{}", bounds(schema)),
        "number" => format!("a number{}", bounds(schema)),
        "string" => "a text in quotes".to_owned(),
        "boolean" => "true or false".to_owned(),
        "array" => format!("a list in brackets, each {}", allowed(&schema["items"])),
        "object" => "a table".to_owned(),
        _ => "another value".to_owned(),
    }
}

fn bounds(schema: &Value) -> String {
    let number = |name: &str| schema.get(name).and_then(Value::as_f64);
    // The bounds of the machine's numbers say nothing.
    let most = number("maximum").filter(|most| *most < f64::from(u32::MAX));
    match (number("minimum"), number("exclusiveMinimum"), most) {
        (Some(least), _, Some(most)) => format!(" from {least} to {most}"),
        (Some(least), _, None) => format!(" from {least}"),
        (None, Some(below), Some(most)) => format!(" above {below} and up to {most}"),
        (None, Some(below), None) => format!(" above {below}"),
        (None, None, Some(most)) => format!(" up to {most}"),
        (None, None, None) => String::new(),
    }
}

/// A value of a file: its own letters, if they are few.
pub(crate) fn shown(item: &Item, text: &str) -> String {
    let own = text.get(item.at.clone()).unwrap_or_default();
    let short = !own.is_empty() && own.len() <= 40 && !own.contains(char::is_control);
    match &item.node {
        Node::Table(_) => "a table".to_owned(),
        Node::List(_) if !short => "a list".to_owned(),
        Node::Text(_) if !short => "a text".to_owned(),
        Node::Other(kind) => (*kind).to_owned(),
        _ if !short => "out of bounds".to_owned(),
        _ => own.to_owned(),
    }
}

/// A hint for a text where a number belongs: `without quotes`, or a percentage as a share.
pub(crate) fn hint(item: &Item) -> Option<String> {
    let Node::Text(text) = &item.node else {
        return None;
    };
    if let Some(percents) = text.strip_suffix('%') {
        let share = percents.trim().parse::<f64>().ok()? / 100.0;
        return share.is_finite().then(|| format!(", such as {share}"));
    }
    text.trim()
        .parse::<f64>()
        .ok()
        .map(|_| ", without quotes".to_owned())
}
