//! Algorithms that keep something on the device which nobody else has: identities, and arithmetic of their own.

mod common;

use common::*;
use fl_algo::*;
use fl_nn::{Arithmetic, TrainConfig};

/// The first layer of [`model`]: 6 inputs, 5 units.
const BODY: usize = 7 * 5;

fn config() -> TrainConfig {
    TrainConfig {
        local_epochs: 2,
        batch_size: 4,
        learning_rate: 0.25,
        arithmetic: Arithmetic::Float,
        ..TrainConfig::default()
    }
}

fn one_step() -> TrainConfig {
    TrainConfig {
        local_epochs: 1,
        batch_size: u32::MAX,
        ..config()
    }
}

fn shares() -> Vec<Share> {
    vec![share(1, 9), share(2, 14), share(3, 5)]
}

fn run(name: &str, params: &[(&str, f32)], rounds: u32) -> Federation {
    let mut federation = Federation::new(name, params, &shares(), config());
    federation.rounds(rounds);
    federation
}

/// The personal model of a client.
fn personal(federation: &Federation, client: usize) -> Vec<f32> {
    let mut own = federation.global.clone();
    let travelling = federation.clients[client].rule.travelling();
    if travelling < own.len() {
        own[travelling..].copy_from_slice(&federation.kept[&(client as u32)]);
    }
    let mut out = vec![f32::NAN; own.len()];
    let is_there = federation.clients[client].rule.personal(&own, &mut out);
    assert!(is_there);
    out
}

/// Configuration of a stream of a round, as [`Federation`] has it.
fn of(config: TrainConfig, round: u64, stream: u64) -> TrainConfig {
    TrainConfig {
        seed: round + (stream << 32),
        ..config
    }
}

#[test]
fn without_its_part_each_is_fedavg_to_the_bit() {
    let fedavg = bits(&run("fedavg", &[], 3).global);
    for (name, params) in [
        ("ditto", vec![("lambda", 0.0)]),
        ("ditto", vec![("lambda", 3.0)]),
        (
            "fedper",
            vec![("head_layers", 0.0), ("personal_epochs", 2.0)],
        ),
        ("fedrep", vec![("head_layers", 0.0)]),
        ("feddyn", vec![("alpha_coef", 0.0), ("max_norm", 1e-6)]),
    ] {
        assert_eq!(
            bits(&run(name, &params, 3).global),
            fedavg,
            "{name} {params:?}"
        );
    }
    for (name, params) in [
        ("fedper", vec![]),
        ("fedrep", vec![]),
        ("feddyn", vec![("alpha_coef", 0.1)]),
    ] {
        assert_ne!(bits(&run(name, &params, 3).global), fedavg, "{name}");
    }
}

#[test]
fn ditto_without_its_term_is_local_training_to_the_bit() {
    let federation = run("ditto", &[("lambda", 0.0)], 3);
    for (client, data) in shares().iter().enumerate() {
        let mut alone = initial();
        for round in 1..=3 {
            train(&mut alone, data, of(config(), round, 1));
        }
        assert_eq!(bits(&personal(&federation, client)), bits(&alone));
    }
    let pulled = run("ditto", &[("lambda", 0.5)], 3);
    assert!(distance(&personal(&pulled, 0), &personal(&federation, 0)) > 1e-3);
}

#[test]
fn ditto_follows_its_paper_step_by_step() {
    let (lambda, config) = (0.8, one_step());
    let mut federation = Federation::new("ditto", &[("lambda", lambda)], &shares(), config);
    let mut own: Vec<Vec<f32>> = shares().iter().map(|_| initial()).collect();
    for round in 1..=3 {
        let global = federation.global.clone();
        for (own, data) in own.iter_mut().zip(&shares()) {
            let mut plain = own.clone();
            train(&mut plain, data, of(config, round, 1));
            for at in 0..own.len() {
                own[at] = plain[at] - config.learning_rate * lambda * (own[at] - global[at]);
            }
        }
        federation.rounds(1);
        for (client, own) in own.iter().enumerate() {
            let apart = distance(&personal(&federation, client), own);
            assert!(apart < 1e-5, "round {round}, client {client}: {apart}");
        }
    }
}

