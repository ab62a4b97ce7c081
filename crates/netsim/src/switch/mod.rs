//! Layer-2 switch with a link per device that loses, delays, paces and counts frames.
//!
//! Every emulated machine sends its Ethernet frames over a Unix datagram socket (QEMU's `-netdev
//! dgram,local.type=fd`) to one thread of this process, which loses, delays, paces and counts them
//! and hands them to the aggregator's side: a tap, or, where no tap is to be had, a datagram socket
//! or a function. No kernel module and no privilege is needed.
//!
//! A *client* has a *port* of the switch, behind a *link* that has two directions: the *uplink*
//! carries what the device sends, the *downlink* what it receives. A ping crosses both, so a delay
//! of 20 ms in both directions makes a round trip of 40 ms.
//!
//! The parts, from the inside: `fate` (repeatable chance), `lane` (one direction of a link),
//! `engine` (all of them and the table of addresses; a state machine without sockets or clock),
//! `pump` (the thread), and this file (the handle). Beside them stands `capture` (packets to a file).
//!
//! Invariants
//! - The n-th frame that is offered to a direction of a client's link has the same fate in every
//!   run with the same seed and link.
//! - No device can speak under another's address, and none can reach another.
//! - All memory that frames can take is bounded, and a guest that floods or freezes harms itself.
//! - When the handle is dropped, the thread has ended, and captures are complete.

mod capture;
mod engine;
mod fate;
mod frame;
mod lane;
mod pcapng;
mod pump;
mod stats;
mod sys;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{SockType, getsockopt, sockopt};

use self::capture::Capture;
use self::engine::{Engine, Port, SwitchPort};
use self::pump::{Command, End, Pump};
use crate::link::{Link, Rate};

pub use self::frame::Mac;
pub use self::pump::HostHook;
pub use self::stats::{ClientStats, LATE, LaneStats, PortStats, Punctuality, SwitchStats};

/// Refusal or failure of the switch.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// Two ports have the same client or address.
    #[error("client {client} has the client number or the address {mac} of another port")]
    Twice {
        /// The second of them.
        client: u32,
        /// Its address.
        mac: Mac,
    },
    /// An address that no device may have.
    #[error("client {client}: {mac} is a group's address; clear the lowest bit of its first byte")]
    GroupAddress {
        /// The client.
        client: u32,
        /// Its address.
        mac: Mac,
    },
    /// A link that cannot be.
    #[error("client {client}: {problem}")]
    Link {
        /// The client.
        client: u32,
        /// Advice: the change to make.
        problem: String,
    },
    /// A descriptor that the switch cannot use.
    #[error("{whose}: {problem}")]
    Descriptor {
        /// The host's or which client's.
        whose: String,
        /// Advice: the value to give instead.
        problem: String,
    },
    /// No port has this client.
    #[error("the switch has no port for client {0}")]
    UnknownClient(u32),
    /// A capture could not be made or written.
    #[error("capture of client {client}: {source}")]
    Capture {
        /// The client.
        client: u32,
        /// The system's error.
        source: io::Error,
    },
    /// The switch's thread has ended.
    #[error("the switch has stopped")]
    Stopped,
    /// The system refused something that every switch needs.
    #[error("the switch cannot run: {0}")]
    Io(#[from] io::Error),
}

/// A switch to be; see [`Switch::builder`].
#[derive(Debug)]
pub struct Switch;

impl Switch {
    /// Begins a switch. All chance in it comes from `seed`.
    pub fn builder(seed: u64) -> SwitchBuilder {
        SwitchBuilder {
            seed,
            host: End::Vacant,
            devices: Vec::new(),
            ends: Vec::new(),
        }
    }
}

/// Builder of a switch.
pub struct SwitchBuilder {
    seed: u64,
    host: End,
    devices: Vec<SwitchPort>,
    ends: Vec<Option<OwnedFd>>,
}

impl SwitchBuilder {
    /// The aggregator's side: a tap (`IFF_TAP | IFF_NO_PI`, without `IFF_VNET_HDR`), or a datagram
    /// socket that carries a frame in each datagram.
    pub fn host(mut self, fd: impl Into<OwnedFd>) -> Self {
        self.host = End::Fd(fd.into());
        self
    }

    /// The aggregator's side as a function, which is called on the switch's thread with every frame
    /// for the host and must be quick. The host sends by [`SwitchHandle::inject`].
    pub fn host_hook(mut self, hook: impl FnMut(&[u8]) + Send + 'static) -> Self {
        self.host = End::Hook(Box::new(hook));
        self
    }

    /// A device: its client, its address, and a datagram socket whose other end its machine has.
    pub fn port(mut self, client: u32, mac: Mac, fd: impl Into<OwnedFd>, link: Link) -> Self {
        self = self.vacant_port(client, mac, link);
        self.ends.pop();
        self.ends.push(Some(fd.into()));
        self
    }

