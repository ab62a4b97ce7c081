//! Storage, which these machines have none of.

use fl_client::storage::{Storage, StorageError};

/// No disk.
pub enum Disk {}

impl Disk {
    /// `None`.
    pub fn open() -> Option<Self> {
        None
    }
}

impl Storage for Disk {
    fn octets(&self) -> u64 {
        match *self {}
    }

    fn read(&mut self, _: u64, _: &mut [u8]) -> Result<(), StorageError> {
        match *self {}
    }

    fn write(&mut self, _: u64, _: &[u8]) -> Result<(), StorageError> {
        match *self {}
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        match *self {}
    }
}
