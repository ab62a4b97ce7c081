//! Data sets of labelled octet vectors, and how their examples are dealt out to clients.
//!
//! A data set is a directory with the four IDX files that MNIST made a habit of, plain or gzipped:
//! `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same with `t10k-` for testing.
//! [`load`] reads them; [`iid`] deals the training examples out.
//!
//! # Invariants
//! - Files are not trusted: no memory is taken for a size that a header claims before the bytes are
//!   there, no file can make this crate panic, and none grows past [`MAX_FILE_BYTES`].
//! - A partition depends on the seed, the number of examples and the sizes alone, on every machine
//!   and in every later version.
//!
//! # Left out on purpose
//! Networks, clients' IDs on the wire, scaling of pixels: inputs stay octets to the end.

#![forbid(unsafe_code)]

mod dataset;
mod directory;
mod error;
mod idx;
mod mnist;
mod partition;

pub use dataset::{Dataset, Splits};
pub use directory::{MAX_FILE_BYTES, files, load};
pub use error::{DataError, Problem};
pub use mnist::default_dir;
pub use partition::{Partition, PartitionError, equal_share, iid};
