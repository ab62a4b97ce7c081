//! Time per example of one epoch, both arithmetics: `cargo run --release -p fl-nn --example epoch`.
//!
//! Sizes may follow, `784,200,200,10` by default as well as the small net.

use std::time::{Duration, Instant};

use fl_nn::{Activation, Arithmetic, Init, Model, Shape, Step, TrainConfig, Trainer, Workspace};
use fl_rng::derive_seed;

mod mnist;

const EXAMPLES: usize = 600;
const EPOCHS: u32 = 20;

fn main() {
    let set = mnist::train();
    let given: Vec<Vec<usize>> = std::env::args()
        .skip(1)
        .map(|list| {
            list.split(',')
                .map(|size| size.parse().expect("a layer size"))
                .collect()
        })
        .collect();
    let default = vec![vec![784, 16, 10], vec![784, 200, 200, 10]];
    for sizes in if given.is_empty() { default } else { given } {
        for arithmetic in [Arithmetic::Fixed, Arithmetic::Float] {
            time(
                &sizes,
                arithmetic,
                &set.images[..EXAMPLES * mnist::PIXELS],
                &set.labels[..EXAMPLES],
            );
        }
    }
}

fn time(sizes: &[usize], arithmetic: Arithmetic, images: &[u8], labels: &[u8]) {
    let model = Model::new(Shape::new(sizes).expect("a shape"), Activation::Relu);
    let config = TrainConfig {
        local_epochs: EPOCHS,
        batch_size: EXAMPLES as u32,
        learning_rate: 0.5,
        seed: derive_seed(1, 0, 1),
        arithmetic,
        ..TrainConfig::default()
    };
    let mut trainer = Trainer::new(&model, config, EXAMPLES).expect("a training");
    let plan = *trainer.plan();
    let mut params = vec![0.0; model.shape().num_params()];
    model
        .init_params(Init::He, 1, &mut params)
        .expect("the right length");
    let (mut floats, mut ints) = (vec![0.0; plan.floats], vec![0; plan.ints]);
    let mut order = vec![0; plan.order];
    let mut workspace = Workspace {
        floats: &mut floats,
        ints: &mut ints,
        order: &mut order,
    };

    // A step of as many examples as the batch has is one of its two passes.
    let mut passes = [Duration::MAX; 2];
    for pass in 0.. {
        let begin = Instant::now();
        let step = trainer
            .step(&mut params, images, labels, &mut workspace, EXAMPLES as u32)
            .expect("a training step");
        let best = &mut passes[pass % 2];
        *best = begin.elapsed().min(*best);
        if step == Step::Done {
            break;
        }
    }
    let [examples, inputs] = passes.map(|best| best.as_nanos() / EXAMPLES as u128);
    println!(
        "{sizes:?} {arithmetic:?}: {} ns an example ({examples} in the example pass, {inputs} in the \
         input pass), best of {EPOCHS} epochs; {} bytes beside the examples; loss {:.6}",
        examples + inputs,
        plan.total_bytes(),
        trainer.mean_loss()
    );
}
