//! SMSC's LAN9118, by its data sheet: frames go through FIFOs that the processor reads and writes; there is no DMA.
//!
//! The receive FIFO holds some 10 KB, and frames beyond are lost: the board's receive window has to stay below.

use alloc::boxed::Box;
use alloc::vec;
use core::cell::RefCell;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use super::card::{Card, FrameCounters, NicError};
use super::mmio::{read32, write32};
use crate::arch::interrupts;
use crate::board;

const RECEIVED_DATA: usize = 0x00;
const DATA_TO_SEND: usize = 0x20;
const RECEIVE_STATUS: usize = 0x40;
const SEND_STATUS: usize = 0x48;
const IDENTITY: usize = 0x50;
const INTERRUPT_CONFIG: usize = 0x54;
const INTERRUPT_STATUS: usize = 0x58;
const INTERRUPTS: usize = 0x5c;
const BYTE_ORDER: usize = 0x64;
const FIFO_LEVELS: usize = 0x68;
const RECEIVE_CONFIG: usize = 0x6c;
const SEND_CONFIG: usize = 0x70;
const HARDWARE_CONFIG: usize = 0x74;
const RECEIVE_FIFO: usize = 0x7c;
const SEND_FIFO: usize = 0x80;
const MAC_COMMAND: usize = 0xa4;
const MAC_DATA: usize = 0xa8;

/// A frame has been received: its status stands in the FIFO.
const HAS_RECEIVED: u32 = 1 << 3;
/// Interrupts on, by a line that is driven, and high.
const LINE_IS_HIGH: u32 = 1 << 8 | 1 << 4 | 1;
/// Error in a received frame.
const IS_BAD: u32 = 1 << 15;

/// The longest Ethernet frame, without its checksum.
const FRAME_BYTES: usize = 1514;
/// Octets behind a received frame.
const CHECKSUM_BYTES: usize = 4;
/// Room that a frame and its two words need in the FIFO to send.
const SEND_BYTES: u32 = 1536;

/// Polls of a register that the card changes at once.
const POLLS: u32 = 100_000;

fn read(register: usize) -> u32 {
    read32(board::NIC_AT + register)
}

fn write(register: usize, value: u32) {
    // SAFETY: the card does no DMA.
    unsafe { write32(board::NIC_AT + register, value) }
}

/// Waits until some bits of a register are zero.
fn wait(register: usize, bits: u32) -> Result<(), NicError> {
    let is_done = (0..POLLS).any(|_| read(register) & bits == 0);
    is_done.then_some(()).ok_or(NicError::Broken)
}

const BUSY: u32 = 1 << 31;
const READ: u32 = 1 << 30;

fn read_mac(register: u32) -> Result<u32, NicError> {
    write(MAC_COMMAND, BUSY | READ | register);
    wait(MAC_COMMAND, BUSY)?;
    Ok(read(MAC_DATA))
}

fn write_mac(register: u32, value: u32) -> Result<(), NicError> {
    write(MAC_DATA, value);
    write(MAC_COMMAND, BUSY | register);
    wait(MAC_COMMAND, BUSY)
}

/// The card with a buffer for either direction. The tokens that smoltcp takes for one frame each both need it, hence
/// the `RefCell`; it is borrowed only inside a method, never across a callback.
pub struct Nic {
    inner: RefCell<Inner>,
    address: [u8; 6],
}

struct Inner {
    received: Box<[u8]>,
    to_send: Box<[u8]>,
    counters: FrameCounters,
}

impl Card for Nic {
    fn open() -> Result<Self, NicError> {
        if read(BYTE_ORDER) != 0x8765_4321 || read(IDENTITY) >> 16 != 0x118 {
            return Err(NicError::Missing);
        }
        // A reset, which also loads the address.
        write(HARDWARE_CONFIG, 1);
        wait(HARDWARE_CONFIG, 1)?;
        // 5 KiB to send in, whole frames.
        write(HARDWARE_CONFIG, 5 << 16 | 1 << 20);
        write(INTERRUPT_STATUS, u32::MAX);
        write(FIFO_LEVELS, 0);
        write(INTERRUPTS, HAS_RECEIVED);
        write(INTERRUPT_CONFIG, LINE_IS_HIGH);
        let (high, low) = (read_mac(2)?.to_le_bytes(), read_mac(3)?.to_le_bytes());
        // Full duplex, both directions; frames to this address and to all.
        write_mac(1, 1 << 20 | 1 << 3 | 1 << 2)?;
        write(RECEIVE_CONFIG, 0);
        write(SEND_CONFIG, 1 << 1);
        interrupts::unmask(board::NIC_LINE as u8);
        let buffer = || vec![0; FRAME_BYTES].into_boxed_slice();
        Ok(Self {
            inner: RefCell::new(Inner {
                received: buffer(),
                to_send: buffer(),
                counters: FrameCounters::default(),
            }),
            address: [low[0], low[1], low[2], low[3], high[0], high[1]],
        })
    }

