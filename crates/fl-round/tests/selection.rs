//! Each selector against numbers made by hand, and against what it is with the parameters that take its point
//! away.

use fl_round::selection::Candidates;
use fl_round::{Facts, Selection};

/// Facts of clients of which nothing is known but that each has so many examples.
fn strangers(examples: impl IntoIterator<Item = u32>) -> Vec<Facts> {
    let each = examples.into_iter().map(|num_examples| Facts {
        num_examples,
        ..Facts::default()
    });
    each.collect()
}

fn named(name: &str, params: &[(&str, f64)]) -> Selection {
    let mut selection = Selection::named(name).expect(name);
    for (name, value) in params {
        selection
            .set(name, *value)
            .expect("a parameter within its bounds");
    }
    selection
}

/// Clients that a selector chooses for a round, in its order, and the score of each.
fn chosen(
    selection: Selection,
    facts: &[Facts],
    there: &[u32],
    (round, size): (u32, usize),
) -> Vec<(u32, Option<f64>)> {
    let from = Candidates {
        seed: 7,
        round,
        size,
        there,
        facts,
    };
    let picks = selection.selector.choose(&from, &selection.params);
    picks.iter().map(|pick| (pick.client, pick.score)).collect()
}

fn clients(picks: &[(u32, Option<f64>)]) -> Vec<u32> {
    let mut clients: Vec<u32> = picks.iter().map(|(client, _)| *client).collect();
    clients.sort_unstable();
    clients
}

#[test]
fn names_are_found_and_have_a_meaning() {
    for selection in Selection::all() {
        let selector = selection.selector;
        assert_eq!(
            Selection::named(selector.name()).unwrap().selector.name(),
            selector.name()
        );
        assert!(selector.doc().split_whitespace().count() > 3);
        for spec in selector.params() {
            named(selector.name(), &[(spec.name, spec.default)]);
        }
    }
    assert_eq!(Selection::default().selector.name(), "uniform");
}

#[test]
fn no_selector_takes_who_is_not_there_or_anybody_twice_or_too_many() {
    let mut facts = strangers(1..=9);
    for (at, one) in facts.iter_mut().enumerate().step_by(2) {
        one.loss = Some(at as f32);
        one.took_us = Some(at as u64 * 1000);
        one.last_counted = 1;
    }
    let there = [1, 2, 4, 5, 8];
    for selection in Selection::all() {
        for round in 1..40 {
            for size in 0..7 {
                let picks = chosen(selection, &facts, &there, (round, size));
                let own = clients(&picks);
                assert!(own.is_sorted_by(|a, b| a < b), "{selection:?}: {own:?}");
                assert!(
                    own.iter().all(|id| there.contains(id)),
                    "{selection:?}: {own:?}"
                );
                assert!(own.len() <= size.min(there.len()));
                let leaves_out = selection.selector.name() == "availability";
                assert!(
                    leaves_out || own.len() == size.min(there.len()),
                    "{selection:?}"
                );
            }
        }
        assert!(chosen(selection, &facts, &[], (3, 4)).is_empty());
    }
}

#[test]
fn round_robin_gives_each_its_turn_also_after_it_was_away() {
    let mut facts = strangers([1; 5]);
    let mut counts = [0; 5];
    let turn = |facts: &mut Vec<Facts>, counts: &mut [u32; 5], round: u32, there: &[u32]| {
        let own = clients(&chosen(named("round-robin", &[]), facts, there, (round, 2)));
        for &client in &own {
            facts[client as usize].last_chosen = round;
            facts[client as usize].times_chosen += 1;
            counts[client as usize] += 1;
        }
        own
    };
    for round in 1..=5 {
        turn(&mut facts, &mut counts, round, &[0, 1, 2, 3, 4]);
    }
    assert_eq!(counts, [2; 5]);
    turn(&mut facts, &mut counts, 6, &[1, 2, 3, 4]);
    turn(&mut facts, &mut counts, 7, &[1, 2, 3, 4]);
    let own = turn(&mut facts, &mut counts, 8, &[0, 1, 2, 3, 4]);
    assert!(own.contains(&0), "its turn is longest ago: {own:?}");
}

#[test]
fn availability_has_each_client_in_a_window_that_recurs() {
    let facts = strangers([1; 40]);
    let there: Vec<u32> = (0..40).collect();
    let selection = named("availability", &[("period", 4.0), ("share", 0.5)]);
    let of = |round| clients(&chosen(selection, &facts, &there, (round, 40)));
    for client in 0..40 {
        let rounds: Vec<u32> = (0..4)
            .filter(|round| of(4 + round).contains(&client))
            .collect();
        let follow = matches!(*rounds, [0, 1] | [1, 2] | [2, 3] | [0, 3]);
        assert!(follow, "client {client}: {rounds:?}");
    }
    assert_eq!(of(5), of(9));
    assert_ne!(of(5), of(6));
}

#[test]
fn without_their_point_selectors_are_the_uniform_one_to_the_bit() {
    let facts = strangers(1..=20);
    let there: Vec<u32> = (0..20).filter(|id| id % 7 != 0).collect();
    let same = [
        named("availability", &[("share", 1.0)]),
        named("energy", &[("spare", 0.0)]),
        // Nobody has spent anything.
        named("energy", &[]),
        // Nobody is known.
        named("oort", &[]),
    ];
    for round in 1..50 {
        let uniform = clients(&chosen(named("uniform", &[]), &facts, &there, (round, 6)));
        for selection in same {
            let own = clients(&chosen(selection, &facts, &there, (round, 6)));
            assert_eq!(own, uniform, "{selection:?}, round {round}");
        }
    }
}

