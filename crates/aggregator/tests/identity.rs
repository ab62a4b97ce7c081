//! Identity: who may be which client, by what its maker knows of it, and the share of one address.

mod support;

use fl_proto::{Welcome, Word};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use support::{Answer, Device, Run, config, get, get_from, get_from_with, get_with, word_line};
use tokio::net::TcpListener;
use zfl_aggregator::{Entry, Proof};

const SECRET: &str = "correct-horse-battery";

fn with_secret(secret: &str) -> String {
    format!("{}: {secret}\r\n{}", Word::SECRET_HEADER, word_line())
}

async fn id_from(last: u8, run: &Run, query: &str) -> Answer {
    get_from([127, 0, 0, last], run.address, &format!("/id{query}")).await
}

/// The status of a refusal, which names this.
fn refused(answer: &Answer, part: &str) -> u16 {
    let reason = answer.reason();
    assert!(reason.contains(part), "{reason}");
    answer.status
}

#[tokio::test]
async fn an_id_is_for_the_address_that_its_maker_told_whoever_comes_first() {
    let at = |last| Proof::Address(IpAddr::from([127, 0, 0, last]));
    let entry = Entry {
        fleet: Some(BTreeMap::from([(0, at(2)), (1, at(3))])),
        ..Entry::default()
    };
    let run = Run::with_entry(config(3, 1), entry).await;
    // The impostor comes first, for others' IDs, for its own and for one that nobody has.
    let other = id_from(3, &run, "?client=0").await;
    assert_eq!(refused(&other, "the device at 127.0.0.2"), 403);
    assert_eq!(
        refused(&id_from(2, &run, "?client=2").await, "no device"),
        403
    );
    assert_eq!(
        refused(&id_from(4, &run, "").await, "no device at 127.0.0.4"),
        403
    );
    let own: Welcome = id_from(3, &run, "").await.json();
    assert_eq!(own.id, 1);
    assert_eq!(id_from(2, &run, "?client=0").await.status, 200);
    // The device reboots: another port, and the same place.
    assert_eq!(id_from(2, &run, "?client=0&port=81").await.status, 200);
    // It is lost, and its ID is nobody else's all the same.
    run.handle.client_lost(0, "died");
    assert_eq!(
        refused(&id_from(3, &run, "?client=0").await, "127.0.0.2"),
        403
    );
    run.handle.cancel("done");
    run.finish().await;
}

#[tokio::test]
async fn where_addresses_are_shared_an_id_is_for_the_secret_of_its_device() {
    let secrets = [1, 2].map(|byte| Word::random([byte; 16]));
    let fleet = BTreeMap::from([
        (0, Proof::Secret(secrets[0])),
        (1, Proof::Secret(secrets[1])),
    ]);
    let entry = Entry {
        fleet: Some(fleet),
        ..Entry::default()
    };
    let run = Run::with_entry(config(2, 1), entry).await;
    let join = async |query: &str, secret: &str| {
        get_with(run.address, &format!("/id{query}"), &with_secret(secret)).await
    };
    for query in ["?client=0&port=1", "?port=1"] {
        let none = get(run.address, &format!("/id{query}")).await;
        assert_eq!(none.status, 403, "{}", none.reason());
    }
    let of_another = join("?client=0&port=1", secrets[1].text()).await;
    assert_eq!(refused(&of_another, "a secret of its own"), 403);
    assert!(!of_another.reason().contains(secrets[0].text()));
    let own: Welcome = join("?port=2", secrets[1].text()).await.json();
    assert_eq!(own.id, 1);
    let own: Welcome = join("?client=0&port=3", secrets[0].text()).await.json();
    assert_eq!(own.id, 0);
    let again = join("?client=0&port=4", secrets[0].text()).await;
    assert_eq!(again.status, 200, "it has rebooted");
    run.handle.cancel("done");
    let finished = run.finish().await;
    let events = format!("{:?}", finished.events);
    for secret in secrets {
        assert!(!events.contains(secret.text()), "{events}");
    }
}

