//! Evaluation on devices over real sockets: what is asked, what counts, what is refused, and what is written.

mod support;

use fl_proto::codec::F32;
use fl_proto::message::{self, CONFUSION, Kind, Outgoing};
use fl_proto::{Cost, Evaluated};
use support::{Device, Order, Run, config, data, get};
use zfl_aggregator::{Config, Evaluation, Event};

/// Two clients of a round, who hold examples 30 to 33 and 34 to 37 out: two of each class.
fn evaluating(rounds: u32) -> Config {
    let set = data().train;
    let two = fl_data::iid(40, &[20, 20], 3).unwrap();
    let (_, holdout) = two.hold_out(&set, 0.2, 3);
    Config {
        evaluation: Some(Evaluation {
            holdout,
            every: 1,
            clients: None,
        }),
        ..config(2, rounds)
    }
}

/// Labels that a client holds out, by class.
fn counts(config: &Config, client: usize) -> [f32; 2] {
    let holdout = &config.evaluation.as_ref().unwrap().holdout;
    let mut counts = [0.0; 2];
    for label in data().train.gather_labels(holdout.indices(client)) {
        counts[usize::from(label)] += 1.0;
    }
    counts
}

/// The answer of a client that recognises all of the first class and nothing of the second.
fn answer(order: &Order, counts: [f32; 2]) -> (Evaluated, Vec<f32>) {
    let evaluated = Evaluated {
        round: order.start.round,
        token: order.start.token.clone(),
        num_evaluated: (counts[0] + counts[1]) as u32,
        loss: 0.5,
        personal_loss: None,
        cost: Cost {
            train_us: 123,
            ..Cost::default()
        },
    };
    (evaluated, vec![counts[0], 0.0, counts[1], 0.0])
}

fn body(control: &impl serde::Serialize, confusion: &[f32]) -> Vec<u8> {
    let section = Outgoing {
        name: CONFUSION,
        codec: &F32,
        plan: fl_proto::codec::Plan::default(),
        numbers: confusion,
    };
    let control = serde_json::to_vec(control).unwrap();
    message::encode(Kind::Results, &control, &[section]).unwrap()
}

/// Devices that have trained, and the orders by which they are to evaluate.
async fn trained(run: &Run) -> (Vec<Device>, Vec<Order>) {
    let mut devices = Vec::new();
    for client in 0..2 {
        devices.push(Device::join_able(run.address, client, "&can=evaluate").await);
    }
    for device in &mut devices {
        device.serve().await;
    }
    let mut orders = Vec::new();
    for device in &mut devices {
        orders.push(device.order().await);
    }
    (devices, orders)
}

#[tokio::test]
async fn what_devices_find_is_written_down_and_the_model_is_the_same() {
    let with = evaluating(1);
    let held = [counts(&with, 0), counts(&with, 1)];
    let run = Run::start(with).await;
    let (devices, orders) = trained(&run).await;
    for ((device, order), counts) in devices.iter().zip(&orders).zip(held) {
        assert!(order.start.evaluate && order.start.round == 1);
        let inputs = get(run.address, &format!("/training-data?id={}", device.id)).await;
        assert_eq!(inputs.body.len(), 4 * (device.num_examples as usize + 4));
        let (evaluated, confusion) = answer(order, counts);
        let sent = body(&evaluated, &confusion);
        assert_eq!(device.post(&sent).await.status, 200);
        assert_ne!(device.post(&sent).await.status, 200, "once");
    }
    let done = run.finish().await;
    assert!(done.summary.success, "{:?}", done.summary.reason);
    let columns = ["client", "outcome", "num_evaluated", "correct", "loss"];
    let rows = done.table("evaluations.csv", &columns);
    for (client, row) in rows.iter().enumerate() {
        let correct = held[client][0].to_string();
        assert_eq!(
            row[..],
            [&*client.to_string(), "received", "4", &correct, "0.5"]
        );
    }
    let total: f32 = held.iter().map(|counts| counts[0]).sum();
    let weighted = done.table("rounds.csv", &["device_accuracy_weighted_mean"]);
    assert_eq!(weighted[1][0], (f64::from(total) / 8.0).to_string());
    let told = done.events.iter().find_map(|event| match event {
        Event::DevicesEvaluated { record } => Some(record),
        _ => None,
    });
    let confusion = &told.unwrap().global.confusion;
    assert_eq!(confusion.taken_for[0][0], total as u32);
    assert_eq!(confusion.taken_for[1], [8 - total as u32, 0]);
    let classes = |event: &Event| matches!(event, Event::ClassesTested { confusion, .. } if confusion.counts == [4, 4]);
    assert!(done.events.iter().any(classes), "of the test set");

    let without = Run::start(config(2, 1)).await;
    let mut devices = without.devices(2).await;
    for device in &mut devices {
        device.serve().await;
    }
    let without = without.finish().await;
    assert_eq!(without.summary.model_sha256, done.summary.model_sha256);
    assert!(!without.dir.path().join("evaluations.csv").exists());
}

