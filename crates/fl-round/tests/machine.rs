//! The course of single rounds, event by event, under a clock that does not run by itself.

mod support;

use fl_round::{
    ClientState, Faults, Machine, Note, Phase, Policy, Refused, StartAnswer, Stragglers,
};
use std::collections::BTreeSet;
use support::{Caller, SECOND, policy};

fn set(clients: impl IntoIterator<Item = u32>) -> BTreeSet<u32> {
    clients.into_iter().collect()
}

fn away(clients: impl IntoIterator<Item = u32>) -> Faults {
    Faults {
        away: set(clients),
        ..Faults::default()
    }
}

fn will_fail(clients: impl IntoIterator<Item = u32>) -> Faults {
    Faults {
        will_fail: set(clients),
        ..Faults::default()
    }
}

/// Rounds of all clients that end with `size` updates.
fn buffered(clients: u32, rounds: u32, size: u32, staleness: u32) -> Policy {
    let mut some = policy(clients, rounds);
    some.stragglers = Stragglers::Buffer { size, staleness };
    some
}

/// A run in whose first round everyone is at work.
fn begun(policy: Policy) -> Caller {
    let clients = policy.clients;
    let mut run = Caller::new(policy);
    run.get_ready(0..clients);
    run.take(0..clients);
    run
}

fn later() -> StartAnswer {
    StartAnswer::Later("409 Conflict: busy".into())
}

#[test]
fn a_round_goes_through_its_phases_and_counts_every_update() {
    let mut run = Caller::new(policy(3, 2));
    run.get_ready(0..3);
    for round in 1..=2 {
        run.take(0..3);
        for client in [2, 0, 1] {
            let placed = run.deliver(client, round).unwrap();
            assert!(placed.counts && !placed.late);
        }
        let phases = [Phase::WaitingForReady, Phase::CohortChosen, Phase::Training];
        assert_eq!(run.phases_of(round), phases);
    }
    assert!(run.succeeded());
    assert_eq!(
        [run.updates_of(0), run.updates_of(1)],
        [[0, 1, 2], [0, 1, 2]]
    );
}

#[test]
fn a_client_that_never_delivers_costs_a_round_no_more_than_its_deadline() {
    let mut run = begun(policy(2, 1));
    run.deliver(0, 1).unwrap();
    run.sleep(59 * SECOND);
    assert!(run.closed.is_empty());
    run.sleep(SECOND);
    assert_eq!(run.updates_of(0), [0]);
    assert_eq!(run.failures_of(0), [(1, "no update within 60s")]);
    assert_eq!(run.machine.state(1), Some(ClientState::Suspect));
}

#[test]
fn a_client_that_is_busy_with_the_round_before_is_asked_until_the_deadline() {
    // An answer of round 1 is lost, and TCP needs its time to bring it: longer than six tries.
    let mut run = Caller::new(policy(2, 1));
    run.get_ready(0..2);
    run.take([0]);
    for _ in 0..12 {
        run.answer(1, later());
        run.sleep(2 * SECOND);
    }
    assert_eq!(
        run.phases_of(1).last(),
        Some(&Phase::Training),
        "the round goes on without this answer"
    );
    run.take([1]);
    for client in [0, 1] {
        run.deliver(client, 1).unwrap();
    }
    assert_eq!(run.updates_of(0), [0, 1]);
    assert_eq!(run.started_in(1), [0, 1]);
}

#[test]
fn a_client_that_is_busy_for_the_whole_round_has_failed_it() {
    let mut run = Caller::new(policy(2, 1));
    run.get_ready(0..2);
    run.take([0]);
    run.deliver(0, 1).unwrap();
    while run.closed.is_empty() {
        run.answer(1, later());
        run.sleep(2 * SECOND);
    }
    assert!(run.now <= 60 * SECOND);
    let reason = "/start of round 1: 409 Conflict: busy";
    assert_eq!(run.failures_of(0), [(1, reason)]);
}