#[test]
fn the_head_of_fedper_stays_and_its_body_is_the_mean_of_bodies() {
    let federation = run("fedper", &[], 2);
    let (mut body, mut heads) = (initial(), vec![initial(); 3]);
    for round in 1..=2 {
        let mut sum = vec![0.0_f64; BODY];
        for (head, data) in heads.iter_mut().zip(&shares()) {
            let mut own = body.clone();
            own[BODY..].copy_from_slice(&head[BODY..]);
            train(&mut own, data, of(config(), round, 0));
            let weighted = sum.iter_mut().zip(&own);
            weighted.for_each(|(sum, own)| *sum += f64::from(*own) * data.labels.len() as f64);
            *head = own;
        }
        let mean = body.iter_mut().zip(sum);
        mean.for_each(|(mean, sum)| *mean = (sum / 28.0) as f32);
    }
    assert!(distance(&federation.global, &body) < 1e-6);
    assert_eq!(
        federation.global[BODY..],
        initial()[BODY..],
        "no head is averaged"
    );
    for (client, head) in heads.iter().enumerate() {
        let own = personal(&federation, client);
        assert_eq!(own[..BODY], federation.global[..BODY]);
        assert!(distance(&own[BODY..], &head[BODY..]) < 1e-5);
    }
    let sections: Vec<_> = federation.clients[0].rule.sections(Way::Up).collect();
    assert_eq!(sections.len(), 1);
    assert_eq!((sections[0].name, sections[0].count), (MODEL, BODY));
}

/// Runs one pass of a round, and returns what it made of the model.
fn pass(name: &str, params: &[(&str, f32)], pass: u32) -> Vec<f32> {
    let (model, share) = (model(), share(5, 12));
    let mut rule = LocalRule::named(name, sizes()).unwrap();
    rule.prepare(params.iter().copied()).unwrap();
    let mut weights = initial();
    let plan = rule.plan(pass, 2);
    let job = LocalJob {
        round: 1,
        state_round: 0,
        pass,
        local_epochs: 2,
        batch_size: 4,
        learning_rate: 0.25,
        seed: 1,
        model: &model,
        inputs: (&share.inputs).into(),
        labels: &share.labels,
        steps: 0,
        loss: 0.0,
    };
    rule.begin(&job, &mut weights);
    let config = TrainConfig {
        local_epochs: plan.epochs,
        // What stands still does not decay either.
        weight_decay: 0.1,
        ..config()
    };
    let mut correction = rule.correction();
    let correction = correction.as_mut().map(|hook| hook as _);
    train_with(correction, &mut weights, &share, config);
    weights
}

#[test]
fn what_a_pass_does_not_train_stands_still_to_the_bit() {
    let start = initial();
    let tuned = [("personal_epochs", 3.0)];
    for name in ["fedper", "fedrep"] {
        let head = pass(name, &tuned, 0);
        assert_eq!(bits(&head[..BODY]), bits(&start[..BODY]), "{name}");
        assert!(distance(&head[BODY..], &start[BODY..]) > 1e-2, "{name}");
    }
    let body = pass("fedrep", &tuned, 1);
    assert_eq!(bits(&body[BODY..]), bits(&start[BODY..]));
    assert!(distance(&body[..BODY], &start[..BODY]) > 1e-2);
    let both = pass("fedper", &tuned, 1);
    assert!(distance(&both[BODY..], &start[BODY..]) > 1e-2);
    assert!(distance(&both[..BODY], &start[..BODY]) > 1e-2);
}

#[test]
fn a_model_of_which_nothing_travels_is_refused_with_what_to_do() {
    let mut choice = Choice::named("fedper").unwrap();
    choice.set("head_layers", 2.0).unwrap();
    let refused = choice.server(sizes(), 3, 3, 1).err().unwrap();
    assert!(refused.contains("fewer head_layers"), "{refused}");
}

