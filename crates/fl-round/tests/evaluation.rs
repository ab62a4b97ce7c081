//! The evaluation of a round's model by clients: who is asked, what counts, and that no round depends on it.

mod support;

use fl_round::{
    ClientState, EvaluationPolicy, Faults, Machine, Note, Phase, Policy, Refused, StartAnswer,
};
use std::collections::BTreeSet;
use support::{Caller, SECOND, policy};

fn evaluating(clients: u32, rounds: u32, drawn: Option<u32>) -> Policy {
    Policy {
        evaluation: Some(EvaluationPolicy {
            every: 1,
            clients: drawn,
            deadline_us: 20 * SECOND,
        }),
        ..policy(clients, rounds)
    }
}

/// Runs the training of a round to its model.
fn train(run: &mut Caller, round: u32) {
    let cohort = run.cohorts[round as usize - 1].clone();
    run.take(cohort.clone());
    for client in cohort {
        run.deliver(client, round).unwrap();
    }
}

fn missing(run: &Caller, at: usize) -> Vec<(u32, &str)> {
    let missing = run.evaluated[at].missing.iter();
    missing
        .map(|one| (one.client, one.reason.as_str()))
        .collect()
}

#[test]
fn the_cohort_evaluates_the_model_that_it_made() {
    let mut run = Caller::new(Policy {
        clients_per_round: 2,
        ..evaluating(4, 1, None)
    });
    run.get_ready(0..4);
    train(&mut run, 1);
    assert_eq!(run.evaluators[0], run.cohorts[0]);
    let cohort = run.cohorts[0].clone();
    for client in cohort.clone() {
        run.answer_evaluation(client, StartAnswer::Taken);
    }
    // In any order; they are told in that of the clients.
    for client in cohort.iter().rev() {
        assert!(run.evaluated.is_empty());
        run.evaluate(*client, 1).unwrap();
    }
    let came: Vec<u32> = run.evaluated[0]
        .evaluations
        .iter()
        .map(|one| one.client)
        .collect();
    assert_eq!(came, cohort);
    assert!(run.evaluated[0].missing.is_empty() && run.succeeded());
    assert_eq!(run.phases_of(1).last(), Some(&Phase::Evaluating));
}

#[test]
fn who_is_drawn_from_all_follows_from_the_seed_and_the_round() {
    let drawn = |seed: u64| {
        let mut run = Caller::new(Policy {
            seed,
            clients_per_round: 1,
            quorum: 1,
            ..evaluating(20, 3, Some(5))
        });
        run.get_ready(0..20);
        for round in 1..=3 {
            train(&mut run, round);
            for client in run.evaluators[round as usize - 1].clone() {
                run.evaluate(client, round).unwrap();
            }
        }
        assert!(run.succeeded());
        run.evaluators
    };
    let one = drawn(7);
    assert!(one.iter().all(|clients| clients.len() == 5));
    assert_eq!(one, drawn(7));
    assert!(one != drawn(8) && one[0] != one[1]);
}

#[test]
fn who_does_not_answer_is_missing_and_chosen_all_the_same() {
    let mut run = Caller::new(evaluating(3, 2, None));
    run.get_ready(0..3);
    train(&mut run, 1);
    run.evaluate(0, 1).unwrap();
    run.answer_evaluation(1, StartAnswer::Refused("507: no memory".into()));
    run.answer_evaluation(2, StartAnswer::Taken);
    run.sleep(20 * SECOND);
    assert_eq!(
        missing(&run, 0),
        [(1, "507: no memory"), (2, "no evaluation within 20s")]
    );
    assert_eq!(run.evaluate(2, 1), Err(Refused::RoundOver { round: 1 }));
    assert_eq!(
        run.cohorts[1],
        [0, 1, 2],
        "all of them are in the next round"
    );
    let by_time = |note: &Note| matches!(note, Note::TimeDecided(_));
    assert!(!run.notes.iter().any(by_time));
}

