//! Needs of each device of a fleet, as `zfl run --dry-run` tells it: by the same functions that the run goes by.

use super::{memory, wire};
use crate::experiment::Experiment;
use crate::refusal::Refusal;
use std::fmt;

/// Needs of one device of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPlan {
    /// The group.
    pub name: String,
    /// Its devices.
    pub count: u32,
    /// Their board, or `native`.
    pub kind: String,
    /// The model in memory.
    pub model_bytes: u64,
    /// An update in its encoding, with the heads around it.
    pub up_bytes: u64,
    /// A `/start` in its encoding, with the heads around it.
    pub down_bytes: u64,
    /// Data, model, rule, optimizer, encoding and training.
    pub needed_bytes: u64,
    /// The most that can be free of the board's memory; not bounded for a thread.
    pub available_bytes: Option<u64>,
}

/// The groups of an experiment, in order.
///
/// # Errors
/// A [`Refusal`] if there can be no such training.
pub fn plans(experiment: &Experiment) -> Result<Vec<GroupPlan>, Refusal> {
    let groups = experiment.groups.iter().map(|group| {
        Ok(GroupPlan {
            name: group.name.clone(),
            count: group.count,
            kind: group.kind(),
            model_bytes: 4 * experiment.model.shape().num_params() as u64,
            up_bytes: wire::update_bytes(experiment),
            down_bytes: wire::start_bytes(experiment),
            needed_bytes: memory::group_bytes(experiment, group)?,
            available_bytes: memory::available(group),
        })
    });
    groups.collect()
}

impl fmt::Display for GroupPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name, count, kind, ..
        } = self;
        write!(
            f,
            "{name} ({count} {kind}): model {} bytes; a round {} up and {} down; memory {} of ",
            self.model_bytes, self.up_bytes, self.down_bytes, self.needed_bytes
        )?;
        match self.available_bytes {
            Some(available) => write!(f, "{available} at most"),
            None => write!(f, "the host's"),
        }
    }
}
