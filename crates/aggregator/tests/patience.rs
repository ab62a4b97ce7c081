//! Connections that say nothing are not held for ever, and not without number.

mod support;

use std::time::Duration;
use support::{Device, LONG, Run, answer, config, connect_from, get};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zfl_aggregator::{Limits, Pace};

/// Long enough for a local exchange, short enough to wait for: the limits of connections go by the
/// clock of the machine.
const SHORT: Duration = Duration::from_secs(1);

/// Limits that only a hang would reach.
const GENEROUS: Limits = Limits {
    head: LONG,
    pace: Pace {
        patience: LONG,
        bytes_per_s: 0,
    },
    places: 1000,
    each: 1000,
};

const HALF_A_HEAD: &[u8] = b"GET /id?port=1 HTTP/1.1\r\nHost: aggre";

async fn send(run: &Run, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(run.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// Waits until the server closes the connection, which says nothing.
async fn closed(mut stream: TcpStream) {
    let mut said = Vec::new();
    let end = tokio::time::timeout(LONG, stream.read_to_end(&mut said)).await;
    // A reset is an end, too.
    let _ = end.expect("it is closed");
    assert_eq!(said, b"");
}

#[tokio::test]
async fn half_a_head_is_not_waited_for() {
    let limits = Limits {
        head: SHORT,
        ..GENEROUS
    };
    let run = Run::with_limits(config(1, 1), limits).await;
    let mut held = Vec::new();
    for sent in [HALF_A_HEAD, b"G", b""] {
        for _ in 0..100 {
            held.push(send(&run, sent).await);
        }
    }
    for stream in held {
        closed(stream).await;
    }
    let mut device = Device::join(run.address, 0).await;
    device.serve().await;
    assert!(run.finish().await.summary.success);
}

/// The head of a request that sends this update of client 0.
fn head_of(update: &[u8]) -> String {
    format!(
        "POST /results?id=0 HTTP/1.1\r\nHost: aggregator\r\n{}\
         Content-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
        support::word_line(),
        update.len()
    )
}

#[tokio::test]
async fn half_a_body_is_not_waited_for_and_the_device_may_send_it_again() {
    let limits = Limits {
        pace: Pace {
            patience: SHORT,
            bytes_per_s: 0,
        },
        ..GENEROUS
    };
    let run = Run::with_limits(config(1, 1), limits).await;
    let mut device = Device::join(run.address, 0).await;
    let order = device.order().await;
    let update = device.update(&order);
    let mut stream = send(&run, head_of(&update).as_bytes()).await;
    stream.write_all(&update[..100]).await.unwrap();
    let refused = tokio::time::timeout(LONG, answer(&mut stream)).await;
    let refused = refused.expect("it is refused");
    assert_eq!(refused.status, 408, "{}", refused.reason());
    assert!(refused.reason().contains("no byte"), "{refused:?}");
    assert_eq!(device.post(&update).await.status, 200);
    assert!(run.finish().await.summary.success);
}

#[tokio::test]
async fn a_body_that_comes_in_pieces_is_taken() {
    let run = Run::with_limits(config(1, 1), GENEROUS).await;
    let mut device = Device::join(run.address, 0).await;
    let order = device.order().await;
    let update = device.update(&order);
    let mut stream = send(&run, head_of(&update).as_bytes()).await;
    for piece in update.chunks(update.len().div_ceil(16)) {
        stream.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(answer(&mut stream).await.status, 200);
    assert!(run.finish().await.summary.success);
}

#[tokio::test]
async fn idle_connections_that_come_back_keep_no_device_out() {
    let limits = Limits {
        places: 8,
        each: 4,
        ..GENEROUS
    };
    let run = Run::with_limits(config(2, 1), limits).await;
    let address = run.address;
    // Each takes the place of an older one, and each of those comes back at once.
    let strangers: Vec<_> = (0..32)
        .map(|_| {
            tokio::spawn(async move {
                loop {
                    let mut stream = connect_from([127, 0, 0, 9], address).await;
                    let _ = stream.read(&mut [0]).await;
                }
            })
        })
        .collect();
    for device in &mut run.devices(2).await {
        device.serve().await;
    }
    assert!(run.finish().await.summary.success);
    strangers.iter().for_each(|one| one.abort());
}

#[tokio::test]
async fn bodies_that_a_client_holds_back_keep_nobody_out() {
    let limits = Limits {
        places: 64,
        each: 4,
        ..GENEROUS
    };
    let run = Run::with_limits(config(2, 1), limits).await;
    let mut devices = run.devices(2).await;
    let order = devices[0].order().await;
    let update = devices[0].update(&order);
    let mut held = Vec::new();
    for _ in 0..16 {
        let mut stream = send(&run, head_of(&update).as_bytes()).await;
        // Some are closed by then, to make room for those that follow.
        let _ = stream.write_all(&update[..update.len() - 1]).await;
        held.push(stream);
    }
    assert_eq!(get(run.address, "/nothing").await.status, 404);
    for stream in held.drain(..12) {
        closed(stream).await;
    }
    // The newest are those that count.
    let mut last = held.pop().unwrap();
    last.write_all(&update[update.len() - 1..]).await.unwrap();
    assert_eq!(answer(&mut last).await.status, 200);
    devices[1].serve().await;
    assert!(run.finish().await.summary.success);
}
