//! Rounds go on whatever devices do, and come out the same whatever the order of arrival.

mod support;

use fl_proto::DeviceState;
use futures::future::BoxFuture;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use support::{Device, LONG, Reply, Run, config, data, get, num_params, partition, update_of};
use tokio::net::TcpListener;
use zfl_aggregator::{
    ClientRecord, Event, HostCost, Resumed, RoundFaults, RoundHooks, RoundPhase, RoundRecord,
    RunDir, Server, Stragglers, bind,
};

/// Weights of round 0 and what three rounds of the honest devices' training make of them: client `i`
/// has `i + 1` examples and adds an eighth of `i + 1` to every parameter.
fn three_rounds_by_hand(clients: u32) -> Vec<f32> {
    let mut params = config(clients, 1).initial_params();
    let total: f64 = (1..=clients).map(f64::from).sum();
    for _ in 0..3 {
        for param in &mut params {
            let mean = |n: u32| f64::from(n) / total * f64::from(*param + 0.125 * n as f32);
            *param = (1..=clients).map(mean).sum::<f64>() as f32;
        }
    }
    params
}

#[tokio::test]
async fn an_honest_fleet_completes_every_round() {
    let run = Run::start(config(3, 3)).await;
    let devices = run.devices(3).await;
    let devices: Vec<_> = devices.into_iter().map(Device::obey_always).collect();
    let finished = run.finish().await;
    let summary = &finished.summary;
    assert!(summary.success, "{:?}", summary.reason);
    assert_eq!(
        (summary.rounds_completed, summary.client_failures.len()),
        (3, 0)
    );
    assert_eq!(finished.cohorts(), vec![vec![0, 1, 2]; 3]);
    for device in devices {
        assert_eq!(
            device.await.unwrap().stops(),
            1,
            "told once that it is over"
        );
    }

    let expected = three_rounds_by_hand(3);
    assert_eq!(summary.model_sha256, zfl_run_dir::model_sha256(&expected));
    let (params, round) =
        zfl_aggregator::RunDir::read_model(finished.dir.path(), &support::model()).unwrap();
    assert_eq!((params, round), (expected, 3));

    let rows = finished.table(
        "rounds.csv",
        &["round", "cohort_size", "results", "failures", "late"],
    );
    let expected = [["0", "0", "0", "0", "0"], ["1", "3", "3", "0", "0"]];
    assert_eq!(
        rows[..2],
        expected.map(|row| row.map(str::to_owned).to_vec())
    );
    assert_eq!(rows.len(), 4);
    let rows = finished.table(
        "clients.csv",
        &["round", "client", "outcome", "num_examples", "loss"],
    );
    assert_eq!(rows.len(), 9);
    assert_eq!(rows[5], ["2", "2", "received", "3", "0.5"]);
}

#[tokio::test]
async fn every_order_of_arrival_gives_the_same_bits() {
    // With examples 1, 2 and 3 the outer two cancel but for rounding, so that the middle one is lost or
    // kept by the order in which they are added, also in twice the precision. Powers of two, so that they
    // cancel exactly; not so large that nobody would take them for a model.
    let large = 2.0_f32.powi(20);
    let updates = [3.0 * large, 2.0_f32.powi(-40), -large];
    let mut models = BTreeSet::new();
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let run = Run::start(config(3, 1)).await;
        let mut devices = run.devices(3).await;
        for client in order {
            let asked = devices[client].order().await;
            let results = devices[client].results(&asked);
            let params = vec![updates[client]; num_params()];
            let answer = devices[client].post(&update_of(&results, &params)).await;
            assert_eq!(answer.status, 200);
        }
        let finished = run.finish().await;
        models.insert((
            finished.summary.model_sha256,
            finished.summary.rounds_completed,
        ));
    }
    assert_eq!(models.len(), 1, "{models:?}");
}

#[tokio::test]
async fn cohorts_depend_on_the_seed_and_not_on_who_joins_first() {
    let mut some = config(5, 6);
    some.clients_per_round = 2;
    let mut cohorts = Vec::new();
    for joining in [[0, 1, 2, 3, 4], [4, 2, 0, 3, 1]] {
        let run = Run::start(some.clone()).await;
        for client in joining {
            Device::join(run.address, client).await.obey_always();
        }
        cohorts.push(run.finish().await.cohorts());
    }
    assert_eq!(cohorts[0], cohorts[1]);
    assert!(
        cohorts[0]
            .iter()
            .all(|cohort| cohort.len() == 2 && cohort.is_sorted())
    );
    let chosen: BTreeSet<u32> = cohorts[0].iter().flatten().copied().collect();
    assert!(chosen.len() > 2, "not always the same: {cohorts:?}");
}

