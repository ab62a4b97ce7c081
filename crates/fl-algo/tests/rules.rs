//! Server rules on updates made by hand, and what they refuse.

use std::collections::BTreeMap;

use fl_algo::*;

fn update(client: u32, weight: u32, round: u32, model: &[f32]) -> Update {
    Update {
        client,
        weight,
        round,
        sections: [(Update::MODEL.to_owned(), model.to_vec())].into(),
        ..Update::default()
    }
}

fn rule(name: &str, params: &[(&str, f64)], cohort: u32) -> Result<Box<dyn ServerRule>, String> {
    let mut choice = Choice::named(name).unwrap();
    for &(name, value) in params {
        choice.set(name, value).unwrap();
    }
    choice.server(2, cohort, cohort, 1)
}

/// The next model of a round's updates.
fn next(rule: &mut dyn ServerRule, round: u32, global: &[f32], updates: Vec<Update>) -> Vec<f32> {
    rule.begin(round, global);
    for update in updates {
        rule.add(&update, None).unwrap();
    }
    let mut global = global.to_vec();
    rule.finish(&mut global).unwrap();
    global
}

#[test]
fn fedavg_weighs_updates() {
    let mut rule = rule("fedavg", &[], 2).unwrap();
    let updates = vec![update(0, 1, 1, &[1.0, 0.0]), update(1, 3, 1, &[5.0, 4.0])];
    assert_eq!(next(&mut *rule, 1, &[9.0, 9.0], updates), [4.0, 3.0]);
}

#[test]
fn krum_takes_one_of_those_that_agree() {
    let mut rule = rule("multi-krum", &[("num_malicious_nodes", 1.0)], 5).unwrap();
    let updates = vec![
        update(0, 1, 1, &[1.0, 0.0]),
        update(1, 1, 1, &[1.1, 0.0]),
        update(2, 1, 1, &[0.9, 0.0]),
        update(3, 1, 1, &[1.3, 0.0]),
        update(4, 1, 1, &[-50.0, 50.0]),
    ];
    // Two neighbours count: the distances of client 0 are .1 and .1, those of the others more.
    assert_eq!(next(&mut *rule, 1, &[0.0, 0.0], updates), [1.0, 0.0]);
}

#[test]
fn multi_krum_leaves_the_farthest_out_and_weighs_the_rest() {
    let params = [("num_malicious_nodes", 1.0), ("num_nodes_to_select", 4.0)];
    let mut rule = rule("multi-krum", &params, 5).unwrap();
    let updates = vec![
        update(0, 9, 1, &[1e30, 0.0]),
        update(1, 1, 1, &[1.0, 8.0]),
        update(2, 1, 1, &[2.0, 8.0]),
        update(3, 1, 1, &[3.0, 8.0]),
        update(4, 5, 1, &[2.0, 0.0]),
    ];
    assert_eq!(next(&mut *rule, 1, &[0.0, 0.0], updates), [2.0, 3.0]);
}

#[test]
fn a_round_too_small_for_the_protection_of_krum_says_so() {
    let mut rule = rule("multi-krum", &[("num_malicious_nodes", 1.0)], 5).unwrap();
    for (updates, unprotected) in [(5, 0.0), (4, 1.0), (5, 0.0)] {
        rule.begin(1, &[0.0, 0.0]);
        for client in 0..updates {
            rule.add(&update(client, 1, 1, &[1.0, 1.0]), None).unwrap();
        }
        let metrics = rule.finish(&mut vec![0.0, 0.0]).unwrap();
        assert_eq!(metrics["unprotected"], unprotected, "{updates} updates");
    }
}

#[test]
fn of_equal_scores_the_lower_client_counts() {
    let mut rule = rule("multi-krum", &[], 2).unwrap();
    let updates = vec![update(7, 1, 1, &[3.0, 3.0]), update(2, 1, 1, &[1.0, 1.0])];
    assert_eq!(next(&mut *rule, 1, &[0.0, 0.0], updates), [1.0, 1.0]);
}

#[test]
fn fedbuff_weighs_stale_ways_by_the_root_of_their_age() {
    let mut rule = rule("fedbuff", &[("buffer_size", 2.0)], 3).unwrap();
    let policy = rule.policy();
    assert_eq!((policy.buffer_size, policy.max_staleness), (Some(2), 20));
    assert!(rule.depends_on_time());
    let first = vec![update(0, 1, 1, &[2.0, 0.0]), update(1, 1, 1, &[4.0, 0.0])];
    assert_eq!(next(&mut *rule, 1, &[0.0, 0.0], first), [3.0, 0.0]);
    // Its way from the model of round 1 is (8, 2), and it is one round old.
    let second = vec![update(2, 1, 1, &[8.0, 2.0]), update(0, 1, 2, &[5.0, 0.0])];
    let found = next(&mut *rule, 2, &[3.0, 0.0], second);
    let stale = 1.0 / 2.0_f32.sqrt();
    let expected = [3.0 + (2.0 + 8.0 * stale) / 2.0, 2.0 * stale / 2.0];
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
    }
}

