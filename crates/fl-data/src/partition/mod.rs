//! Partitioners: rules by which training examples are dealt out to clients.
//!
//! A partitioner is a file with an implementation of [`Partitioner`], and a line in the list below.

mod gamma;
mod holdout;
mod origin;
mod pool;
mod sizes;
mod summary;

use crate::dataset::Dataset;
use fl_param::{ParamSpec, Params};
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

pub use iid::{equal_share, iid};
pub use origin::{MAX_INDICES_BYTES, Natural};
pub use summary::PartitionSummary;

/// Declares the files of partitioners, and the list of them.
macro_rules! partitioners {
    ($($file:ident::$partitioner:ident,)*) => {
        $(mod $file;)*

        /// All partitioners; the first is the default.
        pub static PARTITIONERS: &[&dyn Partitioner] = &[$(&$file::$partitioner,)*];
    };
}

partitioners! {
    iid::Iid,
    dirichlet::Dirichlet,
    pathological::Pathological,
    shard::Shard,
    linear::Linear,
    square::Square,
    exponential::Exponential,
    overlapping::Overlapping,
    power_law::PowerLaw,
    natural::ById,
}

/// Rule by which examples are dealt out.
pub trait Partitioner: Sync {
    /// Name on the command line and in files.
    fn name(&self) -> &'static str;

    /// Meaning, in one line.
    fn doc(&self) -> &'static str;

    /// Parameters, with defaults and bounds.
    fn params(&self) -> &'static [ParamSpec] {
        &[]
    }

    /// Tells if the rule decides how many examples each client has; otherwise that is asked for.
    fn decides_sizes(&self) -> bool;

    /// Tells if clients may share examples, so that they may ask for more in all than there are.
    fn shares(&self) -> bool {
        false
    }

    /// Clients that there are, if the data say it.
    fn num_clients(&self, _natural: Option<&Natural>) -> Option<usize> {
        None
    }

    /// Deals the examples out. The same request gives the same partition on every machine.
    ///
    /// # Errors
    /// [`PartitionError`] if they cannot be dealt out so.
    fn deal(
        &self,
        request: &PartitionRequest<'_>,
        params: &Params,
    ) -> Result<Partition, PartitionError>;
}

/// Finds a partitioner by its name.
pub fn partitioner(name: &str) -> Option<&'static dyn Partitioner> {
    let mut all = PARTITIONERS.iter().copied();
    all.find(|partitioner| partitioner.name() == name)
}

/// Request for a partition.
///
/// A rule that decides sizes keeps to the sum of `sizes` alone: at most as many examples are dealt out, drawn at random
/// from all. What the data say themselves, they say of all examples.
#[derive(Clone, Copy, Debug)]
pub struct PartitionRequest<'a> {
    /// `[num_examples]`, each below `num_classes`.
    pub labels: &'a [u8],
    /// Number of classes.
    pub num_classes: usize,
    /// Examples asked for each client.
    pub sizes: &'a [usize],
    /// Seed of the run.
    pub seed: u64,
    /// Whom the examples are from, if that is known.
    pub natural: Option<&'a Natural>,
}

/// The examples of each client: indices into the training set. Copies share their memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// Client after client.
    indices: Arc<[u32]>,
    /// End of each client's.
    ends: Arc<[usize]>,
}

impl Partition {
    /// A partition from the indices of each client.
    pub(crate) fn new(clients: Vec<Vec<u32>>) -> Self {
        Self::of(clients.into_iter())
    }

    /// A partition from the indices of each client, of which one is held at a time.
    pub(crate) fn of(clients: impl Iterator<Item = Vec<u32>>) -> Self {
        let mut indices = Vec::new();
        let end = |own: Vec<u32>| {
            indices.extend(own);
            indices.len()
        };
        Self {
            ends: clients.map(end).collect(),
            indices: indices.into(),
        }
    }

    /// The partition of a part of the data: the examples of the clients of `cluster`, of these sizes, one client behind
    /// the other; the `clients` that are not of it have none.
    pub fn of_part(clients: u32, cluster: Range<u32>, sizes: &[u32]) -> Self {
        let mut next = 0_u32;
        let mut sizes = sizes.iter();
        let each = (0..clients).map(|client| {
            let size = cluster.contains(&client).then(|| sizes.next()).flatten();
            let first = next;
            next = next.saturating_add(size.copied().unwrap_or(0));
            (first..next).collect()
        });
        Self::new(each.collect())
    }

    /// Number of clients.
    pub fn num_clients(&self) -> usize {
        self.ends.len()
    }

