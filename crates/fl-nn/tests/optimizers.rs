//! Optimizers, weight decay, clipping and corrections, against an f64 oracle of a whole training.

mod common;

use common::{
    ACTIVATIONS, ARITHMETICS, Buffers, Examples, Pull, bits, config, model, oracle_gradient,
    random_params, train, train_with,
};
use fl_nn::{
    Activation, Arithmetic, Correction, Model, Optimizer, Step, TrainConfig, TrainError, Trainer,
};
use fl_rng::{Pcg32, Purpose};

/// A momentum, and an Adam whose denominator is never so small that it blows up a rounding.
const MOMENTUM: Optimizer = Optimizer::Momentum { momentum: 0.9 };
const ADAM: Optimizer = Optimizer::Adam {
    beta_1: 0.9,
    beta_2: 0.99,
    epsilon: 1e-2,
};

/// Three epochs of batches of 8 over 20 examples, so that the last batch of each is short.
const EXAMPLES: usize = 20;

fn base(arithmetic: Arithmetic) -> TrainConfig {
    TrainConfig {
        local_epochs: 3,
        batch_size: 8,
        learning_rate: 0.05,
        ..config(arithmetic)
    }
}

/// A training in f64, and the norm of every gradient.
fn oracle(
    model: &Model,
    config: &TrainConfig,
    params: &[f32],
    examples: &Examples,
    pull: Option<&Pull>,
) -> (Vec<f64>, Vec<f64>) {
    let mut w: Vec<f64> = params.iter().map(|&w| f64::from(w)).collect();
    let (mut m, mut v) = (vec![0.0; w.len()], vec![0.0; w.len()]);
    let mut norms = Vec::new();
    let mut rng = Pcg32::new(Purpose::ExampleOrder, config.seed);
    let mut order: Vec<u32> = (0..examples.labels.len() as u32).collect();
    let rate = f64::from(config.learning_rate);
    for _ in 0..config.local_epochs {
        rng.shuffle(&mut order);
        for batch in order.chunks(config.batch_size as usize) {
            let mut g = oracle_gradient(model, &w, examples, batch);
            if let Some(Pull { mu, centre }) = pull {
                for ((g, w), &c) in g.iter_mut().zip(&w).zip(centre) {
                    *g += f64::from(*mu) * (w - f64::from(c));
                }
            }
            let norm = g.iter().map(|g| g * g).sum::<f64>().sqrt();
            norms.push(norm);
            let factor = config
                .clip_norm
                .map_or(1.0, |c| (f64::from(c) / norm).min(1.0));
            let step = norms.len() as i32;
            for i in 0..w.len() {
                let g = g[i] * factor + f64::from(config.weight_decay) * w[i];
                w[i] -= match config.optimizer {
                    Optimizer::Sgd => rate * g,
                    Optimizer::Momentum { momentum } => {
                        v[i] = f64::from(momentum) * v[i] + g;
                        rate * v[i]
                    }
                    Optimizer::Adam {
                        beta_1,
                        beta_2,
                        epsilon,
                    } => {
                        let (b1, b2) = (f64::from(beta_1), f64::from(beta_2));
                        m[i] = b1 * m[i] + (1.0 - b1) * g;
                        v[i] = b2 * v[i] + (1.0 - b2) * g * g;
                        let mean = m[i] / (1.0 - b1.powi(step));
                        let square = v[i] / (1.0 - b2.powi(step));
                        rate * mean / (square.sqrt() + f64::from(epsilon))
                    }
                };
            }
        }
    }
    (w, norms)
}

