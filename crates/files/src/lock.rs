//! The lock on a folder, for the life of a run, and the process that holds it.
//!
//! A file of the folder is locked, and says the number of the process that took the lock. The lock belongs
//! to the open file, so that the processes that inherit it hold it too, and it ends with the last of them,
//! however they end. A number alone is worth nothing: it may be another's by now, or made up.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{self, F_UNLCK, F_WRLCK, SEEK_SET};
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};

pub use rustix::process::Signal;

use crate::Dir;
use crate::error::{At, FileError, Reason};

/// Longest content of the file, in bytes: a number.
const MAX: u64 = 64;

/// Longest wait for what a killed process left, which ends by itself, and the time between two looks at it.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The lock, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    dir: Dir,
    name: &'static str,
    file: File,
    pid: u32,
}

impl Lock {
    /// Takes the lock that is the file `name` of a folder.
    ///
    /// # Errors
    /// [`Reason::Locked`] if another has it. If the one that took it is gone, what it started is about to end,
    /// and is waited for. If the file cannot be locked.
    pub fn take(dir: Dir, name: &'static str) -> Result<Self, FileError> {
        let path = dir.path().join(name);
        let pid = std::process::id();
        let patient_until = Instant::now() + ENDS_WITHIN;
        loop {
            let file = dir.append(name)?;
            match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
                Err(Errno::EAGAIN | Errno::EACCES) => {
                    let other = Holder::of(&dir, name);
                    if other.as_ref().is_some_and(Holder::is_there)
                        || Instant::now() > patient_until
                    {
                        let pid = other.and_then(|other| other.pid);
                        return Err(FileError::new(dir.path(), Reason::Locked(pid)));
                    }
                    std::thread::sleep(LOOK_EVERY);
                    continue;
                }
                taken => taken.at(&path)?,
            };
            // Who had it may have removed the file since it was opened.
            if is_there(&dir, name, &file).at(&path)? {
                let mut text = &file;
                let written = file.set_len(0).and_then(|()| writeln!(text, "{pid}"));
                written.at(&path)?;
                return Ok(Self {
                    dir,
                    name,
                    file,
                    pid,
                });
            }
        }
    }

    /// The folder.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Processes that inherited it leave the file to the one that made it.
        let is_own = self.pid == std::process::id();
        if is_own && is_there(&self.dir, self.name, &self.file).unwrap_or(false) {
            let _ = self.dir.remove(self.name);
        }
    }
}

/// The process that holds the lock of a folder.
#[derive(Debug)]
pub struct Holder {
    /// Its number as the file tells it; none while it is being written.
    pub pid: Option<u32>,
    file: File,
}

impl Holder {
    /// The holder of the lock that is the file `name` of a folder; none if nobody has it.
    pub fn of(dir: &Dir, name: &str) -> Option<Self> {
        let file = dir.open_file(name, MAX).ok()?;
        let mut lock = whole_file();
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock)).ok()?;
        let is_held = i32::from(lock.l_type) != F_UNLCK;
        is_held.then(|| Self {
            pid: file.try_clone().ok().and_then(pid_in),
            file,
        })
    }

    /// Tells whether the process that took the lock is there; one that cannot be looked at is taken to be.
    fn is_there(&self) -> bool {
        let pid = self.pid.and_then(|pid| Pid::from_raw(pid.cast_signed()));
        pid.is_none_or(|pid| match has_locked(pid, &self.file) {
            Err(error) => error.kind() != io::ErrorKind::NotFound,
            has => has.unwrap_or(true),
        })
    }

    /// Sends a signal to it: to a process that has the locked file open, and to no other.
    ///
    /// # Errors
    /// If there is no such process, or it is another user's.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = self.pid.and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let gone =
            || io::Error::other("the process that it names is gone, or not one that runs it");
        let pid = pid.ok_or_else(gone)?;
        // In this order: the number cannot become another's between the look and the signal.
        let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| gone())?;
        if !has_locked(pid, &self.file)? {
            return Err(gone());
        }
        Ok(pidfd_send_signal(process, signal)?)
    }
}

