//! The algorithm of a run at work: its server rule, and what is kept of the clients.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow, bail};
use fl_algo::{
    Attackers, KeptVectors, LocalParams, Rejected, RoundMetrics, SavedState, Sections, ServerRule,
    Update, VectorSpec, attack,
};
use fl_round::Stragglers;
use zfl_run_dir::{StateDir, StatePart};

use crate::config::{Config, Weighting};
use crate::log::lock;

/// Name of the rule's own part of the state.
const RULE: &str = "rule";

/// Names of the clients' parts begin so.
const CLIENT: &str = "client-";

/// The server's copies of what clients keep from round to round.
#[derive(Clone, Debug, Default)]
pub struct KeptByClient(Arc<Mutex<BTreeMap<u32, Arc<KeptVectors>>>>);

impl KeptByClient {
    /// The copy of a client's state, if it has one.
    pub fn get(&self, client: u32) -> Option<Arc<KeptVectors>> {
        lock(&self.0).get(&client).cloned()
    }

    /// The round at whose end a client's state is known; 0 if there is none.
    pub fn round(&self, client: u32) -> u32 {
        lock(&self.0).get(&client).map_or(0, |state| state.round)
    }

    fn insert(&self, client: u32, state: KeptVectors) {
        lock(&self.0).insert(client, Arc::new(state));
    }

    fn all(&self) -> Vec<(u32, Arc<KeptVectors>)> {
        let states = lock(&self.0);
        states
            .iter()
            .map(|(id, state)| (*id, state.clone()))
            .collect()
    }
}

/// The algorithm of a run at work.
pub(crate) struct RunningAlgorithm {
    rule: Box<dyn ServerRule>,
    attackers: Attackers,
    seed: u64,
    /// The round that has begun.
    round: u32,
    vectors: &'static [VectorSpec],
    weighting: Weighting,
    clients: KeptByClient,
    /// Clients whose state has changed since it was saved.
    changed: Vec<u32>,
}

/// The next global model, and how it came about.
#[derive(Debug)]
pub(crate) struct Aggregated {
    pub params: Vec<f32>,
    pub metrics: RoundMetrics,
    /// Updates that the rule did not take, in client order.
    pub rejected: Vec<RejectedUpdate>,
    pub largest: Largest,
}

/// An update that the rule did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RejectedUpdate {
    pub client: u32,
    /// The round that it was asked for.
    pub round: u32,
    /// Reason, in words.
    pub reason: String,
}

/// The largest parameter among updates, and its client: advice for a mean that is of no use although
/// each update seemed sound.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Largest {
    param: f32,
    client: u32,
}

impl Largest {
    fn of(updates: &[Update]) -> Self {
        let each = updates.iter().map(|update| {
            let params = update.model().iter();
            let param = params.fold(0.0_f32, |most, param| most.max(param.abs()));
            let client = update.client;
            Self { param, client }
        });
        let largest = each.max_by(|a, b| a.param.total_cmp(&b.param));
        largest.unwrap_or_default()
    }
}

impl fmt::Display for Largest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { param, client } = self;
        write!(
            f,
            "the largest parameter, {param:e}, is of client {client}: look at its log"
        )
    }
}

impl RunningAlgorithm {
    /// Makes the rule that a run has chosen.
    ///
    /// # Errors
    /// If the algorithm does not fit the run.
    pub fn new(config: &Config, clients: KeptByClient) -> Result<Self> {
        let choice = &config.algorithm;
        let rule = choice.server(
            config.model.shape().num_params(),
            config.clients,
            config.clients_per_round,
            config.seed,
        );
        Ok(Self {
            rule: rule.map_err(|why| anyhow!(why))?,
            attackers: config.attackers.clone(),
            seed: config.seed,
            round: 0,
            vectors: config.vectors(),
            weighting: config.weighting,
            clients,
            changed: Vec::new(),
        })
    }

    /// Treatment of updates that come after their round, if the algorithm has one of its own.
    pub fn stragglers(&self) -> Option<Stragglers> {
        let policy = self.rule.policy();
        policy.buffer_size.map(|size| Stragglers::Buffer {
            size,
            staleness: policy.max_staleness,
        })
    }

