//! Serial lines.

#[cfg(target_arch = "arm")]
pub mod cmsdk;
#[cfg(not(target_arch = "arm"))]
pub mod ns16550;

/// A serial line that interrupts for input.
pub trait Uart {
    /// Readies the line, with an interrupt for each byte that comes.
    fn init(&self);

    /// The next byte that came.
    fn read(&self) -> Option<u8>;

    /// True if a byte can be sent.
    fn has_room(&self) -> bool;

    /// Sends a byte; there must be room.
    fn send(&self, byte: u8);
}
