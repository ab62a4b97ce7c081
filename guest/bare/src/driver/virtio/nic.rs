//! The network card: virtio-net under smoltcp's `Device`.
//!
//! Frames are not copied: smoltcp reads a received frame in the buffer that the card filled, and
//! writes a frame to send into the buffer that the card reads (`nic/frames.rs`). A buffer belongs to the card from
//! `*_begin` to `*_complete` and to nobody else meanwhile; this file upholds that by keeping it in
//! `receiving` or `sending` under the card's token, where no method hands it out.

mod frames;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ops::Range;
use core::sync::atomic::{Ordering, fence};

use virtio_drivers::device::net::VirtIONetRaw;
use virtio_drivers::transport::{DeviceType, SomeTransport};

use super::IdentityMapped;
use crate::arch::{interrupts, virtio_device};
use crate::driver::card::{Card, FrameCounters, NicError, QUEUE_FRAMES};
use crate::heap;

/// A frame and virtio's header of 12 bytes; the driver insists on at least 1526.
const BUFFER_BYTES: usize = 1536;

type Driver = VirtIONetRaw<IdentityMapped, SomeTransport<'static>, QUEUE_FRAMES>;
type Buffer = Box<[u8]>;

/// A virtio network card with its buffers. The tokens that smoltcp takes for one frame each both
/// need the card, hence the `RefCell`; it is borrowed only inside a method, never across a callback.
pub struct Nic {
    inner: RefCell<Inner>,
    line: u8,
}

struct Inner {
    card: Driver,
    /// Virtio's header before each frame: nothing asked of the card.
    header: Vec<u8>,
    /// Buffers that the card may fill, by its token.
    receiving: [Option<Buffer>; QUEUE_FRAMES],
    /// Buffers that the card may read, by its token.
    sending: [Option<Buffer>; QUEUE_FRAMES],
    /// Buffers to send in that nobody uses now.
    spare: Vec<Buffer>,
    counters: FrameCounters,
}

impl Card for Nic {
    fn open() -> Result<Self, NicError> {
        let found = virtio_device(DeviceType::Network)?.ok_or(NicError::Missing)?;
        let mut card = Driver::new(found.transport)?;
        card.enable_interrupts();
        let mut header = vec![0; BUFFER_BYTES];
        let header_bytes = card.fill_buffer_header(&mut header)?;
        header.truncate(header_bytes);
        let mut inner = Inner {
            card,
            header,
            receiving: [const { None }; QUEUE_FRAMES],
            sending: [const { None }; QUEUE_FRAMES],
            spare: Vec::with_capacity(QUEUE_FRAMES),
            counters: FrameCounters::default(),
        };
        for _ in 0..QUEUE_FRAMES {
            inner.receive_into(vec![0; BUFFER_BYTES].into_boxed_slice())?;
        }
        interrupts::unmask(found.line);
        Ok(Self {
            inner: RefCell::new(inner),
            line: found.line,
        })
    }

    fn mac_address(&self) -> [u8; 6] {
        self.inner.borrow().card.mac_address()
    }

    fn line(&self) -> u8 {
        self.line
    }

    fn acknowledge(&mut self) {
        self.inner.get_mut().card.ack_interrupt();
        interrupts::unmask(self.line);
    }

    /// The card does not interrupt for a frame that it delivers before it has seen that we took the one before; the
    /// fence makes us see such a frame.
    fn has_received(&self) -> bool {
        fence(Ordering::SeqCst);
        self.inner.borrow().card.poll_receive().is_some()
    }

    fn reserve(&mut self) {
        let inner = self.inner.get_mut();
        let in_flight = inner.sending.iter().flatten().count();
        let missing = QUEUE_FRAMES.saturating_sub(inner.spare.len() + in_flight);
        for _ in 0..missing {
            inner.add_spare();
        }
    }

    fn counters<R>(&self, look: impl FnOnce(&FrameCounters) -> R) -> R {
        look(&self.inner.borrow().counters)
    }
}

impl Inner {
    /// Lends a buffer to the card, to be filled.
    fn receive_into(&mut self, mut buffer: Buffer) -> virtio_drivers::Result {
        // SAFETY: the buffer is put where only `receive` takes it out again, once complete. Moving
        // the box does not move its memory.
        let token = unsafe { self.card.receive_begin(&mut buffer)? };
        self.receiving[usize::from(token)] = Some(buffer);
        Ok(())
    }

    /// The next frame received: its buffer, and where in it.
    fn receive(&mut self) -> Option<(Buffer, Range<usize>)> {
        let token = self.card.poll_receive()?;
        let mut buffer = self.receiving[usize::from(token)].take()?;
        // SAFETY: this is the buffer lent under this token.
        let received = unsafe { self.card.receive_complete(token, &mut buffer) };
        let Ok((start, len)) = received else {
            abandon(buffer);
            return None;
        };
        let frame = start..(start + len).min(buffer.len());
        self.counters.frames_in = self.counters.frames_in.wrapping_add(1);
        self.counters.bytes_in += frame.len() as u64;
        self.counters
            .segments
            .count_received(&buffer[frame.clone()]);
        Some((buffer, frame))
    }

    /// Takes back what the card has sent.
    fn reclaim(&mut self) {
        while let Some(token) = self.card.poll_transmit() {
            let Some(buffer) = self.sending[usize::from(token)].take() else {
                return;
            };
            // SAFETY: this is the buffer lent under this token.
            if unsafe { self.card.transmit_complete(token, &buffer) }.is_err() {
                abandon(buffer);
                return;
            }
            self.spare.push(buffer);
        }
    }

    /// True if a buffer is free for another frame.
    fn can_send(&mut self) -> bool {
        if self.spare.is_empty() {
            self.reclaim();
        }
        if self.spare.is_empty() && self.card.can_send() {
            self.add_spare();
        }
        self.card.can_send() && !self.spare.is_empty()
    }

    /// Takes memory for one more buffer to send in, if there is some.
    fn add_spare(&mut self) {
        let buffer = heap::zeros(BUFFER_BYTES);
        self.spare.extend(buffer.map(Vec::into_boxed_slice));
    }

    /// Lends a buffer with a header and `len` bytes of frame to the card, to be sent.
    fn send(&mut self, mut buffer: Buffer, len: usize) {
        let end = self.header.len() + len;
        buffer[..self.header.len()].copy_from_slice(&self.header);
        self.counters.frames_out = self.counters.frames_out.wrapping_add(1);
        self.counters.bytes_out += len as u64;
        self.counters
            .segments
            .count_sent(&buffer[self.header.len()..end]);
        // SAFETY: on success the buffer is put where only `reclaim` takes it out again, once
        // complete, which passes its whole length: the card writes nothing into it.
        match unsafe { self.card.transmit_begin(&buffer[..end]) } {
            Ok(token) => self.sending[usize::from(token)] = Some(buffer),
            // The queue is full though `can_send` said otherwise: the frame is lost, as any may be.
            Err(_) => self.spare.push(buffer),
        }
    }
}

/// Gives up a buffer that the card may still use: its memory is never freed, and so never another's.
fn abandon(buffer: Buffer) {
    Box::leak(buffer);
}
