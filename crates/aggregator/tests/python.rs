//! A client in another language: Python's standard library and the JSON form, through a whole run.

mod support;

use std::process::{Child, Command};
use support::{Device, Run, config};

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
