//! The device's storage: a virtio-blk disk, which stands for flash.
//!
//! The machine has one only where the algorithm keeps something on the device. Requests are waited for: they
//! come once a round.

use fl_client::storage::{BLOCK, Storage, StorageError};
use virtio_drivers::device::blk::{SECTOR_SIZE, VirtIOBlk};
use virtio_drivers::transport::{DeviceType, SomeTransport};

use super::IdentityMapped;
use crate::{arch, console};

const _: () = assert!(BLOCK == SECTOR_SIZE);

/// A disk that works.
pub struct Disk(VirtIOBlk<IdentityMapped, SomeTransport<'static>>);

impl Disk {
    /// Finds the machine's disk and readies it; `None` if it has none.
    pub fn open() -> Option<Self> {
        let found = arch::virtio_device(DeviceType::Block).ok().flatten()?;
        match VirtIOBlk::new(found.transport) {
            Ok(mut disk) => {
                // Its line may be that of the network card.
                disk.disable_interrupts();
                Some(Self(disk))
            }
            Err(error) => {
                console::log(format_args!("zfl: the disk cannot be set up: {error}"));
                None
            }
        }
    }

    /// Ends a request.
    fn done(&mut self, result: virtio_drivers::Result) -> Result<(), StorageError> {
        self.0.ack_interrupt();
        result.map_err(|_| StorageError::Broken)
    }

    /// The first sector of `len` octets that lie on the disk.
    fn sector(&self, at: u64, len: usize) -> Result<usize, StorageError> {
        let end = at.checked_add(len as u64);
        let fits = end.is_some_and(|end| end <= self.octets());
        let is_whole = len > 0 && len.is_multiple_of(BLOCK) && at.is_multiple_of(BLOCK as u64);
        match usize::try_from(at / BLOCK as u64) {
            Ok(sector) if fits && is_whole => Ok(sector),
            _ => Err(StorageError::TooSmall),
        }
    }
}

impl Storage for Disk {
    fn octets(&self) -> u64 {
        self.0.capacity().saturating_mul(BLOCK as u64)
    }

    fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), StorageError> {
        let sector = self.sector(at, into.len())?;
        let read = self.0.read_blocks(sector, into);
        self.done(read)
    }

    fn write(&mut self, at: u64, octets: &[u8]) -> Result<(), StorageError> {
        let sector = self.sector(at, octets.len())?;
        let written = self.0.write_blocks(sector, octets);
        self.done(written)
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        let flushed = self.0.flush();
        self.done(flushed)
    }
}
