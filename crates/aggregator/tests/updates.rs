//! Updates that must not count: each is refused with a reason, logged, and changes nothing else.

mod support;

use fl_proto::message::{HEAD_LEN, Kind, MODEL};
use fl_proto::{JSON, OCTET_STREAM, json_form, wire_len};
use support::{Device, Order, Run, config, get, message_of, num_params, post, update_of};
use zfl_aggregator::Event;

/// Lets the other devices deliver, and the run end.
async fn complete(run: Run, devices: &mut [Device]) -> support::Finished {
    for device in devices {
        device.serve().await;
    }
    run.finish().await
}

/// The model that two honest devices make in one round.
async fn honest_model() -> String {
    let run = Run::start(config(2, 1)).await;
    let mut devices = run.devices(2).await;
    complete(run, &mut devices).await.summary.model_sha256
}

/// The body of an honest update with one thing changed in its results.
fn with_results(
    device: &Device,
    order: &Order,
    change: impl Fn(&mut fl_proto::Results),
) -> Vec<u8> {
    let mut results = device.results(order);
    change(&mut results);
    update_of(&results, &device.train(order))
}

/// An update in the JSON form.
fn json_of(control: &[u8], params: &[f32]) -> Vec<u8> {
    let sections = json_form::encode_sections(&[(MODEL, params)]).unwrap();
    json_form::encode(control, &sections).unwrap()
}

fn with_param(device: &Device, order: &Order, value: f32) -> Vec<u8> {
    let mut params = device.train(order);
    params[num_params() / 2] = value;
    update_of(&device.results(order), &params)
}

/// Bodies that are no update, the status each gets, and a word of the reason.
fn bad_bodies(device: &Device, order: &Order) -> Vec<(&'static str, Vec<u8>, u16, &'static str)> {
    let good = device.update(order);
    let params = device.train(order);
    let results = device.results(order);
    let control = serde_json::to_vec(&results).unwrap();
    let flipped = {
        let mut body = good.clone();
        *body.last_mut().unwrap() ^= 1;
        body
    };
    let longer = [&params[..], &[0.0]].concat();
    let shorter = &params[1..];
    vec![
        (
            "one parameter too many",
            update_of(&results, &longer),
            400,
            "parameters",
        ),
        (
            "one parameter too few",
            update_of(&results, shorter),
            400,
            "parameters",
        ),
        ("no parameters", update_of(&results, &[]), 400, "parameters"),
        (
            "a later round",
            with_results(device, order, |r| r.round += 1),
            409,
            "not begun",
        ),
        (
            "an earlier round",
            with_results(device, order, |r| r.round -= 1),
            410,
            "over",
        ),
        (
            "a guessed token",
            with_results(device, order, |r| {
                r.token = "0123456789abcdef".try_into().unwrap()
            }),
            403,
            "token",
        ),
        (
            "too many examples",
            with_results(device, order, |r| r.num_examples += 1),
            400,
            "examples",
        ),
        (
            "all the weight there is",
            with_results(device, order, |r| r.num_examples = u32::MAX),
            400,
            "examples",
        ),
        ("a flipped bit", flipped, 400, "CRC"),
        (
            "a cut body",
            good[..good.len() - 1].to_vec(),
            400,
            "cut off",
        ),
        ("a cut head", good[..HEAD_LEN - 1].to_vec(), 400, "cut off"),
        ("an empty body", Vec::new(), 400, "cut off"),
        (
            "a byte behind",
            [&good[..], &[0]].concat(),
            400,
            "behind the last section",
        ),
        (
            "another magic",
            [b"zip!", &good[4..]].concat(),
            400,
            "magic",
        ),
        (
            "a start",
            message_of(Kind::Start, &control, &params),
            400,
            "/start",
        ),
        (
            "no sections",
            fl_proto::message::encode(Kind::Results, &control, &[]).unwrap(),
            400,
            "model is missing",
        ),
        (
            "control that is no JSON",
            message_of(Kind::Results, b"{\"round\":", &params),
            400,
            "control",
        ),
        (
            "control without fields",
            message_of(Kind::Results, b"{}", &params),
            400,
            "control",
        ),
    ]
}

#[tokio::test]
async fn bad_updates_are_refused_and_change_nothing() {
    let mut run = Run::start(config(2, 1)).await;
    let mut devices = run.devices(2).await;
    let order = devices[0].order().await;
    let cases = bad_bodies(&devices[0], &order);
    for (name, body, status, word) in &cases {
        let answer = devices[0].post(body).await;
        assert_eq!(answer.status, *status, "{name}: {}", answer.reason());
        assert!(
            answer.reason().contains(word),
            "{name}: {}",
            answer.reason()
        );
        let (client, logged, reason) = run
            .until(|event| match event {
                Event::ResultRejected {
                    client,
                    status,
                    reason,
                    ..
                } => Some((*client, *status, reason.clone())),
                _ => None,
            })
            .await;
        assert_eq!((client, logged), (Some(0), *status), "{name}: {reason}");
    }
    // After all of that, the device may still deliver, and the model is what it would have been.
    assert_eq!(
        devices[0].post(&devices[0].update(&order)).await.status,
        200
    );
    let finished = complete(run, &mut devices[1..]).await;
    assert!(finished.summary.success, "{:?}", finished.summary.reason);
    assert_eq!(finished.summary.model_sha256, honest_model().await);
    let rows = finished.table("rounds.csv", &["round", "results", "failures", "rejected"]);
    assert_eq!(rows[1], ["1", "2", "0", &cases.len().to_string()]);
}

