//! Storage of devices: a file each, of fixed size, which stays when the device reboots and when the run goes on.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use fl_client::storage::{self, Owner, Storage, StorageError};
use zfl_files::Dir;

/// Storage that every device of a fleet has.
#[derive(Clone, Debug)]
pub struct StorageConfig {
    /// Folder of `<client>.img`; made if it is not there.
    pub dir: PathBuf,
    /// Size of each.
    pub octets: u64,
}

/// The storage of one device.
#[derive(Debug)]
pub(crate) struct FileStorage {
    file: File,
    octets: u64,
}

impl FileStorage {
    /// Opens the storage of a client. What an earlier run left in it is removed, unless that `goes_on`.
    pub(crate) fn open(folder: &Dir, client: u32, octets: u64, goes_on: bool) -> io::Result<Self> {
        let file = folder.in_place(&image_name(client))?;
        if !goes_on {
            file.set_len(0)?;
        }
        file.set_len(octets)?;
        Ok(Self { file, octets })
    }

    /// The same storage once more, for the next boot.
    pub(crate) fn again(&self) -> io::Result<Self> {
        Ok(Self {
            file: self.file.try_clone()?,
            octets: self.octets,
        })
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.file.into()
    }
}

/// Rounds whose state is whole in the storage of a client, in a folder of a run that ended.
///
/// # Errors
/// If there is no such file, or it is not of that size or cannot be read.
pub fn stored_rounds(
    config: &StorageConfig,
    owner: Owner<'_>,
) -> io::Result<impl Iterator<Item = u32> + use<>> {
    let octets = config.octets;
    let file = Dir::open(&config.dir)?.open_file(&image_name(owner.client), octets)?;
    let rounds = storage::rounds(&mut FileStorage { file, octets }, owner);
    let rounds = rounds.map_err(io::Error::other)?;
    Ok(rounds.into_iter().flatten())
}

/// Name of the file of a client's storage.
pub(crate) fn image_name(client: u32) -> String {
    format!("{client}.img")
}

/// Storage that is opened when it is used, and closed when its device rests.
#[derive(Debug)]
pub(crate) struct RestingStorage {
    folder: Arc<Dir>,
    client: u32,
    octets: u64,
    /// Contents that an earlier part of the run left stay.
    goes_on: bool,
    open: Option<FileStorage>,
}

impl RestingStorage {
    pub(crate) fn new(folder: Arc<Dir>, client: u32, octets: u64, goes_on: bool) -> Self {
        Self {
            folder,
            client,
            octets,
            goes_on,
            open: None,
        }
    }

    pub(crate) fn close(&mut self) {
        self.open = None;
    }

    fn open(&mut self) -> Result<&mut FileStorage, StorageError> {
        if self.open.is_none() {
            let opened = FileStorage::open(&self.folder, self.client, self.octets, self.goes_on);
            self.open = Some(opened.map_err(broken)?);
            self.goes_on = true;
        }
        self.open.as_mut().ok_or(StorageError::Broken)
    }
}

impl Storage for RestingStorage {
    fn octets(&self) -> u64 {
        self.octets
    }

    fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), StorageError> {
        self.open()?.read(at, into)
    }

    fn write(&mut self, at: u64, octets: &[u8]) -> Result<(), StorageError> {
        self.open()?.write(at, octets)
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.open()?.flush()
    }
}

impl Storage for FileStorage {
    fn octets(&self) -> u64 {
        self.octets
    }

    fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), StorageError> {
        self.file.read_exact_at(into, at).map_err(broken)
    }

    fn write(&mut self, at: u64, octets: &[u8]) -> Result<(), StorageError> {
        let end = at.checked_add(octets.len() as u64);
        if end.is_none_or(|end| end > self.octets) {
            return Err(StorageError::TooSmall);
        }
        self.file.write_all_at(octets, at).map_err(broken)
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.file.sync_data().map_err(broken)
    }
}

fn broken(_: io::Error) -> StorageError {
    StorageError::Broken
}
