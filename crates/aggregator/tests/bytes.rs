//! Bytes are counted as they pass the sockets, and every table has them once.

mod support;

use std::time::Duration;
use support::{Device, Finished, LONG, Run, Wire, config};
use zfl_aggregator::Event;

/// Clients with their wires, all joined.
async fn wired(run: &Run, clients: u32) -> (Vec<Device>, Vec<Wire>) {
    let wires: Vec<Wire> = (0..clients).map(|_| Wire::default()).collect();
    let mut devices = Vec::new();
    for (client, wire) in (0..).zip(&wires) {
        devices.push(Device::join_over(wire, run.address, client).await);
    }
    (devices, wires)
}

/// Waits until the wire has seen so many bytes; the last may still be in its buffers.
async fn seen(wire: &Wire, counted: (u64, u64)) {
    let search = async {
        while wire.bytes() != counted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(LONG / 4, search).await;
    assert!(
        in_time.is_ok(),
        "{counted:?}, on the wire {:?}",
        wire.bytes()
    );
}

/// Numbers of a table: the rows whose first columns are `key`, added up.
fn sum(finished: &Finished, table: &str, key: &[(&str, u32)]) -> (u64, u64) {
    let names: Vec<&str> = key.iter().map(|(name, _)| *name).collect();
    let rows = finished.table(table, &[&names[..], &["bytes_up", "bytes_down"]].concat());
    let wanted: Vec<String> = key.iter().map(|(_, value)| value.to_string()).collect();
    let number = |cell: &String| cell.parse::<u64>().expect("a number");
    rows.iter()
        .filter(|row| row[..key.len()] == wanted[..])
        .fold((0, 0), |sum, row| {
            let (up, down) = (&row[key.len()], &row[key.len() + 1]);
            (sum.0 + number(up), sum.1 + number(down))
        })
}

fn add(a: (u64, u64), b: (u64, u64)) -> (u64, u64) {
    (a.0 + b.0, a.1 + b.1)
}

#[tokio::test]
async fn bytes_are_those_on_the_wire_and_every_table_has_them_once() {
    let run = Run::start(config(2, 3)).await;
    let (devices, wires) = wired(&run, 2).await;
    for device in devices {
        device.obey_always();
    }
    let finished = run.finish().await;
    let mut all = (0, 0);
    for (client, wire) in (0..).zip(&wires) {
        let counted = sum(&finished, "traffic.csv", &[("client", client)]);
        seen(wire, counted).await;
        assert_eq!(finished.handle.traffic(client), Some(counted));
        all = add(all, counted);
        // All that passes between the end of round 1 and that of the last is part of a round.
        for round in 2..=3 {
            let key = [("round", round), ("client", client)];
            let of_round = sum(&finished, "clients.csv", &key);
            assert_eq!(of_round, sum(&finished, "traffic.csv", &key));
            assert!(of_round > (0, 0));
        }
    }
    let summary = (finished.summary.bytes_up, finished.summary.bytes_down);
    assert_eq!(summary, all);
    for round in 0..=3 {
        let key = [("round", round)];
        let of_round = sum(&finished, "traffic.csv", &key);
        assert_eq!(sum(&finished, "rounds.csv", &key), of_round, "{round}");
    }
    // The rest is the goodbye.
    let rest = sum(&finished, "traffic.csv", &[("round", 4)]);
    assert_eq!(add(sum(&finished, "rounds.csv", &[]), rest), summary);
    assert_eq!(finished.handle.traffic(2), None);
}

#[tokio::test]
async fn a_client_that_failed_has_paid_for_its_start() {
    let mut run = Run::start(config(2, 1)).await;
    let wire = Wire::default();
    let mut victim = Device::join_over(&wire, run.address, 1).await;
    run.until(|e| matches!(e, Event::ClientReady { client: 1 }).then_some(()))
        .await;
    let before = run.handle.traffic(1).unwrap();
    seen(&wire, before).await;
    // The round starts now.
    let mut device = Device::join(run.address, 0).await;
    let order = victim.order().await;
    run.until(|e| matches!(e, Event::ClientStarted { client: 1, .. }).then_some(()))
        .await;
    let start = wire.bytes();
    victim.kill().await;
    run.handle.client_lost(1, "crash on purpose");
    device.serve().await;
    let finished = run.finish().await;
    assert_eq!(finished.failures(), [(1, 1, "crash on purpose")]);
    let row = sum(&finished, "clients.csv", &[("client", 1)]);
    assert_eq!(row, (start.0 - before.0, start.1 - before.1));
    assert!(row.1 > 4 * order.params.len() as u64, "the model went down");
}

#[tokio::test]
async fn what_a_failed_round_cost_is_told() {
    let run = Run::start(config(1, 1)).await;
    let (mut devices, wires) = wired(&run, 1).await;
    devices[0].order().await;
    run.pass_deadline().await;
    let finished = run.finish().await;
    assert!(!finished.summary.success);
    let row = sum(&finished, "clients.csv", &[("round", 1), ("client", 0)]);
    assert!(row.0 > 0 && row.1 > 0, "{row:?}");
    let counted = sum(&finished, "traffic.csv", &[("client", 0)]);
    seen(&wires[0], counted).await;
    assert_eq!(
        counted,
        (finished.summary.bytes_up, finished.summary.bytes_down)
    );
}

#[tokio::test]
async fn a_client_that_was_never_chosen_has_paid_for_its_data() {
    let mut one = config(2, 1);
    one.clients_per_round = 1;
    let run = Run::start(one).await;
    let (devices, wires) = wired(&run, 2).await;
    for device in devices {
        device.obey_always();
    }
    let finished = run.finish().await;
    for (client, wire) in (0..).zip(&wires) {
        seen(wire, sum(&finished, "traffic.csv", &[("client", client)])).await;
    }
}

#[tokio::test]
async fn strangers_are_in_no_count() {
    let run = Run::start(config(1, 1)).await;
    let (devices, wires) = wired(&run, 1).await;
    for target in ["/id?client=7", "/training-data?id=7", "/secret"] {
        assert_ne!(support::get(run.address, target).await.status, 200);
    }
    for device in devices {
        device.obey_always();
    }
    let finished = run.finish().await;
    let summary = (finished.summary.bytes_up, finished.summary.bytes_down);
    seen(&wires[0], summary).await;
}

#[tokio::test]
async fn bytes_that_never_left_are_not_counted() {
    // Client 1 is ready and then gone, before client 0 makes the round start.
    let mut run = Run::start(config(2, 1)).await;
    let victim = Device::join(run.address, 1).await;
    run.until(|e| matches!(e, Event::ClientReady { client: 1 }).then_some(()))
        .await;
    victim.kill().await;
    let before = run.handle.traffic(1).unwrap().1;
    let mut device = Device::join(run.address, 0).await;
    device.serve().await;
    // It is asked again and again until somebody says that it is gone.
    run.handle.client_lost(1, "gone");
    let finished = run.finish().await;
    assert_eq!(
        finished.handle.traffic(1).unwrap().1,
        before,
        "its port refused every connection"
    );
}
