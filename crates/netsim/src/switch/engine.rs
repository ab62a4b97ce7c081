//! The switch without its sockets: a state machine over frames and a clock that the caller reads.
//!
//! A frame goes in by [`Engine::ingress`] with the time at which it came, and comes out by
//! [`Engine::egress`] at or after [`Engine::next_deadline`]. The caller's clock may be virtual; all
//! that the engine needs is that it does not run backwards by much.
//!
//! The way of a frame: it is checked against the static table of addresses and goes through one link,
//! that of the device which sends or receives it. The host has no link of its own.
//!
//! Invariants
//! - No frame panics, and none is trusted for more than its Ethernet header.
//! - A device sends under its own address only and is reached under that address only.
//! - Devices are isolated: nothing that one device sends reaches another.
//! - Frames held are bounded: [`MAX_UNDER_WAY`](super::lane::MAX_UNDER_WAY) for each lane and
//!   [`MAX_HELD`] in all. In a steady state no memory is taken for a frame.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tcp_track::{FrameKind, Tracker};

use super::frame::{Header, Mac};
use super::lane::{Arrival, Lane, Verdict};
use super::stats::{Counters, Rejection, add};
use crate::link::Direction;
use crate::link::MAX_FRAME_BYTES;
use crate::link::{Link, Rate};

/// Frames that all lanes together may hold: 100 MB.
const MAX_HELD: usize = 65_536;
/// Buffers that are kept for the next frame.
const MAX_SPARE: usize = 4096;

/// End of a frame's way through the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// The aggregator's side.
    Host,
    /// A device, in the order in which the devices were given.
    Device(usize),
}

/// Port of a device: its client, its address and its link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SwitchPort {
    pub client: u32,
    pub mac: Mac,
    pub link: Link,
    pub pace: Option<Rate>,
}

/// A frame in a buffer of the engine's.
#[derive(Debug)]
pub(crate) struct Frame {
    buffer: Box<[u8; MAX_FRAME_BYTES]>,
    len: usize,
}

impl Frame {
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

/// A frame that leaves the switch.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub port: Port,
    pub frame: Frame,
}

#[derive(Debug)]
pub(crate) struct Engine {
    devices: Vec<DeviceLinks>,
    by_mac: HashMap<Mac, usize>,
    by_client: HashMap<u32, usize>,
    held: BinaryHeap<Held>,
    taken: u64,
    #[expect(clippy::vec_box, reason = "a frame moves its buffer by its pointer")]
    spare: Vec<Box<[u8; MAX_FRAME_BYTES]>>,
    counters: Arc<Counters>,
}

/// Both directions of a device's link.
#[derive(Debug)]
struct DeviceLinks {
    uplink: (Lane, Tracker),
    downlink: (Lane, Tracker),
    cut: bool,
    /// Number of cuts of the link: a frame under way during a cut is lost.
    cuts: u32,
}

impl DeviceLinks {
    fn lane(&mut self, direction: Direction) -> &mut (Lane, Tracker) {
        match direction {
            Direction::Uplink => &mut self.uplink,
            Direction::Downlink => &mut self.downlink,
        }
    }
}

/// A frame under way, ordered so that the heap's greatest is the first to arrive.
#[derive(Debug)]
struct Held {
    at: Duration,
    /// Breaks ties: frames that arrive at the same time do so in the order in which they came.
    taken: u64,
    way: Way,
    /// A copy that the link has made; it is not under way by the lane's count.
    copy: bool,
    frame: Frame,
}

/// The link that a frame is on.
#[derive(Clone, Copy, Debug)]
struct Way {
    device: usize,
    direction: Direction,
    /// [`DeviceLinks::cuts`] when it came.
    cuts: u32,
    /// It is a TCP segment.
    segment: bool,
}

impl Engine {
    /// A switch for `devices`, whose clients and addresses differ.
    pub fn new(seed: u64, devices: &[SwitchPort]) -> Self {
        let place = |(place, device): (usize, &SwitchPort)| (device.mac, place);
        let client = |(place, device): (usize, &SwitchPort)| (device.client, place);
        Self {
            devices: devices
                .iter()
                .map(|device| DeviceLinks::new(seed, device))
                .collect(),
            by_mac: devices.iter().enumerate().map(place).collect(),
            by_client: devices.iter().enumerate().map(client).collect(),
            held: BinaryHeap::new(),
            taken: 0,
            spare: Vec::new(),
            counters: Arc::new(Counters::new(devices.iter().map(|device| device.client))),
        }
    }

    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The place of a client's port.
    pub fn place(&self, client: u32) -> Option<usize> {
        self.by_client.get(&client).copied()
    }

    /// Changes a device's link for the frames to come.
    pub fn set_link(&mut self, device: usize, link: &Link) {
        let Some(state) = self.devices.get_mut(device) else {
            return;
        };
        for direction in [Direction::Uplink, Direction::Downlink] {
            state.lane(direction).0.set(*link.direction(direction));
        }
    }

    /// Cuts a device's link: nothing passes, and what is under way is gone.
    pub fn cut(&mut self, device: usize) {
        if let Some(state) = self.devices.get_mut(device).filter(|state| !state.cut) {
            state.cut = true;
            state.cuts = state.cuts.wrapping_add(1);
        }
    }

    /// Undoes [`Engine::cut`].
    pub fn heal(&mut self, device: usize) {
        if let Some(state) = self.devices.get_mut(device) {
            state.cut = false;
        }
    }

    /// Takes a frame that came from a port at `now`.
    pub fn ingress(&mut self, now: Duration, from: Port, frame: &[u8]) {
        match self.route(from, frame) {
            Err(rejection) => self.counters.port(from).reject(rejection),
            Ok(route) => match from {
                Port::Device(sender) => self.offer(now, sender, Direction::Uplink, frame),
                Port::Host => self.downlinks(now, route, frame),
            },
        }
    }

