//! What happens in a run, as it happens: broadcast to whoever watches, and a line of `events.jsonl`.

use crate::phase::Phase;
use crate::record::{RoundRecord, Summary};
use fl_proto::Cost;
use serde::{Deserialize, Serialize};

/// An event and when it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Counts the run's events from 0, without gaps.
    pub seq: u64,
    /// Milliseconds since the run's start.
    pub time_ms: u64,
    /// The time of day: RFC 3339, UTC.
    pub time: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened. `type` tells which in JSON; `round` is 0 before the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The aggregator serves.
    RunStarted {
        /// Clients of the experiment.
        clients: u32,
        /// Rounds asked for.
        rounds: u32,
        /// Clients asked in each round.
        clients_per_round: u32,
        /// Units per layer, inputs first.
        layers: Vec<u32>,
        /// Parameters of the model.
        num_params: u64,
        /// Where it serves: `ip:port`.
        address: String,
    },
    /// The run went on to its next phase.
    PhaseChanged {
        /// The round.
        round: u32,
        /// The phase.
        phase: Phase,
    },
    /// A device was given an ID.
    ClientJoined {
        /// The ID.
        client: u32,
        /// Where the device is reached: `ip:port`.
        address: String,
        /// Whether the ID had been given out before.
        rejoined: bool,
    },
    /// A device has its data and waits for `/start`.
    ClientReady {
        /// The client's ID.
        client: u32,
    },
    /// A device does not answer, or the orchestrator says that it is gone.
    ClientLost {
        /// The client's ID.
        client: u32,
        /// What is known.
        reason: String,
        /// Whether it is expected back.
        returns: bool,
    },
    /// Who takes part is settled.
    RoundStarted {
        /// The round.
        round: u32,
        /// The clients chosen, sorted.
        cohort: Vec<u32>,
    },
    /// A device took `/start`.
    ClientStarted {
        /// The client's ID.
        client: u32,
        /// The round.
        round: u32,
        /// From 1; more after a reboot.
        attempt: u32,
    },
    /// How far a device is.
    ClientProgress {
        /// The client's ID.
        client: u32,
        /// The round.
        round: u32,
        /// Training passes done.
        done_examples: u32,
        /// Of so many.
        total_examples: u32,
    },
    /// An update was taken in.
    ResultReceived {
        /// The client's ID.
        client: u32,
        /// The round.
        round: u32,
        /// Length of the body.
        bytes: u64,
        /// Training examples of the client.
        num_examples: u32,
        /// Loss over its last epoch.
        loss: f32,
        /// What the round cost the device.
        cost: Cost,
    },
    /// A post to `/results` was refused.
    ResultRejected {
        /// The ID that it came with.
        client: Option<u32>,
        /// The run's round.
        round: u32,
        /// The HTTP status.
        status: u16,
        /// Why.
        reason: String,
    },
    /// The round goes on without a client of its cohort.
    ClientFailed {
        /// The client's ID.
        client: u32,
        /// The round.
        round: u32,
        /// Why.
        reason: String,
    },
    /// The global model was evaluated.
    Evaluated {
        /// The round that it comes from.
        round: u32,
        /// Mean cross-entropy on the test set.
        loss: f64,
        /// Share of correct predictions.
        accuracy: f64,
    },
    /// A round is complete.
    RoundFinished {
        /// Its row of `rounds.csv`.
        record: RoundRecord,
    },
    /// The run is over.
    RunFinished {
        /// What came out.
        summary: Box<Summary>,
    },
    /// Something that the fleet's owner has to say; the aggregator only passes it on.
    Fleet(FleetEvent),
}

/// What happened to a device outside of the learning: it booted, died, had a fault injected.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FleetEvent {
    /// The client's ID, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<u32>,
    /// A word: `booted`, `died`, `fault`, …
    pub what: String,
    /// For a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The last lines of the device's serial log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub serial: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(event: Event) -> String {
        let time = "2026-01-01T00:00:00.000Z".to_owned();
        let record = EventRecord { seq: 3, time_ms: 1250, time, event };
        let line = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<EventRecord>(&line).unwrap(), record);
        line
    }

    #[test]
    fn an_event_is_one_flat_object() {
        assert_eq!(
            line(Event::ClientFailed { client: 7, round: 2, reason: "no \"update\"".into() }),
            r#"{"seq":3,"time_ms":1250,"time":"2026-01-01T00:00:00.000Z","type":"client_failed","client":7,"round":2,"reason":"no \"update\""}"#
        );
        let died = FleetEvent { client: Some(1), what: "died".into(), ..FleetEvent::default() };
        assert_eq!(
            line(Event::Fleet(died)),
            r#"{"seq":3,"time_ms":1250,"time":"2026-01-01T00:00:00.000Z","type":"fleet","client":1,"what":"died"}"#
        );
        line(Event::RunFinished { summary: Box::default() });
        line(Event::RoundFinished { record: RoundRecord::default() });
        let cost = Cost { instructions: Some(u64::MAX), ..Cost::default() };
        line(Event::ResultReceived { client: 1, round: 2, bytes: 3, num_examples: 4, loss: 0.5, cost });
    }
}
