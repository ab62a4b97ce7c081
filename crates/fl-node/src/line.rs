//! Octets that came over the radio's line, until a message is whole.

use alloc::boxed::Box;

use fl_radio::FRAME_BYTES;
use fl_radio::line::{BLOCK_BYTES, MAX_FRAMES, STEP_HEAD_BYTES};

use crate::Machine;

/// Octets of the longest message, filled up.
const MOST_BYTES: usize =
    (STEP_HEAD_BYTES + MAX_FRAMES * FRAME_BYTES).next_multiple_of(BLOCK_BYTES);

/// Octets read at a time.
const READ_BYTES: usize = 64;

/// Octets that came.
#[derive(Debug, Default)]
pub(crate) struct Line {
    come: Box<heapless::Vec<u8, MOST_BYTES>>,
}

impl Line {
    /// Takes in what has come. A message comes only after the answer to the one before, so there is room.
    pub fn receive(&mut self, machine: &mut impl Machine) {
        let mut octets = [0; READ_BYTES];
        loop {
            let room = (MOST_BYTES - self.come.len()).min(READ_BYTES);
            let came = machine.read(&mut octets[..room]).min(room);
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
