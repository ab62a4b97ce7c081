//! Examples, buffers and an f64 oracle for the tests.

#![allow(dead_code, reason = "each test binary uses a part")]

use fl_nn::{
    Activation, Arithmetic, Correction, MemoryPlan, Model, Shape, Step, TrainConfig, TrainError,
    Trainer, Workspace,
};
use fl_rng::Pcg32;

/// All arithmetics; that of integers trains by plain SGD alone.
pub const ALL: [Arithmetic; 3] = [Arithmetic::Fixed, Arithmetic::Float, Arithmetic::Integer];

/// The arithmetics that train by any rule.
pub const ARITHMETICS: [Arithmetic; 2] = [Arithmetic::Fixed, Arithmetic::Float];

/// Both activations.
pub const ACTIVATIONS: [Activation; 2] = [Activation::Relu, Activation::Sigmoid];

pub fn model(sizes: &[usize], activation: Activation) -> Model {
    Model::new(Shape::new(sizes).unwrap(), activation)
}

/// One epoch of one batch of everything at a rate of 0.1, to be changed where a test needs it.
pub fn config(arithmetic: Arithmetic) -> TrainConfig {
    TrainConfig {
        local_epochs: 1,
        batch_size: 1000,
        learning_rate: 0.1,
        seed: 9,
        arithmetic,
        ..TrainConfig::default()
    }
}

/// Uniform in `[-limit, limit)`, biases included.
pub fn random_params(model: &Model, seed: u64, limit: f32) -> Vec<f32> {
    let mut rng = Pcg32::on_stream(seed, 11);
    (0..model.shape().num_params())
        .map(|_| limit * rng.symmetric())
        .collect()
}

pub struct Examples {
    pub inputs: Vec<u8>,
    pub labels: Vec<u8>,
}

impl Examples {
    /// Noise on two thirds black, with a patch of white whose place is the label.
    pub fn new(model: &Model, count: usize, seed: u64) -> Self {
        let (d_in, classes) = (model.shape().num_inputs(), model.shape().num_classes());
        let mut rng = Pcg32::on_stream(seed, 12);
        let mut set = Self {
            inputs: Vec::new(),
            labels: Vec::new(),
        };
        for _ in 0..count {
            let label = rng.below(classes as u32) as usize;
            let patch = label * d_in / classes..(label + 1) * d_in / classes;
            set.inputs.extend((0..d_in).map(|i| match rng.below(3) {
                _ if patch.contains(&i) => 255,
                0 => rng.below(256) as u8,
                _ => 0,
            }));
            set.labels.push(label as u8);
        }
        set
    }
}

/// Buffers exactly as long as planned.
pub struct Buffers {
    pub floats: Vec<f32>,
    pub ints: Vec<i32>,
    pub order: Vec<u32>,
}

impl Buffers {
    /// Filled with rubbish, since the contents must not matter.
    pub fn new(plan: &MemoryPlan) -> Self {
        Self {
            floats: vec![f32::NAN; plan.floats],
            ints: vec![i32::MIN; plan.ints],
            order: vec![u32::MAX; plan.order],
        }
    }

    pub fn workspace(&mut self) -> Workspace<'_> {
        Workspace {
            floats: &mut self.floats,
            ints: &mut self.ints,
            order: &mut self.order,
        }
    }
}

/// Trains to the end in steps of `max_examples`, and tells the mean loss of the last epoch.
pub fn train(
    model: &Model,
    config: TrainConfig,
    params: &mut [f32],
    examples: &Examples,
    max_examples: u32,
) -> Result<f32, TrainError> {
    train_with(model, config, params, examples, max_examples, None)
}

/// Trains like [`train`], with a correction.
pub fn train_with(
    model: &Model,
    config: TrainConfig,
    params: &mut [f32],
    examples: &Examples,
    max_examples: u32,
    mut correction: Option<&mut dyn Correction>,
) -> Result<f32, TrainError> {
    let mut trainer = Trainer::new(model, config, examples.labels.len())?;
    let mut buffers = Buffers::new(trainer.plan());
    let mut workspace = buffers.workspace();
    let (inputs, labels) = (&examples.inputs, &examples.labels);
    loop {
        // A new loan for every step, since that of a trait object cannot be shortened in place.
        let correction: Option<&mut dyn Correction> = match &mut correction {
            Some(correction) => Some(&mut **correction),
            None => None,
        };
        let space = &mut workspace;
        match trainer.step_with(params, inputs, labels, space, max_examples, correction)? {
            Step::Working => {}
            Step::Done => return Ok(trainer.mean_loss()),
        }
    }
}

/// Pull to a centre: the gradient of `mu / 2 * |w - centre|^2`.
pub struct Pull {
    pub mu: f32,
    pub centre: Vec<f32>,
}

impl Correction for Pull {
    fn correct(&mut self, first: usize, weights: &[f32], gradient: &mut [f32]) {
        let centre = &self.centre[first..][..weights.len()];
        for ((g, w), c) in gradient.iter_mut().zip(weights).zip(centre) {
            *g += self.mu * (w - c);
        }
    }
}

