//! A node of a mesh on this machine: a leaf, which has only a radio, or the gateway, which has a network card too.
//!
//! The radio is behind a UART of its own. It has the time of the mesh (`fl_radio::line`): a node gets a step, does all
//! that follows from it, and answers. What `run` says of addresses is the gateway's; a leaf takes its client and its
//! secret from it.

mod gateway;
mod leaf;
mod line;

use alloc::boxed::Box;

use fl_radio::line::{Done, HELLO_BYTES, Hello, NEWS, READY, STEP_HEAD_BYTES, Step};
use fl_radio::{FRAME_BYTES, Frame, MESSAGE_BYTES};
use fl_rng::{Pcg32, Purpose};
use fl_shell::command::Run;

use super::Next;
use crate::arch::Nic;
use crate::arch::interrupts::{self, Sources};
use crate::arch::radio_uart;
use crate::console;
use crate::driver::card::NicError;
use gateway::GatewayRole;
use leaf::LeafRole;
use line::Line;

/// Frames that a node says in one step.
pub type Said = heapless::Vec<Frame, { fl_radio::line::MAX_FRAMES }>;

/// State of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// There is more to do.
    Goes,
    /// The aggregator has to answer first.
    Waits,
    Done,
}

enum Role {
    /// Its radio has not told it its place.
    None,
    Leaf(Box<LeafRole>),
    Gateway(Box<GatewayRole>),
}

/// A node that runs.
pub struct RunningDevice {
    run: Run,
    line: Line,
    role: Role,
    random: Pcg32,
    /// The step that it is at.
    step: Option<Step>,
    said: Said,
    /// It has told that there are news, and had no step since.
    has_told: bool,
}

impl RunningDevice {
    /// Greets the radio.
    pub fn start(run: &Run) -> Result<Box<Self>, NicError> {
        let line = Line::open();
        interrupts::unmask(radio_uart::LINE);
        line.send(&[READY]);
        Ok(Box::new(Self {
            run: *run,
            line,
            role: Role::None,
            random: Pcg32::new(Purpose::Radio, 0),
            step: None,
            said: Said::new(),
            has_told: false,
        }))
    }

    /// Takes all the memory that the network may ever need, if it is there.
    pub fn reserve_network(&mut self) {
        if let Role::Gateway(gateway) = &mut self.role {
            gateway.reserve();
        }
    }

    /// The network card, which the gateway alone has.
    pub fn nic(&self) -> Option<&Nic> {
        match &self.role {
            Role::Gateway(gateway) => Some(gateway.nic()),
            Role::None | Role::Leaf(_) => None,
        }
    }

    /// Moves everything along.
    pub fn poll(&mut self, pending: Sources) -> Next {
        self.line.receive();
        if pending.contains(radio_uart::LINE) {
            interrupts::unmask(radio_uart::LINE);
        }
        let news = match &mut self.role {
            Role::Gateway(gateway) => gateway.listen(pending),
            Role::None | Role::Leaf(_) => false,
        };
        if news && self.step.is_none() && !self.has_told {
            self.has_told = true;
            self.line.send(&[NEWS]);
        }
        if self.step.is_none() {
            self.begin();
        }
        let draw = &mut |below| self.random.below(below);
        let work = match (&self.step, &mut self.role) {
            (None, _) => Work::Waits,
            (Some(_), Role::None) => Work::Done,
            (Some(step), Role::Leaf(leaf)) => leaf.work(step.now_us, &mut self.said, draw),
            (Some(step), Role::Gateway(gateway)) => gateway.work(step, &mut self.said, draw),
        };
        match work {
            Work::Goes => Next::Poll,
            Work::Waits => self.sleep(),
            Work::Done => {
                self.answer();
                Next::Poll
            }
        }
    }

    fn sleep(&mut self) -> Next {
        let wake_at_us = match &mut self.role {
            Role::Gateway(gateway) => gateway.wake_at_us(),
            Role::None | Role::Leaf(_) => None,
        };
        Next::Sleep { wake_at_us }
    }

    /// Begins the next step, or takes its place, if the radio has said so.
    fn begin(&mut self) {
        if matches!(self.role, Role::None) {
            if let Some(bytes) = self.line.take(HELLO_BYTES)
                && let Some(hello) = bytes.try_into().ok().and_then(Hello::parse)
            {
                self.take_place(&hello);
                self.line.done(HELLO_BYTES);
            }
            return;
        }
        let Some(step) = self.line.take(STEP_HEAD_BYTES).and_then(Step::parse) else {
            return;
        };
        let total = step.total_bytes();
        let Some(bytes) = self.line.take(total) else {
            return;
        };
        if let Role::Gateway(gateway) = &mut self.role {
            gateway.begin(&step);
        }
        let draw = &mut |below| self.random.below(below);
        let frames = bytes[STEP_HEAD_BYTES..].chunks_exact(FRAME_BYTES);
        for octets in frames.take(step.frames.into()) {
            match &mut self.role {
                Role::Leaf(leaf) => leaf.hear(octets, step.now_us, draw),
                Role::Gateway(gateway) => gateway.hear(octets, step.now_us, draw),
                Role::None => {}
            }
        }
        self.line.done(total);
        self.has_told = false;
        self.step = Some(step);
    }

    #[inline(never)]
    fn take_place(&mut self, hello: &Hello) {
        self.random = Pcg32::new(Purpose::Radio, hello.seed);
        if hello.node > 0 {
            self.role = Role::Leaf(Box::new(LeafRole::new(hello, &self.run)));
            return;
        }
        match GatewayRole::new(hello, &self.run) {
            Ok(gateway) => self.role = Role::Gateway(Box::new(gateway)),
            Err(error) => console::log(format_args!("zfl: {error}")),
        }
    }

    fn answer(&mut self) {
        let Some(step) = &self.step.take() else {
            return;
        };
        let done = match &self.role {
            Role::Leaf(leaf) => leaf.done(step),
            Role::Gateway(gateway) => gateway.done(step),
            Role::None => Done::default(),
        };
        let frames = self.said.len() as u8;
        let (head, length) = Done { frames, ..done }.emit(step.now_us);
        self.line.send(&head[..length]);
        self.said.iter().for_each(|frame| self.line.send(frame));
        self.said.clear();
    }
}
