//! The examples of a run: the data set that is asked for, and how it is dealt out.

use crate::experiment::{Experiment, Out};
use crate::refusal::{Refusal, require};
use crate::root::{DIGITS, Data, Root};
use crate::rule::{PartitionChoice, Partitioning};
use crate::settings::Settings;
use fl_data::{Loaded, MAX_INDICES_BYTES, Natural, PARTITIONERS, PartitionRequest, Splits};
use std::path::{Path, PathBuf};

/// A data set, and what else is known of it.
pub(crate) struct Examples {
    /// The examples.
    pub splits: Splits,
    /// Whom those for training are from.
    pub natural: Option<Natural>,
    /// The text of the file of indices that says it.
    pub partition_text: Option<String>,
    /// Lines for people.
    pub notes: Vec<String>,
}

impl Examples {
    /// Loads the data set that is asked for.
    ///
    /// # Errors
    /// A [`Refusal`] with the file that cannot be used, and the way out.
    pub fn load(settings: &Settings, out: Out<'_>, root: &Root) -> Result<Self, Refusal> {
        let data = root.data(settings.data.as_deref());
        let falls_back = settings.data.is_none() && data == Data::Digits;
        require(!falls_back || matches!(out, Out::New(_)), || {
            "the run was on data/mnist of a tree of zfl, and there is none here: name the tree with --root"
                .to_owned()
        })?;
        let loaded = match &data {
            Data::Digits => fl_data::digits(),
            Data::Folder(dir) => fl_data::load(dir),
        };
        let loaded = loaded.map_err(|error| match &data {
            Data::Folder(dir) if root.mnist().as_ref() == Some(dir) => {
                format!("{error}; or restore it with: git checkout -- data/mnist")
            }
            _ => error.to_string(),
        });
        let Loaded { splits, warnings } = loaded.map_err(Refusal)?;
        let mut notes: Vec<_> = warnings
            .into_iter()
            .map(|line| format!("warning: {line}"))
            .collect();
        if falls_back {
            notes.push(format!(
                "no MNIST here: the data are the digits of 8 x 8 pixels that are built in ({} to train on); --data \
                 takes others",
                splits.train.len()
            ));
        }
        let mut examples = Self {
            splits,
            natural: None,
            partition_text: None,
            notes,
        };
        if let Some(path) = &settings.partition_file {
            examples.read_indices(path)?;
        }
        Ok(examples)
    }

    fn read_indices(&mut self, path: &Path) -> Result<(), Refusal> {
        let refused = |problem: String| Refusal(format!("partition_file: {problem}"));
        let text = zfl_files::read_text(path, MAX_INDICES_BYTES);
        let text = text.map_err(|error| refused(error.to_string()))?;
        let natural = Natural::of_indices(&text);
        let at = |problem| refused(format!("{}: {problem}", path.display()));
        self.natural = Some(natural.map_err(at)?);
        self.partition_text = Some(text);
        Ok(())
    }

    /// The settings with as many clients as the examples are from, where that decides it and nothing else is said.
    ///
    /// # Errors
    /// A [`Refusal`] if a file of indices is given to a rule that reads none.
    pub fn counted(
        &self,
        settings: &Settings,
        partitioning: &Partitioning,
    ) -> Result<Settings, Refusal> {
        let by_data = partitioning.rule.num_clients(self.natural.as_ref());
        require(self.partition_text.is_none() || by_data.is_some(), || {
            let mut rules = PARTITIONERS.iter();
            let reads = rules.find(|rule| rule.num_clients(self.natural.as_ref()).is_some());
            let (reads, rule) = (
                reads.map_or("", |rule| rule.name()),
                partitioning.rule.name(),
            );
            format!(
                "partition_file is for the partition `{reads}`, and this one is `{rule}`: give --partition \
                 {reads}, or leave the file out"
            )
        })?;
        let mut settings = settings.clone();
        if settings.fleet.is_empty() {
            let there = by_data.and_then(|clients| u32::try_from(clients).ok());
            settings.clients = settings.clients.or(there);
        }
        Ok(settings)
    }
}

/// The data set as `config.toml` names it; not at all, if it is the MNIST of the tree.
pub(crate) fn named(settings: &Settings, root: &Root) -> Option<PathBuf> {
    let canonical = |dir: PathBuf| dir.canonicalize().unwrap_or(dir);
    match root.data(settings.data.as_deref()) {
        Data::Digits => Some(DIGITS.into()),
        Data::Folder(dir) => {
            let dir = canonical(dir);
            (root.mnist().map(canonical).as_ref() != Some(&dir)).then_some(dir)
        }
    }
}

impl Experiment {
    /// Deals the training examples out, and takes over the sizes if the partitioner decides them.
    pub(crate) fn deal(&mut self, examples: &Examples) -> Result<(), Refusal> {
        let asked = |client| match self.group(client) {
            Some(group) => group.max_examples,
            None => self.examples_per_client.unwrap_or(0),
        };
        let sizes: Vec<usize> = (0..self.clients)
            .map(|client| asked(client) as usize)
            .collect();
        let train = &examples.splits.train;
        let request = PartitionRequest {
            labels: &train.labels,
            num_classes: train.num_classes,
            sizes: &sizes,
            seed: self.seed,
            natural: examples.natural.as_ref(),
        };
        let PartitionChoice { rule, params } = &self.partitioning.0;
        let dealt = rule.deal(&request, params);
        let refused = |error| Refusal(format!("partition {}: {error}", rule.name()));
        let whole = dealt.map_err(refused)?;
        (self.partition, self.held_out) = whole.hold_out(train, self.holdout, self.seed);
        if rule.decides_sizes() {
            let mut sizes = whole.sizes();
            for group in &mut self.groups {
                let most = sizes.by_ref().take(group.count as usize).max();
                group.examples = None;
                group.max_examples = most.unwrap_or(0) as u32;
            }
        }
        Ok(())
    }
}
