//! The part of a port that is the machine's, whatever its connections are.

use fl_client::storage::Storage;
use fl_client::{Usage, Word};
use fl_shell::command::Run;

use super::counter::Counter;
use crate::arch::{Disk, random};
use crate::{heap, stack};

/// Counter, storage and secret of a device.
pub struct Own {
    /// Counter of the training's instructions.
    pub counter: Counter,
    disk: Option<Disk>,
    secret: Option<Word>,
}

impl Own {
    /// The machine's, for a device that starts.
    pub fn new(run: &Run) -> Self {
        Self {
            counter: Counter::new(run.icount),
            disk: Disk::open(),
            secret: run.secret,
        }
    }

    /// Octets that nobody else can know.
    pub fn random(&self) -> [u8; 16] {
        let mut bytes = random::bytes();
        // What nobody else was told, for machines that have nothing better. It takes nothing from those that have.
        let secret = self.secret.as_ref().map_or("", Word::text).bytes();
        let places = (0..bytes.len()).cycle();
        secret
            .zip(places)
            .for_each(|(octet, at)| bytes[at] ^= octet.rotate_left(at as u32));
        bytes
    }

    /// Bytes of the heap that are free.
    pub fn free_bytes() -> Option<u64> {
        u64::try_from(heap::usage().free_bytes()).ok()
    }

    /// The disk, if there is one.
    pub fn storage(&mut self) -> Option<&mut dyn Storage> {
        self.disk.as_mut().map(|disk| disk as &mut dyn Storage)
    }

    /// Instructions and memory so far.
    pub fn usage(&self) -> Usage {
        let bytes = |bytes: usize| u32::try_from(bytes).ok();
        Usage {
            instructions: self.counter.instructions(),
            heap_peak_bytes: bytes(heap::usage().peak_bytes),
            stack_peak_bytes: bytes(stack::peak_bytes()),
            ..Usage::default()
        }
    }
}
