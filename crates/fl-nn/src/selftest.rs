//! Self-test of a target: small trainings with known outcomes, which show that its numbers are the
//! host's to the bit.
//!
//! Every instruction set has to pass it. The cases cover every arithmetic, both activations, every
//! optimizer, and the path of corrections, decay and clipping. The sizes are chosen to be awkward: no
//! layer fills its vectors, batches are odd, the last one is short.

use core::fmt;

use fl_rng::{Pcg32, Purpose, derive_seed};

use crate::activation::Activation;
use crate::arithmetic::Arithmetic;
use crate::error::TrainError;
use crate::init::Init;
use crate::memory::Workspace;
use crate::model::Model;
use crate::shape::Shape;
use crate::train::{Correction, Optimizer, Step, TrainConfig, Trainer};

const SIZES: [usize; 4] = [61, 17, 9, 5];
const EXAMPLES: usize = 37;
const PARAMS: usize = 62 * 17 + 18 * 9 + 10 * 5;

/// Length of [`Memory::floats`].
pub const FLOATS: usize = PARAMS + 566 + 2 * PARAMS;
/// Length of [`Memory::ints`].
pub const INTS: usize = 1031;
/// Length of [`Memory::order`].
pub const ORDER: usize = EXAMPLES;
/// Length of [`Memory::octets`].
pub const OCTETS: usize = EXAMPLES * (SIZES[0] + 1);

/// Memory of the test, some 25 KiB, contents of no matter: the caller takes it when it runs the test.
#[derive(Debug)]
pub struct Memory<'a> {
    /// At least [`FLOATS`].
    pub floats: &'a mut [f32],
    /// At least [`INTS`].
    pub ints: &'a mut [i32],
    /// At least [`ORDER`].
    pub order: &'a mut [u32],
    /// At least [`OCTETS`].
    pub octets: &'a mut [u8],
}

/// One training of the test, and the hash that it ends in wherever the arithmetic is right.
struct Case {
    name: &'static str,
    arithmetic: Arithmetic,
    activation: Activation,
    config: TrainConfig,
    corrected: bool,
    expected: u64,
}

/// Three epochs of batches of 15, at a rate of 0.5.
const SGD: TrainConfig = TrainConfig {
    local_epochs: 3,
    batch_size: 15,
    learning_rate: 0.5,
    seed: 0,
    arithmetic: Arithmetic::Fixed,
    optimizer: Optimizer::Sgd,
    weight_decay: 0.0,
    clip_norm: None,
};

const MOMENTUM: TrainConfig = TrainConfig {
    learning_rate: 0.1,
    optimizer: Optimizer::Momentum { momentum: 0.9 },
    weight_decay: 0.01,
    ..SGD
};

const ADAM: TrainConfig = TrainConfig {
    learning_rate: 0.01,
    optimizer: Optimizer::ADAM,
    clip_norm: Some(0.5),
    ..SGD
};

const fn case(
    name: &'static str,
    arithmetic: Arithmetic,
    activation: Activation,
    config: TrainConfig,
    expected: u64,
) -> Case {
    Case {
        name,
        arithmetic,
        activation,
        config,
        corrected: false,
        expected,
    }
}

const fn corrected(case: Case) -> Case {
    Case {
        corrected: true,
        ..case
    }
}

use Activation::{Relu, Sigmoid};
use Arithmetic::{Fixed, Float, Integer};