#[test]
fn tries_come_at_growing_distances() {
    let mut run = Caller::new(policy(1, 1));
    run.get_ready([0]);
    let mut times = Vec::new();
    for attempt in 1..=9 {
        assert_eq!(run.starts.last().unwrap().attempt, attempt);
        times.push(run.now / 1000);
        run.answer(0, later());
        let due = run.machine.deadline().unwrap();
        run.sleep(due - run.now);
    }
    assert_eq!(times, [0, 50, 150, 350, 750, 1550, 3150, 5150, 7150]);
}

#[test]
fn no_more_starts_are_under_way_than_allowed() {
    let mut few = policy(5, 1);
    few.start.at_once = 2;
    let mut run = Caller::new(few);
    run.get_ready(0..5);
    let sent = |run: &Caller| {
        run.starts
            .iter()
            .map(|start| start.client)
            .collect::<Vec<_>>()
    };
    assert_eq!(sent(&run), [0, 1]);
    run.answer(0, later());
    assert_eq!(sent(&run), [0, 1, 2], "a pause takes no place");
    run.take([1, 2]);
    assert_eq!(sent(&run), [0, 1, 2, 3, 4]);
    assert_eq!(run.phases_of(1).last(), Some(&Phase::CohortChosen));
    run.take([3, 4]);
    run.sleep(SECOND);
    run.take([0]);
    assert_eq!(run.phases_of(1).last(), Some(&Phase::Training));
}

#[test]
fn a_refused_start_fails_its_client_and_leaves_it_there() {
    let mut run = Caller::new(policy(2, 2));
    run.get_ready(0..2);
    run.answer(1, StartAnswer::Refused("507: no memory".into()));
    run.take([0]);
    run.deliver(0, 1).unwrap();
    assert_eq!(
        run.failures_of(0),
        [(1, "/start of round 1: 507: no memory")]
    );
    assert_eq!(run.cohorts.len(), 1, "round 2 waits for it");
    run.on(|machine, now| machine.ready(now, 1));
    assert_eq!(run.cohorts[1], [0, 1]);
}

#[test]
fn an_update_shows_that_its_client_has_begun() {
    let mut run = Caller::new(policy(1, 1));
    run.get_ready([0]);
    run.deliver(0, 1).unwrap();
    let started = Note::Started {
        client: 0,
        round: 1,
    };
    let of_update = |note: &&Note| matches!(note, Note::Started { .. } | Note::Received { .. });
    let told: Vec<_> = run.notes.iter().filter(of_update).collect();
    assert_eq!(told, [&started, &Note::Received { update: 1 }]);
    assert!(run.succeeded());
}

#[test]
fn a_client_that_is_lost_before_its_answer_is_read_has_not_begun() {
    let mut run = Caller::new(policy(2, 1));
    run.get_ready(0..2);
    run.on(|machine, now| machine.lost(now, 1, "killed"));
    run.take([1, 0]);
    assert_eq!(run.started_in(1), [0]);
    run.deliver(0, 1).unwrap();
    assert_eq!(run.failures_of(0), [(1, "killed")]);
}

#[test]
fn a_client_that_joins_anew_has_lost_its_round() {
    let mut run = begun(policy(2, 2));
    run.get_ready([1]);
    let given_up = run.deliver(1, 1).unwrap_err();
    assert!(matches!(given_up, Refused::GivenUp { .. }), "{given_up}");
    run.deliver(0, 1).unwrap();
    let reason = "the device joined anew in the middle of the round";
    assert_eq!(run.failures_of(0), [(1, reason)]);
    assert_eq!(run.cohorts[1], [0, 1]);
}

#[test]
fn those_that_did_not_come_are_waited_for_once() {
    let mut run = Caller::new(policy(3, 50));
    run.get_ready([0]);
    run.on(|machine, now| machine.joined(now, 1));
    run.sleep(60 * SECOND);
    for round in 1..=50 {
        run.take([0]);
        run.deliver(0, round).unwrap();
    }
    assert!(run.succeeded());
    assert_eq!(run.now, 60 * SECOND, "no second wait");
    let lost = Note::Lost {
        client: 2,
        reason: "did not join within 60s".into(),
        comes_back: false,
    };
    assert!(run.notes.contains(&lost));
    assert_eq!(run.machine.state(1), Some(ClientState::Suspect));
    assert!(run.probes.iter().all(|probed| probed == &[1]));
}

