//! A folder whose files are found without following links.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::bounded::{checked, text, whole};
use crate::error::{At, FileError, Reason};

/// A folder that is open. Names below it may have folders in them, as in `serial/0.log`; no part of one
/// may be a link. The folder itself may have been reached through links: the user named it.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

/// A file that is written and not in its place yet; it is removed if it never gets there.
#[derive(Debug)]
pub struct Prepared<'dir> {
    dir: &'dir Dir,
    name: String,
    new: String,
    is_placed: bool,
}

impl Prepared<'_> {
    /// Puts it in place of what was there.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn place(mut self) -> Result<(), FileError> {
        let Self { dir, name, new, .. } = &self;
        let placed = plain_io(name).and_then(|name| {
            renameat(&dir.fd, new.as_str(), &dir.fd, name).map_err(io::Error::from)
        });
        placed.at(&dir.path.join(name))?;
        self.is_placed = true;
        Ok(())
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        if !self.is_placed {
            let _ = self.dir.remove(&self.new);
        }
    }
}

impl Dir {
    /// Opens a folder.
    ///
    /// # Errors
    /// If it is none, or cannot be opened.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let mut options = File::options();
        let options = std::os::unix::fs::OpenOptionsExt::custom_flags(
            options.read(true),
            (OFlag::O_DIRECTORY | OFlag::O_NONBLOCK).bits(),
        );
        Ok(Self {
            fd: options.open(path).at(path)?.into(),
            path: path.to_owned(),
        })
    }

    /// Opens the folder that a file is in, and tells the file's name in it.
    ///
    /// # Errors
    /// If there is no such folder, or the path ends in no name.
    pub fn of(file: &Path) -> Result<(Self, &str), FileError> {
        let name = file.file_name().and_then(|name| name.to_str());
        let name = name.ok_or(Reason::Name).at(file)?;
        let folder = file.parent().filter(|path| !path.as_os_str().is_empty());
        Ok((Self::open(folder.unwrap_or(Path::new(".")))?, name))
    }

    /// Opens a folder, and makes it and those above it where they are missing. Its last name must be no link.
    ///
    /// # Errors
    /// If it is something else, or cannot be made.
    pub fn make(path: &Path) -> Result<Self, FileError> {
        match Self::create_new(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let (above, name) = Self::of(path)?;
                above.folder(name)
            }
            made => made,
        }
    }

    /// Makes a folder, and those above it where they are missing.
    ///
    /// # Errors
    /// Of kind `AlreadyExists` if there is something; if it cannot be made.
    pub fn create_new(path: &Path) -> Result<Self, FileError> {
        if let Some(above) = path.parent() {
            fs::create_dir_all(above).at(above)?;
        }
        fs::create_dir(path).at(path)?;
        Self::open(path)
    }

    /// Its path, for messages and for what is given to other programs.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a folder in it.
    ///
    /// # Errors
    /// If it is none, or cannot be opened.
    pub fn folder(&self, name: &str) -> Result<Self, FileError> {
        let path = self.path.join(name);
        let fd = self.step_all(Path::new(name), OFlag::O_RDONLY | OFlag::O_DIRECTORY);
        fd.at(&path).map(|fd| Self { fd, path })
    }

    /// Opens a folder in it, and makes it where it is missing.
    ///
    /// # Errors
    /// If it is something else, or cannot be made.
    pub fn make_folder(&self, name: &str) -> Result<Self, FileError> {
        match mkdirat(
            &self.fd,
            plain(name).at(&self.path.join(name))?,
            Mode::from_bits_truncate(0o777),
        ) {
            Ok(()) | Err(Errno::EEXIST) => self.folder(name),
            Err(error) => Err(error).at(&self.path.join(name)),
        }
    }

    /// Opens an ordinary file of at most `max` bytes for reading.
    ///
    /// # Errors
    /// [`FileError`] if it is a link, something else, larger, or cannot be opened.
    pub fn open_file(&self, name: &str, max: u64) -> Result<File, FileError> {
        let opened = self.file(name, OFlag::O_RDONLY, 0);
        opened
            .and_then(|file| checked(file, max))
            .at(&self.path.join(name))
    }

    /// Reads an ordinary file of at most `max` bytes.
    ///
    /// # Errors
    /// As [`Dir::open_file`].
    pub fn read(&self, name: &str, max: u64) -> Result<Vec<u8>, FileError> {
        whole(self.open_file(name, max)?, max).at(&self.path.join(name))
    }

    /// Reads an ordinary file of at most `max` bytes of UTF-8.
    ///
    /// # Errors
    /// As [`Dir::open_file`]; if it is no text.
    pub fn read_text(&self, name: &str, max: u64) -> Result<String, FileError> {
        text(self.read(name, max)?).at(&self.path.join(name))
    }

    /// Tells whether there is an ordinary file of this name.
    pub fn is_file(&self, name: &str) -> bool {
        self.file(name, OFlag::O_PATH, 0).is_ok()
    }

    /// Opens a file to be read and appended to, and makes it where it is missing.
    ///
    /// # Errors
    /// [`FileError`] if it is a link, has a second name, is something else, or cannot be opened.
    pub fn append(&self, name: &str) -> Result<File, FileError> {
        self.own(name, OFlag::O_APPEND | OFlag::O_CREAT)
    }

    /// Opens a file to be read and written in place, and makes it where it is missing.
    ///
    /// # Errors
    /// As [`Dir::append`].
    pub fn in_place(&self, name: &str) -> Result<File, FileError> {
        self.own(name, OFlag::O_CREAT)
    }

    /// Makes a file that is not there yet.
    ///
    /// # Errors
    /// Of kind `AlreadyExists` if there is something; if it cannot be made.
    pub fn create(&self, name: &str) -> Result<File, FileError> {
        self.own(name, OFlag::O_CREAT | OFlag::O_EXCL)
    }

    /// Puts a file in place, whole and synced or not at all: what was there stays until then.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn replace(
        &self,
        name: &str,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), FileError> {
        self.prepare(name, write)?.place()
    }

    /// Writes a file, whole and synced, that is to be put in place later.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn prepare(
        &self,
        name: &str,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<Prepared<'_>, FileError> {
        let new = unfinished_name(name).at(&self.path.join(name))?;
        let mut file = self.create(&new)?;
        let prepared = Prepared {
            dir: self,
            name: name.to_owned(),
            new,
            is_placed: false,
        };
        let written = write(&mut file).and_then(|()| file.sync_data());
        written.at(&self.path.join(name))?;
        Ok(prepared)
    }

    /// Puts a file of these bytes in place, as [`Dir::replace`] does.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        self.replace(name, |file| file.write_all(bytes))
    }

    /// Removes what a crash amid [`Dir::replace`] left.
    ///
    /// # Errors
    /// If the folder cannot be read, or the file not removed.
    pub fn remove_unfinished(&self) -> Result<(), FileError> {
        let names = self.names()?.into_iter();
        let names = names.filter_map(|name| name.into_string().ok());
        for name in names.filter(|name| name.starts_with('.') && name.ends_with(UNFINISHED)) {
            self.remove(&name)?;
        }
        Ok(())
    }

    /// Removes a file; of a link, the link.
    ///
    /// # Errors
    /// If it is not there, or cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), FileError> {
        let removed =
            plain(name).and_then(|name| Ok(unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir)?));
        removed.at(&self.path.join(name))
    }

    /// Names of what is in it, in no order.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn names(&self) -> Result<Vec<OsString>, FileError> {
        let list = || -> Result<Vec<OsString>, Errno> {
            let mut dir = nix::dir::Dir::openat(&self.fd, ".", directory(), Mode::empty())?;
            let names = dir
                .iter()
                .map(|entry| Ok(entry?.file_name().to_bytes().to_vec()));
            let names = names.collect::<Result<Vec<_>, Errno>>()?.into_iter();
            let names = names.filter(|name| name != b"." && name != b"..");
            Ok(names.map(OsString::from_vec).collect())
        };
        list().at(&self.path)
    }

    /// Brings the names of its files to the disk.
    ///
    /// # Errors
    /// If the disk does not take them.
    pub fn sync(&self) -> Result<(), FileError> {
        nix::unistd::fsync(&self.fd).at(&self.path)
    }

    /// A file of its own to write to: an ordinary one with no second name.
    fn own(&self, name: &str, flags: OFlag) -> Result<File, FileError> {
        let opened = self
            .file(name, OFlag::O_RDWR | flags, 0o666)
            .and_then(|file| match file.metadata()?.nlink() {
                2.. => Err(Reason::HardLink),
                _ => Ok(file),
            });
        opened.at(&self.path.join(name))
    }

    fn file(&self, name: &str, flags: OFlag, mode: u32) -> Result<File, Reason> {
        let path = Path::new(name);
        let last = path.file_name().ok_or(Reason::Name)?;
        let folder = self.step_all(path.parent().unwrap_or(Path::new("")), directory())?;
        let kind = kind_at(folder.as_fd(), Path::new(last));
        match kind {
            Ok(kind) => kind_is(kind, SFlag::S_IFREG)?,
            Err(Errno::ENOENT) if flags.contains(OFlag::O_CREAT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = flags | careful();
        let file = File::from(openat(
            &folder,
            last,
            flags,
            Mode::from_bits_truncate(mode),
        )?);
        // It may be another one than a moment ago.
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(Reason::Kind("another file by now")),
        }
    }

    /// Opens what is reached by all parts of a path, each of them a folder.
    fn step_all(&self, path: &Path, flags: OFlag) -> Result<OwnedFd, Reason> {
        let mut at = self.fd.try_clone()?;
        for part in path.components() {
            let Component::Normal(part) = part else {
                return Err(Reason::Name);
            };
            kind_is(kind_at(at.as_fd(), Path::new(part))?, SFlag::S_IFDIR)?;
            at = openat(&at, part, flags | careful(), Mode::empty())?;
        }
        Ok(at)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// End of the name of a file that is not whole yet.
const UNFINISHED: &str = ".new";

/// A name that nobody can have put a link at.
fn unfinished_name(name: &str) -> Result<String, Reason> {
    let number = getrandom::u64().map_err(io::Error::other)?;
    Ok(format!(".{name}.{number:016x}{UNFINISHED}"))
}

fn directory() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | careful()
}

fn careful() -> OFlag {
    OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC
}

/// The name, if it is one of the folder itself.
fn plain(name: &str) -> Result<&str, Reason> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(_)), None) => Ok(name),
        _ => Err(Reason::Name),
    }
}

