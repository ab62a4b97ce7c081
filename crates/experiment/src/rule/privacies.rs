//! Differential privacy: `[privacy]`, `--privacy`, `--privacy-arg`.

use super::Chosen;
use super::declared::{Declared, DeclaredChoice};
use fl_param::{ParamSpec, Params};
use zfl_aggregator::{Adaptation, Mechanism, Privacy};

/// A mechanism of differential privacy with the values of its parameters.
pub type Hiding = Chosen<PrivacyChoice>;

/// A mechanism of differential privacy with the values of its parameters.
pub type PrivacyChoice = DeclaredChoice<Kind>;

/// Declaration of a mechanism.
#[derive(Clone, Copy)]
pub struct Kind {
    name: &'static str,
    doc: &'static str,
    params: &'static [ParamSpec],
    clipping_norm: &'static str,
    mechanism: fn(&Params) -> Mechanism,
}

const fn number(name: &'static str, [default, min, max]: [f64; 3], doc: &'static str) -> ParamSpec {
    ParamSpec {
        name,
        default,
        min,
        max,
        whole: false,
        doc,
    }
}

const NOISE: &str = "noise_multiplier";
const DELTA: &str = "delta";
const NORM: &str = "clipping_norm";
const INITIAL: &str = "initial_clipping_norm";
const QUANTILE: &str = "target_clipped_quantile";
const RATE: &str = "clip_norm_lr";
const STDDEV: &str = "clipped_count_stddev";
const FIXED: &str = "fixed_size_sampling";

const NOISE_MULTIPLIER: ParamSpec = number(
    NOISE,
    [1.0, 0.0, 1e6],
    "standard deviation of the noise over the clipping norm; 0 is none",
);

const CLIPPING_NORM: ParamSpec = number(
    NORM,
    [1.0, 1e-9, 1e9],
    "largest Euclidean norm of an update, a longer one is scaled down to it",
);

const PROBABILITY: ParamSpec = number(
    DELTA,
    [1e-5, 1e-12, 0.5],
    "probability with which the promise may fail, at which epsilon is told",
);

const FIXED_SIZE: ParamSpec = ParamSpec {
    name: FIXED,
    default: 0.0,
    min: 0.0,
    max: 1.0,
    whole: true,
    doc: "epsilon of cohorts of a fixed size (Wang et al. 2019), which is larger, and not of Poisson samples",
};

static KINDS: [Kind; 3] = [
    Kind {
        name: "central",
        doc: "devices bound their updates, the server adds noise to their mean",
        params: &[NOISE_MULTIPLIER, CLIPPING_NORM, PROBABILITY, FIXED_SIZE],
        clipping_norm: NORM,
        mechanism: |_| Mechanism::Central(None),
    },
    Kind {
        name: "central-adaptive",
        doc: "as central, and the bound follows a quantile of the updates' norms",
        params: &[
            NOISE_MULTIPLIER,
            number(
                INITIAL,
                [0.1, 1e-9, 1e9],
                "clipping norm of the first round",
            ),
            number(
                QUANTILE,
                [0.5, 0.0, 1.0],
                "share of updates that are to be within the clipping norm",
            ),
            number(
                RATE,
                [0.2, 0.0, 10.0],
                "rate at which the clipping norm moves",
            ),
            number(
                STDDEV,
                [0.0, 0.0, 1e6],
                "standard deviation of the noise of their count; 0 is a twentieth of clients_per_round",
            ),
            PROBABILITY,
            FIXED_SIZE,
        ],
        clipping_norm: INITIAL,
        mechanism: |params| {
            Mechanism::Central(Some(Adaptation {
                target_quantile: params.get(QUANTILE),
                rate: params.get(RATE),
                count_stddev: params.get(STDDEV),
            }))
        },
    },
    Kind {
        name: "local",
        doc: "every device bounds its update and adds the noise itself",
        params: &[NOISE_MULTIPLIER, CLIPPING_NORM, PROBABILITY],
        clipping_norm: NORM,
        mechanism: |_| Mechanism::Local,
    },
];

impl PrivacyChoice {
    /// Work of the aggregator and of the devices.
    pub fn privacy(&self) -> Privacy {
        Privacy {
            mechanism: (self.kind.mechanism)(&self.params),
            noise_multiplier: self.params.get(NOISE),
            clipping_norm: self.params.get(self.kind.clipping_norm) as f32,
            delta: self.params.get(DELTA),
            fixed_size: self.params.get(FIXED) != 0.0,
        }
    }
}

impl Declared for Kind {
    const KIND: &'static str = "privacy";
    const ARG: (&'static str, &'static str) = (
        "privacy-arg",
        "Parameter of --privacy, as often as needed: noise_multiplier=0.5",
    );
    const HAS_USUAL: bool = false;

    fn list() -> &'static [Self] {
        &KINDS
    }

    fn declaration(&self) -> (&'static str, &'static str, &'static [ParamSpec]) {
        (self.name, self.doc, self.params)
    }
}