#[tokio::test]
async fn what_cannot_be_of_the_examples_held_out_is_refused_counted_and_waited_for_no_more() {
    let with = evaluating(1);
    let held = [counts(&with, 0), counts(&with, 1)];
    let run = Run::start(with).await;
    let (devices, orders) = trained(&run).await;
    let (honest, confusion) = answer(&orders[0], held[0]);
    // Lies about somebody else's order change nothing.
    let foreign = Evaluated {
        token: orders[1].start.token.clone(),
        ..honest.clone()
    };
    assert_eq!(
        devices[0].post(&body(&foreign, &confusion)).await.status,
        403
    );
    let (other, of_other) = answer(&orders[1], held[1]);
    let more = [held[1][0] + 1.0, 0.0, held[1][1], 0.0];
    let fractions = [held[1][0] - 0.5, 0.5, held[1][1], 0.0];
    let negative = [held[1][0] + 1.0, -1.0, held[1][1], 0.0];
    let nan = [f32::NAN, 0.0, held[1][1], 0.0];
    let lies: Vec<(&str, Vec<u8>)> = vec![
        ("more right than there are", body(&other, &more)),
        ("halves", body(&other, &fractions)),
        ("less than none", body(&other, &negative)),
        ("no number", body(&other, &nan)),
        ("classes that are none", body(&other, &[1.0; 9])),
    ];
    let statuses: Vec<u16> = {
        let mut statuses = Vec::new();
        for (what, lie) in &lies {
            let answer = devices[1].post(lie).await;
            assert!(
                [400, 410].contains(&answer.status),
                "{what}: {}",
                answer.status
            );
            statuses.push(answer.status);
        }
        statuses
    };
    assert_eq!(statuses[0], 400);
    assert_eq!(
        devices[1].post(&body(&other, &of_other)).await.status,
        410,
        "given up"
    );
    assert_eq!(
        devices[0].post(&body(&honest, &confusion)).await.status,
        200
    );
    let done = run.finish().await;
    assert!(done.summary.success);
    let rows = done.table("evaluations.csv", &["client", "outcome"]);
    assert_eq!(rows[0][1], "received");
    assert!(rows[1][1].contains("this evaluation cannot be"), "{rows:?}");
    assert_eq!(done.table("rounds.csv", &["devices_evaluated"])[1], ["1"]);
    let rejected = done.table("rounds.csv", &["rejected"]);
    assert_eq!(rejected[1][0], (lies.len() + 2).to_string());
}

#[tokio::test]
async fn a_loss_that_is_no_number_is_refused_and_waited_for_no_more() {
    let with = evaluating(1);
    let held = counts(&with, 1);
    let run = Run::start(with).await;
    let (devices, orders) = trained(&run).await;
    for (device, order) in devices.iter().zip(&orders) {
        let (evaluated, confusion) = answer(order, held);
        let mut control = serde_json::to_value(&evaluated).unwrap();
        control["loss"] = serde_json::Value::Null;
        assert_eq!(device.post(&body(&control, &confusion)).await.status, 422);
    }
    let done = run.finish().await;
    assert!(done.summary.success);
    assert_eq!(done.table("rounds.csv", &["devices_evaluated"])[1], ["0"]);
}

#[tokio::test]
async fn a_device_that_cannot_evaluate_gets_no_examples_for_it_and_is_left_out() {
    let with = evaluating(1);
    let held = counts(&with, 1);
    let run = Run::start(with).await;
    let mut old = Device::join(run.address, 0).await;
    let inputs = get(run.address, "/training-data?id=0").await;
    assert_eq!(inputs.body.len(), 4 * old.num_examples as usize);
    let mut new = Device::join_able(run.address, 1, "&can=evaluate").await;
    old.serve().await;
    new.serve().await;
    let order = new.order().await;
    let (evaluated, confusion) = answer(&order, held);
    assert_eq!(new.post(&body(&evaluated, &confusion)).await.status, 200);
    let done = run.finish().await;
    let rows = done.table("evaluations.csv", &["outcome"]);
    assert!(rows[0][0].contains("cannot evaluate"), "{rows:?}");
    assert_eq!(rows[1][0], "received");
}

#[tokio::test]
async fn who_does_not_answer_is_missing_and_the_run_goes_on() {
    let with = evaluating(2);
    let held = counts(&with, 0);
    let run = Run::start(with).await;
    let (mut devices, orders) = trained(&run).await;
    let (evaluated, confusion) = answer(&orders[0], held);
    assert_eq!(
        devices[0].post(&body(&evaluated, &confusion)).await.status,
        200
    );
    run.pass_deadline().await;
    for device in &mut devices {
        device.serve().await;
    }
    // Neither of them in the second round.
    for device in &mut devices {
        device.order().await;
    }
    run.pass_deadline().await;
    let done = run.finish().await;
    assert!(done.summary.success && done.failures().is_empty());
    assert!(done.summary.depends_on_time.is_empty());
    let outcomes = done.table("evaluations.csv", &["round", "client", "outcome"]);
    let missing = outcomes
        .iter()
        .filter(|row| row[2].contains("no evaluation within"));
    assert_eq!(missing.count(), 3);
}