#[tokio::test]
async fn a_device_killed_in_a_round_does_not_stop_it() {
    let run = Run::start(config(3, 2)).await;
    let mut devices = run.devices(3).await;
    let mut victim = devices.remove(1);
    victim.order().await;
    victim.kill().await;
    run.handle.client_lost(1, "exit status 137");
    for device in devices {
        device.obey_always();
    }
    let finished = run.finish().await;
    assert_eq!(finished.summary.rounds_completed, 2);
    assert_eq!(finished.failures(), [(1, 1, "exit status 137")]);
    assert_eq!(
        finished.cohorts(),
        [vec![0, 1, 2], vec![0, 2]],
        "the dead are not chosen again"
    );
    let lost = |event: &&Event| matches!(event, Event::ClientLost { client: 1, .. });
    assert_eq!(finished.events.iter().filter(lost).count(), 1);
}

#[tokio::test]
async fn a_device_that_never_delivers_costs_a_round_no_more_than_its_deadline() {
    let run = Run::start(config(2, 1)).await;
    let mut devices = run.devices(2).await;
    devices[0].serve().await;
    devices[1].order().await;
    run.pass_deadline().await;
    let finished = run.finish().await;
    assert!(finished.summary.success);
    let [(1, 1, reason)] = finished.failures()[..] else {
        panic!("{:?}", finished.failures())
    };
    assert!(reason.contains("no update within 60s"), "{reason}");
}

#[tokio::test]
async fn a_device_that_never_answers_start_does_not_stop_a_round() {
    let run = Run::start(config(2, 1)).await;
    let mut devices = run.devices(2).await;
    devices[1].answer_next([Reply::Hang, Reply::Hang, Reply::Hang]);
    devices[0].serve().await;
    run.pass_deadline().await;
    let finished = run.finish().await;
    assert!(finished.summary.success);
    assert_eq!(finished.failures().len(), 1);
}

#[tokio::test]
async fn a_device_that_never_becomes_ready_is_left_out_after_the_deadline() {
    let mut run = Run::start(config(2, 1)).await;
    let mut device = Device::join(run.address, 0).await;
    // Takes connections, for the kernel does, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let answer = get(run.address, &format!("/id?client=1&address={address}")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(get(run.address, "/training-labels?id=1").await.status, 200);
    run.until_ready(0).await;
    run.pass_deadline().await;
    device.serve().await;
    let finished = run.finish().await;
    assert_eq!(finished.cohorts(), [[0]]);
    assert!(finished.summary.success);
}

#[tokio::test]
async fn too_few_ready_devices_fail_the_run_with_a_reason() {
    let mut strict = config(3, 1);
    strict.quorum = 2;
    let mut run = Run::start(strict).await;
    let device = Device::join(run.address, 0).await;
    run.until_ready(0).await;
    run.pass_deadline().await;
    let finished = run.finish().await;
    let reason = finished.summary.reason.as_deref().unwrap_or_default();
    assert!(!finished.summary.success);
    assert!(
        reason.contains("1 of 3 devices are ready, 0 are lost and 0 away on purpose")
            && reason.contains("quorum is 2"),
        "{reason}"
    );
    assert_eq!(finished.summary.rounds_completed, 0);
    assert_eq!(device.stops(), 1, "who was there is told all the same");
}

#[tokio::test]
async fn too_few_updates_fail_the_run_with_a_reason() {
    let mut strict = config(2, 2);
    strict.quorum = 2;
    let run = Run::start(strict).await;
    let mut devices = run.devices(2).await;
    devices[0].serve().await;
    devices[1].order().await;
    run.pass_deadline().await;
    let finished = run.finish().await;
    let reason = finished.summary.reason.as_deref().unwrap_or_default();
    assert!(!finished.summary.success);
    assert!(
        reason.contains("1 updates of 2") && reason.contains("--deadline"),
        "{reason}"
    );
    assert_eq!(
        finished.failures().len(),
        1,
        "the failure is told also of a failed round"
    );
}