    /// Begins a round on a global model; returns the sections that its cohort gets beside the model.
    pub fn begin(&mut self, round: u32, global: &[f32]) -> Sections {
        self.round = round;
        self.rule.begin(round, global);
        let sections = self.rule.down_sections().into_iter();
        sections
            .map(|(name, values)| (name.to_owned(), values.to_vec()))
            .collect()
    }

    /// Parameters of a client for a round, unless the rule changes them.
    pub fn configure(&self, round: u32, client: u32, local: &mut LocalParams) {
        self.rule.configure(round, client, local);
    }

    /// Makes the next global model of a round's updates. It takes a while.
    ///
    /// # Errors
    /// If there is none, or if the rule takes none of the updates.
    pub fn aggregate(&mut self, global: &[f32], updates: Vec<Update>) -> Result<Aggregated> {
        let mut rejected = Vec::new();
        let count = updates.len();
        let mut kept = BTreeMap::new();
        let mut updates = updates;
        // A late update goes before that of the round.
        updates.sort_by_key(|update| (update.client, update.round));
        let place = (self.seed, self.round);
        let attacked = attack(&self.attackers, place, global, &mut updates);
        let largest = Largest::of(&updates);
        for mut update in updates {
            update.weight = match self.weighting {
                Weighting::NumExamples => update.num_examples,
                Weighting::Uniform => 1,
            };
            let (client, round) = (update.client, update.round);
            let state = self.kept_of(&update);
            let saved = self.clients.get(client);
            match self
                .rule
                .add(update, kept.get(&client).or(saved.as_deref()))
            {
                Ok(()) => kept.extend(state.map(|state| (client, state))),
                Err(Rejected(reason)) => rejected.push(RejectedUpdate {
                    client,
                    round,
                    reason,
                }),
            }
        }
        if count > 0 && rejected.len() == count {
            let RejectedUpdate { client, reason, .. } = &rejected[0];
            bail!("the algorithm took none of {count} updates: that of client {client}: {reason}");
        }
        let mut params = global.to_vec();
        let finished = self.rule.finish(&mut params);
        let mut metrics = finished.with_context(|| largest.to_string())?;
        for (client, state) in kept {
            self.clients.insert(client, state);
            self.changed.push(client);
        }
        if attacked > 0 {
            metrics.insert("attacking_updates".to_owned(), attacked as f64);
        }
        if !rejected.is_empty() {
            metrics.insert("rejected_updates".to_owned(), rejected.len() as f64);
        }
        Ok(Aggregated {
            params,
            metrics,
            rejected,
            largest,
        })
    }

    /// Kept vectors among the sections of an update.
    fn kept_of(&self, update: &Update) -> Option<KeptVectors> {
        let mirrored = self.vectors.iter().filter(|spec| spec.is_mirrored());
        let section = |spec: &VectorSpec| {
            let values = update.sections.get(spec.name)?;
            Some((spec.name.to_owned(), values.clone()))
        };
        let sections: Sections = mirrored.filter_map(section).collect();
        (!sections.is_empty()).then_some(KeptVectors {
            round: update.round,
            sections,
        })
    }

