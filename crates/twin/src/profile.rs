//! Profiles: real parts, apart from the boards that are emulated.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::core::Core;
use crate::counts::Counts;
use crate::file::{TwinError, load};

/// Profiles that are there without a tree.
const BUILT_IN: [(&str, &str); 7] = [
    (
        "stm32l4r5",
        include_str!("../../../profiles/stm32l4r5.toml"),
    ),
    ("nrf52840", include_str!("../../../profiles/nrf52840.toml")),
    (
        "stm32h7a3",
        include_str!("../../../profiles/stm32h7a3.toml"),
    ),
    (
        "stm32u575",
        include_str!("../../../profiles/stm32u575.toml"),
    ),
    ("fe310", include_str!("../../../profiles/fe310.toml")),
    (
        "stm32f103",
        include_str!("../../../profiles/stm32f103.toml"),
    ),
    (
        "stm32g0b1",
        include_str!("../../../profiles/stm32g0b1.toml"),
    ),
];

/// A real part.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name, that of its file.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Name of its core.
    pub core: String,
    /// Clock rate.
    pub mhz: f64,
    /// Cycles that memory makes the core wait, as a share of its own.
    #[serde(default)]
    pub wait: f64,
    /// Supply.
    pub volts: f64,
    /// Power while it computes, in milliwatts, at this clock and supply.
    pub active_mw: f64,
    /// Power while it waits for its link, in milliwatts; the radio is not in it.
    pub idle_mw: f64,
    /// Documents that the numbers are from.
    pub sources: Vec<String>,
    /// Deviation of predictions from what was measured.
    pub error: Option<Known>,
}

/// Deviation that was found, as a share of what was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Of times, the worst of those that are published for its core.
    pub time: f64,
    /// Of energies, likewise.
    pub energy: Option<f64>,
}

impl Profile {
    /// The profile of this name.
    ///
    /// # Errors
    /// If there is none, or its file is none.
    pub fn load(tree: Option<&Path>, name: &str) -> Result<Self, TwinError> {
        let text = json!({"type": "string"});
        let positive = json!({"type": "number", "exclusiveMinimum": 0});
        let share = json!({"type": "number", "minimum": 0});
        let schema = json!({
            "type": "object",
            "properties": {
                "name": text, "description": text, "core": text, "mhz": positive, "wait": share,
                "volts": positive, "active_mw": positive, "idle_mw": share,
                "sources": {"type": "array", "items": text},
                "error": {
                    "type": "object",
                    "properties": {"time": share, "energy": share},
                    "required": ["time"],
                    "additionalProperties": false,
                },
            },
            "required": ["name", "description", "core", "mhz", "volts", "active_mw", "idle_mw", "sources"],
            "additionalProperties": false,
        });
        load("profile", tree, "profiles", name, &BUILT_IN, &schema)
    }

    /// Time that the core's cycles take, in seconds, waiting for memory included.
    pub fn seconds(&self, cycles: u64) -> f64 {
        cycles as f64 * (1.0 + self.wait) / (self.mhz * 1e6)
    }

    /// Energy of so much computing and so much waiting, in joules.
    ///
    /// # Units
    /// Both in seconds.
    pub fn joules(&self, computing_s: f64, waiting_s: f64) -> f64 {
        (computing_s * self.active_mw + waiting_s * self.idle_mw) / 1000.0
    }

    /// Time in seconds of what was counted on its core.
    pub fn seconds_of(&self, core: &Core, counts: &Counts) -> f64 {
        self.seconds(core.cycles(counts))
    }

    /// A line for people: the part, and how far predictions for it are off.
    pub fn introduction(&self) -> String {
        let Self {
            description,
            mhz,
            volts,
            ..
        } = self;
        let error = match self.error {
            Some(Known { time, energy }) => {
                let energy = energy.map_or_else(String::new, |energy| {
                    format!(", energies up to {:.0} %", 100.0 * energy)
                });
                format!("times were off by up to {:.0} %{energy}", 100.0 * time)
            }
            None => "nothing published shows how far predictions are off".to_owned(),
        };
        format!("twin: {description}, {mhz} MHz at {volts} V; {error} (docs/calibration.md)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_that_is_built_in_can_be_read_and_its_core_is_known() {
        for (name, _) in BUILT_IN {
            let profile = Profile::load(None, name).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(profile.name, name);
            assert!(Core::is_known(&profile.core), "{name}");
            assert!(!profile.sources.is_empty(), "{name}");
        }
    }

    #[test]
    fn time_follows_the_clock_and_energy_the_time() {
        let mut profile = Profile::load(None, "stm32l4r5").unwrap();
        (profile.mhz, profile.wait) = (100.0, 0.1);
        (profile.active_mw, profile.idle_mw) = (50.0, 1.0);
        assert!((profile.seconds(1_000_000) - 0.011).abs() < 1e-12);
        assert!((profile.joules(2.0, 3.0) - 0.103).abs() < 1e-12);
    }
}