#[tokio::test]
async fn a_quorum_missed_for_other_reasons_than_time_is_told_so() {
    // The deadline is LONG, and nobody waits for it.
    let mut strict = config(3, 1);
    strict.quorum = 2;
    let run = Run::start(strict).await;
    let mut devices = run.devices(3).await;
    devices[0].serve().await;
    for client in [1, 2] {
        devices[client].order().await;
        run.handle.client_lost(client as u32, "out of smoke");
    }
    let finished = run.finish().await;
    let reason = finished.summary.reason.as_deref().unwrap_or_default();
    assert!(reason.contains("2 x out of smoke"), "{reason}");
    assert!(
        !reason.contains("deadline"),
        "time was not what was missing: {reason}"
    );
}

#[tokio::test]
async fn without_a_device_left_a_run_ends_at_once() {
    // The deadlines are LONG, and `finish` gives up before them.
    let run = Run::start(config(2, 1)).await;
    for client in 0..2 {
        run.handle.client_lost(client, "never booted");
    }
    assert!(!run.finish().await.summary.success);
}

#[tokio::test]
async fn a_run_is_cancelled_while_it_waits() {
    let run = Run::start(config(1, 1)).await;
    run.handle.cancel("interrupted");
    assert_eq!(
        run.finish().await.summary.reason.as_deref(),
        Some("interrupted")
    );

    let run = Run::start(config(1, 1)).await;
    let mut device = Device::join(run.address, 0).await;
    device.order().await;
    run.handle.cancel("interrupted");
    assert_eq!(
        run.finish().await.summary.reason.as_deref(),
        Some("interrupted")
    );
    assert_eq!(device.stops(), 1);
}

#[tokio::test]
async fn a_device_that_says_it_gave_up_is_not_waited_for() {
    let mut asking = config(2, 1);
    asking.progress_interval = Some(Duration::from_millis(20));
    let run = Run::start(asking).await;
    let mut devices = run.devices(2).await;
    devices[1].order().await;
    devices[1].set_state(DeviceState::Failed, 1);
    devices[0].serve().await;
    let finished = run.finish().await;
    let [(1, 1, reason)] = finished.failures()[..] else {
        panic!("{:?}", finished.failures())
    };
    assert!(reason.contains("gave up"), "{reason}");
}

#[tokio::test]
async fn a_device_that_reboots_in_a_round_misses_it_and_is_in_the_next() {
    let run = Run::start(config(2, 2)).await;
    let mut devices = run.devices(2).await;
    let mut old = devices.pop().unwrap();
    let order = old.order().await;
    let stale = old.update(&order);
    old.kill().await;
    let new = Device::join(run.address, 1).await;
    let answer = new.post(&stale).await;
    assert_eq!(
        answer.status,
        410,
        "an update from before the reboot: {}",
        answer.reason()
    );
    new.obey_always();
    devices.pop().unwrap().obey_always();
    let finished = run.finish().await;
    assert_eq!(finished.cohorts(), [[0, 1], [0, 1]]);
    let [(1, 1, reason)] = finished.failures()[..] else {
        panic!("{:?}", finished.failures())
    };
    assert!(reason.contains("joined anew"), "{reason}");
}

#[tokio::test]
async fn a_busy_device_is_asked_again() {
    let run = Run::start(config(1, 1)).await;
    let mut device = Device::join(run.address, 0).await;
    device.answer_next([Reply::Refuse(503), Reply::Refuse(503)]);
    device.serve().await;
    assert!(run.finish().await.summary.success);
}

#[tokio::test]
async fn a_device_whose_answer_to_start_was_lost_has_started() {
    let mut run = Run::start(config(1, 1)).await;
    let mut device = Device::join(run.address, 0).await;
    device.answer_next([Reply::Garble, Reply::Refuse(409)]);
    let order = device.order().await;
    // It refuses the second try, and says in `/ready` that it has begun this round.
    run.until(|event| matches!(event, Event::ClientStarted { .. }).then_some(()))
        .await;
    assert_eq!(device.replies_left(), 0);
    device.post(&device.update(&order)).await;
    let finished = run.finish().await;
    let is_start = |event: &&Event| matches!(event, Event::ClientStarted { .. });
    assert_eq!(finished.events.iter().filter(is_start).count(), 1);
}

