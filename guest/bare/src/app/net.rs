//! TCP: smoltcp over the card, and a small pool of sockets.
//!
//! A few sockets always listen, so that as many connections can wait to be accepted. A closed
//! socket goes on in the background until the other side has closed too or [`LINGER_US`] is over.
//! Sockets keep their buffers and are used again, the one that was closed longest ago first, so the
//! pool takes the memory of the most that were ever needed at once.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use fl_shell::command::Run;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Cidr};

use crate::arch::interrupts::Sources;
use crate::arch::{Nic, TCP, clock, timestamp};
use crate::driver::card::{Card, QUEUE_FRAMES};
use crate::heap;

/// Connections that can wait to be accepted: a pool of few sockets has some left for what the device asks.
const BACKLOG: usize = if TCP.sockets < 6 { 1 } else { 3 };
/// The same of a gateway, on which a whole cluster may call at once, and its sockets in all: as many as
/// `fl_proto::cluster::GatewayMemory` counts.
#[cfg(feature = "gateway")]
const GATEWAY_BACKLOG: usize = 6;
#[cfg(feature = "gateway")]
const GATEWAY_SOCKETS: usize = 24;

/// Without an answer for so long, a connection is given up.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The other side has so long to close its half.
const LINGER_US: u64 = 10_000_000;
/// Ephemeral ports, as IANA has them.
const FIRST_EPHEMERAL_PORT: u16 = 49_152;

/// Use of a socket of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Free,
    Listening(u16),
    InUse,
    Lingering { until_us: u64 },
}

struct Slot {
    handle: SocketHandle,
    role: Role,
}

/// A place in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotIndex(usize);

/// The device's place in its network.
#[derive(Clone, Copy, Debug)]
pub struct Addressing {
    /// The device's own address.
    pub ip: Ipv4Addr,
    /// Length of the network's prefix, in bits.
    pub mask: u8,
    /// The way to other networks.
    pub gateway: Option<Ipv4Addr>,
}

impl From<&Run> for Addressing {
    fn from(run: &Run) -> Self {
        Self {
            ip: run.ip,
            mask: run.mask,
            gateway: run.gateway,
        }
    }
}

/// Ports at which a machine listens.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    first: u16,
    count: u16,
    /// Connections that can wait to be accepted, at each.
    backlog: usize,
    /// Sockets of the pool.
    sockets: usize,
}

impl Ports {
    /// The port of a device.
    #[cfg_attr(
        any(feature = "radio", feature = "gateway"),
        expect(dead_code, reason = "a gateway has many")
    )]
    pub fn one(port: u16) -> Self {
        Self {
            first: port,
            count: 1,
            backlog: BACKLOG,
            sockets: TCP.sockets,
        }
    }

    /// The port of a gateway, at which devices and the aggregator above call.
    #[cfg(feature = "gateway")]
    pub fn of_gateway(port: u16) -> Self {
        Self {
            first: port,
            count: 1,
            backlog: GATEWAY_BACKLOG,
            sockets: GATEWAY_SOCKETS,
        }
    }

    /// A port for each leaf of a gateway, from `first` on. The aggregator may call on all of them at once, more than
    /// once.
    #[cfg(feature = "radio")]
    pub fn of_leaves(first: u16, count: u16) -> Self {
        Self {
            first,
            count,
            backlog: BACKLOG,
            sockets: usize::from(count) * (BACKLOG + 2) + TCP.sockets,
        }
    }
}

/// The TCP/IP stack of the device.
pub struct Network {
    nic: Nic,
    interface: Interface,
    sockets: SocketSet<'static>,
    slots: Vec<Slot>,
    ports: Ports,
    next_port: u16,
}

