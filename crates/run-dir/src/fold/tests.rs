use super::*;
use crate::HostCost;
use crate::metric::Id;
use fl_proto::Cost;
use serde_json::{Value, json};

fn fold(clients: u32) -> Fold {
    let meta = Meta {
        name: "night".into(),
        board: Some("microvm".into()),
        ..Meta::default()
    };
    let mut fold = Fold::new(meta);
    tell(
        &mut fold,
        Event::RunStarted {
            clients,
            rounds: 4,
            attackers: Vec::new(),
            address: "127.0.0.1:80".into(),
        },
    );
    fold.take_changes();
    fold
}

fn at(fold: &mut Fold, time_ms: u64, event: Event) {
    fold.apply(Record {
        time_ms,
        at: String::new(),
        event,
    });
}

fn tell(fold: &mut Fold, event: Event) {
    at(fold, fold.time_ms(), event);
}

/// An event of the fleet, as events.jsonl has it.
fn told(client: Option<u32>, what: &str, detail: Value) -> Event {
    let event = json!({"event": "fleet", "client": client, "what": what, "detail": detail});
    serde_json::from_value(event).unwrap()
}

fn fleet(fold: &mut Fold, client: u32, what: &str, detail: Value) {
    tell(fold, told(Some(client), what, detail));
}

fn state(fold: &Fold, client: u32) -> State {
    fold.device(client).unwrap().state
}

fn now<const N: usize>(device: &Device, metrics: [&str; N]) -> [Option<f64>; N] {
    metrics.map(|name| device.totals.now(Id::of(name)))
}

fn result(round: u32, client: u32) -> Event {
    let cost = Cost {
        train_us: 1500,
        instructions: Some(9),
        heap_peak_bytes: Some(70),
        ..Cost::default()
    };
    let record = ClientRecord {
        round,
        client,
        outcome: "received".into(),
        num_examples: 600,
        loss: Some(0.5),
        round_s: Some(0.25),
        bytes_up: 100,
        bytes_down: 200,
        cost: Some(cost),
        host: None,
        chosen: None,
    };
    Event::ResultReceived { record }
}

fn finished(round: u32, elapsed_s: f64) -> Event {
    let record = RoundRecord {
        round,
        test_accuracy: Some(f64::from(round) / 10.0),
        bytes_up: 10,
        bytes_down: 20,
        round_s: 2.0,
        slowest_train_s: (round > 0).then_some(0.5),
        elapsed_s,
        ..RoundRecord::default()
    };
    Event::RoundFinished { record }
}

#[test]
fn a_device_goes_through_a_round() {
    let mut fold = fold(2);
    assert_eq!(fold.device(0).unwrap().board.as_deref(), Some("microvm"));
    let mut seen = Vec::new();
    let progress = |done_examples| Event::ClientProgress {
        client: 0,
        round: 1,
        done_examples,
        total_examples: 600,
    };
    for event in [
        Event::ClientJoined {
            client: 0,
            address: String::new(),
            again: false,
        },
        Event::ClientReady { client: 0 },
        Event::RoundStarted {
            round: 1,
            cohort: vec![0],
        },
        Event::ClientStarted {
            client: 0,
            round: 1,
        },
        progress(300),
        progress(600),
        result(1, 0),
        Event::RoundStarted {
            round: 2,
            cohort: vec![0],
        },
    ] {
        tell(&mut fold, event);
        seen.push(state(&fold, 0));
    }
    use State::{Done, Joining, Ready, Sending, Training};
    assert_eq!(
        seen,
        [
            Joining, Ready, Ready, Training, Training, Sending, Done, Ready
        ]
    );
    let device = fold.device(0).unwrap();
    assert_eq!(
        now(device, ["train_us", "instructions"]),
        [1500.0, 9.0].map(Some)
    );
    assert_eq!(
        now(device, ["bytes_up", "bytes_down", "bytes"]),
        [100.0, 200.0, 300.0].map(Some)
    );
    assert_eq!((device.round, device.history.len()), (1, 1));
    assert_eq!(state(&fold, 1), Joining);
}

