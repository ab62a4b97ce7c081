//! Ordinary files, opened without waiting and read up to a bound.

use std::fs::{File, FileType, Metadata};
use std::io::{Read, Take};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::libc::{O_NOCTTY, O_NONBLOCK};

use crate::error::{At, FileError, Reason};

/// Opens an ordinary file of at most `max` bytes, for a reader that takes it piece by piece. It may be a
/// link: the user named it.
///
/// # Errors
/// [`FileError`] if it is something else, larger, or cannot be opened.
pub fn open(path: &Path, max: u64) -> Result<File, FileError> {
    // Before it is opened, since opening a device may do something.
    check(&path.metadata().at(path)?, max).at(path)?;
    let mut options = File::options();
    let options = options.read(true).custom_flags(O_NONBLOCK | O_NOCTTY);
    let file = options.open(path).at(path)?;
    checked(file, max).at(path)
}

/// Reads an ordinary file of at most `max` bytes. It may be a link.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path, max: u64) -> Result<Vec<u8>, FileError> {
    whole(open(path, max)?, max).at(path)
}

/// Reads an ordinary file of at most `max` bytes of UTF-8. It may be a link.
///
/// # Errors
/// As [`open`]; if it is no text.
pub fn read_text(path: &Path, max: u64) -> Result<String, FileError> {
    text(read(path, max)?).at(path)
}

/// The file, if it is an ordinary one of at most `max` bytes.
pub(crate) fn checked(file: File, max: u64) -> Result<File, Reason> {
    let metadata = file.metadata()?;
    check(&metadata, max)?;
    if metadata.len() == 0 && !matches!(file.read_at(&mut [0], 0), Ok(0)) {
        return Err(Reason::Kernel);
    }
    Ok(file)
}

fn check(metadata: &Metadata, max: u64) -> Result<(), Reason> {
    if !metadata.is_file() {
        return Err(Reason::Kind(kind(metadata.file_type())));
    }
    match metadata.len() {
        bytes if bytes > max => Err(Reason::Size { bytes, max }),
        _ => Ok(()),
    }
}

fn kind(of: FileType) -> &'static str {
    match of {
        of if of.is_dir() => "a folder",
        of if of.is_fifo() => "a FIFO",
        of if of.is_socket() => "a socket",
        _ => "a device",
    }
}

/// All bytes of a file, which may have grown since it was opened.
pub(crate) fn whole(file: File, max: u64) -> Result<Vec<u8>, Reason> {
    let mut bytes = Vec::new();
    let mut file: Take<File> = file.take(max.saturating_add(1));
    file.read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        bytes if bytes > max => Err(Reason::Size { bytes, max }),
        _ => Ok(bytes),
    }
}

pub(crate) fn text(bytes: Vec<u8>) -> Result<String, Reason> {
    String::from_utf8(bytes).map_err(|error| Reason::Text(error.utf8_error().valid_up_to()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    const MAX: u64 = 100;

    /// The refusal of a file, which has to name it.
    fn refusal(path: &Path) -> String {
        let error = read(path, MAX).unwrap_err().to_string();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
        error
    }

    #[test]
    fn what_does_not_end_or_never_begins_is_refused_by_its_kind() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        for (name, kind) in [
            ("fifo", "a FIFO"),
            ("socket", "a socket"),
            ("zero", "a device"),
        ] {
            assert!(refusal(&at(name)).contains(kind), "{name}");
        }
        assert!(refusal(folder.path()).contains("a folder"));
        for path in ["/proc/self/environ", "/proc/self/maps", "/proc/self/mem"] {
            assert!(refusal(Path::new(path)).contains("of the kernel"), "{path}");
        }
    }

    #[test]
    fn the_bound_holds_for_sparse_files_and_for_those_that_grow() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = File::create(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        assert!(refusal(&path).contains("1099511627776 bytes, and at most 100"));
        file.set_len(MAX).unwrap();
        assert_eq!(read(&path, MAX).unwrap().len(), 100);
        let opened = open(&path, MAX).unwrap();
        file.set_len(MAX + 1).unwrap();
        assert!(matches!(
            whole(opened, MAX),
            Err(Reason::Size {
                bytes: 101,
                max: MAX
            })
        ));
    }

    #[test]
    fn a_link_that_the_user_names_is_read_and_an_empty_file_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("there"), "ä").unwrap();
        symlink(at("there"), at("link")).unwrap();
        assert_eq!(read_text(&at("link"), MAX).unwrap(), "ä");
        std::fs::write(at("there"), "").unwrap();
        assert_eq!(read_text(&at("link"), MAX).unwrap(), "");
        std::fs::write(at("there"), b"ab\xff").unwrap();
        let error = read_text(&at("link"), MAX).unwrap_err().to_string();
        assert!(error.ends_with("byte 2 belongs to no character"), "{error}");
        assert!(read(&at("none"), MAX).unwrap_err().is_missing());
    }
}
