//! Training and evaluation at every level of instructions: the bits of the plain form.
#![cfg(feature = "host")]

mod common;

use common::{
    ACTIVATIONS, ARITHMETICS, Buffers, Examples, Pull, bits, config, model, random_params,
    train_with,
};
use fl_nn::host::Level;
use fl_nn::{
    Arithmetic, Correction, Inputs, Optimizer, Shelf, Step, TrainConfig, TrainError, Trainer, View,
};

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

/// Examples of a set in memory, by their places: with lists kept from the training before, and where there is no room
/// for any, the model is that of the same examples in a row.
#[test]
fn views_and_kept_lists_train_to_the_same_bits() {
    for (sizes, arithmetic) in [
        (SHAPES[0], Arithmetic::Fixed),
        (SHAPES[2], Arithmetic::Float),
    ] {
        let model = model(sizes, ACTIVATIONS[0]);
        let set = Examples::new(&model, 60, 1);
        let places: Vec<u32> = (0..60).rev().step_by(3).map(|n| n * 7 % 60).collect();
        let labels: Vec<u8> = places.iter().map(|&n| set.labels[n as usize]).collect();
        let input = |&n: &u32| &set.inputs[n as usize * sizes[0]..][..sizes[0]];
        let in_a_row: Vec<u8> = places.iter().flat_map(input).copied().collect();
        for batch_size in [20, 7] {
            let config = TrainConfig {
                batch_size,
                local_epochs: 3,
                ..config(arithmetic)
            };
            let run = |inputs: Inputs<'_>| {
                let mut params = random_params(&model, 2, 0.3);
                let mut trainer = Trainer::new(&model, config, labels.len()).unwrap();
                let mut buffers = Buffers::new(trainer.plan());
                let space = &mut buffers.workspace();
                while trainer.step(&mut params, inputs, &labels, space, 9) != Ok(Step::Done) {}
                bits(&params)
            };
            let expected = run(Inputs::from(&in_a_row));
            // All of it, a part of it, and nothing.
            for bytes in [1 << 20, 1500, 0] {
                let shelf = Shelf::new(2, bytes);
                for shelf in [
                    None,
                    Some((&shelf, 1)),
                    Some((&shelf, 1)),
                    Some((&shelf, 2)),
                ] {
                    let view = View {
                        octets: &set.inputs,
                        places: &places,
                        shelf,
                    };
                    for level in [Level::Plain].into_iter().chain(Level::all()) {
                        assert!(level.during(|| run(view.into())) == expected, "{level:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_place_outside_of_the_set_is_refused() {
    let model = model(SHAPES[0], ACTIVATIONS[0]);
    let set = Examples::new(&model, 5, 1);
    let view = View {
        octets: &set.inputs,
        places: &[4, 5],
        shelf: None,
    };
    let mut trainer = Trainer::new(&model, config(Arithmetic::Fixed), 2).unwrap();
    let mut buffers = Buffers::new(trainer.plan());
    let (mut params, space) = (random_params(&model, 2, 0.3), &mut buffers.workspace());
    let found = trainer.step(&mut params, view, &set.labels[..2], space, 9);
    assert!(matches!(found, Err(TrainError::Inputs(_))), "{found:?}");
}
