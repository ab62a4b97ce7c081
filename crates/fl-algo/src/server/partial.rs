//! Partial sums: the updates of a cluster, added up by its edge without any rounding.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};

use super::{KeptVectors, Rejected, Update};
use crate::exact::{self, ExactMean, ExactSum};

/// The updates of a cluster as sums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// Weighted sum of the models, and the weights in it.
    pub mean: ExactMean,
    /// Changes of the sum of each kept vector that the server mirrors, by its name.
    pub changes: BTreeMap<String, ExactSum>,
}

impl Partial {
    /// Memory of the sums, in octets.
    pub fn held(&self) -> usize {
        let changes = self.changes.values().map(ExactSum::held);
        self.mean.sum().held() + changes.sum::<usize>()
    }

    /// Sums of nothing, of a model and of mirrored vectors of these lengths.
    pub fn new<'a>(model: usize, mirrored: impl IntoIterator<Item = (&'a str, usize)>) -> Self {
        let changes = mirrored.into_iter();
        Self {
            mean: ExactMean::new(model),
            changes: changes
                .map(|(name, len)| (name.to_string(), ExactSum::new(len)))
                .collect(),
        }
    }

    /// Adds an update, or the sums of another edge. `before` is what was kept of its client until now.
    ///
    /// # Errors
    /// [`Rejected`] if it is of no use; nothing has changed then.
    pub fn add(&mut self, update: &Update, before: Option<&KeptVectors>) -> Result<(), Rejected> {
        if let Some(partial) = &update.partial {
            return self.merge(partial);
        }
        exact::check(self.mean.sum().len(), update.model())?;
        let old = |name: &str| before.and_then(|kept| kept.sections.get(name));
        for (name, sum) in &self.changes {
            exact::check(sum.len(), update.section(name))?;
            old(name).map_or(Ok(()), |old| exact::check(sum.len(), old))?;
        }
        update.add_to(&mut self.mean)?;
        for (name, sum) in &mut self.changes {
            sum.add(1, update.section(name))?;
            if let Some(old) = old(name) {
                sum.subtract(1, old)?;
            }
        }
        Ok(())
    }

    /// Adds the sums of another edge.
    ///
    /// # Errors
    /// [`Rejected`] if they are of another model or rule.
    pub fn merge(&mut self, other: &Self) -> Result<(), Rejected> {
        for (name, sum) in &self.changes {
            if other.changed(name)?.len() != sum.len() {
                return Err(Rejected(format!("section {name} has another length")));
            }
        }
        self.mean.merge(&other.mean)?;
        for (name, sum) in &mut self.changes {
            sum.merge(other.changed(name)?)?;
        }
        Ok(())
    }

    /// Change of the sum of a mirrored vector.
    ///
    /// # Errors
    /// [`Rejected`] if it is not there.
    pub fn changed(&self, name: &str) -> Result<&ExactSum, Rejected> {
        let found = self.changes.get(name);
        found.ok_or_else(|| Rejected(format!("section {name} is missing")))
    }
}
