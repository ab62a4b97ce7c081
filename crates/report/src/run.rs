//! One run, as its directory has it.

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use zfl_files::Dir;
use zfl_run_dir::fold::RunView;
use zfl_run_dir::metric::Id;
use zfl_run_dir::{Fold, MAX_FACTS, RoundRecord, RunSummary};

const VIRTUAL_S: Id = Id::of("virtual_s");
const LINK_S: Id = Id::of("link_s");
const ENERGY_J: Id = Id::of("energy_j");

/// Settings that say where a run was and which, not what it was.
const IDENTITY: [&str; 5] = ["name", "out", "data", "seed", "command"];

/// One run.
#[derive(Debug)]
pub struct Run {
    /// Its directory, as it was named.
    pub path: PathBuf,
    pub fold: Fold,
    pub view: RunView,
    /// SHA-256 of the final model's parameters.
    pub model_sha256: Option<String>,
    /// Energy of all devices in each round of which it is known, in joules.
    energy_j: BTreeMap<u32, f64>,
}

impl Run {
    pub fn load(path: &Path) -> Result<Self> {
        let fold =
            zfl_run_dir::replay(path).with_context(|| format!("report on {}", path.display()))?;
        let summary = Dir::open(path)
            .and_then(|run| run.read(RunSummary::FILE, MAX_FACTS))
            .ok();
        let summary: Option<Value> = summary.and_then(|text| serde_json::from_slice(&text).ok());
        let sha256 = summary
            .as_ref()
            .and_then(|summary| summary.get("model_sha256")?.as_str());
        Ok(Self {
            path: path.to_owned(),
            view: fold.run(fold.time_ms()),
            model_sha256: sha256.map(str::to_owned),
            energy_j: energy_j(&fold),
            fold,
        })
    }

    /// The last complete round.
    pub fn last_round(&self) -> u32 {
        self.fold.rounds().last().map_or(0, |row| row.record.round)
    }

    /// The first round whose model has this accuracy, from 0 to 1.
    pub fn first_round_at(&self, accuracy: f64) -> Option<u32> {
        let mut rounds = self.fold.rounds().map(|row| &row.record);
        Some(
            rounds
                .find(|record| record.test_accuracy.is_some_and(|share| share >= accuracy))?
                .round,
        )
    }

    /// Energy of all devices up to the end of a round, in joules; `None` if it is of no round.
    pub fn energy_j(&self, round: u32) -> Option<f64> {
        let known = !self.energy_j.is_empty();
        known.then(|| {
            self.energy_j
                .range(..=round)
                .map(|(_, joules)| joules)
                .sum()
        })
    }

    pub fn seed(&self) -> Option<u64> {
        self.fold.meta().config.get("seed")?.as_u64()
    }

