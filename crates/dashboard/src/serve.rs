//! Serving the page: streams keep their places, all else has one for a request.

use axum::Router;
use axum::extract::Extension;
use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use zfl_http_server::{Limits, Pace, Place, open_files};

/// Pages that can watch at once.
pub const MAX_STREAMS: usize = 64;

/// Connections at once of requests that are soon answered.
const OTHERS: usize = 64;

/// Part of the files that may be open which the page may take.
const PART_OF_FILES: u64 = 4;

/// Pace of a page's connection: a page that takes less is gone, or loads everything anew when it is back.
const PACE: Pace = Pace {
    patience: Duration::from_secs(30),
    bytes_per_s: 1024,
};

/// All streams have the same owner, which has a place for each.
const STREAMS: u32 = 0;

/// Limits of the page's connections.
fn limits() -> Limits {
    let most = usize::try_from(open_files::limit() / PART_OF_FILES).unwrap_or(usize::MAX);
    Limits {
        pace: PACE,
        ..Limits::of(1, MAX_STREAMS, OTHERS, most)
    }
}

/// Connections to the page at once.
pub fn places() -> usize {
    limits().places
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, router: Router) {
    let connected = |stream: TcpStream, _: SocketAddr| (stream, |_: &mut _, _: &Place| {});
    zfl_http_server::serve(listener, router, limits(), pending(), connected).await;
}

/// Keeps the place of a stream for as long as it lasts.
pub fn keep(place: Option<Extension<Place>>) {
    if let Some(Extension(place)) = place {
        place.belongs_to(STREAMS);
    }
}
