//! The next model of a round: made of its updates, tested, and made again without those that ruin it.
//!
//! An update may pass every check of its own and still leave a mean that nobody can evaluate. It is left out
//! then, and its client has failed the round: an update can fail its device, never the run. Who is left out
//! follows from the updates alone, not from the order in which they came.

use std::fmt;
use std::sync::Arc;
use zfl_clock::Instant;

use anyhow::{Error, Result, bail};
use fl_algo::Update;
use fl_data::Dataset;
use fl_nn::Evaluation;
use tokio::task::spawn_blocking;
use zfl_run_dir::{Event, RoundPhase};

use crate::algorithm::{Aggregated, NoModel, UnusedUpdate};
use crate::config::Config;
use crate::evaluate::{classes, evaluate};
use crate::log::lock;
use crate::rounds::Rounds;

/// A model that was made and tested.
pub(crate) struct NextModel {
    pub aggregated: Aggregated,
    /// Updates that are not in it, in client order.
    pub unused: Vec<UnusedUpdate>,
    pub tested: Tested,
    pub aggregate_s: f64,
}

/// Test of a model; nothing is known of a run without a global one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tested {
    pub loss: Option<f64>,
    pub accuracy: Option<f64>,
    pub eval_s: f64,
}

impl Rounds {
    /// Makes and tests the next model of a round.
    ///
    /// # Errors
    /// If no update leaves a model that can be tested, or the algorithm takes none.
    pub(crate) async fn next_model(
        &mut self,
        round: u32,
        mut updates: Vec<Update>,
    ) -> Result<NextModel> {
        let (algorithm, global) = (self.algorithm.clone(), self.params.clone());
        let prepare = move || (lock(&algorithm).prepare(&global, &mut updates), updates);
        let (attacked, updates) = spawn_blocking(prepare).await?;
        let (updates, mut left_out) = self.drop_stragglers(round, updates);
        let (mut updates, dropped) = (Arc::new(updates), left_out.len());
        loop {
            let mut made = match self.attempt(round, &updates).await? {
                Ok(made) => made,
                Err(why) => {
                    updates = self.leave_out(updates, &mut left_out, why).await?;
                    continue;
                }
            };
            lock(&self.algorithm).accept(&mut made.aggregated);
            let mut unused = left_out;
            unused.append(&mut made.aggregated.rejected);
            unused.sort_by_key(|one| (one.client, one.round));
            let rejected = unused.len() - dropped;
            let counts = [
                ("attacking", attacked),
                ("dropped", dropped),
                ("rejected", rejected),
            ];
            for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
                let metrics = &mut made.aggregated.metrics;
                metrics.insert(format!("{name}_updates"), count as f64);
            }
            return Ok(NextModel { unused, ..made });
        }
    }

    /// Parts the updates of stragglers from the others, where they are left out.
    fn drop_stragglers(
        &self,
        round: u32,
        updates: Vec<Update>,
    ) -> (Vec<Update>, Vec<UnusedUpdate>) {
        let is_dropped = self.shared.config.partial_work.is_dropped;
        let is_straggler = |update: &Update| {
            is_dropped && update.round == round && self.stragglers.contains(&update.client)
        };
        let (dropped, kept) = updates.into_iter().partition::<Vec<_>, _>(is_straggler);
        let reason = |update: Update| UnusedUpdate {
            client: update.client,
            round,
            reason: "dropped: it is a straggler".to_owned(),
            is_planned: true,
        };
        (kept, dropped.into_iter().map(reason).collect())
    }

    /// Makes a model of these updates and tests it; the inner error is that it is of no use.
    async fn attempt(
        &self,
        round: u32,
        updates: &Arc<Vec<Update>>,
    ) -> Result<Result<NextModel, Error>> {
        self.shared.enter(round, RoundPhase::Aggregating);
        let began = Instant::now();
        let (algorithm, global) = (self.algorithm.clone(), self.params.clone());
        let updates = updates.clone();
        let aggregate = move || lock(&algorithm).aggregate(&global, &updates);
        let aggregated = match spawn_blocking(aggregate).await? {
            Ok(aggregated) => aggregated,
            Err(NoModel::Useless(why)) => return Ok(Err(Error::new(why))),
            Err(why) => bail!(why),
        };
        let aggregate_s = began.elapsed().as_secs_f64();
        self.shared.enter(round, RoundPhase::Evaluating);
        let tested = self.test(round, aggregated.params.clone()).await?;
        Ok(tested.map(|tested| NextModel {
            aggregated,
            unused: Vec::new(),
            tested,
            aggregate_s,
        }))
    }

    /// Tests a model and tells the result; the inner error is that it cannot be tested.
    pub(crate) async fn test(
        &self,
        round: u32,
        params: Arc<Vec<f32>>,
    ) -> Result<Result<Tested, Error>> {
        if !self.shared.config.algorithm.has_global_model() {
            return Ok(Ok(Tested::default()));
        }
        let began = Instant::now();
        let (shared, test) = (self.shared.clone(), self.test.clone());
        let work = move || evaluated(&shared.config, &params, &test);
        let found = match spawn_blocking(work).await? {
            Ok(found) => found,
            Err(why) => return Ok(Err(why.context(format!("test the model of round {round}")))),
        };
        let (loss, accuracy) = (found.mean_loss(), found.accuracy());
        self.shared.log.emit(Event::Evaluated {
            round,
            loss,
            accuracy,
        });
        Ok(Ok(Tested {
            loss: Some(loss),
            accuracy: Some(accuracy),
            eval_s: began.elapsed().as_secs_f64(),
        }))
    }

    /// Tests the last model class by class, and tells the result.
    ///
    /// # Errors
    /// If it cannot be tested.
    pub(crate) async fn test_classes(&self) -> Result<()> {
        let round = self.table.last().map_or(0, |record| record.round);
        let (shared, test, params) = (self.shared.clone(), self.test.clone(), self.params.clone());
        let work = move || {
            let config = &shared.config;
            classes(
                &config.model,
                &params,
                &test,
                config.evaluation_arithmetic(),
            )
        };
        let confusion = spawn_blocking(work).await??;
        self.shared
            .log
            .emit(Event::ClassesTested { round, confusion });
        Ok(())
    }

    /// Leaves out those that ruin a model, and begins the round again for the others.
    async fn leave_out(
        &self,
        updates: Arc<Vec<Update>>,
        left_out: &mut Vec<UnusedUpdate>,
        why: Error,
    ) -> Result<Arc<Vec<Update>>> {
        let (shared, test, all) = (self.shared.clone(), self.test.clone(), updates.clone());
        let find = move || ruinous(&shared.config, &test, &all);
        let ruinous = spawn_blocking(find).await?;
        if ruinous.len() == updates.len() {
            let largest = Largest::of(updates.iter());
            return Err(why.context(largest.map(|it| it.to_string()).unwrap_or_default()));
        }
        let (mut kept, mut out) = (Vec::new(), Vec::new());
        let updates = Arc::unwrap_or_clone(updates);
        for (at, update) in updates.into_iter().enumerate() {
            let to = if ruinous.contains(&at) {
                &mut out
            } else {
                &mut kept
            };
            to.push(update);
        }
        left_out.extend(out.iter().map(|update| {
            let param = Largest::of([update].into_iter()).map_or(0.0, |largest| largest.param);
            UnusedUpdate {
                client: update.client,
                round: update.round,
                is_planned: false,
                reason: format!(
                    "left out: with it the model cannot be tested; its largest parameter is {param:e}"
                ),
            }
        }));
        let dir = self.run_dir.state().clone();
        lock(&self.algorithm).begin_again(&dir, &self.params)?;
        Ok(Arc::new(kept))
    }
}

