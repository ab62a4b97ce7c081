//! smoltcp's side of the card: a token for each frame to be received or sent.

use core::cell::RefCell;
use core::ops::Range;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use super::{Buffer, Inner, Nic};

/// The longest Ethernet frame, without its checksum.
const FRAME_BYTES: usize = 1514;

/// A received frame. When it has been read, its buffer goes back to the card.
pub struct Received<'a> {
    nic: &'a RefCell<Inner>,
    buffer: Buffer,
    frame: Range<usize>,
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.buffer[self.frame.clone()])
    }
}

impl Drop for Received<'_> {
    fn drop(&mut self) {
        // A card that refuses a buffer it has had before is broken; it then has one less.
        let _ = self
            .nic
            .borrow_mut()
            .receive_into(core::mem::take(&mut self.buffer));
    }
}

/// Leave to send one frame.
pub struct ToSend<'a>(&'a RefCell<Inner>);

impl TxToken for ToSend<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let spare = self.0.borrow_mut().spare.pop();
        let mut buffer =
            spare.expect("`can_send` saw a spare buffer, and tokens are used one by one");
        let start = self.0.borrow().header.len();
        let result = write(&mut buffer[start..start + len]);
        self.0.borrow_mut().send(buffer, len);
        result
    }
}

impl Device for Nic {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = ToSend<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, ToSend<'_>)> {
        let inner = self.inner.get_mut();
        // Reading a frame may take sending an answer.
        if !inner.can_send() {
            return None;
        }
        let (buffer, frame) = inner.receive()?;
        Some((
            Received {
                nic: &self.inner,
                buffer,
                frame,
            },
            ToSend(&self.inner),
        ))
    }

    fn transmit(&mut self, _: Instant) -> Option<ToSend<'_>> {
        self.inner
            .get_mut()
            .can_send()
            .then_some(ToSend(&self.inner))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME_BYTES;
        capabilities
    }
}