#[test]
fn feddyn_follows_its_paper_step_by_step() {
    let (alpha, config) = (0.4, one_step());
    let data = [share(1, 8), share(2, 8)];
    let params = [("alpha_coef", alpha), ("max_norm", 1e6)];
    let mut federation = Federation::new("feddyn", &params, &data, config);
    let mut global = initial();
    let mut gradients = [vec![0.0; global.len()], vec![0.0; global.len()]];
    let mut server = vec![0.0; global.len()];
    for round in 1..=3 {
        let mut mean = vec![0.0; global.len()];
        for (data, gradient) in data.iter().zip(&mut gradients) {
            // One step from the global model, where the proximal term is 0.
            let mut local = global.clone();
            train(&mut local, data, of(config, round, 0));
            for at in 0..global.len() {
                local[at] += config.learning_rate * gradient[at];
                gradient[at] -= alpha * (local[at] - global[at]);
                mean[at] += local[at] / 2.0;
                server[at] -= alpha * (local[at] - global[at]) / 2.0;
            }
        }
        for at in 0..global.len() {
            global[at] = mean[at] - server[at] / alpha;
        }
        federation.rounds(1);
        let apart = distance(&federation.global, &global);
        assert!(apart < 1e-5, "round {round}: {apart}");
    }
}

#[test]
fn feddyn_clips_the_corrected_gradient() {
    let run = |max_norm| {
        let params = [("alpha_coef", 0.01), ("max_norm", max_norm)];
        let mut one = Federation::new("feddyn", &params, &[share(5, 12)], one_step());
        let start = one.global.clone();
        let moved = one.rounds(1).clients[0].rule.vector("drift").to_vec();
        assert_eq!(moved.len(), start.len());
        moved
            .iter()
            .map(|d| f64::from(*d).powi(2))
            .sum::<f64>()
            .sqrt()
    };
    // A step of rate 0.25 along a gradient of norm 0.01.
    assert!((run(0.01) - 0.0025).abs() < 1e-6);
    assert!(run(1e6) > 0.01);
}

#[test]
fn a_rule_keeps_what_the_server_mirrors_or_what_nobody_else_has_and_never_both() {
    for algorithm in ALGORITHMS {
        let params = Params::defaults(algorithm.device.params);
        let vectors = algorithm.device.client.vectors(&params);
        let is_mirrored = vectors.iter().any(VectorSpec::is_mirrored);
        let is_personal = algorithm.device.keeps_personal(&params, &sizes());
        assert!(!(is_mirrored && is_personal), "{}", algorithm.name);
    }
}

#[test]
fn there_is_no_personal_model_before_the_first_round() {
    let federation = Federation::new("ditto", &[], &shares(), config());
    let mut out = initial();
    assert!(!federation.clients[0].rule.personal(&initial(), &mut out));
    let fedavg = run("fedavg", &[], 1);
    assert!(!fedavg.clients[0].rule.personal(&initial(), &mut out));
}

#[test]
fn a_restored_server_goes_on_as_if_it_had_not_ended() {
    for (name, params) in [
        ("feddyn", vec![("alpha_coef", 0.1)]),
        ("fedper", vec![]),
        ("distillation", vec![]),
    ] {
        let whole = run(name, &params, 4).global;
        let mut first = run(name, &params, 2);
        let mut second = Federation::new(name, &params, &shares(), config());
        let saved = first.server.save();
        second
            .server
            .restore(saved, &mut std::iter::empty())
            .unwrap();
        first.server = second.server;
        assert_eq!(bits(&first.rounds(2).global), bits(&whole), "{name}");
    }
}

#[test]
fn distillation_of_weight_0_is_local_training_to_the_bit() {
    let federation = run("distillation", &[("distillation_weight", 0.0)], 3);
    for (client, data) in shares().iter().enumerate() {
        let mut alone = initial();
        for round in 1..=3 {
            train(&mut alone, data, of(config(), round, 0));
        }
        assert_eq!(bits(&personal(&federation, client)), bits(&alone));
    }
    assert_eq!(
        bits(&federation.global),
        bits(&initial()),
        "there is no global model"
    );
    let taught = run("distillation", &[("distillation_weight", 1.0)], 3);
    assert!(distance(&personal(&taught, 0), &personal(&federation, 0)) > 1e-3);
}

