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
    /// SHA-256 that the file should have, where it is known.
    pub expected_sha256: Option<String>,
}

/// Problem of a data file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The directory is none.
    #[error("{0}")]
    NoFolder(&'static str),
    /// There is no such file, under none of its common names.
    #[error("the file is missing (plain and .gz)")]
    Missing {
        /// Some names in the directory.
        there: Vec<String>,
    },
    /// Several files could be meant.
    #[error("{} may both be meant", names.join(" and "))]
    Ambiguous {
        /// Two of them.
        names: Vec<String>,
    },
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
    /// Something else, known by its first octets.
    #[error("it is {what}")]
    Packed {
        /// Words for it.
        what: &'static str,
        /// The way out.
        way: &'static str,
    },
    /// Not an IDX file of the kind that belongs here, or one that does not fit the other files.
    #[error("{0}")]
    Format(String),
    /// A table that cannot be used.
    #[error("{0}")]
    Table(String),
    /// A problem of one of several files.
    #[error("{1}")]
    At(PathBuf, Box<Problem>),
    /// A `SHA256SUMS` that cannot be read.
    #[error("{0}")]
    Sums(String),
    /// The content is not the known one.
    #[error("wrong content: its SHA-256 is {found}")]
    Checksum {
        /// SHA-256 of the content.
        found: String,
    },
}

impl Problem {
    /// Words for a gzip stream that is broken, if that is what failed.
    fn of_gzip(error: &io::Error) -> bool {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        matches!(error.kind(), UnexpectedEof | InvalidData | InvalidInput)
    }
}

impl DataError {
    /// The command or the change that helps.
    fn advice(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        match &self.problem {
            Problem::NoFolder(_) => {
                "give --data the folder with the four files of the data set, a file of CSV, or the name of a \
                 set (zfl data list)"
                    .to_owned()
            }
            Problem::Missing { there } => {
                let there = match &there[..] {
                    [] => "it is empty".to_owned(),
                    names => format!("it has {}", names.join(", ")),
                };
                format!(
                    "check the folder given with --data ({there}): it must hold train-images-idx3-ubyte, \
                     train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each plain or \
                     with .gz"
                )
            }
            Problem::Ambiguous { .. } => {
                "keep the files of one data set in the folder, and move the others elsewhere"
                    .to_owned()
            }
            Problem::Io(error) if Problem::of_gzip(error) => {
                "the gzip stream is damaged or cut off: get the file again".to_owned()
            }
            Problem::Io(_) => "see that the file can be read".to_owned(),
            Problem::Truncated { .. } => "get the file again".to_owned(),
            Problem::TooLong { expected } => {
                format!(
                    "get the file again, or cut off what follows: truncate -s {expected} (of the unpacked file)"
                )
            }
            Problem::Packed { way, .. } => way.replace("NAME", &name),
            Problem::Format(_) => {
                "get the right file, or give another folder with --data".to_owned()
            }
            Problem::Table(_) => "docs/data.md has the format".to_owned(),
            Problem::At(_, _) => "see the file".to_owned(),
            Problem::Sums(_) => {
                "write it anew with sha256sum, or take SHA256SUMS out of the folder".to_owned()
            }
            Problem::Checksum { .. } => {
                "get the file again; if the change is meant, write SHA256SUMS anew".to_owned()
            }
        }
    }
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "data file {}: {}", self.path.display(), self.problem)?;
        if let Some(sum) = &self.expected_sha256 {
            write!(f, "; expected SHA-256: {sum}")?;
        }
        write!(f, "; {}", self.advice())
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