#[test]
fn fedbuff_refuses_what_is_older_than_allowed() {
    let params = [("buffer_size", 1.0), ("max_staleness", 1.0)];
    let mut rule = rule("fedbuff", &params, 2).unwrap();
    for round in 1..=3 {
        rule.begin(round, &[0.0, 0.0]);
    }
    let refused = rule.add(&update(0, 1, 1, &[1.0, 1.0]), None).unwrap_err();
    assert!(refused.to_string().contains("round 1"), "{refused}");
    rule.add(&update(0, 1, 2, &[1.0, 1.0]), None).unwrap();
}

#[test]
fn a_server_learning_rate_goes_a_part_of_the_way() {
    let params = [("buffer_size", 1.0), ("server_learning_rate", 0.5)];
    let mut rule = rule("fedbuff", &params, 1).unwrap();
    let half = next(
        &mut *rule,
        1,
        &[1.0, 0.0],
        vec![update(0, 1, 1, &[3.0, 4.0])],
    );
    assert_eq!(half, [2.0, 2.0]);
}

#[test]
fn scaffold_keeps_the_mean_variate_of_all_clients_not_only_of_the_cohort() {
    let mut choice = Choice::named("scaffold").unwrap();
    choice.set("server_learning_rate", 0.5).unwrap();
    let mut rule = choice.server(2, 4, 2, 1).unwrap();
    let with = |client, variate: [f32; 2]| {
        let mut update = update(client, 1, 1, &[2.0, 0.0]);
        let sections = &mut update.sections;
        sections.insert("client_variate".to_owned(), variate.to_vec());
        update
    };
    rule.begin(1, &[0.0, 0.0]);
    rule.add(&with(0, [4.0, 0.0]), None).unwrap();
    rule.add(&with(3, [8.0, 2.0]), None).unwrap();
    let mut global = vec![0.0, 0.0];
    rule.finish(&mut global).unwrap();
    assert_eq!(global, [1.0, 0.0]);
    assert_eq!(rule.down_sections()[0].1, [3.0, 0.5]);
    // Client 3 comes again, and its old variate goes.
    rule.begin(2, &global);
    let before = KeptVectors {
        round: 1,
        sections: [("client_variate".to_owned(), vec![8.0, 2.0])].into(),
    };
    rule.add(&with(3, [0.0, 6.0]), Some(&before)).unwrap();
    rule.finish(&mut global).unwrap();
    assert_eq!(rule.down_sections()[0].1, [1.0, 1.5]);
}

#[test]
fn algorithms_that_do_not_fit_the_run_are_refused_with_what_to_do() {
    let why = |name, params: &[_], cohort| rule(name, params, cohort).err().unwrap();
    let refused = why("fedbuff", &[], 4);
    assert_eq!(
        refused,
        "fedbuff: buffer_size is 10, and 4 clients train at a time: give a buffer_size of at most 4"
    );
    let refused = why("multi-krum", &[("num_nodes_to_select", 5.0)], 4);
    assert_eq!(
        refused,
        "multi-krum: num_nodes_to_select is 5, and a round has 4 updates"
    );
    let refused = why("bulyan", &[("num_malicious_nodes", 2.0)], 10);
    assert_eq!(
        refused,
        "bulyan: num_malicious_nodes is 2: Bulyan needs rounds of at least 11 updates, these have 10"
    );
    let two = [("num_malicious_nodes", 2.0), ("num_nodes_to_select", 4.0)];
    assert_eq!(
        why("bulyan", &two, 12),
        "bulyan: num_nodes_to_select is 4: give a number from 5 to 12, or 0 for 8"
    );
    let refused = why("krum", &[("num_malicious_nodes", 1.0)], 4);
    assert_eq!(
        refused,
        "krum: num_malicious_nodes is 1: Krum needs rounds of at least 5 updates, these have 4"
    );
    let refused = why("multi-krum", &[("num_malicious_nodes", 2.0)], 6);
    assert_eq!(
        refused,
        "multi-krum: num_malicious_nodes is 2: Krum needs rounds of at least 7 updates, these have 6"
    );
}

