//! Search for a virtio device in a row of MMIO slots.

use core::ptr::{self, NonNull};

use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
use virtio_drivers::transport::{DeviceType, SomeTransport};

/// A device that nobody drives yet.
pub struct Found {
    /// The way to it.
    pub transport: SomeTransport<'static>,
    /// Its interrupt line.
    pub line: u8,
}

/// A row of slots; each may have a device.
pub struct Slots {
    /// Address of the first.
    pub first: usize,
    /// Bytes from one to the next.
    pub bytes: usize,
    /// Number of slots.
    pub count: u8,
    /// Interrupt line of the first.
    pub first_line: u8,
}

impl Slots {
    /// Looks for the first device of a kind; QEMU fills the last slot first.
    pub fn find(&self, kind: DeviceType) -> Option<Found> {
        const MAGIC: u32 = u32::from_le_bytes(*b"virt");
        /// Registers of a slot, in words.
        const MAGIC_WORD: usize = 0;
        const KIND_WORD: usize = 2;

        for slot in 0..self.count {
            let at = self.first + usize::from(slot) * self.bytes;
            let header = ptr::with_exposed_provenance_mut::<VirtIOHeader>(at);
            let word = |at: usize| {
                // SAFETY: the address is mapped, and `at` within the slot; where no device answers, a read gives ones.
                unsafe { header.cast::<u32>().add(at).read_volatile() }
            };
            // Only the device that is looked for is touched: a transport resets its device when it is dropped.
            if word(MAGIC_WORD) != MAGIC || word(KIND_WORD) != kind as u32 {
                continue;
            }
            let header = NonNull::new(header).expect("the slots are not at address 0");
            // SAFETY: a device that says `virt` is a virtio device, for as long as the machine runs;
            // its slot is this long, and nobody else drives it.
            if let Ok(transport) = unsafe { MmioTransport::new(header, self.bytes) } {
                return Some(Found {
                    transport: transport.into(),
                    line: self.first_line + slot,
                });
            }
        }
        None
    }
}