#[test]
fn progress_of_another_round_or_of_a_dead_device_is_old_news() {
    let mut fold = fold(1);
    let progress = Event::ClientProgress {
        client: 0,
        round: 1,
        done_examples: 1,
        total_examples: 9,
    };
    tell(&mut fold, progress.clone());
    assert_eq!(state(&fold, 0), State::Joining);
    tell(
        &mut fold,
        Event::ClientStarted {
            client: 0,
            round: 2,
        },
    );
    tell(&mut fold, progress);
    assert_eq!(fold.device(0).unwrap().done_examples, 0);
}

#[test]
fn a_death_that_two_tell_of_is_one_fault() {
    for first in ["died", "lost"] {
        let mut fold = fold(1);
        let lost = Event::ClientLost {
            client: 0,
            reason: "no answer".into(),
            comes_back: false,
        };
        if first == "lost" {
            tell(&mut fold, lost.clone());
        }
        fleet(
            &mut fold,
            0,
            "died",
            json!({"reason": "page fault", "last_lines": ["oops"]}),
        );
        if first == "died" {
            tell(&mut fold, lost);
        }
        tell(
            &mut fold,
            Event::ClientFailed {
                client: 0,
                round: 1,
                reason: "gone".into(),
            },
        );
        let device = fold.device(0).unwrap();
        assert_eq!(
            (device.state, device.reason.as_deref()),
            (State::Dead, Some("page fault"))
        );
        assert_eq!(device.last_lines, ["oops"]);
        let kinds: Vec<&str> = fold.faults().map(|fault| fault.kind.as_str()).collect();
        assert_eq!(kinds, ["died", "failed"], "{first} first");
    }
}

#[test]
fn the_same_device_can_die_twice() {
    let mut fold = fold(1);
    fleet(&mut fold, 0, "died", json!({"reason": "first"}));
    fleet(&mut fold, 0, "booting", json!({}));
    fleet(&mut fold, 0, "running", json!({"boot_ms": 40}));
    assert_eq!(state(&fold, 0), State::Joining);
    fleet(&mut fold, 0, "died", json!({"reason": "second"}));
    assert_eq!(fold.faults().count(), 2);
    assert_eq!(fold.device(0).unwrap().reason.as_deref(), Some("second"));
    assert_eq!(now(fold.device(0).unwrap(), ["boot_ms"]), [Some(40.0)]);
}

#[test]
fn fleet_events_may_hold_anything() {
    let mut fold = fold(1);
    for detail in [
        Value::Null,
        json!(7),
        json!([]),
        json!({"boot_ms": -1, "reason": 5}),
    ] {
        for what in [
            "booting",
            "running",
            "died",
            "stopped",
            "fault",
            "fault_over",
            "watchdog",
            "stop",
            "?",
        ] {
            fleet(&mut fold, 0, what, detail.clone());
            tell(&mut fold, told(None, what, detail.clone()));
        }
    }
    let kinds: Vec<_> = fold.faults().map(|fault| fault.kind.as_str()).collect();
    assert_eq!(kinds, ["stopped"], "which has nothing to tell");
}

#[test]
fn an_injected_fault_has_its_own_round_and_may_end() {
    let mut fold = fold(2);
    let cut = json!({"fault": "cut", "round": 3, "for_ms": 400});
    let at_ms = |time_ms, what: &str, detail: &Value| Record {
        time_ms,
        at: String::new(),
        event: told(Some(1), what, detail.clone()),
    };
    fold.apply(at_ms(1000, "fault", &cut));
    fold.apply(at_ms(1100, "watchdog", &json!({})));
    fold.take_changes();
    fold.apply(at_ms(1400, "fault_over", &cut));
    assert_eq!(fold.take_changes().faults, BTreeSet::from([0]));
    let faults: Vec<&Fault> = fold.faults().collect();
    let seen = |fault: &Fault| {
        (
            fault.kind.clone(),
            fault.round,
            fault.injected,
            fault.over_s,
        )
    };
    assert_eq!(seen(faults[0]), ("cut".into(), 3, true, Some(1.4)));
    assert_eq!(seen(faults[1]), ("watchdog".into(), 0, false, None));
    assert_eq!(faults[0].reason, "for 400 ms");
    // The end of what never began, or of what nobody knows.
    fold.apply(at_ms(1500, "fault_over", &cut));
    fold.apply(at_ms(1500, "fault_over", &Value::Null));
    assert!(fold.take_changes().faults.is_empty());
}

