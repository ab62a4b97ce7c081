//! The run directory, a disk that is full, and a port that is taken.

mod support;

use fl_nn::{Activation, Model, Shape};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use support::{Device, Run, config, model};
use zfl_aggregator::{RunDir, bind};

#[tokio::test]
async fn a_full_disk_under_the_events_ends_the_run_with_the_reason() {
    let full = |dir: &Path| symlink("/dev/full", dir.join("events.jsonl")).unwrap();
    let run = Run::prepared(config(1, 1), full, None).await;
    // No device is needed: the run must not even wait for one.
    let summary = run.finish_unread().await;
    let reason = summary.reason.unwrap();
    assert!(!summary.success);
    assert!(
        reason.contains("events.jsonl") && reason.contains("No space left"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_disk_that_fills_up_in_a_round_ends_the_run_with_the_reason() {
    let run = Run::start(config(1, 2)).await;
    let mut device = Device::join(run.address, 0).await;
    let order = device.order().await;
    symlink("/dev/full", run.dir.path().join(".model.safetensors.new")).unwrap();
    assert_eq!(device.post(&device.update(&order)).await.status, 200);
    let finished = run.finish().await;
    let reason = finished.summary.reason.as_deref().unwrap_or_default();
    assert!(
        !finished.summary.success,
        "what cannot be written down has failed"
    );
    assert_eq!(finished.summary.rounds_completed, 0);
    assert!(
        reason.contains("model.safetensors") && reason.contains("No space left"),
        "{reason}"
    );
}

#[test]
fn a_file_that_cannot_be_written_whole_leaves_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(dir.path()).unwrap();
    run.json("summary.json", &1).unwrap();
    symlink("/dev/full", dir.path().join(".summary.json.new")).unwrap();
    let error = format!("{:#}", run.json("summary.json", &2).unwrap_err());
    assert!(
        error.contains("summary.json") && error.contains("No space left"),
        "{error}"
    );
    assert_eq!(
        fs::read_to_string(dir.path().join("summary.json")).unwrap(),
        "1\n"
    );
    let left = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert_eq!(
        left.filter(|name| name.to_string_lossy().starts_with('.'))
            .count(),
        0
    );
}

#[test]
fn results_are_never_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/run");
    RunDir::create(&path).unwrap();
    let error = RunDir::create(&path).unwrap_err().to_string();
    assert!(
        error.contains("not empty") && error.contains("--out"),
        "{error}"
    );
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(format!("{:#}", RunDir::create(&file).unwrap_err()).contains("file"));
}

#[test]
fn a_model_is_read_back_to_the_bit_and_only_in_its_own_shape() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(dir.path()).unwrap();
    let params = config(1, 1).initial_params();
    run.model("m.safetensors", &model(), &params, 5).unwrap();
    let path = dir.path().join("m.safetensors");
    assert_eq!(RunDir::read_model(&path, &model()).unwrap(), (params, 5));

    let bytes = fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (name, shape) in [
        ("layers.0.weight", &[4, 3][..]),
        ("layers.0.bias", &[3]),
        ("layers.1.weight", &[3, 2]),
        ("layers.1.bias", &[2]),
    ] {
        assert_eq!(tensors.tensor(name).unwrap().shape(), shape, "{name}");
    }
    let other = Model::new(Shape::new(&[4, 2, 2]).unwrap(), Activation::Relu);
    assert!(RunDir::read_model(&path, &other).is_err());
    for len in 0..bytes.len() {
        fs::write(&path, &bytes[..len]).unwrap();
        assert!(RunDir::read_model(&path, &model()).is_err(), "cut at {len}");
    }
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

#[test]
fn the_same_model_gives_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(dir.path()).unwrap();
    let params = config(1, 1).initial_params();
    let files: std::collections::BTreeSet<Vec<u8>> = (0..20)
        .map(|_| {
            run.model("m", &model(), &params, 1).unwrap();
            fs::read(dir.path().join("m")).unwrap()
        })
        .collect();
    assert_eq!(files.len(), 1, "different bytes for one model");
}
