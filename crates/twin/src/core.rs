//! Cores: the cycles of each class of instructions.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use crate::counts::Counts;
use crate::file::{TwinError, load};

/// Cores that are there without a tree.
const BUILT_IN: [(&str, &str); 6] = [
    (
        "cortex-m0plus",
        include_str!("../../../profiles/cores/cortex-m0plus.toml"),
    ),
    (
        "cortex-m3",
        include_str!("../../../profiles/cores/cortex-m3.toml"),
    ),
    (
        "cortex-m4",
        include_str!("../../../profiles/cores/cortex-m4.toml"),
    ),
    (
        "cortex-m7",
        include_str!("../../../profiles/cores/cortex-m7.toml"),
    ),
    (
        "cortex-m33",
        include_str!("../../../profiles/cores/cortex-m33.toml"),
    ),
    (
        "sifive-e31",
        include_str!("../../../profiles/cores/sifive-e31.toml"),
    ),
];

/// Counts that are of no class.
const NO_CLASSES: [&str; 2] = ["instructions", "regions"];

/// A processor core.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Core {
    /// Its name, that of QEMU.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Cycles of all instructions together, as a share of what the classes add up to: below 1 where the core executes
    /// two at a time.
    #[serde(default = "one")]
    pub scale: f64,
    /// Cycles of an instruction by class; what is added for each `taken` branch and for each word of several.
    pub cycles: BTreeMap<String, f64>,
    /// Documents that the numbers are from.
    pub sources: Vec<String>,
}

fn one() -> f64 {
    1.0
}

impl Core {
    /// The core of this name, if its cycles are known.
    ///
    /// # Errors
    /// If they are not, or its file is none.
    pub fn load(tree: Option<&Path>, name: &str) -> Result<Self, TwinError> {
        let number = json!({"type": "number", "minimum": 0});
        let schema = json!({
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "description": {"type": "string"},
                "scale": {"type": "number", "exclusiveMinimum": 0},
                "cycles": {"type": "object", "additionalProperties": number},
                "sources": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["name", "description", "cycles", "sources"],
            "additionalProperties": false,
        });
        load("core", tree, "profiles/cores", name, &BUILT_IN, &schema)
    }

    /// Tells if the cycles of a core of this name are known.
    pub fn is_known(name: &str) -> bool {
        BUILT_IN.iter().any(|(known, _)| *known == name)
    }

    /// Cycles that what was counted takes. A class that the file leaves out takes one.
    pub fn cycles(&self, counts: &Counts) -> u64 {
        let classes = counts.iter().filter(|(name, _)| !NO_CLASSES.contains(name));
        let cycles = classes.map(|(name, count)| count as f64 * self.of(name));
        (cycles.sum::<f64>() * self.scale).round() as u64
    }

    fn of(&self, class: &str) -> f64 {
        let unnamed = match class {
            "taken" | "load-words" | "store-words" => 0.0,
            _ => 1.0,
        };
        self.cycles.get(class).copied().unwrap_or(unnamed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_core_that_is_built_in_can_be_read_and_has_sources() {
        for (name, _) in BUILT_IN {
            let core = Core::load(None, name).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(core.name, name);
            assert!(!core.sources.is_empty(), "{name}");
        }
        let unknown = Core::load(None, "z80").unwrap_err().to_string();
        assert!(unknown.contains("cortex-m4"), "{unknown}");
    }

    #[test]
    fn cycles_are_the_sum_over_the_classes() {
        let core = Core::load(None, "cortex-m4").unwrap();
        let counts = Counts::from([
            ("alu", 10),
            ("load", 3),
            ("load-next", 2),
            ("load-many", 1),
            ("load-words", 4),
            ("branch", 5),
            ("taken", 4),
            ("instructions", 21),
            ("regions", 1),
        ]);
        let taken = core.cycles["taken"];
        assert_eq!(
            core.cycles(&counts),
            (10.0 + 6.0 + 2.0 + 1.0 + 4.0 + 5.0 + 4.0 * taken) as u64
        );
    }
}
