//! Examples that the devices of a process share: one set in memory, of which each has a view.

use std::collections::BTreeSet;
use std::sync::Arc;

use fl_client::Examples;
use fl_data::{Dataset, Partition};

/// A data set, and whose its examples are.
#[derive(Clone, Debug)]
pub struct SharedExamples {
    /// The set.
    pub set: Arc<Dataset>,
    /// Examples to train on.
    pub training: Partition,
    /// Examples held out.
    pub holdout: Partition,
    /// Clients that fetch theirs all the same: they are not as they lie in the set.
    pub fetched_by: BTreeSet<u32>,
}

impl SharedExamples {
    /// True if a client's examples are in the set.
    pub(super) fn has(&self, client: u32) -> bool {
        !self.fetched_by.contains(&client)
    }

    /// The examples of a client; those held out only if there are any for it.
    pub(super) fn of(self: &Arc<Self>, client: u32, with_holdout: bool) -> View {
        View {
            shared: Arc::clone(self),
            client: client as usize,
            with_holdout,
        }
    }
}

/// A client's view on the set.
#[derive(Clone, Debug)]
pub(super) struct View {
    shared: Arc<SharedExamples>,
    client: usize,
    with_holdout: bool,
}

impl Examples for View {
    fn set(&self) -> (&[u8], &[u8]) {
        let Dataset { inputs, labels, .. } = &*self.shared.set;
        (inputs, labels)
    }

    fn places(&self) -> [&[u32]; 2] {
        let holdout = self.shared.holdout.indices(self.client);
        let holdout = if self.with_holdout { holdout } else { &[] };
        [self.shared.training.indices(self.client), holdout]
    }
}