fn plain_io(name: &str) -> io::Result<&str> {
    plain(name).map_err(|reason| io::Error::new(io::ErrorKind::InvalidInput, reason.to_string()))
}

fn kind_at(folder: BorrowedFd<'_>, name: &Path) -> Result<SFlag, Errno> {
    let mode = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)?.st_mode;
    Ok(SFlag::from_bits_truncate(mode) & SFlag::S_IFMT)
}

/// Refuses a file that is of another kind than `wanted`.
fn kind_is(kind: SFlag, wanted: SFlag) -> Result<(), Reason> {
    match kind {
        kind if kind == wanted => Ok(()),
        SFlag::S_IFLNK => Err(Reason::Link),
        SFlag::S_IFDIR => Err(Reason::Kind("a folder")),
        SFlag::S_IFIFO => Err(Reason::Kind("a FIFO")),
        SFlag::S_IFSOCK => Err(Reason::Kind("a socket")),
        SFlag::S_IFREG => Err(Errno::ENOTDIR.into()),
        _ => Err(Reason::Kind("a device")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const MAX: u64 = 100;

    /// A folder with links to what is outside of it, and what is outside.
    fn hostile() -> (tempfile::TempDir, Dir, PathBuf) {
        let outer = tempfile::tempdir().unwrap();
        let (inside, outside) = (outer.path().join("in"), outer.path().join("out"));
        for folder in [&inside, &outside] {
            fs::create_dir(folder).unwrap();
        }
        fs::write(outside.join("file"), "precious").unwrap();
        symlink(outside.join("file"), inside.join("file")).unwrap();
        symlink(&outside, inside.join("folder")).unwrap();
        fs::hard_link(outside.join("file"), inside.join("second")).unwrap();
        symlink("there", inside.join("nearby")).unwrap();
        fs::write(inside.join("there"), "mine").unwrap();
        let dir = Dir::open(&inside).unwrap();
        (outer, dir, outside)
    }

    #[test]
    fn no_link_is_followed_in_reading() {
        let (_outer, dir, _) = hostile();
        for name in ["file", "folder/file", "nearby"] {
            let error = dir.read(name, MAX).unwrap_err();
            assert!(matches!(error.reason, Reason::Link), "{error}");
            assert!(!dir.is_file(name));
        }
        for name in ["../out/file", "..", "/etc/passwd", "", "."] {
            assert!(dir.read(name, MAX).is_err(), "{name}");
        }
        assert_eq!(dir.read_text("there", MAX).unwrap(), "mine");
        assert!(dir.read("none", MAX).unwrap_err().is_missing());
    }

    #[test]
    fn no_link_is_followed_in_writing() {
        let (_outer, dir, outside) = hostile();
        for name in ["file", "folder/file", "folder/new", "second"] {
            assert!(dir.append(name).is_err(), "{name}");
        }
        assert!(dir.make_folder("folder").is_err());
        for name in ["../out/file", "folder/file"] {
            assert!(dir.write(name, b"x").is_err(), "{name}");
        }
        for name in ["file", "second"] {
            dir.write(name, b"mine").unwrap();
            assert_eq!(dir.read(name, MAX).unwrap(), b"mine");
        }
        let left: Vec<_> = fs::read_dir(&outside).unwrap().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(
            fs::read_to_string(outside.join("file")).unwrap(),
            "precious"
        );
    }

    #[test]
    fn a_fifo_in_the_folder_neither_hangs_nor_is_written_to() {
        let (outer, dir, _) = hostile();
        nix::unistd::mkfifo(&outer.path().join("in/fifo"), Mode::S_IRWXU).unwrap();
        let read = dir.read("fifo", MAX).unwrap_err().to_string();
        assert!(read.contains("a FIFO"), "{read}");
        assert!(dir.append("fifo").is_err());
    }

    #[test]
    fn what_a_crash_left_goes_and_nothing_else() {
        let (_outer, dir, outside) = hostile();
        dir.write("torn", b"old").unwrap();
        let failed = dir.replace("torn", |_| Err(io::Error::other("full")));
        assert_eq!(dir.read("torn", MAX).unwrap(), b"old");
        assert!(failed.unwrap_err().to_string().ends_with("torn: full"));
        symlink(outside.join("file"), dir.path().join(".events.new")).unwrap();
        fs::write(dir.path().join(".torn.0.new"), "").unwrap();
        dir.remove_unfinished().unwrap();
        let mut names = dir.names().unwrap();
        names.sort();
        assert_eq!(
            names,
            ["file", "folder", "nearby", "second", "there", "torn"]
        );
        assert!(outside.join("file").exists());
    }

    #[test]
    fn a_folder_is_made_once_and_a_link_is_not_taken_for_it() {
        let (outer, dir, _) = hostile();
        assert!(Dir::make(&dir.path().join("folder")).is_err());
        let path = outer.path().join("a/b");
        Dir::make(&path).unwrap().write("file", b"x").unwrap();
        let file = path.join("file");
        let (again, name) = Dir::of(&file).unwrap();
        assert_eq!(again.read(name, MAX).unwrap(), b"x");
        assert!(Dir::make(&path).unwrap().is_file("file"));
    }

    #[test]
    fn a_folder_that_is_there_is_not_made_again() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("a/b");
        Dir::create_new(&path).unwrap();
        let again = Dir::create_new(&path).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }
}
