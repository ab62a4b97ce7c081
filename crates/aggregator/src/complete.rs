//! The end of a round: updates become the next model, which is tested and written down.

use anyhow::{Context, Result, anyhow, bail};
use fl_algo::Update;
use fl_proto::cluster::EdgeWork;
use fl_round::{Arrival, Closed, EvaluatedRound, Order};
use tokio::task::spawn_blocking;
use zfl_run_dir::{ClientRecord, Event, LevelRecord, RoundEnd, RoundRecord, Seal, Traffic};

use crate::algorithm::{Aggregated, UnusedUpdate};
use crate::log::lock;
use crate::next_model::NextModel;
use crate::rounds::{Made, Rounds};
use crate::shared::Received;
use crate::traffic::{self, ANSWERS_WITHIN};

/// Updates and rows of a closed round.
struct Harvest {
    /// Updates that count, in client order; behind them the late ones, in client order.
    updates: Vec<Update>,
    /// Rows of those that were in time and of those that failed, in client order.
    records: Vec<ClientRecord>,
    /// Rows of those that came late.
    late: Vec<ClientRecord>,
}

impl Rounds {
    /// Writes the row of the model that nobody has trained.
    pub(crate) async fn evaluate_initial(&mut self) -> Result<()> {
        let tested = self.test(0, self.params.clone()).await??;
        let record = RoundRecord {
            test_loss: tested.loss,
            test_accuracy: tested.accuracy,
            eval_s: tested.eval_s,
            elapsed_s: self.shared.log.elapsed_s(),
            ..RoundRecord::default()
        };
        self.finish_round(record, &[]).await
    }

    /// Writes a round down whose model is made, with what its evaluation on devices found.
    pub(crate) async fn finish(&mut self, evaluated: EvaluatedRound) -> Result<()> {
        let Some(made) = self.made.take() else {
            return Ok(());
        };
        let Made {
            record,
            clients: records,
            ..
        } = made;
        if !evaluated.evaluations.is_empty() {
            self.settle_bytes().await;
        }
        let record = match self.evaluations(&evaluated)? {
            Some(evaluation) => record.with_evaluation(&evaluation),
            None => record,
        };
        let traffic = self
            .shared
            .with(|state, _| traffic::next(record.round, &mut state.roster));
        self.run_dir.traffic(&traffic)?;
        let levels = self.levels(&traffic, record.aggregate_s);
        let own = || traffic.iter().filter(|row| self.is_own(row));
        let record = RoundRecord {
            bytes_up: own().map(|row| row.bytes_up).sum(),
            bytes_down: own().map(|row| row.bytes_down).sum(),
            round_s: self.round_began.0.elapsed().as_secs_f64(),
            elapsed_s: self.shared.log.elapsed_s(),
            rejected: self.shared.look(|state| state.rejected) - self.round_began.1,
            levels,
            ..record
        };
        self.finish_round(record, &records).await
    }

    /// Levels of the edges in a round with this traffic, in which the root took so long to make its model.
    fn levels(&self, traffic: &[Traffic], aggregate_s: f64) -> Vec<LevelRecord> {
        let config = &self.shared.config;
        let shape = config.levels();
        let mut levels = shape.of(traffic);
        let held = size_of::<i128>() * config.travelling();
        let own = ((aggregate_s * 1e6) as u64, held as u64);
        shape.note_work(&mut levels, None, own);
        let work = self.shared.with(|state, _| std::mem::take(&mut state.work));
        for (id, EdgeWork { add_us, held }) in work {
            shape.note_work(&mut levels, Some(id), (add_us, held));
        }
        levels
    }

    /// Aggregates a round that is over and tests the model.
    pub(crate) async fn close(&mut self, closed: Closed) -> Result<()> {
        let Harvest {
            updates,
            mut records,
            mut late,
        } = self.harvest(&closed);
        if closed.failure.is_some() {
            return self.write_failed(records, late).await;
        }
        let round = closed.round;
        let made = self.next_model(round, updates).await;
        let NextModel {
            aggregated: Aggregated {
                params, metrics, ..
            },
            unused,
            tested,
            aggregate_s,
        } = made.with_context(|| format!("round {round}"))?;
        let missing = self.note_unused(&unused, &mut records);
        self.note_unused(&unused, &mut late);
        let results = closed.updates.len() as u32 - missing;
        if results < self.shared.config.quorum {
            self.write_failed(records, late).await?;
            bail!("{}", self.missed_quorum(&closed, results, &unused));
        }
        // Only now: the model of a run is one that has been tested.
        let before = std::mem::replace(&mut self.params, params);
        self.settle_bytes().await;
        let tested = RoundRecord {
            results,
            failures: closed.failed.len() as u32 + missing,
            late: late.len() as u32,
            test_loss: tested.loss,
            test_accuracy: tested.accuracy,
            aggregate_s,
            eval_s: tested.eval_s,
            metrics,
            ..RoundRecord::default()
        };
        let record = self.round_record(&closed, &mut records, tested);
        // The row of a late update stands beside that of its failure.
        records.extend(late);
        self.made = Some(Made {
            record,
            clients: records,
            before,
        });
        Ok(())
    }

