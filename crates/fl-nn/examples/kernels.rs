//! Time per example of a training, by level of instructions: `cargo run --release -p fl-nn --features host
//! --example kernels [SECONDS [WORD ..]]`. `cargo xtask bench kernels` prints it beside a C of the same arithmetic.
//!
//! A line is `shape batch optimizer arithmetic level nanoseconds hash`, and words choose lines; turns alternate, the shortest counts.

use std::time::{Duration, Instant};

use fl_nn::host::Level;
use fl_nn::{
    Activation, Arithmetic, Init, Model, Optimizer, Shape, Step, TrainConfig, Trainer, Workspace,
};
use fl_rng::{Pcg32, Purpose, derive_seed};

mod mnist;

/// Layer sizes, examples, examples a batch, epochs, optimizer. A turn is short, so that some are undisturbed.
const CASES: [(&[usize], usize, u32, u32, Optimizer); 5] = [
    (&[784, 16, 10], 600, 600, 5, Optimizer::Sgd),
    (&[784, 200, 200, 10], 120, 10, 1, Optimizer::Sgd),
    (&[784, 128, 256, 10], 192, 32, 1, Optimizer::Sgd),
    (&[784, 128, 256, 10], 192, 32, 1, Optimizer::ADAM),
    (&[64, 32, 10], 600, 10, 5, Optimizer::Sgd),
];

fn main() {
    let given = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let limit = Duration::from_secs_f64(given.unwrap_or(1.0));
    let words: Vec<String> = std::env::args().skip(2).collect();
    let set = mnist::train();
    for (sizes, examples, batch_size, epochs, optimizer) in CASES {
        let images: Vec<u8> = set
            .images
            .chunks(mnist::PIXELS)
            .take(examples)
            .flat_map(|image| match sizes[0] {
                mnist::PIXELS => image.to_vec(),
                // Every third row and column of the middle.
                _ => (0..64)
                    .map(|i| image[(3 + i / 8 * 3) * 28 + 3 + i % 8 * 3])
                    .collect(),
            })
            .collect();
        let shape: Vec<String> = sizes.iter().map(usize::to_string).collect();
        let rule = ["sgd", "momentum", "adam"][optimizer.state_vectors()];
        let mut turns: Vec<(String, Arithmetic, Level, Vec<f64>, u64)> = Vec::new();
        for arithmetic in [Arithmetic::Fixed, Arithmetic::Float] {
            for level in Level::all() {
                let shape = shape.join("-");
                let line = format!("{shape} {batch_size} {rule} {arithmetic:?} {level:?}");
                turns.push((line, arithmetic, level, Vec::new(), 0));
            }
        }
        if words.first().is_some_and(|word| word == "--write") {
            write(&words[1], sizes, epochs, &images, &set.labels[..examples]);
            continue;
        }
        turns.retain(|turn| words.iter().all(|word| turn.0.contains(word)));
        let begin = Instant::now();
        while turns.iter().any(|turn| turn.3.len() < 3) || begin.elapsed() < limit {
            if turns.is_empty() {
                break;
            }
            for (_, arithmetic, level, times, hash) in &mut turns {
                let config = TrainConfig {
                    local_epochs: epochs,
                    batch_size,
                    learning_rate: if optimizer == Optimizer::Sgd {
                        0.1
                    } else {
                        0.001
                    },
                    seed: derive_seed(1, 0, 1),
                    arithmetic: *arithmetic,
                    optimizer,
                    ..TrainConfig::default()
                };
                let labels = &set.labels[..examples];
                let (time, found) = level.during(|| train(sizes, config, &images, labels));
                times.push(time.as_nanos() as f64 / f64::from(epochs) / examples as f64);
                *hash = found;
            }
        }
        for (line, _, _, mut times, hash) in turns {
            times.sort_by(f64::total_cmp);
            println!("{line} {:.0} {hash:016x}", times[0]);
        }
    }
}

/// Writes the examples, their order and the initial parameters of a shape into `folder`, for a reference.
fn write(folder: &str, sizes: &[usize], epochs: u32, images: &[u8], labels: &[u8]) {
    let model = Model::new(Shape::new(sizes).expect("a shape"), Activation::Relu);
    let mut params = vec![0.0; model.shape().num_params()];
    model
        .init_params(Init::He, 1, &mut params)
        .expect("the right length");
    let mut bytes = (labels.len() as u32).to_le_bytes().to_vec();
    bytes.extend(images.iter().chain(labels));
    let mut order: Vec<u32> = (0..labels.len() as u32).collect();
    let mut rng = Pcg32::new(Purpose::ExampleOrder, derive_seed(1, 0, 1));
    for _ in 0..epochs {
        rng.shuffle(&mut order);
        bytes.extend(order.iter().flat_map(|n| n.to_le_bytes()));
    }
    bytes.extend(params.iter().flat_map(|param| param.to_le_bytes()));
    let shape: Vec<String> = sizes.iter().map(usize::to_string).collect();
    let path = std::path::Path::new(folder).join(shape.join("-"));
    std::fs::write(path, bytes).expect("a file");
}

/// Time of one training, and a hash of the parameters that it ends in.
fn train(sizes: &[usize], config: TrainConfig, images: &[u8], labels: &[u8]) -> (Duration, u64) {
    let model = Model::new(Shape::new(sizes).expect("a shape"), Activation::Relu);
    // They begin with a cache line, as those of a native device and of the C.
    let mut params = vec![0.0; model.shape().num_params() + 15];
    let begin = params.as_ptr().align_offset(64).min(15);
    let params = &mut params[begin..][..model.shape().num_params()];
    model
        .init_params(Init::He, 1, params)
        .expect("the right length");
    let mut trainer = Trainer::new(&model, config, labels.len()).expect("a training");
    let plan = *trainer.plan();
    // Not zeros, whose pages would come while the clock runs.
    let (mut floats, mut ints) = (vec![1.0; plan.floats], vec![1; plan.ints]);
    let mut order = vec![1; plan.order];
    let mut workspace = Workspace {
        floats: &mut floats,
        ints: &mut ints,
        order: &mut order,
    };
    let begin = Instant::now();
    while trainer
        .step(params, images, labels, &mut workspace, u32::MAX)
        .expect("a training step")
        == Step::Working
    {}
    let time = begin.elapsed();
    let octets = params
        .iter()
        .flat_map(|param| param.to_bits().to_le_bytes());
    let hash = octets.fold(0xcbf2_9ce4_8422_2325, |hash: u64, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x100_0000_01b3)
    });
    (time, hash)
}
