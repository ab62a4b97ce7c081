//! Data sets of labelled octet vectors, and how their examples are dealt out to clients.
//!
//! A data set is a directory with the four IDX files that MNIST made a habit of, plain or gzipped:
//! `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same with `t10k-` for testing. [`load`] reads
//! them, also under other common names; [`digits`] is a small one that is built in. A [`Partitioner`] deals the
//! training examples out.
//!
//! # Invariants
//! - Files are not trusted: no memory is taken for a size that a header claims before the bytes are
//!   there, no file can make this crate panic, and none grows past [`MAX_FILE_BYTES`].
//! - A partition depends on the seed, the labels, the sizes asked for and the parameters alone, on every
//!   machine and in every later version.
//!
//! # Left out on purpose
//! Models, clients' IDs on the wire, scaling of pixels: inputs stay octets to the end.

#![forbid(unsafe_code)]

mod dataset;
mod error;
mod partition;
mod source;

pub use dataset::{Dataset, Splits};
pub use error::{DataError, Problem};
pub use partition::{
    MAX_INDICES_BYTES, Natural, PARTITIONERS, Partition, PartitionError, PartitionRequest,
    PartitionSummary, Partitioner, equal_share, iid, partitioner,
};
pub use source::{DIGITS, Loaded, MAX_FILE_BYTES, digits, files, load};