#[test]
fn power_of_choice_takes_the_highest_losses_of_its_candidates() {
    let mut facts = strangers([10; 6]);
    for (client, loss) in [(0, 0.5), (1, 2.0), (2, 1.0), (3, 2.0), (4, 0.1)] {
        facts[client].loss = Some(loss);
    }
    let all = named("power-of-choice", &[("num_candidates", 6.0)]);
    let picks = chosen(all, &facts, &[0, 1, 2, 3, 4, 5], (9, 3));
    // Client 5 is unknown, which is an infinite loss; of the equal ones the lower number is first.
    assert_eq!(
        picks,
        [(5, Some(f64::INFINITY)), (1, Some(2.0)), (3, Some(2.0))]
    );
    let picks = chosen(all, &facts, &[0, 2, 4], (9, 2));
    assert_eq!(clients(&picks), [0, 2]);
}

#[test]
fn with_as_many_candidates_as_the_cohort_power_of_choice_goes_by_size_alone() {
    let sizes = [100, 300, 100, 500];
    let few = named("power-of-choice", &[("num_candidates", 1.0)]);
    let blank = strangers(sizes);
    let mut lossy = blank.clone();
    for (at, one) in lossy.iter_mut().enumerate() {
        one.loss = Some(at as f32);
    }
    let mut counts = [0.0; 4];
    for round in 1..=4000 {
        let own = clients(&chosen(few, &blank, &[0, 1, 2, 3], (round, 1)));
        assert_eq!(
            own,
            clients(&chosen(few, &lossy, &[0, 1, 2, 3], (round, 1)))
        );
        counts[own[0] as usize] += 1.0 / 4000.0;
    }
    for (share, size) in counts.into_iter().zip(sizes) {
        let expected = f64::from(size) / 1000.0;
        assert!((share - expected).abs() < 0.03, "{share} for {expected}");
    }
}

#[test]
fn oort_adds_up_utility_as_by_hand() {
    let mut facts = strangers([10; 5]);
    for (client, loss, seconds) in [(0, 0.5, 1), (1, 1.0, 2), (2, 1.5, 4), (3, 2.0, 8)] {
        facts[client].loss = Some(loss);
        facts[client].took_us = Some(seconds * 1_000_000);
        facts[client].last_counted = 1;
    }
    let params = [
        ("exploration_factor", 0.0),
        ("exploration_min", 0.0),
        ("round_threshold", 0.5),
        ("cut_off_util", 1.0),
        ("clip_bound", 1.0),
    ];
    let picks = chosen(named("oort", &params), &facts, &[0, 1, 2, 3, 4], (10, 2));
    // U is 5, 10, 15, 20; scaled (U - 4.995) / 15.005; sqrt(0.1 ln 10 / 1) = 0.479853. T is 4 s, so that only
    // client 3 is slow: (4 / 8)^2. Utilities 0.480186, 0.813409, 1.146631, 0.369963.
    assert_eq!(clients(&picks), [1, 2]);
    for (client, score) in picks {
        let by_hand = [0.480186, 0.813409, 1.146631, 0.369963][client as usize];
        let score = score.expect("a utility");
        assert!((score - by_hand).abs() < 1e-6, "{score}, by hand {by_hand}");
    }
    // With no penalty the slow one has the highest.
    let params: Vec<_> = params.into_iter().chain([("round_penalty", 0.0)]).collect();
    let picks = chosen(named("oort", &params), &facts, &[0, 1, 2, 3, 4], (10, 1));
    assert_eq!(clients(&picks), [3]);
}

#[test]
fn oort_explores_less_from_round_to_round() {
    let mut facts = strangers([10; 200]);
    for one in &mut facts[..100] {
        one.loss = Some(1.0);
        one.last_counted = 1;
    }
    let there: Vec<u32> = (0..200).collect();
    let unknown = |round| {
        let own = clients(&chosen(named("oort", &[]), &facts, &there, (round, 50)));
        own.iter().filter(|client| **client >= 100).count()
    };
    // 0.9 * 0.98^(round - 1) of 50, and 0.2 of 50 in the end.
    assert_eq!(
        [unknown(1), unknown(2), unknown(35), unknown(500)],
        [45, 44, 23, 10]
    );
}

#[test]
fn energy_leaves_out_who_has_too_little_and_prefers_who_has_most() {
    let mut facts = strangers([10; 5]);
    for (client, budget, used, round) in [
        (0, 10.0, 9.5, 1.0),
        (1, 10.0, 5.0, 1.0),
        (2, 20.0, 2.0, 1.0),
    ] {
        facts[client].budget_j = Some(budget);
        facts[client].used_j = used;
        facts[client].round_j = round;
    }
    facts[3].budget_j = Some(0.0);
    let picks = chosen(named("energy", &[]), &facts, &[0, 1, 2, 3, 4], (4, 5));
    // Client 0 has half a joule for a round of one, client 3 has nothing, client 4 has no end of it.
    assert_eq!(picks, [(4, None), (2, Some(18.0)), (1, Some(5.0))]);
}
