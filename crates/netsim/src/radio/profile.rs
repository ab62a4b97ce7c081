//! Radios by name: `links/radio/<name>.toml`, and the same files built in.

use std::path::Path;

use fl_radio::DutyCycle;
use fl_radio::airtime::{Lora, Modulation};
use serde::Deserialize;
use serde_json::{Value, json};
use zfl_files::{MAX_TEXT, read_text};
use zfl_schema::{Document, Mistake};

use crate::profile::ProfileError;

/// The radios that are there without any file, by name.
const BUILT_IN: [(&str, &str); 8] = [
    ("hc-12", include_str!("../../../../links/radio/hc-12.toml")),
    (
        "ieee802154",
        include_str!("../../../../links/radio/ieee802154.toml"),
    ),
    (
        "lora-sf10",
        include_str!("../../../../links/radio/lora-sf10.toml"),
    ),
    (
        "lora-sf11",
        include_str!("../../../../links/radio/lora-sf11.toml"),
    ),
    (
        "lora-sf12",
        include_str!("../../../../links/radio/lora-sf12.toml"),
    ),
    (
        "lora-sf7",
        include_str!("../../../../links/radio/lora-sf7.toml"),
    ),
    (
        "lora-sf8",
        include_str!("../../../../links/radio/lora-sf8.toml"),
    ),
    (
        "lora-sf9",
        include_str!("../../../../links/radio/lora-sf9.toml"),
    ),
];

/// A radio with a name.
#[derive(Clone, Debug, PartialEq)]
pub struct RadioProfile {
    /// Name of the radio, as in `radio = "…"`.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Distance up to which it is heard, in metres.
    pub range_m: f64,
    /// Modulation, from which air time follows.
    pub modulation: Modulation,
    /// Share of the time that it may send, in millionths, of every so many microseconds.
    pub duty_cycle: Option<(u32, u64)>,
    /// Unit of the random wait for a clear channel, in microseconds; `None` if it sends without listening.
    pub back_off_us: Option<u64>,
    /// Power that it draws.
    pub power: RadioPower,
    /// The text that it was read from.
    pub text: String,
}

/// Power that a radio draws, in milliwatts.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RadioPower {
    /// While it sends.
    pub transmit_mw: f64,
    /// While it receives a frame.
    pub receive_mw: f64,
    /// While it does neither.
    pub sleep_mw: f64,
}

#[derive(Deserialize)]
struct File {
    name: String,
    description: String,
    range_m: f64,
    #[serde(default)]
    listens: bool,
    back_off_us: Option<u64>,
    modulation: Value,
    duty_cycle: Option<DutyFile>,
    power: RadioPower,
}

#[derive(Deserialize)]
struct DutyFile {
    percent: f64,
    window_s: u64,
}

/// A modulation as a file states it; the schema has seen to what belongs to its kind.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum ModulationFile {
    Lora {
        spreading_factor: u8,
        bandwidth_khz: u32,
        coding_rate: u8,
        preamble_symbols: u16,
    },
    Ieee802154 {
        mac_bytes: u16,
    },
    Serial {
        bits_per_s: u32,
        overhead_bytes: u16,
    },
}

impl RadioProfile {
    /// The radio called `name`: the tree's `links/radio/<name>.toml` if that is there, and the one that is
    /// built in otherwise. If `name` has a slash, it is the path of a file.
    ///
    /// # Errors
    /// If there is none, or it is no radio; the text says what to change.
    pub fn load(tree: Option<&Path>, name: &str) -> Result<Self, ProfileError> {
        if name.contains('/') {
            return Self::read(Path::new(name));
        }
        let path = tree
            .unwrap_or(Path::new(""))
            .join("links/radio")
            .join(format!("{name}.toml"));
        if tree.is_some() && path.is_file() {
            return Self::read(&path);
        }
        match BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
            Some((name, text)) => Self::parse(text, &format!("built-in radio {name}")),
            None => Err(ProfileError::Unknown {
                name: name.to_owned(),
                path,
                known: known_radios().join(", "),
            }),
        }
    }

    /// Reads a radio's text; `origin` is what errors call it.
    ///
    /// # Errors
    /// If it is no radio; the text says what to change.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ProfileError> {
        Self::read_text(text).map_err(|mistake| ProfileError::Mistake {
            origin: origin.to_owned(),
            mistake: Box::new(mistake),
        })
    }

    fn read(path: &Path) -> Result<Self, ProfileError> {
        Self::parse(&read_text(path, MAX_TEXT)?, &path.display().to_string())
    }

    fn read_text(text: &str) -> Result<Self, Mistake> {
        let document = Document::toml(text)?;
        document.check(&schema())?;
        let file: File = document.read()?;
        let modulation = serde_json::from_value(file.modulation)
            .map_err(|error| document.mistake("modulation", error.to_string()))?;
        let back_off_us = file.back_off_us.unwrap_or(320).max(1);
        let profile = Self {
            name: file.name,
            description: file.description,
            range_m: file.range_m,
            modulation: modulation_of(modulation),
            duty_cycle: file.duty_cycle.map(|duty| {
                let share_ppm = (duty.percent * 10_000.0).round() as u32;
                (share_ppm, duty.window_s.saturating_mul(1_000_000))
            }),
            back_off_us: file.listens.then_some(back_off_us),
            power: file.power,
            text: text.to_owned(),
        };
        match profile.duty() {
            Some(_) => Ok(profile),
            None => Err(document.mistake(
                "duty_cycle",
                "not even one packet may be sent in this window: raise percent or window_s",
            )),
        }
    }

    /// The ledger of a transmitter; `None` if it may not send even one frame.
    pub fn duty(&self) -> Option<DutyCycle> {
        match self.duty_cycle {
            None => Some(DutyCycle::free()),
            Some((share_ppm, window_us)) => DutyCycle::new(share_ppm, window_us, self.frame_us()),
        }
    }

    /// Air time of a frame of the mesh, in microseconds.
    pub fn frame_us(&self) -> u64 {
        self.modulation.airtime_us(fl_radio::FRAME_BYTES)
    }
}

