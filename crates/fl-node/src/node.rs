//! The node: its place, its steps and their answers.

use alloc::boxed::Box;

use fl_radio::FRAME_BYTES;
use fl_radio::line::{Done, HELLO_BYTES, Hello, NEWS, READY, STEP_HEAD_BYTES, Step};
use fl_rng::{Pcg32, Purpose};

use crate::gateway::Gateway;
use crate::leaf::Leaf;
use crate::line::Line;
use crate::{Machine, Said, Work};

enum Role<M: Machine> {
    /// Its radio has not told it its place.
    None,
    Leaf(Box<Leaf<M::Own>>),
    Gateway(Box<Gateway<M::Net>>),
}

/// A node that runs.
pub struct MeshNode<M: Machine> {
    machine: M,
    line: Line,
    role: Role<M>,
    random: Pcg32,
    /// The step that it is at.
    step: Option<Step>,
    said: Said,
    /// It has told that there are news, and had no step since.
    has_told: bool,
}

impl<M: Machine> MeshNode<M> {
    /// A node that greets its radio.
    pub fn new(mut machine: M) -> Self {
        machine.write(&[READY]);
        Self {
            machine,
            line: Line::default(),
            role: Role::None,
            random: Pcg32::new(Purpose::Radio, 0),
            step: None,
            said: Said::new(),
            has_told: false,
        }
    }

    /// Connections of the gateway; `None` of another node.
    pub fn net(&self) -> Option<&M::Net> {
        match &self.role {
            Role::Gateway(gateway) => Some(&gateway.net),
            Role::None | Role::Leaf(_) => None,
        }
    }

    /// Connections of the gateway; `None` of another node.
    pub fn net_mut(&mut self) -> Option<&mut M::Net> {
        match &mut self.role {
            Role::Gateway(gateway) => Some(&mut gateway.net),
            Role::None | Role::Leaf(_) => None,
        }
    }

    /// Moves everything along; true if there may be more to do. Otherwise it has to be called again when the line or a
    /// connection has something.
    pub fn poll(&mut self) -> bool {
        self.line.receive(&mut self.machine);
        let news = match &mut self.role {
            Role::Gateway(gateway) => gateway.listen(),
            Role::None | Role::Leaf(_) => false,
        };
        if news && self.step.is_none() && !self.has_told {
            self.has_told = true;
            self.machine.write(&[NEWS]);
        }
        if matches!(self.role, Role::None) {
            self.take_place();
        }
        // A place and the first step may have come together.
        if self.step.is_none() && !matches!(self.role, Role::None) {
            self.begin();
        }
        let draw = &mut |below| self.random.below(below);
        let work = match (&self.step, &mut self.role) {
            (None, _) | (_, Role::None) => Work::Waits,
            (Some(step), Role::Leaf(leaf)) => leaf.work(step.now_us, &mut self.said, draw),
            (Some(step), Role::Gateway(gateway)) => gateway.work(step, &mut self.said, draw),
        };
        if work == Work::Done {
            self.answer();
        }
        work != Work::Waits
    }

    /// Takes its place, if the radio has said which.
    #[inline(never)]
    fn take_place(&mut self) {
        let bytes = self.line.take(HELLO_BYTES);
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        let Some(hello) = bytes.and_then(Hello::parse) else {
            return;
        };
        self.line.done(HELLO_BYTES);
        self.random = Pcg32::new(Purpose::Radio, hello.seed);
        if hello.node > 0 {
            let (config, own) = self.machine.leaf();
            self.role = Role::Leaf(Box::new(Leaf::new(&hello, config, own)));
        } else if let Some(net) = self.machine.gateway(&hello) {
            self.role = Role::Gateway(Box::new(Gateway::new(&hello, net)));
        }
    }

    /// Begins the next step, if the radio has said so.
    fn begin(&mut self) {
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
        self.machine.write(&head[..length]);
        for frame in &self.said {
            self.machine.write(frame);
        }
        self.said.clear();
    }
}
