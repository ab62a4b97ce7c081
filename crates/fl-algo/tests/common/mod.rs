//! A federation in memory: clients that train with fl-nn, and a server that does nothing but its rule.

#![allow(dead_code, reason = "each test uses some of it")]

use std::collections::BTreeMap;

use fl_algo::*;
use fl_nn::{Activation, Correction, Init, Model, Shape, Step, TrainConfig, Trainer, Workspace};

/// A client's share: `[num_examples, 6]` inputs and labels below 3.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    pub inputs: Vec<u8>,
    pub labels: Vec<u8>,
}

/// Inputs of one model.
pub const NUM_INPUTS: usize = 6;

pub fn model() -> Model {
    let shape = Shape::new(&[NUM_INPUTS, 5, 3]).unwrap();
    Model::new(shape, Activation::Relu)
}

pub fn sizes() -> Sizes {
    Sizes::from(model().shape())
}

/// A share of `count` examples, by arithmetic of its seed; the first inputs tell the label.
pub fn share(seed: u32, count: usize) -> Share {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut share = Share {
        inputs: Vec::new(),
        labels: Vec::new(),
    };
    for _ in 0..count {
        let label = next() % 3;
        let row = (0..NUM_INPUTS).map(|at| {
            let noise = next() / 4;
            if at == usize::from(label) {
                255 - noise
            } else {
                noise
            }
        });
        share.inputs.extend(row.collect::<Vec<_>>());
        share.labels.push(label);
    }
    share
}

pub fn initial() -> Vec<f32> {
    let mut params = vec![0.0; model().shape().num_params()];
    model().init_params(Init::He, 7, &mut params).unwrap();
    params
}

/// Trains a model as FedAvg's devices do.
pub fn train(params: &mut [f32], share: &Share, config: TrainConfig) {
    train_with(None, params, share, config);
}

/// Trains a model with a correction; returns the steps done and the loss.
pub fn train_with(
    correction: Option<&mut dyn Correction>,
    params: &mut [f32],
    share: &Share,
    config: TrainConfig,
) -> (u32, f32) {
    let mut trainer = Trainer::new(&model(), config, share.labels.len()).unwrap();
    let plan = *trainer.plan();
    let (mut floats, mut ints) = (vec![0.0; plan.floats], vec![0; plan.ints]);
    let mut order = vec![0; plan.order];
    let mut workspace = Workspace {
        floats: &mut floats,
        ints: &mut ints,
        order: &mut order,
    };
    let (inputs, labels) = (&share.inputs, &share.labels);
    let step = match correction {
        None => trainer.step(params, inputs, labels, &mut workspace, u32::MAX),
        Some(correction) => trainer.step_with(
            params,
            inputs,
            labels,
            &mut workspace,
            u32::MAX,
            Some(correction),
        ),
    };
    assert_eq!(step, Ok(Step::Done));
    (trainer.steps_done(), trainer.mean_loss())
}

/// One client: its share, and the rule with what it keeps.
pub struct Client {
    pub id: u32,
    pub share: Share,
    pub rule: LocalRule,
}

/// Clients, a server, and copies of what the clients keep.
pub struct Federation {
    pub choice: Choice,
    pub config: TrainConfig,
    /// All updates weigh the same.
    pub uniform: bool,
    pub clients: Vec<Client>,
    pub server: Box<dyn ServerRule>,
    pub states: BTreeMap<u32, KeptVectors>,
    /// Part of the model that stays on each client.
    pub kept: BTreeMap<u32, Vec<f32>>,
    pub global: Vec<f32>,
    pub round: u32,
    pub metrics: RoundMetrics,
}

impl Federation {
    /// An algorithm with parameters, over these shares.
    pub fn new(name: &str, params: &[(&str, f32)], shares: &[Share], config: TrainConfig) -> Self {
        let mut choice = Choice::named(name).unwrap();
        for &(name, value) in params {
            choice.set(name, value.into()).unwrap();
        }
        let global = initial();
        let count = shares.len() as u32;
        let server = choice.server(sizes(), count, count, 1).unwrap();
        let client = |(id, share): (u32, &Share)| Client {
            id,
            share: share.clone(),
            rule: LocalRule::named(choice.algorithm.device.rule, sizes()).unwrap(),
        };
        Self {
            choice,
            config,
            uniform: false,
            clients: (0..).zip(shares).map(client).collect(),
            server,
            states: BTreeMap::new(),
            kept: BTreeMap::new(),
            global,
            round: 0,
            metrics: RoundMetrics::new(),
        }
    }

    /// Runs a round of all clients, whose updates come in the order of `arrivals`.
    pub fn round_in_order(&mut self, arrivals: impl Fn(&mut Vec<Update>)) {
        self.round += 1;
        self.server.begin(self.round, &self.global);
        let down: Sections = self
            .server
            .down_sections()
            .into_iter()
            .map(|(name, values)| (name.to_owned(), values.to_vec()))
            .collect();
        let mut updates: Vec<Update> = (0..self.clients.len())
            .map(|at| self.local(at, &down))
            .collect();
        arrivals(&mut updates);
        for update in updates {
            let kept = self.kept(&update);
            let client = update.client;
            self.server.add(&update, self.states.get(&client)).unwrap();
            self.states.extend(kept.map(|state| (client, state)));
        }
        self.metrics = self.server.finish(&mut self.global).unwrap();
    }

