//! Updates in the order of simulated time: the order in which they really come changes nothing.

mod support;

use fl_rng::{Pcg32, Purpose};
use fl_round::{Closed, Faults, Memory, Order, Policy, Selection, StartAnswer, Stragglers};
use std::collections::BTreeMap;
use support::{Caller, SECOND, policy};

/// Rounds in which `wanted` of `at_once` clients count.
fn buffered(clients: u32, rounds: u32, at_once: u32, size: u32, staleness: u32) -> Policy {
    let mut some = policy(clients, rounds);
    some.clients_per_round = at_once;
    some.stragglers = Stragglers::Buffer { size, staleness };
    some.order = Order::Simulated;
    some
}

/// Clients and rounds of the updates that count in a round.
fn counted(closed: &Closed) -> Vec<(u32, u32)> {
    let updates = closed.updates.iter();
    updates.map(|one| (one.client, one.round)).collect()
}

#[test]
fn the_first_by_simulated_time_count_and_the_others_stay_under_way() {
    let mut run = Caller::new(buffered(3, 3, 3, 1, 9));
    run.get_ready(0..3);
    run.take(0..3);
    // The slowest comes first, and nothing is over before the last is in.
    run.deliver_after(2, 1, 30 * SECOND);
    run.deliver_after(0, 1, 10 * SECOND);
    assert!(run.closed.is_empty());
    run.deliver_after(1, 1, 12 * SECOND);
    assert_eq!(counted(&run.closed[0]), [(0, 1)]);
    assert_eq!(run.closed[0].simulated_us, Some(10 * SECOND));
    // Only client 0 is free. It begins at 10 s and would be done at 20 s: client 1 is before it.
    assert_eq!(run.cohorts[1], [0]);
    run.take([0]);
    run.deliver_after(0, 2, 10 * SECOND);
    assert_eq!(counted(&run.closed[1]), [(1, 1)]);
    assert_eq!(run.closed[1].simulated_us, Some(2 * SECOND));
    // Client 1 begins at 12 s and takes 18 s: like client 2 it is done at 30 s, client 0 at 20 s.
    assert_eq!(run.cohorts[2], [1]);
    run.take([1]);
    run.deliver_after(1, 3, 18 * SECOND);
    assert_eq!(counted(&run.closed[2]), [(0, 2)]);
    let left = run.machine.memory().under_way.iter();
    let left: Vec<_> = left.map(|one| (one.arrival.client, one.done_us)).collect();
    assert_eq!(left, [(1, 30 * SECOND), (2, 30 * SECOND)]);
}

#[test]
fn an_update_that_is_too_old_by_simulated_time_fails_its_client() {
    let mut run = Caller::new(buffered(2, 3, 2, 1, 1));
    run.get_ready(0..2);
    run.take(0..2);
    run.deliver_after(1, 1, 100 * SECOND);
    run.deliver_after(0, 1, SECOND);
    run.take([0]);
    run.deliver_after(0, 2, SECOND);
    // In round 3 it would be two rounds old.
    let reason = "not waited for: its update would be too old";
    assert_eq!(run.failures_of(1), [(1, reason)]);
    assert_eq!(run.closed[1].unused.len(), 1);
    assert_eq!(run.cohorts[2], [0, 1], "it may be chosen again");
}

#[test]
fn over_commitment_by_simulated_time_takes_the_fastest() {
    let mut some = policy(3, 1);
    (some.clients_per_round, some.over_commit) = (2, 1);
    some.order = Order::Simulated;
    let mut run = Caller::new(some);
    run.get_ready(0..3);
    run.take(0..3);
    run.deliver_after(0, 1, 9 * SECOND);
    run.deliver_after(1, 1, 7 * SECOND);
    run.deliver_after(2, 1, 8 * SECOND);
    assert_eq!(run.updates_of(0), [1, 2]);
    assert_eq!(
        run.failures_of(0),
        [(0, "not waited for: 2 updates were in")]
    );
    assert_eq!(run.closed[0].simulated_us, Some(8 * SECOND));
}

