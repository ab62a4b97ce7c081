//! Guarantees to a caller: the cut of the work, the memory, learning, and refusals.

mod common;

use common::{
    ACTIVATIONS, ALL, ARITHMETICS, Buffers, Examples, bits, config, model, oracle_logits,
    oracle_mean_loss, random_params, train,
};
use fl_nn::{
    Activation, Arithmetic, Buffer, Evaluation, Init, Model, PlanError, SizeError, Step,
    TrainConfig, TrainError, Trainer,
};

fn evaluate(model: &Model, params: &[f32], examples: &Examples) -> Result<Evaluation, TrainError> {
    evaluate_in(model, params, examples, Arithmetic::Fixed)
}

fn evaluate_in(
    model: &Model,
    params: &[f32],
    examples: &Examples,
    arithmetic: Arithmetic,
) -> Result<Evaluation, TrainError> {
    let mut buffers = Buffers::new(&model.evaluation_plan()?);
    model.evaluate(
        params,
        &examples.inputs,
        &examples.labels,
        buffers.workspace(),
        arithmetic,
    )
}

#[test]
fn the_cut_of_the_work_changes_no_bit() {
    for arithmetic in ALL {
        for sizes in [&[50, 5][..], &[51, 20, 5], &[52, 6, 7, 5]] {
            let model = model(sizes, Activation::Relu);
            let examples = Examples::new(&model, 103, 1);
            let config = TrainConfig {
                local_epochs: 3,
                batch_size: 20,
                ..config(arithmetic)
            };
            let run = |max_examples| {
                let mut params = random_params(&model, 2, 0.5);
                let loss = train(&model, config, &mut params, &examples, max_examples).unwrap();
                (bits(&params), loss.to_bits())
            };
            let whole = run(u32::MAX);
            for max_examples in [0, 1, 2, 3, 19, 20, 21, 64, 1000] {
                assert_eq!(
                    run(max_examples),
                    whole,
                    "{arithmetic:?} {sizes:?} {max_examples}"
                );
            }
        }
    }
}

#[test]
fn progress_runs_from_nothing_to_all() {
    let model = model(&[20, 5, 3], Activation::Relu);
    let examples = Examples::new(&model, 25, 1);
    let config = TrainConfig {
        local_epochs: 2,
        batch_size: 10,
        ..config(Arithmetic::Fixed)
    };
    let mut trainer = Trainer::new(&model, config, 25).unwrap();
    let mut buffers = Buffers::new(trainer.plan());
    let mut params = random_params(&model, 1, 0.5);
    let mut seen = vec![trainer.progress()];
    let mut step = Step::Working;
    while step == Step::Working {
        assert_eq!(trainer.mean_loss() == 0.0, trainer.progress().epoch == 1);
        let workspace = &mut buffers.workspace();
        step = trainer
            .step(
                &mut params,
                &examples.inputs,
                &examples.labels,
                workspace,
                4,
            )
            .unwrap();
        seen.push(trainer.progress());
    }
    assert_eq!((seen[0].done_examples, seen[0].epoch), (0, 1));
    let last = seen[seen.len() - 1];
    assert_eq!(
        (last.done_examples, last.total_examples, last.epoch),
        (50, 50, 2)
    );
    assert!(
        seen.windows(2)
            .all(|pair| pair[0].done_examples <= pair[1].done_examples
                && pair[1].done_examples - pair[0].done_examples <= 4)
    );

    // A finished training stays finished.
    let before = bits(&params);
    let workspace = &mut buffers.workspace();
    let step = trainer.step(
        &mut params,
        &examples.inputs,
        &examples.labels,
        workspace,
        4,
    );
    assert_eq!((step, bits(&params)), (Ok(Step::Done), before));
}