    fn mac_address(&self) -> [u8; 6] {
        self.address
    }

    fn line(&self) -> u8 {
        board::NIC_LINE as u8
    }

    fn acknowledge(&mut self) {
        write(INTERRUPT_STATUS, u32::MAX);
        interrupts::unmask(self.line());
    }

    fn has_received(&self) -> bool {
        has_received()
    }

    /// There is nothing more to take.
    fn reserve(&mut self) {}

    fn counters<R>(&self, look: impl FnOnce(&FrameCounters) -> R) -> R {
        look(&self.inner.borrow().counters)
    }
}

fn has_received() -> bool {
    read(RECEIVE_FIFO) >> 16 & 0xff != 0
}

fn can_send() -> bool {
    read(SEND_FIFO) & 0xffff >= SEND_BYTES
}

impl Inner {
    /// Reads the next frame into the buffer; its length, if it is a good one.
    fn receive(&mut self) -> Option<usize> {
        let status = read(RECEIVE_STATUS);
        let len = (status >> 16 & 0x3fff) as usize;
        let end = len.saturating_sub(CHECKSUM_BYTES);
        for at in (0..len).step_by(4) {
            let word = read(RECEIVED_DATA).to_le_bytes();
            // The checksum, and what no frame has, goes nowhere.
            let room = self
                .received
                .get_mut(at..end.min(at + 4))
                .unwrap_or_default();
            room.iter_mut()
                .zip(word)
                .for_each(|(to, octet)| *to = octet);
        }
        if status & IS_BAD != 0 || end > FRAME_BYTES || end == 0 {
            return None;
        }
        self.counters.received(&self.received[..end], None);
        Some(end)
    }

    /// Sends a frame that stands in the buffer.
    fn send(&mut self, frame: &[u8]) {
        const FIRST_AND_LAST: u32 = 1 << 13 | 1 << 12;
        let len = frame.len() as u32;
        write(DATA_TO_SEND, FIRST_AND_LAST | len);
        write(DATA_TO_SEND, len);
        for part in frame.chunks(4) {
            let mut word = [0; 4];
            word[..part.len()].copy_from_slice(part);
            write(DATA_TO_SEND, u32::from_le_bytes(word));
        }
        while read(SEND_FIFO) >> 16 & 0xff != 0 {
            read(SEND_STATUS);
        }
        self.counters.sent(frame, None);
    }
}

/// A received frame. When it has been read, its buffer goes back.
pub struct Received<'a> {
    nic: &'a RefCell<Inner>,
    buffer: Box<[u8]>,
    len: usize,
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.buffer[..self.len])
    }
}

impl Drop for Received<'_> {
    fn drop(&mut self) {
        self.nic.borrow_mut().received = core::mem::take(&mut self.buffer);
    }
}

/// Leave to send one frame.
pub struct ToSend<'a>(&'a RefCell<Inner>);

impl TxToken for ToSend<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut buffer = core::mem::take(&mut self.0.borrow_mut().to_send);
        let result = write(&mut buffer[..len]);
        let mut inner = self.0.borrow_mut();
        inner.send(&buffer[..len]);
        inner.to_send = buffer;
        result
    }
}

impl Device for Nic {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = ToSend<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, ToSend<'_>)> {
        // Reading a frame may take sending an answer.
        if !has_received() || !can_send() {
            return None;
        }
        let inner = self.inner.get_mut();
        let len = inner.receive()?;
        let buffer = core::mem::take(&mut inner.received);
        let received = Received {
            nic: &self.inner,
            buffer,
            len,
        };
        Some((received, ToSend(&self.inner)))
    }

    fn transmit(&mut self, _: Instant) -> Option<ToSend<'_>> {
        can_send().then_some(ToSend(&self.inner))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME_BYTES;
        capabilities
    }
}
