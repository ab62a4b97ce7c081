//! Examples that the devices of a process share: one set in memory, of which each has a view.

use std::collections::BTreeSet;
use std::sync::Arc;

use fl_client::{Examples, Shelf};
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

/// Most bytes of the lists that are kept from round to round.
const MOST_KEPT: usize = 128 << 20;

/// The examples of a pool.
#[derive(Debug)]
pub(super) struct ListedExamples {
    examples: SharedExamples,
    /// Lists of what each client trains on; none where those of all would never have room.
    shelf: Option<Shelf>,
}

impl ListedExamples {
    pub(super) fn new(examples: SharedExamples) -> Self {
        let clients = examples.training.sizes().count();
        let count: usize = examples.training.sizes().sum();
        // Lists take up to eight times the octets, and those of pictures less than twice.
        let about = count.saturating_mul(2 * examples.set.num_inputs);
        let shelf = (about <= MOST_KEPT).then(|| Shelf::new(clients, MOST_KEPT));
        Self { examples, shelf }
    }

    /// True if a client's examples are in the set.
    pub(super) fn has(&self, client: u32) -> bool {
        !self.examples.fetched_by.contains(&client)
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
    shared: Arc<ListedExamples>,
    client: usize,
    with_holdout: bool,
}

impl Examples for View {
    fn set(&self) -> (&[u8], &[u8]) {
        let Dataset { inputs, labels, .. } = &*self.shared.examples.set;
        (inputs, labels)
    }

    fn places(&self) -> [&[u32]; 2] {
        let SharedExamples {
            training, holdout, ..
        } = &self.shared.examples;
        let holdout = match self.with_holdout {
            true => holdout.indices(self.client),
            false => &[],
        };
        [training.indices(self.client), holdout]
    }

    fn shelf(&self) -> Option<(&Shelf, usize)> {
        let shelf = self.shared.shelf.as_ref()?;
        Some((shelf, self.client))
    }
}