const CASES: [Case; 12] = [
    case("fixed relu", Fixed, Relu, SGD, 0x2dd6_5c6f_6e93_2110),
    case("fixed sigmoid", Fixed, Sigmoid, SGD, 0x8df7_197f_ce6d_167f),
    case("integer relu", Integer, Relu, SGD, 0xbdc9_ae4a_27f1_0c90),
    case(
        "integer sigmoid",
        Integer,
        Sigmoid,
        SGD,
        0x418c_9981_36ac_2853,
    ),
    case("float relu", Float, Relu, SGD, 0xbd93_ec5f_8a11_707b),
    case("float sigmoid", Float, Sigmoid, SGD, 0x4f6c_f60d_de23_c470),
    case(
        "fixed momentum",
        Fixed,
        Relu,
        MOMENTUM,
        0xa5a3_dd94_09c2_82cd,
    ),
    case(
        "float momentum",
        Float,
        Sigmoid,
        MOMENTUM,
        0x3c26_cbc5_dea0_4d21,
    ),
    case("fixed adam", Fixed, Sigmoid, ADAM, 0x0274_4438_6901_416a),
    case("float adam", Float, Relu, ADAM, 0x9bf7_4f53_fc88_c8bb),
    corrected(case(
        "fixed correction",
        Fixed,
        Relu,
        SGD,
        0x8fb4_e7b9_a5e2_9b1e,
    )),
    corrected(case(
        "float correction",
        Float,
        Sigmoid,
        SGD,
        0xa6a7_17f7_1240_8da5,
    )),
];

/// Outcome of one case, with its name; printed as a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Name of the case.
    pub name: &'static str,
    /// FNV-1a hash of the outcome: the parameters, then the mean loss, all as little-endian f32.
    pub found: Result<u64, TrainError>,
    /// The hash that is right.
    pub expected: u64,
}

impl Check {
    /// Tests if the case ended as it must.
    pub fn passed(&self) -> bool {
        self.found == Ok(self.expected)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, expected) = (self.name, self.expected);
        match self.found {
            Ok(found) if found == expected => write!(f, "{name}: {found:016x}"),
            Ok(found) => write!(f, "{name}: {found:016x}, should be {expected:016x}"),
            Err(error) => write!(f, "{name}: {error}, should be {expected:016x}"),
        }
    }
}

/// Runs every case in steps of `max_examples` and passes its outcome to `report`; the outcomes do not
/// depend on `max_examples`.
///
/// # Shapes
/// `memory`: by the constants of this module. A case that finds too little reports
/// [`TrainError::Workspace`].
pub fn run(memory: &mut Memory<'_>, max_examples: u32, mut report: impl FnMut(Check)) {
    for case in CASES {
        report(Check {
            name: case.name,
            found: train(&case, memory, max_examples),
            expected: case.expected,
        });
    }
}

fn train(case: &Case, memory: &mut Memory<'_>, max_examples: u32) -> Result<u64, TrainError> {
    let shape = Shape::new(&SIZES).map_err(|_| TrainError::Diverged)?;
    let model = Model::new(shape, case.activation);
    let config = TrainConfig {
        seed: derive_seed(1, 2, 3),
        arithmetic: case.arithmetic,
        ..case.config
    };
    let mut trainer = Trainer::new(&model, config, EXAMPLES)?;
    let (params, floats) = memory.floats.split_at_mut(PARAMS.min(memory.floats.len()));
    let (octets, labels) = memory.octets.split_at_mut(OCTETS - EXAMPLES);
    let labels = &mut labels[..EXAMPLES];
    let mut workspace = Workspace {
        floats,
        ints: memory.ints,
        order: memory.order,
    };
    draw_examples(octets, labels);
    let init = match case.activation {
        Relu => Init::He,
        Sigmoid => Init::Xavier,
    };
    model
        .init_params(init, 1, params)
        .map_err(TrainError::Params)?;
    loop {
        let correction: Option<&mut dyn Correction> = if case.corrected {
            Some(&mut Pull)
        } else {
            None
        };
        let space = &mut workspace;
        if trainer.step_with(params, &*octets, labels, space, max_examples, correction)?
            == Step::Done
        {
            return Ok(fnv1a(params.iter().chain([&trainer.mean_loss()])));
        }
    }
}

/// A pull of every parameter to a number of its own.
struct Pull;

impl Correction for Pull {
    fn correct(&mut self, first: usize, weights: &[f32], gradient: &mut [f32]) {
        for ((index, w), g) in (first..).zip(weights).zip(gradient) {
            *g += 0.25 * (w - (index % 7) as f32 * 0.0625);
        }
    }
}

