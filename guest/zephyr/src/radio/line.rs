//! The UART of the radio, as a stream of octets.

use crate::glue;
use alloc::boxed::Box;
use fl_radio::FRAME_BYTES;
use fl_radio::line::{BLOCK_BYTES, MAX_FRAMES, STEP_HEAD_BYTES};

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
        glue::radio_open();
        Self {
            come: Box::new(heapless::Vec::new()),
        }
    }

    /// Takes in what has come. A message comes only after the answer to the one before, so there is room.
    pub fn receive(&mut self) {
        let mut octets = [0; 64];
        loop {
            let room = (MOST_BYTES - self.come.len()).min(octets.len());
            let came = glue::radio_read(&mut octets[..room]);
            if came == 0 {
                return;
            }
            _ = self.come.extend_from_slice(&octets[..came]);
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
}
