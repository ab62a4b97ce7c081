//! The algorithm of a run at work: its server rule, and what is kept of the clients.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow, ensure};
use fl_algo::{
    AggregateError, Attackers, KeptVectors, LocalParams, Partial, Rejected, RoundMetrics,
    SavedState, Sections, ServerRule, Update, VectorSpec, attack,
};
use fl_round::Stragglers;
use zfl_run_dir::{StateDir, StatePart};

use crate::config::{Config, Weighting};
use crate::log::lock;
use crate::memory;
use crate::privacy::{RunningPrivacy, Spent};
use crate::spread::spread;

/// Name of the rule's own part of the state.
const RULE: &str = "rule";

/// Fewest updates, and numbers in all of them, that are worth other threads.
const TOGETHER: usize = 8;
const NUMBERS_TOGETHER: usize = 1 << 16;

/// Name of the part of differential privacy.
const PRIVACY: &str = "privacy";

/// The server's copies of what clients keep from round to round.
#[derive(Clone, Debug, Default)]
pub struct KeptByClient {
    of: Arc<Mutex<BTreeMap<u32, Arc<KeptVectors>>>>,
    /// Copies of the clients of an edge, by its ID, that count once the sums do in which their updates are.
    proposed: Arc<Mutex<BTreeMap<u32, BTreeMap<u32, KeptVectors>>>>,
}

impl KeptByClient {
    /// The copy of a client's state, if it has one.
    pub fn get(&self, client: u32) -> Option<Arc<KeptVectors>> {
        lock(&self.of).get(&client).cloned()
    }

    /// The round at whose end a client's state is known; 0 if there is none.
    pub fn round(&self, client: u32) -> u32 {
        lock(&self.of).get(&client).map_or(0, |state| state.round)
    }

    pub(crate) fn insert(&self, client: u32, state: KeptVectors) {
        lock(&self.of).insert(client, Arc::new(state));
    }

    /// Notes what the clients of an edge keep if its sums count.
    pub(crate) fn propose(&self, edge: u32, kept: BTreeMap<u32, KeptVectors>) {
        lock(&self.proposed).insert(edge, kept);
    }

    /// Vectors that the clients of an edge keep if its sums count.
    pub(crate) fn proposed(&self, edge: u32) -> BTreeMap<u32, KeptVectors> {
        lock(&self.proposed).get(&edge).cloned().unwrap_or_default()
    }

    /// Keeps what was proposed for an edge; returns whose it is.
    pub(crate) fn take_proposed(&self, edge: u32) -> Vec<u32> {
        let kept = lock(&self.proposed).remove(&edge).unwrap_or_default();
        let clients = kept.keys().copied().collect();
        for (client, state) in kept {
            self.insert(client, state);
        }
        clients
    }

    fn all(&self) -> Vec<(u32, Arc<KeptVectors>)> {
        let states = lock(&self.of);
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
    /// Devices keep what nobody else has: which round it is of is all that is known here.
    keeps_personal: bool,
    weighting: Weighting,
    privacy: Option<RunningPrivacy>,
    clients: KeptByClient,
    /// Clients whose state has changed since it was saved.
    changed: Vec<u32>,
}

/// The next global model, and how it came about.
#[derive(Debug)]
pub(crate) struct Aggregated {
    pub params: Arc<Vec<f32>>,
    pub metrics: RoundMetrics,
    /// Updates that the rule did not take, in client order.
    pub rejected: Vec<UnusedUpdate>,
    /// Vectors that clients keep from then on.
    kept: BTreeMap<u32, KeptVectors>,
    /// Privacy that it cost.
    spent: Option<Spent>,
}

/// Reason why there is no next model.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoModel {
    /// The rule takes none of the updates.
    #[error("{0}")]
    NothingTaken(String),
    /// The numbers of what it took make none.
    #[error("{0}")]
    Useless(AggregateError),
}

/// An update that is not in the next model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnusedUpdate {
    pub client: u32,
    /// The round that it was asked for.
    pub round: u32,
    /// Reason, in words.
    pub reason: String,
    /// The run was asked to leave it out: its client has not failed.
    pub is_planned: bool,
}