#[tokio::test]
async fn an_update_that_is_not_finite_is_refused_and_its_client_not_waited_for() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        // The deadline is one that only a hang would reach.
        let run = Run::start(config(2, 1)).await;
        let mut devices = run.devices(2).await;
        let order = devices[0].order().await;
        let forged = {
            let mut results = devices[0].results(&order);
            results.token = "forged".try_into().unwrap();
            let params = vec![value; num_params()];
            update_of(&results, &params)
        };
        assert_eq!(devices[0].post(&forged).await.status, 422);
        devices[1].serve().await;
        let answer = devices[0]
            .post(&with_param(&devices[0], &order, value))
            .await;
        assert_eq!(
            (answer.status, answer.reason().contains("not finite")),
            (422, true)
        );
        let finished = run.finish().await;
        assert!(finished.summary.success);
        let [(1, 0, reason)] = finished.failures()[..] else {
            panic!("{:?}", finished.failures())
        };
        assert!(reason.contains("not finite"), "{reason}");
        assert!(finished.summary.final_loss.unwrap().is_finite());
    }
}

#[tokio::test]
async fn a_loss_that_is_not_finite_is_refused_and_its_client_not_waited_for() {
    // NaN is written as null; the deadline is one that only a hang would reach.
    for (loss, in_json) in [("1e39", false), ("null", true), ("-1e400", false)] {
        let run = Run::start(config(2, 1)).await;
        let mut devices = run.devices(2).await;
        let order = devices[0].order().await;
        let body = |token: &str, loss: &str| {
            let mut results = devices[0].results(&order);
            results.token = token.try_into().unwrap();
            let control = serde_json::to_string(&results).unwrap();
            let control = control.replace("\"loss\":0.5", loss);
            let params = devices[0].train(&order);
            match in_json {
                true => (JSON, json_of(control.as_bytes(), &params)),
                false => {
                    let body = message_of(Kind::Results, control.as_bytes(), &params);
                    (OCTET_STREAM, body)
                }
            }
        };
        let loss = format!("\"loss\":{loss}");
        let token = order.start.token.as_str();
        // Neither of the first two gives the place up: one is not of this round, one has no loss.
        for (token, loss, status) in [
            ("forged", loss.as_str(), 422),
            (token, "\"win\":1", 400),
            (token, loss.as_str(), 422),
            (token, "\"loss\":0.5", 410),
        ] {
            let (media_type, body) = body(token, loss);
            let answer = post(run.address, "/results?id=0", media_type, &body).await;
            assert_eq!(answer.status, status, "{loss}: {}", answer.reason());
        }
        devices[1].serve().await;
        let finished = run.finish().await;
        assert!(finished.summary.success);
        let [(1, 0, reason)] = finished.failures()[..] else {
            panic!("{:?}", finished.failures())
        };
        assert!(reason.contains("loss is not finite"), "{reason}");
    }
}

#[tokio::test]
async fn an_update_that_is_finite_and_useless_is_refused_and_harms_nobody() {
    let run = Run::start(config(3, 1)).await;
    let mut devices = run.devices(3).await;
    let order = devices[0].order().await;
    // As sure as can be of the class that its only example is not of.
    let labels = get(run.address, "/training-labels?id=0").await.body;
    let of_last_layer = num_params() - 3 * 2 - 2;
    let param = |at: usize| match at.checked_sub(of_last_layer) {
        Some(at) if at % 2 == usize::from(labels[0]) => -1e8,
        _ => 1e8,
    };
    let params: Vec<f32> = (0..num_params()).map(param).collect();
    let useless = update_of(&devices[0].results(&order), &params);
    let answer = devices[0].post(&useless).await;
    assert_eq!(answer.status, 422, "{}", answer.reason());
    for device in &mut devices[1..] {
        device.serve().await;
    }
    let finished = run.finish().await;
    assert!(finished.summary.success);
    let [(1, 0, reason)] = finished.failures()[..] else {
        panic!("{:?}", finished.failures())
    };
    assert!(reason.contains("no usable loss"), "{reason}");
}

#[tokio::test]
async fn an_update_counts_once() {
    let run = Run::start(config(2, 1)).await;
    let mut devices = run.devices(2).await;
    let order = devices[0].order().await;
    let update = devices[0].update(&order);
    assert_eq!(devices[0].post(&update).await.status, 200);
    let again = devices[0].post(&update).await;
    assert_eq!(
        (again.status, again.reason().contains("already")),
        (409, true)
    );
    let finished = complete(run, &mut devices[1..]).await;
    assert_eq!(finished.summary.model_sha256, honest_model().await);
}