#[tokio::test]
async fn a_run_broken_off_in_its_first_round_has_one_row_0() {
    let dir = tempfile::tempdir().unwrap();
    let run_dir = RunDir::create(dir.path()).unwrap();
    let config = config(1, 1);
    let from = Resumed {
        params: config.initial_params(),
        table: vec![RoundRecord::default()],
        ..Resumed::default()
    };
    let server = Server::new(config, data(), partition(1), run_dir).unwrap();
    let server = server.resumed(from).unwrap();
    let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let run = tokio::spawn(server.run(listener));
    Device::join(address, 0).await.obey_always();
    assert!(run.await.unwrap().unwrap().success);
    let rows = std::fs::read_to_string(dir.path().join("rounds.csv")).unwrap();
    let rounds: Vec<_> = rows.lines().map(|row| row.split(',').next()).collect();
    assert_eq!(rounds, [Some("round"), Some("1")], "row 0 is there already");
}

#[tokio::test]
async fn late_updates_are_refused_or_go_into_the_next_round() {
    for stragglers in [Stragglers::Refuse, Stragglers::UseNext] {
        let mut some = config(2, 2);
        some.stragglers = stragglers;
        let mut run = Run::start(some).await;
        let mut devices = run.devices(2).await;
        let late = devices[1].order().await;
        devices[0].serve().await;
        run.pass_deadline().await;
        run.until(|event| matches!(event, Event::RoundStarted { round: 2, .. }).then_some(()))
            .await;
        let answer = devices[1].post(&devices[1].update(&late)).await;
        assert_eq!(
            answer.status,
            if stragglers == Stragglers::UseNext {
                200
            } else {
                410
            }
        );
        let again = devices[1].post(&devices[1].update(&late)).await;
        let expected = match stragglers {
            Stragglers::UseNext => 409,
            _ => 410,
        };
        assert_eq!(again.status, expected, "late, and twice");
        devices[0].serve().await;
        run.pass_deadline().await;
        let finished = run.finish().await;
        let rows = finished.table("rounds.csv", &["results", "late"]);
        assert_eq!(rows[1], ["1", "0"]);
        assert_eq!(rows[2], ["1", "1"], "counted, whether it is used or not");
        let rows = finished.table("clients.csv", &["round", "client", "outcome"]);
        let [one, two, three, _, five] = &rows[..] else {
            panic!("{rows:?}")
        };
        assert_eq!(
            [one, three],
            [&["1", "0", "received"], &["2", "0", "received"]]
        );
        assert_eq!(two[..2], ["1", "1"]);
        assert!(two[2].contains("no update within"), "{two:?}");
        assert_eq!(five, &["1", "1", "late"], "what it paid all the same");
    }
}

/// Client 0 is away in round 1; client 1 fails in round 2; client 2's update is damaged in round 3.
struct Trouble;

impl RoundHooks for Trouble {
    fn before_round(&self, round: u32, _elapsed_s: f64) -> BoxFuture<'_, RoundFaults> {
        let mut faults = RoundFaults::default();
        match round {
            1 => faults.away = BTreeSet::from([0]),
            2 => faults.will_fail = BTreeSet::from([1]),
            _ => faults.corrupt = BTreeSet::from([2]),
        }
        Box::pin(std::future::ready(faults))
    }
}

#[tokio::test]
async fn planned_trouble_happens_as_planned() {
    let run = Run::with_hooks(config(3, 3), Arc::new(Trouble)).await;
    let mut devices = run.devices(3).await;
    for client in [1, 2] {
        devices[client].serve().await;
    }
    let order = devices[1].order().await;
    let answer = devices[1].post(&devices[1].update(&order)).await;
    assert_eq!(answer.status, 410, "faster than its fault, and not counted");
    run.handle.client_lost(1, "crash");
    for client in [0, 2] {
        devices[client].serve().await;
    }
    let order = devices[2].order().await;
    let answer = devices[2].post(&devices[2].update(&order)).await;
    assert_eq!(answer.status, 400, "{}", answer.reason());
    devices[0].serve().await;
    let finished = run.finish().await;
    assert_eq!(finished.cohorts(), [vec![1, 2], vec![0, 1, 2], vec![0, 2]]);
    let [(2, 1, "crash"), (3, 2, damaged)] = finished.failures()[..] else {
        panic!("{:?}", finished.failures())
    };
    assert!(damaged.contains("damaged"), "{damaged}");
}