#[test]
fn a_client_that_is_held_up_is_done_as_much_later() {
    let held_up = Faults {
        held_up: [(0, 5 * SECOND)].into(),
        ..Faults::default()
    };
    let mut some = buffered(2, 1, 2, 1, 9);
    some.quorum = 1;
    let mut run = Caller::with_faults(some, [(1, held_up)]);
    run.get_ready(0..2);
    run.take(0..2);
    run.deliver_after(0, 1, 6 * SECOND);
    run.deliver_after(1, 1, 10 * SECOND);
    assert_eq!(run.updates_of(0), [1]);
}

/// A trace of a run: cohorts, updates that count, and durations of its rounds.
type Trace = Vec<(Vec<u32>, Vec<(u32, u32)>, Option<u64>)>;

/// Runs to the end in an order that `order` decides; returns the trace, and the state after each round.
fn run(
    policy: &Policy,
    selection: Selection,
    from: Option<Memory>,
    order: u64,
) -> (Trace, Vec<Memory>) {
    let mut rng = Pcg32::new(Purpose::ExampleOrder, order);
    let mut faults = BTreeMap::new();
    for round in 1..=policy.last_round {
        let mut draws = Pcg32::for_round(Purpose::SelfTest, policy.seed, round);
        let mut of = Faults::default();
        of.away.insert(draws.below(policy.clients));
        of.will_fail.insert(draws.below(policy.clients));
        of.held_up.insert(draws.below(policy.clients), SECOND);
        faults.insert(round, of);
    }
    let mut run = Caller::selecting(policy.clone(), selection, from, faults.clone());
    let mut joining: Vec<u32> = (0..policy.clients).collect();
    rng.shuffle(&mut joining);
    run.get_ready(joining);
    for round in policy.first_round..=policy.last_round {
        let at = (round - policy.first_round) as usize;
        let mut cohort = run.cohorts[at].clone();
        rng.shuffle(&mut cohort);
        let mut crashed = Vec::new();
        for client in cohort {
            if rng.below(2) == 0 {
                run.answer(client, StartAnswer::Taken);
            }
            if faults[&round].will_fail.contains(&client) {
                run.machine.lost(run.now, client, "crash");
                run.on(|machine, now| machine.expected(now, client));
                crashed.push(client);
            } else {
                let mut draws = Pcg32::for_round(Purpose::SelfTest, u64::from(client), round);
                let took = u64::from(1 + client * client + draws.below(3)) * SECOND;
                run.deliver_after(client, round, took);
            }
            run.sleep(u64::from(rng.below(1000)));
        }
        rng.shuffle(&mut crashed);
        run.get_ready(crashed);
    }
    assert!(run.succeeded(), "{:?}", run.ended);
    let rounds = run.cohorts.iter().zip(&run.closed);
    let trace =
        rounds.map(|(cohort, closed)| (cohort.clone(), counted(closed), closed.simulated_us));
    (trace.collect(), run.memories)
}

#[test]
fn neither_order_of_arrival_nor_a_resume_changes_a_trace() {
    let selections: Vec<Selection> = Selection::all().collect();
    let mut stale = 0;
    for seed in 0..60 {
        let mut rng = Pcg32::new(Purpose::SelfTest, seed);
        let clients = 6 + rng.below(8);
        let at_once = 3 + rng.below(3);
        let mut some = buffered(
            clients,
            8,
            at_once,
            1 + rng.below(at_once),
            2 + rng.below(8),
        );
        some.seed = seed;
        some.round_deadline_us = 10_000 * SECOND;
        some.ready_deadline_us = 10_000 * SECOND;
        let mut selection = selections[rng.below(selections.len() as u32) as usize];
        // Those with windows have all clients in them most of the time: the quorum is no matter here.
        let _ = selection.set("share", 1.0);
        let (one, memories) = run(&some, selection, None, 0);
        for (at, (_, counted, _)) in one.iter().enumerate() {
            let old = counted.iter().filter(|(_, round)| *round < at as u32 + 1);
            stale += old.count();
        }
        for order in 1..4 {
            let (other, _) = run(&some, selection, None, order);
            assert_eq!(one, other, "seed {seed}, {selection:?}");
        }
        let after = 1 + rng.below(7);
        some.first_round = after + 1;
        let from = memories[after as usize - 1].clone();
        let (rest, _) = run(&some, selection, Some(from), 9);
        assert_eq!(
            one[after as usize..],
            rest,
            "seed {seed} after {after}, {selection:?}"
        );
    }
    assert!(stale > 100, "{stale} updates were stale");
}
