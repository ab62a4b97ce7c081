//! Test accuracy of FedAvg over a table of learning rates and seeds, without a fleet: how the default
//! learning rate was chosen.
//!
//! `cargo run --release -p fl-nn --example fedavg -- [clients] [rounds] [hidden] [rates] [seeds]`,
//! by default `50 20 16 0.05,0.1,0.2,0.5 1,2,3`: every client has an equal IID share of the 60,000
//! examples, and trains 5 epochs in batches of 600.

use fl_nn::{Activation, Arithmetic, Init, Model, Shape, Step, TrainConfig, Trainer, Workspace};
use fl_rng::{Pcg32, derive_seed};

mod mnist;

const LOCAL_EPOCHS: u32 = 5;
const BATCH_SIZE: u32 = 600;

fn main() {
    let mut args = std::env::args().skip(1);
    let mut next = |default: &str| args.next().unwrap_or(default.into());
    let clients: usize = next("50").parse().expect("a number of clients");
    let rounds: u32 = next("20").parse().expect("a number of rounds");
    let hidden: Vec<usize> = numbers(&next("16"));
    let rates: Vec<f32> = numbers(&next("0.05,0.1,0.2,0.5"));
    let seeds: Vec<u64> = numbers(&next("1,2,3"));

    let sizes = [vec![mnist::PIXELS], hidden, vec![10]].concat();
    let model = Model::new(Shape::new(&sizes).expect("a shape"), Activation::Relu);
    let (train, test) = (mnist::train(), mnist::test());
    println!("{sizes:?}, {clients} clients, test accuracy after round 1 and every fifth");
    for &learning_rate in &rates {
        for &seed in &seeds {
            let shares = partition(&train, clients, seed);
            let accuracies = run(&model, &shares, &test, learning_rate, seed, rounds);
            let shown = (1..)
                .zip(accuracies)
                .filter(|(round, _)| *round == 1 || round % 5 == 0);
            let shown: Vec<String> = shown
                .map(|(_, accuracy)| format!("{accuracy:.4}"))
                .collect();
            println!("lr {learning_rate:<5} seed {seed}: {}", shown.join(" "));
        }
    }
}

fn numbers<T: std::str::FromStr>(list: &str) -> Vec<T> {
    list.split(',')
        .map(|item| item.parse().ok().expect("a number"))
        .collect()
}

/// Equal shares in random order.
fn partition(set: &mnist::Set, clients: usize, seed: u64) -> Vec<mnist::Set> {
    let mut order: Vec<u32> = (0..set.labels.len() as u32).collect();
    Pcg32::on_stream(seed, 7).shuffle(&mut order);
    let share = |chunk: &[u32]| mnist::Set {
        images: chunk
            .iter()
            .flat_map(|&n| &set.images[n as usize * mnist::PIXELS..][..mnist::PIXELS])
            .copied()
            .collect(),
        labels: chunk.iter().map(|&n| set.labels[n as usize]).collect(),
    };
    order
        .chunks_exact(set.labels.len() / clients)
        .map(share)
        .collect()
}

/// Test accuracy after each round.
fn run(
    model: &Model,
    shares: &[mnist::Set],
    test: &mnist::Set,
    learning_rate: f32,
    seed: u64,
    rounds: u32,
) -> Vec<f64> {
    let mut global = vec![0.0; model.shape().num_params()];
    model
        .init_params(Init::He, seed, &mut global)
        .expect("the right length");
    let mut accuracies = Vec::new();
    for round in 1..=rounds {
        let mut sum = vec![0.0_f64; global.len()];
        for (client, share) in shares.iter().enumerate() {
            let config = TrainConfig {
                local_epochs: LOCAL_EPOCHS,
                batch_size: BATCH_SIZE,
                learning_rate,
                seed: derive_seed(seed, client as u32, round),
                ..TrainConfig::default()
            };
            let local = fit(model, &global, share, config);
            sum.iter_mut()
                .zip(local)
                .for_each(|(sum, param)| *sum += f64::from(param));
        }
        global = sum
            .iter()
            .map(|sum| (sum / shares.len() as f64) as f32)
            .collect();
        accuracies.push(accuracy(model, &global, test));
    }
    accuracies
}

fn fit(model: &Model, global: &[f32], share: &mnist::Set, config: TrainConfig) -> Vec<f32> {
    let mut trainer = Trainer::new(model, config, share.labels.len()).expect("a training");
    let plan = *trainer.plan();
    let (mut floats, mut ints) = (vec![0.0; plan.floats], vec![0; plan.ints]);
    let mut order = vec![0; plan.order];
    let mut workspace = Workspace {
        floats: &mut floats,
        ints: &mut ints,
        order: &mut order,
    };
    let mut params = global.to_vec();
    let step = trainer
        .step(
            &mut params,
            &share.images,
            &share.labels,
            &mut workspace,
            u32::MAX,
        )
        .expect("a training that converges");
    assert_eq!(step, Step::Done);
    params
}

fn accuracy(model: &Model, params: &[f32], test: &mnist::Set) -> f64 {
    let plan = model.evaluation_plan().expect("a plan");
    let (mut floats, mut ints) = (vec![0.0; plan.floats], vec![0; plan.ints]);
    let workspace = Workspace {
        floats: &mut floats,
        ints: &mut ints,
        order: &mut [],
    };
    let found = model.evaluate(
        params,
        &test.images,
        &test.labels,
        workspace,
        Arithmetic::Fixed,
    );
    found.expect("finite parameters").accuracy()
}