/// Looks at the run while it measures.
#[derive(Default)]
struct Looks(std::sync::OnceLock<zfl_aggregator::Handle>);

impl RoundHooks for Looks {
    fn before_round(&self, _round: u32, _elapsed_s: f64) -> BoxFuture<'_, RoundFaults> {
        Box::pin(std::future::ready(RoundFaults::default()))
    }

    fn seen(&self, _update: &ClientRecord, _steps: u32) -> Option<HostCost> {
        let deadline = self.0.get()?.deadline_in()?;
        Some(HostCost {
            boot_ms: Some(u64::from(!deadline.is_zero())),
            ..HostCost::default()
        })
    }
}

#[tokio::test]
async fn a_device_is_measured_without_the_lock_of_the_run() {
    let hooks = Arc::new(Looks::default());
    let run = Run::with_hooks(config(1, 1), hooks.clone()).await;
    hooks.0.set(run.handle.clone()).unwrap();
    Device::join(run.address, 0).await.serve().await;
    let finished = run.finish().await;
    assert_eq!(finished.table("clients.csv", &["boot_ms"]), [["1"]]);
}

/// The update of client 1 is damaged in round 2.
struct DamageLater;

impl RoundHooks for DamageLater {
    fn before_round(&self, round: u32, _elapsed_s: f64) -> BoxFuture<'_, RoundFaults> {
        let corrupt = (round == 2).then_some(1).into_iter().collect();
        Box::pin(std::future::ready(RoundFaults {
            corrupt,
            ..RoundFaults::default()
        }))
    }
}

#[tokio::test]
async fn a_late_update_is_not_damaged_by_a_fault_of_the_next_round() {
    let mut some = config(2, 2);
    some.stragglers = Stragglers::UseNext;
    let mut run = Run::with_hooks(some, Arc::new(DamageLater)).await;
    let mut devices = run.devices(2).await;
    let mut old = devices.pop().unwrap();
    let order = old.order().await;
    let late = old.update(&order);
    old.kill().await;
    run.handle.client_lost(1, "reboots");
    let mut device = Device::join(run.address, 1).await;
    run.until_ready(1).await;
    devices[0].serve().await;
    let order = device.order().await;
    let sent = device.post(&late).await;
    assert_eq!(sent.status, 200, "of round 1: {}", sent.reason());
    let sent = device.post(&device.update(&order)).await;
    assert_eq!(sent.status, 400, "of round 2: {}", sent.reason());
    devices[0].serve().await;
    let finished = run.finish().await;
    let rows = finished.table("rounds.csv", &["results", "late"]);
    assert_eq!(rows[2], ["1", "1"]);
    let [(1, 1, "reboots"), (2, 1, damaged)] = finished.failures()[..] else {
        panic!("{:?}", finished.failures())
    };
    assert!(damaged.contains("damaged"), "{damaged}");
}

#[tokio::test]
async fn an_update_that_comes_again_after_its_round_is_in_already() {
    let run = Run::start(config(1, 2)).await;
    let mut device = Device::join(run.address, 0).await;
    let first = device.order().await;
    let update = device.update(&first);
    assert_eq!(device.post(&update).await.status, 200);
    let second = device.order().await;
    // Round 1 is over, and its answer is thought to be lost.
    let again = device.post(&update).await;
    assert_eq!(again.status, 409, "{}", again.reason());
    assert!(again.reason().contains("already"), "{}", again.reason());
    assert_eq!(device.post(&device.update(&second)).await.status, 200);
    assert!(run.finish().await.summary.success);
}

/// A fleet in which client n computes for n seconds and its link takes half a second.
struct Meter;

impl RoundHooks for Meter {
    fn before_round(&self, _round: u32, _elapsed_s: f64) -> BoxFuture<'_, RoundFaults> {
        Box::pin(std::future::ready(RoundFaults::default()))
    }

    fn seen(&self, update: &ClientRecord, _steps: u32) -> Option<HostCost> {
        Some(HostCost {
            boot_ms: Some(40),
            virtual_s: (update.client < 2 || update.round != 2).then_some(update.client.into()),
            link_s: Some(0.5),
            ..HostCost::default()
        })
    }
}

