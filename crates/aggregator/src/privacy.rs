//! Differential privacy of a run: the bound of each update, the noise of a round, and what is spent.
//!
//! *Central*: each device bounds its update, the server adds noise to their mean (McMahan et al. 2018:
//! <https://arxiv.org/abs/1710.06963>). The denominator of the mean is the number of updates that a round is meant
//! to have, whoever is missing. *Local*: each device adds the noise itself. The bound may follow the norms of the
//! updates: Andrew et al. 2021, Algorithm 1: <https://arxiv.org/abs/1905.03871>.

use fl_algo::{Sections, Update, privacy};
use fl_proto::CLIPPED;
use fl_rng::{Normal, Pcg32, Purpose};
use zfl_privacy::Accountant;
use zfl_run_dir::StatePart;

use crate::config::Config;

/// Differential privacy as a run asks for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Privacy {
    /// Side that adds the noise.
    pub mechanism: Mechanism,
    /// Standard deviation of the noise over the bound.
    pub noise_multiplier: f64,
    /// Largest norm of an update; at first, if it is adapted.
    pub clipping_norm: f32,
    /// Probability with which the promise may fail.
    pub delta: f64,
    /// Reckons with cohorts of a fixed size, not with clients that are each in a round by themselves.
    pub fixed_size: bool,
}

/// Side that adds the noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mechanism {
    /// The server, to the mean of a round.
    Central(Option<Adaptation>),
    /// Every device, to its update.
    Local,
}

/// Adaptation of the bound to a quantile of the updates' norms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adaptation {
    /// Share of updates that are to be within the bound.
    pub target_quantile: f64,
    /// Rate at which the bound moves.
    pub rate: f64,
    /// Standard deviation of the noise of the count of those that are; 0: a twentieth of a round's clients.
    pub count_stddev: f64,
}

impl Privacy {
    /// Standard deviation of the noise of the count, for so many updates a round. Without any noise it has none.
    pub fn count_stddev(&self, clients_per_round: u32) -> f64 {
        match self.mechanism {
            Mechanism::Central(Some(_)) if self.noise_multiplier == 0.0 => 0.0,
            Mechanism::Central(Some(own)) if own.count_stddev > 0.0 => own.count_stddev,
            Mechanism::Central(Some(_)) => f64::from(clients_per_round) / 20.0,
            _ => 0.0,
        }
    }

    /// Multiplier of the noise of the model: the count takes a part of the budget.
    ///
    /// None if the count takes all of it and more.
    pub fn model_multiplier(&self, clients_per_round: u32) -> Option<f64> {
        let (all, count) = (self.noise_multiplier, self.count_stddev(clients_per_round));
        if count == 0.0 {
            return Some(all);
        }
        let left = 1.0 / (all * all) - 1.0 / (4.0 * count * count);
        (left > 0.0).then(|| 1.0 / libm::sqrt(left))
    }

    /// Epsilon after rounds in which `sampling` is the share of clients that are chosen.
    pub fn accountant(&self, sampling: f64) -> Accountant {
        match self.mechanism {
            // One client in the place of another changes the sum by up to two bounds.
            Mechanism::Central(_) if self.fixed_size => {
                Accountant::of_fixed_size(sampling, self.noise_multiplier / 2.0, self.delta)
            }
            Mechanism::Central(_) => Accountant::new(sampling, self.noise_multiplier, self.delta),
            // What one client sends may turn from any update to any other, twice the bound away, and the server
            // knows who sent it.
            Mechanism::Local => Accountant::new(1.0, self.noise_multiplier / 2.0, self.delta),
        }
    }
}

/// Differential privacy at work.
#[derive(Clone, Debug)]
pub(crate) struct RunningPrivacy {
    asked: Privacy,
    seed: u64,
    clients_per_round: u32,
    accountant: Accountant,
    /// Largest norm of an update now.
    clipping_norm: f64,
    /// Rounds in which each client's update was used.
    rounds: Vec<u32>,
}

/// Consequences of a round once its model is taken.
#[derive(Clone, Debug)]
pub(crate) struct Spent {
    clipping_norm: f64,
    clients: Vec<u32>,
}

/// Name of the bound in what is saved, and in the metrics.
const NORM: &str = "clipping_norm";

/// Name of the clients' rounds in what is saved.
const ROUNDS: &str = "rounds";

impl RunningPrivacy {
    pub fn new(asked: Privacy, config: &Config) -> Self {
        Self {
            asked,
            seed: config.seed,
            clients_per_round: config.clients_per_round,
            accountant: asked.accountant(config.sampling()),
            clipping_norm: asked.clipping_norm.into(),
            rounds: vec![0; config.clients as usize],
        }
    }

    /// The field of a `/start`.
    pub fn wire(&self) -> fl_proto::Privacy {
        let noise = match self.asked.mechanism {
            Mechanism::Central(_) => 0.0,
            Mechanism::Local => self.asked.noise_multiplier * self.clipping_norm,
        };
        fl_proto::Privacy {
            clipping_norm: self.clipping_norm as f32,
            noise_stddev: noise as f32,
        }
    }