#[test]
fn all_arithmetics_go_the_same_way() {
    for activation in ACTIVATIONS {
        let model = model(&[100, 16, 10], activation);
        let examples = Examples::new(&model, 200, 3);
        let mut losses = Vec::new();
        let [fixed, float, integer] = ALL.map(|arithmetic| {
            let config = TrainConfig {
                local_epochs: 5,
                batch_size: 50,
                ..config(arithmetic)
            };
            let mut params = vec![0.0; model.shape().num_params()];
            model.init_params(Init::He, 4, &mut params).unwrap();
            let loss = train(&model, config, &mut params, &examples, 64).unwrap();
            losses.push(loss);
            params
        });
        for (name, other) in [("fixed", &fixed), ("integer", &integer)] {
            let pairs = other.iter().zip(&float);
            let largest = pairs.fold(0.0_f32, |max, (a, b)| max.max((a - b).abs()));
            assert!(largest < 1e-3, "{activation:?} {name}: {largest}");
            assert_ne!(
                bits(other),
                bits(&float),
                "the two must not be one and the same code"
            );
        }
        assert_ne!(bits(&fixed), bits(&integer));
        let is_near = |loss: &f32| (loss - losses[1]).abs() < 1e-3;
        assert!(losses.iter().all(is_near), "{activation:?}: {losses:?}");
    }
}

#[test]
fn it_learns_and_the_evaluation_is_the_oracles() {
    for (activation, sizes) in ACTIVATIONS
        .into_iter()
        .zip([&[100, 16, 10][..], &[100, 20, 20, 10]])
    {
        let model = model(sizes, activation);
        let (learnt, unseen) = (Examples::new(&model, 400, 5), Examples::new(&model, 200, 6));
        let mut params = vec![0.0; model.shape().num_params()];
        model.init_params(Init::Xavier, 7, &mut params).unwrap();
        let before = evaluate(&model, &params, &unseen).unwrap();
        let config = TrainConfig {
            local_epochs: 60,
            batch_size: 20,
            learning_rate: 0.3,
            ..config(Arithmetic::Fixed)
        };
        train(&model, config, &mut params, &learnt, 100).unwrap();
        let after = evaluate(&model, &params, &unseen).unwrap();
        assert!(
            before.accuracy() < 0.5 && after.accuracy() > 0.95,
            "{before:?} {after:?}"
        );

        let wide: Vec<f64> = params.iter().map(|&param| f64::from(param)).collect();
        let correct =
            unseen
                .inputs
                .chunks_exact(100)
                .zip(&unseen.labels)
                .filter(|&(input, &label)| {
                    let logits = oracle_logits(&model, &wide, input);
                    logits.iter().all(|&z| z <= logits[usize::from(label)])
                });
        assert_eq!(after.correct as usize, correct.count());
        assert_eq!(after.num_examples, 200);
        let difference = after.mean_loss() - oracle_mean_loss(&model, &wide, &unseen);
        assert!(difference.abs() < 1e-4, "{difference}");
    }
}

#[test]
fn an_evaluation_goes_by_the_arithmetic_that_was_asked_for() {
    let model = model(&[100, 20, 10], Activation::Relu);
    let examples = Examples::new(&model, 200, 5);
    let params = random_params(&model, 7, 0.3);
    let wide: Vec<f64> = params.iter().map(|&param| f64::from(param)).collect();
    let expected = oracle_mean_loss(&model, &wide, &examples);
    let [fixed, float] = ARITHMETICS.map(|arithmetic| {
        let found = evaluate_in(&model, &params, &examples, arithmetic).unwrap();
        assert_eq!(found.num_examples, 200);
        found.mean_loss()
    });
    assert!((float - expected).abs() < 1e-6, "{float} {expected}");
    assert!((fixed - expected).abs() < 1e-3, "{fixed} {expected}");
    assert_ne!(fixed, float, "the two must not be one and the same code");
    for place in 0..params.len() {
        let mut params = params.clone();
        params[place] = f32::INFINITY;
        let blank = Examples {
            inputs: vec![0; 100],
            labels: vec![0],
        };
        let first = place < 100 * 20 + 20;
        for arithmetic in ALL {
            let found = evaluate_in(&model, &params, &blank, arithmetic);
            assert!(found.is_err() || !first, "{arithmetic:?} {place}");
        }
    }
}