impl Network {
    /// Takes the card, an address, and listens.
    pub fn new(mut nic: Nic, addressing: Addressing, listens: Ports) -> Self {
        let mac = HardwareAddress::Ethernet(EthernetAddress(nic.mac_address()));
        let mut config = Config::new(mac);
        // Where sequence numbers and ports start: different from boot to boot is enough.
        config.random_seed = timestamp();
        let mut interface = Interface::new(config, &mut nic, now());
        let own = IpCidr::Ipv4(Ipv4Cidr::new(addressing.ip, addressing.mask));
        interface.update_ip_addrs(|addresses| {
            addresses
                .push(own)
                .expect("smoltcp has room for an address");
        });
        if let Some(gateway) = addressing.gateway {
            let added = interface.routes_mut().add_default_ipv4_route(gateway);
            added.expect("smoltcp has room for a route");
        }
        let ports = u64::from(u16::MAX - FIRST_EPHEMERAL_PORT);
        let mut network = Self {
            nic,
            interface,
            // As large as they will be: they never ask for memory again.
            sockets: SocketSet::new(Vec::with_capacity(listens.sockets)),
            slots: Vec::with_capacity(listens.sockets),
            ports: listens,
            next_port: FIRST_EPHEMERAL_PORT + (timestamp() / 64 % ports) as u16,
        };
        network.listen();
        network
    }

    /// The card below.
    pub fn nic(&self) -> &Nic {
        &self.nic
    }

    /// Answers an interrupt of the card, if there is one, and [polls](Self::poll).
    pub fn take_in(&mut self, interrupts: Sources) {
        if interrupts.contains(self.nic.line()) {
            self.nic.acknowledge();
        }
        self.poll();
    }

    /// Sleep until there is something to do, here or for its user.
    #[cfg(not(feature = "radio"))]
    pub fn sleep(&mut self, user_wakes_at_us: Option<u64>) -> super::Next {
        let own = self.wake_at_us();
        super::Next::Sleep {
            wake_at_us: own.into_iter().chain(user_wakes_at_us).min(),
        }
    }

    /// Takes the frames that came, sends those that are due, and tidies up.
    pub fn poll(&mut self) {
        let Self {
            nic,
            interface,
            sockets,
            ..
        } = self;
        let now = now();
        interface.poll_maintenance(now);
        // Bounded, so that a flood of frames cannot keep the device from its work.
        for _ in 0..QUEUE_FRAMES {
            interface.poll_ingress_single(now, nic, sockets);
            if !nic.has_received() {
                break;
            }
        }
        for _ in 0..QUEUE_FRAMES {
            use smoltcp::iface::PollResult;
            if interface.poll_egress(now, nic, sockets) == PollResult::None {
                break;
            }
        }
        self.tidy();
        self.listen();
    }

    /// Takes the memory of every socket and frame now, as far as there is some.
    pub fn reserve(&mut self) {
        while self.slots.len() < self.ports.sockets && self.add_socket().is_some() {}
        self.nic.reserve();
    }

    /// Time of the next call of [`Network::poll`], unless the card interrupts before.
    pub fn wake_at_us(&mut self) -> Option<u64> {
        if self.nic.has_received() {
            return Some(0);
        }
        let poll_at = self.interface.poll_at(now(), &self.sockets);
        let poll_at_us = poll_at.map(|at| u64::try_from(at.total_micros()).unwrap_or(0));
        let lingering = self.slots.iter().filter_map(|slot| match slot.role {
            Role::Lingering { until_us } => Some(until_us),
            _ => None,
        });
        lingering.chain(poll_at_us).min()
    }