fn modulation_of(file: ModulationFile) -> Modulation {
    match file {
        ModulationFile::Lora {
            spreading_factor,
            bandwidth_khz,
            coding_rate,
            preamble_symbols,
        } => Modulation::Lora(Lora {
            spreading_factor,
            bandwidth_khz,
            coding_rate,
            preamble_symbols,
            explicit_header: true,
            crc: true,
        }),
        ModulationFile::Ieee802154 { mac_bytes } => Modulation::Ieee802154 { mac_bytes },
        ModulationFile::Serial {
            bits_per_s,
            overhead_bytes,
        } => Modulation::Serial {
            bits_per_s,
            overhead_bytes,
        },
    }
}

/// The names of all radios that are built in.
pub fn known_radios() -> Vec<&'static str> {
    BUILT_IN.iter().map(|(name, _)| *name).collect()
}

/// The JSON Schema of a radio.
fn schema() -> Value {
    let text = json!({"type": "string"});
    let from_0 = json!({"type": "number", "minimum": 0});
    let object = |properties: Value| {
        let required: Vec<_> = properties
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect();
        json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        })
    };
    let whole =
        |least: u64, most: u64| json!({"type": "integer", "minimum": least, "maximum": most});
    let kind = |name: &str| json!({"type": "string", "enum": [name]});
    json!({
        "type": "object",
        "properties": {
            "name": text,
            "description": text,
            "range_m": {"type": "number", "exclusiveMinimum": 0, "maximum": 1e6},
            "listens": {"type": "boolean"},
            "back_off_us": whole(1, 1_000_000),
            "modulation": {"anyOf": [
                object(json!({
                    "kind": kind("lora"),
                    "spreading_factor": whole(7, 12),
                    "bandwidth_khz": whole(7, 500),
                    "coding_rate": whole(5, 8),
                    "preamble_symbols": whole(6, 65_535),
                })),
                object(json!({"kind": kind("ieee802154"), "mac_bytes": whole(0, 80)})),
                object(json!({
                    "kind": kind("serial"),
                    "bits_per_s": whole(100, 10_000_000),
                    "overhead_bytes": whole(0, 1_000),
                })),
            ]},
            "duty_cycle": object(json!({
                "percent": {"type": "number", "exclusiveMinimum": 0, "maximum": 100},
                "window_s": whole(1, 86_400),
            })),
            "power": object(json!({
                "transmit_mw": from_0,
                "receive_mw": from_0,
                "sleep_mw": from_0,
            })),
        },
        "required": ["name", "description", "range_m", "modulation", "power"],
        "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_radios_that_are_built_in_are_those_of_the_folder() {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let entries = std::fs::read_dir(tree.join("links/radio")).unwrap();
        let mut files: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let built_in: Vec<String> = BUILT_IN
            .iter()
            .map(|(name, _)| format!("{name}.toml"))
            .collect();
        assert_eq!(files, built_in);
        for (name, _) in BUILT_IN {
            let radio = RadioProfile::load(None, name).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(radio.name, name);
            assert_eq!(RadioProfile::load(Some(&tree), name).unwrap(), radio);
        }
    }

    #[test]
    fn a_profile_gives_the_air_time_of_its_radio() {
        let frame_us = |name| RadioProfile::load(None, name).unwrap().frame_us();
        // 43 octets: 12.25 symbols of preamble and 8 + 13 x 5 of 1,024 us; 60 octets of 32 us; 55 octets.
        assert_eq!(frame_us("lora-sf7"), 87_296);
        assert_eq!(frame_us("ieee802154"), 1_920);
        assert_eq!(frame_us("hc-12"), 29_334);
    }

    #[test]
    fn a_radio_that_cannot_be_says_what_to_change() {
        let hc12 = BUILT_IN[0].1;
        let refused = |from: &str, to: &str| {
            let text = hc12.replace(from, to);
            assert_ne!(text, hc12);
            RadioProfile::parse(&text, "x").unwrap_err().to_string()
        };
        assert!(refused("percent = 10", "percent = 0.00001").contains("raise percent"));
        assert!(refused("bits_per_s = 15_000", "bits_per_s = 0").contains("bits_per_s"));
        assert!(refused("range_m", "rnge_m").contains("range_m"));
    }
}
