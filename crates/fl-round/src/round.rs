//! A round that takes updates, and the places of its cohort.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::action::Arrival;
use crate::client::ClientState;
use crate::selection::Measured;
use crate::starts::Starts;

/// A client's place in a round.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    pub round: u32,
    /// Token that the update must bring.
    pub token: u64,
    /// Set once the update is in, or will not come.
    pub outcome: Option<Outcome>,
    /// The client is known to fail in this round: no update of it counts, and it is waited for in the next.
    pub will_fail: bool,
    /// True if its update is damaged on the way.
    pub corrupt: bool,
    /// Time at which the cohort was chosen.
    pub chosen_us: u64,
    /// The same in simulated time, and the time for which the client is held up on purpose.
    pub begins_us: u64,
    /// The client has taken its `/start`.
    pub started: bool,
    /// A `/start` is under way.
    pub asked: bool,
    /// Tries of its `/start` so far.
    pub attempts: u32,
    /// The phase of starting no longer waits for it.
    pub settled: bool,
}

impl Assignment {
    /// State of a client that has not done its part by the end of the round. What was known before the
    /// round says nothing against it.
    pub fn after_silence(&self) -> ClientState {
        match self.will_fail {
            true => ClientState::Fetched,
            false => ClientState::Suspect,
        }
    }
}

/// An update that is in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Taken {
    /// Its client, round and number.
    pub arrival: Arrival,
    /// Simulated time at which its client is done.
    pub done_us: u64,
    /// Measurements that came with it.
    pub measured: Measured,
}

/// End of a place in a cohort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The update is in.
    Received,
    /// The update came after its round, and does not count.
    Late,
    /// It will not come.
    Failed(String),
}

/// The round that updates are taken for.
#[derive(Clone, Debug)]
pub(crate) struct OpenRound {
    pub round: u32,
    pub chosen_us: u64,
    pub deadline_us: u64,
    /// Wait for ready clients before it.
    pub wait_us: u64,
    pub assignments: BTreeMap<u32, Assignment>,
    /// Assignments without an outcome.
    pub missing: usize,
    pub updates: Vec<Taken>,
    pub starts: Starts,
}

impl OpenRound {
    /// Gives the place of a client up, if it still waits for an update; returns true if it did.
    pub fn fail(&mut self, client: u32, reason: impl FnOnce() -> String) -> bool {
        let assignment = self.assignments.get_mut(&client);
        let Some(assignment) = assignment.filter(|one| one.outcome.is_none()) else {
            return false;
        };
        assignment.outcome = Some(Outcome::Failed(reason()));
        self.missing -= 1;
        true
    }
}

/// The round before, for updates that come late.
#[derive(Clone, Debug)]
pub(crate) struct PreviousRound {
    pub round: u32,
    pub assignments: BTreeMap<u32, Assignment>,
}

impl PreviousRound {
    /// The assignment of a client that brings the right token for this round.
    pub fn assignment(
        &mut self,
        client: u32,
        round: u32,
        token: Option<u64>,
    ) -> Option<&mut Assignment> {
        let assignment = self.assignments.get_mut(&client)?;
        (self.round == round && Some(assignment.token) == token).then_some(assignment)
    }
}
