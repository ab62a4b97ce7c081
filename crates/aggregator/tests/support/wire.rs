//! A wire that counts: what goes through it, as neither end sees it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Bytes between one device and the server, over as many connections as they make.
#[derive(Clone, Debug, Default)]
pub struct Wire {
    up: Arc<AtomicU64>,
    down: Arc<AtomicU64>,
}

impl Wire {
    /// Bytes from and to the device so far.
    pub fn bytes(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::SeqCst);
        (read(&self.up), read(&self.down))
    }

    /// An address that leads to the server.
    pub async fn to_server(&self, server: SocketAddr) -> SocketAddr {
        forward(server, self.up.clone(), self.down.clone()).await
    }

    /// An address that leads to the device.
    pub async fn to_device(&self, device: SocketAddr) -> SocketAddr {
        forward(device, self.down.clone(), self.up.clone()).await
    }
}

/// Passes connections on, as long as the test runs; counts bytes to `target` and from it.
async fn forward(target: SocketAddr, to: Arc<AtomicU64>, from: Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            // Whoever dials a target that is gone sees its own connection end.
            let Ok(far) = TcpStream::connect(target).await else {
                continue;
            };
            let (near_in, near_out) = near.into_split();
            let (far_in, far_out) = far.into_split();
            tokio::spawn(pass(near_in, far_out, to.clone()));
            tokio::spawn(pass(far_in, near_out, from.clone()));
        }
    });
    address
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, count: Arc<AtomicU64>) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        count.fetch_add(n as u64, Ordering::SeqCst);
        if to.write_all(&buffer[..n]).await.is_err() {
            break;
        }
    }
}
