//! What is written down about a run: one row per round, one per client and round, and the summary.

use fl_proto::Cost;
use serde::{Deserialize, Serialize};

/// A row of `rounds.csv`.
///
/// Row 0 is the set-up: the untrained model's evaluation, and the time and bytes of joining and of
/// fetching data. Bytes are those of the connections, heads and bodies, without TCP and IP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// The round, from 1; 0 is the set-up.
    pub round: u32,
    /// Clients chosen.
    pub cohort_size: u32,
    /// Updates that went into the model.
    pub results: u32,
    /// Clients of the cohort without one.
    pub failures: u32,
    /// Posts to `/results` that were refused, whoever they came from.
    pub rejected: u32,
    /// Mean of the clients' losses over their last epoch, weighted by examples.
    pub train_loss: Option<f64>,
    /// Mean cross-entropy of the global model on the test set, in nats.
    pub test_loss: f64,
    /// Share of the test set that the global model classifies correctly, in `0..=1`.
    pub test_accuracy: f64,
    /// Bytes from devices to the aggregator.
    pub bytes_up: u64,
    /// Bytes from the aggregator to devices.
    pub bytes_down: u64,
    /// The whole round, in seconds.
    pub round_s: f64,
    /// Waiting for devices to be ready.
    pub wait_s: f64,
    /// From the first `/start` sent to the last one answered.
    pub start_s: f64,
    /// From the first `/start` sent to the last update received, or the deadline.
    pub train_s: f64,
    /// Aggregation.
    pub aggregate_s: f64,
    /// Evaluation.
    pub eval_s: f64,
    /// Since the run's start, at the round's end.
    pub elapsed_s: f64,
}

/// How a client came out of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its update was taken in.
    Done,
    /// It has no update in this round.
    Failed,
}

/// A row of `clients.csv`: a client of the cohort in a round. What was not measured is empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientRecord {
    /// The round.
    pub round: u32,
    /// The client's ID.
    pub client: u32,
    /// Whether its update was taken in.
    pub outcome: Outcome,
    /// Why not.
    pub reason: Option<String>,
    /// Times that it was started: more than 1 if it rebooted in the round.
    pub attempts: u32,
    /// Training examples.
    pub num_examples: u32,
    /// Loss over its last epoch.
    pub loss: Option<f32>,
    /// From the beginning of the phase to its answer to `/start`, in seconds.
    pub start_s: Option<f64>,
    /// From there to its update, by the aggregator's clock.
    pub train_s: Option<f64>,
    /// Bytes from the device to the aggregator in this round.
    pub bytes_up: u64,
    /// Bytes from the aggregator to the device in this round.
    pub bytes_down: u64,
    /// Training by the device's clock, in microseconds.
    pub train_us: Option<u64>,
    /// Instructions retired while training.
    pub instructions: Option<u64>,
    /// Most heap ever in use on the device.
    pub heap_peak_bytes: Option<u32>,
    /// Most stack ever in use on the device.
    pub stack_peak_bytes: Option<u32>,
    /// HTTP bytes that the device received since its boot, as it counts them.
    pub device_bytes_received: Option<u64>,
    /// HTTP bytes that the device sent since its boot, as it counts them.
    pub device_bytes_sent: Option<u64>,
    /// TCP segments sent since the device's boot.
    pub segments_sent: Option<u32>,
    /// TCP segments received since the device's boot.
    pub segments_received: Option<u32>,
    /// TCP segments sent again since the device's boot.
    pub retransmissions: Option<u32>,
}

impl ClientRecord {
    /// Fills the columns that the device measured itself.
    pub(crate) fn set_cost(&mut self, cost: &Cost) {
        self.train_us = Some(cost.train_us);
        self.instructions = cost.instructions;
        self.heap_peak_bytes = cost.heap_peak_bytes;
        self.stack_peak_bytes = cost.stack_peak_bytes;
        self.device_bytes_received = Some(cost.bytes_received);
        self.device_bytes_sent = Some(cost.bytes_sent);
        self.segments_sent = cost.segments_sent;
        self.segments_received = cost.segments_received;
        self.retransmissions = cost.retransmissions;
    }
}

/// A client that a round went without, or a device that died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The round; absent for what belongs to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<u32>,
    /// The client's ID, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<u32>,
    /// What happened.
    pub reason: String,
}

/// `summary.json`: what came out of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// `completed`, or why not.
    pub status: String,
    /// What the devices were; for the caller to fill in.
    pub body: Option<String>,
    /// Clients of the experiment.
    pub clients: u32,
    /// Rounds asked for.
    pub rounds: u32,
    /// Rounds completed.
    pub rounds_completed: u32,
    /// Test accuracy after the last completed round, in `0..=1`.
    pub final_accuracy: Option<f64>,
    /// Test loss after the last completed round.
    pub final_loss: Option<f64>,
    /// Best test accuracy after any round.
    pub best_accuracy: Option<f64>,
    /// Bytes from devices to the aggregator, all of the run.
    pub bytes_up: u64,
    /// Bytes from the aggregator to devices, all of the run.
    pub bytes_down: u64,
    /// The whole run, in seconds.
    pub wall_s: f64,
    /// From the first device started to the last one ready; for the caller to fill in.
    pub boot_s: Option<f64>,
    /// Sum of the rounds' training phases, in seconds.
    pub train_s: f64,
    /// SHA-256 of the file `model.safetensors`, which the global model and the network determine.
    pub model_sha256: Option<String>,
    /// The experiment's seed.
    pub seed: u64,
    /// Clients that rounds went without; the caller adds the fleet's failures.
    pub failures: Vec<Failure>,
}