#[tokio::test]
async fn a_join_secret_keeps_strangers_out() {
    let entry = Entry {
        secret: Some(SECRET.parse().unwrap()),
        ..Entry::default()
    };
    let run = Run::with_entry(config(2, 1), entry).await;
    for lines in [word_line(), with_secret("another-horse-battery")] {
        let answer = get_with(run.address, "/id?port=1", &lines).await;
        assert_eq!(refused(&answer, "ZFL_JOIN_SECRET"), 403);
        assert!(!answer.reason().contains("horse"));
    }
    let short = get_with(run.address, "/id?port=1", &with_secret("short")).await;
    assert_eq!(refused(&short, "16 to 32"), 400);
    let known = get_with(run.address, "/id?port=1", &with_secret(SECRET)).await;
    assert_eq!(known.status, 200);
    run.handle.cancel("done");
    run.finish().await;
}

#[tokio::test]
async fn one_address_takes_its_share_and_leaves_the_rest() {
    let entry = Entry {
        per_address: Some(1),
        ..Entry::default()
    };
    let run = Run::with_entry(config(4, 1), entry).await;
    assert_eq!(id_from(2, &run, "?client=0&port=1").await.status, 200);
    for client in 1..4 {
        let more = id_from(2, &run, &format!("?client={client}&port={}", client + 1)).await;
        assert_eq!(refused(&more, "--clients-per-address"), 403);
    }
    assert_eq!(
        id_from(2, &run, "?client=0&port=1").await.status,
        200,
        "its own"
    );
    // This machine's own address has as many as there are.
    for client in 1..4 {
        Device::join(run.address, client).await;
    }
    run.handle.cancel("done");
    run.finish().await;
}

#[tokio::test]
async fn joins_without_end_leave_a_place_for_a_device_that_is_there() {
    let run = Run::start(config(4, 1)).await;
    for port in 1..200 {
        let answer = get(run.address, &format!("/id?port={port}")).await;
        assert_eq!(answer.status, 200, "one that nobody answers for makes room");
    }
    let late = Device::join_without_wish(run.address).await;
    // From then on it is the others that make room.
    for port in 200..300 {
        let answer = get(run.address, &format!("/id?port={port}")).await;
        assert_ne!(answer.json::<Welcome>().id, late.id);
    }
    run.handle.cancel("done");
    run.finish().await;
}

/// Listens, and never answers. It is closed when it is dropped.
async fn deaf() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn the_id_of_a_deaf_device_is_not_for_another_one() {
    let run = Run::start(config(1, 1)).await;
    let (listener, address) = deaf().await;
    let own = format!("/id?client=0&address={address}");
    assert_eq!(get(run.address, &own).await.status, 200);
    let claim = get(run.address, "/id?client=0&port=9").await;
    assert_eq!(refused(&claim, "alive"), 409);
    // Nor by its own address, with another word.
    let other = format!("{}: {}\r\n", Word::HEADER, Word::random([3; 16]).text());
    let claim = get_with(run.address, &own, &other).await;
    assert_eq!(refused(&claim, "alive"), 409);
    let claim = get_from_with([127, 0, 0, 9], run.address, "/id?client=0", &other).await;
    assert_eq!(refused(&claim, "alive"), 409);
    // Once nobody is there, it has rebooted.
    drop(listener);
    assert_eq!(get(run.address, "/id?client=0&port=9").await.status, 200);
    run.handle.cancel("done");
    run.finish().await;
}

#[tokio::test]
async fn requests_of_a_client_are_those_with_its_word() {
    let run = Run::start(config(1, 1)).await;
    let device = Device::join(run.address, 0).await;
    let other = format!("{}: {}\r\n", Word::HEADER, Word::random([3; 16]).text());
    for target in [
        "/training-data?id=0",
        "/training-labels?id=0",
        "/state?id=0",
    ] {
        for lines in ["", &other] {
            let answer = get_with(run.address, target, lines).await;
            assert_eq!(refused(&answer, "another word"), 403);
        }
    }
    assert_eq!(get(run.address, "/training-data?id=0").await.status, 200);
    drop(device);
    run.handle.cancel("done");
    run.finish().await;
}

#[tokio::test]
async fn a_client_without_a_word_is_served_as_ever() {
    let run = Run::start(config(1, 1)).await;
    let join = get_with(run.address, "/id?client=0&port=9", "").await;
    assert_eq!(join.status, 200);
    let data = get_with(run.address, "/training-data?id=0", "").await;
    assert_eq!(data.status, 200);
    run.handle.cancel("done");
    run.finish().await;
}