    /// Time at which [`Engine::egress`] has something to give, if nothing else comes in.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.held.peek().map(|held| held.at)
    }

    /// The next frame that is out of its last link at `now`, if there is one. Give its buffer back
    /// by [`Engine::recycle`].
    pub fn egress(&mut self, now: Duration) -> Option<Delivery> {
        while self.next_deadline().is_some_and(|at| at <= now) {
            let held = self.held.pop()?;
            self.counters.punctuality.late(now - held.at);
            if let Some(delivery) = self.arrive(held) {
                return Some(delivery);
            }
        }
        None
    }

    /// Takes back the buffer of a frame that was delivered.
    pub fn recycle(&mut self, frame: Frame) {
        if self.spare.len() < MAX_SPARE {
            self.spare.push(frame.buffer);
        }
    }

    /// A frame is at the end of a link.
    fn arrive(&mut self, held: Held) -> Option<Delivery> {
        let state = &mut self.devices[held.way.device];
        let counters = self.counters.lane(held.way.device, held.way.direction);
        if !held.copy {
            state.lane(held.way.direction).0.left();
        }
        if state.cut || held.way.cuts != state.cuts {
            if !held.copy {
                counters.drop(&counters.cut_drops, held.way.segment);
            }
            self.recycle(held.frame);
            return None;
        }
        counters.delivered(held.frame.len, held.copy);
        let port = match held.way.direction {
            Direction::Downlink => Port::Device(held.way.device),
            Direction::Uplink => Port::Host,
        };
        let frame = held.frame;
        Some(Delivery { port, frame })
    }

    /// Offers a frame of the host to the downlinks of the devices on its route.
    fn downlinks(&mut self, now: Duration, route: Route, frame: &[u8]) {
        let devices = match route {
            Route::Host => 0..0,
            Route::Device(device) => device..device + 1,
            Route::Every => 0..self.devices.len(),
        };
        for device in devices {
            self.offer(now, device, Direction::Downlink, frame);
        }
    }

    /// Offers a frame to one direction of a device's link.
    fn offer(&mut self, now: Duration, device: usize, direction: Direction, frame: &[u8]) {
        let full = self.held.len() >= MAX_HELD;
        let counters = self.counters.lane(device, direction);
        let state = &mut self.devices[device];
        let (cut, cuts) = (state.cut, state.cuts);
        let (lane, tracker) = state.lane(direction);
        let kind = tracker.see(frame);
        counters.offered(frame.len(), kind);
        let dropped = if cut || full {
            lane.skip();
            if cut {
                &counters.cut_drops
            } else {
                &counters.queue_drops
            }
        } else {
            match lane.offer(now, frame.len()) {
                Verdict::Lost => &counters.lost,
                Verdict::QueueFull => &counters.queue_drops,
                Verdict::Arrives(arrival) => {
                    add(
                        &counters.corrupted,
                        usize::from(arrival.corrupt_bit.is_some()),
                    );
                    let way = Way {
                        device,
                        direction,
                        cuts,
                        segment: kind != FrameKind::Other,
                    };
                    return self.hold(way, &arrival, frame);
                }
            }
        };
        counters.drop(dropped, kind != FrameKind::Other);
    }

    fn hold(&mut self, way: Way, arrival: &Arrival, bytes: &[u8]) {
        for copy in [false, true]
            .into_iter()
            .take(1 + usize::from(arrival.twice))
        {
            let mut frame = self.fill(bytes);
            if let Some(bit) = arrival.corrupt_bit {
                frame.buffer[bit / 8] ^= 1 << (bit % 8);
            }
            self.taken += 1;
            self.held.push(Held {
                at: arrival.at,
                taken: self.taken,
                way,
                copy,
                frame,
            });
        }
    }

    fn fill(&mut self, bytes: &[u8]) -> Frame {
        let mut buffer = self
            .spare
            .pop()
            .unwrap_or_else(|| Box::new([0; MAX_FRAME_BYTES]));
        let len = bytes.len().min(MAX_FRAME_BYTES);
        buffer[..len].copy_from_slice(&bytes[..len]);
        Frame { buffer, len }
    }

    /// The route of a frame, or the reason why it has none.
    fn route(&self, from: Port, frame: &[u8]) -> Result<Route, Rejection> {
        let header = Header::parse(frame).ok_or(Rejection::Malformed)?;
        let owner = self.by_mac.get(&header.source).copied();
        if owner.map_or(Port::Host, Port::Device) != from {
            return Err(Rejection::Forged);
        }
        let is_group = header.destination.is_group();
        if is_group && !header.is_useful_broadcast() {
            return Err(Rejection::Group);
        }
        match (self.by_mac.get(&header.destination), from) {
            (None, Port::Device(_)) => Ok(Route::Host),
            (None, Port::Host) if is_group => Ok(Route::Every),
            (Some(&device), Port::Host) => Ok(Route::Device(device)),
            _ => Err(Rejection::Misaddressed),
        }
    }
}

/// Receivers of a frame by the table of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Host,
    Device(usize),
    /// Every device.
    Every,
}

impl DeviceLinks {
    fn new(seed: u64, device: &SwitchPort) -> Self {
        let lane = |direction| {
            let impairment = *device.link.direction(direction);
            (
                Lane::new(seed, device.client, direction, impairment),
                Tracker::default(),
            )
        };
        let mut downlink = lane(Direction::Downlink);
        downlink.0.set_pace(device.pace);
        let uplink = lane(Direction::Uplink);
        Self {
            uplink,
            downlink,
            cut: false,
            cuts: 0,
        }
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.taken).cmp(&(self.at, self.taken))
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Held {}

#[cfg(test)]
mod tests;