#[test]
fn every_optimizer_goes_the_way_of_the_oracle() {
    for (seed, sizes) in (1..).zip([&[13, 4][..], &[21, 17, 3], &[10, 6, 7, 5]]) {
        for activation in ACTIVATIONS {
            let model = model(sizes, activation);
            let examples = Examples::new(&model, EXAMPLES, seed);
            let start = random_params(&model, seed, 0.5);
            let pull = Pull {
                mu: 0.3,
                centre: random_params(&model, seed + 9, 0.5),
            };
            for (arithmetic, tolerance) in ARITHMETICS.into_iter().zip([5e-4, 5e-6]) {
                for optimizer in [Optimizer::Sgd, MOMENTUM, ADAM] {
                    for (weight_decay, clip_norm, pulled) in [
                        (0.0, None, false),
                        (0.1, None, false),
                        (0.0, Some(0.2), false),
                        (0.02, Some(0.2), true),
                    ] {
                        let config = TrainConfig {
                            optimizer,
                            weight_decay,
                            clip_norm,
                            ..base(arithmetic)
                        };
                        let pull = pulled.then_some(&pull);
                        let (expected, norms) = oracle(&model, &config, &start, &examples, pull);
                        if clip_norm.is_some() {
                            assert!(norms.iter().any(|&norm| norm > 0.2), "{norms:?}");
                        }
                        let mut params = start.clone();
                        let mut own = pull.map(|Pull { mu, centre }| Pull {
                            mu: *mu,
                            centre: centre.clone(),
                        });
                        let hook = own.as_mut().map(|pull| pull as &mut dyn Correction);
                        train_with(&model, config, &mut params, &examples, 5, hook).unwrap();
                        for (index, (found, expected)) in params.iter().zip(expected).enumerate() {
                            assert!(
                                (f64::from(*found) - expected).abs() < tolerance,
                                "{sizes:?} {activation:?} {config:?}, parameter {index}: {found}, \
                                 oracle {expected}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn the_first_step_of_adam_is_as_long_as_the_rate_whatever_the_gradient() {
    let model = model(&[9, 4], Activation::Relu);
    let examples = Examples::new(&model, EXAMPLES, 1);
    for learning_rate in [1e-3, 0.25] {
        let config = TrainConfig {
            learning_rate,
            optimizer: Optimizer::ADAM,
            ..config(Arithmetic::Float)
        };
        let before = random_params(&model, 1, 0.5);
        let mut after = before.clone();
        train(&model, config, &mut after, &examples, 100).unwrap();
        for (before, after) in before.iter().zip(&after) {
            let length = (after - before).abs();
            assert!((length / learning_rate - 1.0).abs() < 1e-2, "{length}");
        }
    }
}

/// Leaves every gradient as it is.
struct Nothing;

impl Correction for Nothing {
    fn correct(&mut self, _: usize, _: &[f32], _: &mut [f32]) {}
}

#[test]
fn a_correction_or_a_clip_that_changes_nothing_changes_no_bit() {
    for arithmetic in ARITHMETICS {
        for sizes in [&[50, 5][..], &[51, 20, 5], &[52, 6, 7, 5]] {
            let model = model(sizes, Activation::Relu);
            let examples = Examples::new(&model, 103, 1);
            let run = |clip_norm, hook: Option<&mut dyn Correction>| {
                let config = TrainConfig {
                    clip_norm,
                    learning_rate: 0.3,
                    ..base(arithmetic)
                };
                let mut params = random_params(&model, 2, 0.5);
                let loss = train_with(&model, config, &mut params, &examples, 9, hook).unwrap();
                (bits(&params), loss.to_bits())
            };
            let plain = run(None, None);
            assert_eq!(run(None, Some(&mut Nothing)), plain, "{arithmetic:?}");
            assert_eq!(run(Some(f32::INFINITY), None), plain, "{arithmetic:?}");
            assert_ne!(run(Some(0.1), None), plain, "{arithmetic:?}");
        }
    }
}

#[test]
fn the_cut_of_the_work_changes_no_bit_of_any_optimizer() {
    for arithmetic in ARITHMETICS {
        for optimizer in [Optimizer::Sgd, MOMENTUM, ADAM] {
            let model = model(&[51, 20, 5], Activation::Relu);
            let examples = Examples::new(&model, 103, 1);
            let config = TrainConfig {
                optimizer,
                weight_decay: 0.01,
                clip_norm: Some(0.5),
                batch_size: 20,
                ..base(arithmetic)
            };
            let run = |max_examples| {
                let mut pull = Pull {
                    mu: 0.1,
                    centre: random_params(&model, 3, 0.5),
                };
                let mut params = random_params(&model, 2, 0.5);
                let hook: Option<&mut dyn Correction> = Some(&mut pull);
                train_with(&model, config, &mut params, &examples, max_examples, hook).unwrap();
                bits(&params)
            };
            let whole = run(u32::MAX);
            for max_examples in [0, 1, 2, 3, 19, 20, 21, 64, 1000] {
                assert_eq!(run(max_examples), whole, "{config:?} {max_examples}");
            }
        }
    }
}

/// Counts the visits of every parameter, and holds the weights to those before the step.
struct Counted {
    visits: Vec<u32>,
    before: Vec<f32>,
}

impl Correction for Counted {
    fn correct(&mut self, first: usize, weights: &[f32], gradient: &mut [f32]) {
        assert_eq!(weights.len(), gradient.len());
        assert_eq!(weights, &self.before[first..][..weights.len()]);
        let visits = &mut self.visits[first..][..weights.len()];
        visits.iter_mut().for_each(|visits| *visits += 1);
    }
}

#[test]
fn a_correction_sees_every_parameter_once_a_step_and_twice_where_it_is_clipped() {
    for arithmetic in ARITHMETICS {
        for sizes in [&[9, 4][..], &[784, 16, 10], &[30, 70, 33, 7]] {
            for (clip_norm, expected) in [(None, 1), (Some(0.1), 2)] {
                let model = model(sizes, Activation::Relu);
                let examples = Examples::new(&model, 12, 1);
                let before = random_params(&model, 1, 0.3);
                let mut counted = Counted {
                    visits: vec![0; before.len()],
                    before: before.clone(),
                };
                let config = TrainConfig {
                    clip_norm,
                    ..config(arithmetic)
                };
                let mut params = before;
                let hook: Option<&mut dyn Correction> = Some(&mut counted);
                train_with(&model, config, &mut params, &examples, 4, hook).unwrap();
                assert!(counted.visits.iter().all(|&visits| visits == expected));
            }
        }
    }
}

#[test]
fn only_the_state_of_an_optimizer_takes_memory() {
    let model = model(&[784, 16, 10], Activation::Relu);
    let plain = model.training_plan(600, 1200).unwrap();
    for optimizer in [Optimizer::Sgd, MOMENTUM, ADAM] {
        let plan = model.training_plan_with(600, 1200, optimizer).unwrap();
        let state = (optimizer.state_vectors() * model.shape().num_params()) as u64;
        assert_eq!(plan.optimizer_bytes, 4 * state);
        assert_eq!(plan.total_bytes(), plain.total_bytes() + 4 * state);
        assert_eq!(plan.floats as u64, plain.floats as u64 + state);
        let config = TrainConfig {
            batch_size: 600,
            optimizer,
            weight_decay: 0.1,
            clip_norm: Some(1.0),
            ..config(Arithmetic::Fixed)
        };
        assert_eq!(*Trainer::new(&model, config, 1200).unwrap().plan(), plan);
    }
}

#[test]
fn steps_are_counted_one_per_batch() {
    let model = model(&[9, 4], Activation::Relu);
    let examples = Examples::new(&model, EXAMPLES, 1);
    let mut trainer = Trainer::new(&model, base(Arithmetic::Fixed), EXAMPLES).unwrap();
    let mut buffers = Buffers::new(trainer.plan());
    let mut params = random_params(&model, 1, 0.5);
    let mut counts = vec![trainer.steps_done()];
    let mut step = Step::Working;
    while step == Step::Working {
        let (inputs, labels) = (&examples.inputs, &examples.labels);
        let space = &mut buffers.workspace();
        step = trainer.step(&mut params, inputs, labels, space, 3).unwrap();
        counts.push(trainer.steps_done());
    }
    assert!(counts.is_sorted());
    assert_eq!((counts[0], counts[counts.len() - 1]), (0, 9));
}

/// Adds what is not a number to one element.
struct Poison(usize);

impl Correction for Poison {
    fn correct(&mut self, first: usize, _: &[f32], gradient: &mut [f32]) {
        if let Some(g) = self
            .0
            .checked_sub(first)
            .and_then(|at| gradient.get_mut(at))
        {
            *g = f32::NAN;
        }
    }
}

#[test]
fn a_gradient_that_is_not_finite_ends_the_training_wherever_it_stands() {
    let model = model(&[6, 5, 3], Activation::Relu);
    let examples = Examples::new(&model, 9, 1);
    for optimizer in [Optimizer::Sgd, MOMENTUM, ADAM] {
        for clip_norm in [None, Some(1.0)] {
            for arithmetic in ARITHMETICS {
                for place in 0..model.shape().num_params() {
                    let config = TrainConfig {
                        optimizer,
                        clip_norm,
                        ..config(arithmetic)
                    };
                    let mut params = random_params(&model, 1, 0.5);
                    let mut poison = Poison(place);
                    let hook: Option<&mut dyn Correction> = Some(&mut poison);
                    let found = train_with(&model, config, &mut params, &examples, 4, hook);
                    assert_eq!(found, Err(TrainError::Diverged), "{config:?} {place}");
                }
            }
        }
    }
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    let model = model(&[6, 5, 3], Activation::Relu);
    let refusal = |change: fn(&mut TrainConfig, f32), value| {
        let mut config = config(Arithmetic::Fixed);
        change(&mut config, value);
        Trainer::new(&model, config, 9).err()
    };
    let adam = |beta_1, beta_2, epsilon| Optimizer::Adam {
        beta_1,
        beta_2,
        epsilon,
    };
    for value in [-0.1, 1.0, f32::NAN, f32::INFINITY] {
        let momentum = refusal(
            |config, momentum| config.optimizer = Optimizer::Momentum { momentum },
            value,
        );
        assert_eq!(momentum, Some(TrainError::Momentum), "{value}");
        for optimizer in [adam(value, 0.9, 1e-8), adam(0.9, value, 1e-8)] {
            let config = TrainConfig {
                optimizer,
                ..config(Arithmetic::Fixed)
            };
            let refused = Trainer::new(&model, config, 9).err();
            assert_eq!(refused, Some(TrainError::Beta), "{value}");
        }
    }
    for value in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let config = TrainConfig {
            optimizer: adam(0.9, 0.9, value),
            ..config(Arithmetic::Fixed)
        };
        let refused = Trainer::new(&model, config, 9).err();
        assert_eq!(refused, Some(TrainError::Epsilon), "{value}");
    }
    for value in [-0.1, f32::NAN, f32::INFINITY] {
        let decay = refusal(|config, decay| config.weight_decay = decay, value);
        assert_eq!(decay, Some(TrainError::WeightDecay), "{value}");
    }
    for value in [0.0, -1.0, f32::NAN] {
        let clip = refusal(|config, norm| config.clip_norm = Some(norm), value);
        assert_eq!(clip, Some(TrainError::ClipNorm), "{value}");
    }
}
