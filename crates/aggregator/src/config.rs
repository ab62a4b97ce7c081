//! The experiment, as far as the aggregator goes.

use std::collections::BTreeMap;
use std::time::Duration;

use fl_algo::{
    Attackers, Choice, Demand, InputsIn, LocalParams, MODEL, SectionSpec, Sizes, VectorSpec, Way,
    device_bytes,
};
use fl_nn::{Init, Model, PlanError};
use fl_proto::codec::{Encodes, Encoding};
use fl_proto::message::Outgoing;
use fl_proto::{Arithmetic, CodecName, Params, RuleName, Start, Token};
use fl_rng::derive_seed;
use fl_round::{EvaluationPolicy, Order, Policy, Selection, StartPolicy, Stragglers};
use serde::{Deserialize, Serialize};

use crate::clusters::Clusters;
use crate::evaluation::Evaluation;
use crate::local::{LocalOptimizer, PartialWork};
use crate::privacy::Privacy;
use crate::schedule::Schedule;

/// Longest wait for the answer to one `/start`, unless a round's deadline leaves time for more.
const START_WITHIN: Duration = Duration::from_secs(30);

/// The part of the deadline that one `/start` may take: over a slow link the model takes minutes.
pub const START_PART: u32 = 4;

/// `/start`s under way at once: more only makes all of them slower.
pub const STARTS_AT_ONCE: usize = 12;

/// Tries of one `/start` that a round waits for before it counts as training; with their pauses they
/// take a second and a half. Later tries go on until the deadline of the round.
const START_TRIES: u32 = 6;

/// Pause after the first try of a `/start`, and the longest that doubling makes of it.
const START_PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// Silence after which a device that failed is no longer asked before a round; it may still come back.
const GONE_AFTER: Duration = Duration::from_secs(10);

/// The client in the seed of what goes to a whole cohort.
const TO_ALL: u32 = u32::MAX;

/// Weight of each update in the mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weighting {
    /// By the client's number of examples, as in FedAvg.
    #[default]
    NumExamples,
    /// All the same, as in the original system.
    Uniform,
}

/// An experiment, as far as the aggregator goes.
#[derive(Clone, Debug)]
pub struct Config {
    /// Clients that there may be: IDs `0..clients`.
    pub clients: u32,
    /// Rounds to complete.
    pub rounds: u32,
    /// The first round to run: 1, or more when a run is resumed.
    pub first_round: u32,
    /// Time of the run before this process, when it is resumed.
    pub elapsed_before: Duration,
    /// Updates that a round is meant to have.
    pub clients_per_round: u32,
    /// Clients started beyond that, so that some may fail.
    pub over_commit: u32,
    /// Updates without which a round fails.
    pub quorum: u32,
    /// Treatment of updates that come after their round.
    pub stragglers: Stragglers,
    /// Order in which updates count, where a round takes only the first.
    pub order: Order,
    /// Rule by which cohorts are chosen.
    pub selection: Selection,
    /// Energy that clients have for the run, in joules; those that are not here have no end of it.
    pub budgets_j: BTreeMap<u32, f64>,
    /// Ready devices to wait for before a round starts; those known to be lost are not waited for.
    pub wait_for: u32,
    /// Longest wait for them.
    pub ready_deadline: Duration,
    /// Longest duration of a round, from choosing the cohort to its last update.
    pub round_deadline: Duration,
    /// Interval at which the devices of a round are asked for their progress; `None`: never.
    pub progress_interval: Option<Duration>,
    /// Passes over a client's data in a round.
    pub local_epochs: u32,
    /// Examples per step of SGD.
    pub batch_size: u32,
    /// Step size of SGD.
    pub learning_rate: f32,
    /// Schedule of the step size.
    pub schedule: Schedule,
    /// Devices that do only some of their epochs.
    pub partial_work: PartialWork,
    /// Differential privacy.
    pub privacy: Option<Privacy>,
    /// Optimizer of the devices.
    pub optimizer: LocalOptimizer,
    /// Arithmetic of the training.
    pub arithmetic: Arithmetic,
    /// Weight of each update in the mean.
    pub weighting: Weighting,
    /// The algorithm with its parameters.
    pub algorithm: Choice,
    /// The model.
    pub model: Model,
    /// Seed of every random stream.
    pub seed: u64,
    /// Clients that train otherwise than the rest: a group's own hyper-parameters.
    pub overrides: BTreeMap<u32, LocalOverrides>,
    /// Clients that attack the run, and by which attack.
    pub attackers: Attackers,
    /// Encoding of updates.
    pub encoding_up: Encoding,
    /// Encoding of the model on its way down.
    pub encoding_down: Encoding,
    /// Evaluation of new models on devices, if there is any.
    pub evaluation: Option<Evaluation>,
    /// Clusters of clients, each behind an edge; none if all devices join here.
    pub clusters: Clusters,
    /// Rounds of the edges that devices join for one of this aggregator.
    pub edge_rounds: u32,
}