#[tokio::test]
async fn a_round_lasts_as_long_as_its_slowest_device() {
    let run = Run::with_hooks(config(3, 3), Arc::new(Meter)).await;
    for device in run.devices(3).await {
        device.obey_always();
    }
    let finished = run.finish().await;
    let simulated = finished.table("rounds.csv", &["simulated_s", "simulated_elapsed_s"]);
    assert_eq!(simulated[1], ["2.500000", "2.500000"]);
    assert_eq!(simulated[2], ["", ""], "not known of client 2");
    assert_eq!(
        simulated[3],
        ["2.500000", ""],
        "a sum with a part unknown is unknown"
    );
    let clients = finished.table(
        "clients.csv",
        &["client", "boot_ms", "virtual_s", "energy_j"],
    );
    assert_eq!(clients[1], ["1", "40", "1", ""]);
}

#[tokio::test]
async fn a_lost_device_that_is_expected_back_is_waited_for() {
    let mut run = Run::start(config(2, 2)).await;
    let mut devices = run.devices(2).await;
    let mut old = devices.pop().unwrap();
    old.order().await;
    old.kill().await;
    run.handle.client_reboots(1, "reboots");
    devices[0].serve().await;
    run.until(|event| match event {
        Event::PhaseEntered {
            round: 2,
            phase: RoundPhase::WaitingForReady,
        } => Some(()),
        _ => None,
    })
    .await;
    // Round 2 has not begun without it: only now does it come back.
    Device::join(run.address, 1).await.obey_always();
    devices.pop().unwrap().obey_always();
    let finished = run.finish().await;
    assert_eq!(finished.cohorts(), [[0, 1], [0, 1]]);
    assert_eq!(finished.failures(), [(1, 1, "reboots")]);
}

/// Client 1 crashes in round 1 and is away in round 2.
struct AwayAfterCrash;

impl RoundHooks for AwayAfterCrash {
    fn before_round(&self, round: u32, _elapsed_s: f64) -> BoxFuture<'_, RoundFaults> {
        let mut faults = RoundFaults::default();
        match round {
            1 => faults.will_fail = BTreeSet::from([1]),
            2 => faults.away = BTreeSet::from([1]),
            _ => {}
        }
        Box::pin(std::future::ready(faults))
    }
}

#[tokio::test]
async fn a_device_that_is_expected_but_away_is_not_waited_for() {
    let mut run = Run::with_hooks(config(2, 3), Arc::new(AwayAfterCrash)).await;
    let mut devices = run.devices(2).await;
    let mut old = devices.pop().unwrap();
    old.order().await;
    old.kill().await;
    run.handle.client_reboots(1, "crash");
    devices.pop().unwrap().obey_always();
    // It cannot be reached before round 3, and the deadline of `config` is longer than any patience.
    run.until(|event| {
        matches!(event, Event::RoundFinished { record } if record.round == 2).then_some(())
    })
    .await;
    Device::join(run.address, 1).await.obey_always();
    let finished = run.finish().await;
    assert_eq!(finished.cohorts(), [vec![0, 1], vec![0], vec![0, 1]]);
}

#[tokio::test]
async fn over_commitment_ends_a_round_with_enough_updates() {
    let mut more = config(3, 1);
    (more.clients_per_round, more.over_commit) = (2, 1);
    let run = Run::start(more).await;
    let mut devices = run.devices(3).await;
    // The round deadline is LONG, as is the patience of `finish`: who is missing is not waited for.
    devices[2].order().await;
    for device in &mut devices[..2] {
        device.serve().await;
    }
    let finished = run.finish().await;
    assert_eq!(
        finished.table("rounds.csv", &["cohort_size", "results"])[1],
        ["3", "2"]
    );
    let reason = "not waited for: 2 updates were in";
    assert_eq!(finished.failures(), [(1, 2, reason)]);
}