    /// The updates of a round as the server rule gets them: each bounded again, whatever its device did, those
    /// that are missing made up for by the global model, and the noise of all of them in the first.
    pub fn protect(&self, round: u32, global: &[f32], updates: &[Update]) -> Vec<Update> {
        let mut protected = updates.to_vec();
        if self.asked.mechanism == Mechanism::Local {
            return protected;
        }
        for update in &mut protected {
            privacy::clip(global, update.model_mut(), self.clipping_norm as f32);
        }
        let travelling = updates.first().map_or(0, |update| update.model().len());
        let same = global.iter().take(travelling).copied().collect::<Vec<_>>();
        let wanted = (self.clients_per_round as usize).max(protected.len());
        protected.resize_with(wanted, || stand_in(round, &same));
        let multiplier = self.asked.model_multiplier(self.clients_per_round);
        let stddev = multiplier.unwrap_or(0.0) * self.clipping_norm;
        if let Some(first) = protected.first_mut() {
            privacy::add_noise(first.model_mut(), stddev, &mut self.noise(round, 0));
        }
        protected
    }

    /// Consequences of the updates of a round.
    pub fn spent(&self, round: u32, updates: &[Update]) -> Spent {
        Spent {
            clipping_norm: self.adapted(round, updates),
            clients: updates.iter().map(|update| update.client).collect(),
        }
    }

    /// The bound of the next round.
    fn adapted(&self, round: u32, updates: &[Update]) -> f64 {
        let Mechanism::Central(Some(adaptation)) = self.asked.mechanism else {
            return self.clipping_norm;
        };
        // Moved by a half, so that no client changes the sum by more, whether it is there or not.
        let within = |update: &Update| match update.metrics.get(CLIPPED) {
            Some(0.0) => 0.5,
            _ => -0.5,
        };
        let sum: f64 = updates.iter().map(within).sum();
        let stddev = self.asked.count_stddev(self.clients_per_round);
        let noisy = sum + stddev * self.noise(round, 1).sample();
        let share = noisy / f64::from(self.clients_per_round) + 0.5;
        let exponent = -adaptation.rate * (share - adaptation.target_quantile);
        // Within what a device takes, however long a run is.
        (self.clipping_norm * libm::exp(exponent)).clamp(1e-20, 1e9)
    }

    /// Goes on after a round; returns its numbers.
    pub fn accept(&mut self, spent: Spent, round: u32) -> Vec<(&'static str, f64)> {
        let mut told = vec![(NORM, self.clipping_norm)];
        self.clipping_norm = spent.clipping_norm;
        for client in spent.clients {
            if let Some(rounds) = self.rounds.get_mut(client as usize) {
                *rounds += 1;
            }
        }
        let epsilon = self.accountant.epsilon(match self.asked.mechanism {
            Mechanism::Central(_) => round,
            Mechanism::Local => self.rounds.iter().copied().max().unwrap_or(0),
        });
        if epsilon.is_finite() {
            told.push(("epsilon", epsilon));
        }
        told
    }

    /// Numbers of one stream of a round.
    fn noise(&self, round: u32, stream: u32) -> Normal {
        let seed = fl_rng::derive_seed(self.seed, stream, round);
        Normal::new(Pcg32::new(Purpose::ServerNoise, seed))
    }

    pub fn save(&self, round: u32) -> StatePart {
        let rounds = self.rounds.iter().map(|&rounds| rounds as f32).collect();
        StatePart {
            text: String::new(),
            round,
            numbers: [(NORM.to_owned(), self.clipping_norm)].into(),
            vectors: [(ROUNDS.to_owned(), rounds)].into(),
        }
    }

    /// Goes on from what [`RunningPrivacy::save`] gave; false if that is not of this run.
    pub fn restore(&mut self, part: &StatePart) -> bool {
        let norm = part.numbers.get(NORM).copied().unwrap_or(f64::NAN);
        let rounds = part.vectors.get(ROUNDS).map_or(&[][..], Vec::as_slice);
        if norm.is_nan() || norm <= 0.0 || rounds.len() != self.rounds.len() {
            return false;
        }
        self.clipping_norm = norm;
        self.rounds = rounds.iter().map(|&rounds| rounds as u32).collect();
        true
    }
}

