//! Edges between devices and a server: the sums that they send, and one that is lost and comes back.

mod support;

use fl_proto::Word;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use support::{Device, Run, config, data, get, get_with, partition, post};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use zfl_aggregator::{Config, Edge, EdgeSetup, Entry, Event, Kept, Proof, bind};
use zfl_run_dir::EventLog;

const CLUSTERS: [Range<u32>; 2] = [0..2, 2..4];

fn clustered(rounds: u32) -> Config {
    Config {
        clusters: CLUSTERS.to_vec().into(),
        ..config(4, rounds)
    }
}

/// An edge of a run, and what it keeps.
struct Below {
    address: SocketAddr,
    memory: Arc<Mutex<Kept>>,
    task: JoinHandle<()>,
}

async fn edge(root: SocketAddr, number: u32, rounds: u32, before: Option<Below>) -> Below {
    let setup = EdgeSetup {
        number,
        level: 1,
        cluster: CLUSTERS[number as usize].clone(),
        clusters: Default::default(),
        upstream: root,
        secret: None,
        rounded: false,
        rounds: 1,
    };
    let events = EventLog::new(tempfile::tempfile().unwrap()).unwrap();
    let edge = Edge::new(clustered(rounds), data().train, partition(4), events, setup).unwrap();
    let memory = Arc::<Mutex<Kept>>::default();
    let kept = memory.clone();
    let keep = Arc::new(move |name: &str, bytes: &[u8]| {
        let kept = &mut *kept.lock().unwrap();
        kept.insert(name.to_owned(), bytes.to_vec());
    });
    let (listener, known) = match before {
        None => {
            let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
            (listener, Kept::new())
        }
        Some(before) => {
            before.task.abort();
            let _ = before.task.await;
            // Its connections end a moment after it.
            let listener = loop {
                match TcpListener::bind(before.address).await {
                    Ok(listener) => break listener,
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            let known = before.memory.lock().unwrap().clone();
            (listener, known)
        }
    };
    let edge = edge.with_memory(&known, keep).unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move { edge.run(listener).await.unwrap() });
    Below {
        address,
        memory,
        task,
    }
}

#[tokio::test]
async fn a_lost_edge_costs_its_cluster_one_round_and_comes_back() {
    let mut run = Run::start(clustered(2)).await;
    let first = edge(run.address, 0, 2, None).await;
    let second = edge(run.address, 1, 2, None).await;
    let mut devices = Vec::new();
    for client in 0..4 {
        let at = if client < 2 { &first } else { &second };
        devices.push(Device::join(at.address, client).await);
    }
    for device in &mut devices[..2] {
        device.serve().await;
    }
    for device in &mut devices[2..] {
        device.order().await;
    }
    let second = edge(run.address, 1, 2, Some(second)).await;
    let round = run
        .until(|event| match event {
            Event::RoundFinished { record } if record.round == 1 => Some(record.clone()),
            _ => None,
        })
        .await;
    assert_eq!((round.results, round.failures), (2, 2));
    for device in &mut devices {
        device.serve().await;
    }
    let ended = run.finish().await;
    assert!(ended.summary.success, "{:?}", ended.summary.reason);
    let missed: Vec<_> = ended.failures().iter().map(|one| (one.0, one.1)).collect();
    assert_eq!(missed, [(1, 2), (1, 3)]);
    assert_eq!(ended.cohorts(), [[0, 1, 2, 3], [0, 1, 2, 3]]);
    first.task.await.unwrap();
    second.task.await.unwrap();
}

#[tokio::test]
async fn sums_that_nobody_asked_for_change_nothing() {
    let run = Run::start(clustered(1)).await;
    let first = edge(run.address, 0, 1, None).await;
    let second = edge(run.address, 1, 1, None).await;
    // A device joins its edge and nobody else.
    let wrong = support::get(run.address, "/id?client=1&port=80").await;
    assert_eq!(wrong.status, 409, "{}", wrong.reason());
    let wrong = support::get(first.address, "/id?client=3&port=80").await;
    assert_eq!(wrong.status, 409, "{}", wrong.reason());
    let mut devices = Vec::new();
    for client in 0..4 {
        let at = if client < 2 { &first } else { &second };
        devices.push(Device::join(at.address, client).await);
    }
    // Nor are sums taken of who does not know the edge's word.
    for body in [&b"zflp"[..], b"", &[0xff; 4096]] {
        let answer = post(run.address, "/results?id=4", "application/x-zfl-sums", body).await;
        assert_eq!(answer.status, 403, "{}", answer.reason());
    }
    for device in &mut devices {
        device.serve().await;
    }
    let ended = run.finish().await;
    assert!(ended.summary.success, "{:?}", ended.summary.reason);
    assert!(ended.failures().is_empty());
}

#[tokio::test]
async fn data_of_devices_are_dealt_to_their_gateway_alone() {
    let secrets = [1, 2].map(|byte| Word::random([byte; 16]));
    let device = Word::random([3; 16]);
    let fleet = BTreeMap::from([
        (0, Proof::Secret(device)),
        (4, Proof::Secret(secrets[0])),
        (5, Proof::Secret(secrets[1])),
    ]);
    let entry = Entry {
        fleet: Some(fleet),
        ..Entry::default()
    };
    let run = Run::with_entry(clustered(1), entry).await;
    let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let deals = tokio::spawn(run.handle.deal_data(listener, BTreeMap::new()).unwrap());
    let with = |secret: Word| format!("{}: {}\r\n", Word::SECRET_HEADER, secret.text());
    for target in ["/training-data?id=0", "/training-labels?id=0"] {
        // A stranger, the device itself, and the gateway of another cluster.
        assert_eq!(get(address, target).await.status, 403, "{target}");
        for secret in [device, secrets[1], Word::random([4; 16])] {
            let answer = get_with(address, target, &with(secret)).await;
            assert_eq!((answer.status, answer.body.len()), (403, 0), "{target}");
        }
        let own = get_with(address, target, &with(secrets[0])).await;
        assert_eq!((own.status, own.body.is_empty()), (200, false), "{target}");
    }
    // There is nobody's data beside that of a client, and nothing else to ask for.
    for target in [
        "/training-data",
        "/training-data?id=4",
        "/training-data?id=9",
    ] {
        let answer = get_with(address, target, &with(secrets[0])).await;
        assert_eq!(answer.status, 403, "{target}");
    }
    for target in ["/id", "/cluster", "/state", "/results"] {
        let answer = get_with(address, target, &with(secrets[0])).await;
        assert_eq!(answer.status, 404, "{target}");
    }
    deals.abort();
    run.handle.cancel("done");
    run.finish().await;
}
