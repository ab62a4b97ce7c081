//! Cases in which algorithms are the same to the bit, and each rule against arithmetic of its own.

mod common;

use common::*;
use fl_algo::*;
use fl_nn::{Arithmetic, TrainConfig};

/// Two epochs in batches of 4, over three clients of different sizes.
fn config() -> TrainConfig {
    TrainConfig {
        local_epochs: 2,
        batch_size: 4,
        learning_rate: 0.25,
        ..TrainConfig::default()
    }
}

fn shares() -> Vec<Share> {
    vec![share(1, 9), share(2, 14), share(3, 5)]
}

fn after(name: &str, params: &[(&str, f32)], rounds: u32) -> Vec<f32> {
    let mut federation = Federation::new(name, params, &shares(), config());
    federation.rounds(rounds).global.clone()
}

/// One step over all examples.
fn one_step() -> TrainConfig {
    TrainConfig {
        local_epochs: 1,
        batch_size: u32::MAX,
        ..config()
    }
}

#[test]
fn fedavg_of_one_epoch_in_one_batch_is_a_step_of_full_batch_sgd() {
    let data = share(5, 20);
    let mut expected = initial();
    let first_round = TrainConfig {
        seed: 1,
        ..one_step()
    };
    train(&mut expected, &data, first_round);
    let mut alone = Federation::new("fedavg", &[], std::slice::from_ref(&data), one_step());
    assert_eq!(bits(&alone.rounds(1).global), bits(&expected));
    // Clients with the same data agree, and so does their mean.
    let same = [data.clone(), data.clone(), data];
    let mut three = Federation::new("fedavg", &[], &same, one_step());
    assert_eq!(bits(&three.rounds(1).global), bits(&expected));
}

#[test]
fn fedavg_of_a_step_on_parts_is_a_step_on_the_whole() {
    let config = TrainConfig {
        arithmetic: Arithmetic::Float,
        ..one_step()
    };
    let mut whole = Share {
        inputs: vec![],
        labels: vec![],
    };
    for part in shares() {
        whole.inputs.extend(part.inputs);
        whole.labels.extend(part.labels);
    }
    let mut expected = initial();
    train(&mut expected, &whole, config);
    let mut parts = Federation::new("fedavg", &[], &shares(), config);
    let found = &parts.rounds(1).global;
    assert!(distance(found, &expected) < 1e-6, "{found:?} {expected:?}");
    assert!(distance(found, &initial()) > 1e-3, "it has moved");
}

#[test]
fn fedprox_without_its_term_is_fedavg_and_takes_no_memory() {
    assert_eq!(
        bits(&after("fedprox", &[("proximal_mu", 0.0)], 3)),
        bits(&after("fedavg", &[], 3))
    );
    let mut rule = LocalRule::named("fedprox", 100).unwrap();
    rule.prepare([("proximal_mu", 0.0)]).unwrap();
    assert_eq!(rule.bytes(), 0);
    assert!(rule.correction().is_none());
    rule.prepare([("proximal_mu", 0.5)]).unwrap();
    assert_eq!(rule.bytes(), 400);
}

#[test]
fn fedprox_pulls_every_step_but_the_first_back_by_mu() {
    let (data, mu) = (share(5, 12), 0.8);
    let config = TrainConfig {
        local_epochs: 2,
        ..one_step()
    };
    // The first step begins at the global model, where the term is 0; the second has it in full.
    let start = initial();
    let mut first = start.clone();
    train(&mut first, &data, one_step());
    let mut expected = first.clone();
    train(&mut expected, &data, one_step());
    for ((expected, first), start) in expected.iter_mut().zip(&first).zip(&start) {
        *expected -= config.learning_rate * mu * (first - start);
    }
    let mut found = Federation::new("fedprox", &[("proximal_mu", mu)], &[data], config);
    let found = &found.rounds(1).global;
    assert!(distance(found, &expected) < 1e-6, "{found:?} {expected:?}");
}

#[test]
fn the_first_round_of_scaffold_is_fedavg_and_the_second_is_not() {
    assert_eq!(
        bits(&after("scaffold", &[], 1)),
        bits(&after("fedavg", &[], 1))
    );
    let apart = distance(&after("scaffold", &[], 2), &after("fedavg", &[], 2));
    assert!(apart > 1e-4, "{apart}");
}

#[test]
fn scaffold_with_one_client_is_fedavg_but_for_rounding() {
    // Its variate is that of the server, so that they cancel.
    let run = |name| {
        let mut one = Federation::new(name, &[], &[share(4, 10)], config());
        one.rounds(3).global.clone()
    };
    assert!(distance(&run("scaffold"), &run("fedavg")) < 1e-5);
}

#[test]
fn scaffold_follows_its_paper_step_by_step() {
    let config = one_step();
    let rate = config.learning_rate;
    let data = [share(1, 8), share(2, 8)];
    let mut federation = Federation::new("scaffold", &[], &data, config);
    let mut global = initial();
    let mut variates = [vec![0.0; global.len()], vec![0.0; global.len()]];
    let mut server = vec![0.0; global.len()];
    for _ in 0..3 {
        let mut next = vec![0.0; global.len()];
        for (data, variate) in data.iter().zip(&mut variates) {
            // One step: the plain one, moved by the difference of the variates.
            let mut plain = global.clone();
            train(&mut plain, data, config);
            for at in 0..global.len() {
                let difference: f32 = server[at] - variate[at];
                let local = plain[at] - rate * difference;
                next[at] += local / 2.0;
                variate[at] = variate[at] - server[at] + (global[at] - local) / rate;
            }
        }
        for at in 0..server.len() {
            server[at] = (variates[0][at] + variates[1][at]) / 2.0;
        }
        global = next;
        federation.rounds(1);
        let apart = distance(&federation.global, &global);
        assert!(apart < 1e-5, "round {}: {apart}", federation.round);
        let found = &federation.server.down_sections()[0];
        assert_eq!(found.0, "server_variate");
        assert!(distance(found.1, &server) < 1e-4);
    }
}