#[test]
fn an_evaluation_of_nothing_is_nothing() {
    let model = model(&[4, 2], Activation::Relu);
    let nothing = Examples {
        inputs: vec![],
        labels: vec![],
    };
    let found = evaluate(&model, &random_params(&model, 1, 1.0), &nothing).unwrap();
    assert_eq!(
        (found.num_examples, found.accuracy(), found.mean_loss()),
        (0, 0.0, 0.0)
    );
}

#[test]
fn the_seed_decides_the_order_and_nothing_else_does() {
    let model = model(&[30, 8, 4], Activation::Relu);
    let examples = Examples::new(&model, 64, 1);
    let run = |seed| {
        let config = TrainConfig {
            seed,
            batch_size: 8,
            ..config(Arithmetic::Fixed)
        };
        let mut params = random_params(&model, 1, 0.5);
        train(&model, config, &mut params, &examples, 10).unwrap();
        bits(&params)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_batch_larger_than_the_set_is_the_set() {
    let model = model(&[30, 8, 4], Activation::Sigmoid);
    let examples = Examples::new(&model, 33, 1);
    let run = |batch_size| {
        let config = TrainConfig {
            batch_size,
            ..config(Arithmetic::Fixed)
        };
        let mut params = random_params(&model, 1, 0.5);
        train(&model, config, &mut params, &examples, 10).unwrap();
        bits(&params)
    };
    assert_eq!(run(33), run(u32::MAX));
    assert_ne!(run(33), run(32));
}

#[test]
fn initial_weights_have_the_variance_of_their_scheme() {
    let model = model(&[784, 200, 10], Activation::Relu);
    let mut params = vec![f32::NAN; model.shape().num_params()];
    for (init, variance) in [(Init::He, 2.0 / 784.0), (Init::Xavier, 2.0 / 984.0)] {
        model.init_params(init, 3, &mut params).unwrap();
        let first = &params[..784 * 200];
        let mean = first.iter().map(|&w| f64::from(w)).sum::<f64>() / first.len() as f64;
        let square = first.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>() / first.len() as f64;
        assert!(mean.abs() < 5e-4, "{mean}");
        assert!(
            (square / variance - 1.0).abs() < 0.01,
            "{square} instead of {variance}"
        );
        assert!(params[784 * 200..785 * 200].iter().all(|&bias| bias == 0.0));
        assert!(params[params.len() - 10..].iter().all(|&bias| bias == 0.0));
    }
    let mut other = params.clone();
    model.init_params(Init::Xavier, 4, &mut other).unwrap();
    assert_ne!(bits(&params), bits(&other));
    let expected = params.len();
    let short = model.init_params(Init::He, 3, &mut other[1..]);
    assert_eq!(
        short,
        Err(SizeError {
            expected,
            actual: expected - 1
        })
    );
}

#[test]
fn the_plan_is_what_is_needed_and_one_element_less_is_refused() {
    for sizes in [&[9, 4][..], &[784, 16, 10], &[30, 70, 33, 7]] {
        let model = model(sizes, Activation::Relu);
        let examples = Examples::new(&model, 41, 1);
        let config = TrainConfig {
            batch_size: 20,
            ..config(Arithmetic::Fixed)
        };
        let plan = model.training_plan(20, 41).unwrap();
        assert_eq!(
            plan.gradients_bytes + plan.activations_bytes,
            4 * plan.floats as u64
        );
        assert_eq!(plan.integers_bytes, 4 * plan.ints as u64);
        assert_eq!(plan.order_bytes, 4 * plan.order as u64);
        assert_eq!(plan.parameters_bytes, 4 * model.shape().num_params() as u64);

        let mut params = random_params(&model, 1, 0.3);
        train(&model, config, &mut params, &examples, 8).unwrap();
        for buffer in [Buffer::Floats, Buffer::Ints, Buffer::Order] {
            let mut buffers = Buffers::new(&plan);
            let expected = match buffer {
                Buffer::Floats => buffers.floats.pop().map(|_| plan.floats),
                Buffer::Ints => buffers.ints.pop().map(|_| plan.ints),
                Buffer::Order => buffers.order.pop().map(|_| plan.order),
            };
            let size = SizeError {
                expected: expected.unwrap(),
                actual: expected.unwrap() - 1,
            };
            let mut trainer = Trainer::new(&model, config, 41).unwrap();
            let workspace = &mut buffers.workspace();
            let step = trainer.step(
                &mut params,
                &examples.inputs,
                &examples.labels,
                workspace,
                8,
            );
            assert_eq!(step, Err(TrainError::Workspace { buffer, size }));
        }

        let plan = model.evaluation_plan().unwrap();
        let mut buffers = Buffers::new(&plan);
        buffers.ints.pop();
        let found = model.evaluate(
            &params,
            &examples.inputs,
            &examples.labels,
            buffers.workspace(),
            Arithmetic::Fixed,
        );
        let size = SizeError {
            expected: plan.ints,
            actual: plan.ints - 1,
        };
        assert_eq!(
            found,
            Err(TrainError::Workspace {
                buffer: Buffer::Ints,
                size
            })
        );
    }
}

#[test]
fn the_workspace_may_lie_anywhere_and_hold_anything() {
    let model = model(&[21, 17, 3], Activation::Relu);
    let examples = Examples::new(&model, 30, 1);
    let plan = model.training_plan(1000, 30).unwrap();
    let run = |offset: usize, rubbish: i32| {
        let mut buffers = Buffers::new(&plan);
        buffers.ints = vec![rubbish; plan.ints + 8];
        let mut workspace = buffers.workspace();
        workspace.ints = &mut workspace.ints[offset..];
        let mut params = random_params(&model, 1, 0.5);
        let mut trainer = Trainer::new(&model, config(Arithmetic::Fixed), 30).unwrap();
        let (inputs, labels) = (&examples.inputs, &examples.labels);
        while trainer
            .step(&mut params, inputs, labels, &mut workspace, 7)
            .unwrap()
            == Step::Working
        {}
        bits(&params)
    };
    for offset in 1..8 {
        assert_eq!(run(offset, -1), run(0, 0));
    }
}

#[test]
fn the_default_net_fits_a_small_device() {
    let model = model(&[784, 16, 10], Activation::Relu);
    let plan = model.training_plan(600, 1200).unwrap();
    let beside_params = plan.total_bytes() - plan.parameters_bytes;
    assert!(beside_params < 100_000, "{plan:?}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let model = model(&[6, 5, 3], Activation::Relu);
    let good = config(Arithmetic::Fixed);
    let refusal = |config, examples| Trainer::new(&model, config, examples).err();
    let zero_batch = Some(TrainError::Plan(PlanError::ZeroBatchSize));
    assert_eq!(
        refusal(
            TrainConfig {
                batch_size: 0,
                ..good
            },
            9
        ),
        zero_batch
    );
    assert_eq!(
        refusal(good, 0),
        Some(TrainError::Plan(PlanError::NoExamples))
    );
    assert_eq!(
        refusal(good, usize::MAX),
        Some(TrainError::Plan(PlanError::TooLarge))
    );
    let huge = TrainConfig {
        batch_size: u32::MAX,
        ..good
    };
    assert_eq!(
        refusal(huge, 65_536),
        Some(TrainError::Plan(PlanError::TooLarge))
    );
    assert_eq!(refusal(huge, 65_535), None);
    assert_eq!(
        refusal(
            TrainConfig {
                local_epochs: 0,
                ..good
            },
            9
        ),
        Some(TrainError::ZeroEpochs)
    );
    for learning_rate in [0.0, -0.1, f32::NAN, f32::INFINITY] {
        let config = TrainConfig {
            learning_rate,
            ..good
        };
        assert_eq!(refusal(config, 9), Some(TrainError::LearningRate));
    }
}

#[test]
fn wrong_lengths_and_labels_are_refused_and_change_nothing() {
    let model = model(&[6, 5, 3], Activation::Relu);
    let examples = Examples::new(&model, 9, 1);
    let (inputs, labels) = (&examples.inputs[..], &examples.labels[..]);
    let mut wrong = labels.to_vec();
    wrong[7] = 3;
    let size = |expected, actual| SizeError { expected, actual };
    let mut params = random_params(&model, 1, 0.5);
    let before = bits(&params);
    let n = params.len();
    let check = |params: &mut [f32], inputs: &[u8], labels: &[u8], error| {
        let mut trainer = Trainer::new(&model, config(Arithmetic::Fixed), 9).unwrap();
        let mut buffers = Buffers::new(trainer.plan());
        let step = trainer.step(params, inputs, labels, &mut buffers.workspace(), 4);
        assert_eq!(step, Err(error));
        if labels.len() != 9 {
            return;
        }
        let mut buffers = Buffers::new(&model.evaluation_plan().unwrap());
        let found = model.evaluate(
            params,
            inputs,
            labels,
            buffers.workspace(),
            Arithmetic::Fixed,
        );
        assert_eq!(found, Err(error));
    };
    check(
        &mut params[1..],
        inputs,
        labels,
        TrainError::Params(size(n, n - 1)),
    );
    check(
        &mut params,
        &inputs[1..],
        labels,
        TrainError::Inputs(size(54, 53)),
    );
    check(
        &mut params,
        inputs,
        &labels[1..],
        TrainError::Labels(size(9, 8)),
    );
    check(
        &mut params,
        inputs,
        &wrong,
        TrainError::Label {
            example: 7,
            label: 3,
        },
    );
    assert_eq!(bits(&params), before);

    // A label that goes bad, or an order that a stranger wrote, in the middle of a training.
    let mut trainer = Trainer::new(&model, config(Arithmetic::Fixed), 9).unwrap();
    let mut buffers = Buffers::new(trainer.plan());
    trainer
        .step(&mut params, inputs, labels, &mut buffers.workspace(), 1)
        .unwrap();
    buffers.order.fill(u32::MAX);
    trainer
        .step(&mut params, inputs, labels, &mut buffers.workspace(), 1)
        .unwrap();
    let bad = trainer.step(&mut params, inputs, &[3; 9], &mut buffers.workspace(), 1);
    assert!(matches!(bad, Err(TrainError::Label { label: 3, .. })));
}

#[test]
fn numbers_that_are_not_finite_end_the_training_wherever_they_stand() {
    let model = model(&[6, 5, 4, 3], Activation::Relu);
    let examples = Examples {
        inputs: vec![255; 6 * 9],
        labels: vec![1; 9],
    };
    let good = random_params(&model, 1, 0.5);
    for arithmetic in ALL {
        for place in 0..good.len() {
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut params = good.clone();
                params[place] = value;
                let found = train(&model, config(arithmetic), &mut params, &examples, 4);
                assert_eq!(
                    found,
                    Err(TrainError::Diverged),
                    "{arithmetic:?} {place} {value}"
                );
            }
        }
    }
}

#[test]
fn extreme_numbers_give_a_finite_model_or_an_error() {
    let model = model(&[40, 20, 3], Activation::Relu);
    for inputs in [vec![255; 40 * 9], vec![0; 40 * 9], vec![1; 40 * 9]] {
        let examples = Examples {
            inputs,
            labels: vec![0, 1, 2, 0, 1, 2, 0, 1, 2],
        };
        for limit in [0.0, 1e-45, 1e-38, 1e-20, 1.0, 1e4, 1e19, 1e30, f32::MAX] {
            for learning_rate in [f32::MIN_POSITIVE, 1.0, 1e10, f32::MAX] {
                for arithmetic in ALL {
                    let config = TrainConfig {
                        learning_rate,
                        local_epochs: 3,
                        batch_size: 4,
                        ..config(arithmetic)
                    };
                    let mut params = random_params(&model, 1, limit);
                    match train(&model, config, &mut params, &examples, 5) {
                        Ok(loss) => {
                            assert!(
                                loss.is_finite() && params.iter().all(|param| param.is_finite())
                            );
                            evaluate(&model, &params, &examples).err();
                        }
                        Err(error) => assert_eq!(error, TrainError::Diverged),
                    }
                }
            }
        }
    }
}
