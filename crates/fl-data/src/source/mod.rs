//! Sources of data sets.

mod directory;
mod idx;
mod mnist;

pub use directory::{MAX_FILE_BYTES, files, load};
pub use mnist::default_dir;
