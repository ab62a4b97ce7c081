//! The experiment as far as the aggregator goes.

use crate::Experiment;
use crate::choice::Time;
use crate::groups::FleetGroup;
use crate::keys::spread::Drawing;
use fl_algo::Attackers;
use fl_data::Dataset;
use fl_round::Order;
use std::collections::BTreeMap;
use std::time::Duration;
use zfl_aggregator::{Evaluation, LocalOverrides, PartialWork, Stragglers};

/// Interval at which devices that train are asked for their progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

impl Experiment {
    /// Configuration of the aggregator.
    pub fn aggregator(&self) -> zfl_aggregator::Config {
        zfl_aggregator::Config {
            clients: self.clients,
            rounds: self.rounds,
            first_round: 1,
            elapsed_before: Duration::ZERO,
            clients_per_round: self.clients_per_round,
            over_commit: self.over_commit,
            quorum: self.quorum,
            stragglers: match self.use_late {
                true => Stragglers::UseNext,
                false => Stragglers::Refuse,
            },
            order: match self.simulates_time() {
                true => Order::Simulated,
                false => Order::Arrival,
            },
            selection: self.selection.0,
            budgets_j: self.budgets_j(),
            // A fleet is waited for as a whole, so that its cohorts do not depend on who boots first.
            // Devices that are started elsewhere may be fewer than there is room for.
            wait_for: if self.groups.is_empty() {
                self.clients_per_round
            } else {
                self.clients
            },
            ready_deadline: Duration::from_secs_f64(self.ready_deadline_s),
            round_deadline: Duration::from_secs_f64(self.round_deadline_s) * self.edge_rounds,
            progress_interval: Some(PROGRESS_INTERVAL),
            local_epochs: self.local_epochs.most(),
            batch_size: self.batch_size.most(),
            learning_rate: self.learning_rate.most(),
            schedule: self.schedule.schedule(),
            partial_work: PartialWork {
                share: self.stragglers,
                is_dropped: self.drop_stragglers,
            },
            privacy: self.privacy.map(|hiding| hiding.privacy()),
            optimizer: self.optimizer.local(),
            arithmetic: self.arithmetic,
            weighting: self.weighting,
            algorithm: self.strategy.0,
            model: self.model,
            seed: self.seed,
            overrides: self.overrides(),
            attackers: self.attackers(),
            encoding_up: self.encoding_up.0.0,
            encoding_down: self.encoding_down.0.0,
            evaluation: self.evaluation(),
            clusters: self.edges.clusters(self.clients),
            edge_rounds: self.edge_rounds,
        }
    }

    /// Evaluation on the devices, if there is any.
    fn evaluation(&self) -> Option<Evaluation> {
        let drawn = |share: f64| ((share * f64::from(self.clients)).round() as u32).max(1);
        let is_wanted = self.holdout > 0.0 && self.evaluate_fraction != Some(0.0);
        is_wanted.then(|| Evaluation {
            holdout: self.held_out.clone(),
            every: self.evaluate_every,
            clients: self.evaluate_fraction.map(drawn),
        })
    }

    /// The table of the examples of each client, with those that it holds out.
    pub fn partition_table(&self, train: &Dataset) -> String {
        let table = self.partition.to_csv(train);
        if self.holdout == 0.0 {
            return table;
        }
        let held = self.held_out.sizes().map(|held| held.to_string());
        let cells = std::iter::once("holdout".to_owned()).chain(held);
        let rows = table.lines().zip(cells);
        rows.map(|(row, cell)| format!("{row},{cell}\n")).collect()
    }

    /// Clients whose group trains otherwise than the rest.
    fn overrides(&self) -> BTreeMap<u32, LocalOverrides> {
        let (seed, usual) = (self.seed, LocalOverrides::default());
        let own = |client| {
            let group = self.group(client);
            let epochs = group.and_then(|group| group.local_epochs);
            let epochs = epochs.unwrap_or(self.local_epochs);
            let batch_size = group.and_then(|group| group.batch_size);
            let batch_size = batch_size.unwrap_or(self.batch_size);
            let rate = group.and_then(|group| group.learning_rate);
            let rate = rate.unwrap_or(self.learning_rate);
            let overrides = LocalOverrides {
                local_epochs: other(
                    epochs.of(Drawing::Epochs, seed, client),
                    self.local_epochs.most(),
                ),
                batch_size: other(
                    batch_size.of(Drawing::BatchSize, seed, client),
                    self.batch_size.most(),
                ),
                learning_rate: other(
                    rate.of(Drawing::Rate, seed, client),
                    self.learning_rate.most(),
                ),
            };
            (overrides != usual).then_some((client, overrides))
        };
        (0..self.clients).filter_map(own).collect()
    }

    /// True if the time of every device is counted or estimated: it then decides which updates come first.
    pub fn simulates_time(&self) -> bool {
        let counted = |group: &FleetGroup| group.speed.is_some();
        match self.time {
            Some(Time::Estimate) => true,
            Some(Time::Icount) => self.groups.iter().all(counted),
            _ => false,
        }
    }

    /// Energy of the clients whose group has an end of it.
    fn budgets_j(&self) -> BTreeMap<u32, f64> {
        let own = |client| Some((client, f64::from(self.group(client)?.energy_j?)));
        (0..self.clients).filter_map(own).collect()
    }

    /// Clients whose group attacks.
    pub fn attackers(&self) -> Attackers {
        let own = |client| Some((client, self.group(client)?.attack.as_ref()?.0));
        (0..self.clients).filter_map(own).collect()
    }

    /// Share of the devices that is chosen for a round.
    pub fn sampling(&self) -> f64 {
        let chosen = self.clients_per_round.saturating_add(self.over_commit);
        (f64::from(chosen) / f64::from(self.clients.max(1))).min(1.0)
    }

    /// Parameters of the model.
    pub fn num_params(&self) -> u64 {
        self.model.shape().num_params() as u64
    }

    /// Numbers that stay on a device and that nobody else has.
    pub fn personal_numbers(&self) -> usize {
        self.aggregator().personal_numbers()
    }
}

/// A value that is not the usual one.
fn other<T: PartialEq>(own: T, usual: T) -> Option<T> {
    (own != usual).then_some(own)
}
