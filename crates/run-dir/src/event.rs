//! Events of a run, for subscribers and for `events.jsonl`.

use crate::evaluation::{Confusion, RoundEvaluation};
use crate::fleet::{FleetRecord, known};
use crate::metric::HostCost;
use crate::round::RoundRecord;
use fl_proto::Cost;
use serde::{Deserialize, Serialize};

/// One line of `events.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Milliseconds since the start of the run.
    pub time_ms: u64,
    /// The wall clock, RFC 3339 in UTC.
    pub at: String,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// Phase of a round.
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
    /// Waits for devices that evaluate it.
    DevicesEvaluate,
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
        /// Clients that attack the run; `config.toml` says how.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        attackers: Vec<u32>,
        /// Address on which it listens.
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
        /// Address at which it is reached.
        address: String,
        /// True if it had joined before.
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
        /// Reason, in words.
        reason: String,
        /// It is on its way back: one fact, so that no end of the file lies between its halves.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        comes_back: bool,
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
        /// Clients that train.
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
        /// The client's record.
        #[serde(flatten)]
        record: ClientRecord,
    },
    /// A message was refused.
    ResultRejected {
        /// Sender, if known.
        client: Option<u32>,
        /// The HTTP status.
        status: u16,
        /// Reason, in words.
        reason: String,
        /// Messages before it that were refused likewise and only counted.
        #[serde(default, skip_serializing_if = "is_zero")]
        more: u64,
    },
    /// A client of the cohort has no update in this round.
    ClientFailed {
        /// The client.
        client: u32,
        /// The round.
        round: u32,
        /// Reason, in words.
        reason: String,
    },
    /// Time decided about a client, and so about the model: in another run of the seed it may be otherwise.
    TimeDecided {
        /// The client.
        client: u32,
        /// The round.
        round: u32,
        /// Reason, in words.
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
    /// Devices have evaluated the new model.
    DevicesEvaluated {
        /// Their findings together.
        #[serde(flatten)]
        record: Box<RoundEvaluation>,
    },
    /// The last model was tested, class by class.
    ClassesTested {
        /// The round of the model.
        round: u32,
        /// Classes of the test set, and what it took them for.
        #[serde(flatten)]
        confusion: Confusion,
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
        /// The event.
        #[serde(flatten, deserialize_with = "known")]
        record: FleetRecord,
    },
    /// No more rounds.
    RunFinished {
        /// True if every round completed.
        success: bool,
        /// Reason of a failure.
        reason: Option<String>,
    },
}

/// True for a count that is left out.
fn is_zero(count: &u64) -> bool {
    *count == 0
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
    /// Cost to the device.
    pub cost: Option<Cost>,
    /// Cost to the host, if somebody measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostCost>,
    /// Reason for which it was chosen, in numbers, where cohorts follow from earlier rounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<Chosen>,
}

/// Choice of a client for a round, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Chosen {
    /// Number that the selector went by, if it is finite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Rounds that it was chosen for so far, with this one.
    pub times: u32,
    /// Energy that it had left before the round, in joules, if it has a budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_left_j: Option<f64>,
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
            chosen: None,
        }
    }
}
