//! The updates of a round, held until its end.

use alloc::vec::Vec;

use super::{Rejected, Update};
use crate::exact;

/// Updates for a rule that needs all of them at once.
pub(crate) struct Held {
    len: usize,
    updates: Vec<Update>,
}

impl Held {
    /// None so far, of models of `len` parameters.
    pub fn new(len: usize) -> Self {
        Self {
            len,
            updates: Vec::new(),
        }
    }

    /// Begins a round.
    pub fn begin(&mut self) {
        self.updates.clear();
    }

    /// Holds an update.
    ///
    /// # Errors
    /// [`Rejected`] if its model has another length or a number that is not finite.
    pub fn add(&mut self, update: &Update) -> Result<(), Rejected> {
        exact::check(self.len, update.model())?;
        self.updates.push(update.clone());
        Ok(())
    }

    /// Ends the round: its updates in the order of clients, of one client the older first.
    pub fn take(&mut self) -> Vec<Update> {
        let mut updates = core::mem::take(&mut self.updates);
        updates.sort_by_key(|update| (update.client, update.round));
        updates
    }
}