/// Loss and accuracy of a model on the test set.
fn evaluated(config: &Config, params: &[f32], test: &Dataset) -> Result<Evaluation> {
    let arithmetic = config.evaluation_arithmetic();
    Ok(evaluate(&config.model, params, test, arithmetic)?)
}

/// Places of the updates because of which a model cannot be tested: from the largest on those that cannot be
/// tested alone; if all can, the largest.
fn ruinous(config: &Config, test: &Dataset, updates: &[Update]) -> Vec<usize> {
    let sizes: Vec<f64> = updates.iter().map(size).collect();
    let mut order: Vec<usize> = (0..updates.len()).collect();
    // Stable: of equal ones the lower client is first.
    order.sort_by(|&a, &b| sizes[b].total_cmp(&sizes[a]));
    let alone = |at: &&usize| evaluated(config, updates[**at].model(), test).is_err();
    let ruinous: Vec<usize> = order.iter().take_while(alone).copied().collect();
    match ruinous.is_empty() {
        true => order.into_iter().take(1).collect(),
        false => ruinous,
    }
}

/// Squared norm of all that an update brings.
fn size(update: &Update) -> f64 {
    let numbers = update.sections.values().flatten();
    numbers.map(|number| f64::from(*number).powi(2)).sum()
}

/// The largest parameter among updates, and its client: advice for a mean that is of no use although
/// each update seemed sound.
#[derive(Clone, Copy, Debug)]
struct Largest {
    param: f32,
    client: u32,
}

impl Largest {
    fn of<'a>(updates: impl Iterator<Item = &'a Update>) -> Option<Self> {
        let each = updates.map(|update| {
            let params = update.model().iter();
            let param = params.fold(0.0_f32, |most, param| most.max(param.abs()));
            let client = update.client;
            Self { param, client }
        });
        each.max_by(|a, b| a.param.total_cmp(&b.param))
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
