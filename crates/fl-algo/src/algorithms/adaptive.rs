//! Adaptive steps of the global model: Adagrad, Adam and Yogi on the server.
//!
//! Reddi et al. 2021, *Adaptive Federated Optimization*, Algorithm 2: <https://arxiv.org/abs/2003.00295>.
//! From the way `d` to the mean of the updates the server keeps `m = beta_1 m + (1 - beta_1) d` and `v`, and
//! moves by `eta m / (sqrt(v) + tau)`. There is no correction of the bias, as in the paper. `v` begins at 0
//! and not at `tau^2`, so that a large `tau` with `eta` as large leaves FedAvg.

use fl_param::ParamSpec;

const ETA: &str = "eta";

const BETA_1: &str = "beta_1";

/// The server's rate, `eta`.
pub(super) const fn eta(default: f64) -> ParamSpec {
    ParamSpec {
        name: ETA,
        default,
        min: 1e-9,
        max: 1e9,
        whole: false,
        doc: "rate of the global model; that of the clients, eta_l, is learning_rate",
    }
}

/// The part of the first moment that stays, `beta_1`.
pub(super) const fn beta_1(default: f64) -> ParamSpec {
    ParamSpec {
        name: BETA_1,
        default,
        min: 0.0,
        max: 0.999_999,
        whole: false,
        doc: "part of the mean way that stays from round to round",
    }
}

/// The part of the second moment that stays, `beta_2`.
pub(super) const BETA_2: ParamSpec = ParamSpec {
    name: "beta_2",
    default: 0.99,
    min: 0.0,
    max: 0.999_999,
    whole: false,
    doc: "part of the mean square of the way that stays from round to round",
};

/// The degree of adaptivity, `tau`.
pub(super) const TAU: ParamSpec = ParamSpec {
    name: "tau",
    default: 1e-3,
    min: 1e-12,
    max: 1e9,
    whole: false,
    doc: "what is added to the root of the mean square; the smaller, the more adaptive",
};

#[cfg(feature = "server")]
pub(super) mod server {
    use alloc::boxed::Box;
    use alloc::string::ToString;
    use alloc::vec;
    use alloc::vec::Vec;

    use super::{BETA_1, BETA_2, ETA, TAU};
    use crate::exact::ExactMean;
    use crate::server::*;

    const FIRST: &str = "first_moment";
    const SECOND: &str = "second_moment";

    /// The second moment of an old one, of `beta_2` and of the square of the first.
    pub(crate) type SecondMoment = fn(f64, f64, f64) -> f64;

    /// The rule of all of them.
    pub(crate) struct Adaptive {
        eta: f64,
        beta_1: f64,
        beta_2: f64,
        tau: f64,
        second_moment: SecondMoment,
        /// `m`.
        first: Vec<f32>,
        /// `v`.
        second: Vec<f32>,
        /// Mean of the local models of the round so far.
        mean: ExactMean,
    }

    impl Adaptive {
        /// Makes the rule with a second moment.
        pub fn make(setup: &Setup, second_moment: SecondMoment) -> Box<dyn ServerRule> {
            let get = |name| setup.params.get(name);
            Box::new(Self {
                eta: get(ETA),
                beta_1: get(BETA_1),
                beta_2: get(BETA_2.name),
                tau: get(TAU.name),
                second_moment,
                first: vec![0.0; setup.num_params],
                second: vec![0.0; setup.num_params],
                mean: ExactMean::new(setup.num_params),
            })
        }
    }

    impl ServerRule for Adaptive {
        fn takes_the_mean(&self) -> bool {
            true
        }

        fn begin(&mut self, _round: u32, global: &[f32]) {
            self.mean = ExactMean::new(global.len());
        }

        fn add(&mut self, update: &Update, _: Option<&KeptVectors>) -> Result<(), Rejected> {
            Ok(update.add_to(&mut self.mean)?)
        }

        fn finish(&mut self, global: &mut Vec<f32>) -> Result<RoundMetrics, AggregateError> {
            let mean = self.mean.mean()?;
            let (mut first, mut second) = (Vec::new(), Vec::new());
            let (mut moved, mut length) = (Vec::new(), 0.0);
            for (at, (from, to)) in global.iter().zip(&mean).enumerate() {
                let (from, way) = (f64::from(*from), f64::from(*to) - f64::from(*from));
                let m = self.beta_1 * f64::from(self.first[at]) + (1.0 - self.beta_1) * way;
                let v = (self.second_moment)(f64::from(self.second[at]), self.beta_2, m * m);
                let step = m * (self.eta / (libm::sqrt(v) + self.tau));
                first.push(m as f32);
                second.push(v as f32);
                moved.push((from + step) as f32);
                length += step * step;
            }
            let (first, second) = (finite(first)?, finite(second)?);
            *global = finite(moved)?;
            (self.first, self.second) = (first, second);
            Ok(named([("step_norm", libm::sqrt(length))]))
        }

        fn save(&self) -> SavedState {
            let vectors = [(FIRST, &self.first), (SECOND, &self.second)];
            SavedState {
                vectors: vectors
                    .map(|(name, vector)| (name.to_string(), vector.clone()))
                    .into(),
                ..SavedState::default()
            }
        }

        fn restore(
            &mut self,
            mut saved: SavedState,
            _: &mut dyn Iterator<Item = (u32, &KeptVectors)>,
        ) -> Result<(), AggregateError> {
            let len = self.first.len();
            let first = saved.vector(FIRST, len)?;
            let second = saved.vector(SECOND, len)?;
            // A square is not negative.
            if second.iter().any(|v| *v < 0.0) {
                let why = "the saved second moment has a number below 0";
                return Err(AggregateError(why.to_string()));
            }
            (self.first, self.second) = (first, second);
            Ok(())
        }
    }
}
