//! Memory of the machine of the rounds in a run's state: what cohorts follow from, and updates that are in and
//! still under way in simulated time.
//!
//! Only runs that go by it save it: see `Config::remembers`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use fl_algo::{Sections, Update};
use fl_round::{Arrival, Facts, Measured, Memory, Taken};
use serde::{Deserialize, Serialize};
use zfl_run_dir::{ClientRecord, StateDir, StatePart};

use crate::rounds::Rounds;
use crate::shared::{Received, Shared};

/// Name of the part with the facts of clients.
const FACTS: &str = "selection";

/// Names of the parts of updates that are under way begin so.
const UNDER_WAY: &str = "under-way-";

/// True for the name of a part that is read here.
pub(crate) fn is_part(name: &str) -> bool {
    name == FACTS || name.starts_with(UNDER_WAY)
}

/// Facts as they are saved.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct SavedFacts(#[serde(with = "FieldsOfFacts")] Facts);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Facts")]
struct FieldsOfFacts {
    /// The run tells it, as the budget.
    #[serde(skip)]
    num_examples: u32,
    #[serde(skip)]
    budget_j: Option<f64>,
    times_chosen: u32,
    last_chosen: u32,
    last_counted: u32,
    loss: Option<f32>,
    took_us: Option<u64>,
    round_j: f64,
    used_j: f64,
}

/// Everything but the vectors of an update that is under way.
#[derive(Serialize, Deserialize)]
struct SavedUpdate {
    done_us: u64,
    took_us: Option<u64>,
    energy_j: Option<f64>,
    steps: u32,
    metrics: BTreeMap<String, f32>,
    record: ClientRecord,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    simulated_us: u64,
    facts: Vec<SavedFacts>,
}

/// Memory at the end of a round, with what of it has yet to be written.
pub(crate) struct Remembered {
    memory: Memory,
    /// Updates that have come under way since the round before.
    new: Vec<(SavedUpdate, Sections)>,
    /// Clients of which an update is not under way any more.
    gone: Vec<u32>,
}

impl Rounds {
    /// Memory at the end of a round, if later ones follow from it.
    pub(crate) fn remember(&mut self, round: u32) -> Option<Remembered> {
        if round == 0 || !self.shared.config.remembers() {
            return None;
        }
        let saved = std::mem::take(&mut self.saved);
        let remembered = self.shared.look(|state| {
            let memory = state.machine.memory().clone();
            let is_new =
                |taken: &&Taken| saved.get(&taken.arrival.client) != Some(&taken.arrival.update);
            let new = memory.under_way.iter().filter(is_new);
            let new = new.filter_map(|taken| {
                let received = state.inbox.get(&taken.arrival.update)?;
                Some(saved_update(taken, received))
            });
            Remembered {
                new: new.collect(),
                gone: Vec::new(),
                memory,
            }
        });
        let under_way = remembered.memory.under_way.iter();
        self.saved = under_way
            .map(|taken| (taken.arrival.client, taken.arrival.update))
            .collect();
        let gone = saved.into_keys().filter(|id| !self.saved.contains_key(id));
        Some(Remembered {
            gone: gone.collect(),
            ..remembered
        })
    }
}

fn saved_update(taken: &Taken, received: &Received) -> (SavedUpdate, Sections) {
    let update = received.update.clone().unwrap_or_default();
    let saved = SavedUpdate {
        done_us: taken.done_us,
        took_us: taken.measured.took_us,
        energy_j: taken.measured.energy_j,
        steps: update.steps,
        metrics: update.metrics,
        record: received.record.clone(),
    };
    (saved, update.sections)
}

impl Remembered {
    /// Rounds whose updates are under way.
    pub fn rounds(&self) -> BTreeSet<u32> {
        let under_way = self.memory.under_way.iter();
        under_way.map(|taken| taken.arrival.round).collect()
    }

    /// Writes it as of the end of `round`.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn write(self, dir: &mut StateDir, round: u32) -> Result<()> {
        let Memory {
            facts,
            simulated_us,
            ..
        } = self.memory;
        let saved = Saved {
            simulated_us,
            facts: facts.into_iter().map(SavedFacts).collect(),
        };
        let part = |text, vectors| StatePart {
            round,
            vectors,
            text,
            ..StatePart::default()
        };
        let text = serde_json::to_string(&saved)?;
        dir.write(FACTS, &part(text, Sections::new()))?;
        for client in self.gone {
            dir.forget(&format!("{UNDER_WAY}{client}"));
        }
        for (update, sections) in self.new {
            let name = format!("{UNDER_WAY}{}", update.record.client);
            dir.write(&name, &part(serde_json::to_string(&update)?, sections))?;
        }
        Ok(())
    }
}

/// Goes on from what is saved; returns the updates that are under way, by client.
///
/// # Errors
/// If it cannot be read, or is not of this run.
pub(crate) fn restore(shared: &Shared, dir: &StateDir) -> Result<BTreeMap<u32, u64>> {
    if !shared.config.remembers() {
        return Ok(BTreeMap::new());
    }
    let mut memory = Memory::default();
    let mut numbers = BTreeMap::new();
    for (name, part) in dir.read()? {
        let read = || format!("state of {name}: not as zfl writes it");
        if name == FACTS {
            let saved: Saved = serde_json::from_str(&part.text).with_context(read)?;
            let clients = shared.config.clients as usize;
            ensure!(saved.facts.len() == clients, "{}", read());
            memory.simulated_us = saved.simulated_us;
            memory.facts = saved.facts.into_iter().map(|saved| saved.0).collect();
        } else if name.starts_with(UNDER_WAY) {
            let saved: SavedUpdate = serde_json::from_str(&part.text).with_context(read)?;
            let client = saved.record.client;
            let (mut taken, received) = recalled(saved, part.vectors);
            taken.arrival.update = shared.with(|state, _| state.recall(received));
            numbers.insert(client, taken.arrival.update);
            memory.under_way.push(taken);
        }
    }
    shared.with(|state, _| state.machine.recall(memory));
    Ok(numbers)
}

fn recalled(saved: SavedUpdate, sections: Sections) -> (Taken, Received) {
    let SavedUpdate {
        done_us,
        took_us,
        energy_j,
        steps,
        metrics,
        record,
    } = saved;
    let (client, round) = (record.client, record.round);
    let loss = record.loss.unwrap_or_default();
    let update = Update {
        client,
        num_examples: record.num_examples,
        round,
        steps,
        loss,
        sections,
        metrics,
        ..Update::default()
    };
    let arrival = Arrival {
        client,
        round,
        update: 0,
    };
    let measured = Measured {
        loss,
        took_us,
        energy_j,
    };
    let taken = Taken {
        arrival,
        done_us,
        measured,
    };
    let update = Some(update);
    (taken, Received { record, update })
}