    /// A device whose machine is not there yet: see [`SwitchHandle::plug`].
    pub fn vacant_port(mut self, client: u32, mac: Mac, link: Link) -> Self {
        self.devices.push(SwitchPort {
            client,
            mac,
            link,
            pace: None,
        });
        self.ends.push(None);
        self
    }

    /// Keeps frames to the device of the last port apart, whatever its link, for
    /// a network card that needs it; see [`Rate::pace`].
    pub fn pace(mut self, rate: Rate) -> Self {
        if let Some(device) = self.devices.last_mut() {
            device.pace = Some(rate);
        }
        self
    }

    /// Starts the switch's thread.
    ///
    /// # Errors
    /// If two ports clash, a link cannot be, or a descriptor is of the wrong kind.
    pub fn spawn(self) -> Result<SwitchHandle, SwitchError> {
        self.check()?;
        let engine = Engine::new(self.seed, &self.devices);
        let counters = Arc::clone(engine.counters());
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = EventFd::from_flags(flags).map_err(io::Error::from)?;
        let wake = Arc::new(wake);
        let (commands, received) = channel();
        let pump = Pump::new(engine, self.host, self.ends, Arc::clone(&wake), received)?;
        let thread = std::thread::Builder::new()
            .name("zfl-switch".into())
            .spawn(move || pump.run())?;
        let macs = self
            .devices
            .iter()
            .map(|device| (device.client, device.mac))
            .collect();
        Ok(SwitchHandle {
            commands,
            wake,
            counters,
            macs,
            thread: Some(thread),
        })
    }

    fn check(&self) -> Result<(), SwitchError> {
        if let End::Fd(fd) = &self.host {
            check_host(fd)?;
        }
        let (mut clients, mut macs) = (HashMap::new(), HashMap::new());
        for (device, end) in self.devices.iter().zip(&self.ends) {
            let SwitchPort {
                client,
                mac,
                link,
                pace,
            } = *device;
            if mac.is_group() {
                return Err(SwitchError::GroupAddress { client, mac });
            }
            if clients.insert(client, ()).is_some() || macs.insert(mac, ()).is_some() {
                return Err(SwitchError::Twice { client, mac });
            }
            check_link(client, &link)?;
            let pace = pace.map_or(Ok(()), |pace| pace.check());
            pace.map_err(|problem| SwitchError::Link { client, problem })?;
            if let Some(end) = end {
                check_device(client, end)?;
            }
        }
        Ok(())
    }
}

/// A switch that runs. It can be shared between threads; dropping it stops the switch.
pub struct SwitchHandle {
    commands: Sender<Command>,
    wake: Arc<EventFd>,
    counters: Arc<stats::Counters>,
    macs: HashMap<u32, Mac>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl SwitchHandle {
    /// Changes a client's link for the frames to come. In force when it returns.
    pub fn set_link(&self, client: u32, link: Link) -> Result<(), SwitchError> {
        check_link(client, &link)?;
        self.with_device(client, move |pump, device| {
            pump.engine().set_link(device, &link)
        })
    }

    /// Cuts a client's link: nothing passes, and frames under way are lost. In force when it
    /// returns.
    pub fn cut(&self, client: u32) -> Result<(), SwitchError> {
        self.with_device(client, |pump, device| pump.engine().cut(device))
    }

    /// Heals a link that was cut.
    pub fn heal(&self, client: u32) -> Result<(), SwitchError> {
        self.with_device(client, |pump, device| pump.engine().heal(device))
    }

    /// Makes a socket pair, gives one end to a client's port instead of what it has, and returns the
    /// other: for the client's next machine, as `-netdev dgram,id=n0,local.type=fd,local.str=N`.
    ///
    /// The descriptor closes on exec; the machine's process has to be told to keep it.
    pub fn plug(&self, client: u32) -> Result<OwnedFd, SwitchError> {
        let (ours, theirs) = UnixDatagram::pair()?;
        self.attach(client, ours)?;
        Ok(theirs.into())
    }

    /// Gives a client's port another socket instead of what it has.
    pub fn attach(&self, client: u32, fd: impl Into<OwnedFd>) -> Result<(), SwitchError> {
        let fd = fd.into();
        check_device(client, &fd)?;
        let attached = self.with_device(client, |pump, device| {
            pump.attach(Port::Device(device), End::Fd(fd))
        })?;
        attached.map_err(SwitchError::Io)
    }

    /// Sends a frame as the host, where the host is a function.
    pub fn inject(&self, frame: &[u8]) -> Result<(), SwitchError> {
        let frame = frame.to_vec();
        self.ask(move |pump| pump.inject(&frame))
    }

    /// Writes what a client sends and receives to a pcapng file, which tshark reads, up to 1 GiB. One
    /// that is there goes on. It ends a capture of this client that runs already.
    ///
    /// The frames are those that the device sees: one that its uplink loses is there, one that its
    /// downlink loses is not.
    pub fn capture(&self, client: u32, path: &Path) -> Result<(), SwitchError> {
        let mac = *self
            .macs
            .get(&client)
            .ok_or(SwitchError::UnknownClient(client))?;
        let failed = |source| SwitchError::Capture { client, source };
        let capture = Capture::start(path, client, mac).map_err(failed)?;
        self.change_capture(client, Some(capture))
    }

    /// Ends a client's capture; the file is complete when it returns.
    ///
    /// # Errors
    /// If the file could not be written to its end, for example because the disk is full.
    pub fn stop_capture(&self, client: u32) -> Result<(), SwitchError> {
        self.change_capture(client, None)
    }

    /// Counts of the switch so far. Reading them does not disturb the switch.
    pub fn stats(&self) -> SwitchStats {
        self.counters.snapshot()
    }

    /// Counts of one client so far; `None` if no port has it.
    pub fn client_stats(&self, client: u32) -> Option<ClientStats> {
        self.counters.client(client)
    }

    /// Stops the switch and waits until its thread has ended and every capture is complete.
    ///
    /// # Errors
    /// If the switch had stopped by itself before.
    pub fn stop(mut self) -> Result<(), SwitchError> {
        self.shut_down()
    }

    fn change_capture(&self, client: u32, capture: Option<Capture>) -> Result<(), SwitchError> {
        let before = self.with_device(client, |pump, device| pump.set_capture(device, capture))?;
        // The disk is waited for here and not on the switch's thread.
        let finished = before.map_or(Ok(()), Capture::finish);
        finished.map_err(|source| SwitchError::Capture { client, source })
    }

    fn with_device<R: Send + 'static>(
        &self,
        client: u32,
        f: impl FnOnce(&mut Pump, usize) -> R + Send + 'static,
    ) -> Result<R, SwitchError> {
        let result = self.ask(move |pump| {
            let device = pump.engine().place(client)?;
            Some(f(pump, device))
        })?;
        result.ok_or(SwitchError::UnknownClient(client))
    }

