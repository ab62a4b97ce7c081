//! Messages of the machine to its caller.

use alloc::string::String;
use alloc::vec::Vec;

use crate::selection::Pick;

/// Work for the caller, to be done in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Tell this to whoever follows the run.
    Tell(Note),
    /// Find out the faults of a round; answered by [`Machine::faults`](crate::Machine::faults).
    FindFaults {
        /// The round.
        round: u32,
    },
    /// Ask these clients whether they are ready; answered by
    /// [`Machine::ready`](crate::Machine::ready) for each that is, and then by
    /// [`Machine::probed`](crate::Machine::probed).
    Probe {
        /// Clients that failed before.
        clients: Vec<u32>,
    },
    /// Prepare the fleet for a cohort that was chosen; answered by
    /// [`Machine::start`](crate::Machine::start).
    OpenRound {
        /// The round.
        round: u32,
        /// Clients chosen, in order.
        picks: Vec<Pick>,
    },
    /// Send a `/start`; answered by [`Machine::start_answered`](crate::Machine::start_answered).
    Start(Start),
    /// Give up what is still under way for the round, and aggregate; answered by
    /// [`Machine::made`](crate::Machine::made) once there is a model.
    CloseRound(Closed),
    /// Prepare the fleet for the evaluation of the new model by these clients; answered by
    /// [`Machine::evaluate`](crate::Machine::evaluate).
    OpenEvaluation {
        /// The round.
        round: u32,
        /// Clients chosen, in order.
        clients: Vec<u32>,
    },
    /// Send a `/start` that asks for an evaluation; answered by
    /// [`Machine::evaluation_answered`](crate::Machine::evaluation_answered).
    Evaluate(Start),
    /// Write the round down; answered by [`Machine::completed`](crate::Machine::completed).
    FinishRound(EvaluatedRound),
    /// Every round is complete.
    Finish,
    /// The run has failed.
    Fail {
        /// Reason, in words.
        reason: String,
    },
}

/// A fact for the record of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A round came to a phase.
    Entered {
        /// The round.
        round: u32,
        /// The phase.
        phase: Phase,
    },
    /// A client has its data and waits.
    Ready {
        /// The client.
        client: u32,
    },
    /// A client is gone.
    Lost {
        /// The client.
        client: u32,
        /// Reason, in words.
        reason: String,
        /// It is on its way back.
        comes_back: bool,
    },
    /// A client that is gone is on its way back.
    Expected {
        /// The client.
        client: u32,
    },
    /// A client took its `/start`.
    Started {
        /// The client.
        client: u32,
        /// The round of the `/start`.
        round: u32,
    },
    /// An update was taken in.
    Received {
        /// The number that the caller gave it.
        update: u64,
    },
    /// A client of a cohort has no update in its round.
    Failed(Failure),
    /// Time decided about a client, and so about the model: in another run it may be otherwise.
    TimeDecided(Failure),
}

/// Phase of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waits until enough clients are ready.
    WaitingForReady,
    /// Has chosen who trains, and starts them.
    CohortChosen,
    /// Waits for updates.
    Training,
    /// Waits for evaluations.
    Evaluating,
}

/// A `/start` to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The client.
    pub client: u32,
    /// The round.
    pub round: u32,
    /// Token that the update must bring.
    pub token: u64,
    /// Number of the try, from 1.
    pub attempt: u32,
    /// Longest wait for the answer.
    pub within_us: u64,
}

/// An update that was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The client.
    pub client: u32,
    /// The round that it was asked for.
    pub round: u32,
    /// The number that the caller gave it.
    pub update: u64,
}

/// A client that was missed in a round, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The client.
    pub client: u32,
    /// The round that it was asked for.
    pub round: u32,
    /// Reason, in words.
    pub reason: String,
}

/// A round that has ended for updates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The round.
    pub round: u32,
    /// Clients chosen for it.
    pub cohort_size: u32,
    /// Updates to aggregate, in client order.
    pub updates: Vec<Arrival>,
    /// Updates of the round before that came after it, in client order. They count if
    /// [`Stragglers::UseNext`](crate::Stragglers::UseNext) says so.
    pub late: Vec<Arrival>,
    /// Updates that came and count in no round, in client order.
    pub unused: Vec<Arrival>,
    /// Clients without an update, in client order.
    pub failed: Vec<Failure>,
    /// Simulated time of the round; none unless updates count in its order.
    pub simulated_us: Option<u64>,
    /// Durations of its parts.
    pub times: Times,
    /// Reason for the run's end here, if it ends: too few updates. Nothing is aggregated then, and
    /// [`Action::Fail`] follows.
    pub failure: Option<String>,
}

/// The evaluation of a round's model by clients; empty if there was none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EvaluatedRound {
    /// The round.
    pub round: u32,
    /// Answers that came, in client order.
    pub evaluations: Vec<Arrival>,
    /// Clients that were chosen and gave none, in client order.
    pub missing: Vec<Failure>,
    /// From choosing the clients to the last answer.
    pub duration_us: u64,
}

/// Durations of a round's parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Wait for ready clients.
    pub wait_us: u64,
    /// From the first `/start` to the last that was taken or failed.
    pub start_us: u64,
    /// From choosing the cohort to the last update.
    pub train_us: u64,
}
