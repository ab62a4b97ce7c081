//! Data sets of labelled octet vectors, and how their examples are dealt out to clients.
//!
//! A data set is a directory with the four IDX files that MNIST made a habit of, plain or gzipped
//! (`train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same with `t10k-` for testing, also under other
//! common names), or a table of features in CSV. [`load`] reads both. [`digits`] is a small set that is built in,
//! [`Synthetic`] one that is generated, [`SETS`] those with a name. Features that are no octets become octets by
//! [`Scaling`]. A [`Partitioner`] deals the training examples out.
//!
//! # Invariants
//! - Files are not trusted: no memory is taken for a size that a header claims before the bytes are
//!   there, no file can make this crate panic, and none grows past [`MAX_FILE_BYTES`].
//! - A partition depends on the seed, the labels, the sizes asked for and the parameters alone, on every
//!   machine and in every later version.
//!
//! # Left out on purpose
//! Models, clients' IDs on the wire: inputs are octets to the end. Fetching what is not here.

#![forbid(unsafe_code)]

mod dataset;
mod error;
mod partition;
mod scaling;
mod sets;
mod source;

pub use dataset::{Dataset, Splits};
pub use error::{DataError, Problem};
pub use partition::{
    MAX_INDICES_BYTES, Natural, PARTITIONERS, Partition, PartitionError, PartitionRequest,
    PartitionSummary, Partitioner, equal_share, iid, partitioner,
};
pub use scaling::{CLIP, ColumnScale, Scaling};
pub use sets::{SETS, Set, set};
pub use source::{
    DIGITS, Loaded, MAX_FILE_BYTES, Synthetic, Windows, digits, files, load, load_scaled,
    load_text, watch_tables,
};
