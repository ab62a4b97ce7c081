//! A split virtqueue (virtio 1.2, 2.7) of buffers that have a descriptor each, by whose number they go.
//!
//! It keeps the peace: virtio-drivers' own queue notifies the device at nearly every buffer, and is interrupted at
//! every one. Each costs an emulator a lock, and wakes one of its threads. Here the device is told where it asked to
//! be (`available_event`), and interrupts only where the driver has seen all that came (`used_event`).

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU16, Ordering, fence};

use virtio_drivers::transport::{SomeTransport, Transport};
use virtio_drivers::{BufferDirection, Error, Hal, PAGE_SIZE, PhysAddr};

use super::IdentityMapped;
use crate::driver::card::QUEUE_FRAMES;

const BUFFERS: u16 = QUEUE_FRAMES as u16;
const _: () = assert!(BUFFERS.is_power_of_two());

/// The device writes into the buffer.
const WRITES: u16 = 2;

#[repr(C, align(16))]
struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
    next: u16,
}

#[repr(C)]
struct Available {
    flags: u16,
    index: AtomicU16,
    ring: [u16; QUEUE_FRAMES],
    used_event: AtomicU16,
}

#[repr(C)]
struct UsedBuffer {
    descriptor: u32,
    len: u32,
}

#[repr(C, align(4))]
struct Used {
    flags: u16,
    index: AtomicU16,
    ring: [UsedBuffer; QUEUE_FRAMES],
    available_event: AtomicU16,
}

/// Memory that driver and device share.
#[repr(C)]
struct Rings {
    descriptors: [Descriptor; QUEUE_FRAMES],
    available: Available,
    used: Used,
}

const _: () = assert!(size_of::<Rings>() <= PAGE_SIZE);

/// The driver's side of a queue. Its rings are the device's for as long as the machine runs.
pub struct Queue {
    rings: NonNull<Rings>,
    number: u16,
    /// Buffers offered, and of those the ones that the device may have been told of.
    offered: u16,
    told: u16,
    /// Buffers taken back.
    taken: u16,
}

impl Queue {
    /// Gives a device, which is being set up, its queue `number`. It has to know event indices.
    pub fn new(transport: &mut SomeTransport<'static>, number: u16) -> Result<Self, Error> {
        if transport.queue_used(number) {
            return Err(Error::AlreadyUsed);
        }
        if transport.max_queue_size(number) < u32::from(BUFFERS) {
            return Err(Error::InvalidParam);
        }
        // Zero is a value of all that is in the rings. They are never freed.
        let (_, page) = IdentityMapped::dma_alloc(1, BufferDirection::Both);
        let rings: NonNull<Rings> = page.cast();
        let at = rings.as_ptr();
        // SAFETY: fields of the block that was just made; their addresses are taken and nothing is read.
        let (available, used) = unsafe { (&raw mut (*at).available, &raw mut (*at).used) };
        let [descriptors, available, used] = [
            at.expose_provenance(),
            available.expose_provenance(),
            used.expose_provenance(),
        ]
        .map(|address| address as PhysAddr);
        transport.queue_set(number, u32::from(BUFFERS), descriptors, available, used);
        Ok(Self {
            rings,
            number,
            offered: 0,
            told: 0,
            taken: 0,
        })
    }

    fn available(&self) -> *mut Available {
        // SAFETY: a field of a block that is never freed.
        unsafe { &raw mut (*self.rings.as_ptr()).available }
    }

    fn used(&self) -> *mut Used {
        // SAFETY: a field of a block that is never freed.
        unsafe { &raw mut (*self.rings.as_ptr()).used }
    }

    /// Lends the device the first `len` bytes of a buffer, to read or to write, under a free descriptor.
    ///
    /// # Safety
    /// The device has nothing under this descriptor. The buffer stays where it is, and nobody touches it, until
    /// [`Queue::take`] returns the descriptor.
    pub unsafe fn offer(&mut self, descriptor: u16, buffer: &mut [u8], len: usize, writes: bool) {
        let len = buffer.len().min(len) as u32;
        let entry = Descriptor {
            address: buffer.as_mut_ptr().expose_provenance() as u64,
            len,
            flags: if writes { WRITES } else { 0 },
            next: 0,
        };
        let slot = usize::from(self.offered % BUFFERS);
        self.offered = self.offered.wrapping_add(1);
        // SAFETY: the block is never freed. The device reads neither the descriptor, which the caller says is free,
        // nor the slot, which is behind the index, before the index says so.
        unsafe {
            let at = &raw mut (*self.rings.as_ptr()).descriptors;
            at.cast::<Descriptor>()
                .add(usize::from(descriptor % BUFFERS))
                .write_volatile(entry);
            let ring = (&raw mut (*self.available()).ring).cast::<u16>();
            ring.add(slot).write_volatile(descriptor);
            (*self.available())
                .index
                .store(self.offered, Ordering::Release);
        }
    }

    /// Tells the device of what was offered, if it waits for that.
    pub fn notify(&mut self, transport: &mut SomeTransport<'static>) {
        // The device sees the index, or we see what it waits for.
        fence(Ordering::SeqCst);
        // SAFETY: the block is never freed.
        let event = unsafe { (*self.used()).available_event.load(Ordering::Acquire) };
        let is_awaited = passes(event, self.told, self.offered);
        self.told = self.offered;
        if is_awaited {
            transport.notify(self.number);
        }
    }

    /// True if the device has given a buffer back. If not, it interrupts when it does.
    pub fn has_used(&self) -> bool {
        let is_used = || {
            // SAFETY: the block is never freed.
            let index = unsafe { (*self.used()).index.load(Ordering::Acquire) };
            index != self.taken
        };
        is_used() || {
            // SAFETY: as above.
            let event = unsafe { &(*self.available()).used_event };
            event.store(self.taken, Ordering::Release);
            // The device sees the event, or we see what it has used meanwhile.
            fence(Ordering::SeqCst);
            is_used()
        }
    }

    /// The next buffer that the device has given back: its descriptor, and the bytes that were written.
    pub fn take(&mut self) -> Option<(u16, usize)> {
        // SAFETY: the block is never freed; what is read is in front of the index, and so the driver's.
        let used = unsafe {
            if (*self.used()).index.load(Ordering::Acquire) == self.taken {
                return None;
            }
            let ring = (&raw const (*self.used()).ring).cast::<UsedBuffer>();
            ptr::read_volatile(ring.add(usize::from(self.taken % BUFFERS)))
        };
        self.taken = self.taken.wrapping_add(1);
        // The device is not trusted with an index.
        Some((
            (used.descriptor % u32::from(BUFFERS)) as u16,
            used.len as usize,
        ))
    }
}

/// True if the step from `old` to `new` passes the event.
fn passes(event: u16, old: u16, new: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
