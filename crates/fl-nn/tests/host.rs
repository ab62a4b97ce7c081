//! Training and evaluation at every level of instructions: the bits of the plain form.
#![cfg(feature = "host")]

mod common;

use common::{
    ACTIVATIONS, ARITHMETICS, Buffers, Examples, Pull, bits, config, model, random_params,
    train_with,
};
use fl_nn::host::Level;
use fl_nn::{Correction, Optimizer, TrainConfig, TrainError};

const SHAPES: [&[usize]; 5] = [
    &[50, 5],
    &[64, 32, 10],
    &[51, 17, 5],
    &[130, 200, 33, 10],
    &[7, 300, 1, 2],
];

#[test]
fn every_level_trains_to_the_same_bits() {
    for sizes in SHAPES {
        for (activation, arithmetic) in ACTIVATIONS
            .into_iter()
            .zip(ARITHMETICS)
            .chain(ACTIVATIONS.into_iter().rev().zip(ARITHMETICS))
        {
            let model = model(sizes, activation);
            let examples = Examples::new(&model, 75, 1);
            for (case, batch_size) in [10, 33, 75, 1, 40, 16].into_iter().enumerate() {
                let config = TrainConfig {
                    batch_size,
                    local_epochs: 1 + case as u32 % 2,
                    optimizer: [
                        Optimizer::Sgd,
                        Optimizer::ADAM,
                        Optimizer::Momentum { momentum: 0.9 },
                    ][case % 3],
                    clip_norm: (case == 4).then_some(0.5),
                    ..config(arithmetic)
                };
                let run = |level: Level, max_examples| {
                    let mut params = random_params(&model, 2, 0.3);
                    let mut pull = Pull {
                        mu: 0.1,
                        centre: params.clone(),
                    };
                    let hook = (case == 3).then_some(&mut pull as &mut dyn Correction);
                    let loss = level.during(|| {
                        train_with(&model, config, &mut params, &examples, max_examples, hook)
                    });
                    (bits(&params), loss.unwrap().to_bits())
                };
                let plain = run(Level::Plain, u32::MAX);
                for level in Level::all() {
                    for max_examples in [u32::MAX, 7] {
                        assert!(
                            run(level, max_examples) == plain,
                            "{level:?} {config:?} {sizes:?} {max_examples}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn every_level_finds_the_same_loss() {
    for (sizes, arithmetic) in SHAPES.into_iter().zip(ARITHMETICS.into_iter().cycle()) {
        for activation in ACTIVATIONS {
            let model = model(sizes, activation);
            let examples = Examples::new(&model, 40, 1);
            let params = random_params(&model, 3, 0.5);
            let found = |level: Level| {
                let mut buffers = Buffers::new(&model.evaluation_plan().unwrap());
                let (inputs, labels) = (&examples.inputs, &examples.labels);
                level.during(|| {
                    model.evaluate(&params, inputs, labels, buffers.workspace(), arithmetic)
                })
            };
            assert!(Level::all().all(|level| found(level) == found(Level::Plain)));
        }
    }
}

#[test]
fn every_level_refuses_what_is_not_finite() {
    let model = model(&[30, 9, 4], fl_nn::Activation::Relu);
    let examples = Examples::new(&model, 20, 1);
    for arithmetic in ARITHMETICS {
        for place in [0, 30 * 9 + 2, 31 * 9 + 5] {
            for value in [f32::NAN, f32::INFINITY] {
                for level in Level::all() {
                    let mut params = random_params(&model, 2, 0.5);
                    params[place] = value;
                    let config = config(arithmetic);
                    let found = level
                        .during(|| train_with(&model, config, &mut params, &examples, 64, None));
                    assert_eq!(
                        found,
                        Err(TrainError::Diverged),
                        "{level:?} {arithmetic:?} {place}"
                    );
                }
            }
        }
    }
}