#[tokio::test]
async fn every_start_carries_the_model_and_the_hyper_parameters() {
    let run = Run::start(config(1, 1)).await;
    let mut device = Device::join(run.address, 0).await;
    let order = device.serve().await;
    let expected = config(1, 1);
    assert_eq!(order.params, expected.initial_params());
    assert_eq!(order.params.len(), num_params());
    let start = order.start;
    assert_eq!(
        (start.round, start.local_epochs, start.batch_size),
        (1, 1, 2)
    );
    assert_eq!((start.learning_rate, start.token.len()), (0.5, 16));
    assert!(run.finish().await.summary.success);
}

#[tokio::test]
async fn a_device_that_was_busy_is_asked_until_it_takes_the_start() {
    let run = Run::start(config(1, 1)).await;
    let mut device = Device::join(run.address, 0).await;
    device.answer_next([Reply::Refuse(409), Reply::Refuse(409), Reply::Refuse(409)]);
    // The second 409 is not taken for a lost answer: in `/ready` it has begun no round.
    device.serve().await;
    assert!(run.finish().await.summary.success);
}

#[tokio::test]
async fn a_device_that_failed_once_is_chosen_again_once_it_is_ready() {
    let run = Run::start(config(2, 2)).await;
    let devices = run.devices(2).await;
    devices[1].answer_next([Reply::Refuse(400)]);
    for device in devices {
        device.obey_always();
    }
    let finished = run.finish().await;
    assert_eq!(finished.cohorts(), [[0, 1], [0, 1]]);
    assert_eq!(finished.failures().len(), 1);
}

#[tokio::test]
async fn a_refused_stale_update_leaves_the_client_as_it_was() {
    let mut run = Run::start(config(2, 3)).await;
    let mut devices = run.devices(2).await;
    for device in &mut devices {
        device.serve().await;
    }
    let order = devices[1].order().await;
    devices[0].serve().await;
    // Client 1 stays silent in round 2; someone else posts an old round in its name.
    let mut results = devices[1].results(&order);
    results.round = 1;
    results.token = "forged".try_into().unwrap();
    let forged = update_of(&results, &devices[1].train(&order));
    assert_eq!(devices[1].post(&forged).await.status, 410);
    devices[1].set_state(fl_proto::DeviceState::Training, 2);
    run.pass_deadline().await;
    run.until(|e| matches!(e, Event::RoundStarted { round: 3, .. }).then_some(()))
        .await;
    devices[0].serve().await;
    let cohorts = run.finish().await.cohorts();
    assert_eq!(
        cohorts[2],
        [0],
        "client 1 never answered in round 2, and is not ready"
    );
}

#[tokio::test]
async fn a_device_that_failed_its_last_start_is_told_that_it_is_over() {
    let run = Run::start(config(2, 1)).await;
    let mut devices = run.devices(2).await;
    devices[1].answer_next([Reply::Refuse(400)]);
    devices[0].serve().await;
    run.finish().await;
    assert_eq!(devices[1].stops(), 1);
}

#[tokio::test]
async fn a_failed_round_leaves_its_rows_in_clients_csv() {
    let mut strict = config(2, 1);
    strict.quorum = 2;
    let run = Run::start(strict).await;
    let mut devices = run.devices(2).await;
    devices[0].serve().await;
    devices[1].order().await;
    run.pass_deadline().await;
    assert_eq!(
        run.finish().await.table("clients.csv", &["client"]).len(),
        2
    );
}

#[tokio::test]
async fn cancelling_does_not_wait_for_a_device_that_hangs() {
    let run = Run::start(config(1, 1)).await;
    let device = Device::join(run.address, 0).await;
    device.answer_next([Reply::Hang]);
    while device.replies_left() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    run.handle.cancel("interrupted");
    // The hanging `/start` alone would take half a minute.
    let ended = tokio::time::timeout(LONG / 4, run.finish_unread()).await;
    assert!(ended.is_ok(), "still waits for the answer to /start");
}

#[tokio::test]
async fn a_server_can_be_spawned() {
    let dir = tempfile::tempdir().unwrap();
    let run_dir = RunDir::create(dir.path()).unwrap();
    let partition = partition(1);
    let server = Server::new(config(1, 1), data(), partition, run_dir);
    let server = server.unwrap();
    let handle = server.handle();
    let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let run = tokio::spawn(server.run(listener));
    handle.cancel("enough");
    assert!(!run.await.unwrap().unwrap().success);
}