/// Hyper-parameters of a client that differ from those of the experiment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LocalOverrides {
    /// Passes over the client's data in a round.
    pub local_epochs: Option<u32>,
    /// Examples per step.
    pub batch_size: Option<u32>,
    /// Step size.
    pub learning_rate: Option<f32>,
}

/// The name of an encoding's codec, as in control messages.
pub(crate) fn codec_name(encoding: Encoding) -> CodecName {
    CodecName::try_from(encoding.codec().name()).unwrap_or_default()
}

impl Config {
    /// Name of the client rule.
    pub fn rule(&self) -> RuleName {
        RuleName::try_from(self.algorithm.algorithm.device.rule).unwrap_or_default()
    }

    /// Vectors of the client rule.
    pub fn vectors(&self) -> &'static [VectorSpec] {
        let Choice {
            algorithm,
            device_params,
            ..
        } = &self.algorithm;
        algorithm.device.client.vectors(device_params)
    }

    /// Sizes of the model.
    pub(crate) fn sizes(&self) -> Sizes {
        Sizes::from(self.model.shape())
    }

    /// Tells if the aggregator that a device joins keeps vectors of it from round to round.
    pub fn keeps_of_clients(&self) -> bool {
        self.sections(Way::State).next().is_some()
    }

    /// Tells if devices keep what nobody else has.
    pub(crate) fn keeps_personal(&self) -> bool {
        let Choice {
            algorithm,
            device_params,
            ..
        } = &self.algorithm;
        let half = algorithm.device;
        half.keeps_personal(device_params, &self.sizes()) || self.has_feedback()
    }

    /// Numbers that stay on a device from round to round and that nobody else has.
    pub fn personal_numbers(&self) -> usize {
        let Choice {
            algorithm,
            device_params,
            ..
        } = &self.algorithm;
        let half = algorithm.device;
        let lost = if self.has_feedback() {
            self.travelling()
        } else {
            0
        };
        half.personal_numbers(device_params, &self.sizes()) + lost
    }

    /// Parameters of the model that travel: the first so many.
    pub(crate) fn travelling(&self) -> usize {
        let Choice {
            algorithm,
            device_params,
            ..
        } = &self.algorithm;
        let stays = algorithm.device.client.stays(device_params);
        stays.travelling(&self.sizes())
    }

    /// Hyper-parameters of a client in a round, unless the algorithm changes them.
    pub fn local(&self, round: u32, client: u32) -> LocalParams {
        let learning_rate = self.own(client).learning_rate;
        LocalParams {
            learning_rate: self.schedule.rate(learning_rate, round),
            ..self.own(client)
        }
    }

    /// Share of the clients that is chosen for a round.
    pub(crate) fn sampling(&self) -> f64 {
        let chosen = self.clients_per_round.saturating_add(self.over_commit);
        (f64::from(chosen) / f64::from(self.clients.max(1))).min(1.0)
    }

    /// Step size in a round of a client without one of its own, as short as f32 is written.
    pub(crate) fn full_rate(&self, round: u32) -> f64 {
        let rate = self.schedule.rate(self.learning_rate, round);
        rate.to_string().parse().unwrap_or(rate.into())
    }

    /// Hyper-parameters of a client at the full rate.
    fn own(&self, client: u32) -> LocalParams {
        let own = self.overrides.get(&client).copied().unwrap_or_default();
        LocalParams {
            local_epochs: own.local_epochs.unwrap_or(self.local_epochs),
            batch_size: own.batch_size.unwrap_or(self.batch_size),
            learning_rate: own.learning_rate.unwrap_or(self.learning_rate),
            params: self.algorithm.device_params,
        }
    }

    /// Sections of a message.
    pub(crate) fn sections(&self, way: Way) -> impl Iterator<Item = SectionSpec> + use<> {
        let Choice {
            algorithm,
            device_params,
            ..
        } = &self.algorithm;
        algorithm.device.sections(device_params, way, &self.sizes())
    }

    /// Sections of a message with their encodings.
    pub(crate) fn encoded(
        &self,
        way: Way,
    ) -> impl Iterator<Item = (SectionSpec, Encoding)> + use<> {
        let chosen = match way {
            Way::Up => self.encoding_up,
            Way::Down | Way::State => self.encoding_down,
        };
        self.sections(way).map(move |section| {
            let SectionSpec { name, count, exact } = section;
            (section, chosen.of_section(name, exact, count))
        })
    }

    /// Encoding of a section of `/start`.
    fn encoding_of(&self, name: &str) -> Encoding {
        let mut sections = self.encoded(Way::Down);
        let found = sections.find(|(section, _)| section.name == name);
        found.map_or(Encoding::default(), |(_, encoding)| encoding)
    }

    /// A section of a round's `/start`, in its encoding; `tensors` are those of the model.
    pub(crate) fn outgoing<'a>(
        &self,
        round: u32,
        name: &'a str,
        numbers: &'a [f32],
        tensors: &'a [u32],
    ) -> Outgoing<'a> {
        let encoding = self.encoding_of(name);
        let seed = derive_seed(self.seed, TO_ALL, round);
        Outgoing {
            name,
            codec: encoding.codec(),
            plan: encoding.plan(if name == MODEL { tensors } else { &[] }, seed),
            numbers,
        }
    }

    /// Encoding of the model in an update, if that has the model.
    fn model_up(&self) -> Encoding {
        let mut sections = self.encoded(Way::Up);
        let found = sections.find(|(section, _)| section.name == MODEL);
        found.map_or(Encoding::default(), |(_, encoding)| encoding)
    }

    /// Vectors as long as the model that devices need for the encoding of updates.
    pub fn encoding_vectors(&self) -> u32 {
        self.model_up().device_vectors()
    }

    /// True if an update has the changes of a model, not the model.
    pub(crate) fn sends_changes(&self) -> bool {
        self.model_up().codec().encodes() != Encodes::Parameters
    }

    /// True if devices add what an update lost to their next one.
    pub fn has_feedback(&self) -> bool {
        self.model_up().codec().encodes() == Encodes::ChangesWithFeedback
    }

    /// Lengths of the model's tensors.
    pub(crate) fn tensors(&self) -> Vec<u32> {
        let sizes = self.model.shape().sizes();
        let layers = sizes.windows(2);
        layers
            .flat_map(|pair| [pair[0] * pair[1], pair[1]])
            .collect()
    }

    /// Octets of the payloads of a message's sections.
    pub fn payloads(&self, way: Way) -> Vec<u64> {
        let tensors = self.tensors();
        let sections = self.encoded(way).map(|(section, encoding)| {
            let of: &[u32] = if section.name == MODEL { &tensors } else { &[] };
            encoding.octets(of, section.count as u32)
        });
        sections.collect()
    }

    /// RAM that a client's device needs for model, rule, data and training, in bytes.
    ///
    /// # Errors
    /// If there can be no such training.
    pub(crate) fn memory_bytes(
        &self,
        client: u32,
        examples: u32,
        inputs: InputsIn,
    ) -> Result<u64, PlanError> {
        self.memory_of(self.own(client).batch_size, examples, inputs)
    }

    /// RAM that a device needs for model, rule, data and a training in such batches, in bytes.
    ///
    /// # Errors
    /// If there can be no such training.
    pub fn memory_of(
        &self,
        batch_size: u32,
        examples: u32,
        inputs: InputsIn,
    ) -> Result<u64, PlanError> {
        let demand = Demand {
            batch_size,
            examples,
            inputs,
            optimizer: self.optimizer.rule,
            keeps_global: self.privacy.is_some(),
        };
        let training = device_bytes(&self.model, self.vectors(), demand)?;
        let vector = 4 * self.travelling() as u64;
        Ok(training + u64::from(self.encoding_vectors()) * vector)
    }

    /// The global model of round 0.
    pub fn initial_params(&self) -> Vec<f32> {
        let mut params = vec![0.0; self.model.shape().num_params()];
        let init = Init::of(self.model.activation());
        self.model
            .init_params(init, self.seed, &mut params)
            .expect("the buffer was made for this shape");
        params
    }

    /// Arithmetic of the model's evaluation: that of the devices' training.
    pub(crate) fn evaluation_arithmetic(&self) -> fl_nn::Arithmetic {
        match self.arithmetic {
            Arithmetic::Fixed => fl_nn::Arithmetic::Fixed,
            Arithmetic::Float => fl_nn::Arithmetic::Float,
            Arithmetic::Integer => fl_nn::Arithmetic::Integer,
        }
    }

    /// Rules of the rounds.
    pub(crate) fn policy(&self) -> Policy {
        let us = |duration: Duration| duration.as_micros().try_into().unwrap_or(u64::MAX);
        Policy {
            clients: self.clients,
            first_round: self.first_round,
            last_round: self.rounds,
            seed: self.seed,
            clients_per_round: self.clients_per_round,
            over_commit: self.over_commit,
            quorum: self.quorum,
            wait_for: self.wait_for,
            ready_deadline_us: us(self.ready_deadline),
            round_deadline_us: us(self.round_deadline),
            gone_after_us: us(GONE_AFTER),
            stragglers: self.stragglers,
            order: self.order,
            start: StartPolicy {
                at_once: match self.clusters.is_empty() {
                    true => STARTS_AT_ONCE,
                    // An edge is asked once for all of its clients.
                    false => usize::MAX,
                },
                tries: START_TRIES,
                first_pause_us: us(START_PAUSES[0]),
                longest_pause_us: us(START_PAUSES[1]),
                within_us: us(start_within(self.round_deadline)),
            },
            evaluation: self.evaluation.as_ref().map(|one| EvaluationPolicy {
                every: one.every,
                clients: one.clients,
                deadline_us: us(self.round_deadline),
            }),
        }
    }

    /// True if later rounds follow from what the machine of the rounds remembers of earlier ones.
    pub(crate) fn remembers(&self) -> bool {
        let is_uniform = self.selection.selector.name() == Selection::default().selector.name();
        self.order == Order::Simulated || !is_uniform
    }

    /// The control message that starts a round on one client.
    pub fn start(&self, round: u32, token: Token, local: LocalParams, state_round: u32) -> Start {
        let LocalParams {
            local_epochs,
            batch_size,
            learning_rate,
            params,
        } = local;
        Start {
            round,
            token,
            local_epochs,
            batch_size,
            learning_rate,
            arithmetic: self.arithmetic,
            rule: self.rule(),
            params: wire_params(&params),
            state_round,
            encoding_up: codec_name(self.encoding_up),
            encoding_args: self.encoding_up.wire_params(),
            optimizer: self.optimizer.wire(),
            privacy: None,
            evaluate: false,
        }
    }
}

/// Parameters of a client rule, as in control messages.
pub(crate) fn wire_params(params: &fl_algo::Params) -> Params {
    let mut named = Params::new();
    for (spec, value) in params.iter() {
        // Never full: a rule has no more parameters than a message takes.
        let _ = named.set(spec.name, value as f32);
    }
    named
}

fn start_within(round_deadline: Duration) -> Duration {
    START_WITHIN.max(round_deadline / START_PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_round_has_time_for_a_longer_start() {
        for (deadline_s, within_s) in [(10, 30), (120, 30), (720, 180)] {
            let within = start_within(Duration::from_secs(deadline_s));
            assert_eq!(within, Duration::from_secs(within_s));
        }
    }
}
