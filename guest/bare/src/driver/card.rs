//! A network card, as the TCP/IP stack sees it.

use core::fmt;
use core::num::NonZeroU16;

use smoltcp::phy::Device;
use zfl_bare::offload;
use zfl_bare::segments::SegmentCounters;

/// Frames in flight in either direction. A receive window of 16 KiB fits as a whole.
pub const QUEUE_FRAMES: usize = 16;

/// A network card that interrupts when a frame has come.
pub trait Card: Device + Sized {
    /// Finds the machine's card and readies it.
    fn open() -> Result<Self, NicError>;

    /// The card's address.
    fn mac_address(&self) -> [u8; 6];

    /// The card's interrupt line.
    fn line(&self) -> u8;

    /// Serves the card's interrupt: its frames are then to be taken, and it may interrupt again.
    fn acknowledge(&mut self);

    /// True if a received frame waits. To be asked before sleeping.
    fn has_received(&self) -> bool;

    /// Takes the memory of every buffer to send in now, as far as there is some.
    fn reserve(&mut self);

    /// Totals since boot.
    fn counters<R>(&self, look: impl FnOnce(&FrameCounters) -> R) -> R;
}

/// Reason for a missing network.
#[derive(Clone, Copy, Debug)]
pub enum NicError {
    /// No network card that the firmware drives.
    Missing,
    /// The card does not do what its data sheet says.
    #[cfg(target_arch = "arm")]
    Broken,
    /// The card does not do what virtio asks of it.
    #[cfg(not(target_arch = "arm"))]
    Driver(virtio_drivers::Error),
}

impl fmt::Display for NicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => {
                f.write_str("no network card: give QEMU the one that the board's file names")
            }
            #[cfg(target_arch = "arm")]
            Self::Broken => f.write_str("the network card does not answer as it should"),
            #[cfg(not(target_arch = "arm"))]
            Self::Driver(error) => write!(f, "the network card cannot be set up: {error}"),
        }
    }
}

impl core::error::Error for NicError {}

#[cfg(not(target_arch = "arm"))]
impl From<virtio_drivers::Error> for NicError {
    fn from(error: virtio_drivers::Error) -> Self {
        Self::Driver(error)
    }
}

/// Totals since boot, of frames as they are on the wire.
#[derive(Debug, Default)]
pub struct FrameCounters {
    /// Frames received.
    pub frames_in: u32,
    /// Their bytes.
    pub bytes_in: u64,
    /// Frames sent.
    pub frames_out: u32,
    /// Their bytes.
    pub bytes_out: u64,
    /// TCP segments in those frames.
    pub segments: SegmentCounters,
}

impl FrameCounters {
    /// Counts a received frame, put together from segments of so many bytes.
    pub fn received(&mut self, frame: &[u8], segment_bytes: Option<NonZeroU16>) {
        let (segments, more_bytes) = offload::on_the_wire(frame, segment_bytes);
        self.frames_in = self.frames_in.wrapping_add(segments);
        self.bytes_in += frame.len() as u64 + more_bytes;
        self.segments.count_received(frame, segments);
    }

    /// Counts a frame about to be sent, in segments of so many bytes.
    pub fn sent(&mut self, frame: &[u8], segment_bytes: Option<NonZeroU16>) {
        let (segments, more_bytes) = offload::on_the_wire(frame, segment_bytes);
        self.frames_out = self.frames_out.wrapping_add(segments);
        self.bytes_out += frame.len() as u64 + more_bytes;
        self.segments.count_sent(frame, segments);
    }
}
