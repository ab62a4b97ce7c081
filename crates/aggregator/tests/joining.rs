//! Joining: the places of clients, and the data that they are given.

mod support;

use fl_proto::Welcome;
use support::{Device, Run, config, data, get, get_from, partition, post};

#[tokio::test]
async fn ids_are_given_out_from_the_lowest_or_as_wished() {
    let run = Run::start(config(3, 1)).await;
    let id = async |query: &str| get(run.address, &format!("/id{query}")).await;
    let welcome: Welcome = id("?client=1&port=1001").await.json();
    assert_eq!((welcome.id, welcome.num_examples), (1, 2));
    assert_eq!((&welcome.layers[..], welcome.seed), (&[4, 3, 2][..], 7));
    assert_eq!(welcome.protocol, fl_proto::PROTOCOL_VERSION);
    assert_eq!(id("?port=1000").await.json::<Welcome>().id, 0);
    assert_eq!(id("?port=1002").await.json::<Welcome>().id, 2);
    let unknown = id("?client=3&port=1003").await;
    assert_eq!(
        (unknown.status, unknown.reason().contains("0 to 2")),
        (409, true)
    );
    run.handle.cancel("done");
    run.finish().await;
}

#[tokio::test]
async fn no_more_devices_join_than_there_are_clients() {
    let run = Run::start(config(3, 1)).await;
    let _devices = run.devices(3).await;
    let full = get(run.address, "/id?port=1003").await;
    assert_eq!(
        (full.status, full.reason().contains("all 3 clients")),
        (409, true)
    );
    run.handle.cancel("done");
    run.finish().await;
}

#[tokio::test]
async fn an_id_in_use_is_not_given_to_another_machine_until_its_device_is_lost() {
    let run = Run::start(config(2, 1)).await;
    let device = Device::join(run.address, 1).await;
    let from = async |last: u8| get_from([127, 0, 0, last], run.address, "/id?client=1").await;
    let taken = from(3).await;
    assert_eq!(
        (taken.status, taken.reason().contains("alive")),
        (409, true)
    );
    let own = format!("/id?client=1&address={}", device.address);
    assert_eq!(get(run.address, &own).await.status, 200, "its own, again");
    run.handle.client_lost(1, "died");
    assert_eq!(from(3).await.status, 200);
    run.handle.cancel("done");
    run.finish().await;
}

#[tokio::test]
async fn a_device_cannot_point_the_aggregator_elsewhere() {
    let run = Run::start(config(2, 1)).await;
    for (address, status) in [
        ("192.0.2.1:80", 400),
        ("[2001:db8::1]:80", 400),
        ("169.254.169.254:80", 400),
        ("127.0.0.1:0", 400),
        ("127.0.0.1", 400),
        ("localhost:80", 400),
        ("127.0.0.1:8080", 200),
    ] {
        let answer = get(run.address, &format!("/id?address={address}")).await;
        assert_eq!(answer.status, status, "{address}");
    }
    run.handle.cancel("done");
    run.finish().await;
}

#[tokio::test]
async fn a_client_is_given_its_own_examples_and_no_others() {
    let run = Run::start(config(3, 1)).await;
    let devices = run.devices(3).await;
    let (train, partition) = (data().train, partition(3));
    for device in &devices {
        let indices = partition.indices(device.id as usize);
        let inputs = get(run.address, &format!("/training-data?id={}", device.id)).await;
        assert_eq!(inputs.body, train.gather_inputs(indices));
        let labels = get(run.address, &format!("/training-labels?id={}", device.id)).await;
        assert_eq!(labels.body, train.gather_labels(indices));
        assert_eq!(labels.body.len(), device.num_examples as usize);
    }
    run.handle.cancel("done");
    run.finish().await;
}

#[tokio::test]
async fn nonsense_is_refused_with_a_reason() {
    let run = Run::start(config(1, 1)).await;
    let server = run.address;
    for (target, status) in [
        ("/training-data?id=0", 404),
        ("/training-labels?id=7", 404),
        ("/training-data", 400),
        ("/id?client=many", 400),
        ("/id?port=70000", 400),
        ("/secret", 404),
        ("/", 404),
        ("/results?id=0", 405),
    ] {
        let answer = get(server, target).await;
        assert_eq!(answer.status, status, "{target}: {}", answer.reason());
    }
    assert_eq!(post(server, "/id", "", b"").await.status, 405);
    run.handle.cancel("done");
    run.finish().await;
}

#[tokio::test]
async fn a_join_whose_answer_was_lost_gets_the_same_id_again() {
    let run = Run::start(config(3, 1)).await;
    let first: Welcome = get(run.address, "/id?port=1001").await.json();
    let again: Welcome = get(run.address, "/id?port=1001").await.json();
    assert_eq!(first.id, again.id);
}

#[tokio::test]
async fn two_devices_on_one_machine_do_not_take_each_others_id() {
    let run = Run::start(config(2, 1)).await;
    let _alive = Device::join(run.address, 0).await;
    let answer = get(run.address, "/id?client=0&address=127.0.0.1:1").await;
    assert_eq!(
        answer.status, 409,
        "client 0 answers /ready at its own port"
    );
}
