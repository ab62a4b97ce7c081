//! Relay of one machine: a TCP/IP stack on its side, sockets of the host on the other.
//!
//! The stack listens at one port, for which the relay connects to the aggregator. What connects to the
//! relay's own port on the host is connected to the device's. Nothing else passes, in neither direction.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, Receiver, Sender, error::TryRecvError};
use tokio::task::JoinSet;

use super::frames::Frames;
use super::{DEVICE_PORT, GUEST, HOST, PREFIX};

/// The relay's hardware address.
const HARDWARE_ADDRESS: EthernetAddress = EthernetAddress([0x52, 0x54, 0x00, 0xff, 0xff, 0xff]);

/// Connections of one machine, those about to end included; more have to wait.
const MAX_CONNECTIONS: usize = 64;

/// Connections that can begin at the same time.
const BACKLOG: usize = 4;

/// Buffer of each direction of a connection, in the stack.
const BUFFER_BYTES: usize = 32 * 1024;

/// Pieces of up to [`BUFFER_BYTES`] under way between stack and host, in each direction.
const PIECES: usize = 2;

/// First port from which the relay connects; Linux, too, picks ports from there on.
const FIRST_PORT: u16 = 49_152;

/// Relay between one machine and the aggregator.
pub(super) struct Relay {
    frames: Frames,
    interface: Interface,
    sockets: SocketSet<'static>,
    /// Sockets at which the device can begin a connection.
    listening: Vec<SocketHandle>,
    connections: Vec<Connection>,
    /// Tasks of the host's sides; dropped, they end.
    tasks: JoinSet<()>,
    /// Tells that a host's side can go on.
    woken: Arc<Notify>,
    listener: TcpListener,
    source: Ipv4Addr,
    server: SocketAddrV4,
    next_port: u16,
}

/// A connection, from the stack's side.
struct Connection {
    socket: SocketHandle,
    /// `None` once the device has said all.
    to_host: Option<Sender<Vec<u8>>>,
    from_host: Receiver<Vec<u8>>,
    /// Piece that the stack has not taken whole.
    rest: Vec<u8>,
}

impl Relay {
    /// `source`: the address from which the aggregator is connected; `server`: where it listens.
    pub(super) fn new(
        mut frames: Frames,
        listener: TcpListener,
        source: Ipv4Addr,
        server: SocketAddrV4,
    ) -> Self {
        let config = Config::new(HardwareAddress::Ethernet(HARDWARE_ADDRESS));
        let mut interface = Interface::new(config, &mut frames, Instant::now());
        interface.update_ip_addrs(|addresses| {
            let own = IpCidr::new(IpAddress::Ipv4(HOST), PREFIX);
            addresses.push(own).expect("there is room for one");
        });
        Self {
            frames,
            interface,
            sockets: SocketSet::new(Vec::new()),
            listening: Vec::new(),
            connections: Vec::new(),
            tasks: JoinSet::new(),
            woken: Arc::default(),
            listener,
            source,
            server,
            next_port: FIRST_PORT,
        }
    }

    /// Relays until the machine is gone.
    pub(super) async fn run(mut self) {
        // Its end is what it waits for, and whoever watches the machine hears of it.
        while self.turn().await.is_ok() {}
    }

    async fn turn(&mut self) -> io::Result<()> {
        self.poll();
        self.admit();
        self.pass();
        self.poll();
        self.frames.flush()?;
        while self.tasks.try_join_next().is_some() {}
        let delay = self.interface.poll_delay(Instant::now(), &self.sockets);
        let timer = async {
            match delay {
                Some(delay) => zfl_clock::sleep(delay.into()).await,
                None => std::future::pending().await,
            }
        };
        let woken = Arc::clone(&self.woken);
        tokio::select! {
            turned = self.frames.turn() => turned?,
            accepted = self.listener.accept(), if self.connections.len() < MAX_CONNECTIONS => {
                match accepted {
                    Ok((stream, _)) => self.connect(stream),
                    // Descriptors have run out, and may come back.
                    Err(_) => zfl_clock::sleep(Duration::from_millis(10)).await,
                }
            }
            () = woken.notified() => {}
            () = timer => {}
        }
        Ok(())
    }

    fn poll(&mut self) {
        self.interface
            .poll(Instant::now(), &mut self.frames, &mut self.sockets);
    }

