//! Properties of every algorithm in the list, whatever it does.

mod common;

use common::*;
use fl_algo::*;
use fl_nn::TrainConfig;

fn config() -> TrainConfig {
    TrainConfig {
        local_epochs: 2,
        batch_size: 4,
        learning_rate: 0.25,
        ..TrainConfig::default()
    }
}

/// A federation in which an algorithm does what is its own.
fn federation(name: &str) -> Federation {
    let shares = [share(1, 9), share(2, 14), share(3, 5)];
    Federation::new(name, &lively(name), &shares, config())
}

/// A server rule for one client.
fn rule(name: &str) -> Box<dyn ServerRule> {
    let mut choice = Choice::named(name).unwrap();
    for (name, value) in lively(name) {
        let of_one = matches!(name, "buffer_size" | "num_nodes_to_select");
        let value = if of_one { 1.0 } else { value.into() };
        choice.set(name, value).unwrap();
    }
    choice.server(sizes(), 1, 1, 1).unwrap()
}

/// A model that has these two numbers in turn.
fn model_of(pair: [f32; 2]) -> Vec<f32> {
    let numbers = pair.into_iter().cycle();
    numbers.take(sizes().num_params).collect()
}

/// An update with all that any rule asks for.
fn update(name: &str, pair: [f32; 2]) -> Update {
    let half = Choice::named(name).unwrap().algorithm.device;
    let rule = LocalRule::named(half.rule, sizes()).unwrap();
    let numbers = |section: SectionSpec| {
        let mut numbers = model_of(pair);
        numbers.resize(section.count, 0.5);
        (section.name.to_owned(), numbers)
    };
    let told = [("global_loss", 1.5), ("learning_rate", 0.25)];
    Update {
        client: 0,
        num_examples: 7,
        weight: 7,
        round: 1,
        steps: 5,
        loss: 1.0,
        sections: rule.sections(Way::Up).map(numbers).collect(),
        metrics: told.map(|(name, value)| (name.to_owned(), value)).into(),
        partial: None,
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    ALGORITHMS.iter().map(|known| known.name)
}

#[test]
fn no_order_of_arrival_changes_a_model() {
    for name in names() {
        let mut forward = federation(name);
        let mut turned = federation(name);
        forward.rounds(3);
        for _ in 0..3 {
            turned.round_in_order(|updates| updates.rotate_left(1));
        }
        assert_eq!(bits(&turned.global), bits(&forward.global), "{name}");
        assert_eq!(turned.metrics, forward.metrics, "{name}");
    }
}

#[test]
fn a_server_that_was_restored_goes_on_as_if_it_had_not_ended() {
    for name in names() {
        let whole = federation(name).rounds(4).global.clone();
        let mut run = federation(name);
        run.rounds(2);
        let mut next = federation(name).server;
        let states = run.states.clone();
        let mut clients = states.iter().map(|(id, state)| (*id, state));
        next.restore(run.server.save(), &mut clients).unwrap();
        assert_eq!(next.save(), run.server.save(), "{name}");
        run.server = next;
        assert_eq!(bits(&run.rounds(2).global), bits(&whole), "{name}");
    }
}

#[test]
fn a_state_that_is_none_of_the_rule_is_refused() {
    for name in names() {
        let mut run = federation(name);
        let saved = run.rounds(1).server.save();
        for lost in saved.vectors.keys() {
            let mut other = saved.clone();
            other.vectors.remove(lost);
            let refused = federation(name)
                .server
                .restore(other, &mut std::iter::empty());
            assert!(refused.is_err(), "{name} without {lost}");
            let mut other = saved.clone();
            other
                .vectors
                .insert(lost.clone(), vec![f32::NAN; run.global.len()]);
            let refused = federation(name)
                .server
                .restore(other, &mut std::iter::empty());
            assert!(refused.is_err(), "{name} with a {lost} of no numbers");
        }
    }
}

#[test]
fn a_round_that_failed_leaves_nothing_behind() {
    for name in names() {
        let next = |failed: bool| {
            let mut rule = rule(name);
            let start = model_of([0.0, 0.0]);
            if failed {
                rule.begin(1, &start);
                rule.add(&update(name, [9.0, 9.0]), None).unwrap();
            }
            rule.begin(1, &start);
            rule.add(&update(name, [1.0, 2.0]), None).unwrap();
            let mut global = start.clone();
            let metrics = rule.finish(&mut global).unwrap();
            let saved = rule.save();
            let made = global != start || saved != self::rule(name).save();
            assert!(made, "{name}: an update without effect");
            (global, metrics, saved)
        };
        assert_eq!(next(true), next(false), "{name}");
    }
}

#[test]
fn a_useless_update_is_refused_and_the_others_count() {
    for name in names() {
        let next = |useless: &[Update]| {
            let mut rule = rule(name);
            let mut global = model_of([0.0, 0.0]);
            rule.begin(1, &global);
            for update in useless {
                assert!(rule.add(update, None).is_err(), "{name}: {update:?}");
            }
            rule.add(&update(name, [3.0, 4.0]), None).unwrap();
            rule.finish(&mut global).unwrap();
            (global, rule.save())
        };
        let mut useless = Vec::new();
        for section in update(name, [1.0, 1.0]).sections.keys() {
            for harm in [
                |numbers: &mut Vec<f32>| numbers.truncate(1),
                |numbers: &mut Vec<f32>| numbers.push(0.0),
                |numbers: &mut Vec<f32>| numbers.clear(),
                |numbers: &mut Vec<f32>| numbers[1] = f32::NAN,
                |numbers: &mut Vec<f32>| numbers[0] = f32::INFINITY,
            ] {
                let mut bad = update(name, [1.0, 1.0]);
                harm(bad.sections.get_mut(section).unwrap());
                useless.push(bad);
            }
        }
        assert_eq!(next(&useless), next(&[]), "{name}");
    }
}

#[test]
fn a_number_that_a_rule_asks_for_and_that_is_none_is_refused() {
    let refused = |name, change: &dyn Fn(&mut Update)| {
        let mut rule = rule(name);
        rule.begin(1, &model_of([0.0, 0.0]));
        let mut bad = update(name, [1.0, 2.0]);
        change(&mut bad);
        rule.add(&bad, None).unwrap_err().to_string()
    };
    for (name, told) in [
        ("qfedavg", "global_loss"),
        ("qfedavg", "learning_rate"),
        ("fednova", "learning_rate"),
    ] {
        for number in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let why = refused(name, &|update| {
                update.metrics.insert(told.to_owned(), number);
            });
            assert_eq!(why, format!("it tells no {told} above 0"));
        }
        let why = refused(name, &|update| update.metrics.clear());
        assert!(why.starts_with("it tells no "), "{why}");
    }
    for steps in [0, 1_000_001, u32::MAX] {
        let why = refused("fednova", &|update| update.steps = steps);
        assert!(why.contains(&format!("made {steps} steps")), "{why}");
    }
    let why = refused("fednova", &|update| {
        update.metrics.insert("learning_rate".to_owned(), 1e3);
    });
    assert!(why.contains("mu times its learning rate"), "{why}");
}

#[test]
fn a_round_without_updates_has_no_model() {
    for name in names() {
        let mut rule = rule(name);
        let before = model_of([1.0, 2.0]);
        rule.begin(1, &before);
        let mut global = before.clone();
        assert!(rule.finish(&mut global).is_err(), "{name}");
        assert_eq!(global, before, "{name}");
    }
}

#[test]
fn numbers_at_the_ends_of_their_range_make_a_model_of_numbers_or_none() {
    for name in names() {
        for ends in [[f32::MAX, f32::MIN], [f32::MIN, f32::MAX], [1e-45, -1e-45]] {
            let mut rule = rule(name);
            let before = model_of(ends.map(|end| -end));
            let mut global = before.clone();
            rule.begin(1, &global);
            let mut far = update(name, ends);
            far.metrics.insert("global_loss".to_owned(), f32::MAX);
            rule.add(&far, None).unwrap();
            match rule.finish(&mut global) {
                Ok(_) => assert!(global.iter().all(|it| it.is_finite()), "{name}: {global:?}"),
                Err(_) => assert_eq!(global, before, "{name}"),
            }
            let mut saved = rule.save().vectors.into_values().flatten();
            assert!(saved.all(f32::is_finite), "{name}");
        }
    }
}
