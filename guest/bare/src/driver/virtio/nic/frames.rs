//! smoltcp's side of the card: a token for each frame to be received or sent.

use core::cell::RefCell;

use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use zfl_bare::offload::HEADER_BYTES;

use super::{Frame, Inner, LONG_SENT_BYTES, Nic};

/// The longest Ethernet frame, without its checksum.
const FRAME_BYTES: usize = 1514;

/// A received frame. When it has been read, its buffer goes back to the card.
pub struct Received<'a> {
    nic: &'a RefCell<Inner>,
    frame: Option<Frame>,
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        let frame = self.frame.as_ref().expect("it goes only with the token");
        read(&frame.buffer[frame.place.clone()])
    }
}

impl Drop for Received<'_> {
    fn drop(&mut self) {
        if let Some(frame) = self.frame.take() {
            self.nic.borrow_mut().give_back(frame);
        }
    }
}

/// Leave to send one frame.
pub struct ToSend<'a>(&'a RefCell<Inner>);

impl TxToken for ToSend<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let spare = self.0.borrow_mut().spare.pop();
        let mut buffer =
            spare.expect("`can_send` saw a spare buffer, and tokens are used one by one");
        let result = write(&mut buffer[HEADER_BYTES..HEADER_BYTES + len]);
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
        let frame = inner.receive()?;
        let received = Received {
            nic: &self.inner,
            frame: Some(frame),
        };
        Some((received, ToSend(&self.inner)))
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
        if self.inner.borrow().offloads {
            capabilities.checksum.tcp = Checksum::None;
            capabilities.max_transmission_unit = LONG_SENT_BYTES;
        }
        capabilities
    }
}
