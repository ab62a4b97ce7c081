//! Sources of data sets.

mod digits;
mod directory;
mod gzip;
mod idx;
mod names;
mod packing;
mod sums;

pub use digits::{DIGITS, digits};
pub use directory::{Loaded, MAX_FILE_BYTES, files, load};
