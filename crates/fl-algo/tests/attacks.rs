//! Attacks, against arithmetic of their own.

use fl_algo::*;

fn update(client: u32, model: &[f32]) -> Update {
    Update {
        client,
        sections: [(Update::MODEL.to_owned(), model.to_vec())].into(),
        ..Update::default()
    }
}

fn choice(name: &str, params: &[(&str, f64)]) -> AttackChoice {
    let mut choice = AttackChoice::named(name).unwrap();
    for &(name, value) in params {
        choice.set(name, value).unwrap();
    }
    choice
}

const GLOBAL: [f32; 3] = [1.0, -2.0, 0.5];

/// The models of clients 0 to 3 after a round in which `attackers` attack.
fn attacked(attackers: &[(u32, AttackChoice)]) -> Vec<Vec<f32>> {
    let mut updates: Vec<Update> = (0..4)
        .map(|client| update(client, &[1.5 + client as f32, -4.0, 0.5]))
        .collect();
    let attackers: Attackers = attackers.iter().copied().collect();
    let count = attack(&attackers, (1, 2), &GLOBAL, &mut updates);
    assert_eq!(count, attackers.len());
    updates
        .iter()
        .map(|update| update.model().to_vec())
        .collect()
}

#[test]
fn a_flipped_update_goes_the_other_way() {
    let honest = attacked(&[]);
    let models = attacked(&[(1, choice("sign-flip", &[])), (3, choice("sign-flip", &[]))]);
    assert_eq!(models[0], honest[0]);
    assert_eq!(models[2], honest[2]);
    // 1 - (2.5 - 1), -2 - (-4 + 2), 0.5 - 0.
    assert_eq!(models[1], [-0.5, 0.0, 0.5]);
    // 1 - (4.5 - 1).
    assert_eq!(models[3], [-2.5, 0.0, 0.5]);
}

#[test]
fn the_scale_of_a_flipped_update_is_its_length() {
    let scaled = |scale| attacked(&[(0, choice("sign-flip", &[("scale", scale)]))])[0].clone();
    // 1 - 4 * (1.5 - 1), -2 - 4 * (-4 + 2), 0.5 - 4 * 0.
    assert_eq!(scaled(4.0), [-1.0, 6.0, 0.5]);
    assert_eq!(
        scaled(0.0),
        GLOBAL,
        "an update of no length is the global model"
    );
}

#[test]
fn flipped_labels_are_those_of_the_classes_in_reverse() {
    let examples = Examples {
        seed: 1,
        client: 0,
        num_classes: 10,
    };
    let mut labels = [0, 9, 4, 7, 0];
    let flip = choice("label-flip", &[]);
    flip.labels(&examples, &mut labels);
    assert_eq!(labels, [9, 0, 5, 2, 9]);
    flip.labels(&examples, &mut labels);
    assert_eq!(labels, [0, 9, 4, 7, 0], "twice is not at all");
}

#[test]
fn an_attack_without_a_hook_leaves_that_side_alone() {
    assert_eq!(attacked(&[(2, choice("label-flip", &[]))]), attacked(&[]));
    let examples = Examples {
        seed: 1,
        client: 0,
        num_classes: 3,
    };
    let mut labels = [0, 1, 2];
    choice("sign-flip", &[]).labels(&examples, &mut labels);
    assert_eq!(labels, [0, 1, 2]);
}

/// Attack that sends the mean of the honest updates, or a random number.
struct Spy;

impl Attack for Spy {
    fn name(&self) -> &'static str {
        "spy"
    }

    fn doc(&self) -> &'static str {
        ""
    }

    fn paper(&self) -> &'static str {
        ""
    }

    fn updates(&self, _: &fl_param::Params, scene: &Scene<'_>, attackers: &mut [&mut Update]) {
        let first = scene.honest.iter().map(|update| update.model()[0]);
        let mean = first.sum::<f32>() / scene.honest.len() as f32;
        for update in attackers {
            let drawn = scene.rng(update.client).symmetric();
            update.model_mut()[0] = mean;
            update.model_mut()[1] = drawn;
        }
    }
}

#[test]
fn attackers_see_honest_updates_alone_and_draw_for_themselves() {
    let spy = AttackChoice::new(&Spy);
    let flip = choice("sign-flip", &[]);
    let models = attacked(&[(1, spy), (2, flip), (3, spy)]);
    assert_eq!(
        models[1][0], 1.5,
        "that of client 0, not what another attack made"
    );
    assert_eq!(models[3][0], 1.5);
    assert_ne!(models[1][1], models[3][1]);
    assert_eq!(models, attacked(&[(1, spy), (2, flip), (3, spy)]));
}

