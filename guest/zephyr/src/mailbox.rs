//! A place for one value that passes from one thread to another.

use zephyr::sync::Mutex;
use zephyr::sys::sync::Semaphore;
use zephyr::time::Forever;

/// Holds at most one value.
pub struct Mailbox<T> {
    slot: Mutex<Option<T>>,
    filled: Semaphore,
}

impl<T> Mailbox<T> {
    /// An empty mailbox.
    pub const fn new() -> Self {
        Self {
            slot: Mutex::new(None),
            filled: Semaphore::new(0, 1),
        }
    }

    /// Puts a value in; one that is there is replaced.
    pub fn put(&self, value: T) {
        let Ok(mut slot) = self.slot.lock();
        *slot = Some(value);
        drop(slot);
        self.filled.give();
    }

    /// Takes the value, if there is one.
    pub fn try_take(&self) -> Option<T> {
        let Ok(mut slot) = self.slot.lock();
        slot.take()
    }

    /// Waits for a value.
    pub fn take(&self) -> T {
        loop {
            if let Some(value) = self.try_take() {
                return value;
            }
            // Waiting for ever fails only if somebody resets the semaphore, and then we look again.
            let _ = self.filled.take(Forever);
        }
    }
}
