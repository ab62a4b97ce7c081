//! Optimizers of the devices: `[optimizer]`, `--optimizer`, `--optimizer-arg`.

use super::Chosen;
use super::declared::{Declared, DeclaredChoice};
use fl_nn::Optimizer;
use fl_param::{ParamSpec, Params};
use zfl_aggregator::LocalOptimizer;

/// An optimizer with the values of its parameters.
pub type Optimizing = Chosen<OptimizerChoice>;

/// An optimizer with the values of its parameters.
pub type OptimizerChoice = DeclaredChoice<Kind>;

/// Declaration of an optimizer.
#[derive(Clone, Copy)]
pub struct Kind {
    name: &'static str,
    doc: &'static str,
    params: &'static [ParamSpec],
    /// Step size unless one is given.
    learning_rate: f32,
    rule: fn(&Params) -> Optimizer,
}

/// Largest number below 1 of those that are shares.
const ALMOST_ONE: f64 = 0.999_999;

const WEIGHT_DECAY: ParamSpec = ParamSpec {
    name: "weight_decay",
    default: 0.0,
    min: 0.0,
    max: 1e3,
    whole: false,
    doc: "factor of the weights, biases included, that is added to their gradient",
};

const CLIP_NORM: ParamSpec = ParamSpec {
    name: "clip_norm",
    default: 0.0,
    min: 0.0,
    max: 1e9,
    whole: false,
    doc: "largest norm of the gradient of a batch, a longer one is scaled down to it; 0 is none",
};

const fn share(name: &'static str, default: f64, doc: &'static str) -> ParamSpec {
    ParamSpec {
        name,
        default,
        min: 0.0,
        max: ALMOST_ONE,
        whole: false,
        doc,
    }
}

// The step size of SGD was chosen by measuring: the largest that still gains on MNIST with the other defaults.
// That of Adam is its authors'.
static KINDS: [Kind; 3] = [
    Kind {
        name: "sgd",
        doc: "plain steps along the gradient",
        params: &[WEIGHT_DECAY, CLIP_NORM],
        learning_rate: 0.5,
        rule: |_| Optimizer::Sgd,
    },
    Kind {
        name: "momentum",
        doc: "SGD with momentum (Polyak 1964); one more model of memory on the device",
        params: &[
            share("momentum", 0.9, "share of the velocity that is kept"),
            WEIGHT_DECAY,
            CLIP_NORM,
        ],
        learning_rate: 0.5,
        rule: |params| Optimizer::Momentum {
            momentum: params.get("momentum") as f32,
        },
    },
    Kind {
        name: "adam",
        doc: "Adam (Kingma and Ba 2015); two more models of memory on the device",
        params: &[
            share("beta_1", 0.9, "decay of the average of gradients"),
            share("beta_2", 0.999, "decay of the average of squared gradients"),
            ParamSpec {
                name: "epsilon",
                default: 1e-8,
                min: 1e-12,
                max: 1.0,
                whole: false,
                doc: "added to the denominator",
            },
            WEIGHT_DECAY,
            CLIP_NORM,
        ],
        learning_rate: 0.001,
        rule: |params| Optimizer::Adam {
            beta_1: params.get("beta_1") as f32,
            beta_2: params.get("beta_2") as f32,
            epsilon: params.get("epsilon") as f32,
        },
    },
];

impl OptimizerChoice {
    /// Step size unless one is given.
    pub fn learning_rate(&self) -> f32 {
        self.kind.learning_rate
    }

    /// The optimizer as devices run it.
    pub fn local(&self) -> LocalOptimizer {
        let clip_norm = self.params.get(CLIP_NORM.name) as f32;
        LocalOptimizer {
            rule: (self.kind.rule)(&self.params),
            weight_decay: self.params.get(WEIGHT_DECAY.name) as f32,
            clip_norm: (clip_norm > 0.0).then_some(clip_norm),
        }
    }
}

impl Declared for Kind {
    const KIND: &'static str = "optimizer";
    const ARG: (&'static str, &'static str) = (
        "optimizer-arg",
        "Parameter of --optimizer, as often as needed: weight_decay=1e-4",
    );

    fn list() -> &'static [Self] {
        &KINDS
    }

    fn declaration(&self) -> (&'static str, &'static str, &'static [ParamSpec]) {
        (self.name, self.doc, self.params)
    }
}
