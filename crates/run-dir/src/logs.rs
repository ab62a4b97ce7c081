//! Logs of a run's devices: `serial/<client>.log`.

use std::fs::File;
use std::path::Path;

use zfl_files::{Dir, FileError};

/// Most of a log, in bytes: 4 times what a device may write.
const MAX_LOG: u64 = 64 << 20;

/// Opens the log of a device.
///
/// # Errors
/// If there is none, or no ordinary file.
pub fn log(run: &Path, client: u32) -> Result<File, FileError> {
    Dir::open(run)?.open_file(&format!("serial/{client}.log"), MAX_LOG)
}