    /// Writes the rows of a round that failed.
    async fn write_failed(
        &mut self,
        mut records: Vec<ClientRecord>,
        late: Vec<ClientRecord>,
    ) -> Result<()> {
        self.settle_bytes().await;
        self.shared.look(|state| traffic::fill(&mut records, state));
        records.extend(late);
        self.run_dir.clients(&records)
    }

    /// Reason for which a round fails of whose updates too few could be used.
    fn missed_quorum(&self, closed: &Closed, results: u32, unused: &[UnusedUpdate]) -> String {
        let (round, quorum) = (closed.round, self.shared.config.quorum);
        let came = closed.updates.len();
        let why = unused.first().map_or_else(String::new, |first| {
            format!(": that of client {}: {}", first.client, first.reason)
        });
        format!(
            "round {round}: {results} of {came} updates could be used, the quorum is {quorum}{why}; look at \
             the devices' logs, or lower the quorum"
        )
    }

    /// Waits until what is still on the wire for the round is counted, or given up.
    async fn settle_bytes(&mut self) {
        let starts = async { while self.starts.join_next().await.is_some() {} };
        let started = zfl_clock::timeout(ANSWERS_WITHIN, starts);
        let (_, ()) = tokio::join!(started, self.shared.answered());
        self.starts.abort_all();
    }

    /// Row of a round up to its model, from what its test says and its clients' rows, which get their bytes.
    fn round_record(
        &self,
        closed: &Closed,
        records: &mut [ClientRecord],
        tested: RoundRecord,
    ) -> RoundRecord {
        self.shared.look(|state| traffic::fill(records, state));
        let costs = records.iter().filter_map(|record| record.cost.as_ref());
        let slowest_us = costs.map(|cost| cost.train_us).max();
        let in_order = closed.simulated_us.map(seconds);
        let simulated_s = in_order.or_else(|| simulated_s(records));
        RoundRecord {
            round: closed.round,
            cohort_size: closed.cohort_size,
            train_loss: mean_loss(records),
            wait_s: seconds(closed.times.wait_us),
            start_s: seconds(closed.times.start_us),
            train_s: seconds(closed.times.train_us),
            slowest_train_s: slowest_us.map(seconds),
            learning_rate: Some(self.shared.config.full_rate(closed.round)),
            simulated_s,
            simulated_elapsed_s: simulated_elapsed_s(self.table.last(), simulated_s),
            ..tested
        }
    }

    /// Takes the updates of a closed round out of the inbox, and makes the rows of those that failed.
    fn harvest(&mut self, closed: &Closed) -> Harvest {
        let (taken, sums) = self.shared.with(|state, _| {
            let mut take = |arrivals: &[Arrival]| -> Vec<Received> {
                let those = arrivals.iter();
                those
                    .filter_map(|arrival| state.inbox.remove(&arrival.update))
                    .collect()
            };
            drop(take(&closed.unused));
            let taken = (take(&closed.updates), take(&closed.late));
            (taken, std::mem::take(&mut state.sums))
        });
        let (in_time, late) = taken;
        let mut updates: Vec<Update> = sums.into_iter().map(|(update, _)| update).collect();
        let (mut records, mut late_records) = (Vec::new(), Vec::new());
        for Received { record, update } in in_time {
            records.push(record);
            updates.extend(update);
        }
        for Received { record, update } in late {
            late_records.push(record);
            updates.extend(update);
        }
        for failure in &closed.failed {
            let client = failure.client;
            let num_examples = self.shared.partition.indices(client as usize).len() as u32;
            let why = failure.reason.clone();
            let mut record = ClientRecord::without_update(failure.round, client, num_examples, why);
            self.shared.look(|state| state.note_choice(&mut record));
            self.failures.push(record.clone());
            records.push(record);
        }
        records.sort_by_key(|record| record.client);
        Harvest {
            updates,
            records,
            late: late_records,
        }
    }