    /// The settings that make it what it is, by dotted name.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let meta = self.fold.meta();
        let mut settings = BTreeMap::new();
        let about = [
            ("body", &meta.body),
            ("board", &meta.board),
            ("network", &meta.network),
            ("link", &meta.link),
        ];
        for (name, value) in about {
            if let Some(value) = value {
                settings.insert(name.to_owned(), value.clone());
            }
        }
        if let Some(config) = meta.config.as_object() {
            flatten("", config, &mut settings);
        }
        settings.insert("clients".into(), self.view.clients.to_string());
        settings.insert("rounds".into(), self.view.rounds.to_string());
        settings.retain(|name, _| !IDENTITY.contains(&name.as_str()));
        settings
    }

    /// The command that repeats it, if its configuration is there; a server's devices come from elsewhere.
    pub fn exact_command(&self) -> Option<String> {
        let config = self.path.join("config.toml");
        let exact = config.is_file() && !self.view.devices_elsewhere;
        exact.then(|| format!("zfl run {}", quoted(&config.to_string_lossy())))
    }

    /// Versions of zfl and of what else was run, of hashes the first digits: `meta.json` has them whole.
    pub fn versions(&self) -> String {
        let meta = self.fold.meta();
        let zfl = meta
            .zfl_version
            .iter()
            .map(|version| format!("zfl {version}"));
        let others = meta
            .versions
            .iter()
            .map(|(name, version)| format!("{name} {}", shortened(version)));
        zfl.chain(others).collect::<Vec<_>>().join(", ")
    }

    /// The rounds in which devices trained.
    pub fn trained(&self) -> impl Iterator<Item = &RoundRecord> {
        self.fold
            .rounds()
            .map(|row| &row.record)
            .filter(|record| record.round > 0)
    }

    /// Parts of each known round, in simulated time and as the mean over devices: what a device
    /// computes, what its link takes, and how long it waits for the slowest.
    pub fn simulated_parts(&self) -> Vec<(u32, [f64; 3])> {
        let mut sums = BTreeMap::<u32, (f64, f64, f64)>::new();
        for row in self.fold.devices().flat_map(|device| &device.history) {
            let [virtual_s, link_s] = [VIRTUAL_S, LINK_S].map(|id| row.values.get(id));
            if let (Some(virtual_s), Some(link_s)) = (virtual_s, link_s) {
                let sum = sums.entry(row.round).or_default();
                *sum = (sum.0 + 1.0, sum.1 + virtual_s, sum.2 + link_s);
            }
        }
        let parts = self.trained().filter_map(|record| {
            let (n, computing, link) = sums.get(&record.round)?;
            let (computing, link) = (computing / n, link / n);
            let waiting = (record.simulated_s? - computing - link).max(0.0);
            Some((record.round, [computing, link, waiting]))
        });
        parts.collect()
    }
}

/// Energy of all devices, by round.
fn energy_j(fold: &Fold) -> BTreeMap<u32, f64> {
    let mut sums = BTreeMap::<u32, f64>::new();
    for row in fold.devices().flat_map(|device| &device.history) {
        if let Some(joules) = row.values.get(ENERGY_J) {
            *sums.entry(row.round).or_default() += joules;
        }
    }
    sums
}

/// Text with 16 digits of each hash: nobody compares more by eye.
fn shortened(version: &str) -> String {
    let mut pieces = version.split("sha256:");
    let mut short = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digits = piece.find(|c: char| !c.is_ascii_hexdigit());
        let (hash, rest) = piece.split_at(digits.unwrap_or(piece.len()));
        let kept = &hash[..hash.len().min(16)];
        short = format!("{short}sha256:{kept}{rest}");
    }
    short
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn flatten(prefix: &str, config: &Map<String, Value>, settings: &mut BTreeMap<String, String>) {
    for (name, value) in config {
        let name = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        match value {
            Value::Object(inner) => flatten(&name, inner, settings),
            Value::Array(items) if items.iter().any(Value::is_object) => {
                flatten(&name, &named(items), settings);
            }
            Value::String(text) => drop(settings.insert(name, text.clone())),
            other => drop(settings.insert(name, other.to_string())),
        }
    }
}

/// The tables of an array, each by its name, else by its place.
fn named(items: &[Value]) -> Map<String, Value> {
    let name = |(at, item): (usize, &Value)| {
        let name = item.get("name").and_then(Value::as_str);
        name.map_or_else(|| at.to_string(), str::to_owned)
    };
    let items = items.iter().enumerate();
    items.map(|item| (name(item), item.1.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_shortened_and_the_rest_is_kept() {
        let (one, two) = ("0123456789abcdef0", "fedcba98765432100");
        let version = format!("mnist sha256:{one}; resumed with sha256:{two}");
        let short = "mnist sha256:0123456789abcdef; resumed with sha256:fedcba9876543210";
        assert_eq!(shortened(&version), short);
        for same in ["", "7.2.0", "sha256:", "sha256:é"] {
            assert_eq!(shortened(same), same);
        }
    }
}