    /// Writes the state at the end of `round`, before its model is written.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn save(&mut self, dir: &mut StateDir, round: u32) -> Result<()> {
        let SavedState { numbers, vectors } = self.rule.save();
        if !(numbers.is_empty() && vectors.is_empty()) {
            let part = StatePart {
                round,
                numbers,
                vectors,
            };
            dir.write(RULE, &part)?;
        }
        for client in self.changed.drain(..) {
            if let Some(state) = self.clients.get(client) {
                // A late update leaves a state of the round that it was asked in.
                let of = f64::from(state.round);
                let part = StatePart {
                    round,
                    numbers: [("state_round".to_owned(), of)].into(),
                    vectors: state.sections.clone(),
                };
                dir.write(&format!("{CLIENT}{client}"), &part)?;
            }
        }
        Ok(())
    }

    /// Goes on from the state at the end of `round`.
    ///
    /// # Errors
    /// If it is not there or not of this algorithm and model.
    pub fn restore(&mut self, dir: &StateDir, round: u32) -> Result<()> {
        let mut saved = None;
        for (name, part) in dir.read()? {
            let StatePart {
                numbers, vectors, ..
            } = part;
            if name == RULE {
                saved = Some(SavedState { numbers, vectors });
                continue;
            }
            let client = name.strip_prefix(CLIENT).and_then(|id| id.parse().ok());
            let client = client.with_context(|| format!("state of {name}: no such part"))?;
            let of = numbers.get("state_round").copied().unwrap_or_default();
            let state = KeptVectors {
                round: of as u32,
                sections: vectors,
            };
            self.clients.insert(client, state);
        }
        // A rule without state is as good as new; one that has some saved it with the first round.
        if round == 0 && saved.is_none() {
            return Ok(());
        }
        let states = self.clients.all();
        let mut states = states.iter().map(|(id, state)| (*id, &**state));
        let restored = self.rule.restore(saved.unwrap_or_default(), &mut states);
        restored.with_context(|| format!("the algorithm's state after round {round}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fl_algo::Choice;

    fn running(name: &str) -> RunningAlgorithm {
        let choice = Choice::named(name).unwrap();
        let client = choice.algorithm.device.client;
        RunningAlgorithm {
            rule: choice.server(1, 2, 2, 1).unwrap(),
            attackers: Attackers::default(),
            seed: 1,
            round: 0,
            vectors: client.vectors(&choice.device_params),
            weighting: Weighting::Uniform,
            clients: KeptByClient::default(),
            changed: Vec::new(),
        }
    }

    fn update(client: u32, round: u32, model: f32, variate: f32) -> Update {
        let section = |name: &str, value| (name.to_owned(), vec![value]);
        Update {
            client,
            round,
            num_examples: 7,
            sections: [section("model", model), section("client_variate", variate)].into(),
            ..Update::default()
        }
    }

    #[test]
    fn a_late_update_goes_before_that_of_the_round() {
        let mut running = running("scaffold");
        running.begin(1, &[0.0]);
        let first = running.aggregate(&[0.0], vec![update(0, 1, 2.0, 8.0)]);
        assert_eq!(first.unwrap().params, [2.0]);
        let down = running.begin(2, &[2.0]);
        assert_eq!(down["server_variate"], [4.0]);
        // Client 1 comes with two: what counts of it in the end is the newer.
        let both = vec![update(1, 2, 4.0, 6.0), update(1, 1, 8.0, 100.0)];
        assert_eq!(running.aggregate(&[2.0], both).unwrap().params, [6.0]);
        let down = running.begin(3, &[6.0]);
        assert_eq!(down["server_variate"], [7.0]);
        assert_eq!(running.clients.round(1), 2);
    }

    #[test]
    fn a_state_is_saved_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = StateDir::of(folder.path());
        let mut first = running("scaffold");
        first.begin(1, &[0.0]);
        first
            .aggregate(&[0.0], vec![update(0, 1, 2.0, 8.0)])
            .unwrap();
        first.save(&mut state, 1).unwrap();
        let mut second = running("scaffold");
        second.restore(&state, 1).unwrap();
        assert_eq!(second.begin(2, &[2.0])["server_variate"], [4.0]);
        assert_eq!(second.clients.get(0), first.clients.get(0));
        let nothing = StateDir::of(folder.path());
        let refused = running("scaffold").restore(&nothing, 0);
        assert!(refused.is_ok(), "before the first round nothing is kept");
        let refused = running("scaffold").restore(&nothing, 1).unwrap_err();
        assert!(
            format!("{refused:#}").contains("after round 1"),
            "{refused:#}"
        );
    }

    #[test]
    fn an_update_that_its_rule_refuses_is_counted_and_changes_nothing() {
        let mut running = running("scaffold");
        running.begin(1, &[0.0]);
        let updates = vec![update(0, 1, f32::NAN, 5.0), update(1, 1, 3.0, 4.0)];
        let found = running.aggregate(&[0.0], updates).unwrap();
        assert_eq!(found.params, [3.0]);
        assert_eq!(found.metrics["rejected_updates"], 1.0);
        assert!(running.clients.get(0).is_none());
    }
}
