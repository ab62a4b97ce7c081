//! Rules of the rounds, as values.

/// Rules of a run's rounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Clients that there may be: IDs `0..clients`.
    pub clients: u32,
    /// First round to run: 1, or more when a run is resumed.
    pub first_round: u32,
    /// Last round to run.
    pub last_round: u32,
    /// Seed that every cohort is drawn from.
    pub seed: u64,
    /// Updates that a round is meant to have.
    pub clients_per_round: u32,
    /// Clients started beyond that, so that some may fail.
    pub over_commit: u32,
    /// Updates without which a round fails.
    pub quorum: u32,
    /// Ready clients to wait for before a round; those known to be out are not waited for.
    pub wait_for: u32,
    /// Longest wait for them.
    pub ready_deadline_us: u64,
    /// Longest duration of a round, from choosing the cohort to its last update.
    pub round_deadline_us: u64,
    /// Silence after which a suspect is no longer asked before a round.
    pub gone_after_us: u64,
    /// Treatment of updates that come after their round.
    pub stragglers: Stragglers,
    /// Order in which updates count, where a round takes only the first.
    pub order: Order,
    /// Rules of `/start`.
    pub start: StartPolicy,
    /// Evaluation of new models by clients, if there is any.
    pub evaluation: Option<EvaluationPolicy>,
}

/// Rules by which clients evaluate a new model on data of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvaluationPolicy {
    /// Rounds from one evaluation to the next; the last round has one anyway.
    pub every: u32,
    /// Number of clients drawn from all; `None`: the cohort of the round.
    pub clients: Option<u32>,
    /// Longest wait for their answers.
    pub deadline_us: u64,
}

impl EvaluationPolicy {
    /// True if the model of a round is evaluated.
    pub(crate) fn is_due(&self, round: u32, last_round: u32) -> bool {
        round == last_round || round.is_multiple_of(self.every.max(1))
    }
}

/// Order in which updates count, where a round takes only the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The order in which they come: another run may have another one.
    #[default]
    Arrival,
    /// The order in which devices would finish, by the time that a round takes each
    /// ([`Measured::took_us`](crate::Measured::took_us)); of equal times that of the clients. A round waits
    /// for all that are under way, so that no update can come that belongs before one that was counted.
    Simulated,
}

/// Treatment of updates that come after their round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stragglers {
    /// Refused.
    #[default]
    Refuse,
    /// Added to the next round, if they are of the round before.
    UseNext,
    /// A round ends with `size` updates, of whatever round they are; clients that still train stay in
    /// flight, and their updates count later with their staleness.
    ///
    /// FedBuff, Nguyen et al. 2022: <https://arxiv.org/abs/2106.06639>.
    Buffer {
        /// Updates that end a round.
        size: u32,
        /// Rounds that an update may be older than the model that it is added to.
        staleness: u32,
    },
}

/// Rules of `/start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartPolicy {
    /// Requests under way at once.
    pub at_once: usize,
    /// Tries after which the round goes on to train without this answer. The client is asked on until
    /// the deadline of the round.
    pub tries: u32,
    /// Pause after the first try; it doubles with each try.
    pub first_pause_us: u64,
    /// Longest pause between two tries.
    pub longest_pause_us: u64,
    /// Longest wait for one answer.
    pub within_us: u64,
}

impl StartPolicy {
    /// Pause after a number of tries.
    pub(crate) fn pause_us(&self, tries: u32) -> u64 {
        let doubled = 1_u64
            .checked_shl(tries.saturating_sub(1))
            .unwrap_or(u64::MAX);
        let pause = self.first_pause_us.saturating_mul(doubled);
        // A pause of nothing would ask without end.
        pause.min(self.longest_pause_us).max(1)
    }
}
