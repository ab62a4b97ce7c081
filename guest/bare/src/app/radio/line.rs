//! The UART of the radio, as a stream of octets.

use alloc::boxed::Box;

use fl_radio::FRAME_BYTES;
use fl_radio::line::{BLOCK_BYTES, MAX_FRAMES, STEP_HEAD_BYTES};

use crate::arch::radio_uart::UART;
use crate::arch::{PATIENCE_TICKS, timestamp};
use crate::driver::uart::Uart;

/// Octets of the longest message, filled up.
const MOST_BYTES: usize =
    (STEP_HEAD_BYTES + MAX_FRAMES * FRAME_BYTES).next_multiple_of(BLOCK_BYTES);

/// The line and what has come over it.
pub struct Line {
    come: Box<heapless::Vec<u8, MOST_BYTES>>,
}

impl Line {
    /// Readies the UART.
    pub fn open() -> Self {
        UART.init();
        UART.interrupt_for_blocks();
        Self {
            come: Box::new(heapless::Vec::new()),
        }
    }

    /// Takes in what has come. A message comes only after the answer to the one before, so there is room.
    pub fn receive(&mut self) {
        while !self.come.is_full()
            && let Some(octet) = UART.read()
        {
            _ = self.come.push(octet);
        }
    }

    /// The first octets that came, once there are so many.
    pub fn take(&self, length: usize) -> Option<&[u8]> {
        self.come.get(..length)
    }

    /// Forgets the first octets.
    pub fn done(&mut self, length: usize) {
        let length = length.min(self.come.len());
        self.come.rotate_left(length);
        self.come.truncate(self.come.len() - length);
    }

    /// Sends octets. Where nobody reads, the rest is dropped after a while.
    pub fn send(&self, octets: &[u8]) {
        for octet in octets {
            let start = timestamp();
            while !UART.has_room() {
                if timestamp().wrapping_sub(start) > PATIENCE_TICKS {
                    return;
                }
            }
            UART.send(*octet);
        }
    }
}
