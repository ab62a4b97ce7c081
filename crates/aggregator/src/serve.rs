//! Serving the endpoints: each connection is counted, and has a place beside those of others.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::http::Extensions;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use zfl_http_server::{Limits, Place};
use zfl_pipe::{Door, Stream};

use crate::http::app;
use crate::shared::Shared;
use crate::traffic::{Counted, Tally};
use crate::upstream;

/// Connections of one client at once: a device has one request at a time, and may have left others behind.
const EACH: usize = 4;

/// Connections at once of those that no client is known of.
const OTHERS: usize = 128;

/// Connections without which a fleet cannot do: one for each device, and a few to join by.
pub fn least_places(clients: u32) -> usize {
    clients as usize + 32
}

/// Limits of connections for a fleet, where there can be no more than `most`.
pub fn limits(clients: u32, most: usize) -> Limits {
    let most = most.max(least_places(clients));
    Limits::of(clients as usize, EACH, OTHERS, most)
}

/// Longest wait for exchanges in process that are under way when all is over.
const LAST_EXCHANGES: Duration = Duration::from_secs(1);

/// Way by which devices come in.
#[derive(Debug)]
pub enum Entrance {
    /// Sockets, of whoever finds the address.
    Tcp(TcpListener),
    /// Streams of devices of this process, and of nobody else.
    InProcess(Door),
}

impl From<TcpListener> for Entrance {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<Door> for Entrance {
    fn from(door: Door) -> Self {
        Self::InProcess(door)
    }
}

impl Entrance {
    /// Place at which devices find it, for people.
    ///
    /// # Errors
    /// If the system does not tell.
    pub(crate) fn address(&self) -> Result<String> {
        let Self::Tcp(listener) = self else {
            return Ok("in process".to_owned());
        };
        let address = listener
            .local_addr()
            .context("the listener has no address")?;
        Ok(address.to_string())
    }
}

/// Connection that a request came by.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    tally: Arc<Tally>,
    /// None in process: there nobody has to make room.
    place: Option<Place>,
    /// True if it was made on this machine, to its loopback address.
    pub is_local: bool,
    /// True if it was made on this machine, to the address that it comes from.
    pub is_own_machine: bool,
}

impl Connection {
    /// Names the client that a request is of: bytes and place are its own from then on.
    pub fn belongs_to(&self, client: u32) {
        self.tally.belongs_to(client);
        if let Some(place) = &self.place {
            place.belongs_to(client);
        }
    }

    /// Marks the connection of an update: its round is not counted before this connection is over.
    pub fn answers(&self) {
        self.tally.answers();
    }
}

/// Serves until `over` is dropped, and then what is under way.
pub(crate) async fn serve(
    entrance: Entrance,
    shared: Arc<Shared>,
    limits: Limits,
    over: oneshot::Receiver<Infallible>,
) {
    match entrance {
        Entrance::Tcp(listener) => {
            let router = app(shared.clone());
            serve_sockets(listener, router, shared, limits, over).await;
        }
        Entrance::InProcess(door) => serve_in_process(door, shared, over).await,
    }
}

async fn serve_in_process(
    mut door: Door,
    shared: Arc<Shared>,
    mut over: oneshot::Receiver<Infallible>,
) {
    let router = app(shared.clone());
    let mut exchanges = JoinSet::new();
    loop {
        let (stream, peer) = tokio::select! {
            _ = &mut over => break,
            Some(call) = door.accept() => call,
        };
        while exchanges.try_join_next().is_some() {}
        exchanges.spawn(exchange(stream, peer, router.clone(), shared.clone()));
    }
    drop(door);
    let rest = async { while exchanges.join_next().await.is_some() {} };
    let _ = zfl_clock::timeout(LAST_EXCHANGES, rest).await;
}

/// Answers one request of a device of this process.
async fn exchange(stream: Stream, peer: SocketAddr, router: Router, shared: Arc<Shared>) {
    let tally = Tally::of_nobody(shared);
    let endpoints = TowerToHyperService::new(router);
    let connection = Connection {
        tally: tally.clone(),
        place: None,
        is_local: true,
        is_own_machine: true,
    };
    let service = service_fn(|request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(connection.clone());
        endpoints.call(request)
    });
    // That it broke is the device's affair: it tries again.
    let _ = http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(Counted::new(stream, tally)), service)
        .await;
}

/// Serves the aggregator above an edge alone, until it is dropped.
pub(crate) async fn serve_above(listener: TcpListener, shared: Arc<Shared>) {
    let (_never, over) = oneshot::channel();
    let router = upstream::alone(shared.clone());
    serve_sockets(listener, router, shared, limits(0, OTHERS), over).await;
}

pub(crate) async fn serve_sockets(
    listener: TcpListener,
    router: Router,
    shared: Arc<Shared>,
    limits: Limits,
    over: oneshot::Receiver<Infallible>,
) {
    let connected = |stream: TcpStream, peer: SocketAddr| {
        let local = stream.local_addr().map(|address| address.ip()).ok();
        let is_local = local.is_some_and(|ip| ip.is_loopback());
        let is_own_machine = local == Some(peer.ip());
        let tally = Tally::of_nobody(shared.clone());
        let counted = Counted::new(stream, tally.clone());
        let dress = move |extensions: &mut Extensions, place: &Place| {
            extensions.insert(ConnectInfo(peer));
            extensions.insert(Connection {
                tally: tally.clone(),
                place: Some(place.clone()),
                is_local,
                is_own_machine,
            });
        };
        (counted, dress)
    };
    let over = async { _ = over.await };
    zfl_http_server::serve(listener, router, limits, over, connected).await;
}