    /// Runs `f` on the switch's thread and waits for what it returns.
    fn ask<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Pump) -> R + Send + 'static,
    ) -> Result<R, SwitchError> {
        let (answer, answered) = channel();
        let command: Command = Box::new(move |pump| {
            // Whoever asked may be gone.
            let _ = answer.send(f(pump));
        });
        self.commands
            .send(command)
            .map_err(|_| SwitchError::Stopped)?;
        self.wake.write(1).map_err(io::Error::from)?;
        answered.recv().map_err(|_| SwitchError::Stopped)
    }

    fn shut_down(&mut self) -> Result<(), SwitchError> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        let asked = self.ask(Pump::stop);
        match thread.join() {
            Ok(ended) => ended.map_err(SwitchError::Io).and(asked),
            Err(_) => Err(SwitchError::Stopped),
        }
    }
}

impl std::fmt::Debug for SwitchHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SwitchHandle")
            .field("ports", &self.macs.len())
            .finish_non_exhaustive()
    }
}

impl Drop for SwitchHandle {
    fn drop(&mut self) {
        // Whoever wants to know calls `stop`.
        let _ = self.shut_down();
    }
}

fn check_link(client: u32, link: &Link) -> Result<(), SwitchError> {
    link.check()
        .map_err(|problem| SwitchError::Link { client, problem })
}

fn check_device(client: u32, fd: &OwnedFd) -> Result<(), SwitchError> {
    let wrong = |problem| SwitchError::Descriptor {
        whose: format!("client {client}"),
        problem,
    };
    match getsockopt(fd, sockopt::SockType) {
        Ok(SockType::Datagram) => set_nonblocking(fd).map_err(wrong),
        _ => Err(wrong("give one end of a Unix datagram socket pair".into())),
    }
}

fn check_host(fd: &OwnedFd) -> Result<(), SwitchError> {
    let wrong = |problem: &str| {
        Err(SwitchError::Descriptor {
            whose: "the host's port".into(),
            problem: problem.into(),
        })
    };
    match (
        getsockopt(fd, sockopt::SockType),
        sys::tap_has_vnet_header(fd),
    ) {
        (Ok(SockType::Datagram), _) | (Err(Errno::ENOTSOCK), Some(false)) => {}
        (_, Some(true)) => return wrong("the tap has IFF_VNET_HDR: open it without"),
        _ => return wrong("give a tap or a datagram socket"),
    }
    set_nonblocking(fd).or_else(|problem| wrong(&problem))
}

fn set_nonblocking(fd: &OwnedFd) -> Result<(), String> {
    let set = |fd| {
        let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
        fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))
    };
    set(fd.as_fd())
        .map(drop)
        .map_err(|error: Errno| error.to_string())
}

#[cfg(test)]
mod tests;
