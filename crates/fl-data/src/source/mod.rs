//! Sources of data sets.

mod digits;
mod directory;
mod gzip;
mod idx;
mod names;
mod packing;
mod rows;
mod sums;
mod synthetic;
mod table;
mod watch;

pub use digits::{DIGITS, digits};
pub use directory::{Loaded, MAX_FILE_BYTES};
pub use synthetic::Synthetic;
pub use table::load_text;
pub use watch::{Windows, watch_tables};

use crate::error::DataError;
use crate::scaling::Scaling;
use std::path::{Path, PathBuf};

/// Loads the data set of a folder with four IDX files, of a file of CSV, or of a folder with two of them.
///
/// # Errors
/// [`DataError`] names the file that is missing, truncated, malformed or not the expected one.
pub fn load(path: &Path) -> Result<Loaded, DataError> {
    match table::files(path) {
        Some(files) => table::load(path, files, None),
        None => directory::load(path),
    }
}

/// Loads a data set for a model whose data had these scales: features of CSV become octets by them.
///
/// # Errors
/// As of [`load`]; if columns or classes are others than those of the scales.
pub fn load_scaled(path: &Path, scaling: &Scaling) -> Result<Loaded, DataError> {
    match table::files(path) {
        Some(files) => table::load(path, files, Some(scaling)),
        None => directory::load(path),
    }
}

/// The files that [`load`] reads, in the order of their names.
pub fn files(path: &Path) -> Vec<PathBuf> {
    let mut files = table::files(path).unwrap_or_else(|| directory::files(path));
    files.sort();
    files
}