#[test]
fn a_device_that_lost_its_variate_goes_on_as_if_it_had_not() {
    let whole = after("scaffold", &[], 4);
    let mut rebooted = Federation::new("scaffold", &[], &shares(), config());
    rebooted.rounds(2);
    rebooted.clients[1].rule = LocalRule::named("scaffold", sizes()).unwrap();
    assert_eq!(bits(&rebooted.rounds(2).global), bits(&whole));
}

#[test]
fn a_server_variate_of_other_clients_is_not_restored() {
    let mut run = Federation::new("scaffold", &[], &shares(), config());
    run.rounds(2);
    let mut other = Federation::new("scaffold", &[], &shares(), config());
    let mut clients = run.states.iter().skip(1).map(|(id, state)| (*id, state));
    let refused = other.server.restore(run.server.save(), &mut clients);
    assert!(refused.is_err());
}

/// Models after a round each of rules that are the same, with these parameters and over these shares.
#[track_caller]
fn same(shares: &[Share], uniform: bool, rules: &[(&str, &[(&str, f32)])]) {
    let after = |name: &str, params: &[(&str, f32)]| {
        let mut federation = Federation::new(name, params, shares, config());
        federation.uniform = uniform;
        federation.rounds(3).global.clone()
    };
    let fedavg = after("fedavg", &[]);
    for (name, params) in rules {
        assert_eq!(bits(&after(name, params)), bits(&fedavg), "{name}");
    }
}

#[test]
fn server_rules_are_fedavg_with_the_parameters_that_say_so() {
    let all = [("num_nodes_to_select", 3.0)];
    let still = [("server_momentum", 0.0), ("server_learning_rate", 1.0)];
    let rules: [(&str, &[(&str, f32)]); 3] = [
        ("fedavgm", &still),
        ("multi-krum", &all),
        ("fedbuff", &[("buffer_size", 3.0)]),
    ];
    same(&shares(), false, &rules);
}

#[test]
fn rules_that_weigh_all_updates_the_same_are_fedavg_of_equal_weights() {
    let rules: [(&str, &[(&str, f32)]); 3] = [
        ("trimmed-mean", &[("beta", 0.0)]),
        ("bulyan", &[("num_malicious_nodes", 0.0)]),
        ("qfedavg", &[("q", 0.0)]),
    ];
    same(&shares(), true, &rules);
    same(&shares()[..2], true, &[("median", &[])]);
    // They do not look at the weights.
    let weighed = |name| Federation::new(name, &[], &shares(), config());
    for name in ["median", "bulyan"] {
        let mut equal = weighed(name);
        equal.uniform = true;
        let found = bits(&weighed(name).rounds(2).global);
        assert_eq!(found, bits(&equal.rounds(2).global), "{name}");
    }
}

#[test]
fn rules_that_select_have_no_choice_of_one() {
    let rules: [(&str, &[(&str, f32)]); 5] = [
        ("krum", &[]),
        ("multi-krum", &[]),
        ("bulyan", &[]),
        ("median", &[]),
        ("trimmed-mean", &[]),
    ];
    same(&shares()[..1], false, &rules);
}

#[test]
fn fednova_of_equal_local_steps_is_fedavg() {
    // Three batches each.
    let equal = [share(1, 9), share(2, 12), share(3, 11)];
    let rules: [(&str, &[(&str, f32)]); 2] = [("fednova", &[]), ("fednova", &[("rho", 0.9)])];
    same(&equal, false, &rules);
    let of = |name, params: &[_]| {
        let mut run = Federation::new(name, params, &equal, config());
        run.rounds(2).global.clone()
    };
    assert_eq!(
        bits(&of("fednova", &[("mu", 0.4)])),
        bits(&of("fedprox", &[("proximal_mu", 0.4)]))
    );
    let apart = distance(&after("fednova", &[], 2), &after("fedavg", &[], 2));
    assert!(apart > 1e-3, "with other steps it is not: {apart}");
}

#[test]
fn adaptive_rules_are_fedavg_in_the_limit() {
    let limit = [("beta_1", 0.0), ("eta", 1e9), ("tau", 1e9)];
    let rules: [(&str, &[(&str, f32)]); 3] = [
        ("fedadagrad", &limit),
        ("fedadam", &limit),
        ("fedyogi", &limit),
    ];
    same(&shares(), false, &rules);
}

#[test]
fn fedasync_of_one_client_that_is_taken_whole_is_a_chain_of_sgd() {
    let data = share(5, 12);
    let mut chain = initial();
    for round in 1..=3 {
        let seed = round;
        train(&mut chain, &data, TrainConfig { seed, ..config() });
    }
    let whole = [("mixing", 1.0)];
    let mut run = Federation::new("fedasync", &whole, std::slice::from_ref(&data), config());
    assert_eq!(bits(&run.rounds(3).global), bits(&chain));
}

#[test]
fn q_fedavg_measures_the_loss_of_the_global_model() {
    let mut run = Federation::new("qfedavg", &[("q", 1.0)], &shares(), config());
    let losses: Vec<f32> = shares()
        .iter()
        .map(|share| loss_of(&initial(), share))
        .collect();
    run.rounds(1);
    let mean = losses.iter().sum::<f32>() / losses.len() as f32;
    assert!((run.metrics["mean_global_loss"] - f64::from(mean)).abs() < 1e-6);
}
