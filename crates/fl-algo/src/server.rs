//! The server half of an algorithm: from updates to the next global model.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

pub use partial::Partial;

use crate::exact::{ExactError, ExactMean};
use crate::vector::Sizes;
use fl_param::Params;

pub(crate) mod distances;
pub(crate) mod held;
pub(crate) mod lean;
pub(crate) mod momentum;
pub(crate) mod partial;
pub(crate) mod sorted;

/// Named vectors, as they come and go on the wire and are saved.
pub type Sections = BTreeMap<String, Vec<f32>>;

/// Numbers that a server rule tells about a round, by name.
pub type RoundMetrics = BTreeMap<String, f64>;

/// Circumstances that a server rule is made for.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Parameters of the device half.
    pub device_params: Params,
    /// Parameters of the server half.
    pub params: Params,
    /// Length of the model.
    pub num_params: usize,
    /// Sizes of the model.
    pub sizes: Sizes,
    /// Clients that there may be: IDs `0..clients`.
    pub clients: u32,
    /// Updates that a round is meant to have.
    pub clients_per_round: u32,
    /// Seed of the experiment.
    pub seed: u64,
}

/// Hyper-parameters of one client in one round.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalParams {
    /// Passes over the client's examples.
    pub local_epochs: u32,
    /// Examples per step.
    pub batch_size: u32,
    /// Step width.
    pub learning_rate: f32,
    /// Parameters of the client rule.
    pub params: Params,
}

/// One client's update.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// The client.
    pub client: u32,
    /// Training examples behind it.
    pub num_examples: u32,
    /// Weight in a mean: its examples, or 1 where all count the same.
    pub weight: u32,
    /// The round whose global model it started from, counted as in `/start`.
    pub round: u32,
    /// Optimiser steps done.
    pub steps: u32,
    /// Mean training loss of the last local epoch, in nats.
    pub loss: f32,
    /// Sections that it sent: `model`, and whatever the client rule sends beside it.
    pub sections: Sections,
    /// Numbers that the client rule told.
    pub metrics: BTreeMap<String, f32>,
    /// Updates of a cluster that its edge has added up, instead of one client's; `client` is the edge then.
    pub partial: Option<Box<Partial>>,
}

impl Update {
    /// Name of the section that holds a model.
    pub const MODEL: &'static str = crate::vector::MODEL;

    /// A section; empty if it is not there.
    pub fn section(&self, name: &str) -> &[f32] {
        self.sections.get(name).map_or(&[], Vec::as_slice)
    }

    /// The local weights; empty if none were sent.
    pub fn model(&self) -> &[f32] {
        self.section(Self::MODEL)
    }

    /// Adds the model of this update to a mean, or those of all updates in it.
    ///
    /// # Errors
    /// As [`ExactMean::add`] and [`ExactMean::merge`].
    pub(crate) fn add_to(&self, mean: &mut ExactMean) -> Result<(), ExactError> {
        match &self.partial {
            Some(partial) => mean.merge(&partial.mean),
            None => mean.add(u64::from(self.weight), self.model()),
        }
    }

    /// The local weights, to change; empty if none were sent.
    pub fn model_mut(&mut self) -> &mut [f32] {
        self.sections
            .get_mut(Self::MODEL)
            .map_or(&mut [], Vec::as_mut_slice)
    }
}

/// The server's copy of a client's kept vectors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeptVectors {
    /// The round at whose end they were so.
    pub round: u32,
    /// The vectors, by name.
    pub sections: Sections,
}

/// State of a server rule between two rounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SavedState {
    /// Numbers, by name.
    pub numbers: BTreeMap<String, f64>,
    /// Vectors, by name.
    pub vectors: Sections,
}

impl SavedState {
    /// A saved vector.
    ///
    /// # Errors
    /// [`AggregateError`] if it is not there, or not as long as the model.
    pub(crate) fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, AggregateError> {
        let found = self.vectors.remove(name);
        let found = found.filter(|vector| crate::exact::check(len, vector).is_ok());
        found.ok_or_else(|| AggregateError(format!("the saved state has no {name} of this model")))
    }
}

/// Policy of the rounds of an algorithm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Updates that end a round, while whoever has not delivered trains on; `None`: all of the cohort.
    pub buffer_size: Option<u32>,
    /// Rounds by which an update may be older than the model that it is counted in.
    pub max_staleness: u32,
}

/// The server half of an algorithm.
///
/// A round is `begin`, `add` for every update in the order of clients, `finish`. A round that fails ends
/// without `finish`, and the next `begin` starts from what was there before it. If the model is of no use,
/// it is made again of fewer updates: the rule then goes on from what it saved last, and the round begins
/// anew.
pub trait ServerRule: Send + Sync {
    /// Policy of its rounds.
    fn policy(&self) -> Policy {
        Policy::default()
    }

