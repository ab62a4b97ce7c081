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
