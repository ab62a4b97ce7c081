//! Serving the endpoints: each connection is counted, and has a place beside those of others.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::ConnectInfo;
use hyper::http::Extensions;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use zfl_http_server::{Limits, Place};

use crate::http::app;
use crate::shared::Shared;
use crate::traffic::{Counted, Tally};

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

/// Connection that a request came by.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    tally: Arc<Tally>,
    place: Place,
    /// True if it was made on this machine, to its loopback address.
    pub is_local: bool,
    /// True if it was made on this machine, to the address that it comes from.
    pub is_own_machine: bool,
}

impl Connection {
    /// Names the client that a request is of: bytes and place are its own from then on.
    pub fn belongs_to(&self, client: u32) {
        self.tally.belongs_to(client);
        self.place.belongs_to(client);
    }

    /// Marks the connection of an update: its round is not counted before this connection is over.
    pub fn answers(&self) {
        self.tally.answers();
    }
}

/// Serves until `over` is dropped, and then what is under way.
pub(crate) async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    limits: Limits,
    over: oneshot::Receiver<Infallible>,
) {
    let router = app(shared.clone());
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
                place: place.clone(),
                is_local,
                is_own_machine,
            });
        };
        (counted, dress)
    };
    let over = async { _ = over.await };
    zfl_http_server::serve(listener, router, limits, over, connected).await;
}
