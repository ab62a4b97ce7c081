//! Taking connections: one exchange each, counted, and none that is held for ever.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::http::app;
use crate::shared::Shared;
use crate::traffic::{Counted, Tally};

/// Longest wait for exchanges under way when the run is over.
const LAST_EXCHANGES: Duration = Duration::from_secs(1);

/// Pause when no connection can be taken: there are too many open files, say.
const NO_CONNECTION: Duration = Duration::from_millis(200);

/// Limits of connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the connection to the end of the request's head.
    pub head: Duration,
    /// Without a byte of a body, either way. Longer than the minute after which a device itself gives up,
    /// so that it is the device that decides to try again.
    pub idle: Duration,
    /// Connections at once; those beyond wait in the system's queue.
    pub connections: usize,
}

impl Limits {
    /// Limits for a fleet: a device has one request at a time, and may have left others behind.
    pub fn of(clients: u32) -> Self {
        Self {
            head: Duration::from_secs(30),
            idle: Duration::from_secs(90),
            connections: 4 * clients as usize + 128,
        }
    }
}

/// Connection that a request came by.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub tally: Arc<Tally>,
    /// True if it was made on this machine, to its loopback address.
    pub is_local: bool,
    /// Longest wait for the next piece of the body.
    pub idle: Duration,
}

/// Serves until `over` is dropped, and then what is under way.
pub(crate) async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    limits: Limits,
    mut over: oneshot::Receiver<Infallible>,
) {
    let router = app(shared.clone());
    let free = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let permit = free.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            _ = &mut over => break,
            next = next => next,
        };
        while connections.try_join_next().is_some() {}
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(NO_CONNECTION).await;
            continue;
        };
        let tally = Tally::of_nobody(shared.clone());
        let exchange = exchange(stream, peer, router.clone(), tally, limits);
        connections.spawn(async move {
            let _permit = permit;
            exchange.await;
        });
    }
    drop(listener);
    let rest = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LAST_EXCHANGES, rest).await;
}

async fn exchange(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    tally: Arc<Tally>,
    limits: Limits,
) {
    let local = stream.local_addr();
    let io = Counted::new(stream, tally.clone()).with_patience(limits.idle);
    let endpoints = TowerToHyperService::new(router);
    let connection = Connection {
        tally,
        is_local: local.is_ok_and(|address| address.ip().is_loopback()),
        idle: limits.idle,
    };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(connection.clone());
        endpoints.call(request.map(Body::new))
    });
    // That it broke is the peer's affair: it tries again.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .keep_alive(false)
        .serve_connection(TokioIo::new(io), service)
        .await;
}