#[test]
fn of_distillation_only_tables_travel() {
    let rule = LocalRule::named("distillation", sizes()).unwrap();
    let sections = |way| -> Vec<(&str, usize)> {
        let sections = rule.sections(way);
        sections
            .map(|section| (section.name, section.count))
            .collect()
    };
    assert_eq!(sections(Way::Down), [("mean_labels", 9)]);
    assert_eq!(sections(Way::Up), [("soft_labels", 9)]);
    assert_eq!(sections(Way::State), []);
}

/// A rule of distillation whose teacher says this of class 1.
fn taught(weight: f32, temperature: f32, teacher: [f32; 3]) -> LocalRule {
    let mut rule = LocalRule::named("distillation", sizes()).unwrap();
    let params = [
        ("distillation_weight", weight),
        ("temperature", temperature),
    ];
    rule.prepare(params).unwrap();
    rule.down_mut("mean_labels").unwrap()[3..6].copy_from_slice(&teacher);
    rule
}

#[test]
fn the_distillation_term_is_the_derivative_of_its_loss() {
    use fl_nn::Correction;
    let (weight, temperature, teacher) = (0.7, 2.0, [0.2, 0.5, 0.3]);
    let logits = [0.3_f32, -1.1, 2.0];
    let term = |logits: [f64; 3]| {
        let sum: f64 = logits.iter().map(|z| (z / 2.0).exp()).sum();
        let entropy = logits.iter().zip(teacher);
        let entropy: f64 = entropy
            .map(|(z, q)| -f64::from(q) * (z / 2.0 - sum.ln()))
            .sum();
        0.7 * 4.0 * entropy
    };
    let mut rule = taught(weight, temperature, teacher);
    let mut deltas = [0.0; 3];
    rule.correction().unwrap().outputs(1, &logits, &mut deltas);
    for at in 0..3 {
        let moved = |by: f64| {
            let mut moved = logits.map(f64::from);
            moved[at] += by;
            term(moved)
        };
        let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        assert!(
            (f64::from(deltas[at]) - slope).abs() < 1e-5,
            "{deltas:?} {slope}"
        );
    }
    // Of class 0 nobody has a soft label yet.
    let mut deltas = [0.0; 3];
    rule.correction().unwrap().outputs(0, &logits, &mut deltas);
    assert_eq!(deltas, [0.0; 3]);
    let seen: f32 = rule.vector("soft_labels")[..3].iter().sum();
    assert!((seen - 1.0).abs() < 1e-6);
}

#[test]
fn a_soft_label_is_the_mean_of_the_clients_that_have_the_class() {
    let choice = Choice::named("distillation").unwrap();
    let mut server = choice.server(sizes(), 3, 3, 1).unwrap();
    let update = |client, table: [f32; 9]| Update {
        client,
        weight: 10 * (client + 1),
        sections: [("soft_labels".to_owned(), table.to_vec())].into(),
        ..Update::default()
    };
    let mut global = initial();
    server.begin(1, &global);
    let first = [0.5, 0.25, 0.25, 0.0, 0.0, 0.0, 0.1, 0.1, 0.8];
    let second = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    server.add(&update(0, first), None).unwrap();
    server.add(&update(1, second), None).unwrap();
    let short = Update {
        sections: [("soft_labels".to_owned(), vec![0.0; 8])].into(),
        ..Update::default()
    };
    assert!(server.add(&short, None).is_err());
    let metrics = server.finish(&mut global).unwrap();
    assert_eq!(metrics["classes_with_labels"], 2.0);
    let expected = [0.75, 0.125, 0.125, 0.0, 0.0, 0.0, 0.1, 0.1, 0.8];
    assert_eq!(server.down_sections()[0].1, expected);
    // A round in which nobody has a class leaves its label.
    server.begin(2, &global);
    server.add(&update(1, second), None).unwrap();
    server.finish(&mut global).unwrap();
    let expected = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.1, 0.1, 0.8];
    assert_eq!(server.down_sections()[0].1, expected);
    assert_eq!(bits(&global), bits(&initial()));
}
