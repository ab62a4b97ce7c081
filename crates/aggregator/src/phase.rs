//! Where a run is.

use serde::{Deserialize, Serialize};

/// A run's states. Each round goes through all from [`Phase::WaitingForReady`] to
/// [`Phase::Evaluating`]; round 0 is only evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing has been done yet.
    #[default]
    Created,
    /// Waits for the devices that the round needs.
    WaitingForReady,
    /// Who takes part is settled.
    CohortChosen,
    /// Devices are started and train; their updates come in.
    Training,
    /// The updates become the next global model.
    Aggregating,
    /// The global model is evaluated on the test set.
    Evaluating,
    /// The run is over, well or not.
    Finished,
}

impl Phase {
    /// Whether a run may go from this phase to `next`.
    pub fn can_go_to(self, next: Self) -> bool {
        use Phase::*;
        matches!(
            (self, next),
            (Created, Evaluating)
                | (Created | Evaluating, WaitingForReady)
                | (WaitingForReady, CohortChosen)
                | (CohortChosen, Training)
                | (Training, Aggregating)
                | (Aggregating, Evaluating)
                | (_, Finished)
        )
    }

    /// Whether updates are taken in.
    pub fn takes_updates(self) -> bool {
        self == Self::Training
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_has_one_way_through() {
        use Phase::*;
        let all =
            [Created, WaitingForReady, CohortChosen, Training, Aggregating, Evaluating, Finished];
        for from in &all[1..6] {
            let next: Vec<_> =
                all.iter().filter(|to| **to != Finished && from.can_go_to(**to)).collect();
            assert_eq!(next.len(), 1, "{from:?} goes to {next:?}");
            assert!(from.can_go_to(Finished));
        }
        assert!(Created.can_go_to(Evaluating) && !WaitingForReady.can_go_to(Training));
    }
}
