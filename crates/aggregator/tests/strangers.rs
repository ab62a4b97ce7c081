//! Refusals of strangers: requests for another device's data, and the pages of a browser.

mod support;

use zfl_aggregator::Event;

use support::{Device, Run, config, get, get_from, post_from, raw};

#[tokio::test]
async fn data_are_given_only_to_the_address_that_joined() {
    let run = Run::start(config(2, 1)).await;
    let own = [127, 0, 0, 2];
    let ask = async |from, target: &str| get_from(from, run.address, target).await;
    assert_eq!(ask(own, "/id?client=1&port=1").await.status, 200);
    for target in ["/training-data?id=1", "/training-labels?id=1"] {
        for stranger in [[127, 0, 0, 1], [127, 0, 0, 3]] {
            let refused = ask(stranger, target).await;
            assert_eq!(refused.status, 403);
            assert!(refused.reason().contains("another address"), "{refused:?}");
        }
        assert_eq!(ask(own, target).await.status, 200);
    }
    // Once it has moved, it is the new place that counts.
    run.handle.client_lost(1, "moved");
    assert_eq!(ask([127, 0, 0, 3], "/id?client=1&port=1").await.status, 200);
    assert_eq!(ask(own, "/training-data?id=1").await.status, 403);
    assert_eq!(ask([127, 0, 0, 3], "/training-data?id=1").await.status, 200);
    run.handle.cancel("done");
    run.finish().await;
}

#[tokio::test]
async fn an_update_counts_only_from_the_address_that_joined() {
    let run = Run::start(config(1, 1)).await;
    let mut device = Device::join(run.address, 0).await;
    let order = device.order().await;
    let update = device.update(&order);
    // Even with the token, which one on the way could have read.
    let stolen = post_from([127, 0, 0, 2], run.address, "/results?id=0", &update).await;
    assert_eq!(stolen.status, 403, "{}", stolen.reason());
    assert_eq!(device.post(&update).await.status, 200);
    assert!(run.finish().await.summary.success);
}

#[tokio::test]
async fn pages_are_not_answered() {
    let run = Run::start(config(3, 1)).await;
    let address = run.address;
    let port = address.port();
    for (lines, status) in [
        (format!("Host: {address}\r\n"), 200),
        (format!("Host: localhost:{port}\r\n"), 200),
        // As the user network forwards it, and as zfl's devices say.
        (format!("Host: 10.0.2.2:{port}\r\n"), 200),
        ("Host: aggregator\r\n".to_owned(), 200),
        (String::new(), 200),
        (format!("Host: {address}\r\nSec-Fetch-Site: none\r\n"), 200),
        (format!("Host: evil.example:{port}\r\n"), 403),
        ("Host: evil.example\r\n".to_owned(), 403),
        (format!("Host: {address}\r\nHost: evil.example\r\n"), 403),
        (
            format!("Host: {address}\r\nOrigin: http://evil.example\r\n"),
            403,
        ),
        (format!("Host: {address}\r\nOrigin: null\r\n"), 403),
        (
            format!("Host: {address}\r\nSec-Fetch-Site: cross-site\r\n"),
            403,
        ),
    ] {
        let head = format!("GET /id?client=2&port=1 HTTP/1.1\r\n{lines}Connection: close\r\n\r\n");
        let answer = raw(address, &head).await;
        assert_eq!(answer.status, status, "{lines}");
        if status == 403 {
            assert!(answer.reason().contains("IP address"), "{answer:?}");
        }
    }
    assert_eq!(get(address, "/training-data?id=2").await.status, 200);
    run.handle.cancel("done");
    run.finish().await;
}

#[tokio::test]
async fn refusals_without_end_are_counted() {
    const SENT: u64 = 300;
    let run = Run::start(config(1, 1)).await;
    for _ in 0..SENT {
        let refused = get(run.address, "/training-data?id=0").await;
        assert_eq!(refused.status, 404);
    }
    Device::join(run.address, 0).await.serve().await;
    let finished = run.finish().await;
    let told = finished.events.iter().filter_map(|event| match event {
        Event::ResultRejected { more, .. } => Some(more + 1),
        _ => None,
    });
    let told: Vec<u64> = told.collect();
    assert_eq!(told.iter().sum::<u64>(), SENT, "none is lost");
    assert!(told.iter().any(|more| *more > 1), "{told:?}");
    let rows = finished.table("rounds.csv", &["round", "rejected"]);
    assert!(rows.len() == 2);
}