#[test]
fn the_wait_counts_from_the_last_that_came_for_the_first_time() {
    let mut run = Caller::new(policy(4, 1));
    for client in [0, 1] {
        run.sleep(50 * SECOND);
        run.get_ready([client]);
    }
    // One that comes again and again is none of those who are still to come.
    run.sleep(30 * SECOND);
    run.get_ready([0]);
    run.sleep(29 * SECOND);
    assert_eq!(run.machine.state(2), Some(ClientState::Absent));
    run.sleep(SECOND);
    assert_eq!(run.machine.state(2), Some(ClientState::Lost));
    assert_eq!(run.now, 160 * SECOND);
}

#[test]
fn a_suspect_that_was_silent_for_long_is_not_asked_before_a_round() {
    let mut run = Caller::new(policy(2, 3));
    run.get_ready(0..2);
    run.on(|machine, now| machine.unheard(now, 1));
    for round in 1..=2 {
        run.take([0]);
        run.deliver(0, round).unwrap();
        if round == 1 {
            run.sleep(60 * SECOND);
        }
    }
    assert!(run.probes.is_empty(), "{:?}", run.probes);
    let silent: Vec<_> = run.machine.silent(run.now).collect();
    assert_eq!(silent, [(1, 60 * SECOND)]);
}

#[test]
fn those_that_come_late_are_in_the_next_round() {
    let mut run = Caller::new(policy(3, 2));
    run.get_ready([0]);
    run.sleep(60 * SECOND);
    run.take([0]);
    run.get_ready([1, 2]);
    run.deliver(0, 1).unwrap();
    assert_eq!(run.cohorts, [vec![0], vec![0, 1, 2]]);
}

#[test]
fn a_lost_client_that_is_expected_back_is_waited_for_unless_it_is_away() {
    for is_away in [false, true] {
        let faults = is_away.then(|| (2, away([1])));
        let mut run = Caller::with_faults(policy(2, 2), faults);
        run.get_ready(0..2);
        run.take(0..2);
        run.on(|machine, now| machine.reboots(now, 1, "reboots"));
        let whole = Note::Lost {
            client: 1,
            reason: "reboots".into(),
            comes_back: true,
        };
        assert!(run.notes.contains(&whole), "one fact in one note");
        assert!(!run.notes.contains(&Note::Expected { client: 1 }));
        run.deliver(0, 1).unwrap();
        assert_eq!(run.cohorts.len(), if is_away { 2 } else { 1 });
        run.get_ready([1]);
        assert_eq!(run.cohorts[1], if is_away { vec![0] } else { vec![0, 1] });
    }
}

#[test]
fn who_is_away_is_neither_chosen_nor_silent() {
    let mut run = Caller::with_faults(policy(2, 2), [(1, away([1]))]);
    run.get_ready(0..2);
    assert_eq!(run.cohorts, [[0]]);
    run.on(|machine, now| machine.unheard(now, 1));
    assert_eq!(run.machine.silent(run.now + SECOND).count(), 0);
    run.take([0]);
    run.deliver(0, 1).unwrap();
    assert_eq!(run.cohorts[1], [0, 1]);
}

#[test]
fn an_update_of_a_client_that_is_to_crash_does_not_count() {
    let mut run = Caller::with_faults(policy(2, 1), [(1, will_fail([1]))]);
    run.get_ready(0..2);
    run.take(0..2);
    let refused = run.deliver(1, 1).unwrap_err();
    assert_eq!(refused.to_string(), "this device fails in round 1");
    run.deliver(0, 1).unwrap();
    assert!(run.closed.is_empty(), "its fault is waited for");
    run.on(|machine, now| machine.lost(now, 1, "crash"));
    assert_eq!(run.failures_of(0), [(1, "crash")]);
}

