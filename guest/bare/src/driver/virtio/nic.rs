//! The network card: virtio-net under smoltcp's `Device`.
//!
//! Frames are not copied, unless they are longer than a buffer: smoltcp reads a received frame in the buffer that the
//! card filled, and writes a frame to send into the buffer that the card reads (`nic/frames.rs`). A buffer belongs to
//! the card while it is in `receiving` or `sending`, under its descriptor, where no method hands it out.
//!
//! A card that can leaves TCP's checksums to the host, and passes segments on as one long frame, in either direction
//! (`zfl_bare::offload`): a frame costs the host, the emulator and smoltcp about the same, whatever its length. smoltcp
//! is told a segment size that it never fills; what it tells others is put right. Not so on a machine with little
//! memory, which has none for such frames.

mod frames;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::mem;
use core::num::NonZeroU16;
use core::ops::Range;

use virtio_drivers::Error;
use virtio_drivers::transport::{DeviceStatus, DeviceType, SomeTransport, Transport};
use zfl_bare::offload::{self, HEADER_BYTES, Told};

use super::queue::Queue;
use crate::arch::{RESERVES_NETWORK, TCP, interrupts, virtio_device};
use crate::driver::card::{Card, FrameCounters, NicError, QUEUE_FRAMES};
use crate::heap;

/// A frame of Ethernet and its header.
const BUFFER_BYTES: usize = 1536;
/// Headers of a frame with a TCP segment, with options.
const FRAME_HEADER_BYTES: usize = 14 + 20 + 60;
/// Payload of a segment in a frame of Ethernet.
const SEGMENT_BYTES: NonZeroU16 = NonZeroU16::new(1460).unwrap();
/// A frame with all that a connection may send or receive at once.
const LONG_SENT_BYTES: usize = FRAME_HEADER_BYTES + TCP.send_bytes;
const LONG_RECEIVED_BYTES: usize = FRAME_HEADER_BYTES + TCP.receive_bytes;
/// The card waits until a frame fits into the buffers that it has.
const _: () = assert!(QUEUE_FRAMES * BUFFER_BYTES >= HEADER_BYTES + LONG_RECEIVED_BYTES);

// Features: numbers of bits, by virtio 1.2 (5.1.3, 6).
const HOST_CHECKSUMS: u64 = 1 << 0;
const GUEST_TAKES_PARTIAL_CHECKSUMS: u64 = 1 << 1;
const HAS_MAC: u64 = 1 << 5;
const GUEST_TAKES_LONG_FRAMES: u64 = 1 << 7;
const HOST_TAKES_LONG_FRAMES: u64 = 1 << 11;
const MERGES_BUFFERS: u64 = 1 << 15;
const EVENT_INDEX: u64 = 1 << 29;
const VERSION_1: u64 = 1 << 32;
/// Features that the driver cannot do without.
const NEEDED: u64 = HAS_MAC | EVENT_INDEX | VERSION_1;
/// Features that it takes together or not at all.
const OFFLOADS: u64 = HOST_CHECKSUMS
    | GUEST_TAKES_PARTIAL_CHECKSUMS
    | GUEST_TAKES_LONG_FRAMES
    | HOST_TAKES_LONG_FRAMES
    | MERGES_BUFFERS;

const RECEIVE: u16 = 0;
const SEND: u16 = 1;

type Buffer = Box<[u8]>;

/// A virtio network card with its buffers. The tokens that smoltcp takes for one frame each both
/// need the card, hence the `RefCell`; it is borrowed only inside a method, never across a callback.
pub struct Nic {
    inner: RefCell<Inner>,
    line: u8,
}

struct Inner {
    transport: SomeTransport<'static>,
    mac: [u8; 6],
    /// Checksums and long frames are the host's.
    offloads: bool,
    /// Least segment size that another machine asked for; it holds for all.
    segment_bytes: NonZeroU16,
    to_receive: Queue,
    to_send: Queue,
    /// Buffers that the card may fill, by descriptor.
    receiving: [Option<Buffer>; QUEUE_FRAMES],
    /// Buffers that the card may read, by descriptor.
    sending: [Option<Buffer>; QUEUE_FRAMES],
    /// Buffers to send in that nobody uses now.
    spare: Vec<Buffer>,
    /// Room in which a frame of several buffers is put together.
    whole: Buffer,
    counters: FrameCounters,
}

