//! A client in another language: Python's standard library and the JSON form, through a whole run.

mod support;

use fl_data::{Dataset, iid};
use fl_nn::Arithmetic;
use std::process::{Child, Command};
use support::{Device, Run, config, data, model};
use zfl_aggregator::{Evaluation, RunDir, evaluate};

/// Ends with the test, whatever becomes of it.
struct Python(Child);

impl Python {
    fn start(run: &Run, client: u32) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/python/client.py");
        // The step of `Device::train`, so that either trains alike.
        let step = 0.125 * f64::from(client + 1);
        let words = [
            run.address.to_string(),
            client.to_string(),
            step.to_string(),
        ];
        let mut python = Command::new("python3");
        let child = python.arg("-B").arg(script).args(words).spawn();
        Self(child.expect("python3 is installed"))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Needs python3, so it does not count as passed where that is not there: run it with `--ignored`.
#[tokio::test]
#[ignore = "needs python3"]
async fn a_client_in_python_makes_the_model_that_a_device_makes() {
    const ROUNDS: u32 = 3;
    let honest = Run::start(config(3, ROUNDS)).await;
    for device in honest.devices(3).await {
        device.obey_always();
    }
    let honest = honest.finish().await;
    assert!(honest.summary.success, "{:?}", honest.summary.reason);

    let run = Run::start(config(3, ROUNDS)).await;
    let mut clients = vec![Python::start(&run, 0), Python::start(&run, 2)];
    Device::join(run.address, 1).await.obey_always();
    let finished = run.finish().await;
    assert!(finished.summary.success, "{:?}", finished.summary.reason);
    assert_eq!(finished.summary.rounds_completed, ROUNDS);
    assert_eq!(finished.failures(), []);
    assert_eq!(finished.summary.model_sha256, honest.summary.model_sha256);
    // They were told that it is over.
    for Python(client) in &mut clients {
        assert!(client.wait().unwrap().success());
    }
}

/// Needs python3, as the test above.
#[tokio::test]
#[ignore = "needs python3"]
async fn a_client_in_python_evaluates_as_a_device_does() {
    let set = data().train;
    let (_, holdout) = iid(40, &[20, 20], 3).unwrap().hold_out(&set, 0.2, 3);
    let mut config = config(2, 2);
    config.evaluation = Some(Evaluation {
        holdout: holdout.clone(),
        every: 2,
        clients: None,
    });
    let run = Run::start(config).await;
    let clients = vec![Python::start(&run, 0), Python::start(&run, 1)];
    let done = run.finish().await;
    assert!(done.summary.success, "{:?}", done.summary.reason);
    assert_eq!(done.failures(), []);
    drop(clients);

    let (params, _) = RunDir::read_model(done.dir.path(), &model()).unwrap();
    let columns = ["round", "outcome", "num_evaluated", "accuracy", "loss"];
    let rows = done.table("evaluations.csv", &columns);
    assert_eq!(rows.len(), 2);
    for (client, row) in rows.iter().enumerate() {
        let held_out = holdout.indices(client);
        let examples = Dataset {
            inputs: held_out
                .iter()
                .flat_map(|&i| set.inputs[4 * i as usize..][..4].to_vec())
                .collect(),
            labels: set.gather_labels(held_out),
            ..set.clone()
        };
        let found = evaluate(&model(), &params, &examples, Arithmetic::Float).unwrap();
        assert_eq!(row[..3], ["2", "received", &*held_out.len().to_string()]);
        let number = |at: usize| row[at].parse::<f64>().unwrap();
        assert!(
            (number(3) - found.accuracy()).abs() < 1e-6,
            "{row:?} {found:?}"
        );
        assert!(
            (number(4) - found.mean_loss()).abs() < 1e-4,
            "{row:?} {found:?}"
        );
    }
}