#[test]
fn a_damaged_update_fails_its_client_which_is_asked_again() {
    let corrupt = Faults {
        corrupt: set([1]),
        ..Faults::default()
    };
    let mut run = Caller::with_faults(policy(2, 2), [(1, corrupt)]);
    run.get_ready(0..2);
    run.take(0..2);
    let token = |client: usize| Some(run.starts[client].token);
    let (of_zero, of_one) = (token(0), token(1));
    assert!(run.machine.is_corrupted(1, 1, of_one));
    assert!(!run.machine.is_corrupted(0, 1, of_zero));
    assert!(!run.machine.is_corrupted(1, 1, of_zero), "forged");
    run.on(|machine, now| machine.gave_up(now, 1, 1, "damaged"));
    run.deliver(0, 1).unwrap();
    assert_eq!(run.failures_of(0), [(1, "damaged")]);
    assert_eq!(run.machine.state(1), Some(ClientState::Fetched));
    assert!(
        run.machine.is_corrupted(1, 1, of_one),
        "also when it is late"
    );
}

#[test]
fn an_update_of_the_round_before_is_not_damaged_by_a_fault_of_this_one() {
    let corrupt = Faults {
        corrupt: set([1]),
        ..Faults::default()
    };
    let mut run = Caller::with_faults(policy(2, 2), [(2, corrupt)]);
    run.get_ready(0..2);
    run.take(0..2);
    let first = run.starts[1].token;
    run.deliver(0, 1).unwrap();
    run.sleep(60 * SECOND);
    run.on(|machine, now| machine.ready(now, 1));
    assert!(!run.machine.is_corrupted(1, 1, Some(first)));
    run.on(|machine, now| machine.gave_up(now, 1, 1, "of the round before"));
    run.take([0]);
    run.deliver(0, 2).unwrap();
    assert!(run.failures_of(0).len() == 1);
}

#[test]
fn an_update_whose_answer_was_lost_is_a_duplicate_also_after_its_round() {
    let mut run = begun(policy(2, 4));
    for round in 1..=3 {
        run.take(0..2);
        for client in 0..2 {
            run.deliver(client, round).unwrap();
        }
        for retried in [round, round] {
            let again = run.deliver(1, retried).unwrap_err();
            assert_eq!(again, Refused::Twice { round });
        }
    }
}

#[test]
fn an_update_in_flight_whose_answer_was_lost_is_a_duplicate() {
    let mut run = begun(buffered(3, 4, 2, 2));
    for client in 0..2 {
        run.deliver(client, 1).unwrap();
    }
    run.take(0..2);
    run.deliver(2, 1).unwrap();
    let again = run.deliver(2, 1).unwrap_err();
    assert_eq!(again, Refused::Twice { round: 1 });
    run.deliver(0, 2).unwrap();
    let again = run.deliver(2, 1).unwrap_err();
    assert_eq!(again, Refused::Twice { round: 1 }, "a round later");
}

#[test]
fn a_useless_update_gives_a_place_up_only_with_its_token() {
    let mut run = begun(policy(2, 1));
    let token = run.starts[1].token;
    run.on(|machine, now| machine.useless(now, 1, 1, Some(token + 1), "forged"));
    run.on(|machine, now| machine.useless(now, 1, 2, Some(token), "of another round"));
    assert_eq!(run.machine.state(1), Some(ClientState::Busy));
    run.on(|machine, now| machine.useless(now, 1, 1, Some(token), "diverged"));
    assert_eq!(run.machine.state(1), Some(ClientState::Ready));
    run.deliver(0, 1).unwrap();
    assert_eq!(run.failures_of(0), [(1, "diverged")]);
}

