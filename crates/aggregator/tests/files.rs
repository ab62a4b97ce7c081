//! The events, a disk that is full, and a port that is taken.

mod support;

use std::fs;
use support::{Device, Run, config};
use zfl_aggregator::bind;

#[tokio::test]
async fn a_disk_that_takes_no_model_ends_the_run_with_the_reason() {
    let run = Run::start(config(1, 2)).await;
    let mut device = Device::join(run.address, 0).await;
    let order = device.order().await;
    let model = run.dir.path().join("model.safetensors");
    fs::remove_file(&model).unwrap();
    fs::create_dir(model).unwrap();
    assert_eq!(device.post(&device.update(&order)).await.status, 200);
    let finished = run.finish().await;
    let reason = finished.summary.reason.as_deref().unwrap_or_default();
    assert!(
        !finished.summary.success,
        "what cannot be written down has failed"
    );
    assert_eq!(finished.summary.rounds_completed, 0);
    assert!(
        reason.contains("model.safetensors: Is a directory"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_port_that_is_taken_is_told() {
    let first = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = first.local_addr().unwrap();
    let error = format!("{:#}", bind(address).await.unwrap_err());
    for word in [&address.to_string(), "another port", "in use"] {
        assert!(error.contains(word), "{error}");
    }
}

#[tokio::test]
async fn events_have_a_time_that_never_goes_back() {
    let run = Run::start(config(1, 1)).await;
    Device::join(run.address, 0).await.obey_always();
    let finished = run.finish().await;
    let text = fs::read_to_string(finished.dir.path().join("events.jsonl")).unwrap();
    let times: Vec<u64> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|event| event["time_ms"].as_u64().unwrap())
        .collect();
    assert!(times.len() > 8 && times.is_sorted(), "{times:?}");
    let kinds: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|event| event["event"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds[0], "run_started");
    assert_eq!(kinds.last().unwrap(), "run_finished");
    for kind in [
        "client_joined",
        "client_ready",
        "round_started",
        "result_received",
        "round_finished",
    ] {
        assert_eq!(
            kinds.iter().filter(|k| *k == kind).count(),
            if kind == "round_finished" { 2 } else { 1 }
        );
    }
}