#[test]
fn what_the_host_saw_is_kept_and_summed_up() {
    let mut fold = fold(2);
    for round in 1..=2 {
        let Event::ResultReceived { mut record } = result(round, 1) else {
            unreachable!()
        };
        record.host = Some(HostCost {
            virtual_s: Some(0.5),
            energy_j: Some(1.5),
            cpu_s: Some(0.25),
            private_bytes: Some(13_000_000),
            link_dropped: Some(3),
            boot_ms: Some(40),
            ..HostCost::default()
        });
        tell(&mut fold, Event::ResultReceived { record });
    }
    tell(&mut fold, result(2, 0));
    let device = fold.device(1).unwrap();
    let names = ["virtual_s", "energy_j", "host_cpu_s", "host_private_bytes"];
    let expected = [0.5, 1.5, 0.5, 13e6].map(Some);
    assert_eq!(now(device, names), expected);
    let names = ["link_dropped", "boot_ms", "link_s"];
    assert_eq!(now(device, names), [Some(6.0), Some(40.0), None]);
    let cpu_s = device.history[1].values.get(Id::of("host_cpu_s"));
    assert_eq!(cpu_s, Some(0.25));
    let energy_j = device.totals.over_rounds(Id::of("energy_j"));
    assert_eq!(energy_j, Some(3.0), "shown is the last, summed are all");
    assert_eq!(fold.run(0).energy_j, Some(3.0));
}

#[test]
fn what_is_counted_since_a_boot_is_summed_over_boots_and_peaks_are_not() {
    let mut fold = fold(2);
    for (round, (again, heap)) in (1..).zip([(1, 60), (2, 90), (1, 50), (1, 55), (14, 70)]) {
        let Event::ResultReceived { mut record } = result(round, 1) else {
            unreachable!()
        };
        let cost = record.cost.as_mut().unwrap();
        (cost.retransmissions, cost.heap_peak_bytes) = (Some(again), Some(heap));
        tell(&mut fold, Event::ResultReceived { record });
    }
    let device = fold.device(1).unwrap();
    assert_eq!(
        now(device, ["retransmissions", "heap_peak_bytes"]),
        [16.0, 90.0].map(Some)
    );
    let again = Id::of("retransmissions");
    let history = device.history.iter().map(|row| row.values.get(again));
    let expected = [1.0, 1.0, 1.0, 0.0, 13.0].map(Some);
    assert_eq!(history.collect::<Vec<_>>(), expected);
}

#[test]
fn devices_of_a_mixed_fleet_are_what_their_groups_are() {
    let config = json!({"fleet": [
        {"name": "cameras", "count": 1, "board": "q35", "link": "wifi", "mips": 168},
        {"name": "meters", "count": 1},
    ]});
    let meta = Meta {
        board: Some("microvm".into()),
        clients: 3,
        config,
        ..Meta::default()
    };
    let fold = Fold::new(meta);
    let told = |client| {
        let device = fold.device(client).unwrap();
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        [text(&device.group), text(&device.board), text(&device.link)]
    };
    assert_eq!(told(0), ["cameras", "q35", "wifi"]);
    assert_eq!(told(1), ["meters", "microvm", ""]);
    assert_eq!(told(2), ["", "microvm", ""]);
    assert_eq!(fold.device(0).unwrap().speed_mips, Some(168.0));
}

#[test]
fn devices_from_elsewhere_are_those_that_have_come() {
    let meta = Meta {
        clients: 100,
        devices_elsewhere: true,
        ..Meta::default()
    };
    let mut fold = Fold::new(meta);
    tell(
        &mut fold,
        Event::RunStarted {
            clients: 100,
            rounds: 4,
            attackers: Vec::new(),
            address: "127.0.0.1:80".into(),
        },
    );
    assert_eq!((fold.run(0).clients, fold.devices().count()), (0, 0));
    tell(&mut fold, Event::ClientReady { client: 7 });
    assert_eq!((fold.run(0).clients, fold.run(0).ready), (1, 1));
    assert_eq!(fold.devices().next().unwrap().client, 7);
}