    /// The next connection that somebody opened to the device.
    #[cfg_attr(
        feature = "radio",
        expect(dead_code, reason = "a gateway asks by port")
    )]
    pub fn accept_any(&mut self) -> Option<SlotIndex> {
        self.accept(self.ports.first)
    }

    /// The next connection that somebody opened at this port.
    pub fn accept(&mut self, port: u16) -> Option<SlotIndex> {
        let index = (0..self.slots.len()).find(|&index| {
            self.slots[index].role == Role::Listening(port)
                && matches!(
                    self.socket(index).state(),
                    State::Established | State::CloseWait
                )
        })?;
        self.slots[index].role = Role::InUse;
        self.listen();
        Some(SlotIndex(index))
    }

    /// Starts to open a connection. `None` if every socket is in use.
    pub fn connect(&mut self, remote: SocketAddrV4) -> Option<SlotIndex> {
        let port = self.next_port;
        self.next_port = port.checked_add(1).unwrap_or(FIRST_EPHEMERAL_PORT);
        let index = self.take_socket()?;
        let socket = self.sockets.get_mut::<Socket<'_>>(self.slots[index].handle);
        let remote = (*remote.ip(), remote.port());
        socket
            .connect(self.interface.context(), remote, port)
            .ok()?;
        self.slots[index].role = Role::InUse;
        Some(SlotIndex(index))
    }

    /// The socket in a place.
    pub fn socket_mut(&mut self, SlotIndex(index): SlotIndex) -> &mut Socket<'static> {
        self.sockets.get_mut(self.slots[index].handle)
    }

    /// Closes a connection; what was written still goes out.
    pub fn close(&mut self, index: SlotIndex) {
        self.socket_mut(index).close();
        self.slots[index.0].role = Role::Lingering {
            until_us: clock::now_us() + LINGER_US,
        };
    }

    fn socket(&self, index: usize) -> &Socket<'static> {
        self.sockets.get(self.slots[index].handle)
    }

    /// Frees sockets that are done, and those whose other side takes too long.
    fn tidy(&mut self) {
        let now_us = clock::now_us();
        for slot in &mut self.slots {
            let socket = self.sockets.get_mut::<Socket<'_>>(slot.handle);
            match slot.role {
                Role::Lingering { .. } | Role::Listening(_) if socket.state() == State::Closed => {
                    slot.role = Role::Free;
                }
                Role::Lingering { until_us } if until_us <= now_us => {
                    socket.abort();
                    slot.role = Role::Free;
                }
                _ => {}
            }
        }
    }

    /// Sees to it that enough sockets listen.
    fn listen(&mut self) {
        let Ports { first, count, .. } = self.ports;
        (first..first + count).for_each(|port| self.listen_at(port));
    }

    fn listen_at(&mut self, port: u16) {
        let is_listening = |slot: &&Slot| slot.role == Role::Listening(port);
        for _ in self.slots.iter().filter(is_listening).count()..self.ports.backlog {
            let Some(index) = self.take_socket() else {
                return;
            };
            let socket = self.sockets.get_mut::<Socket<'_>>(self.slots[index].handle);
            if socket.listen(port).is_ok() {
                self.slots[index].role = Role::Listening(port);
            }
        }
    }

    /// A socket for a new use: a free one, a new one, or the one closed longest ago of those that wait for
    /// the other side alone: all that was written has arrived there.
    fn take_socket(&mut self) -> Option<usize> {
        if let Some(index) = self.slots.iter().position(|slot| slot.role == Role::Free) {
            return Some(index);
        }
        if self.slots.len() < self.ports.sockets
            && let Some(index) = self.add_socket()
        {
            return Some(index);
        }
        let index = (0..self.slots.len())
            .filter(|&index| {
                let state = self.socket(index).state();
                matches!(state, State::TimeWait | State::FinWait2)
            })
            .min_by_key(|&index| match self.slots[index].role {
                Role::Lingering { until_us } => until_us,
                _ => u64::MAX,
            })?;
        self.socket_mut(SlotIndex(index)).abort();
        Some(index)
    }

    /// Adds a socket to the pool; `None` if there is no memory for one.
    fn add_socket(&mut self) -> Option<usize> {
        let handle = self.sockets.add(new_socket()?);
        self.slots.push(Slot {
            handle,
            role: Role::Free,
        });
        Some(self.slots.len() - 1)
    }
}

/// `None` if there is no memory for its buffers.
fn new_socket() -> Option<Socket<'static>> {
    let buffer = |bytes| heap::zeros(bytes).map(SocketBuffer::new);
    let mut socket = Socket::new(buffer(TCP.receive_bytes)?, buffer(TCP.send_bytes)?);
    socket.set_timeout(Some(TIMEOUT));
    // What waits for a leaf may wait for minutes, and a connection without packets runs into the timeout.
    if cfg!(feature = "radio") {
        socket.set_keep_alive(Some(TIMEOUT / 4));
    }
    // Requests and answers are written as a whole: waiting for more only adds delay.
    socket.set_nagle_enabled(false);
    Some(socket)
}

fn now() -> Instant {
    Instant::from_micros(i64::try_from(clock::now_us()).unwrap_or(i64::MAX))
}