#[test]
fn updates_that_must_not_count_are_refused_with_a_reason() {
    let mut some = policy(3, 2);
    some.clients_per_round = 2;
    let mut run = Caller::new(some);
    run.get_ready(0..3);
    let cohort = run.cohorts[0].clone();
    let outsider = (0..3).find(|id| !cohort.contains(id)).unwrap();
    let (one, two) = (cohort[0], cohort[1]);
    run.take(cohort);
    let mut refused = |client, round, token| {
        run.deliver_with(client, round, token)
            .unwrap_err()
            .to_string()
    };
    let outside = format!("client {outsider} is not in the cohort of round 1");
    assert_eq!(refused(outsider, 1, None), outside);
    assert_eq!(refused(one, 2, None), "round 2 has not begun");
    assert_eq!(refused(one, 0, None), "round 0 is over");
    let forged = "the token is not that of this /start";
    assert_eq!(refused(one, 1, None), forged);
    let token_of_two = run
        .starts
        .iter()
        .find(|start| start.client == two)
        .unwrap()
        .token;
    let crossed = run.deliver_with(one, 1, Some(token_of_two)).unwrap_err();
    assert_eq!(crossed, Refused::WrongToken);
    run.deliver(one, 1).unwrap();
    let twice = run.deliver(one, 1).unwrap_err().to_string();
    assert_eq!(twice, "the update of round 1 is in already");
    run.deliver(two, 1).unwrap();
    assert_eq!(run.closed[0].updates.len(), 2);
    assert!(run.closed[0].failed.is_empty());
}

#[test]
fn late_updates_are_refused_or_go_into_the_next_round() {
    for stragglers in [Stragglers::Refuse, Stragglers::UseNext] {
        let mut some = policy(2, 2);
        some.stragglers = stragglers;
        let mut run = begun(some);
        run.deliver(0, 1).unwrap();
        run.sleep(60 * SECOND);
        run.take([0]);
        let placed = run.deliver(1, 1).unwrap();
        assert!(placed.late);
        assert_eq!(placed.counts, stragglers == Stragglers::UseNext);
        let again = run.deliver(1, 1).unwrap_err().to_string();
        let expected = match stragglers {
            Stragglers::UseNext => "the update of round 1 is in already",
            _ => "round 1 is over",
        };
        assert_eq!(again, expected, "late, and twice");
        assert_eq!(
            run.machine.state(1),
            Some(ClientState::Ready),
            "it is there after all"
        );
        run.deliver(0, 2).unwrap();
        let late: Vec<_> = run.closed[1].late.iter().map(|one| one.client).collect();
        assert_eq!((run.updates_of(1), late), (vec![0], vec![1]));
    }
}

#[test]
fn a_forged_late_update_does_not_bring_a_suspect_back() {
    let mut run = begun(policy(2, 3));
    run.deliver(0, 1).unwrap();
    run.sleep(60 * SECOND);
    run.deliver_with(1, 1, Some(99)).unwrap_err();
    assert_eq!(run.machine.state(1), Some(ClientState::Suspect));
}

#[test]
fn over_commitment_ends_a_round_with_enough_updates() {
    let mut more = policy(3, 1);
    (more.clients_per_round, more.over_commit) = (2, 1);
    let mut run = begun(more);
    for client in 0..2 {
        run.deliver(client, 1).unwrap();
    }
    let reason = "not waited for: 2 updates were in";
    assert_eq!(run.failures_of(0), [(2, reason)]);
    assert!(run.succeeded());
}

#[test]
fn a_buffered_round_ends_with_its_buffer_and_the_others_count_later() {
    let mut run = begun(buffered(4, 3, 2, 1));
    run.deliver(3, 1).unwrap();
    run.deliver(0, 1).unwrap();
    assert_eq!(run.updates_of(0), [0, 3]);
    assert!(run.failures_of(0).is_empty());
    assert_eq!(run.cohorts[1], [0, 3], "the others still train");
    run.take([0, 3]);
    run.deliver(2, 1).unwrap();
    run.deliver(3, 2).unwrap();
    let arrived: Vec<_> = run.closed[1]
        .updates
        .iter()
        .map(|one| (one.client, one.round))
        .collect();
    assert_eq!(arrived, [(2, 1), (3, 2)]);
    // Client 1 would be two rounds behind in round 3.
    let too_old = "not waited for: its update would be too old";
    assert_eq!(run.failures_of(1), [(1, too_old)]);
    assert_eq!(
        run.deliver(1, 1).unwrap_err().to_string(),
        "round 1 is over"
    );
    assert_eq!(run.cohorts[2], [2, 3], "client 0 still trains for round 2");
}