/// Noise, two thirds of it black, with a brighter patch at the place of the label.
fn draw_examples(inputs: &mut [u8], labels: &mut [u8]) {
    let mut rng = Pcg32::new(Purpose::SelfTest, 4);
    for (input, label) in inputs.chunks_exact_mut(SIZES[0]).zip(labels) {
        *label = rng.below(SIZES[3] as u32) as u8;
        for octet in input.iter_mut() {
            *octet = if rng.below(3) == 0 {
                rng.below(256) as u8
            } else {
                0
            };
        }
        input[usize::from(*label) * 12..][..12].fill(255);
    }
}

/// FNV-1a, <https://www.rfc-editor.org/rfc/rfc9923>.
fn fnv1a<'a>(numbers: impl Iterator<Item = &'a f32>) -> u64 {
    let octets = numbers.flat_map(|number| number.to_bits().to_le_bytes());
    octets.fold(0xcbf2_9ce4_8422_2325, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [`run`] at every level of instructions that this build knows and this machine has.
    #[cfg(feature = "host")]
    fn at_every_level(check: impl Fn()) {
        crate::host::Level::all().for_each(|level| level.during(&check));
    }

    #[cfg(not(feature = "host"))]
    fn at_every_level(check: impl Fn()) {
        check();
    }

    fn checks(max_examples: u32, floats: usize) -> Vec<Check> {
        let mut memory = Memory {
            floats: &mut vec![f32::NAN; floats],
            ints: &mut [i32::MIN; INTS],
            order: &mut [u32::MAX; ORDER],
            octets: &mut [7; OCTETS],
        };
        let mut checks = Vec::new();
        run(&mut memory, max_examples, |check| checks.push(check));
        checks
    }

    #[test]
    #[cfg_attr(miri, ignore = "slow")]
    fn this_machine_gives_the_expected_bits_however_the_work_is_cut() {
        at_every_level(|| {
            for max_examples in [u32::MAX, 1, 2, 7, 15, 16] {
                for check in checks(max_examples, FLOATS) {
                    assert!(check.passed(), "steps of {max_examples}: {check}");
                }
            }
        });
    }

    #[test]
    #[cfg_attr(miri, ignore = "slow")]
    fn decay_clipping_and_correction_leave_their_mark() {
        let mut memory = Memory {
            floats: &mut vec![0.0; FLOATS],
            ints: &mut [0; INTS],
            order: &mut [0; ORDER],
            octets: &mut [0; OCTETS],
        };
        for case in CASES.into_iter().skip(6) {
            let plain = Case {
                config: TrainConfig {
                    weight_decay: 0.0,
                    clip_norm: None,
                    ..case.config
                },
                corrected: false,
                ..case
            };
            assert_ne!(
                train(&plain, &mut memory, 16),
                Ok(plain.expected),
                "{}",
                plain.name
            );
        }
    }

    #[test]
    fn every_case_has_a_name_and_an_outcome_of_its_own() {
        let (mut names, mut hashes): (Vec<_>, Vec<_>) =
            CASES.iter().map(|case| (case.name, case.expected)).unzip();
        names.sort_unstable();
        names.dedup();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!((names.len(), hashes.len()), (CASES.len(), CASES.len()));
    }

    #[test]
    fn the_memory_is_just_enough() {
        let model = Model::new(Shape::new(&SIZES).unwrap(), Relu);
        let plan = model
            .training_plan_with(15, EXAMPLES, Optimizer::ADAM)
            .unwrap();
        assert_eq!(FLOATS, PARAMS + plan.floats);
        assert_eq!((INTS, ORDER), (plan.ints, plan.order));
    }

    #[test]
    #[cfg_attr(miri, ignore = "slow")]
    fn a_case_that_fails_says_what_it_should_have_been() {
        let short = checks(16, FLOATS - 1);
        let failed: Vec<_> = short.iter().filter(|check| !check.passed()).collect();
        assert_eq!(failed.len(), 2, "only Adam needs all of it");
        assert!(failed[0].to_string().starts_with("fixed adam: workspace"));
        let wrong = Check {
            name: "fixed relu",
            found: Ok(1),
            expected: 0xab,
        };
        assert_eq!(
            wrong.to_string(),
            "fixed relu: 0000000000000001, should be 00000000000000ab"
        );
    }
}
