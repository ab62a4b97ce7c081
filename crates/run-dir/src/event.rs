//! What happens in a run, as told to subscribers and written to `events.jsonl`.

use fl_proto::Cost;
use serde::{Deserialize, Serialize};

/// One line of `events.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Milliseconds since the start of the run.
    pub time_ms: u64,
    /// The wall clock, RFC 3339 in UTC.
    pub at: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Where a round is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoundPhase {
    /// Waits until enough devices are ready.
    #[default]
    WaitingForReady,
    /// Has chosen who trains, and starts them.
    CohortChosen,
    /// Waits for updates.
    Training,
    /// Adds the updates up.
    Aggregating,
    /// Tests the new model.
    Evaluating,
    /// No more rounds.
    Finished,
}

/// One thing that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The aggregator listens.
    RunStarted {
        /// Clients that there may be.
        clients: u32,
        /// Rounds to complete.
        rounds: u32,
        /// Where it listens.
        address: String,
    },
    /// A run that was broken off goes on. No device of before is there any more, and what had been told
    /// of later rounds is gone.
    RunResumed {
        /// The last round that was complete.
        round: u32,
        /// Time that went into what came after it and is done again, in seconds: up to its last event.
        lost_s: f64,
    },
    /// A round came to its next phase.
    PhaseEntered {
        /// The round, from 1.
        round: u32,
        /// The phase.
        phase: RoundPhase,
    },
    /// A device has an ID.
    ClientJoined {
        /// The ID.
        client: u32,
        /// Where it is reached.
        address: String,
        /// Whether it had joined before.
        again: bool,
    },
    /// A device has its data and waits.
    ClientReady {
        /// The client.
        client: u32,
    },
    /// A device is gone.
    ClientLost {
        /// The client.
        client: u32,
        /// Why.
        reason: String,
    },
    /// A device that is gone is on its way back.
    ClientExpected {
        /// The client.
        client: u32,
    },
    /// A cohort was chosen.
    RoundStarted {
        /// The round.
        round: u32,
        /// Who trains.
        cohort: Vec<u32>,
    },
    /// A device took `/start`.
    ClientStarted {
        /// The client.
        client: u32,
        /// The round.
        round: u32,
    },
    /// A device told how far it is.
    ClientProgress {
        /// The client.
        client: u32,
        /// The round.
        round: u32,
        /// Training passes done, of `total_examples`.
        done_examples: u32,
        /// Training passes to do.
        total_examples: u32,
    },
    /// An update was taken in.
    ResultReceived {
        /// What it was.
        #[serde(flatten)]
        record: ClientRecord,
    },
    /// A message was refused.
    ResultRejected {
        /// Who sent it, if that is known.
        client: Option<u32>,
        /// The HTTP status.
        status: u16,
        /// Why.
        reason: String,
    },
    /// A client of the cohort has no update in this round.
    ClientFailed {
        /// The client.
        client: u32,
        /// The round.
        round: u32,
        /// Why.
        reason: String,
    },
    /// The model was tested.
    Evaluated {
        /// The round; 0 is the initial model.
        round: u32,
        /// Mean cross-entropy on the test set, in nats.
        loss: f64,
        /// Share of right predictions.
        accuracy: f64,
    },
    /// A round is complete.
    RoundFinished {
        /// Its row of `rounds.csv`.
        #[serde(flatten)]
        record: RoundRecord,
    },
    /// Something happened to the fleet: told by whoever runs it.
    Fleet {
        /// The client, if it is about one.
        client: Option<u32>,
        /// What, in one word: `booted`, `died`, `fault` …
        what: String,
        /// More of it.
        detail: serde_json::Value,
    },
    /// No more rounds.
    RunFinished {
        /// Whether every round completed.
        success: bool,
        /// Why not.
        reason: Option<String>,
    },
}

/// A row of `clients.csv`: one client in one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientRecord {
    /// The round.
    pub round: u32,
    /// The client.
    pub client: u32,
    /// `received`, `late`, or why there is no update.
    pub outcome: String,
    /// Examples that the update stands for.
    pub num_examples: u32,
    /// Mean training loss of the last local epoch.
    pub loss: Option<f32>,
    /// From choosing the cohort to the update, in seconds.
    pub round_s: Option<f64>,
    /// HTTP bytes of this round from the client: in the table, from choosing the cohort to the end of
    /// the round; in the event, to the update.
    pub bytes_up: u64,
    /// HTTP bytes of this round to the client.
    pub bytes_down: u64,
    /// What the device paid.
    pub cost: Option<Cost>,
    /// What whoever runs the fleet saw of it, if somebody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostCost>,
}

impl ClientRecord {
    /// The record of a client without an update, and why; its bytes are known when the round is over.
    pub fn without_update(round: u32, client: u32, num_examples: u32, why: String) -> Self {
        Self {
            round,
            client,
            outcome: why,
            num_examples,
            loss: None,
            round_s: None,
            bytes_up: 0,
            bytes_down: 0,
            cost: None,
            host: None,
        }
    }
}

/// What whoever runs the fleet saw of a client in a round; what cannot be known is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostCost {
    /// From the start of its machine to its prompt, at its last boot, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_ms: Option<u64>,
    /// Training time at the clock rate that its board names: instructions over instructions a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_s: Option<f64>,
    /// Time that `/start` and the update take on its link, by the link's numbers, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_s: Option<f64>,
    /// An estimate by its board's energy model, in joules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_j: Option<f64>,
    /// Processor time of the host that its machine took since its last update, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_s: Option<f64>,
    /// Memory of the host that is its machine's alone, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_bytes: Option<u64>,
    /// TCP segments that it sent since its last update, as its link counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_segments_up: Option<u64>,
    /// TCP segments sent to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_segments_down: Option<u64>,
    /// Segments among both whose data were sent before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_retransmissions: Option<u64>,
    /// Segments among both that the link dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_dropped: Option<u64>,
}

/// A row of `rounds.csv`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RoundRecord {
    /// The round; 0 is the initial evaluation.
    pub round: u32,
    /// Clients chosen.
    pub cohort_size: u32,
    /// Updates in the new model.
    pub results: u32,
    /// Clients of the cohort without one.
    pub failures: u32,
    /// Messages refused.
    pub rejected: u32,
    /// Updates of an earlier round that came late.
    pub late: u32,
    /// Mean training loss, weighted by examples.
    pub train_loss: Option<f64>,
    /// Mean cross-entropy on the test set, in nats.
    pub test_loss: f64,
    /// Share of right predictions on the test set.
    pub test_accuracy: f64,
    /// HTTP bytes from devices in this round, data fetching and joining before it included.
    pub bytes_up: u64,
    /// HTTP bytes to devices in this round.
    pub bytes_down: u64,
    /// Wait for ready devices, in seconds.
    pub wait_s: f64,
    /// From choosing the cohort to the last `/start` taken.
    pub start_s: f64,
    /// From choosing the cohort to the last update.
    pub train_s: f64,
    /// The slowest device's own training time.
    pub slowest_train_s: Option<f64>,
    /// Adding up.
    pub aggregate_s: f64,
    /// Testing.
    pub eval_s: f64,
    /// All of the round.
    pub round_s: f64,
    /// Since the start of the run, at the end of the round.
    pub elapsed_s: f64,
    /// What the round would take on the devices themselves: that of the slowest, its computing and its
    /// link; absent unless known of every update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulated_s: Option<f64>,
    /// The sum of that over the rounds so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulated_elapsed_s: Option<f64>,
}