impl RunningAlgorithm {
    /// Makes the rule that a run has chosen.
    ///
    /// # Errors
    /// If the algorithm does not fit the run.
    pub fn new(config: &Config, clients: KeptByClient) -> Result<Self> {
        let choice = &config.algorithm;
        let rule = choice.server(
            config.sizes(),
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
            keeps_personal: config.keeps_personal(),
            weighting: config.weighting,
            privacy: config
                .privacy
                .map(|asked| RunningPrivacy::new(asked, config)),
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

    /// Tells the rule the rounds before this one whose updates may still come.
    pub fn may_come(&mut self, rounds: &BTreeSet<u32>) {
        self.rule.may_come(rounds);
    }

    /// Parameters of a client for a round, unless the rule changes them.
    pub fn configure(&self, round: u32, client: u32, local: &mut LocalParams) {
        self.rule.configure(round, client, local);
    }

    /// Puts a round's updates into the order of clients, a late one before that of the round, and lets the
    /// attackers change theirs; returns how many did.
    pub fn prepare(&self, global: &[f32], updates: &mut [Update]) -> usize {
        updates.sort_by_key(|update| (update.client, update.round));
        for update in &mut *updates {
            update.weight = match self.weighting {
                Weighting::NumExamples => update.num_examples,
                Weighting::Uniform => 1,
            };
        }
        attack(&self.attackers, (self.seed, self.round), global, updates)
    }

    /// Makes the next global model of updates that are [prepared](Self::prepare). It takes a while. Nothing
    /// of it lasts beyond the rule before [`RunningAlgorithm::accept`].
    ///
    /// # Errors
    /// [`NoModel`] if there is none.
    pub fn aggregate(&mut self, global: &[f32], updates: &[Update]) -> Result<Aggregated, NoModel> {
        let (mut rejected, mut kept) = (Vec::new(), BTreeMap::new());
        let privacy = self.privacy.as_ref();
        let spent = privacy.map(|privacy| privacy.spent(self.round, updates));
        let protected = privacy.map(|privacy| privacy.protect(self.round, global, updates));
        let updates = protected.as_deref().unwrap_or(updates);
        let summed = self.add_together(updates);
        for update in updates {
            let (client, round) = (update.client, update.round);
            let saved = self.clients.get(client);
            let before = kept.get(&client).or(saved.as_deref());
            let added = match summed {
                true => Ok(()),
                false => self.rule.add(update, before),
            };
            match added {
                Ok(()) if update.partial.is_some() => kept.extend(self.clients.proposed(client)),
                Ok(()) => kept.extend(self.kept_of(update).map(|state| (client, state))),
                Err(Rejected(reason)) => rejected.push(UnusedUpdate {
                    client,
                    round,
                    reason,
                    is_planned: false,
                }),
            }
        }
        if let Some(UnusedUpdate { client, reason, .. }) = rejected.first()
            && rejected.len() == updates.len()
        {
            let count = updates.len();
            return Err(NoModel::NothingTaken(format!(
                "the algorithm took none of {count} updates: that of client {client}: {reason}"
            )));
        }
        for one in &mut rejected {
            one.reason = format!("rejected by the algorithm: {}", one.reason);
        }
        let mut params = global.to_vec();
        let finished = self.rule.finish(&mut params);
        Ok(Aggregated {
            metrics: finished.map_err(NoModel::Useless)?,
            params: Arc::new(params),
            rejected,
            kept,
            spent,
        })
    }

    /// Takes all updates in at once, on all processors, if the rule takes nothing but their mean: sums are exact,
    /// and so the same in any order. False if they are to come one by one.
    fn add_together(&mut self, updates: &[Update]) -> bool {
        let len = updates.first().map_or(0, |update| update.model().len());
        let is_sum = |update: &Update| update.partial.is_some();
        let is_worth_it = updates.len() >= TOGETHER && len * updates.len() >= NUMBERS_TOGETHER;
        if !is_worth_it || !self.rule.takes_the_mean() || updates.iter().any(is_sum) {
            return false;
        }
        let sums = spread(updates, |part| {
            let mut sums = Partial::new(len, []);
            for update in part {
                sums.add(update, None)?;
            }
            Ok::<_, Rejected>(sums)
        });
        let sum = sums.into_iter().reduce(|sum, part| {
            let mut sum = sum?;
            sum.merge(&part?)?;
            Ok(sum)
        });
        let Some(Ok(sum)) = sum else {
            // Whose fault it is shows one by one.
            return false;
        };
        let sum = Update {
            partial: Some(Box::new(sum)),
            ..Update::default()
        };
        self.rule.add(&sum, None).is_ok()
    }

    /// Keeps what the clients of a model keep, which has been tested.
    pub fn accept(&mut self, aggregated: &mut Aggregated) {
        for (client, state) in std::mem::take(&mut aggregated.kept) {
            self.clients.insert(client, state);
            self.changed.push(client);
        }
        if let (Some(privacy), Some(spent)) = (&mut self.privacy, aggregated.spent.take()) {
            let told = privacy.accept(spent, self.round);
            let told = told
                .into_iter()
                .map(|(name, number)| (name.to_owned(), number));
            aggregated.metrics.extend(told);
        }
    }

    /// Bound and noise of the updates of the round.
    pub fn privacy(&self) -> Option<fl_proto::Privacy> {
        self.privacy.as_ref().map(RunningPrivacy::wire)
    }

    /// Begins the round again, as after the end of the round before it: its model is of no use.
    ///
    /// # Errors
    /// As [`RunningAlgorithm::restore`].
    pub fn begin_again(&mut self, dir: &StateDir, global: &[f32]) -> Result<()> {
        self.restore(dir, self.round.saturating_sub(1))?;
        self.rule.begin(self.round, global);
        Ok(())
    }

    /// Kept vectors among the sections of an update; none but the round where only the device has them.
    fn kept_of(&self, update: &Update) -> Option<KeptVectors> {
        kept_of(self.vectors, self.keeps_personal, update)
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
                ..StatePart::default()
            };
            dir.write(RULE, &part)?;
        }
        if let Some(privacy) = &self.privacy {
            dir.write(PRIVACY, &privacy.save(round))?;
        }
        for client in self.changed.drain(..) {
            if let Some(state) = self.clients.get(client) {
                let of = f64::from(state.round);
                let part = StatePart {
                    round,
                    numbers: [(StatePart::ROUND.to_owned(), of)].into(),
                    vectors: state.sections.clone(),
                    ..StatePart::default()
                };
                dir.write(&format!("{}{client}", StatePart::CLIENT), &part)?;
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
            if name == PRIVACY {
                let known = self.privacy.as_mut().map(|privacy| privacy.restore(&part));
                ensure!(known == Some(true), "state of {name}: not of this run");
                continue;
            }
            let StatePart {
                numbers, vectors, ..
            } = part;
            if name == RULE {
                saved = Some(SavedState { numbers, vectors });
                continue;
            }
            if memory::is_part(&name) {
                continue;
            }
            let client = name
                .strip_prefix(StatePart::CLIENT)
                .and_then(|id| id.parse().ok());
            let client = client.with_context(|| format!("state of {name}: no such part"))?;
            let of = numbers.get(StatePart::ROUND).copied().unwrap_or_default();
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

/// Kept vectors among the sections of an update; see [`RunningAlgorithm::kept_of`].
pub(crate) fn kept_of(
    vectors: &[VectorSpec],
    keeps_personal: bool,
    update: &Update,
) -> Option<KeptVectors> {
    let mirrored = vectors.iter().filter(|spec| spec.is_mirrored());
    let section = |spec: &VectorSpec| {
        let values = update.sections.get(spec.name)?;
        Some((spec.name.to_owned(), values.clone()))
    };
    let sections: Sections = mirrored.filter_map(section).collect();
    (!sections.is_empty() || keeps_personal).then_some(KeptVectors {
        round: update.round,
        sections,
    })
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
            keeps_personal: false,
            weighting: Weighting::Uniform,
            privacy: None,
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

    /// Makes the next model and keeps what comes of it.
    fn aggregate(
        running: &mut RunningAlgorithm,
        global: &[f32],
        mut of: Vec<Update>,
    ) -> Aggregated {
        running.prepare(global, &mut of);
        let mut found = running.aggregate(global, &of).unwrap();
        running.accept(&mut found);
        found
    }

    #[test]
    fn a_late_update_goes_before_that_of_the_round() {
        let mut running = running("scaffold");
        running.begin(1, &[0.0]);
        let first = aggregate(&mut running, &[0.0], vec![update(0, 1, 2.0, 8.0)]);
        assert_eq!(*first.params, [2.0]);
        let down = running.begin(2, &[2.0]);
        assert_eq!(down["server_variate"], [4.0]);
        // Client 1 comes with two: what counts of it in the end is the newer.
        let both = vec![update(1, 2, 4.0, 6.0), update(1, 1, 8.0, 100.0)];
        assert_eq!(*aggregate(&mut running, &[2.0], both).params, [6.0]);
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
        aggregate(&mut first, &[0.0], vec![update(0, 1, 2.0, 8.0)]);
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
        let found = aggregate(&mut running, &[0.0], updates);
        assert_eq!((&**found.params, found.rejected.len()), (&[3.0][..], 1));
        assert!(running.clients.get(0).is_none());
    }

    /// All processors together make what one of them makes, and find whose update is of no use.
    #[test]
    fn updates_together_make_the_model_of_one_by_one() {
        let len = NUMBERS_TOGETHER / TOGETHER;
        let choice = Choice::named("fedavg").unwrap();
        let begun = || {
            let mut running = running("fedavg");
            running.rule = choice.server(len, 99, 99, 1).unwrap();
            running.begin(1, &vec![0.0; len]);
            running
        };
        let of = |updates: &[Update]| {
            let made = begun().aggregate(&vec![0.0; len], updates);
            made.map(|made| (made.params, made.rejected.len()))
        };
        let number = |at: usize| (at as f32 * 0.37).sin() * 10_f32.powi(at as i32 % 70 - 35);
        let mut updates: Vec<Update> = (0..TOGETHER as u32 + 3)
            .map(|client| Update {
                weight: 1 + 13 * client,
                sections: [(
                    "model".to_owned(),
                    (0..len)
                        .map(|at| number(at * 7 + client as usize))
                        .collect(),
                )]
                .into(),
                ..update(client, 1, 0.0, 0.0)
            })
            .collect();
        let mut one_by_one = choice.server(len, 99, 99, 1).unwrap();
        one_by_one.begin(1, &vec![0.0; len]);
        for update in &updates {
            one_by_one.add(update, None).unwrap();
        }
        let mut expected = vec![0.0; len];
        one_by_one.finish(&mut expected).unwrap();
        assert_eq!(of(&updates).unwrap(), (Arc::new(expected), 0));
        assert!(begun().add_together(&updates));
        updates[4].model_mut()[len - 1] = f32::NAN;
        assert!(!begun().add_together(&updates));
        let (_, rejected) = of(&updates).unwrap();
        assert_eq!(rejected, 1);
        let sound: Vec<Update> = updates
            .iter()
            .filter(|one| one.client != 4)
            .cloned()
            .collect();
        assert_eq!(of(&updates).unwrap().0, of(&sound).unwrap().0);
    }

    #[test]
    fn a_round_that_begins_again_goes_on_from_the_round_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = StateDir::of(folder.path());
        let mut running = running("scaffold");
        running.begin(1, &[0.0]);
        aggregate(&mut running, &[0.0], vec![update(0, 1, 2.0, 8.0)]);
        running.save(&mut state, 1).unwrap();
        running.begin(2, &[2.0]);
        let mut both = vec![update(0, 2, 4.0, 1e6), update(1, 2, 6.0, 6.0)];
        running.prepare(&[2.0], &mut both);
        running.aggregate(&[2.0], &both).unwrap();
        // As if the first had ruined the model.
        running.begin_again(&state, &[2.0]).unwrap();
        let found = aggregate(&mut running, &[2.0], both[1..].to_vec());
        assert_eq!(*found.params, [6.0]);
        assert_eq!(running.begin(3, &[6.0])["server_variate"], [7.0]);
        assert_eq!((running.clients.round(0), running.clients.round(1)), (1, 2));
    }
}