/// Bits of the parameters, since NaN equals nothing.
pub fn bits(params: &[f32]) -> Vec<u32> {
    params.iter().map(|param| param.to_bits()).collect()
}

/// Logits of one input in f64, by the definition and nothing else.
pub fn oracle_logits(model: &Model, params: &[f64], input: &[u8]) -> Vec<f64> {
    let mut values: Vec<f64> = input.iter().map(|&x| f64::from(x) / 255.0).collect();
    let mut rest = params;
    let layers = model.shape().sizes().windows(2);
    let last = layers.len() - 1;
    for (index, sizes) in layers.enumerate() {
        let (d_in, d_out) = (sizes[0] as usize, sizes[1] as usize);
        let (weights, tail) = rest.split_at(d_in * d_out);
        let (bias, tail) = tail.split_at(d_out);
        let sums = (0..d_out).map(|j| {
            (0..d_in)
                .map(|i| values[i] * weights[i * d_out + j])
                .sum::<f64>()
                + bias[j]
        });
        values = match model.activation() {
            _ if index == last => sums.collect(),
            Activation::Relu => sums.map(|z| z.max(0.0)).collect(),
            Activation::Sigmoid => sums.map(|z| 1.0 / (1.0 + (-z).exp())).collect(),
        };
        rest = tail;
    }
    values
}

/// Cross-entropy of one example in f64.
pub fn oracle_loss(model: &Model, params: &[f64], input: &[u8], label: u8) -> f64 {
    let logits = oracle_logits(model, params, input);
    logits.iter().map(|z| z.exp()).sum::<f64>().ln() - logits[usize::from(label)]
}

/// Mean loss over all examples in f64.
pub fn oracle_mean_loss(model: &Model, params: &[f64], examples: &Examples) -> f64 {
    let inputs = examples.inputs.chunks_exact(model.shape().num_inputs());
    let losses = inputs
        .zip(&examples.labels)
        .map(|(x, &y)| oracle_loss(model, params, x, y));
    losses.sum::<f64>() / examples.labels.len() as f64
}

/// Gradient of the loss of one example in f64, by the definition, added to `gradient`.
fn add_oracle_gradient(
    model: &Model,
    params: &[f64],
    input: &[u8],
    label: u8,
    gradient: &mut [f64],
) {
    let sizes: Vec<usize> = model.shape().sizes().iter().map(|&n| n as usize).collect();
    let mut starts = vec![0];
    for pair in sizes.windows(2) {
        starts.push(starts[starts.len() - 1] + (pair[0] + 1) * pair[1]);
    }
    // Units of every layer, the input first.
    let mut units = vec![
        input
            .iter()
            .map(|&x| f64::from(x) / 255.0)
            .collect::<Vec<_>>(),
    ];
    for layer in 0..sizes.len() - 1 {
        let (d_in, d_out, start) = (sizes[layer], sizes[layer + 1], starts[layer]);
        let sums = (0..d_out).map(|j| {
            let products = (0..d_in).map(|i| units[layer][i] * params[start + i * d_out + j]);
            products.sum::<f64>() + params[start + d_in * d_out + j]
        });
        let last = layer == sizes.len() - 2;
        let next = sums.map(|z| match model.activation() {
            _ if last => z,
            Activation::Relu => z.max(0.0),
            Activation::Sigmoid => 1.0 / (1.0 + (-z).exp()),
        });
        units.push(next.collect());
    }
    let logits = &units[sizes.len() - 1];
    let total: f64 = logits.iter().map(|z| z.exp()).sum();
    let mut deltas: Vec<f64> = logits.iter().map(|z| z.exp() / total).collect();
    deltas[usize::from(label)] -= 1.0;
    for layer in (0..sizes.len() - 1).rev() {
        let (d_in, d_out, start) = (sizes[layer], sizes[layer + 1], starts[layer]);
        let mut below = vec![0.0; d_in];
        for i in 0..d_in {
            let x = units[layer][i];
            for (j, delta) in deltas.iter().enumerate() {
                gradient[start + i * d_out + j] += x * delta;
                below[i] += params[start + i * d_out + j] * delta;
            }
            below[i] *= match model.activation() {
                Activation::Relu => f64::from(u8::from(x > 0.0)),
                Activation::Sigmoid => x * (1.0 - x),
            };
        }
        for (j, delta) in deltas.iter().enumerate() {
            gradient[start + d_in * d_out + j] += delta;
        }
        deltas = below;
    }
}

/// Mean gradient over some examples in f64.
pub fn oracle_gradient(
    model: &Model,
    params: &[f64],
    examples: &Examples,
    batch: &[u32],
) -> Vec<f64> {
    let d_in = model.shape().num_inputs();
    let mut gradient = vec![0.0; params.len()];
    for &n in batch {
        let input = &examples.inputs[n as usize * d_in..][..d_in];
        let label = examples.labels[n as usize];
        add_oracle_gradient(model, params, input, label, &mut gradient);
    }
    gradient.iter_mut().for_each(|g| *g /= batch.len() as f64);
    gradient
}
