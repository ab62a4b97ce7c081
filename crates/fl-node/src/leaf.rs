//! A leaf: fl-client over messages of a radio.

use core::fmt;

use fl_client::storage::Storage;
use fl_client::{Activity, Config, Device, Port, PortError, Usage};
use fl_exchange::Streams;
use fl_radio::line::{Counts, Done, Hello, Step};
use fl_radio::{Draw, LeafNode, MESSAGE_BYTES};

use crate::{Said, Work};

/// Examples between two looks at the serial line.
const STEP_EXAMPLES: u32 = 16;

/// Part of a leaf's port that is its machine's: all but streams and time, which are the radio's.
pub trait Own {
    /// Octets that nobody else can know.
    fn random(&mut self) -> [u8; 16];

    /// Takes a line of the leaf's log.
    fn log(&mut self, line: fmt::Arguments<'_>);

    /// Free memory in bytes, as [`Port::free_bytes`].
    fn free_bytes(&mut self) -> Option<u64>;

    /// Storage that stays when the machine reboots; `None` if it has none.
    fn storage(&mut self) -> Option<&mut dyn Storage> {
        None
    }

    /// Cost so far.
    fn usage(&mut self) -> Usage;

    /// Does a step of training and counts its instructions.
    fn counted<R>(&mut self, step: impl FnOnce() -> R) -> R;
}

/// Port of the leaf.
struct RadioPort<O> {
    streams: Streams,
    /// Time of the air while nothing of the leaf is on its way.
    clock_us: u64,
    own: O,
}

/// A leaf that runs.
pub(crate) struct Leaf<O: Own> {
    end: LeafNode<MESSAGE_BYTES>,
    device: Device<RadioPort<O>>,
    port: RadioPort<O>,
    /// Message that is on its way up.
    label: Option<u8>,
    wake_us: Option<u64>,
    seen_us: u64,
    is_over: bool,
}

impl<O: Own> Leaf<O> {
    /// A leaf in its place.
    pub fn new(hello: &Hello, config: Config, own: O) -> Self {
        let leaf = u16::from(hello.node.saturating_sub(1));
        let config = Config {
            http_port: hello.first_port.saturating_add(leaf),
            ..config
        };
        // Not all at once, as natively.
        let first_us = hello.now_us + u64::from(hello.node) * hello.times.pace.packet_us;
        Self {
            end: LeafNode::new(hello.node.into(), hello.times, hello.epoch, first_us),
            device: Device::new(config),
            port: RadioPort {
                streams: Streams::default(),
                clock_us: 0,
                own,
            },
            label: None,
            wake_us: Some(0),
            seen_us: hello.now_us,
            is_over: false,
        }
    }

    /// Takes in a frame.
    pub fn hear(&mut self, octets: &[u8], now_us: u64, draw: Draw<'_>) {
        self.end.hear(octets, now_us, draw);
    }

    /// Does a part of what there is to do.
    pub fn work(&mut self, now_us: u64, said: &mut Said, draw: Draw<'_>) -> Work {
        if !self.port.streams.is_busy() {
            self.port.clock_us += now_us.saturating_sub(self.seen_us);
        }
        self.seen_us = now_us;
        if let Some((label, message)) = self.end.leaf.receive() {
            self.port.streams.come(label, message.to_vec());
            self.end.leaf.release();
        }
        let leaf = &mut self.end.leaf;
        if let Some(label) = self.label.take_if(|_| !leaf.is_sending())
            && leaf.failure().is_some()
        {
            self.port.streams.broken(label);
        }
        if !self.is_over && self.moves() {
            return Work::Goes;
        }
        if self.label.is_none()
            && let Some((label, message)) = self.port.streams.take_out()
        {
            match self.end.leaf.send(label, &message, now_us) {
                Ok(()) => self.label = Some(label),
                Err(_) => self.port.streams.broken(label),
            }
            return Work::Goes;
        }
        let frame = self.end.run(now_us, draw);
        frame.into_iter().for_each(|frame| _ = said.push(frame));
        Work::Done
    }

    /// Moves the device along; true if there may be more to do.
    fn moves(&mut self) -> bool {
        let activity = self.device.poll(&mut self.port);
        if let Some(job) = self.device.job() {
            self.port.own.counted(|| job.step(STEP_EXAMPLES));
            return true;
        }
        match activity {
            Activity::Busy => true,
            Activity::Idle { wake_at_us } => {
                self.wake_us = wake_at_us;
                false
            }
            Activity::Stopped => {
                self.is_over = true;
                (self.wake_us, self.port.streams) = (None, Streams::default());
                self.port.log(format_args!("stopped"));
                true
            }
        }
    }

    /// Answer to a step.
    pub fn done(&self, step: &Step) -> Done {
        let is_busy = self.port.streams.is_busy() || self.label.is_some();
        let due_us = self.wake_us.filter(|_| !self.port.streams.is_busy());
        let due_us = due_us.map(|at_us| step.now_us + at_us.saturating_sub(self.port.clock_us));
        let counts = step.counts.then(|| Counts {
            packets: self.end.node.packets() as u32,
            again: self.end.leaf.tiles_again(),
            dropped: self.end.node.dropped() as u32,
            hops: [0; 2],
        });
        Done {
            wake_us: self.end.wake_us(),
            is_busy,
            due_us,
            counts,
            ..Done::default()
        }
    }
}

impl<O: Own> Port for RadioPort<O> {
    fl_exchange::port_of_streams!(PortError);

    fn random(&mut self) -> [u8; 16] {
        self.own.random()
    }

    fn log(&mut self, line: fmt::Arguments<'_>) {
        self.own.log(line);
    }

    fn free_bytes(&mut self) -> Option<u64> {
        self.own.free_bytes()
    }

    fn storage(&mut self) -> Option<&mut dyn Storage> {
        self.own.storage()
    }

    fn usage(&mut self) -> Usage {
        self.own.usage()
    }
}
