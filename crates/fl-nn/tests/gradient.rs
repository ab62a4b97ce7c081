//! Back-propagation against central finite differences of an f64 oracle, for every parameter.

mod common;

use common::{
    ACTIVATIONS, ALL, ARITHMETICS, Examples, Pull, config, model, oracle_mean_loss, random_params,
    train, train_with,
};
use fl_nn::{Activation, Arithmetic, Correction, TrainConfig};

/// From one weight layer to four; widths that fill no vector, and one that fills two tiles.
const SHAPES: [&[usize]; 5] = [
    &[9, 4],
    &[16, 16, 4],
    &[13, 7, 3],
    &[10, 35, 6, 5],
    &[8, 6, 5, 4, 3],
];

/// The gradient that one update with a single batch took, from the parameters before and after.
fn gradient(
    sizes: &[usize],
    activation: Activation,
    arithmetic: Arithmetic,
    params: &[f32],
    examples: &Examples,
) -> Vec<f64> {
    let learning_rate = 1.0;
    let config = TrainConfig {
        learning_rate,
        ..config(arithmetic)
    };
    let mut after = params.to_vec();
    train(
        &model(sizes, activation),
        config,
        &mut after,
        examples,
        u32::MAX,
    )
    .unwrap();
    let difference = |(&before, &after): (&f32, &f32)| f64::from(before) - f64::from(after);
    params.iter().zip(&after).map(difference).collect()
}

#[test]
fn every_gradient_is_the_slope_of_the_loss() {
    for (seed, sizes) in (1..).zip(SHAPES) {
        for activation in ACTIVATIONS {
            let model = model(sizes, activation);
            let examples = Examples::new(&model, 11, seed);
            let params = random_params(&model, seed, 0.7);
            let slopes = finite_differences(&params, |params| {
                oracle_mean_loss(&model, params, &examples)
            });
            for arithmetic in ALL {
                let found = gradient(sizes, activation, arithmetic, &params, &examples);
                for (index, (found, slope)) in found.iter().zip(&slopes).enumerate() {
                    // Parameters below 1 are known to 6e-8 before and after, and the integers of the
                    // first layer to 2^-15 of the largest of their column.
                    let tolerance = if arithmetic == Arithmetic::Float {
                        1e-6
                    } else {
                        5e-5
                    };
                    assert!(
                        (found - slope).abs() < tolerance,
                        "{sizes:?} {activation:?} {arithmetic:?}, parameter {index}: {found}, slope {slope}"
                    );
                }
                let largest = slopes
                    .iter()
                    .fold(0.0, |max: f64, slope| max.max(slope.abs()));
                assert!(largest > 0.01, "a gradient of zeros would prove nothing");
            }
        }
    }
}

#[test]
fn a_corrected_gradient_is_the_slope_of_the_loss_and_the_pull() {
    for (seed, sizes) in (1..).zip(SHAPES) {
        let model = model(sizes, Activation::Sigmoid);
        let examples = Examples::new(&model, 11, seed);
        let params = random_params(&model, seed, 0.7);
        let mut pull = Pull {
            mu: 0.5,
            centre: random_params(&model, seed + 9, 0.7),
        };
        let centre = pull.centre.clone();
        let slopes = finite_differences(&params, |params| {
            let pairs = params.iter().zip(&centre);
            let square: f64 = pairs.map(|(w, &c)| (w - f64::from(c)).powi(2)).sum();
            oracle_mean_loss(&model, params, &examples) + 0.25 * square
        });
        for (arithmetic, tolerance) in ARITHMETICS.into_iter().zip([5e-5, 1e-6]) {
            let config = TrainConfig {
                learning_rate: 1.0,
                ..config(arithmetic)
            };
            let mut after = params.clone();
            let hook: Option<&mut dyn Correction> = Some(&mut pull);
            train_with(&model, config, &mut after, &examples, u32::MAX, hook).unwrap();
            for (index, (before, after)) in params.iter().zip(&after).enumerate() {
                let found = f64::from(*before) - f64::from(*after);
                assert!(
                    (found - slopes[index]).abs() < tolerance,
                    "{sizes:?} {arithmetic:?}, parameter {index}: {found}, slope {}",
                    slopes[index]
                );
            }
        }
    }
}

fn finite_differences(params: &[f32], loss: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    const STEP: f64 = 1e-6;
    let mut params: Vec<f64> = params.iter().map(|&param| f64::from(param)).collect();
    (0..params.len())
        .map(|index| {
            let value = params[index];
            params[index] = value + STEP;
            let above = loss(&params);
            params[index] = value - STEP;
            let below = loss(&params);
            params[index] = value;
            (above - below) / (2.0 * STEP)
        })
        .collect()
}

#[test]
fn the_loss_is_the_oracles() {
    for (seed, sizes) in (1..).zip(SHAPES) {
        for activation in ACTIVATIONS {
            let model = model(sizes, activation);
            let examples = Examples::new(&model, 50, seed);
            let mut params = random_params(&model, seed, 0.7);
            let wide: Vec<f64> = params.iter().map(|&param| f64::from(param)).collect();
            let expected = oracle_mean_loss(&model, &wide, &examples);
            for (arithmetic, tolerance) in ARITHMETICS.into_iter().zip([1e-4, 1e-6]) {
                let loss = train(
                    &model,
                    config(arithmetic),
                    &mut params.clone(),
                    &examples,
                    8,
                )
                .unwrap();
                assert!(
                    (f64::from(loss) - expected).abs() < tolerance,
                    "{loss}, {expected}"
                );
            }
            params[0] = f32::NAN;
            assert!(train(&model, config(Arithmetic::Fixed), &mut params, &examples, 8).is_err());
        }
    }
}
