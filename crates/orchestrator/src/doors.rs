//! Doors for debuggers: a socket for each emulated device, in a folder that is its owner's alone.
//!
//! A machine is given the socket and finds no file. It stands still while a debugger is connected. Who debugs holds the
//! folder's lock meanwhile ([`LOCK`]), so that the clock of deadlines can stand still, too.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use zfl_files::Dir;

/// Name of the lock that a debugger shares.
pub const LOCK: &str = "lock";

/// Name of a client's socket.
pub fn door_name(client: u32) -> String {
    format!("{client}.sock")
}

/// Folder of the doors.
#[derive(Debug)]
pub(crate) struct Doors {
    path: PathBuf,
    folder: OwnedFd,
    lock: File,
}

impl Doors {
    /// Makes the folder.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().mode(0o700).recursive(true).create(path)?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(Self {
            path: path.to_owned(),
            folder: open(path, flags, Mode::empty())?,
            lock: Dir::open(path)?.create(LOCK)?,
        })
    }

    /// Door of a device, instead of the one before.
    pub(crate) fn make(&self, client: u32) -> io::Result<UnixListener> {
        let path = self.address(&door_name(client));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => UnixListener::bind(path),
        }
    }

    /// Path of a socket, short enough for the address of one wherever the folder lies.
    fn address(&self, name: &str) -> String {
        format!("/proc/self/fd/{}/{name}", self.folder.as_raw_fd())
    }

    /// Tells if a debugger holds the lock of the doors.
    pub(crate) fn is_debugged(&self) -> bool {
        match self.lock.try_lock() {
            // A lock that is not let go of here goes with this process.
            Ok(()) => self.lock.unlock().is_err(),
            Err(error) => matches!(error, TryLockError::WouldBlock),
        }
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        // Where it cannot be removed, sockets stay that lead nowhere.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    #[test]
    fn who_holds_the_lock_of_the_doors_is_seen_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x".repeat(150)).join("gdb");
        let doors = Doors::open(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let listener = doors.make(7).unwrap();
        let guest = UnixStream::connect(doors.address(&door_name(7))).unwrap();
        listener.accept().unwrap();
        drop(guest);
        assert!(!doors.is_debugged());
        let debuggers = [(); 2].map(|()| File::open(path.join(LOCK)).unwrap());
        debuggers.iter().for_each(|one| one.lock_shared().unwrap());
        assert!(doors.is_debugged());
        drop(debuggers);
        assert!(!doors.is_debugged());
        // A device that boots again has a new one.
        drop(doors.make(7).unwrap());
        drop(doors);
        assert!(!path.exists());
    }
}