/// Tells whether a process has this very file open, and a lock on it.
fn has_locked(pid: Pid, file: &File) -> io::Result<bool> {
    let process = format!("/proc/{}", pid.as_raw_pid());
    let file = file.metadata()?;
    for entry in fs::read_dir(format!("{process}/fd"))? {
        let entry = entry?;
        // A descriptor that was closed meanwhile is none.
        let is_same = fs::metadata(entry.path())
            .is_ok_and(|open| (open.dev(), open.ino()) == (file.dev(), file.ino()));
        let about = Path::new(&process).join("fdinfo").join(entry.file_name());
        if is_same && fs::read_to_string(about).is_ok_and(|about| about.contains("\nlock:")) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Tells whether a folder still has this very file under this name.
fn is_there(dir: &Dir, name: &str, file: &File) -> io::Result<bool> {
    let there = match dir.open_file(name, u64::MAX) {
        Err(error) if error.is_missing() => return Ok(false),
        there => there?.metadata()?,
    };
    let file = file.metadata()?;
    Ok((there.dev(), there.ino()) == (file.dev(), file.ino()))
}

fn pid_in(mut file: File) -> Option<u32> {
    let mut text = String::new();
    let read = io::Seek::rewind(&mut file).and_then(|()| file.take(MAX).read_to_string(&mut text));
    read.ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn whole_file() -> libc::flock {
    libc::flock {
        l_type: F_WRLCK as libc::c_short,
        l_whence: SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn held(path: &Path) -> Option<Holder> {
        Holder::of(&Dir::open(path).unwrap(), "pid")
    }

    fn take(path: &Path) -> Result<Lock, FileError> {
        Lock::take(Dir::open(path).unwrap(), "pid")
    }

    #[test]
    fn one_has_the_lock_and_the_others_hear_who() {
        let folder = tempfile::tempdir().unwrap();
        assert!(held(folder.path()).is_none());
        let lock = take(folder.path()).unwrap();
        let pid = std::process::id();
        assert_eq!(held(folder.path()).unwrap().pid, Some(pid));
        let error = take(folder.path()).unwrap_err();
        assert!(
            matches!(error.reason, Reason::Locked(Some(other)) if other == pid),
            "{error}"
        );
        drop(lock);
        assert!(held(folder.path()).is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        take(folder.path()).unwrap();
    }

    #[test]
    fn of_many_at_once_exactly_one_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let all = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| take(folder.path())))
                .collect();
            tries
                .into_iter()
                .map(|one| one.join().unwrap())
                .collect::<Vec<_>>()
        });
        assert_eq!(all.iter().filter(|one| one.is_ok()).count(), 1);
    }

    /// A process that does nothing, until it is dropped.
    struct Stranger(Child);

    impl Stranger {
        fn new() -> Self {
            Self(Command::new("sleep").arg("1000").spawn().unwrap())
        }
    }

    impl Drop for Stranger {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn a_number_that_is_a_strangers_is_not_signalled() {
        let folder = tempfile::tempdir().unwrap();
        let mut stranger = Stranger::new();
        let file = folder.path().join("pid");
        fs::write(&file, format!("{}\n", stranger.0.id())).unwrap();
        assert!(held(folder.path()).is_none(), "nobody holds the lock");
        let lock = take(folder.path()).unwrap();
        fs::write(&file, format!("{}\n", stranger.0.id())).unwrap();
        let holder = held(folder.path()).unwrap();
        assert_eq!(holder.pid, Some(stranger.0.id()));
        assert!(holder.signal(Signal::TERM).is_err());
        assert!(stranger.0.try_wait().unwrap().is_none());
        drop(lock);
    }

    #[test]
    fn what_a_killed_process_left_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        // A child that inherited the lock outlives the process that the file names.
        let lock = take(folder.path()).unwrap();
        let mut gone = Stranger::new();
        let pid = gone.0.id();
        gone.0.kill().unwrap();
        gone.0.wait().unwrap();
        fs::write(folder.path().join("pid"), format!("{pid}\n")).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| take(folder.path()));
            assert!(held(folder.path()).is_some());
            drop(lock);
            waiting.join().unwrap().unwrap();
        });
    }

    #[test]
    fn the_holder_is_signalled() {
        let folder = tempfile::tempdir().unwrap();
        let _lock = take(folder.path()).unwrap();
        // A signal that does nothing unless it is caught.
        held(folder.path()).unwrap().signal(Signal::WINCH).unwrap();
    }

    #[test]
    fn the_lock_of_who_was_killed_is_free_and_its_file_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("pid"), "1 12345\n").unwrap();
        assert!(held(folder.path()).is_none());
        let _lock = take(folder.path()).unwrap();
        assert_eq!(held(folder.path()).unwrap().pid, Some(std::process::id()));
    }
}
