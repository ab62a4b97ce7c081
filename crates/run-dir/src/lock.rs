//! The lock on a run directory, held by the process that makes the run.

use std::io;
use std::path::Path;

use zfl_files::{Dir, FileError, Holder, Lock};

/// The file in a run directory that is locked, and tells which process makes the run.
pub const PID_FILE: &str = "pid";

/// Makes the directory of a run and locks it.
///
/// # Errors
/// Of kind `AlreadyExists` if there is something; if it cannot be made.
pub fn create_new(run: &Path) -> Result<Lock, FileError> {
    Lock::take(Dir::create_new(run)?, PID_FILE)
}

/// Locks the directory of a run, and makes it where it is missing.
///
/// # Errors
/// If another run has it, or it cannot be made.
pub fn claim(run: &Path) -> Result<Lock, FileError> {
    match create_new(run) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => lock(run),
        made => made,
    }
}

/// Locks the directory of a run that is there.
///
/// # Errors
/// If another process has it.
pub fn lock(run: &Path) -> Result<Lock, FileError> {
    Lock::take(Dir::open(run)?, PID_FILE)
}

/// The process that makes the run in a directory, if one does.
pub fn holder(run: &Path) -> Option<Holder> {
    Holder::of(&Dir::open(run).ok()?, PID_FILE)
}

/// Tells whether a process makes the run in a directory.
pub fn is_under_way(run: &Path) -> bool {
    holder(run).is_some()
}
