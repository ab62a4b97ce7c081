//! Server rules and attacks against steps that NumPy made from the papers: `numpy/steps.py`, which says how
//! to make them again.

use fl_algo::*;
use serde_json::Value;

/// Largest difference, in parts of a number or of 1: the results and the moments between rounds are f32.
const TOLERANCE: f64 = 2e-6;

fn steps() -> Value {
    serde_json::from_str(include_str!("numpy/steps.json")).unwrap()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn numbers(value: &Value) -> Vec<f32> {
    let numbers = list(value).iter();
    numbers.map(|it| it.as_f64().unwrap() as f32).collect()
}

fn params(value: &Value) -> impl Iterator<Item = (&str, f64)> {
    let params = value.as_object().unwrap().iter();
    params.map(|(name, value)| (name.as_str(), value.as_f64().unwrap()))
}

fn update(value: &Value) -> Update {
    let whole = |name: &str| value[name].as_u64().unwrap() as u32;
    let metrics = params(&value["metrics"]).map(|(name, value)| (name.to_owned(), value as f32));
    Update {
        client: whole("client"),
        weight: whole("weight"),
        round: whole("round"),
        steps: whole("steps"),
        sections: [(Update::MODEL.to_owned(), numbers(&value["model"]))].into(),
        metrics: metrics.collect(),
        ..Update::default()
    }
}

#[track_caller]
fn check(found: &[f32], expected: &Value, what: &str) {
    for (at, (found, expected)) in found.iter().zip(list(expected)).enumerate() {
        let (found, expected) = (f64::from(*found), expected.as_f64().unwrap());
        let off = (found - expected).abs() / expected.abs().max(1.0);
        assert!(off < TOLERANCE, "{what}, {at}: {found}, not {expected}");
    }
    assert_eq!(found.len(), list(expected).len(), "{what}");
}

#[test]
fn every_server_rule_makes_the_steps_that_numpy_makes() {
    let steps = steps();
    for case in list(&steps["cases"]) {
        let name = case["algorithm"].as_str().unwrap();
        let what = format!("{name} {}", case["params"]);
        let mut choice = Choice::named(name).unwrap();
        for (name, value) in params(&case["params"]) {
            choice.set(name, value).unwrap();
        }
        let mut global = numbers(&case["global"]);
        let clients = case["clients"].as_u64().unwrap() as u32;
        let mut rule = choice.server(global.len(), clients, clients, 1).unwrap();
        for (round, step) in (1..).zip(list(&case["rounds"])) {
            rule.begin(round, &global);
            for one in list(&step["updates"]) {
                rule.add(&update(one), None).unwrap();
            }
            rule.finish(&mut global).unwrap();
            check(
                &global,
                &step["expected"],
                &format!("{what}, round {round}"),
            );
        }
    }
}

#[test]
fn every_attack_sends_what_numpy_sends() {
    let steps = steps();
    for case in list(&steps["attacks"]) {
        let name = case["attack"].as_str().unwrap();
        let mut choice = AttackChoice::named(name).unwrap();
        for (name, value) in params(&case["params"]) {
            choice.set(name, value).unwrap();
        }
        let models = list(&case["honest"]).iter().chain(list(&case["trained"]));
        let mut updates: Vec<Update> = (0..)
            .zip(models)
            .map(|(client, model)| Update {
                client,
                sections: [(Update::MODEL.to_owned(), numbers(model))].into(),
                ..Update::default()
            })
            .collect();
        let honest = list(&case["honest"]).len();
        let attackers: Attackers = (honest..updates.len())
            .map(|client| (client as u32, choice))
            .collect();
        attack(&attackers, (1, 1), &numbers(&case["global"]), &mut updates);
        for (update, expected) in updates[honest..].iter().zip(list(&case["expected"])) {
            check(update.model(), expected, name);
        }
        for (update, sent) in updates.iter().zip(list(&case["honest"])) {
            assert_eq!(update.model(), numbers(sent), "{name}: an honest update");
        }
    }
}

/// Algorithms whose steps are not in NumPy, and where they are held instead.
const ELSEWHERE: [(&str, &str); 9] = [
    ("fedavg", "tests/exact.rs"),
    ("fedprox", "tests/identities.rs"),
    ("scaffold", "tests/identities.rs"),
    ("fedbuff", "tests/rules.rs"),
    ("feddyn", "tests/personal.rs"),
    ("ditto", "tests/personal.rs"),
    ("fedper", "tests/personal.rs"),
    ("fedrep", "tests/personal.rs"),
    ("distillation", "tests/personal.rs"),
];

#[test]
fn no_server_rule_is_without_a_step_of_its_own() {
    let steps = steps();
    let made = |name: &str| {
        list(&steps["cases"])
            .iter()
            .any(|it| it["algorithm"] == name)
    };
    for Algorithm { name, .. } in ALGORITHMS {
        let elsewhere = ELSEWHERE.iter().any(|(other, _)| other == name);
        assert!(
            elsewhere || made(name),
            "{name}: give it a step in numpy/steps.py or a line here"
        );
    }
}