#[test]
fn attacks_have_names_of_their_own_and_defaults_within_bounds() {
    for attack in ATTACKS {
        let found = AttackChoice::named(attack.name()).unwrap();
        assert_eq!(found.attack.doc(), attack.doc());
        assert!(attack.paper().contains("https://"));
        assert!(attack.params().len() <= MAX_PARAMS);
        for spec in attack.params() {
            assert_eq!(spec.check(spec.default), Ok(()));
        }
    }
    assert!(AttackChoice::named("charm").is_none());
}

#[test]
fn noise_has_its_deviation_and_is_another_for_everyone_and_every_round() {
    let sent = |client, round| {
        let noisy: Attackers = [(client, choice("gaussian", &[("sigma", 0.5)]))].into();
        let mut updates = [update(client, &[1.0; 4000])];
        attack(&noisy, (7, round), &[0.0; 4000], &mut updates);
        updates[0].model().to_vec()
    };
    let model = sent(3, 1);
    assert_eq!(model, sent(3, 1), "it repeats");
    for other in [sent(4, 1), sent(3, 2)] {
        let same = model.iter().zip(&other).filter(|(a, b)| a == b).count();
        assert!(same < 4, "{same}");
    }
    let count = model.len() as f32;
    let mean = model.iter().sum::<f32>() / count;
    let variance = model.iter().map(|it| (it - mean).powi(2)).sum::<f32>() / count;
    // Five standard deviations of either.
    assert!((mean - 1.0).abs() < 5.0 * 0.5 / count.sqrt(), "{mean}");
    assert!(
        (variance / 0.25 - 1.0).abs() < 5.0 * (2.0 / count).sqrt(),
        "{variance}"
    );
}

/// Every attack, on a round of these models; client 3 attacks, and 4 with it.
fn sent(name: &str, honest: &[[f32; 3]]) -> Vec<Vec<f32>> {
    let mut updates: Vec<Update> = (10..)
        .zip(honest)
        .map(|(client, model)| update(client, model))
        .chain([3, 4].map(|client| update(client, &[0.5 * client as f32, 1.0, -1.0])))
        .collect();
    updates.sort_by_key(|update| update.client);
    let attackers: Attackers = [3, 4].map(|client| (client, choice(name, &[]))).into();
    attack(&attackers, (1, 2), &GLOBAL, &mut updates);
    for (update, model) in updates[2..].iter().zip(honest) {
        assert_eq!(update.model(), model, "{name}: an honest update");
    }
    let models = updates[..2].iter().map(|update| update.model().to_vec());
    models.collect()
}

#[test]
fn attacks_send_numbers_whatever_they_see() {
    let ends = [[f32::MAX, f32::MIN, 0.0], [f32::MIN, f32::MAX, 0.0]];
    let same = [[1.0, 2.0, 3.0]; 3];
    for name in ATTACKS.iter().map(|attack| attack.name()) {
        for honest in [&[][..], &[GLOBAL], &same, &ends] {
            let models = sent(name, honest);
            assert!(
                !models.concat().iter().any(|it| it.is_nan()),
                "{name}: {models:?}"
            );
            assert_eq!(models, sent(name, honest), "{name} repeats");
        }
    }
}

#[test]
fn attackers_who_see_nothing_to_hide_among_hide_among_themselves() {
    // Their models are (1.5, 1, -1) and (2, 1, -1): the only number that differs has a deviation of 0.25.
    let models = sent("min-max", &[]);
    assert_eq!(models[0], models[1]);
    assert_eq!(models[0][1..], [1.0, -1.0]);
    // At 1.5 below the mean of 1.75 it is as far from 2 as they are apart.
    assert!((models[0][0] - 1.5).abs() < 1e-6, "{models:?}");
}

#[test]
fn min_max_goes_as_far_as_the_honest_are_apart_and_no_farther() {
    let honest = [[1.0, 0.0, 0.0], [-1.0, 0.5, 0.0], [0.0, -1.0, 2.0]];
    let distance = |a: &[f32], b: &[f32]| {
        let squares = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b));
        squares.sum::<f32>().sqrt()
    };
    let pairs = [(0, 1), (0, 2), (1, 2)].map(|(a, b)| distance(&honest[a], &honest[b]));
    let apart = pairs.into_iter().fold(0.0, f32::max);
    for name in ["min-max", "min-max-sign", "min-max-unit"] {
        let model = &sent(name, &honest)[0];
        let farthest = honest.map(|other| distance(model, &other));
        let farthest = farthest.into_iter().fold(0.0, f32::max);
        assert!(
            (farthest - apart).abs() < 1e-5,
            "{name}: {farthest} of {apart}"
        );
    }
}
