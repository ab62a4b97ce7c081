//! Errors of data files.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A data file that cannot be used: which, why, what its checksum should be, and the way out.
#[derive(Debug)]
pub struct DataError {
    /// The file or directory.
    pub path: PathBuf,
    /// The problem.
    pub problem: Problem,
    /// SHA-256 of the file's uncompressed content, where it is known.
    pub expected_sha256: Option<String>,
    /// Advice for the user.
    pub advice: String,
}

/// Problem of a data file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// There is no such file, neither plain nor with `.gz`.
    #[error("the file is missing (plain and .gz)")]
    Missing,
    /// Reading failed, or the gzip stream is broken.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The content ends before what its header announces.
    #[error("truncated: the header announces {expected} bytes, the file has {found}")]
    Truncated {
        /// Bytes by the header.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// Bytes follow behind what the header announces.
    #[error("too long: the header announces {expected} bytes, and more follow")]
    TooLong {
        /// Bytes by the header.
        expected: u64,
    },
    /// Not an IDX file of the kind that belongs here, or one that does not fit the other files.
    #[error("{0}")]
    Format(String),
    /// The content is not the known one.
    #[error("wrong content: its SHA-256 is {found}")]
    Checksum {
        /// SHA-256 of the content.
        found: String,
    },
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "data file {}: {}", self.path.display(), self.problem)?;
        if let Some(sum) = &self.expected_sha256 {
            write!(f, "; expected SHA-256 of the uncompressed file: {sum}")?;
        }
        write!(f, "; {}", self.advice)
    }
}

impl std::error::Error for DataError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::Io(error) => Some(error),
            _ => None,
        }
    }
}