#[tokio::test]
async fn of_posts_at_once_one_counts() {
    let run = Run::start(config(2, 1)).await;
    let mut devices = run.devices(2).await;
    let order = devices[0].order().await;
    let update = devices[0].update(&order);
    let posts = (0..4).map(|_| devices[0].post(&update));
    let mut statuses: Vec<u16> = futures::future::join_all(posts)
        .await
        .iter()
        .map(|answer| answer.status)
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [[200].as_slice(), &[409; 3]].concat());
    let finished = complete(run, &mut devices[1..]).await;
    assert_eq!(finished.summary.model_sha256, honest_model().await);
}

#[tokio::test]
async fn one_client_cannot_deliver_for_another() {
    let run = Run::start(config(2, 1)).await;
    let mut devices = run.devices(2).await;
    let orders = [devices[0].order().await, devices[1].order().await];
    assert_ne!(orders[0].start.token, orders[1].start.token);
    // Under the ID of client 1, with its number of examples, but the token of client 0.
    let mut results = devices[1].results(&orders[1]);
    results.token = orders[0].start.token.clone();
    let forged = update_of(&results, &devices[1].train(&orders[1]));
    assert_eq!(devices[1].post(&forged).await.status, 403);
    for (device, order) in devices.iter().zip(&orders) {
        assert_eq!(device.post(&device.update(order)).await.status, 200);
    }
    assert_eq!(
        run.finish().await.summary.model_sha256,
        honest_model().await
    );
}

#[tokio::test]
async fn who_was_not_asked_cannot_deliver() {
    let mut only_one = config(2, 1);
    only_one.clients_per_round = 1;
    let mut run = Run::start(only_one).await;
    let mut devices = run.devices(2).await;
    let cohort = run
        .until(|event| match event {
            Event::RoundStarted { cohort, .. } => Some(cohort.clone()),
            _ => None,
        })
        .await;
    let chosen = cohort[0] as usize;
    let order = devices[chosen].order().await;
    let other = &devices[1 - chosen];
    let answer = other.post(&other.update(&order)).await;
    assert_eq!(answer.status, 403, "{}", answer.reason());
    assert_eq!(
        devices[chosen]
            .post(&devices[chosen].update(&order))
            .await
            .status,
        200
    );
    assert_eq!(run.finish().await.summary.rounds_completed, 1);
}

#[tokio::test]
async fn an_unknown_id_is_not_found() {
    let run = Run::start(config(2, 1)).await;
    let server = run.address;
    let device = Device::join(server, 0).await;
    for (target, status) in [
        ("/results?id=1", 404),
        ("/results?id=99", 404),
        ("/results?id=4294967295", 404),
        ("/results", 400),
        ("/results?id=-1", 400),
        ("/results?id=one", 400),
    ] {
        let answer = post(server, target, OCTET_STREAM, b"").await;
        assert_eq!(answer.status, status, "{target}: {}", answer.reason());
    }
    let other = Device::join(server, 1).await;
    let finished = complete(run, &mut [device, other]).await;
    assert_eq!(finished.summary.model_sha256, honest_model().await);
}

#[tokio::test]
async fn a_body_larger_than_any_update_is_refused() {
    let run = Run::start(config(1, 1)).await;
    let mut device = Device::join(run.address, 0).await;
    let order = device.order().await;
    let count = || [num_params() as u64];
    let limit = wire_len::longest_json_body(count()).max(wire_len::longest_body(count()));
    let answer = device.post(&vec![0; limit as usize + 1]).await;
    assert_eq!(answer.status, 413, "{}", answer.reason());
    assert_eq!(device.post(&device.update(&order)).await.status, 200);
    assert!(run.finish().await.summary.success);
}

#[tokio::test]
async fn the_json_form_gives_the_same_model_and_other_media_types_none() {
    let run = Run::start(config(2, 1)).await;
    let mut devices = run.devices(2).await;
    let order = devices[0].order().await;
    let control = serde_json::to_vec(&devices[0].results(&order)).unwrap();
    let body = json_of(&control, &devices[0].train(&order));
    let short = json_of(&control, &devices[0].train(&order)[1..]);
    for (media_type, body, status) in [
        ("text/plain", &body, 415),
        ("", &body, 415),
        (JSON, &short, 400),
        (JSON, &control, 400),
        (OCTET_STREAM, &body, 400),
        ("application/json; charset=utf-8", &body, 200),
    ] {
        let answer = post(run.address, "/results?id=0", media_type, body).await;
        assert_eq!(answer.status, status, "{media_type:?}");
    }
    let finished = complete(run, &mut devices[1..]).await;
    assert_eq!(finished.summary.model_sha256, honest_model().await);
}
