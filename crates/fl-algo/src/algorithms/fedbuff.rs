//! FedBuff: the global model moves on with every `buffer_size` updates, while slower clients train on.
//!
//! Nguyen et al. 2022, *Federated Learning with Buffered Asynchronous Aggregation*:
//! <https://arxiv.org/abs/2106.06639>. An update is the way from the global model that its client began
//! with to its local model. One that began `s` rounds ago counts with `1 / sqrt(1 + s)`; the sum is divided
//! by the full weights, as in the paper. With a buffer as large as the cohort it is FedAvg to the bit.
//!
//! Here a *round* is what fills the buffer once.

use super::SERVER_LEARNING_RATE;
use super::fedavg;
use crate::registry::Algorithm;
use fl_param::ParamSpec;

const BUFFER_SIZE: &str = "buffer_size";
const MAX_STALENESS: &str = "max_staleness";

/// FedBuff.
pub(crate) static ALGORITHM: Algorithm = Algorithm {
    name: "fedbuff",
    doc: "asynchronous: a round ends with the first updates, the others count later and less",
    paper: "Nguyen et al. 2022, https://arxiv.org/abs/2106.06639",
    device: &fedavg::DEVICE,
    params: &[
        ParamSpec {
            name: BUFFER_SIZE,
            default: 10.0,
            min: 1.0,
            max: 1e5,
            whole: true,
            doc: "updates that end a round, at most clients_per_round",
        },
        ParamSpec {
            name: MAX_STALENESS,
            default: 20.0,
            min: 0.0,
            max: 1e3,
            whole: true,
            doc: "rounds after which an update is refused; as many models are kept",
        },
        SERVER_LEARNING_RATE,
    ],
    #[cfg(feature = "server")]
    server: server::make,
};

#[cfg(feature = "server")]
mod server {
    use alloc::boxed::Box;
    use alloc::collections::{BTreeMap, BTreeSet};
    use alloc::format;
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;

    use super::{BUFFER_SIZE, MAX_STALENESS, SERVER_LEARNING_RATE};
    use crate::exact::ExactSum;
    use crate::server::*;

    /// Weight of an update that is not stale: a power of two, so that it leaves a mean as it is.
    const FRESH: u64 = 1 << 16;

    /// Makes the rule, if a round can have as many updates.
    pub fn make(setup: &Setup) -> Result<Box<dyn ServerRule>, String> {
        let buffer_size = setup.params.whole(BUFFER_SIZE);
        let cohort = setup.clients_per_round;
        if buffer_size > cohort {
            return Err(format!(
                "{BUFFER_SIZE} is {buffer_size}, and {cohort} clients train at a time: give a \
                 {BUFFER_SIZE} of at most {cohort}"
            ));
        }
        Ok(Box::new(FedBuff {
            buffer_size,
            cohort,
            max_staleness: setup.params.whole(MAX_STALENESS),
            rate: setup.params.get(SERVER_LEARNING_RATE.name) as f32,
            round: 0,
            num_params: setup.num_params,
            models: BTreeMap::new(),
            to_come: BTreeSet::new(),
            buffer: Buffer::new(setup.num_params),
        }))
    }

    struct FedBuff {
        buffer_size: u32,
        cohort: u32,
        max_staleness: u32,
        rate: f32,
        round: u32,
        num_params: usize,
        /// Global models by the round that began with them, as far back as updates are taken.
        models: BTreeMap<u32, Vec<f32>>,
        /// Rounds before the last one of which updates are known to be under way.
        to_come: BTreeSet<u32>,
        buffer: Buffer,
    }

    /// The updates of a round so far.
    struct Buffer {
        /// Sum of `weight * staleness weight * way`, but with local models for ways where they began with
        /// the round's own model.
        sum: ExactSum,
        /// Weight with which that model is to be added in the end.
        rest: u64,
        /// Sum of the weights.
        weight: u64,
        count: u32,
        stale: u64,
        stalest: u32,
    }

    impl Buffer {
        fn new(len: usize) -> Self {
            Self {
                sum: ExactSum::new(len),
                rest: 0,
                weight: 0,
                count: 0,
                stale: 0,
                stalest: 0,
            }
        }
    }

    /// `1 / sqrt(1 + staleness)` in units of [`FRESH`].
    fn staleness_weight(staleness: u32) -> u64 {
        let weight = 1.0 / libm::sqrt(1.0 + f64::from(staleness));
        libm::round(weight * FRESH as f64) as u64
    }

    impl ServerRule for FedBuff {
        fn policy(&self) -> Policy {
            Policy {
                buffer_size: (self.buffer_size < self.cohort).then_some(self.buffer_size),
                max_staleness: self.max_staleness,
            }
        }

        fn depends_on_time(&self) -> bool {
            self.buffer_size < self.cohort
        }

        fn begin(&mut self, round: u32, global: &[f32]) {
            self.round = round;
            self.models.insert(round, global.to_vec());
            let first = round.saturating_sub(self.max_staleness);
            self.models.retain(|of, _| (first..=round).contains(of));
            self.buffer = Buffer::new(global.len());
        }

        fn may_come(&mut self, rounds: &BTreeSet<u32>) {
            self.models.retain(|round, _| rounds.contains(round));
            self.to_come.clone_from(rounds);
        }

        fn add(&mut self, update: &Update, _: Option<&KeptVectors>) -> Result<(), Rejected> {
            let weight = u64::from(update.weight);
            let staleness = self.round.saturating_sub(update.round);
            let scaled = weight * staleness_weight(staleness);
            let buffer = &mut self.buffer;
            let Some(base) = self.models.get(&update.round) else {
                return Err(Rejected(format!(
                    "it began with the model of round {}, which is too long ago in round {}",
                    update.round, self.round
                )));
            };
            buffer.sum.add(scaled, update.model())?;
            if staleness > 0 {
                buffer.sum.subtract(scaled, base)?;
                buffer.rest += weight * FRESH;
            }
            buffer.weight += weight * FRESH;
            buffer.count += 1;
            buffer.stale += u64::from(staleness);
            buffer.stalest = buffer.stalest.max(staleness);
            Ok(())
        }

        fn finish(&mut self, global: &mut Vec<f32>) -> Result<RoundMetrics, AggregateError> {
            let buffer = &mut self.buffer;
            buffer.sum.add(core::mem::take(&mut buffer.rest), global)?;
            let moved = buffer.sum.divided(u128::from(buffer.weight))?;
            server_step(global, moved, self.rate)?;
            let mean = buffer.stale as f64 / f64::from(buffer.count.max(1));
            let metrics = [
                ("mean_staleness", mean),
                ("max_staleness", f64::from(buffer.stalest)),
            ];
            Ok(metrics
                .map(|(name, value)| (name.to_string(), value))
                .into())
        }

        fn save(&self) -> SavedState {
            let models = self.models.iter();
            let models = models.filter(|(round, _)| self.to_come.contains(round));
            let vector = |(round, model): (&u32, &Vec<f32>)| (round.to_string(), model.clone());
            SavedState {
                vectors: models.map(vector).collect(),
                ..SavedState::default()
            }
        }

        fn restore(
            &mut self,
            saved: SavedState,
            _: &mut dyn Iterator<Item = (u32, &KeptVectors)>,
        ) -> Result<(), AggregateError> {
            for (name, model) in saved.vectors {
                let round = name.parse().ok();
                let round = round.filter(|_| model.len() == self.num_params);
                let round = round.ok_or_else(|| {
                    AggregateError(format!("`{name}` is no model of a round of this run"))
                })?;
                self.models.insert(round, model);
            }
            Ok(())
        }
    }
}
