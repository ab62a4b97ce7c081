//! Updates that the algorithm does not take.

mod support;

use fl_algo::{
    AggregateError, Algorithm, Choice, KeptVectors, Rejected, RoundMetrics, ServerRule, Update,
};
use std::sync::LazyLock;
use support::{Finished, Run, config};
use zfl_aggregator::{Config, Event};

/// Takes the last update for the next model, and none of clients below `first`.
struct Picky {
    first: u32,
    model: Vec<f32>,
}

impl ServerRule for Picky {
    fn begin(&mut self, _round: u32, global: &[f32]) {
        self.model = global.to_vec();
    }

    fn add(&mut self, update: &Update, _: Option<&KeptVectors>) -> Result<(), Rejected> {
        if update.client < self.first {
            return Err(Rejected("not to its taste".into()));
        }
        self.model = update.model().to_vec();
        Ok(())
    }

    fn finish(&mut self, global: &mut Vec<f32>) -> Result<RoundMetrics, AggregateError> {
        global.clone_from(&self.model);
        Ok(RoundMetrics::new())
    }
}

fn picky(first: u32) -> Box<dyn ServerRule> {
    let model = Vec::new();
    Box::new(Picky { first, model })
}

static WITHOUT_CLIENT_0: LazyLock<Algorithm> = LazyLock::new(|| Algorithm {
    name: "without-client-0",
    doc: "",
    paper: "",
    device: Choice::default().algorithm.device,
    params: &[],
    server: |_| Ok(picky(1)),
});

static WITHOUT_ANYBODY: LazyLock<Algorithm> = LazyLock::new(|| Algorithm {
    name: "without-anybody",
    server: |_| Ok(picky(u32::MAX)),
    ..*WITHOUT_CLIENT_0
});

async fn run(algorithm: &'static Algorithm) -> Finished {
    let run = Run::start(Config {
        algorithm: Choice::new(algorithm),
        ..config(2, 1)
    })
    .await;
    for device in &mut run.devices(2).await {
        device.serve().await;
    }
    run.finish().await
}

#[tokio::test]
async fn an_update_that_the_algorithm_does_not_take_is_a_failure_with_its_reason() {
    let finished = run(&WITHOUT_CLIENT_0).await;
    assert!(finished.summary.success, "{:?}", finished.summary.reason);
    let why = "rejected by the algorithm: not to its taste";
    assert_eq!(finished.failures(), [(1, 0, why)]);
    let told = finished.events.iter().filter(|event| {
        matches!(event, Event::ClientFailed { client: 0, round: 1, reason } if reason == why)
    });
    assert_eq!(told.count(), 1);
    let rounds = finished.table("rounds.csv", &["results", "failures"]);
    assert_eq!(rounds[1], ["1", "1"]);
    let clients = finished.table("clients.csv", &["client", "outcome"]);
    assert_eq!(clients, [["0", why], ["1", "received"]]);
}

#[tokio::test]
async fn a_round_of_which_the_algorithm_takes_nothing_says_so() {
    let finished = run(&WITHOUT_ANYBODY).await;
    let reason = finished.summary.reason.expect("it fails");
    let expected =
        "round 1: the algorithm took none of 2 updates: that of client 0: not to its taste";
    assert_eq!(reason, expected);
}
