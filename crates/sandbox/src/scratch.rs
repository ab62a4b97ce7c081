//! Scratch directory for the FIFOs of a run, which cannot be left behind.
//!
//! With namespaces it is a tmpfs without a mount point: reached through a descriptor, gone with
//! the last process that has it. Without, it is a folder that `init` removes.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;

use crate::plan::Isolation;
use crate::sys;

/// A directory for the FIFOs of a run.
#[derive(Debug)]
pub struct Scratch {
    root: Option<OwnedFd>,
}

impl Scratch {
    /// For runs that need no FIFOs.
    pub(crate) fn absent() -> Self {
        Self { root: None }
    }

    pub(crate) fn detached() -> io::Result<Self> {
        Ok(Self {
            root: Some(sys::detached_tmpfs()?),
        })
    }

    pub(crate) fn in_folder(folder: &Path) -> io::Result<Self> {
        nix::unistd::mkdir(folder, Mode::S_IRWXU)?;
        let root = std::fs::File::open(folder)?;
        Ok(Self {
            root: Some(root.into()),
        })
    }

    /// The descriptor that a process must have for a [`Scratch::path`] to mean anything to it.
    pub fn fd(&self) -> Option<RawFd> {
        self.root.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// The path of `name`, for processes that have [`Scratch::fd`] under the same number.
    pub fn path(&self, name: &str) -> io::Result<PathBuf> {
        let fd = self.fd().ok_or_else(|| {
            io::Error::other("this sandbox is for native devices; emulated ones need another plan")
        })?;
        Ok(format!("/proc/self/fd/{fd}/{name}").into())
    }

    /// Makes the FIFO `name`, anew if it is there, and returns its path.
    pub fn fifo(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path(name)?;
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?,
        }
        Ok(path)
    }
}

/// The folder to be made where no tmpfs can be had; nobody else takes this name.
pub(crate) fn folder(isolation: Isolation) -> Option<PathBuf> {
    let since_1970 = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    let name = format!("zfl-{}-{}", std::process::id(), since_1970.as_nanos());
    (isolation == Isolation::None).then(|| std::env::temp_dir().join(name))
}

/// Removes the folder if it is there; on the way out there is nobody to tell of a failure.
pub(crate) fn remove(folder: &Path) {
    let _ = std::fs::remove_dir_all(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifo_is_made_anew() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::in_folder(&parent.path().join("scratch")).unwrap();
        let path = scratch.fifo("1.in").unwrap();
        assert_eq!(scratch.fifo("1.in").unwrap(), path);
        assert!(nix::sys::stat::stat(&path).is_ok_and(|stat| stat.st_size == 0));
        remove(&parent.path().join("scratch"));
        assert!(!parent.path().join("scratch").exists());
    }

    #[test]
    fn a_native_sandbox_has_no_fifos() {
        assert!(
            Scratch::absent()
                .fifo("1.in")
                .unwrap_err()
                .to_string()
                .contains("native")
        );
    }
}