#[test]
fn a_device_that_is_stopped_after_the_end_has_not_died() {
    let mut fold = fold(2);
    fleet(&mut fold, 0, "stopped", json!({}));
    tell(
        &mut fold,
        Event::RunFinished {
            success: true,
            reason: None,
        },
    );
    fleet(&mut fold, 1, "stopped", json!({}));
    assert_eq!(
        (state(&fold, 0), state(&fold, 1)),
        (State::Dead, State::Joining)
    );
    assert_eq!(fold.state(), RunState::Finished);
}

#[test]
fn rounds_are_summed_up() {
    let mut fold = fold(1);
    at(&mut fold, 1000, finished(0, 1.0));
    at(&mut fold, 3000, finished(1, 3.0));
    at(&mut fold, 5000, finished(2, 5.0));
    let totals: Vec<_> = fold
        .rounds()
        .map(|row| (row.total_bytes, row.device_elapsed_s))
        .collect();
    assert_eq!(totals, [(30, Some(0.0)), (60, Some(0.5)), (90, Some(1.0))]);
    let run = fold.run(6000);
    assert_eq!(
        (run.rounds_completed, run.bytes_up, run.bytes_down),
        (2, 30, 60)
    );
    assert_eq!((run.accuracy, run.best_accuracy), (Some(0.2), Some(0.2)));
    // Two rounds of two seconds to go, one second of the first is over.
    assert_eq!((run.elapsed_s, run.eta_s), (6.0, Some(3.0)));
    tell(
        &mut fold,
        Event::RunFinished {
            success: false,
            reason: Some("quorum".into()),
        },
    );
    let run = fold.run(60_000);
    assert_eq!(
        (run.state, run.reason.as_deref()),
        (RunState::Failed, Some("quorum"))
    );
    assert_eq!((run.elapsed_s, run.eta_s), (5.0, None));
}

#[test]
fn only_what_changed_is_told() {
    let mut fold = fold(3);
    assert_eq!(fold.take_changes(), Changes::default());
    tell(&mut fold, Event::ClientReady { client: 1 });
    tell(&mut fold, Event::ClientReady { client: 1 });
    let changes = fold.take_changes();
    assert_eq!(changes.devices, BTreeSet::from([1]));
    assert!(changes.run && changes.rounds.is_empty() && changes.faults.is_empty());
    assert_eq!(fold.take_changes(), Changes::default());
}

#[test]
fn a_run_that_goes_on_has_each_fault_once_and_no_device_of_before() {
    let mut fold = fold(3);
    let lost = || Event::ClientLost {
        client: 2,
        reason: "page fault".into(),
        comes_back: false,
    };
    tell(&mut fold, lost());
    tell(&mut fold, Event::ClientReady { client: 0 });
    fleet(&mut fold, 1, "booting", json!({}));
    at(&mut fold, 3000, finished(1, 3.0));
    let resumed = Event::RunResumed {
        round: 1,
        lost_s: 0.5,
    };
    for _ in 0..2 {
        at(&mut fold, 3000, resumed.clone());
        tell(&mut fold, lost());
        let states = [0, 1, 2].map(|client| state(&fold, client));
        assert_eq!(states, [State::Joining, State::Joining, State::Dead]);
        let started = Event::RunStarted {
            clients: 3,
            rounds: 4,
            attackers: Vec::new(),
            address: String::new(),
        };
        tell(&mut fold, started);
    }
    let faults: Vec<_> = fold.faults().map(|fault| fault.reason.as_str()).collect();
    assert_eq!(faults, ["page fault"]);
    assert_eq!(fold.run(3000).resumed_from, [1, 1]);
    let reason = fold.device(2).unwrap().reason.as_deref();
    assert_eq!(reason, Some("page fault"));
    // What is lost later is.
    tell(
        &mut fold,
        Event::ClientLost {
            client: 0,
            reason: "r".into(),
            comes_back: false,
        },
    );
    assert_eq!(fold.faults().count(), 2);
}

