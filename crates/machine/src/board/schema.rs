//! The schema of a `board.toml`.

use serde_json::{Value, json};

/// The JSON Schema of a board.
pub(super) fn schema() -> Value {
    let text = json!({"type": "string"});
    let count = json!({"type": "integer", "minimum": 1, "maximum": u32::MAX});
    let number = json!({"type": "number", "exclusiveMinimum": 0});
    let texts = json!({"type": "array", "items": text});
    let table = |properties: Value, required: Value| {
        json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        })
    };
    let machine = json!({
        "qemu": text, "machine": text, "cpu": text, "memory_mib": count, "extra_args": texts, "program": texts,
    });
    let nic = json!({
        "model": text,
        "on_board": {"type": "boolean"},
        "needed": {"type": "boolean"},
        "options": {"type": "object", "additionalProperties": text},
        "max_kbit_per_s": count,
        "qemu_below": text,
        "qemu_hint": text,
    });
    let energy = json!({
        "joule_per_instruction": number,
        "joule_per_byte_sent": number,
        "joule_per_byte_received": number,
        "idle_watt": number,
    });
    let four = json!([
        "joule_per_instruction",
        "joule_per_byte_sent",
        "joule_per_byte_received",
        "idle_watt"
    ]);
    let address = json!({"type": "integer", "minimum": 0, "maximum": u32::MAX});
    let region = table(
        json!({"start": address, "kib": count}),
        json!(["start", "kib"]),
    );
    // Registers of a device: where, the interrupt line, the rate of a timer, the slots of a row.
    let device = |more: Value| {
        let mut device = table(json!({"at": address, "line": address}), json!(["at"]));
        let Value::Object(more) = more else {
            return device;
        };
        device["properties"]
            .as_object_mut()
            .into_iter()
            .for_each(|all| all.extend(more.clone()));
        device
    };
    let firmware = json!({
        "target": text,
        "code": region,
        "ram": region,
        "flash": region,
        "stack_kib": count,
        "own_kib": count,
        "page_kib": count,
        "tcp": table(json!({"sockets": count, "receive_kib": count, "send_kib": count}), json!(["sockets"])),
        "uart": device(json!({})),
        "virtio": device(json!({"stride": count, "count": count})),
        "plic": device(json!({})),
        "timer": device(json!({"hz": count})),
        "nic": device(json!({})),
        "exit": device(json!({})),
    });
    let limits = json!({
        "type": "object",
        "additionalProperties": {"type": "integer", "minimum": 0, "maximum": u32::MAX},
    });
    let board = json!({
        "name": text,
        "description": text,
        "body": {"enum": ["bare", "zephyr"]},
        "zephyr": text,
        "machine": table(machine, json!(["memory_mib"])),
        "nic": table(nic, json!([])),
        "storage": table(json!({"model": text, "options": {"type": "object", "additionalProperties": text}}), json!(["model"])),
        "radio": table(json!({
            "model": text, "options": {"type": "object", "additionalProperties": text}, "image": text, "limits": limits,
        }), json!(["model", "image"])),
        "gateway": table(json!({"image": text, "limits": limits}), json!(["image"])),
        "kernel": table(json!({"image": text, "command_line": text}), json!(["image"])),
        "shell": table(json!({"prompt": text, "fatal": texts}), json!(["prompt"])),
        "firmware": table(firmware, json!(["target", "code", "ram", "stack_kib", "page_kib"])),
        "clock": table(json!({"mips": number}), json!(["mips"])),
        "energy": table(energy, four),
        "limits": limits,
    });
    let required = json!(["name", "description", "body", "machine", "kernel", "shell"]);
    table(board, required)
}