    /// Takes up the connections that the device has begun, and listens for more.
    fn admit(&mut self) {
        let (source, server) = (self.source, self.server);
        let listening = std::mem::take(&mut self.listening);
        for handle in listening {
            match self.sockets.get::<Socket<'_>>(handle).state() {
                State::Listen | State::SynReceived => self.listening.push(handle),
                State::Closed => drop(self.sockets.remove(handle)),
                _ => self.carry(handle, async move {
                    let socket = TcpSocket::new_v4()?;
                    socket.bind((source, 0).into())?;
                    socket.connect(server.into()).await
                }),
            }
        }
        while self.listening.len() < BACKLOG
            && self.listening.len() + self.connections.len() < MAX_CONNECTIONS
        {
            let mut socket = socket();
            let listens = socket.listen((IpAddress::Ipv4(HOST), server.port()));
            listens.expect("a new socket, and a port");
            self.listening.push(self.sockets.add(socket));
        }
    }

    /// Connects to the device for somebody on the host.
    fn connect(&mut self, stream: TcpStream) {
        let mut socket = socket();
        let local = (IpAddress::Ipv4(HOST), self.next_port);
        self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
        let device = (IpAddress::Ipv4(GUEST), DEVICE_PORT);
        let context = self.interface.context();
        socket
            .connect(context, device, local)
            .expect("a new socket, and whole addresses");
        let handle = self.sockets.add(socket);
        self.carry(handle, async { Ok(stream) });
    }

    /// Begins the host's side of a connection.
    fn carry(
        &mut self,
        socket: SocketHandle,
        stream: impl Future<Output = io::Result<TcpStream>> + Send + 'static,
    ) {
        let (to_host, from_stack) = mpsc::channel(PIECES);
        let (to_stack, from_host) = mpsc::channel(PIECES);
        let woken = Arc::clone(&self.woken);
        self.tasks.spawn(async move {
            if let Ok(stream) = stream.await {
                carry(stream, from_stack, to_stack, &woken).await;
            }
            woken.notify_one();
        });
        self.connections.push(Connection {
            socket,
            to_host: Some(to_host),
            from_host,
            rest: Vec::new(),
        });
    }

    /// Passes on what can be passed on, and forgets the connections that are over.
    fn pass(&mut self) {
        let sockets = &mut self.sockets;
        self.connections.retain_mut(|connection| {
            let socket = sockets.get_mut::<Socket<'_>>(connection.socket);
            connection.pass_to_host(socket);
            connection.pass_to_device(socket);
            if socket.state() == State::Closed {
                sockets.remove(connection.socket);
                return false;
            }
            true
        });
    }
}

impl Connection {
    fn pass_to_host(&mut self, socket: &mut Socket<'_>) {
        let Some(to_host) = &self.to_host else {
            return;
        };
        if to_host.is_closed() {
            // Nobody takes it any more.
            return socket.abort();
        }
        while socket.can_recv()
            && let Ok(permit) = to_host.try_reserve()
        {
            let piece = socket.recv(|bytes| (bytes.len(), bytes.to_vec()));
            permit.send(piece.unwrap_or_default());
        }
        let begins = matches!(socket.state(), State::SynSent | State::SynReceived);
        if !begins && !socket.may_recv() && !socket.can_recv() {
            self.to_host = None;
        }
    }

    fn pass_to_device(&mut self, socket: &mut Socket<'_>) {
        loop {
            if self.rest.is_empty() {
                match self.from_host.try_recv() {
                    Ok(piece) => self.rest = piece,
                    Err(TryRecvError::Disconnected) => return socket.close(),
                    Err(TryRecvError::Empty) => return,
                }
            }
            match socket.can_send().then(|| socket.send_slice(&self.rest)) {
                Some(Ok(count @ 1..)) => drop(self.rest.drain(..count)),
                _ => return,
            }
        }
    }
}

/// The host's side of a connection, until both have said all.
async fn carry(
    stream: TcpStream,
    mut from_stack: Receiver<Vec<u8>>,
    to_stack: Sender<Vec<u8>>,
    woken: &Notify,
) {
    // What is small is not held back, as the aggregator does it.
    let _ = stream.set_nodelay(true);
    let (mut reading, mut writing) = stream.into_split();
    let up = async {
        while let Some(piece) = from_stack.recv().await {
            if writing.write_all(&piece).await.is_err() {
                break;
            }
            woken.notify_one();
        }
        let _ = writing.shutdown().await;
        drop(from_stack);
        woken.notify_one();
    };
    let down = async {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = tokio::select! {
                read = reading.read(&mut buffer) => read.unwrap_or(0),
                () = to_stack.closed() => 0,
            };
            if count == 0 || to_stack.send(buffer[..count].to_vec()).await.is_err() {
                break;
            }
            woken.notify_one();
        }
        drop(to_stack);
        woken.notify_one();
    };
    tokio::join!(up, down);
}

fn socket() -> Socket<'static> {
    let buffer = || SocketBuffer::new(vec![0; BUFFER_BYTES]);
    let mut socket = Socket::new(buffer(), buffer());
    socket.set_nagle_enabled(false);
    socket
}