    /// Tells which clients' updates are not in the model, and puts the reasons into their rows; returns the
    /// number of those rows.
    fn note_unused(&mut self, unused: &[UnusedUpdate], records: &mut [ClientRecord]) -> u32 {
        let mut noted = 0;
        for UnusedUpdate {
            client,
            round,
            reason,
            is_planned,
        } in self.each_client(unused, records)
        {
            let (client, round) = (&client, &round);
            let mut of_it = records.iter_mut().filter(|record| record.cost.is_some());
            let Some(record) = of_it.find(|one| (one.client, one.round) == (*client, *round))
            else {
                continue;
            };
            (record.outcome, record.loss) = (reason.clone(), None);
            noted += 1;
            if is_planned {
                continue;
            }
            self.failures.push(record.clone());
            self.shared.log.emit(Event::ClientFailed {
                client: *client,
                round: *round,
                reason: reason.clone(),
            });
        }
        noted
    }

    /// True for bytes that went over the aggregator's own connections, not those of an edge.
    pub(crate) fn is_own(&self, row: &Traffic) -> bool {
        let shared = &self.shared;
        match row.client < shared.config.clients {
            true => shared.edge_of(row.client).is_none(),
            false => shared.cluster(row.client).is_some(),
        }
    }

    /// Updates that are not in the model, with one of each client in the place of the sums of an edge.
    fn each_client(&self, unused: &[UnusedUpdate], records: &[ClientRecord]) -> Vec<UnusedUpdate> {
        let each = unused.iter().flat_map(|one| {
            let Some(cluster) = self.shared.cluster(one.client) else {
                return vec![one.clone()];
            };
            let those = records
                .iter()
                .filter(|record| cluster.contains(&record.client) && record.cost.is_some());
            let of = |record: &ClientRecord| UnusedUpdate {
                client: record.client,
                reason: format!("the sums of its edge: {}", one.reason),
                ..one.clone()
            };
            those.map(of).collect()
        });
        each.collect()
    }

    /// Writes a round down, and the model that it left, before the next may begin.
    async fn finish_round(&mut self, record: RoundRecord, clients: &[ClientRecord]) -> Result<()> {
        let round = record.round;
        self.run_dir.round(&record, clients)?;
        let events = self.flush_events().await?;
        let (algorithm, mut state) = (self.algorithm.clone(), self.run_dir.state().clone());
        let remembered = self.remember(round);
        let simulated = self.shared.config.order == Order::Simulated;
        let save = move || {
            let mut algorithm = lock(&algorithm);
            if let Some(remembered) = remembered {
                if simulated {
                    algorithm.may_come(&remembered.rounds());
                }
                remembered.write(&mut state, round)?;
            }
            algorithm.save(&mut state, round).map(|()| state)
        };
        let end = RoundEnd {
            round,
            gone: self.shared.look(|state| state.gone.clone()),
            events,
            state: spawn_blocking(save).await??,
        };
        // Behind the rest, since a resumed run goes on from the round of the model.
        let model = &self.shared.config.model;
        self.run_dir.complete(end, model, &self.params)?;
        self.table.push(record.clone());
        self.shared.log.emit(Event::RoundFinished { record });
        self.flush_events().await.map(drop)
    }

    /// Waits until all that was told is in `events.jsonl`, and seals that.
    async fn flush_events(&self) -> Result<Seal> {
        let flushed = self.shared.log.flush();
        let flushed = spawn_blocking(move || flushed.wait()).await?;
        flushed.map_err(|failure| anyhow!("{failure}"))
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// Time of a round on the devices themselves, in seconds: that of the slowest whose update is in it.
fn simulated_s(records: &[ClientRecord]) -> Option<f64> {
    let received = records.iter().filter(|record| record.cost.is_some());
    let each = received.map(|record| {
        let host = record.host?;
        Some(host.virtual_s? + host.link_s.unwrap_or(0.0))
    });
    each.reduce(|slowest, one| Some(slowest?.max(one?)))?
}

/// Simulated time of the run, if it is known of every round so far: `last` and one of `round_s`.
fn simulated_elapsed_s(last: Option<&RoundRecord>, round_s: Option<f64>) -> Option<f64> {
    let before = match last {
        Some(last) if last.round > 0 => last.simulated_elapsed_s?,
        _ => 0.0,
    };
    Some(before + round_s?)
}

/// Mean training loss of a round, weighted by examples.
fn mean_loss(records: &[ClientRecord]) -> Option<f64> {
    let weighted = records
        .iter()
        .filter_map(|r| Some((f64::from(r.loss?), f64::from(r.num_examples))));
    let (sum, examples) = weighted.fold((0.0, 0.0), |(s, n), (loss, k)| (s + loss * k, n + k));
    (examples > 0.0).then(|| sum / examples)
}
