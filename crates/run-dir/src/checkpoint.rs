//! The checkpoint of a run: what its directory holds at the ends of the last two complete rounds.
//!
//! It is written before the model of the newer round, and the model makes that round complete: which model
//! is there tells which of the two rounds it is. All that a resumed run reads is in the checkpoint with its
//! [`Seal`], so that a bit which is not as it was written is noticed, whatever file it is in.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};
use zfl_files::Dir;

use crate::seal::{Damaged, Seal, check_text};
use crate::{MAX_FACTS, Meta, RunDir, RunSummary, StateDir, StatePart, is_under_way};

/// The ends of the last rounds of a run, at most two, the newest last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The rounds.
    pub rounds: Vec<CompleteRound>,
}

/// State of a run directory at the end of a round.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompleteRound {
    /// The round.
    pub round: u32,
    /// Clients that are gone for good, and why.
    pub gone: BTreeMap<u32, String>,
    /// Seals by name of a file; of one that grows, up to the end of the round.
    pub files: BTreeMap<String, Seal>,
}

impl CompleteRound {
    /// Round of the state that each client has kept, on its device or here.
    ///
    /// # Errors
    /// If the state of a client is not as it was written.
    pub fn kept_rounds(&self, run: &Path) -> Result<BTreeMap<u32, u32>> {
        let parts = StateDir::sealed(run, &self.files).read()?.into_iter();
        let rounds = parts.filter_map(|(name, part)| {
            let client = name.strip_prefix(StatePart::CLIENT)?.parse().ok()?;
            let round = part.numbers.get(StatePart::ROUND).copied();
            Some((client, round.unwrap_or_default() as u32))
        });
        Ok(rounds.collect())
    }
}

impl Checkpoint {
    /// The file's name in the run directory.
    pub const FILE: &str = "checkpoint.json";

    /// The round whose model is in a run directory, once every file of it was found as it was written.
    ///
    /// # Errors
    /// If there is no complete round; [`Damaged`] files by name, with what to do.
    pub fn verified(run: &Path) -> Result<CompleteRound> {
        let dir = Dir::open(run)?;
        let anew = || {
            format!(
                "do the run anew: zfl run {}",
                run.join("config.toml").display()
            )
        };
        ensure!(
            dir.is_file(RunDir::MODEL),
            "{} holds no complete round to go on from: {}",
            run.display(),
            anew()
        );
        ensure!(
            dir.is_file(Self::FILE),
            "{} has no {}: an older zfl made it, or the file is gone; put it back from a copy, or {}",
            run.display(),
            Self::FILE,
            anew()
        );
        let (round, damage) = Self::compare(&dir);
        match round {
            Some(round) if damage.is_empty() => Ok(round),
            _ => {
                let damage: Vec<_> = damage.iter().map(|error| format!("{error:#}")).collect();
                let (damage, anew) = (damage.join("; "), anew());
                Err(anyhow!(
                    "{damage}; put back what was there from a copy, or {anew}"
                ))
            }
        }
    }

    /// The round that a run directory is at, the last one if its model is damaged, and all damage.
    fn compare(dir: &Dir) -> (Option<CompleteRound>, Vec<anyhow::Error>) {
        let mut rounds = match Self::load(dir) {
            Ok(checkpoint) => checkpoint.rounds,
            Err(error) => return (None, vec![error]),
        };
        let is_there = |round: &CompleteRound| {
            let model = round.files.get(RunDir::MODEL);
            model.is_some_and(|model| model.check(dir, RunDir::MODEL).is_ok())
        };
        let there = rounds.iter().rposition(is_there);
        let last = rounds.len().saturating_sub(1);
        let round = rounds.drain(..).nth(there.unwrap_or(last));
        let files = round.iter().flat_map(|round| &round.files);
        let damage = files.filter_map(|(name, seal)| seal.check(dir, name).err());
        let mut damage: Vec<_> = damage.collect();
        if there.is_none() && damage.is_empty() {
            damage.push(Damaged::at(
                &dir.path().join(Self::FILE),
                "it tells of no round",
            ));
        }
        (round, damage)
    }

    fn load(dir: &Dir) -> Result<Self> {
        let (path, text) = (
            dir.path().join(Self::FILE),
            dir.read(Self::FILE, MAX_FACTS)?,
        );
        match check_text(&path, &text)? {
            true => {
                serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))
            }
            false => Err(Damaged::at(&path, "its checksum is gone")),
        }
    }
}

/// A line for people for each file of a run that is not as zfl wrote it; none for a run under way, and for
/// what has no checkpoint or checksum.
pub fn damage(run: &Path) -> Vec<String> {
    let Ok(dir) = Dir::open(run) else {
        return Vec::new();
    };
    if is_under_way(run) {
        return Vec::new();
    }
    let mut damage = match dir.is_file(Checkpoint::FILE) {
        true => Checkpoint::compare(&dir).1,
        false => Vec::new(),
    };
    for name in [Meta::FILE, RunSummary::FILE] {
        let text = dir.read(name, MAX_FACTS).unwrap_or_default();
        damage.extend(check_text(&run.join(name), &text).err());
    }
    damage.iter().map(|error| format!("{error:#}")).collect()
}
