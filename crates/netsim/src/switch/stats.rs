//! Counters of the switch, and snapshots of them that cost the switch nothing.
//!
//! The switch's thread is the only writer, by relaxed atomics, so each number only ever grows, but
//! a snapshot taken while it runs may be some frames apart between its numbers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tcp_track::FrameKind;

use super::engine::Port;
use crate::link::Direction;

/// Declares the numbers of a snapshot and the counters behind them in one list.
macro_rules! counters {
    ($(#[$doc:meta])* $snapshot:ident by $counters:ident { $($(#[$about:meta])* $name:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $snapshot { $($(#[$about])* pub $name: u64,)* }

        #[derive(Debug, Default)]
        pub(crate) struct $counters { $(pub $name: AtomicU64,)* }

        impl $counters {
            pub fn snapshot(&self) -> $snapshot {
                $snapshot { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// One direction of one device's link.
    LaneStats by LaneCounters {
        /// Frames that were handed to the link: each is under way, or was delivered, or was dropped
        /// for one reason.
        frames,
        /// Bytes of those frames, with their Ethernet headers.
        bytes,
        /// Frames that came out of the link, duplicates included.
        delivered_frames,
        /// Bytes of those frames.
        delivered_bytes,
        /// Frames that the loss model took.
        lost,
        /// Frames that found the queue before the rate full, or too many frames under way.
        queue_drops,
        /// Frames that were offered to, or were under way on, a cut link.
        cut_drops,
        /// Frames that were delivered a second time.
        duplicated,
        /// Frames that the link has flipped a bit of.
        corrupted,
        /// TCP segments among `frames`, those without data included.
        tcp_segments,
        /// TCP segments among `frames` whose data (or SYN, or FIN) was sent before.
        tcp_retransmissions,
        /// TCP segments that were dropped, for whatever reason.
        tcp_dropped,
    }
}

counters! {
    /// Frames that got to no link, by the port that sent them, and those that a port did not take.
    PortStats by PortCounters {
        /// Frames whose source address is not the device's, or, from the host, is a device's.
        forged,
        /// Frames shorter than an Ethernet header or longer than [`MAX_FRAME_BYTES`](crate::MAX_FRAME_BYTES).
        malformed,
        /// Frames of a device to another or to itself, and frames of the host to an address that no
        /// device has.
        misaddressed,
        /// Multicasts, and broadcasts of other protocols than ARP and IPv4.
        group_drops,
        /// Frames that came out of the link while the port had no room for more or was closed.
        unread,
        /// Frames that the capture file of this device misses: its writer was behind, its file
        /// full, or the disk.
        capture_misses,
    }
}

counters! {
    /// The switch as a whole.
    Punctuality by PunctualityCounters {
        /// Frames that left their link, in time or not.
        timed_frames,
        /// Sum of their lateness in nanoseconds.
        late_ns,
        /// Frames that left their link more than [`LATE`] behind their time: the host was busy.
        late_frames,
        /// The worst such delay, in nanoseconds, of all frames.
        worst_late_ns,
    }
}

/// Delay from which on a frame counts as late.
pub const LATE: Duration = Duration::from_millis(1);

/// One device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientStats {
    /// From the device.
    pub uplink: LaneStats,
    /// To the device.
    pub downlink: LaneStats,
    /// The device's port.
    pub port: PortStats,
}

/// Everything that the switch counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwitchStats {
    /// By client.
    pub clients: BTreeMap<u32, ClientStats>,
    /// The host's port.
    pub host: PortStats,
    /// Punctuality of the frames.
    pub punctuality: Punctuality,
    /// True if the switch runs in a real-time class; otherwise a busy host delays it.
    pub real_time: bool,
}

/// The counters of one device.
#[derive(Debug, Default)]
pub(crate) struct ClientCounters {
    uplink: LaneCounters,
    downlink: LaneCounters,
    port: PortCounters,
}

impl ClientCounters {
    fn lane(&self, direction: Direction) -> &LaneCounters {
        match direction {
            Direction::Uplink => &self.uplink,
            Direction::Downlink => &self.downlink,
        }
    }

    fn snapshot(&self) -> ClientStats {
        ClientStats {
            uplink: self.uplink.snapshot(),
            downlink: self.downlink.snapshot(),
            port: self.port.snapshot(),
        }
    }
}

/// All counters of a switch, devices in the order of their ports.
#[derive(Debug)]
pub(crate) struct Counters {
    clients: Vec<(u32, ClientCounters)>,
    host: PortCounters,
    pub punctuality: PunctualityCounters,
    real_time: AtomicBool,
}

impl Counters {
    pub fn new(clients: impl IntoIterator<Item = u32>) -> Self {
        let with_counters = |client| (client, ClientCounters::default());
        Self {
            clients: clients.into_iter().map(with_counters).collect(),
            host: PortCounters::default(),
            punctuality: PunctualityCounters::default(),
            real_time: AtomicBool::new(false),
        }
    }

    /// The counters of one direction of the device at this place.
    pub fn lane(&self, device: usize, direction: Direction) -> &LaneCounters {
        self.clients[device].1.lane(direction)
    }

    pub fn set_real_time(&self, real_time: bool) {
        self.real_time.store(real_time, Ordering::Relaxed);
    }

    pub fn port(&self, port: Port) -> &PortCounters {
        match port {
            Port::Host => &self.host,
            Port::Device(device) => &self.clients[device].1.port,
        }
    }

    pub fn client(&self, client: u32) -> Option<ClientStats> {
        let of_client = |(number, counters): &(u32, ClientCounters)| {
            (*number == client).then(|| counters.snapshot())
        };
        self.clients.iter().find_map(of_client)
    }

    pub fn snapshot(&self) -> SwitchStats {
        let of_client = |(client, counters): &(u32, ClientCounters)| (*client, counters.snapshot());
        SwitchStats {
            clients: self.clients.iter().map(of_client).collect(),
            host: self.host.snapshot(),
            punctuality: self.punctuality.snapshot(),
            real_time: self.real_time.load(Ordering::Relaxed),
        }
    }
}

/// Reason for which the switch takes a frame from no port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    Malformed,
    Forged,
    Misaddressed,
    Group,
}

impl PortCounters {
    pub fn reject(&self, rejection: Rejection) {
        count(match rejection {
            Rejection::Malformed => &self.malformed,
            Rejection::Forged => &self.forged,
            Rejection::Misaddressed => &self.misaddressed,
            Rejection::Group => &self.group_drops,
        });
    }
}

impl LaneCounters {
    pub fn offered(&self, bytes: usize, kind: FrameKind) {
        count(&self.frames);
        add(&self.bytes, bytes);
        if kind != FrameKind::Other {
            count(&self.tcp_segments);
        }
        if kind == FrameKind::Retransmission {
            count(&self.tcp_retransmissions);
        }
    }

    pub fn delivered(&self, bytes: usize, copy: bool) {
        count(&self.delivered_frames);
        add(&self.delivered_bytes, bytes);
        add(&self.duplicated, usize::from(copy));
    }

    /// A frame goes for the reason that `counter` counts.
    pub fn drop(&self, counter: &AtomicU64, tcp_segment: bool) {
        count(counter);
        add(&self.tcp_dropped, usize::from(tcp_segment));
    }
}

impl PunctualityCounters {
    /// A frame left its link `by` behind its time.
    pub fn late(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        count(&self.timed_frames);
        self.late_ns.fetch_add(nanos, Ordering::Relaxed);
        self.worst_late_ns.fetch_max(nanos, Ordering::Relaxed);
        if by > LATE {
            count(&self.late_frames);
        }
    }
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    add(counter, 1);
}

pub(crate) fn add(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}
