//! A guest's TCP/IP stack at a relay, and sockets of the host.

use std::net::SocketAddr;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

struct Guest {
    frames: Frames,
    interface: Interface,
    sockets: SocketSet<'static>,
}

impl Guest {
    /// A guest at a relay to `server`, and the address at which the host reaches it.
    async fn start(server: SocketAddr) -> (Self, SocketAddr) {
        let SocketAddr::V4(server) = server else {
            panic!("{server}");
        };
        let attachment = UserNet {
            own_loopback: false,
        }
        .plug(7, false, server)
        .await
        .unwrap();
        let socket = std::os::unix::net::UnixStream::from(attachment.card.inherited.unwrap());
        socket.set_nonblocking(true).unwrap();
        let mut frames = Frames::of(UnixStream::from_std(socket).unwrap());
        let address = EthernetAddress([0x52, 0x54, 0, 0, 0, 7]);
        let config = Config::new(HardwareAddress::Ethernet(address));
        let mut interface = Interface::new(config, &mut frames, Instant::now());
        interface.update_ip_addrs(|addresses| {
            let own = IpCidr::new(IpAddress::Ipv4(GUEST), PREFIX);
            addresses.push(own).unwrap();
        });
        interface.routes_mut().add_default_ipv4_route(HOST).unwrap();
        let guest = Self {
            frames,
            interface,
            sockets: SocketSet::new(Vec::new()),
        };
        (guest, attachment.guest.reached_at.into())
    }

    fn add(&mut self) -> SocketHandle {
        let buffer = || SocketBuffer::new(vec![0; 8192]);
        self.sockets.add(Socket::new(buffer(), buffer()))
    }

    fn connect(&mut self, ip: Ipv4Addr, port: u16) -> SocketHandle {
        let handle = self.add();
        let context = self.interface.context();
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        let local = 1000 + port % 1000;
        socket
            .connect(context, (IpAddress::Ipv4(ip), port), local)
            .unwrap();
        handle
    }

    /// Lets the stack work until `done` gives a value for this socket.
    async fn until<T>(
        &mut self,
        handle: SocketHandle,
        mut done: impl FnMut(&mut Socket<'_>) -> Option<T>,
    ) -> T {
        loop {
            self.interface
                .poll(Instant::now(), &mut self.frames, &mut self.sockets);
            if let Some(value) = done(self.sockets.get_mut(handle)) {
                self.interface
                    .poll(Instant::now(), &mut self.frames, &mut self.sockets);
                self.frames.flush().unwrap();
                return value;
            }
            self.frames.flush().unwrap();
            let tick = tokio::time::sleep(Duration::from_millis(5));
            tokio::select! {
                turned = self.frames.turn() => turned.unwrap(),
                () = tick => {}
            }
        }
    }
}

#[tokio::test]
async fn a_guest_reaches_the_aggregator_from_its_own_address() {
    let aggregator = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mut guest, _) = Guest::start(aggregator.local_addr().unwrap()).await;
    let handle = guest.connect(HOST, aggregator.local_addr().unwrap().port());
    let host = async {
        let (mut stream, from) = aggregator.accept().await.unwrap();
        assert_eq!(from.ip().to_string(), "127.1.0.7");
        let mut text = [0; 5];
        stream.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"hello");
        stream.write_all(&vec![7; 300_000]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"bye");
    };
    let device = async {
        let said = |socket: &mut Socket<'_>| socket.may_send().then(|| socket.send_slice(b"hello"));
        guest.until(handle, said).await.unwrap();
        let mut got = 0;
        let all = |socket: &mut Socket<'_>| {
            while socket.can_recv() {
                got += socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap();
            }
            (!socket.may_recv() && got > 0).then_some(())
        };
        guest.until(handle, all).await;
        assert_eq!(got, 300_000);
        let bye = |socket: &mut Socket<'_>| {
            socket.send_slice(b"bye").unwrap();
            socket.close();
            Some(())
        };
        guest.until(handle, bye).await;
        let closed = |socket: &mut Socket<'_>| (!socket.is_active()).then_some(());
        guest.until(handle, closed).await;
    };
    tokio::join!(host, device);
}

#[tokio::test]
async fn a_guest_reaches_nothing_else() {
    let aggregator = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let secret = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = secret.local_addr().unwrap().port();
    let (mut guest, _) = Guest::start(aggregator.local_addr().unwrap()).await;
    let other_port = guest.connect(HOST, port);
    let refused = |socket: &mut Socket<'_>| (socket.state() == State::Closed).then_some(());
    guest.until(other_port, refused).await;
    // Behind the relay there is no other address, not even the host's own.
    for ip in [
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::new(10, 0, 2, 3),
        Ipv4Addr::new(127, 1, 0, 8),
    ] {
        let handle = guest.add();
        let context = guest.interface.context();
        let socket = guest.sockets.get_mut::<Socket<'_>>(handle);
        let asked = socket.connect(context, (IpAddress::Ipv4(ip), port), 2000 + port % 1000);
        if asked.is_ok() {
            socket.set_timeout(Some(smoltcp::time::Duration::from_millis(300)));
            guest.until(handle, refused).await;
        }
    }
    let nobody = tokio::time::timeout(Duration::ZERO, secret.accept()).await;
    assert!(nobody.is_err(), "{nobody:?}");
}

#[tokio::test]
async fn the_host_reaches_a_guest_until_that_is_gone() {
    let server = SocketAddr::from(([127, 0, 0, 1], 9));
    let (mut guest, address) = Guest::start(server).await;
    let handle = guest.add();
    guest
        .sockets
        .get_mut::<Socket<'_>>(handle)
        .listen(DEVICE_PORT)
        .unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET").await.unwrap();
    let heard = |socket: &mut Socket<'_>| {
        socket.can_recv().then(|| {
            let text = socket.recv(|bytes| (bytes.len(), bytes.to_vec())).unwrap();
            socket.send_slice(b"here").unwrap();
            text
        })
    };
    assert_eq!(guest.until(handle, heard).await, b"GET");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"here");
    drop(guest);
    let ended = stream.read(&mut answer).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn each_device_has_an_address_and_a_relay_of_its_own() {
    let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8080);
    let attachment = UserNet {
        own_loopback: false,
    }
    .plug(3, false, server)
    .await
    .unwrap();
    let socket = attachment.card.inherited.unwrap();
    assert_eq!(
        attachment.card.netdev,
        format!("socket,id=n0,fd={}", socket.as_raw_fd())
    );
    assert_eq!(attachment.guest.server.to_string(), "10.0.2.2:8080");
    assert_eq!(attachment.guest.reached_at.ip().to_string(), "127.1.0.3");
    assert_eq!(source(65_535).unwrap().to_string(), "127.1.255.255");
    assert!(
        source(65_536)
            .unwrap_err()
            .to_string()
            .contains("65536 devices")
    );
}