/// A received frame: its place in a buffer, which goes back to this descriptor, or is `whole`.
struct Frame {
    buffer: Buffer,
    place: Range<usize>,
    descriptor: Option<u16>,
}

impl Card for Nic {
    fn open() -> Result<Self, NicError> {
        let found = virtio_device(DeviceType::Network)?.ok_or(NicError::Missing)?;
        let mut inner = Inner::new(found.transport)?;
        for descriptor in 0..QUEUE_FRAMES as u16 {
            let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
            inner.receive_into(descriptor, buffer);
        }
        interrupts::unmask(found.line);
        Ok(Self {
            inner: RefCell::new(inner),
            line: found.line,
        })
    }

    fn mac_address(&self) -> [u8; 6] {
        self.inner.borrow().mac
    }

    fn line(&self) -> u8 {
        self.line
    }

    fn acknowledge(&mut self) {
        self.inner.get_mut().transport.ack_interrupt();
        interrupts::unmask(self.line);
    }

    fn has_received(&self) -> bool {
        self.inner.borrow().to_receive.has_used()
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
    /// Sets the card up (virtio 1.2, 3.1.1).
    fn new(mut transport: SomeTransport<'static>) -> Result<Self, Error> {
        let set_up = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
        transport.set_status(DeviceStatus::empty());
        transport.set_status(set_up);
        let offered = transport.read_device_features();
        if offered & NEEDED != NEEDED || transport.requires_legacy_layout() {
            return Err(Error::Unsupported);
        }
        let offloads = !RESERVES_NETWORK && offered & OFFLOADS == OFFLOADS;
        let taken = if offloads { OFFLOADS } else { 0 };
        transport.write_driver_features(NEEDED | taken);
        let set_up = set_up | DeviceStatus::FEATURES_OK;
        transport.set_status(set_up);
        if !transport.get_status().contains(DeviceStatus::FEATURES_OK) {
            return Err(Error::Unsupported);
        }
        let mac = transport.read_config_space::<[u8; 6]>(0)?;
        let to_receive = Queue::new(&mut transport, RECEIVE)?;
        let to_send = Queue::new(&mut transport, SEND)?;
        transport.set_status(set_up | DeviceStatus::DRIVER_OK);
        let whole = if offloads { LONG_RECEIVED_BYTES } else { 0 };
        Ok(Self {
            transport,
            mac,
            offloads,
            segment_bytes: SEGMENT_BYTES,
            to_receive,
            to_send,
            receiving: [const { None }; QUEUE_FRAMES],
            sending: [const { None }; QUEUE_FRAMES],
            spare: Vec::with_capacity(QUEUE_FRAMES),
            whole: vec![0; whole].into_boxed_slice(),
            counters: FrameCounters::default(),
        })
    }

    /// Lends a buffer to the card, to be filled, under a descriptor that is free.
    fn receive_into(&mut self, descriptor: u16, mut buffer: Buffer) {
        // SAFETY: the descriptor is free, and the buffer is put where only `next_buffer` takes it out again, once
        // the card has given it back. Moving the box does not move its memory.
        unsafe {
            self.to_receive
                .offer(descriptor, &mut buffer, BUFFER_BYTES, true);
        }
        self.receiving[usize::from(descriptor)] = Some(buffer);
        self.to_receive.notify(&mut self.transport);
    }

    /// The next buffer that the card has filled, as far as it has.
    fn next_buffer(&mut self) -> Option<(u16, Buffer, usize)> {
        let (descriptor, len) = self.to_receive.take()?;
        let buffer = self.receiving[usize::from(descriptor)].take()?;
        let len = len.min(buffer.len());
        Some((descriptor, buffer, len))
    }

    /// The next frame received; those that are damaged are left out.
    fn receive(&mut self) -> Option<Frame> {
        loop {
            let (descriptor, buffer, len) = self.next_buffer()?;
            let told = Told::read(&buffer[..len]);
            let frame = match told {
                Some(told) if told.buffers > 1 => self.put_together(told, descriptor, buffer, len),
                _ => Some(Frame {
                    buffer,
                    place: HEADER_BYTES.min(len)..len,
                    descriptor: Some(descriptor),
                }),
            };
            let Some(mut frame) = frame else { continue };
            let octets = &mut frame.buffer[frame.place.clone()];
            if told.is_some_and(|told| !self.offloads || told.is_intact(octets)) {
                let size = told.and_then(|told| told.segment_bytes);
                self.counters.received(octets, size);
                if self.offloads {
                    let asked = offload::replace_segment_size(octets, TCP.send_bytes as u16);
                    let asked = asked.and_then(NonZeroU16::new);
                    self.segment_bytes = self.segment_bytes.min(asked.unwrap_or(SEGMENT_BYTES));
                }
                return Some(frame);
            }
            self.give_back(frame);
        }
    }

    /// Puts a frame together that begins in this buffer; `None` if there is no such frame, or it is too long.
    fn put_together(
        &mut self,
        told: Told,
        mut descriptor: u16,
        mut buffer: Buffer,
        mut len: usize,
    ) -> Option<Frame> {
        let mut whole = mem::take(&mut self.whole);
        let (mut end, mut fits) = (0, true);
        let mut start = HEADER_BYTES;
        for more in (0..told.buffers).rev() {
            let part = &buffer[start..len];
            match whole.get_mut(end..end + part.len()) {
                Some(room) => room.copy_from_slice(part),
                None => fits = false,
            }
            end += part.len();
            self.receive_into(descriptor, buffer);
            if more == 0 {
                break;
            }
            let Some(next) = self.next_buffer() else {
                fits = false;
                break;
            };
            (descriptor, buffer, len) = next;
            start = 0;
        }
        if !fits {
            self.whole = whole;
            return None;
        }
        Some(Frame {
            buffer: whole,
            place: 0..end,
            descriptor: None,
        })
    }

    /// Takes a buffer back that has been read.
    fn give_back(&mut self, frame: Frame) {
        match frame.descriptor {
            Some(descriptor) => self.receive_into(descriptor, frame.buffer),
            None => self.whole = frame.buffer,
        }
    }

    /// Takes back what the card has sent.
    fn reclaim(&mut self) {
        while let Some((descriptor, _)) = self.to_send.take() {
            let sent = self.sending[usize::from(descriptor)].take();
            self.spare.extend(sent);
        }
    }

    /// True if a buffer is free for another frame.
    fn can_send(&mut self) -> bool {
        if self.spare.is_empty() {
            self.reclaim();
        }
        let has_room = self.sending.iter().any(Option::is_none);
        if self.spare.is_empty() && has_room {
            self.add_spare();
        }
        has_room && !self.spare.is_empty()
    }

    /// Takes memory for one more buffer to send in, if there is some.
    fn add_spare(&mut self) {
        let len = if self.offloads {
            HEADER_BYTES + LONG_SENT_BYTES
        } else {
            BUFFER_BYTES
        };
        let buffer = heap::zeros(len);
        self.spare.extend(buffer.map(Vec::into_boxed_slice));
    }

    /// Lends a buffer with a header and `len` bytes of frame to the card, to be sent.
    fn send(&mut self, mut buffer: Buffer, len: usize) {
        let (header, rest) = buffer.split_at_mut(HEADER_BYTES);
        let frame = &mut rest[..len];
        if self.offloads {
            offload::replace_segment_size(frame, SEGMENT_BYTES.get());
            let size = offload::cut(frame, self.segment_bytes);
            header.copy_from_slice(&offload::ask(frame, size));
            self.counters.sent(frame, size);
        } else {
            header.fill(0);
            self.counters.sent(frame, None);
        }
        let free = self.sending.iter().position(Option::is_none);
        let Some(descriptor) = free else {
            // `can_send` said otherwise: the frame is lost, as any may be.
            return self.spare.push(buffer);
        };
        // SAFETY: the descriptor is free, and the buffer is put where only `reclaim` takes it out again, once the
        // card has given it back.
        unsafe {
            self.to_send
                .offer(descriptor as u16, &mut buffer, HEADER_BYTES + len, false);
        }
        self.sending[descriptor] = Some(buffer);
        self.to_send.notify(&mut self.transport);
    }
}
