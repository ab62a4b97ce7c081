//! Tables of keys for people, in Markdown.

use super::Key;
use crate::settings::{DEVICE, EXPERIMENT, GROUP, TRAINING};
use std::fmt::Write;

/// A table of `experiments/README.md`: `experiment`, `training`, `device` or `group`.
pub fn reference(table: &str) -> Option<String> {
    let keys = match table {
        "experiment" => EXPERIMENT,
        "training" => TRAINING,
        "device" => DEVICE,
        "group" => GROUP,
        _ => return None,
    };
    let mut text =
        String::from("| key | values | default | flag | meaning |\n|---|---|---|---|---|\n");
    for key in keys {
        row(key, &mut text);
    }
    Some(text)
}

fn row(key: &Key, text: &mut String) {
    let flags: Vec<_> = (key.flags)()
        .iter()
        .map(|flag| format!("`--{}`", flag.long))
        .collect();
    let default = (key.default)().unwrap_or_default();
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "| `{}` | {} | {default} | {} | {} |",
        key.name,
        (key.values)(),
        flags.join(", "),
        key.doc
    );
}