#[test]
fn rules_tell_numbers_about_a_round() {
    let metrics = |rule: &mut dyn ServerRule, round, updates: Vec<Update>| {
        rule.begin(round, &[0.0, 0.0]);
        for update in updates {
            rule.add(&update, None).unwrap();
        }
        let found = rule.finish(&mut vec![0.0, 0.0]).unwrap();
        found.into_iter().collect::<Vec<_>>()
    };
    let named = |values: [(&str, f64); 2]| values.map(|(name, value)| (name.to_owned(), value));

    let mut fedbuff = rule("fedbuff", &[("buffer_size", 3.0)], 4).unwrap();
    let round = |round| {
        [0, 1, 2]
            .map(|id| update(id, 1, round, &[1.0, 1.0]))
            .to_vec()
    };
    let fresh = metrics(&mut *fedbuff, 1, round(1));
    assert_eq!(
        fresh,
        named([("max_staleness", 0.0), ("mean_staleness", 0.0)])
    );
    metrics(&mut *fedbuff, 2, round(2));
    let ages = [1, 2, 3].map(|began| update(began, 1, began, &[1.0, 1.0]));
    let stale = metrics(&mut *fedbuff, 3, ages.to_vec());
    assert_eq!(
        stale,
        named([("max_staleness", 2.0), ("mean_staleness", 1.0)])
    );

    let mut krum = rule("multi-krum", &[("num_nodes_to_select", 2.0)], 3).unwrap();
    let updates = [[0.0, 0.0], [3.0, 4.0], [90.0, 0.0]];
    let updates = (0..)
        .zip(updates)
        .map(|(id, model)| update(id, 1, 1, &model));
    let selected = metrics(&mut *krum, 1, updates.collect());
    let expected = [("largest_selected_score", 25.0), ("selected_updates", 2.0)];
    assert_eq!(selected, named(expected));

    let mut scaffold = rule("scaffold", &[], 1).unwrap();
    let mut one = update(0, 1, 1, &[1.0, 1.0]);
    one.sections
        .insert("client_variate".to_owned(), vec![3.0, -4.0]);
    let norm = metrics(&mut *scaffold, 1, vec![one]);
    assert_eq!(norm, [("server_variate_norm".to_owned(), 5.0)]);
}

#[test]
fn a_buffer_for_the_whole_cohort_waits_for_all_and_depends_on_no_time() {
    let whole = rule("fedbuff", &[("buffer_size", 3.0)], 3).unwrap();
    assert_eq!(whole.policy().buffer_size, None);
    assert!(!whole.depends_on_time());
    let choice = Choice::named("fedbuff").unwrap();
    assert_eq!(choice.notice(&*whole), None);
    let part = rule("fedbuff", &[("buffer_size", 2.0)], 3).unwrap();
    assert_eq!(
        choice.notice(&*part).unwrap(),
        "fedbuff: a round takes the first updates that come"
    );
    let plain = rule("fedavg", &[], 3).unwrap();
    assert_eq!(plain.policy(), Policy::default());
    assert!(!plain.depends_on_time());
}

#[test]
fn a_choice_has_the_parameters_of_both_halves() {
    let mut prox = Choice::named("fedprox").unwrap();
    prox.set("proximal_mu", 0.5).unwrap();
    assert_eq!(prox.values(), [("proximal_mu", 0.5)]);
    let scaffold = Choice::named("scaffold").unwrap();
    assert_eq!(scaffold.values(), [("server_learning_rate", 1.0)]);
    assert_eq!(scaffold.specs().count(), 1);
}

#[test]
fn a_step_out_of_the_range_of_numbers_is_refused_and_changes_nothing() {
    let params = [("buffer_size", 1.0), ("server_learning_rate", 1000.0)];
    let mut rule = rule("fedbuff", &params, 1).unwrap();
    let mut global = vec![0.0, 0.0];
    rule.begin(1, &global);
    rule.add(&update(0, 1, 1, &[1.0, 1e38]), None).unwrap();
    let refused = rule.finish(&mut global).unwrap_err();
    assert_eq!(refused.to_string(), "parameter 1 is larger than any f32");
    assert_eq!(global, [0.0, 0.0]);
}

#[test]
fn every_algorithm_is_declared_well() {
    let mut names = BTreeMap::new();
    for algorithm in ALGORITHMS {
        let Algorithm { name, paper, .. } = algorithm;
        assert!(paper.contains("https://"), "{name} has no paper");
        assert!(names.insert(*name, ()).is_none(), "{name} is there twice");
        let device = algorithm.device;
        assert!(device.rule.len() <= 24 && device.params.len() <= MAX_PARAMS);
        assert!(algorithm.params.len() <= MAX_PARAMS, "{name}");
        let choice = Choice::new(algorithm);
        for spec in choice.specs() {
            spec.check(spec.default).unwrap();
            assert!(spec.name.len() <= 24 && !spec.doc.is_empty(), "{name}");
        }
        for spec in device.client.vectors(&choice.device_params) {
            assert!(spec.name.len() <= 16, "{name}: {}", spec.name);
        }
    }
    let mut rules = BTreeMap::new();
    for rule in rule_names() {
        assert!(rules.insert(rule, ()).is_none(), "{rule} is there twice");
        assert_eq!(find_rule(rule).unwrap().rule, rule);
    }
    for algorithm in ALGORITHMS {
        assert!(rules.contains_key(algorithm.device.rule));
    }
    assert_eq!(Choice::default().algorithm.name, "fedavg");
}

/// `cargo fmt` does not see modules that a macro declares.
#[test]
fn the_files_of_algorithms_and_attacks_are_formatted() {
    let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut rustfmt = std::process::Command::new("rustfmt");
    rustfmt.args(["--check", "--edition", "2024", "--config-path"]);
    rustfmt.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../rustfmt.toml"));
    for folder in ["algorithms", "attacks"] {
        for entry in std::fs::read_dir(sources.join(folder)).unwrap() {
            rustfmt.arg(entry.unwrap().path());
        }
    }
    assert!(rustfmt.status().unwrap().success());
}
