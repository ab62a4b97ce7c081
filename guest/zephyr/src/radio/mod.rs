//! A node of a mesh: a leaf, which has only a radio, or the gateway, which has a network card too.
//!
//! The radio is behind a UART of its own. It has the time of the mesh (`fl_radio::line`): a node gets a step, does all
//! that follows from it, and answers. What `run` says of addresses is the gateway's; a leaf takes its client and its
//! secret from it.

mod gateway;
mod leaf;
mod line;

use crate::tcp::Errno;
use crate::{console, glue};
use alloc::boxed::Box;
use fl_radio::line::{Done, HELLO_BYTES, Hello, NEWS, READY, STEP_HEAD_BYTES, Step};
use fl_radio::{FRAME_BYTES, Frame};
use fl_rng::{Pcg32, Purpose};
use fl_shell::command::Run;
use gateway::GatewayRole;
use leaf::LeafRole;
use line::Line;

/// Interval at which a gateway looks at its sockets, since a thread that waits for its radio cannot wait for them as
/// well.
const LOOK_MS: i32 = 1;

/// Frames that a node says in one step.
type Said = heapless::Vec<Frame, { fl_radio::line::MAX_FRAMES }>;

/// State of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// There is more to do.
    Goes,
    /// The radio or the aggregator has to say something first.
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
struct Node {
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

/// Runs the node for as long as the machine does: others may need it on their way.
///
/// # Errors
/// Never: a gateway that cannot listen says so in its log.
pub fn run(args: &Run) -> Result<(), Errno> {
    let mut node = Node {
        run: *args,
        line: Line::open(),
        role: Role::None,
        random: Pcg32::new(Purpose::Radio, 0),
        step: None,
        said: Said::new(),
        has_told: false,
    };
    glue::radio_write(&[READY]);
    loop {
        match node.poll() {
            Work::Goes => {}
            Work::Done => node.answer(),
            Work::Waits => glue::radio_wait(match node.role {
                Role::Gateway(_) => LOOK_MS,
                Role::None | Role::Leaf(_) => -1,
            }),
        }
    }
}

impl Node {
    fn poll(&mut self) -> Work {
        self.line.receive();
        let news = match &mut self.role {
            Role::Gateway(gateway) => gateway.listen(),
            Role::None | Role::Leaf(_) => false,
        };
        if news && self.step.is_none() && !self.has_told {
            self.has_told = true;
            glue::radio_write(&[NEWS]);
        }
        if self.step.is_none() {
            self.begin();
        }
        let draw = &mut |below| self.random.below(below);
        match (&self.step, &mut self.role) {
            (None, _) => Work::Waits,
            (Some(_), Role::None) => Work::Done,
            (Some(step), Role::Leaf(leaf)) => leaf.work(step.now_us, &mut self.said, draw),
            (Some(step), Role::Gateway(gateway)) => gateway.work(step, &mut self.said, draw),
        }
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
            Err(error) => console::log(format_args!("cannot listen for leaves: {error}")),
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
        glue::radio_write(&head[..length]);
        self.said.iter().for_each(|frame| glue::radio_write(frame));
        self.said.clear();
    }
}