#[test]
fn who_is_busy_is_asked_again() {
    let mut run = Caller::new(evaluating(1, 1, None));
    run.get_ready([0]);
    train(&mut run, 1);
    for asked in 1..=9 {
        assert_eq!(run.evaluation_starts.len(), asked);
        assert_eq!(run.evaluation_starts[asked - 1].attempt, asked as u32);
        run.answer_evaluation(0, StartAnswer::Later("409: sending".into()));
        run.sleep(2 * SECOND);
    }
    run.evaluate(0, 1).unwrap();
    assert!(run.succeeded() && run.evaluated[0].missing.is_empty());
}

#[test]
fn devices_that_fail_in_the_round_are_not_asked() {
    let faults = Faults {
        away: BTreeSet::from([0]),
        will_fail: BTreeSet::from([1]),
        ..Faults::default()
    };
    let mut run = Caller::with_faults(evaluating(4, 1, Some(4)), [(1, faults)]);
    run.get_ready(0..4);
    run.take([1, 2, 3]);
    run.on(|machine, now| machine.lost(now, 1, "crash"));
    for client in [2, 3] {
        run.deliver(client, 1).unwrap();
    }
    assert_eq!(run.evaluators, [[2, 3]]);
    run.on(|machine, now| machine.lost(now, 2, "died"));
    run.evaluate(3, 1).unwrap();
    let expected = [
        (0, "away on purpose"),
        (1, "this device fails in the round"),
        (2, "died"),
    ];
    assert_eq!(missing(&run, 0), expected);
}

#[test]
fn an_evaluation_counts_once_and_with_its_own_token() {
    let mut run = Caller::new(evaluating(2, 1, None));
    run.get_ready(0..2);
    train(&mut run, 1);
    let of_training = run.starts[0].token;
    let own = run.evaluation_starts[0].token;
    assert_ne!(of_training, own);
    let with = |run: &mut Caller, token| {
        let delivery = fl_round::Delivery {
            measured: Default::default(),
            client: 0,
            round: 1,
            token: Some(token),
            update: 99,
        };
        run.machine.evaluated(run.now, delivery)
    };
    assert_eq!(with(&mut run, of_training), Err(Refused::WrongToken));
    assert_eq!(with(&mut run, own), Ok(()));
    assert_eq!(with(&mut run, own), Err(Refused::Twice { round: 1 }));
    run.on(|machine, now| {
        machine.useless(now, 1, 1, Some(own), "of another");
    });
    assert!(run.evaluated.is_empty());
    let other = run.evaluation_starts[1].token;
    run.on(|machine, now| machine.useless(now, 1, 1, Some(other), "its loss is NaN"));
    assert_eq!(missing(&run, 0), [(1, "its loss is NaN")]);
}

#[test]
fn a_run_that_is_cancelled_has_no_round_that_was_evaluated_in_part() {
    let mut run = Caller::new(evaluating(2, 3, None));
    run.get_ready(0..2);
    train(&mut run, 1);
    run.evaluate(0, 1).unwrap();
    run.on(|machine, now| machine.cancel(now, "interrupted"));
    assert!(
        run.evaluated.is_empty(),
        "the round is done again on resume"
    );
    assert_eq!(run.reason(), "interrupted");
    assert!(run.evaluate(1, 1).is_err());
}

#[test]
fn the_last_round_is_evaluated_whatever_the_interval() {
    let mut some = evaluating(1, 5, None);
    some.evaluation = some
        .evaluation
        .map(|policy| EvaluationPolicy { every: 2, ..policy });
    let mut run = Caller::new(some);
    run.get_ready([0]);
    for round in 1..=5 {
        train(&mut run, round);
        if [2, 4, 5].contains(&round) {
            assert_eq!(run.machine.state(0), Some(ClientState::Ready));
            run.evaluate(0, round).unwrap();
        }
    }
    assert!(run.succeeded());
    let evaluated = run.evaluated.iter().map(|one| one.evaluations.len());
    assert_eq!(evaluated.collect::<Vec<_>>(), [0, 1, 0, 1, 1]);
}

#[test]
fn a_machine_without_evaluation_finishes_a_round_at_once() {
    let mut run = Caller::new(policy(1, 1));
    run.get_ready([0]);
    train(&mut run, 1);
    assert!(run.evaluators.is_empty() && run.succeeded());
    run.on(Machine::tick);
    assert_eq!(run.evaluated.len(), 1);
}
