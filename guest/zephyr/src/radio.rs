//! A node of a mesh on Zephyr: the UART of its radio, and a gateway's sockets.
//!
//! What `run` says of addresses is the gateway's; a leaf takes its client and its secret from it.

use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddrV4;

use fl_client::{Config, PortError, Usage};
use fl_exchange::{Net, NetError};
use fl_node::{Machine, MeshNode};
use fl_radio::line::Hello;
use fl_shell::command::Run;

use crate::instructions::Counter;
use crate::port::Stream;
use crate::tcp::{Errno, Socket};
use crate::{ISA, console, glue, heap, threads};

/// Interval at which a gateway looks at its sockets, since a thread that waits for its radio cannot wait for them as
/// well.
const LOOK_MS: i32 = 1;

/// Streams that may wait to be accepted for a leaf.
const BACKLOG: u8 = 2;

/// Runs the node for as long as the machine does: others may need it on their way.
///
/// # Errors
/// Never: a gateway that cannot listen says so in its log.
pub fn run(args: &Run) -> Result<(), Errno> {
    glue::radio_open();
    let mut node = MeshNode::new(Radio { run: *args });
    loop {
        if !node.poll() {
            glue::radio_wait(if node.net().is_some() { LOOK_MS } else { -1 });
        }
    }
}

/// The machine of the node.
struct Radio {
    run: Run,
}

/// Connections of the gateway: a socket that listens for each leaf, and those of the relays.
struct Ip {
    server: SocketAddrV4,
    listeners: Vec<Socket>,
}

/// Part of the leaf's port that is the machine's.
struct Own {
    counter: Counter,
}

impl Machine for Radio {
    type Net = Ip;
    type Own = Own;

    fn read(&mut self, octets: &mut [u8]) -> usize {
        glue::radio_read(octets)
    }

    fn write(&mut self, octets: &[u8]) {
        glue::radio_write(octets);
    }

    fn leaf(&mut self) -> (Config, Own) {
        let config = Config {
            client: self.run.client,
            secret: self.run.secret,
            isa: Some(ISA),
            ..Config::default()
        };
        let counter = Counter::new(self.run.icount);
        (config, Own { counter })
    }

    fn gateway(&mut self, hello: &Hello) -> Option<Ip> {
        let listen = |leaf| Socket::listen(hello.first_port.saturating_add(leaf), BACKLOG);
        let listeners = (0..hello.leaves.into()).map(listen).collect();
        match listeners {
            Ok(listeners) => Some(Ip {
                server: self.run.server,
                listeners,
            }),
            Err::<Vec<_>, Errno>(error) => {
                console::log(format_args!("cannot listen for leaves: {error}"));
                None
            }
        }
    }
}

impl fl_node::Own for Own {
    fn random(&mut self) -> [u8; 16] {
        glue::random()
    }

    fn log(&mut self, line: fmt::Arguments<'_>) {
        console::log(line);
    }

    fn free_bytes(&mut self) -> Option<u64> {
        u64::try_from(heap::free_bytes()).ok()
    }

    fn usage(&mut self) -> Usage {
        Usage {
            instructions: self.counter.instructions(),
            heap_peak_bytes: u32::try_from(heap::usage().peak_bytes).ok(),
            stack_peak_bytes: threads::stack_peak_bytes().and_then(|bytes| bytes.try_into().ok()),
            ..Usage::default()
        }
    }

    fn counted<R>(&mut self, step: impl FnOnce() -> R) -> R {
        self.counter.counted(step)
    }
}

impl Net for Ip {
    type Stream = Stream;

    fn accept(&mut self, leaf: usize) -> Option<Stream> {
        let (socket, _) = self.listeners.get(leaf)?.accept().ok()?;
        Some(Stream::of(socket))
    }

    fn connect(&mut self, _leaf: usize) -> Option<Stream> {
        Stream::open(self.server).ok()
    }

    fn read(&mut self, stream: &mut Stream, buffer: &mut [u8]) -> Result<usize, NetError> {
        stream.read(buffer).map_err(obstacle)
    }

    fn write(&mut self, stream: &mut Stream, bytes: &[u8]) -> Result<usize, NetError> {
        stream.write(bytes).map_err(obstacle)
    }

    fn is_gone(&mut self, stream: &mut Stream) -> bool {
        stream.is_gone()
    }

    fn close(&mut self, stream: Stream) {
        drop(stream);
    }
}

fn obstacle(error: PortError) -> NetError {
    match error {
        PortError::WouldBlock => NetError::WouldBlock,
        _ => NetError::Broken,
    }
}
