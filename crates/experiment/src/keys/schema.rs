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
    let for_ms = json!({"type": "integer", "minimum": 0, "maximum": i64::MAX});
    let fault = |names: &[&str], own: Value| {
        let mut properties = json!({
            "round": {"type": "integer", "minimum": 1, "maximum": u32::MAX},
            "client": {"type": "integer", "minimum": 0, "maximum": u32::MAX},
            "fault": {"enum": names},
        });
        let mut required = vec!["round", "client", "fault"];
        if let (Value::Object(all), Value::Object(own)) = (&mut properties, own) {
            required.extend(own.contains_key("for_ms").then_some("for_ms"));
            all.extend(own);
        }
        json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        })
    };
    let mut scheduled = fault(
        &[
            "drop-out",
            "crash",
            "freeze",
            "cut",
            "corrupt",
            "out-of-memory",
        ],
        json!({"reboot": {"type": "boolean"}, "for_ms": for_ms}),
    );
    scheduled["required"] = json!(["round", "client", "fault"]);
    scheduled["anyOf"] = json!([
        fault(&["drop-out", "corrupt", "out-of-memory"], json!({})),
        fault(&["crash"], json!({"reboot": {"type": "boolean"}})),
        fault(&["freeze", "cut"], json!({"for_ms": for_ms})),
    ]);
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
                "items": scheduled,
            },
            "edges": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "round": {"type": "integer", "minimum": 1},
                        "edge": {"type": "integer", "minimum": 0},
                        "reboot": {"type": "boolean"},
                    },
                    "required": ["round", "edge"],
                    "additionalProperties": false,
                },
            },
        },
        "additionalProperties": false,
    })
}