/// An update of nobody, which changes nothing.
fn stand_in(round: u32, global: &[f32]) -> Update {
    Update {
        client: u32::MAX,
        weight: 1,
        round,
        sections: Sections::from([(Update::MODEL.to_owned(), global.to_vec())]),
        ..Update::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CENTRAL: Privacy = Privacy {
        mechanism: Mechanism::Central(None),
        noise_multiplier: 0.0,
        clipping_norm: 1.0,
        delta: 1e-5,
        fixed_size: false,
    };

    fn adaptive(noise_multiplier: f64) -> Privacy {
        let adaptation = Adaptation {
            target_quantile: 0.5,
            rate: 0.2,
            count_stddev: 0.0,
        };
        Privacy {
            mechanism: Mechanism::Central(Some(adaptation)),
            noise_multiplier,
            ..CENTRAL
        }
    }

    fn running(asked: Privacy, clients: u32, clients_per_round: u32) -> RunningPrivacy {
        RunningPrivacy {
            asked,
            seed: 1,
            clients_per_round,
            accountant: asked.accountant(f64::from(clients_per_round) / f64::from(clients)),
            clipping_norm: asked.clipping_norm.into(),
            rounds: vec![0; clients as usize],
        }
    }

    fn update(client: u32, model: &[f32], clipped: f32) -> Update {
        Update {
            client,
            weight: 1,
            sections: [("model".to_owned(), model.to_vec())].into(),
            metrics: [(CLIPPED.to_owned(), clipped)].into(),
            ..Update::default()
        }
    }

    #[test]
    fn updates_are_bounded_and_those_that_are_missing_count_as_no_change() {
        let private = running(CENTRAL, 10, 4);
        let global = [1.0, 1.0];
        let updates = [update(3, &[1.5, 1.0], 0.0), update(5, &[1.0, 4.0], 1.0)];
        let models: Vec<Vec<f32>> = private
            .protect(1, &global, &updates)
            .iter()
            .map(|update| update.model().to_vec())
            .collect();
        let same = vec![1.0, 1.0];
        assert_eq!(models, [vec![1.5, 1.0], vec![1.0, 2.0], same.clone(), same]);
    }

    #[test]
    fn noise_is_of_the_bound_and_repeats() {
        let noisy = Privacy {
            noise_multiplier: 2.0,
            clipping_norm: 0.5,
            ..CENTRAL
        };
        let private = running(noisy, 10, 2);
        let global = vec![0.0; 20_000];
        let updates = [update(3, &global, 0.0), update(5, &global, 0.0)];
        let protected = private.protect(7, &global, &updates);
        let sum: f64 = protected[0].model().iter().map(|x| f64::from(x * x)).sum();
        assert!((sum / 20_000.0 - 1.0).abs() < 0.05, "{sum}");
        assert_eq!(protected[1].model(), global);
        let again = private.protect(7, &global, &updates);
        assert_eq!(protected[0].model(), again[0].model());
        assert_ne!(
            private.protect(8, &global, &updates)[0].model(),
            again[0].model()
        );
    }

    #[test]
    fn the_bound_falls_while_more_than_the_quantile_are_within_it() {
        let mut private = running(adaptive(0.0), 10, 4);
        let model = [0.0];
        let all: Vec<_> = (0..4).map(|client| update(client, &model, 0.0)).collect();
        let spent = private.spent(1, &all);
        assert_eq!(
            private.accept(spent, 1),
            [("clipping_norm", 1.0)],
            "no noise, no promise"
        );
        let expected = libm::exp(-0.2 * 0.5);
        assert_eq!(private.clipping_norm, expected);
        let saved = private.save(1);
        let mut restored = running(adaptive(0.0), 10, 4);
        assert!(restored.restore(&saved));
        assert_eq!(restored.clipping_norm, expected);
        assert!(!running(adaptive(0.0), 9, 4).restore(&saved));
        let none: Vec<_> = (0..4).map(|client| update(client, &model, 1.0)).collect();
        assert_eq!(
            private.spent(2, &none).clipping_norm,
            expected * libm::exp(0.2 * 0.5)
        );
    }

    #[test]
    fn the_count_takes_a_part_of_the_budget() {
        assert_eq!(CENTRAL.model_multiplier(100), Some(0.0));
        let multiplier = adaptive(1.0).model_multiplier(100).unwrap();
        assert!((multiplier - 1.0 / libm::sqrt(1.0 - 0.01)).abs() < 1e-12);
        assert_eq!(adaptive(1.0).model_multiplier(10), None);
    }

    #[test]
    fn a_local_epsilon_is_that_of_the_client_that_took_part_most_often() {
        let local = Privacy {
            mechanism: Mechanism::Local,
            noise_multiplier: 8.0,
            ..CENTRAL
        };
        let mut private = running(local, 10, 2);
        let wire = private.wire();
        assert_eq!((wire.clipping_norm, wire.noise_stddev), (1.0, 8.0));
        let model = [0.0];
        for (round, clients) in [(1, [0, 1]), (2, [0, 2]), (3, [3, 4])] {
            let updates = clients.map(|client| update(client, &model, 0.0));
            let spent = private.spent(round, &updates);
            let told = private.accept(spent, round);
            let rounds = round.min(2);
            let expected = Accountant::new(1.0, 4.0, 1e-5).epsilon(rounds);
            assert_eq!(told[1], ("epsilon", expected));
        }
    }
}