#[test]
fn a_client_in_flight_that_is_lost_is_told_with_the_next_round() {
    let mut run = begun(buffered(3, 2, 2, 5));
    for client in 0..2 {
        run.deliver(client, 1).unwrap();
    }
    run.on(|machine, now| machine.lost(now, 2, "killed"));
    run.take(0..2);
    for client in 0..2 {
        run.deliver(client, 2).unwrap();
    }
    assert_eq!(run.closed[1].failed[0].round, 1);
    assert_eq!(run.failures_of(1), [(2, "killed")]);
}

#[test]
fn a_buffered_round_waits_for_clients_of_the_round_before() {
    let mut run = begun(buffered(3, 2, 2, 1));
    for client in 0..2 {
        run.deliver(client, 1).unwrap();
    }
    run.take(0..2);
    run.on(|machine, now| machine.lost(now, 0, "killed"));
    run.deliver(1, 2).unwrap();
    assert_eq!(run.closed.len(), 1, "client 2 is on its way");
    run.deliver(2, 1).unwrap();
    assert_eq!(run.updates_of(1), [1, 2]);
}

#[test]
fn an_update_between_two_rounds_is_in_the_buffer_of_the_next() {
    let mut run = begun(buffered(3, 2, 2, 1));
    run.deliver(0, 1).unwrap();
    let of = |client| fl_round::Delivery {
        client,
        round: 1,
        token: Some(u64::from(client) + 1),
        update: 100 + u64::from(client),
        measured: Default::default(),
    };
    // The round is closed by the first and not yet aggregated when the second comes.
    for client in 1..3 {
        run.machine.deliver(run.now, of(client)).unwrap();
    }
    run.on(Machine::tick);
    run.take(0..3);
    run.deliver(0, 2).unwrap();
    assert_eq!(run.updates_of(0), [0, 1]);
    assert_eq!(run.updates_of(1), [0, 2]);
}

#[test]
fn too_few_ready_clients_fail_the_run_with_a_reason() {
    let mut strict = policy(4, 1);
    strict.quorum = 2;
    let mut run = Caller::with_faults(strict, [(1, away([3]))]);
    run.get_ready([0]);
    run.on(|machine, now| machine.lost(now, 2, "died"));
    run.sleep(60 * SECOND);
    let expected = "round 1: 1 of 4 devices are ready, 1 are lost and 1 away on purpose, the quorum \
                    is 2: look at the devices' logs, or lower the quorum";
    assert_eq!(run.reason(), expected);
}

#[test]
fn too_few_updates_fail_the_run_with_a_reason() {
    let mut strict = policy(4, 1);
    strict.quorum = 2;
    let mut run = begun(strict);
    run.deliver(0, 1).unwrap();
    for client in [1, 2] {
        run.on(|machine, now| machine.lost(now, client, "out of smoke"));
    }
    run.sleep(60 * SECOND);
    let expected = "round 1: 1 updates of 4 devices, the quorum is 2: 2 x out of smoke; 1 x no update \
                    within 60s; look at the devices' logs, give a longer --deadline, or lower the quorum";
    assert_eq!(run.reason(), expected);
    assert_eq!(run.closed[0].failure.as_deref(), Some(expected));
    assert_eq!(run.closed[0].failed.len(), 3);
}

#[test]
fn a_quorum_missed_for_other_reasons_than_time_is_told_so() {
    let mut strict = policy(2, 1);
    strict.quorum = 2;
    let mut run = begun(strict);
    run.deliver(0, 1).unwrap();
    run.on(|machine, now| machine.lost(now, 1, "out of smoke"));
    assert!(!run.reason().contains("deadline"), "{}", run.reason());
}

#[test]
fn without_a_client_left_a_run_ends_at_once() {
    let mut run = Caller::new(policy(2, 1));
    for client in 0..2 {
        run.on(|machine, now| machine.lost(now, client, "never booted"));
    }
    assert!(run.reason().contains("2 are lost"), "{}", run.reason());
}

