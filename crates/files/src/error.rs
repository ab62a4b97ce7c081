//! Reasons for which a file is refused, in words for the user.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// A file that is refused or cannot be had, and the reason.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// The reason.
    pub reason: Reason,
}

/// Reason for which a file is refused.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// The system refuses.
    #[error("{0}")]
    System(io::Error),
    /// It is there, and no ordinary file.
    #[error("it is {0}, and an ordinary file is needed: give the path of one")]
    Kind(&'static str),
    /// Its size is said to be 0, and it holds something.
    #[error(
        "it is a file of the kernel, which tells no size: copy what it says into an ordinary file"
    )]
    Kernel,
    /// It is larger than its reader takes.
    #[error("it has {bytes} bytes, and at most {max} are read: check that it is the right file")]
    Size {
        /// Its size.
        bytes: u64,
        /// The bound.
        max: u64,
    },
    /// It is a link within a folder.
    #[error("it is a link, and none is followed in this folder: put the file itself there")]
    Link,
    /// It has another name, through which another file would change with it.
    #[error("it has a second name (a hard link), and writing would change both: put a copy there")]
    HardLink,
    /// Its name leads out of the folder.
    #[error("its name leads out of the folder")]
    Name,
    /// It is not text.
    #[error("it is no text in UTF-8: byte {0} belongs to no character")]
    Text(usize),
    /// Another process has the folder.
    #[error("it is under way{}: zfl stop it first, or give another folder", by(.0))]
    Locked(Option<u32>),
}

fn by(pid: &Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" in process {pid}"))
}

impl FileError {
    pub(crate) fn new(path: impl Into<PathBuf>, reason: impl Into<Reason>) -> Self {
        let (path, reason) = (path.into(), reason.into());
        Self { path, reason }
    }

    /// Kind of the error, as the system would say it.
    pub fn kind(&self) -> io::ErrorKind {
        match &self.reason {
            Reason::System(error) => error.kind(),
            Reason::Size { .. } => io::ErrorKind::FileTooLarge,
            Reason::Locked(_) => io::ErrorKind::ResourceBusy,
            Reason::Text(_) => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::InvalidInput,
        }
    }

    /// True if there is no such file.
    pub fn is_missing(&self) -> bool {
        self.kind() == io::ErrorKind::NotFound
    }
}

impl From<io::Error> for Reason {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<Errno> for Reason {
    fn from(error: Errno) -> Self {
        Self::System(error.into())
    }
}

impl From<FileError> for io::Error {
    fn from(error: FileError) -> Self {
        match error.reason {
            Reason::System(error) => error,
            _ => Self::new(error.kind(), error),
        }
    }
}

/// Puts the path in front of what failed.
pub(crate) trait At<T> {
    fn at(self, path: &Path) -> Result<T, FileError>;
}

impl<T, E: Into<Reason>> At<T> for Result<T, E> {
    fn at(self, path: &Path) -> Result<T, FileError> {
        self.map_err(|error| FileError::new(path, error))
    }
}