    /// Tells if the model depends on when updates come and not only on what they are.
    fn depends_on_time(&self) -> bool {
        false
    }

    /// Learns which rounds' updates are still to come at the end of a round: what belongs to others may be
    /// forgotten, and what belongs to these is part of the state.
    fn may_come(&mut self, rounds: &BTreeSet<u32>) {
        let _ = rounds;
    }

    /// Momentum of the devices' SGD with which it reckons, 0 for plain SGD; `None` if any optimizer will do.
    fn assumed_momentum(&self) -> Option<f64> {
        None
    }

    /// Tells if the updates decide the model by nothing but their weighted mean, so that noise on that mean
    /// protects each of them.
    fn takes_the_mean(&self) -> bool {
        false
    }

    /// Tells if the next model follows from sums of the updates and of what they changed of the kept vectors, so
    /// that an edge may add up those of its cluster; else the rule needs each update.
    fn adds_up(&self) -> bool {
        self.takes_the_mean()
    }

    /// Changes what a client is told for a round.
    fn configure(&self, round: u32, client: u32, local: &mut LocalParams) {
        let _ = (round, client, local);
    }

    /// Sections that go to every client of a round beside the model.
    fn down_sections(&self) -> Vec<(&'static str, &[f32])> {
        Vec::new()
    }

    /// Begins a round on a global model.
    fn begin(&mut self, round: u32, global: &[f32]);

    /// Takes one update in. `before` is what the server kept of this client until now.
    ///
    /// # Errors
    /// [`Rejected`] if it is of no use; nothing has changed then.
    fn add(&mut self, update: &Update, before: Option<&KeptVectors>) -> Result<(), Rejected>;

    /// Makes the next global model of the updates.
    ///
    /// # Errors
    /// [`AggregateError`] if there is none; `global` is then unchanged.
    fn finish(&mut self, global: &mut Vec<f32>) -> Result<RoundMetrics, AggregateError>;

    /// The state to go on from, between two rounds.
    fn save(&self) -> SavedState {
        SavedState::default()
    }

    /// Goes on from a state that [`ServerRule::save`] told, and from what was kept of the clients.
    ///
    /// # Errors
    /// [`AggregateError`] if it is not one of this rule and model.
    fn restore(
        &mut self,
        saved: SavedState,
        clients: &mut dyn Iterator<Item = (u32, &KeptVectors)>,
    ) -> Result<(), AggregateError> {
        let _ = (saved, clients);
        Ok(())
    }
}

/// The global model, moved from `global` towards the mean of the updates by `rate`: with rate 1 it is the
/// mean, to the bit.
///
/// # Errors
/// [`AggregateError`] if a parameter leaves the range of f32; `global` is then unchanged.
pub(crate) fn server_step(
    global: &mut Vec<f32>,
    mean: Vec<f32>,
    rate: f32,
) -> Result<(), AggregateError> {
    let step = |(&from, to): (&f32, f32)| {
        let (from, to) = (f64::from(from), f64::from(to));
        (from + f64::from(rate) * (to - from)) as f32
    };
    let moved = if rate == 1.0 {
        mean
    } else {
        global.iter().zip(mean).map(step).collect()
    };
    *global = finite(moved)?;
    Ok(())
}

/// Numbers that are all within the range of f32.
///
/// # Errors
/// [`ExactError::Overflow`] with the place of the first that is not.
pub(crate) fn finite(numbers: Vec<f32>) -> Result<Vec<f32>, ExactError> {
    match numbers.iter().position(|number| !number.is_finite()) {
        Some(at) => Err(ExactError::Overflow { at }),
        None => Ok(numbers),
    }
}

/// A number above 0 that the client rule told.
///
/// # Errors
/// [`Rejected`] if it is not there or is none.
pub(crate) fn told(update: &Update, name: &str) -> Result<f32, Rejected> {
    let number = update.metrics.get(name).copied();
    let number = number.filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| Rejected(format!("it tells no {name} above 0")))
}

/// Numbers about a round, by their names.
pub(crate) fn named<const N: usize>(metrics: [(&str, f64); N]) -> RoundMetrics {
    metrics
        .map(|(name, value)| (name.to_string(), value))
        .into()
}

/// Reason why an update was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected(pub String);

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Rejected {}

/// Reason why there is no next model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregateError(pub String);

impl fmt::Display for AggregateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for AggregateError {}

impl From<ExactError> for Rejected {
    fn from(error: ExactError) -> Self {
        Self(error.to_string())
    }
}

impl From<ExactError> for AggregateError {
    fn from(error: ExactError) -> Self {
        Self(error.to_string())
    }
}