#[test]
fn a_run_is_cancelled_wherever_it_waits() {
    for clients in [0, 1, 2] {
        let mut run = Caller::new(policy(2, 1));
        run.get_ready(0..clients);
        run.on(|machine, now| machine.cancel(now, "interrupted"));
        run.on(|machine, now| machine.cancel(now, "again"));
        assert_eq!(run.reason(), "interrupted");
        run.on(|machine, now| machine.lost(now, 0, "gone"));
        assert!(
            !run.notes
                .iter()
                .any(|note| matches!(note, Note::Lost { .. })),
            "after the end nothing is lost"
        );
    }
}

#[test]
fn a_round_that_is_being_aggregated_is_completed_before_a_cancelled_run_ends() {
    let mut run = Caller::new(policy(1, 2));
    run.get_ready([0]);
    run.take([0]);
    let token = run.starts[0].token;
    let delivery = fl_round::Delivery {
        client: 0,
        round: 1,
        token: Some(token),
        update: 1,
        measured: Default::default(),
    };
    run.machine.deliver(run.now, delivery).unwrap();
    run.machine.cancel(run.now, "interrupted");
    run.on(Machine::tick);
    assert_eq!(run.closed.len(), 1);
    assert_eq!(run.reason(), "interrupted");
}

#[test]
fn a_clock_that_goes_back_stands_still() {
    let mut run = Caller::new(policy(2, 1));
    run.get_ready(0..2);
    run.now = 10 * SECOND;
    run.take(0..2);
    run.now = 0;
    run.deliver(0, 1).unwrap();
    let placed = run.deliver(1, 1).unwrap();
    assert_eq!(placed.round_us, Some(10 * SECOND));
}

#[test]
fn a_resumed_run_goes_on_with_its_round() {
    let mut resumed = policy(2, 5);
    resumed.first_round = 4;
    let mut whole = Caller::new(policy(2, 5));
    let mut run = Caller::new(resumed);
    for (run, rounds) in [(&mut whole, 1..=5), (&mut run, 4..=5)] {
        run.get_ready(0..2);
        for round in rounds {
            run.take(0..2);
            for client in 0..2 {
                run.deliver(client, round).unwrap();
            }
        }
        assert!(run.succeeded());
    }
    assert_eq!(whole.cohorts[3..], run.cohorts[..]);
}

#[test]
fn a_missed_deadline_is_told_to_have_decided() {
    let mut run = begun(policy(3, 2));
    run.deliver(0, 1).unwrap();
    run.deliver(2, 1).unwrap();
    run.sleep(60 * SECOND);
    let decided = run.notes.iter().filter_map(|note| match note {
        Note::TimeDecided(failure) => Some((failure.client, failure.round, &*failure.reason)),
        _ => None,
    });
    assert_eq!(
        decided.collect::<Vec<_>>(),
        [(1, 1, "no update within 60s")]
    );
}

#[test]
fn who_was_known_to_fail_is_waited_for_in_the_next_round() {
    let known = Faults {
        will_fail: [1].into(),
        ..Faults::default()
    };
    let mut run = Caller::with_faults(policy(2, 2), [(1, known)]);
    run.get_ready(0..2);
    run.take([0, 1]);
    run.deliver(0, 1).unwrap();
    assert_eq!(run.deliver(1, 1), Err(Refused::WillFail { round: 1 }));
    // Its freeze outlasts the round.
    run.sleep(60 * SECOND);
    assert_eq!(run.failures_of(0), [(1, "no update within 60s")]);
    assert_eq!(run.cohorts.len(), 1, "the next round waits");
    run.get_ready([1]);
    assert_eq!(run.cohorts[1], [0, 1]);
    let decided = |note: &Note| matches!(note, Note::TimeDecided(_));
    assert!(!run.notes.iter().any(decided), "it was known before");
}

#[test]
fn a_round_in_which_devices_are_held_up_lasts_as_much_longer() {
    let held_up = Faults {
        held_up_us: 30 * SECOND,
        ..Faults::default()
    };
    let mut run = Caller::with_faults(policy(2, 1), [(1, held_up)]);
    run.get_ready(0..2);
    run.take([0, 1]);
    run.deliver(0, 1).unwrap();
    run.sleep(89 * SECOND);
    run.deliver(1, 1).unwrap();
    assert_eq!(run.updates_of(0), [0, 1]);
}