#[test]
fn absurd_numbers_take_no_memory() {
    let mut fold = fold(1);
    tell(
        &mut fold,
        Event::RunStarted {
            clients: u32::MAX,
            rounds: 1,
            attackers: Vec::new(),
            address: String::new(),
        },
    );
    tell(&mut fold, Event::ClientReady { client: u32::MAX });
    assert_eq!(fold.devices().count(), 2);
    let reason = "ä".repeat(MAX_REASON);
    tell(
        &mut fold,
        Event::ClientFailed {
            client: 0,
            round: 1,
            reason,
        },
    );
    assert!(fold.device(0).unwrap().reason.as_ref().unwrap().len() < MAX_REASON + 8);
}

#[test]
fn an_interrupted_run_may_turn_out_to_go_on() {
    let mut fold = fold(1);
    fold.set_interrupted(true);
    assert_eq!(fold.state(), RunState::Interrupted);
    fold.set_interrupted(false);
    assert_eq!(fold.state(), RunState::Running);
}

#[test]
fn what_was_done_by_hand_is_told_apart_and_once() {
    let mut fold = fold(4);
    let by = |action: &str, fault: &str| json!({"by": "dashboard", "action": action, "fault": fault, "reason": "killed by hand"});
    fleet(&mut fold, 1, "fault", by("kill", "crash"));
    fleet(&mut fold, 1, "stopped", json!({}));
    let reason = "killed by hand".to_owned();
    tell(
        &mut fold,
        Event::ClientLost {
            client: 1,
            reason,
            comes_back: false,
        },
    );
    fleet(&mut fold, 2, "fault", by("freeze", "freeze"));
    fleet(&mut fold, 2, "fault", by("cut", "cut"));
    // The plan's own cut is over, the hand's is not.
    fleet(&mut fold, 2, "fault", json!({"fault": "cut"}));
    fleet(&mut fold, 2, "fault_over", json!({"fault": "cut"}));
    let faults: Vec<_> = fold
        .faults()
        .map(|fault| (fault.kind.as_str(), fault.by.as_deref(), fault.injected))
        .collect();
    let hand = Some("dashboard");
    assert_eq!(
        faults,
        [
            ("crash by hand", hand, false),
            ("freeze by hand", hand, false),
            ("cut by hand", hand, false),
            ("cut", None, true),
        ]
    );
    let one = fold.device(1).unwrap();
    assert_eq!(
        (one.state, one.reason.as_deref()),
        (State::Dead, Some("killed by hand"))
    );
    let two = fold.device(2).unwrap();
    assert_eq!((two.frozen, two.link_cut), (true, true));
    fleet(&mut fold, 2, "fault_over", by("heal", "cut"));
    assert!(fold.fault(2).unwrap().over_s.is_some());
    fleet(&mut fold, 2, "booting", json!({}));
    let two = fold.device(2).unwrap();
    assert_eq!((two.frozen, two.link_cut), (false, false));
    let stop = json!({"by": "dashboard", "action": "stop"});
    tell(&mut fold, told(None, "stop", stop));
    let counts: Vec<_> = fold.run(0).by_hand.into_iter().collect();
    let one = |action: &str| (action.to_owned(), 1);
    assert_eq!(counts, ["cut", "freeze", "heal", "kill", "stop"].map(one));
}

#[test]
fn an_update_that_came_and_was_not_used_is_one_row_that_failed() {
    let mut fold = fold(1);
    tell(&mut fold, result(1, 0));
    let failed = Event::ClientFailed {
        client: 0,
        round: 1,
        reason: "left out".into(),
    };
    tell(&mut fold, failed);
    let device = fold.device(0).unwrap();
    let outcomes: Vec<&str> = device.history.iter().map(|row| row.outcome).collect();
    assert_eq!(outcomes, ["failed"]);
    assert_eq!(device.state, State::Failed);
}
