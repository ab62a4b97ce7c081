//! The JSON Schema of an experiment file.

use super::Key;
use crate::settings::{DEVICE, EXPERIMENT, GROUP, TRAINING};
use serde_json::{Map, Value, json};

/// The JSON Schema (draft 2020-12) of an experiment file.
pub fn schema() -> Value {
    let group = properties(&[GROUP, TRAINING, DEVICE]);
    let mut all = properties(&[EXPERIMENT, TRAINING, DEVICE]);
    all.insert(
        "fleet".to_owned(),
        json!({
            "description": "Groups of devices with the same settings",
            "type": "array",
            "items": {
                "type": "object",
                "properties": group,
                "required": ["count"],
                "additionalProperties": false,
            },
        }),
    );
    all.insert("faults".to_owned(), faults());
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "zfl experiment",
        "description": "An experiment file of zfl, as experiments/README.md explains it",
        "type": "object",
        "properties": all,
        "additionalProperties": false,
    })
}

fn properties(tables: &[&[Key]]) -> Map<String, Value> {
    let keys = tables.iter().copied().flatten();
    keys.map(|key| (key.name.to_owned(), property(key)))
        .collect()
}

fn property(key: &Key) -> Value {
    let mut schema = (key.schema)();
    let text = match (key.default)() {
        Some(default) => format!("{} (default: {default})", key.doc),
        None => key.doc.to_owned(),
    };
    schema["description"] = text.into();
    schema
}

/// The schema of `[faults]`, whose reading belongs to the faults themselves.
fn faults() -> Value {
    let probability = json!({"type": "number", "minimum": 0, "maximum": 1});
    let for_ms = json!({"type": "integer", "minimum": 0});
    let span = json!({
        "type": "object",
        "properties": {"probability": probability, "for_ms": for_ms},
        "required": ["probability", "for_ms"],
        "additionalProperties": false,
    });
    json!({
        "description": "Trouble on purpose",
        "type": "object",
        "properties": {
            "drop_out": probability,
            "crash": {
                "type": "object",
                "properties": {"probability": probability, "reboot": {"type": "boolean"}},
                "required": ["probability"],
                "additionalProperties": false,
            },
            "out_of_memory": probability,
            "corrupt": probability,
            "freeze": span,
            "cut": span,
            "trace": {"type": "string"},
            "schedule": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "round": {"type": "integer", "minimum": 1},
                        "client": {"type": "integer", "minimum": 0},
                        "fault": {
                            "enum": ["drop-out", "crash", "freeze", "cut", "corrupt", "out-of-memory"],
                        },
                        "reboot": {"type": "boolean"},
                        "for_ms": for_ms,
                    },
                    "required": ["round", "client", "fault"],
                },
            },
        },
        "additionalProperties": false,
    })
}
