//! The examples of a run: the data set that is asked for, and how it is dealt out.

use crate::experiment::{Experiment, Out};
use crate::refusal::{Refusal, require};
use crate::root::{Data, Root, SCHEME};
use crate::rule::{PartitionChoice, Partitioning};
use crate::settings::Settings;
use fl_data::{
    DataError, Loaded, MAX_INDICES_BYTES, Natural, PARTITIONERS, Partition, PartitionRequest,
    Scaling, Splits,
};
use std::path::{Path, PathBuf};

/// A part of a data set: what a node of a launch has for its cluster.
#[derive(Debug)]
pub struct DataPart {
    /// Training examples of the cluster's clients, and none for evaluation.
    pub splits: Splits,
    /// Those of each client.
    pub partition: Partition,
    /// Training examples of the whole data set.
    pub num_train: u32,
}

/// A data set, and what else is known of it.
pub(crate) struct Examples {
    /// The examples.
    pub splits: Splits,
    /// Whom those for training are from.
    pub natural: Option<Natural>,
    /// The text of the file of indices that says it.
    partition_text: Option<String>,
    /// Scales of features that were no octets.
    scaling: Option<Scaling>,
    /// Training examples of the data set that these are a part of, and how they have been dealt out.
    part: Option<(u32, Partition)>,
    /// Lines for people.
    pub notes: Vec<String>,
}

impl Examples {
    /// Loads the data set that is asked for.
    ///
    /// # Errors
    /// A [`Refusal`] with the file that cannot be used, and the way out.
    pub fn load(settings: &Settings, out: Out<'_>, root: &Root) -> Result<Self, Refusal> {
        let data = root.data(settings.data.as_deref())?;
        let falls_back = settings.data.is_none() && matches!(data, Data::Digits);
        require(!falls_back || matches!(out, Out::New(_)), || {
            "the run was on data/mnist of a tree of zfl, and there is none here: name the tree with --root"
                .to_owned()
        })?;
        let Loaded {
            splits,
            natural,
            scaling,
            warnings,
        } = load(&data, root)?;
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
            natural,
            partition_text: None,
            scaling,
            part: None,
            notes,
        };
        if let Some(path) = &settings.partition_file {
            examples.read_indices(path)?;
        }
        Ok(examples)
    }

    /// A part that has been dealt out already.
    pub fn of_part(part: DataPart) -> Self {
        Self {
            splits: part.splits,
            natural: None,
            partition_text: None,
            scaling: None,
            part: Some((part.num_train, part.partition)),
            notes: Vec::new(),
        }
    }

    /// Training examples of the data set.
    pub fn num_train(&self) -> usize {
        let whole = self.part.as_ref().map(|(whole, _)| *whole as usize);
        whole.unwrap_or(self.splits.train.len())
    }

    /// Tells an experiment what else is known of its examples.
    pub fn tell(&mut self, experiment: &mut Experiment) {
        experiment.partition_text = self.partition_text.take();
        experiment.scaling = self.scaling.take();
        let named = experiment
            .partitioning
            .rule
            .num_clients(self.natural.as_ref());
        if let (Some(natural), Some(_)) = (&mut self.natural, named) {
            experiment.client_names = std::mem::take(&mut natural.names);
        }
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

/// Loads the data set that is asked for, by these scales if they are given.
///
/// # Errors
/// A [`Refusal`] with the file that cannot be used, and the way out.
pub fn load_data(
    asked: Option<&Path>,
    scaling: Option<&Scaling>,
    root: &Root,
) -> Result<Loaded, Refusal> {
    match (root.data(asked)?, scaling) {
        (Data::Folder(dir) | Data::Set(_, dir), Some(scaling)) if dir.exists() => {
            fl_data::load_scaled(&dir, scaling).map_err(|error| Refusal(error.to_string()))
        }
        (data, _) => load(&data, root),
    }
}

/// Loads a data set.
fn load(data: &Data, root: &Root) -> Result<Loaded, Refusal> {
    let words = |error: DataError| Refusal(error.to_string());
    match data {
        Data::Digits => fl_data::digits().map_err(words),
        Data::Synthetic(_, set) => set.load().map_err(|error| Refusal(error.to_string())),
        Data::Set(set, folder) => {
            require(folder.is_dir(), || {
                let name = set.name;
                format!("the data set {name} is not here: fetch it with: zfl data get {name}")
            })?;
            let again =
                |error| format!("{error}; or fetch it again with: zfl data get {}", set.name);
            fl_data::load(folder).map_err(|error| Refusal(again(error)))
        }
        Data::Folder(dir) => fl_data::load(dir).map_err(|error| match root.mnist() {
            Some(mnist) if mnist == *dir => Refusal(format!(
                "{error}; or restore it with: git checkout -- data/mnist"
            )),
            _ => words(error),
        }),
    }
}

/// The data set as `config.toml` names it; not at all, if it is the MNIST of the tree.
pub(crate) fn named(settings: &Settings, root: &Root) -> Result<Option<PathBuf>, Refusal> {
    let canonical = |dir: PathBuf| dir.canonicalize().unwrap_or(dir);
    let data = root.data(settings.data.as_deref())?;
    if let Some(name) = data.name() {
        return Ok(Some(format!("{SCHEME}{name}").into()));
    }
    let Data::Folder(dir) = data else {
        return Ok(None);
    };
    let dir = canonical(dir);
    Ok((root.mnist().map(canonical).as_ref() != Some(&dir)).then_some(dir))
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
        let refused = |error| Refusal(format!("partition {}: {error}", rule.name()));
        let whole = match &examples.part {
            Some((_, dealt)) => dealt.clone(),
            None => rule.deal(&request, params).map_err(refused)?,
        };
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