    /// The examples of `client`, in the order in which it receives them; none for an unknown one.
    pub fn indices(&self, client: usize) -> &[u32] {
        let begin = client.checked_sub(1).map_or(0, |before| self.end(before));
        &self.indices[begin..self.end(client)]
    }

    /// End of a client's examples; of an unknown one, that of all.
    fn end(&self, client: usize) -> usize {
        let end = self.ends.get(client);
        end.map_or(self.indices.len(), |end| *end)
    }

    /// The examples of each client.
    pub fn clients(&self) -> impl Iterator<Item = &[u32]> {
        (0..self.num_clients()).map(|client| self.indices(client))
    }

    /// Number of examples of each client.
    pub fn sizes(&self) -> impl Iterator<Item = usize> {
        self.clients().map(<[u32]>::len)
    }

    /// Counts the examples of each client by label.
    ///
    /// # Shapes
    /// `[num_clients][num_classes]`.
    pub fn label_counts(&self, data: &Dataset) -> Vec<Vec<u32>> {
        self.clients()
            .map(|indices| {
                let mut counts = vec![0; data.num_classes];
                for label in data.gather_labels(indices) {
                    if let Some(count) = counts.get_mut(usize::from(label)) {
                        *count += 1;
                    }
                }
                counts
            })
            .collect()
    }

    /// Sums up what the clients have.
    pub fn summary(&self, data: &Dataset) -> PartitionSummary {
        PartitionSummary::of(self, data)
    }

    /// Writes the table `client,examples,label_0,…` as CSV.
    pub fn to_csv(&self, data: &Dataset) -> String {
        let mut csv = "client,examples".to_owned();
        for label in 0..data.num_classes {
            let _ = write!(csv, ",label_{label}");
        }
        csv.push('\n');
        for (client, counts) in self.label_counts(data).iter().enumerate() {
            let _ = write!(csv, "{client},{}", self.indices(client).len());
            for count in counts {
                let _ = write!(csv, ",{count}");
            }
            csv.push('\n');
        }
        csv
    }
}

/// Reason why examples cannot be dealt out as asked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PartitionError {
    /// The sizes add up to more than there is.
    #[error(
        "the clients ask for {asked} examples in all, the data set has {available}: take fewer clients, or \
         fewer examples each"
    )]
    TooFewExamples {
        /// Sum of the sizes.
        asked: u64,
        /// Examples there are.
        available: u64,
    },
    /// A client would have nothing to train on.
    #[error("client {client} would get no example: give every client one or more")]
    EmptyClient {
        /// The client's ID.
        client: usize,
    },
    /// More examples than a 32-bit index can tell apart.
    #[error("a data set of more than 2^32 - 1 examples")]
    TooManyExamples,
    /// A reason of the partitioner's own, with what to change.
    #[error("{0}")]
    Refused(String),
}

/// Number of examples as an index has it.
fn available(num_examples: usize) -> Result<u32, PartitionError> {
    u32::try_from(num_examples).map_err(|_| PartitionError::TooManyExamples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitioners_are_found_by_name_and_have_names_of_their_own() {
        for partitioner in PARTITIONERS {
            let found = super::partitioner(partitioner.name()).unwrap();
            assert!(found.doc().split_whitespace().count() > 3, "a meaning");
            for spec in partitioner.params() {
                let mut params = Params::defaults(partitioner.params());
                params.set(spec.name, spec.default).unwrap();
            }
        }
        assert!(partitioner("round-robin").is_none());
        assert_eq!(PARTITIONERS[0].name(), "iid");
        let decide_sizes = |name| partitioner(name).unwrap().decides_sizes();
        assert!(!decide_sizes("iid") && decide_sizes("dirichlet"));
    }

    #[test]
    fn the_table_counts_labels_by_client() {
        let data = Dataset {
            inputs: vec![0; 5],
            labels: vec![0, 2, 2, 1, 0],
            num_inputs: 1,
            num_classes: 3,
        };
        let partition = Partition::new(vec![vec![4, 1, 2], vec![3]]);
        assert_eq!(
            partition.to_csv(&data),
            "client,examples,label_0,label_1,label_2\n0,3,1,0,2\n1,1,0,1,0\n"
        );
        assert_eq!(partition.sizes().collect::<Vec<_>>(), [3, 1]);
        assert_eq!(
            partition.summary(&data).to_string(),
            "1 to 3 examples (median 1) of 1 to 2 classes (median 1) a device, 4 of 5 in all"
        );
    }
}
