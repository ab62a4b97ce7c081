//! The device's end of a stream: polled, and never waits.

use std::sync::Arc;
use std::task::Waker;

use crate::half::Moved;
use crate::{Halves, Pipe};

/// A stream as a device has it. Dropping it ends both directions; what was written still arrives.
#[derive(Debug)]
pub struct Line {
    pipe: Arc<Pipe>,
}

/// The other side does not read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl Line {
    pub(crate) fn new(pipe: Arc<Pipe>) -> Self {
        Self { pipe }
    }

    /// Reads what has arrived; 0 at the end, `None` if there is nothing yet: the device is stirred then.
    pub fn read(&mut self, into: &mut [u8]) -> Option<usize> {
        let (moved, waker) =
            self.change(|halves| halves.down.read(into), |halves| &mut halves.down);
        wake(waker);
        match moved {
            Moved::Octets(count) => Some(count),
            Moved::Over => Some(0),
            Moved::Wait => None,
        }
    }

    /// Writes a part of these; `None` if there is no room: the device is stirred then.
    ///
    /// # Errors
    /// [`Broken`] if nobody reads.
    pub fn write(&mut self, octets: &[u8]) -> Result<Option<usize>, Broken> {
        let (written, waker) = self.write_silently(octets);
        wake(waker);
        written
    }

    /// [`Line::write`], and the task to be woken for it, if one waits: whoever writes more first spares it the half of
    /// a message.
    pub fn write_silently(
        &mut self,
        octets: &[u8],
    ) -> (Result<Option<usize>, Broken>, Option<Waker>) {
        let (moved, waker) = self.change(|halves| halves.up.write(octets), |halves| &mut halves.up);
        let written = match moved {
            Moved::Octets(count) => Ok(Some(count)),
            Moved::Over => Err(Broken),
            Moved::Wait => Ok(None),
        };
        (written, waker)
    }

    /// Moves octets, and tells who waits for that at the other end.
    fn change(
        &self,
        act: impl FnOnce(&mut Halves) -> Moved,
        half: impl FnOnce(&mut Halves) -> &mut crate::half::Half,
    ) -> (Moved, Option<Waker>) {
        let mut halves = self.pipe.lock();
        let moved = act(&mut halves);
        let waker = match moved {
            Moved::Octets(_) => half(&mut halves).waker.take(),
            Moved::Wait => {
                halves.device_waits = true;
                None
            }
            Moved::Over => None,
        };
        (moved, waker)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut halves = self.pipe.lock();
        halves.up.finished = true;
        halves.down.stop_reading();
        let wakers = [halves.up.waker.take(), halves.down.waker.take()];
        drop(halves);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}