    pub fn rounds(&mut self, count: u32) -> &mut Self {
        (0..count).for_each(|_| self.round_in_order(|_| {}));
        self
    }

    fn kept(&self, update: &Update) -> Option<KeptVectors> {
        let vectors = self.clients[0].rule.specs().iter();
        let mirrored = vectors.filter(|spec| spec.is_mirrored());
        let sections: Sections = mirrored
            .map(|spec| (spec.name.to_owned(), update.section(spec.name).to_vec()))
            .collect();
        (!sections.is_empty() || self.clients[0].rule.keeps_personal()).then_some(KeptVectors {
            round: update.round,
            sections,
        })
    }

    /// One client's round.
    fn local(&mut self, at: usize, down: &Sections) -> Update {
        let Client { id, share, rule } = &mut self.clients[at];
        let given = self.choice.device_params.iter();
        rule.prepare(given.map(|(spec, value)| (spec.name, value as f32)))
            .unwrap();
        let state_round = self.states.get(id).map_or(0, |state| state.round);
        if rule.needs_state(state_round) {
            for (name, values) in &self.states[id].sections {
                rule.state_mut(name).unwrap().copy_from_slice(values);
            }
            rule.state_arrived(state_round);
        }
        for (name, values) in down {
            rule.down_mut(name).unwrap().copy_from_slice(values);
        }
        let model = model();
        let mut params = self.global.clone();
        let travelling = rule.travelling();
        if travelling < params.len() {
            match self.kept.get(id) {
                Some(end) => params[travelling..].copy_from_slice(end),
                None => model.init_from(travelling, 7, &mut params),
            }
        }
        let (mut steps, mut loss) = (0, 0.0);
        for pass in 0.. {
            let plan = rule.plan(pass, self.config.local_epochs);
            let config = TrainConfig {
                seed: u64::from(self.round) + (u64::from(plan.stream) << 32),
                local_epochs: plan.epochs,
                clip_norm: plan.clip_norm,
                ..self.config
            };
            let mut job = LocalJob {
                round: self.round,
                state_round,
                pass,
                local_epochs: self.config.local_epochs,
                batch_size: config.batch_size,
                learning_rate: config.learning_rate,
                seed: config.seed,
                model: &model,
                inputs: (&share.inputs).into(),
                labels: &share.labels,
                steps: 0,
                loss: if rule.measures() {
                    loss_of(&params, share)
                } else {
                    0.0
                },
            };
            rule.begin(&job, &mut params);
            let mut correction = rule.correction();
            let correction = correction.as_mut().map(|hook| hook as &mut dyn Correction);
            (job.steps, job.loss) = train_with(correction, &mut params, share, config);
            (steps, loss) = (steps + job.steps, job.loss);
            if rule.end(&job, &mut params) == Pass::Done {
                break;
            }
        }
        self.kept.insert(*id, params.split_off(travelling));
        let beside = rule
            .sections(Way::Up)
            .filter(|section| section.name != MODEL);
        let mut sections: Sections = beside
            .map(|section| (section.name.to_owned(), rule.vector(section.name).to_vec()))
            .collect();
        if travelling > 0 {
            sections.insert(Update::MODEL.to_owned(), params);
        }
        let mut metrics = BTreeMap::new();
        rule.metrics(&mut |name, value| {
            metrics.insert(name.to_owned(), value);
        });
        let num_examples = share.labels.len() as u32;
        Update {
            client: *id,
            num_examples,
            weight: if self.uniform { 1 } else { num_examples },
            round: self.round,
            steps,
            loss,
            sections,
            metrics,
            partial: None,
        }
    }
}

/// Mean loss of a model on a share.
pub fn loss_of(params: &[f32], share: &Share) -> f32 {
    let model = model();
    let plan = model.evaluation_plan().unwrap();
    let (mut floats, mut ints) = (vec![0.0; plan.floats], vec![0; plan.ints]);
    let workspace = Workspace {
        floats: &mut floats,
        ints: &mut ints,
        order: &mut [],
    };
    let arithmetic = TrainConfig::default().arithmetic;
    let found = model.evaluate(params, &share.inputs, &share.labels, workspace, arithmetic);
    found.unwrap().mean_loss() as f32
}

/// Parameters with which an algorithm does what is its own, with three clients and whatever the time.
pub fn lively(name: &str) -> Vec<(&'static str, f32)> {
    match name {
        "fedprox" => vec![("proximal_mu", 0.3)],
        "fedavgm" => vec![("server_momentum", 0.9), ("server_learning_rate", 0.7)],
        "fednova" => vec![("rho", 0.5), ("mu", 0.1), ("server_momentum", 0.5)],
        "qfedavg" => vec![("q", 2.0)],
        "fedbuff" => vec![("buffer_size", 3.0)],
        "fedasync" => vec![("polynomial_a", 0.5)],
        "trimmed-mean" => vec![("beta", 0.4)],
        "multi-krum" => vec![("num_nodes_to_select", 2.0)],
        _ => vec![],
    }
}

/// Bits of a model.
pub fn bits(params: &[f32]) -> Vec<u32> {
    params.iter().map(|param| param.to_bits()).collect()
}

/// Largest difference of two models.
pub fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}
